//! The broker against a model of its promises: random sequences of actions of users, callers,
//! providers, clocks and dying processes. There are several tenants, with real stores on one file
//! and real requests to the embedded authorization server.
//!
//! # How it works
//!
//! A sequence of [`steps::Step`] is drawn, executed ([`run`]) and, when it fails, made shorter.
//! Three brokers with a [`FileStore`](threadkey::store::FileStore) each stand for processes: flock
//! on separate descriptors excludes between them. Each broker runs on its own threads, which end in
//! the middle of their work when the process "dies". Calls overlap because the test makes providers
//! hold their answers, or their work, and later release them; nothing sleeps. The test sets the
//! time.
//!
//! The providers report each request to the [`reference`] at the moment of its arrival. The
//! reference reads the file as any other program would, before and after each call and each step.
//! It never asks the code under test for the right result. So it knows each refresh token's life:
//! its owner, its requests, their answers, and its presence on the disk.
//!
//! # The checks, by the number of the promise
//!
//! 1. *One request for one expiry.* At each request: no spent token is sent again ([`requests`],
//!    `check_never_spent`); there is a reason for the request (`check_due`); and no other one is in
//!    progress. Earlier failures are waited out (`check_patience`): Retry-After, the shortest
//!    pause, doubt for as long as the access token works, the one repetition within a provider's
//!    grace.
//! 2. *Read in the lock.* At each request the token is the one in the file; no caller gets an older
//!    one than the file held.
//! 3. *Durable first.* When a caller has a token, the file has it, or had it before
//!    (`check_lease`). This level cannot see that the answer is durable before it is parsed;
//!    `crash_matrix` and `crash` check it.
//! 4. *Journal first.* At each request the journal names the token that is being spent.
//!    `faulty_disk` checks the reserved space.
//! 5. *Late results.* A lineage that was seen and is gone never comes back. Its tokens come from
//!    one sign-in and one answer, and generations fit them ([`reference`], `compare`). A logout
//!    that reported success is one, whatever is in progress.
//! 6. *Only a verdict ends.* `ended` names a token that got a verdict, and `retry` follows a
//!    failure. A session goes only by a sign-in or a logout. A token that works is served whatever
//!    the provider does (`check_refusal`), and each refusal has its reason.
//! 7. *Unreadable is not empty.* `damage` and `bad_input` check it, not this test.
//! 8. *Unknown fields.* Another program plants them at each level; they stay, within the lineage.
//! 9. *No caller waits for another tenant.* Callers of providers that are not held are done at each
//!    step. So is every call that needs no provider: sign-in, logout, cancel, status.
//! 10. *Death.* A process that dies leaves nothing stuck: the next caller continues. Here a process
//!     dies only where its threads yield; `crash_matrix`, `processes` and `storm` check every
//!     instant.
//! 11. *A caller that gives up cancels nothing.* When the system is idle, the file holds every
//!     answer that came back whole to a living process.
//! 12. *Entitlement.* Each token served, stored or sent belongs to a sign-in for that very tenant,
//!     finished by the user who started it.
//! 13. *No secrets.* Errors, events, leases and states, as text, are searched for every token,
//!     code, state and verifier. `canary` searches logs and arguments.
//! 14. *Workers.* `workers` checks them, not this test.
//!
//! Of adr/0016, a sign-in as another account that waits for a choice: the session goes on beside
//! it, as above. A candidate comes only by a sign-in beside a live session of another account, and
//! stays as it came ([`choice`], `compare_candidate`). Nothing of it is served (`check_lease`) or
//! spent (`refresh`). It is the session only if it was chosen in its time (`check_switched`), and
//! an account is replaced in no other way (`check_replacement`). It is gone only by a choice, a
//! sign-in, a logout, or its expiry (`check_candidate_gone`). A revoked grant is out of the store
//! by then, and was not chosen or is logged out. Its account is in use in no other session
//! ([`revocations`], `check_revocation`). Every other dropped grant is revoked, and each end is
//! reported once and truly (`check_reported_end`).
//!
//! At the end the providers work and every process is a new one; each session that lives at its
//! provider gets a token, unaided.
//!
//! # Longer runs and repeated runs
//!
//! `THREADKEY_MODEL_CASES` is the number of sequences; the seed is printed, and
//! `THREADKEY_MODEL_SEED` takes one. With a seed the sequences are the same; the machine decides
//! how the threads of a process interleave within a step. proptest's state machine is not used: the
//! possible next steps do not depend on the model's state. Also, the effect of a step is known only
//! after the held providers release it.

mod choice;
mod disk;
mod reference;
mod requests;
mod revocations;
mod run;
mod snapshots;
mod steps;
mod strategies;
mod token_results;
mod user_actions;
mod user_results;
mod world;

use std::cell::Cell;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::support::random::Random;
use steps::PROVIDERS;

const CASES: u32 = 64;

/// The time for making a failure shorter, in milliseconds.
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
    let outcome = TestRunner::new_with_rng(config, rng).run(&strategies::steps(), |steps| {
        // The sequences after a failure only make it shorter.
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

/// The tenant's name as the store writes it.
fn tenant_name(provider: usize, principal: &str) -> String {
    format!("{}/{principal}", PROVIDERS[provider].name)
}
