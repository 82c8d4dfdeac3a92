//! The store on a machine whose programs end at any system call, and whose disk forgets.
//!
//! # Fault model
//!
//! * A program ends at any call, before or after its effect: by kill -9, which frees its locks and leaves what it wrote to
//!   the others; or by a power cut, which ends all of them at once.
//! * A power cut undoes what no fsync covered. Of each write any pieces may have reached the disk, in any combination with any
//!   other write, whichever was made first; a file that was made longer may hold zeros there. Names are apart from contents:
//!   a file, a rename, a removal is there after a power cut, or it is not, until its *folder* was synced.
//! * A rename is there or not: never both names, never neither.
//! * What an fsync covered stays. A disk that lies about that is beyond anybody's help.
//! * Changes of one program that wait for the global lock together share a write, and a power cut or kill -9 its fate.
//! * Two programs at once: the second one begins at any call of the first, and goes on until it is done or meets a lock.
//! * The provider may be out of reach, answer 503, refuse a code, or do its work and not be heard. To some a refresh token that
//!   comes twice is theft, and ends its grant.
//!
//! The programs are the real broker on the real store. A person starts a sign-in, pastes its code, pastes it again, pastes
//! another one, cancels, logs out; somebody asks for a token.
//!
//! # Invariants
//!
//! 1. The store parses, always.
//! 2. What was acknowledged is there: each tenant's newest session, sign-in or logout that somebody was told of. If
//!    somebody ended in the middle of a change: the state before it or the one after it.
//! 3. What is served was in a journal first. No refresh token is sent whose successor was acknowledged, by the journal or by the store; so an answer that was recorded
//!    is recovered. A token that may have been spent is sent again only by those who know that.
//! 4. The next caller goes on unaided, and nothing but its own end makes a call fail.
//! 5. A code is not sent again unless it is known not to be spent; the journal knows the code that was sent last. The grant that
//!    an answered exchange brought is had by whoever asks next, or pastes the code again, and nothing is sent for it.
//! 6. A sign-in that is recovered replaces no newer one, and revives nothing that was cancelled or logged out; and a refresh
//!    that comes late does not either.
//! 7. In the end a new sign-in works at the first try.
//!
//! The walk draws its histories from a seed, which it prints: always the same ones, so that who changes something else does not
//! meet a new one. `THREADKEY_TEST_HISTORIES` says how many there are, and with it each run draws others; `THREADKEY_TEST_SEED` sets the
//! seed, to the number of one history to repeat that one.

mod content;
mod ends;
mod machine;
mod program;
mod walk;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use self::{
    ends::Sabotage,
    walk::{Violation, history},
};

const NOW: i64 = 1_795_358_672;

const PATH: &str = "/data/threadkey/auth.json";

/// How long an access token lives, in seconds: so short that no history is as long as a sign-in may take.
const LIFETIME: u64 = 10;

const HISTORIES: u64 = 10_000;

/// Where the histories begin that everybody walks.
const SEED: u64 = 1_795_358_672;

/// How many histories may pass before sabotage shows.
const SHORT: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Walks `count` histories on all processors and returns the first that went wrong, with its seed.
fn walk(first: u64, count: u64, sabotage: Sabotage) -> Result<(), (u64, Violation)> {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let seed = first.wrapping_add(number);
            history(seed, sabotage).map_err(|violation| {
                next.store(count, Ordering::Relaxed);
                (seed, violation)
            })?;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let walkers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        walkers.into_iter().try_for_each(|walker| walker.join().expect("a walk does not panic"))
    })
}

#[test]
fn a_crash_at_any_call_loses_nothing_acknowledged_and_spends_nothing_twice() {
    let count = number("THREADKEY_TEST_HISTORIES");
    let any = || u64::from_le_bytes(threadkey::sys::random::bytes());
    let first = number("THREADKEY_TEST_SEED").unwrap_or_else(|| count.map_or(SEED, |_| any()));
    let count = count.unwrap_or(HISTORIES);
    eprintln!("{count} histories from THREADKEY_TEST_SEED={first}");
    if let Err((seed, violation)) = walk(first, count, Sabotage::Nothing) {
        panic!("THREADKEY_TEST_SEED={seed} THREADKEY_TEST_HISTORIES=1: {violation}");
    }
}

#[test]
fn the_crash_walk_catches_a_store_that_leaves_out_a_step() {
    for sabotage in [
        Sabotage::FolderSync,
        Sabotage::JournalSync,
        Sabotage::SignInJournalSync,
        Sabotage::SignInJournalKept,
        Sabotage::StoreSync,
        Sabotage::GlobalLock,
        Sabotage::TenantLock,
        Sabotage::SignInLock,
    ] {
        let caught = walk(1, SHORT, sabotage);
        assert!(caught.is_err(), "{sabotage:?} went unnoticed in {SHORT} histories");
        eprintln!("{sabotage:?}: {caught:?}");
    }
}
