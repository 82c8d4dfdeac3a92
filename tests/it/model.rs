//! The broker against a model of its promises: random sequences of what people, callers, providers, clocks and dying processes
//! do, on several tenants, with real stores on one file and real requests to the embedded authorization server.
//!
//! # How it works
//!
//! A sequence of [`steps::Step`] is drawn, taken ([`run`]) and, when it fails, made shorter. Three brokers with a
//! [`FileStore`](threadkey::store::FileStore) each stand for processes: flock on separate descriptors excludes between them, and each
//! runs on threads of its own, which end in the middle of what they do when the process "dies". Calls overlap because providers
//! are told to hold their answers, or their work, and later to let go: nothing sleeps. The time is set.
//!
//! The [`reference`] is told of each request by the provider, in the moment it comes in; it reads the file as any other program
//! would, before and after each call and each step; and it never asks the code under test what is right. So it knows each refresh
//! token's life: issued to whom, sent when, answered how, seen on the disk.
//!
//! # What is checked, by the number of the promise
//!
//! 1. *One request for one expiry.* At each request: no spent token is sent again ([`requests`], `check_never_spent`), there is a
//!    reason for it (`check_due`), no other one is under way, and what went wrong before is waited out (`check_patience`): Retry-After,
//!    the shortest pause, doubt for as long as the access token works, the one repetition within a provider's grace.
//! 2. *Read in the lock.* At each request the token is the one in the file; no caller gets an older one than the file held.
//! 3. *Durable first.* When a caller has a token, the file has it, or had it before (`check_lease`). That the answer is durable before
//!    it is parsed cannot be seen here: `crash_matrix` and `crash` hold it.
//! 4. *Journal first.* At each request the journal names what is being spent. The reserved space: `faulty_disk`.
//! 5. *Late results.* A lineage that was seen and is gone never comes back, its tokens are of one sign-in and one answer, generations
//!    fit them ([`reference`], `compare`); a logout that said so is one, whatever is under way.
//! 6. *Only a verdict ends.* `ended` names a token that got a verdict, `retry` follows trouble, a session goes only by a sign-in or a
//!    logout; a token that works is served whatever the provider does (`check_refusal`), and each refusal has its reason.
//! 7. *Unreadable is not empty.* Not here: `damage` and `bad_input`.
//! 8. *Unknown fields.* Another program plants them at each level; they stay, within the lineage.
//! 9. *Nobody waits for others.* Callers of providers that are not held are done at each step, and so is what needs no
//!    provider: sign-in, logout, cancel, status.
//! 10. *Death.* A process that dies leaves nothing stuck: whoever comes next goes on. Only at those points at which its
//!     threads let go; every instant is the subject of `crash_matrix`, `processes` and `storm`.
//! 11. *Who gives up cancels nothing.* What came back whole to a process that lived is in the file when all stands still.
//! 12. *Entitlement.* Each token served, stored or sent belongs to a sign-in for that very tenant, finished by who started it.
//! 13. *No secrets.* Errors, events, leases and states, as text, are searched for every token, code, state and verifier. Logs and
//!     arguments: `canary`.
//! 14. *Workers.* Not here: `workers`.
//!
//! Of adr/0016, a sign-in as another account that waits for a choice: the session goes on beside it, as above; a candidate comes only by a
//! sign-in beside a session of another account that goes on, and stays as it came ([`choice`], `compare_candidate`); nothing of it is
//! served (`check_lease`) or spent (`refresh`); it is the session only if it was chosen in its time (`check_switched`), and an account is replaced
//! in no other way (`check_replacement`); it is gone only by a choice, a sign-in, a logout, or its time (`left`). What is revoked is out of
//! the store by then, was not chosen or is logged out, and is of no account that is in use elsewhere ([`ends`], `was_revoked`); the rest is
//! revoked, and each time somebody is told, truly (`told_end`).
//!
//! At the end the providers work, every process is a new one, and each login that lives at its provider gets a token, unaided.
//!
//! # Longer, and again
//!
//! `THREADKEY_MODEL_CASES` is the number of sequences; the seed is printed, and `THREADKEY_MODEL_SEED` takes one. With a seed the
//! sequences are the same ones; how the threads of a process interleave within a step is the machine's. proptest's state machine is
//! not used: what may come next does not depend on the model's state, and what a step did is known only when others let it go.

mod asked;
mod choice;
mod disk;
mod ends;
mod look;
mod persons;
mod reference;
mod requests;
mod run;
mod scenes;
mod steps;
mod told;
mod world;

use std::cell::Cell;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::support::random::Random;
use steps::PROVIDERS;

const CASES: u32 = 64;

/// For making a failure shorter, in milliseconds.
const SHRINKING: u32 = 120_000;

#[test]
fn the_promises_hold_whatever_users_callers_providers_and_clocks_do() {
    let mut random = Random::from_variable("THREADKEY_MODEL_SEED");
    let seed: Vec<u8> = (0..4).flat_map(|_| random.next().to_le_bytes()).collect();
    let given = std::env::var("THREADKEY_MODEL_CASES").ok();
    let cases = given.map_or(CASES, |cases| cases.parse().expect("a number of cases"));
    let config = Config { cases, failure_persistence: None, max_shrink_time: SHRINKING, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (taken, failed) = (Cell::new(0), Cell::new(false));
    let outcome = TestRunner::new_with_rng(config, rng).run(&scenes::steps(), |steps| {
        // Those after a failure only make it shorter.
        taken.set(taken.get() + u32::from(!failed.get()));
        let kept = runtime.block_on(run::run(&steps));
        failed.set(failed.get() || kept.is_err());
        kept.map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => {
            panic!(
                "sequence {} of {cases}: {reason}
by {steps:#?}",
                taken.get()
            )
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

/// As the store writes it.
fn tenant_name(provider: usize, principal: &str) -> String {
    format!("{}/{principal}", PROVIDERS[provider].name)
}
