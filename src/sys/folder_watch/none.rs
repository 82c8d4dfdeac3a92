//! No watch: this system's change notices are not used.

use std::{io, path::Path};

/// A watch; on this system there is none.
#[derive(Debug)]
pub enum FolderWatch {}

impl FolderWatch {
    /// Watches `file`.
    ///
    /// # Errors
    /// Always: only inotify is used, and this system has none.
    pub fn new(_: &Path) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only the change notices of Linux are used"))
    }

    /// Watches a folder.
    ///
    /// # Errors
    /// As [`FolderWatch::new`].
    pub fn of_folder(_: &Path) -> io::Result<Self> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "only the change notices of Linux are used"))
    }

    /// Watches `file` instead of the earlier one.
    ///
    /// # Errors
    /// None: no such value exists.
    pub fn follow(&mut self, _: &Path) -> io::Result<()> {
        match *self {}
    }

    /// Waits for a change.
    ///
    /// # Errors
    /// None: no such value exists.
    pub async fn changed(&mut self) -> io::Result<()> {
        match *self {}
    }
}
