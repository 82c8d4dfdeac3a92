//! The watch by inotify(7).

use std::{
    ffi::{OsStr, OsString},
    io,
    path::Path,
    time::Duration,
};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use tokio::io::{Interest, unix::AsyncFd};

/// The pause after events of other names, so that a busy folder costs little. It delays a notice by
/// no more than this.
const PAUSE: Duration = Duration::from_millis(20);

/// The events by which a name in a folder changes.
const NAMES: WatchMask =
    WatchMask::CREATE.union(WatchMask::MOVE).union(WatchMask::DELETE).union(WatchMask::ONLYDIR);

/// Holds at least one event: its head of 16 bytes and a name of up to 255.
const BUFFER: usize = 4096;

/// A watch on one name in one folder.
#[derive(Debug)]
pub struct FolderWatch {
    events: AsyncFd<Inotify>,
    /// The watched folder, and the one name that counts in it; any name without one.
    watched: Option<(WatchDescriptor, Option<OsString>)>,
}

impl FolderWatch {
    /// Watches `file`, which is absolute and may be missing; its folder must exist. Blocks on the
    /// disk. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The system's. `EMFILE` and `ENOSPC` are its limits on instances and on watches.
    #[expect(unsafe_code, reason = "the runtime requires a promise that the descriptor stays open")]
    pub fn new(file: &Path) -> io::Result<Self> {
        // SAFETY: an `Inotify` owns its descriptor, keeps it for life, and closes it when dropped.
        let events = unsafe { AsyncFd::register_with_interest(Inotify::init()?, Interest::READABLE) };
        let mut watch = Self { events: events?, watched: None };
        watch.follow(file)?;
        Ok(watch)
    }

    /// Watches every name in a folder, and the folder's own move and end. An edit in place counts once
    /// its writer closes the file. Blocks on the disk. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// As [`FolderWatch::new`].
    #[expect(unsafe_code, reason = "the runtime requires a promise that the descriptor stays open")]
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        // SAFETY: as in `new`.
        let events = unsafe { AsyncFd::register_with_interest(Inotify::init()?, Interest::READABLE) }?;
        let mask = NAMES | WatchMask::CLOSE_WRITE | WatchMask::MOVE_SELF | WatchMask::DELETE_SELF;
        let descriptor = events.get_ref().watches().add(folder, mask)?;
        Ok(Self { events, watched: Some((descriptor, None)) })
    }

    /// Watches `file` instead of the earlier one. The same folder keeps its watch and its events.
    /// After an error nothing is watched.
    ///
    /// # Errors
    /// As [`FolderWatch::new`].
    pub fn follow(&mut self, file: &Path) -> io::Result<()> {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let before = self.watched.take();
        let mut watches = self.events.get_ref().watches();
        let added = watches.add(folder, NAMES);
        if let Some((before, _)) = before
            && added.as_ref().ok() != Some(&before)
        {
            // It fails if the kernel has ended that watch already.
            let _ = watches.remove(before);
        }
        self.watched = Some((added?, Some(name.to_owned())));
        Ok(())
    }

    /// Waits for a change after the last [`FolderWatch::follow`]. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// The system's.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let watched = self.watched.as_ref();
            let mut ready = self.events.readable_mut().await?;
            match ready.try_io(|events| take_events(events.get_mut(), watched)) {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => tokio::time::sleep(PAUSE).await,
                Ok(Err(error)) => return Err(error),
                // The descriptor was not readable after all.
                Err(_) => {}
            }
        }
    }

    /// Whether any queued event is a change.
    #[cfg(test)]
    pub(super) fn has_changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            match take_events(self.events.get_mut(), self.watched.as_ref()) {
                Ok(one) => changed |= one,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Whether the kernel has queued any event, a change or not.
    #[cfg(test)]
    pub(super) fn is_awake(&mut self) -> bool {
        take_events(self.events.get_mut(), self.watched.as_ref()).is_ok()
    }
}

/// Reads some of the queued events. Returns whether one of them is a change of the watched name;
/// `WouldBlock` when the queue is empty.
fn take_events(
    events: &mut Inotify,
    watched: Option<&(WatchDescriptor, Option<OsString>)>,
) -> io::Result<bool> {
    let mut buffer = [0; BUFFER];
    let is_change = |event: inotify::Event<&OsStr>| {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return true;
        }
        // An event of an earlier folder was queued before the caller looked at the present one.
        let Some((descriptor, name)) = watched else { return false };
        event.wd == *descriptor
            && (name.is_none() || event.name.is_none_or(|changed| Some(changed) == name.as_deref()))
    };
    Ok(events.read_events(&mut buffer)?.fold(false, |changed, event| changed | is_change(event)))
}
