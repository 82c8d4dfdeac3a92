//! The store on a machine whose programs end at any system call, and whose disk forgets unsynced
//! data.
//!
//! # Fault model
//!
//! * A program ends at any call, before or after its effect. Either kill -9 ends it, which frees
//!   its locks and leaves its writes to the other programs; or a power cut ends all programs at
//!   once.
//! * A power cut undoes everything that no fsync covered. Of each write any pieces may have reached
//!   the disk, in any combination with any other write, whatever their order; a lengthened file may
//!   hold zeros there. Names are separate from contents: a file, a rename or a removal may or may
//!   not be there after a power cut, until its *folder* was synced.
//! * A rename is there or not: never both names, never neither.
//! * Data that an fsync covered stays. A disk that lies about that is beyond repair.
//! * Changes of one program that wait for the global lock together share a write. They also share
//!   its fate in a power cut or kill -9.
//! * Two programs run at once: the second one starts at any call of the first, and continues until
//!   it is done or meets a lock.
//! * The provider may be unreachable, answer 503, refuse a code, or do its work and lose the
//!   answer. Some providers treat a second use of a refresh token as theft, and end its grant.
//!
//! The programs are the real broker on the real store. A user starts a sign-in, pastes its code,
//! pastes it again, pastes another one, cancels, and logs out; an agent requests a token.
//!
//! # Invariants
//!
//! 1. The store always parses.
//! 2. Every acknowledged result is there: each tenant's newest session, sign-in or logout that was
//!    reported to a caller. If a program ended in the middle of a change, the store holds the state
//!    before it or the one after it.
//! 3. A served token was in a journal first. No refresh token is sent whose successor was
//!    acknowledged, by the journal or by the store; so a recorded answer is recovered. A token that
//!    may have been spent is sent again only by a program that knows of the doubt.
//! 4. The next caller continues unaided, and nothing but its own end makes a call fail.
//! 5. A code is not sent again unless it is known to be unspent; the journal knows the code that
//!    was sent last. The grant of an answered exchange goes to the next caller, or to the user who
//!    pastes the code again. Nothing is sent for it.
//! 6. A recovered sign-in replaces no newer one, and revives nothing that was cancelled or logged
//!    out. A late refresh does not either.
//! 7. At the end a new sign-in works at the first try.
//!
//! The walk draws its histories from a seed, which it prints. By default the histories are always
//! the same, so that an unrelated change meets no new one. `THREADKEY_TEST_HISTORIES` sets their
//! number, and then each run draws others; `THREADKEY_TEST_SEED` sets the seed, and the seed of one
//! history repeats that history.

mod content;
mod faults;
mod machine;
mod program;
mod walk;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use self::{
    faults::Sabotage,
    walk::{Violation, history},
};

const NOW: i64 = 1_795_358_672;

const PATH: &str = "/data/threadkey/auth.json";

/// The lifetime of an access token, in seconds. It is short, so that no history lasts as long as a
/// sign-in may take.
const LIFETIME: u64 = 10;

const HISTORIES: u64 = 3_000;

/// The first seed of the default histories.
const SEED: u64 = 1_795_358_672;

/// The number of histories within which sabotage must show.
const SHORT: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Walks `count` histories on all processors. Returns the first one that broke an invariant, with
/// its seed.
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
