//! The descendants of ended workers: processes that left their worker's process group with `setsid`.
//!
//! [`adopt`] makes this process the reaper of its orphaned descendants (`PR_SET_CHILD_SUBREAPER`), and
//! each worker the reaper of its own. So while a worker lives, its descendants stay below it, even
//! after a double fork. When it has died they become children of this process. [`end_all`] kills
//! every child that is not a live worker, until there is none: the children of a killed orphan are
//! the next ones.
//!
//! A hostile worker can stop being the reaper of its descendants. They are then children of this
//! process at once, and die at the end of any worker.
//!
//! Invariants: a child is known before any [`end_all`] can see it, because the lock is held from
//! before the fork. Children from before [`adopt`] are known too. A process that starts children
//! without [`spawning`] must not call [`adopt`].

#![expect(unsafe_code, reason = "a reaper is made, and processes are killed and reaped, by system calls")]

use std::{
    collections::HashSet,
    fs, io,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

/// The pause between two rounds of killing, and their number.
const PAUSE: Duration = Duration::from_millis(5);
const ROUNDS: u32 = 200;

/// The children that are no orphans, once [`adopt`] was called.
static KNOWN: Mutex<Option<HashSet<libc::pid_t>>> = Mutex::new(None);
/// The children from before [`adopt`].
static ELDER: OnceLock<HashSet<libc::pid_t>> = OnceLock::new();

/// Makes this process the reaper of its orphaned descendants.
///
/// # Errors
/// The system's.
pub(super) fn adopt() -> io::Result<()> {
    let mut known = lock();
    // SAFETY: plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    *known = Some(ELDER.get_or_init(children).clone());
    Ok(())
}

/// Holds off every [`end_all`] until dropped.
pub(super) struct Spawning(MutexGuard<'static, Option<HashSet<libc::pid_t>>>);

/// Begins to start a child.
pub(super) fn spawning() -> Spawning {
    Spawning(lock())
}

impl Spawning {
    /// Whether [`adopt`] was called.
    pub(super) fn are_adopted(&self) -> bool {
        self.0.is_some()
    }

    /// The child is a worker, and no orphan.
    pub(super) fn know(&mut self, child: libc::pid_t) {
        if let Some(known) = self.0.as_mut() {
            known.insert(child);
        }
    }
}

/// Keeps a child out of the orphans, until dropped.
pub(super) struct Known(libc::pid_t);

impl Spawning {
    /// Keeps a child out of the orphans until the result is dropped.
    pub(super) fn know_until_drop(&mut self, child: Option<u32>) -> Option<Known> {
        let child = child.and_then(|child| libc::pid_t::try_from(child).ok())?;
        self.know(child);
        Some(Known(child))
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        forget(self.0);
    }
}

/// A worker has been reaped.
pub(super) fn forget(child: libc::pid_t) {
    if let Some(known) = lock().as_mut() {
        known.remove(&child);
    }
}

/// Kills and reaps all orphans. Without [`adopt`] it does nothing. Blocks for at most a second.
pub(super) fn end_all() {
    for _ in 0..ROUNDS {
        let orphans = {
            let known = lock();
            let Some(known) = known.as_ref() else { return };
            let orphans: Vec<_> = children().difference(known).copied().collect();
            for orphan in &orphans {
                // SAFETY: plain numbers. The process is our child, so its number is not reused
                // before it is reaped, which only this function does.
                unsafe {
                    libc::kill(*orphan, libc::SIGKILL);
                    libc::waitpid(*orphan, std::ptr::null_mut(), libc::WNOHANG);
                }
            }
            orphans
        };
        if orphans.is_empty() {
            return;
        }
        sleep();
    }
}

#[expect(clippy::disallowed_methods, reason = "a killed process needs an instant to end")]
fn sleep() {
    std::thread::sleep(PAUSE);
}

/// Kills and reaps all children but those from before [`adopt`], and then their orphans, at the end of
/// the process. Blocks for at most a second.
pub(super) fn end_children() {
    if let (Some(known), Some(elder)) = (lock().as_mut(), ELDER.get()) {
        known.clone_from(elder);
    }
    end_all();
}

fn lock() -> MutexGuard<'static, Option<HashSet<libc::pid_t>>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the children of all threads of this process. A kernel without this list has none.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn children() -> HashSet<libc::pid_t> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
