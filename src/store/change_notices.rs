//! Notices that the store may have changed, whichever process changed it.
//!
//! One task for each store sends the notices to all its subscribers, and ends with the last of
//! them. It goes through the same steps after each event and every [`RESOLVE_EVERY`]:
//!
//! 1. *Resolve the path, and watch the store's name in the folder that it leads to*
//!    ([`crate::sys::folder_watch`]).
//! 2. *Stat the file.*
//! 3. *Notify*, if an event woke the task or if path or file differ from the last time.
//!
//! # Why no change is missed
//!
//! A reader reads the store after [`ChangeNotices::next`] has returned. A change before step 1 is
//! in the file that it reads, because the notice comes last. A change after step 1 is an event in
//! the kernel's queue, and ends the next wait. A symlink that was switched, a folder that was made
//! again and a file system that was mounted over it have no event. Step 2 finds them within
//! [`RESOLVE_EVERY`].
//!
//! A notice means that the store *may* have changed. The reader finds out:
//! [`super::Store::list`] costs one stat if it has not.
//!
//! After each notice the task rests for [`REST`]. So a store that is written all the time does not
//! make its subscribers read it all the time; the events of that time become one notice.
//!
//! # Where there are no events
//!
//! The task repeats the steps every [`STAT_EVERY`] while it has no watch: on a system other than
//! Linux, at the system's limits on watches, and while the folder is missing. A refused watch is
//! logged once. On a file system that is only trusted another machine may write without an event,
//! and a stat may be out of date. There every step 3 notifies.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::location::Location;
use crate::sys::{disk::Stat, folder_watch::FolderWatch};

/// How often the path is resolved while the folder is watched.
pub(super) const RESOLVE_EVERY: Duration = Duration::from_secs(10);

/// How often the store is looked at without a watch.
pub(super) const STAT_EVERY: Duration = Duration::from_secs(1);

/// The shortest time from one notice to the next.
const REST: Duration = Duration::from_millis(250);

/// One subscription to the notices that a store may have changed.
#[derive(Clone, Debug)]
pub struct ChangeNotices(watch::Receiver<u64>);

/// The subscribers of a store, and the task that notifies them while there are any.
#[derive(Clone, Default)]
pub(super) struct Notifier(Arc<Mutex<Option<watch::Sender<u64>>>>);

struct Task {
    location: Arc<Location>,
    notices: watch::Sender<u64>,
    watch: Option<FolderWatch>,
    seen: Seen,
    /// The log holds that the watch was refused.
    is_refusal_logged: bool,
}

/// The resolved path of the store and its file there; `None` where either is missing.
type Seen = Option<(PathBuf, Option<Stat>)>;

// === impl ChangeNotices ===

impl ChangeNotices {
    /// Subscribes to a store that counts its notices in `notices`; the count 0 means none yet.
    pub fn new(notices: &watch::Sender<u64>) -> Self {
        let mut receiver = notices.subscribe();
        if *receiver.borrow() > 0 {
            receiver.mark_changed();
        }
        Self(receiver)
    }

    /// Returns once the store may have changed since it last returned; the first time once changes
    /// are watched. Read the store after it, not before. Dropping the future loses nothing.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // The task is gone: its runtime is ending, or this is a defect.
            sleep(RESOLVE_EVERY).await;
        }
    }
}

// === impl Notifier ===

impl Notifier {
    /// Subscribes. The first subscriber's call starts the task on its Tokio runtime.
    pub(super) fn subscribe(&self, location: &Arc<Location>) -> ChangeNotices {
        let mut slot = self.slot();
        if let Some(notices) = &*slot {
            return ChangeNotices::new(notices);
        }
        let notices = watch::Sender::new(0);
        let subscription = ChangeNotices::new(&notices);
        let task = Task {
            location: location.clone(),
            notices: notices.clone(),
            watch: None,
            seen: None,
            is_refusal_logged: false,
        };
        *slot = Some(notices);
        tokio::spawn(self.clone().run(task));
        subscription
    }

    /// Runs the task until it has no subscriber.
    async fn run(self, task: Task) {
        let notices = task.notices.clone();
        let running = task.run();
        tokio::pin!(running);
        loop {
            tokio::select! {
                // The runtime is ending. Subscribers that outlive it find no sender.
                () = &mut running => {
                    *self.slot() = None;
                    return;
                }
                () = notices.closed() => {}
            }
            // A later subscriber finds no task and starts one.
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
    pub(super) fn is_running(&self) -> bool {
        self.slot().is_some()
    }
}

// === impl Task ===

impl Task {
    /// Does not return by itself.
    async fn run(mut self) {
        let mut woken = true;
        loop {
            let before = self.seen.take();
            self = match tokio::task::spawn_blocking(move || self.look()).await {
                Ok(task) => task,
                // The runtime is ending.
                Err(_) => return,
            };
            if woken || self.seen != before || self.location.options.trust_filesystem {
                self.notices.send_modify(|count| *count += 1);
                sleep(REST).await;
            }
            woken = self.wait().await;
        }
    }

    /// Waits for the next look at the store. Returns whether an event caused it.
    async fn wait(&mut self) -> bool {
        let Some(watch) = &mut self.watch else {
            sleep(STAT_EVERY).await;
            return false;
        };
        tokio::select! {
            changed = watch.changed() => {
                if changed.is_err() {
                    self.watch = None;
                }
                true
            }
            () = sleep(RESOLVE_EVERY) => false,
        }
    }

    /// Steps 1 and 2. Blocks on the disk.
    fn look(mut self) -> Self {
        let Ok(paths) = self.location.locate() else {
            self.watch = None;
            return self;
        };
        let watched = match self.watch.take() {
            Some(mut watch) => watch.follow(&paths.file).map(|()| watch),
            None => self.location.disk.watch(&paths.file),
        };
        match watched {
            Ok(watch) => {
                self.watch = Some(watch);
                if std::mem::take(&mut self.is_refusal_logged) {
                    tracing::info!(path = %paths.file.display(), "the store's folder is watched again");
                }
            }
            Err(error) => self.log_refusal(&paths.folder, &error),
        }
        let stat = self.location.disk.stat(&paths.file).ok();
        self.seen = Some((paths.file, stat));
        self
    }

    fn log_refusal(&mut self, folder: &std::path::Path, error: &io::Error) {
        let is_expected = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported);
        if is_expected || std::mem::replace(&mut self.is_refusal_logged, true) {
            return;
        }
        tracing::warn!(
            folder = %folder.display(), %error,
            "the system refuses to watch the store's folder, so threadkey looks at the store once a second. \
             If this is a limit, raise fs.inotify.max_user_instances, fs.inotify.max_user_watches, or the limit \
             of open files"
        );
    }
}
