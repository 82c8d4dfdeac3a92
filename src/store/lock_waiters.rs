//! Waiting until a tenant's lock is released.
//!
//! One thread per lock file and process blocks in flock(LOCK_SH) for all waiters. Step by step:
//!
//! 1. *A waiter joins*, under the mutex: either the existing thread or a new one.
//! 2. *The thread takes the shared lock.* No process holds the exclusive lock at this moment.
//! 3. *It takes its waiters out of the map*, under the mutex and while it holds the shared lock. So
//!    a waiter that joined this thread did so before the lock was free. A later waiter finds no
//!    thread whose moment has already passed.
//! 4. *It unlocks, then wakes its waiters.* In this order they do not meet its shared lock.
//!
//! A waiter that is dropped drops a receiver. The thread stays until the lock is free, and then
//! does the same. Its process's death ends the thread. The shared lock is held from step 2 to step
//! 4, with no system call in between.

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

/// The most locks that a process waits for at once.
const MAX_THREADS: usize = 1024;

/// The stack of a waiting thread in bytes. The thread makes two system calls.
const STACK: usize = 128 * 1024;

/// The waiting threads, by lock file.
#[derive(Clone, Default)]
pub(super) struct LockWaiters(Arc<Mutex<Threads>>);

type Threads = BTreeMap<PathBuf, Arc<watch::Sender<bool>>>;

impl LockWaiters {
    /// Returns once no process holds the lock of `file` exclusively.
    pub(super) async fn wait(&self, path: PathBuf, file: Box<dyn DiskFile>) -> io::Result<()> {
        let mut free = self.join(path, file)?;
        // An error means that the thread ended without a result. The next attempt at the lock
        // reports why.
        let _ = free.wait_for(|free| *free).await;
        Ok(())
    }

    /// The numbers of waiting threads and of their waiters.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let threads = self.threads();
        (threads.len(), threads.values().map(|waiters| waiters.receiver_count()).sum())
    }

    fn join(&self, path: PathBuf, file: Box<dyn DiskFile>) -> io::Result<watch::Receiver<bool>> {
        // The mutex is held until the new thread is in the map, because the thread may end at once.
        let mut threads = self.threads();
        if let Some(waiters) = threads.get(&path) {
            return Ok(waiters.subscribe());
        }
        if threads.len() >= MAX_THREADS {
            return Err(io::Error::other(format!("this process already waits for {MAX_THREADS} locks")));
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
        // If this fails, the waiters' next attempt at the lock fails as well and reports why.
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
