//! What can be wrong with a store, in words that say where and what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::sys::disk::{is_device_fault, is_out_of_descriptors};

/// Why the store could not do what was asked. Nothing was changed by whoever gets one of these.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("{action} {path}: {source}{hint}", path = path.display(), hint = hint(source))]
    Io {
        /// What was tried: `cannot read`, `cannot write`, …
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what a store looks like. It is left as it is.
    #[error(
        "{path} is not a threadkey store: line {line}, column {column}: {what}. Nothing was changed. Repair the file, or move it away and sign in again; a backup holds spent refresh tokens and must not take its place",
        path = path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What was found, without any of the file's values.
        what: String,
    },
    /// Written by a newer version: it is read, and never written.
    #[error(
        "{path} has format version {version}, newer than this threadkey, which therefore only reads it: update threadkey to change it",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// Others could read or change it.
    #[error("{path} is open to others (mode {mode:04o}): run chmod {wanted:03o} {path}", path = path.display())]
    Permissions {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What they should be.
        wanted: u32,
    },
    /// The path leads to something that cannot be replaced safely.
    #[error("{path}: {what}", path = path.display())]
    Unsuitable {
        /// The file or folder.
        path: PathBuf,
        /// Why not, and what to do.
        what: String,
    },
}

/// For all who shared a write that failed.
impl Clone for StoreError {
    fn clone(&self) -> Self {
        match self {
            Self::Io { action, path, source } => {
                let source = match source.raw_os_error() {
                    Some(errno) => io::Error::from_raw_os_error(errno),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Self::Io { action, path: path.clone(), source }
            }
            Self::Corrupt { path, line, column, what } => {
                Self::Corrupt { path: path.clone(), line: *line, column: *column, what: what.clone() }
            }
            Self::Newer { path, version } => Self::Newer { path: path.clone(), version: *version },
            Self::Permissions { path, mode, wanted } => {
                Self::Permissions { path: path.clone(), mode: *mode, wanted: *wanted }
            }
            Self::Unsuitable { path, what } => Self::Unsuitable { path: path.clone(), what: what.clone() },
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; give the user that runs threadkey access to it",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space: nothing is spent while nothing can be saved"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; the store has to be on a file system that can be written",
        _ if is_device_fault(error) => "; check the disk: the kernel's log says more",
        _ if is_out_of_descriptors(error) => "; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        _ => "",
    }
}

/// The system's error, with what was tried on which path.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { action, path: path.into(), source }
}

/// The refusal of what is at `path`.
pub(super) fn unsuitable<T>(path: &Path, what: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Unsuitable { path: path.into(), what: what.into() })
}
