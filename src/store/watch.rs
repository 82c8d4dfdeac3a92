//! Telling that the store may have changed, whoever changed it.
//!
//! One task for each store watches its path ([`crate::sys::watch`]) for all who listen, and ends with the last of them. It first
//! follows the path, then tells, then waits for the next event; so who reads the store after [`Changes::next`] has returned misses
//! nothing: what came before is read, and what comes later is told. It is told that something *may* have changed. Whether it has
//! is for the reader to see, and [`super::Store::list`] costs one stat where it has not.
//!
//! The first event is told at once. After that the task rests for [`REST`], so that a store that is written all the time makes no
//! listener read it all the time; the events of that while are one.
//!
//! Where there are no events the listeners are told to look every [`LOOK_EVERY`]: the system refuses to watch (its limits on watches, a
//! system without change notices), the file system tells of other machines' changes to nobody, or a folder on the way may not be
//! watched. A watch that is refused is tried again as often, and is missed once in the log.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    changes::{Changes, LOOK_EVERY},
    location::Location,
};
use crate::sys::watch::PathWatch;

/// The shortest time from one notice to the next.
const REST: Duration = Duration::from_millis(250);

/// Who listens to a store.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Option<watch::Sender<u64>>>>);

impl Watch {
    /// From now on, by a task on the runtime that the caller is on.
    pub(super) fn changes(&self, location: &Arc<Location>) -> Changes {
        let mut slot = self.slot();
        if let Some(notices) = &*slot {
            return Changes::new(notices);
        }
        let notices = watch::Sender::new(0);
        let changes = Changes::new(&notices);
        let teller = Teller { location: location.clone(), notices: notices.clone(), missed: false };
        *slot = Some(notices);
        tokio::spawn(self.clone().run(teller));
        changes
    }

    async fn run(self, mut teller: Teller) {
        let notices = teller.notices.clone();
        let telling = teller.tell();
        tokio::pin!(telling);
        loop {
            tokio::select! {
                () = &mut telling => return,
                () = notices.closed() => {}
            }
            // Whoever comes after this finds no task and starts one.
            let mut slot = self.slot();
            if notices.receiver_count() == 0 {
                *slot = None;
                return;
            }
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<watch::Sender<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_watching(&self) -> bool {
        self.slot().is_some()
    }
}

struct Teller {
    location: Arc<Location>,
    notices: watch::Sender<u64>,
    /// The log says that there is no watch.
    missed: bool,
}

impl Teller {
    /// Never ends by itself.
    async fn tell(&mut self) {
        loop {
            let location = self.location.clone();
            let opened = off_thread(move || location.disk.watch(&location.path)).await;
            let error = match opened {
                Ok(watch) => {
                    if std::mem::take(&mut self.missed) {
                        tracing::info!(path = %self.location.path.display(), "changes of the store are watched for again");
                    }
                    self.tell_of(watch).await
                }
                Err(error) => error,
            };
            if !std::mem::replace(&mut self.missed, true) {
                tracing::warn!(
                    path = %self.location.path.display(), %error,
                    "what other processes change in the store cannot be watched for, so it is looked for every {} s. \
                     If this is a limit: it is fs.inotify.max_user_instances, fs.inotify.max_user_watches, or that on open files",
                    LOOK_EVERY.as_secs()
                );
            }
            self.notice();
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells of what this watch sees, until it fails.
    async fn tell_of(&self, mut watch: PathWatch) -> std::io::Error {
        loop {
            self.notice();
            tokio::time::sleep(REST).await;
            let blind = self.location.options.trust_filesystem || !watch.sees_all();
            tokio::select! {
                changed = watch.changed() => {
                    if let Err(error) = changed {
                        return error;
                    }
                }
                () = tokio::time::sleep(LOOK_EVERY), if blind => {}
            }
            watch = match off_thread(move || watch.follow().map(|()| watch)).await {
                Ok(watch) => watch,
                Err(error) => return error,
            };
        }
    }

    fn notice(&self) {
        self.notices.send_modify(|count| *count += 1);
    }
}

/// Runs `work`, which looks at the disk, on a thread that may block.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
