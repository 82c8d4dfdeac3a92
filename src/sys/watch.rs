//! Waits until the file at a path may be another one, or may have changed.
//!
//! # What is watched
//!
//! The path is followed step by step, as the kernel does when it opens a file. Each folder and each symlink on the way is
//! watched itself: it may be renamed, removed or replaced. In the folder that holds the file, the file's entry is watched: something
//! is moved or made there, is taken away, written to, or gets other permissions. Nobody is woken by what happens to
//! other files for longer than it takes to pass over it.
//!
//! A folder that somebody has open can be removed without a word to those who watch it. But a folder can only be removed when it is
//! empty, so the file in it has gone before, and that is told. While the file is missing, the entry of each step is
//! watched in the folder above it, and so the next folder of that name is seen.
//!
//! # Why nothing is lost
//!
//! *Watched first, looked at then.* Each step is watched before it is looked at. A change after that is in the kernel's queue; one before
//! it is what the look sees. If a step changes in between and the look sees the new one, the queue holds the change of the old one, so
//! the wait ends at once and the path is followed again.
//!
//! *Followed first, told then.* [`PathWatch::follow`] follows the path anew after each event. Who reads the file when it has
//! returned sees all that came before; all that comes later ends the next [`PathWatch::changed`]. This holds if the queue
//! overflows, too: that is an event like any other.
//!
//! What has no event: a file system that is mounted over one of the folders, and what other machines do on a network file system.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use tokio::io::{Interest, unix::AsyncFd};

#[cfg(target_os = "linux")]
mod inotify;
#[cfg(target_os = "linux")]
use inotify::Watcher;

#[cfg(target_vendor = "apple")]
mod kqueue;
#[cfg(target_vendor = "apple")]
use kqueue::Watcher;

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
mod none;
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
use none::Watcher;

/// How many steps a path may have, those of its symlinks included.
const MAX_STEPS: usize = 256;

/// The pause after events of other files, so that a busy folder costs little. The event that matters waits no longer than that.
const PAUSE: Duration = Duration::from_millis(20);

/// Watches one path.
#[derive(Debug)]
pub struct PathWatch {
    watcher: AsyncFd<Watcher>,
    path: PathBuf,
    /// The file was missing when the path was followed last.
    missing: bool,
}

impl PathWatch {
    /// Begins to watch `path`, which is absolute and may be missing. Looks at the disk, so not for an async thread; but within a
    /// runtime.
    ///
    /// # Errors
    /// The system's; its limits on watches are `ENOSPC` and `EMFILE`.
    pub fn new(path: &Path) -> io::Result<Self> {
        let mut watch = Self { watcher: new_watcher()?, path: path.to_owned(), missing: false };
        watch.follow()?;
        Ok(watch)
    }

    /// Follows the path anew, after [`PathWatch::changed`] and before the file is read. Looks at the disk.
    ///
    /// # Errors
    /// The system's.
    pub fn follow(&mut self) -> io::Result<()> {
        if self.missing {
            // What was watched for its sake would go on waking us up.
            self.watcher = new_watcher()?;
        }
        let watcher = self.watcher.get_mut();
        watcher.begin();
        self.missing = walk(watcher, &self.path, Steps::Quiet)? == Found::Missing;
        if self.missing {
            walk(watcher, &self.path, Steps::ByName)?;
        }
        watcher.settle();
        Ok(())
    }

    /// Whether all of the path is watched: a folder that this process may pass through and not list cannot be, on Linux.
    pub fn sees_all(&self) -> bool {
        self.watcher.get_ref().sees_all()
    }

    /// Waits for a change that came after [`PathWatch::follow`] had begun. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The system's.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.watcher.readable_mut().await?;
            match ready.try_io(|watcher| watcher.get_mut().read()) {
                Ok(Ok(true)) => return Ok(()),
                Ok(Ok(false)) => tokio::time::sleep(PAUSE).await,
                Ok(Err(error)) => return Err(error),
                // It was nothing.
                Err(_) => {}
            }
        }
    }
}

#[expect(unsafe_code, reason = "the runtime wants to be told that the descriptor stays open")]
fn new_watcher() -> io::Result<AsyncFd<Watcher>> {
    let watcher = Watcher::new()?;
    // SAFETY: a watcher owns its descriptor, closes it when it is dropped, and never has another one.
    let registered = unsafe { AsyncFd::register_with_interest(watcher, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

/// How the steps before the last one are watched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Steps {
    /// Themselves: enough while the file is there.
    Quiet,
    /// By their entries in the folders above, too.
    ByName,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    There,
    Missing,
}

/// Watches what `path` leads through, each step before it is looked at.
fn walk(watcher: &mut Watcher, path: &Path, steps: Steps) -> io::Result<Found> {
    let mut folder = PathBuf::from("/");
    let mut rest = names(path);
    for _ in 0..MAX_STEPS {
        let Some(name) = rest.pop() else { return Ok(Found::There) };
        if name == ".." {
            // The folder has no symlink in it, so the one above is its parent.
            folder.pop();
            continue;
        }
        let step = folder.join(&name);
        let last = rest.is_empty();
        let by_name = last || steps == Steps::ByName;
        let entry = if by_name { watcher.watch_entry(&folder, &name) } else { Ok(()) };
        match entry.and_then(|()| step_to(watcher, &step, last)) {
            Ok(None) => folder = step,
            Ok(Some(target)) => {
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                rest.extend(names(&target));
            }
            // Also a step that went while it was looked at: what was watched before it tells that.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Found::Missing);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the path has too many steps"))
}

/// Watches one step itself, and says where it leads if it is a symlink.
fn step_to(watcher: &mut Watcher, step: &Path, last: bool) -> io::Result<Option<PathBuf>> {
    if last && !step.symlink_metadata()?.is_symlink() {
        // A file, and its entry is watched: a symlink in its place would be an event.
        watcher.watch_file(step)?;
        return Ok(None);
    }
    watcher.watch_itself(step)?;
    let Some(_) = target(step)? else { return Ok(None) };
    watcher.watch_symlink(step)?;
    target(step)
}

fn target(step: &Path) -> io::Result<Option<PathBuf>> {
    match std::fs::read_link(step) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a path, last one first, without `/` and `.`.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests;
