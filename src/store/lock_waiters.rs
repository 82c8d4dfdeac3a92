//! Waiting for a tenant's lock to be let go.
//!
//! One thread per lock file and process blocks in flock(LOCK_SH) for all who wait there. Step by step:
//!
//! 1. *A waiter joins*, under the mutex: either the thread that is there, or a new one.
//! 2. *The thread gets the shared lock.* Nobody holds the exclusive one at this moment.
//! 3. *It takes its waiters out of the map*, under the mutex and still holding the lock. So whoever joined it did so before the
//!    lock was free, and whoever comes later finds no thread that would wake it for a moment that was over when it came.
//! 4. *It unlocks, then wakes its waiters.* In this order they do not find its shared lock in their way.
//!
//! A waiter that is dropped drops a receiver; the thread stays until the lock is free and then does the same. A process
//! that dies takes its thread along. The shared lock is held from 2 to 4, for no system call in between.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::sys::{
    disk::DiskFile,
    lock::{Lock, Mode},
};

/// How many locks a process waits for at once.
const MAX_THREADS: usize = 1024;

/// In bytes: such a thread makes two system calls.
const STACK: usize = 128 * 1024;

/// The threads that wait, by lock file.
#[derive(Clone, Default)]
pub(super) struct LockWaiters(Arc<Mutex<Threads>>);

type Threads = BTreeMap<PathBuf, Arc<watch::Sender<bool>>>;

impl LockWaiters {
    /// Returns once nobody holds the lock of `file` exclusively.
    pub(super) async fn wait(&self, path: PathBuf, file: Box<dyn DiskFile>) -> io::Result<()> {
        let mut free = self.join(path, file)?;
        // An error means that the thread is gone without a word; whoever tries the lock next learns why.
        let _ = free.wait_for(|free| *free).await;
        Ok(())
    }

    /// The threads that wait, and for how many waiters.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let threads = self.threads();
        (threads.len(), threads.values().map(|waiters| waiters.receiver_count()).sum())
    }

    fn join(&self, path: PathBuf, file: Box<dyn DiskFile>) -> io::Result<watch::Receiver<bool>> {
        // LockedJournal until the new thread is in the map: it may be done before.
        let mut threads = self.threads();
        if let Some(waiters) = threads.get(&path) {
            return Ok(waiters.subscribe());
        }
        if threads.len() >= MAX_THREADS {
            return Err(io::Error::other(format!("{MAX_THREADS} locks are being waited for already")));
        }
        let (waiters, free) = watch::channel(false);
        let (lock_waiters, key) = (self.clone(), path.clone());
        std::thread::Builder::new()
            .name("lock-wait".into())
            .stack_size(STACK)
            .spawn(move || lock_waiters.run(&key, file))?;
        threads.insert(path, Arc::new(waiters));
        Ok(free)
    }

    fn run(&self, path: &Path, file: Box<dyn DiskFile>) {
        // If this fails, the waiters' next attempt at the lock fails as well and says why.
        let lock = Lock::acquire(file, Mode::Shared);
        let waiters = self.threads().remove(path);
        drop(lock);
        if let Some(waiters) = waiters {
            waiters.send_replace(true);
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
