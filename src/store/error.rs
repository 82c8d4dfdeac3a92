//! The errors of a store. Each message names the file and the next step.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::sys::disk::{is_device_fault, is_out_of_descriptors};

/// An error of the store. The caller that gets one has changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("{action} {path}: {source}{hint}", path = path.display(), hint = hint(source))]
    Io {
        /// The action that failed: `cannot read`, `cannot write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file does not have the form of a store. It is left as it is.
    #[error(
        "{path} is not a threadkey store: line {line}, column {column}: {what}. Nothing was changed. Repair the file, or move it away and sign in again; a backup holds spent refresh tokens and must not take its place",
        path = path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The defect, without any of the file's values.
        what: String,
    },
    /// A newer threadkey wrote the file: it is read, and never written.
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
    /// Other users could read or change it.
    #[error("{path} is open to others (mode {mode:04o}): run chmod {wanted:03o} {path}", path = path.display())]
    Permissions {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits that it should have.
        wanted: u32,
    },
    /// The path leads to something that cannot be replaced safely.
    #[error("{path}: {what}", path = path.display())]
    Unsuitable {
        /// The file or folder.
        path: PathBuf,
        /// The reason, and the next step.
        what: String,
    },
}

/// Several callers share a write, and its error.
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
        _ if is_device_fault(error) => "; check the disk: the kernel's log has the details",
        _ if is_out_of_descriptors(error) => "; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        _ => "",
    }
}

/// Adds the action and the path to the system's error.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { action, path: path.into(), source }
}

/// Refuses the file or folder at `path`.
pub(super) fn unsuitable<T>(path: &Path, what: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Unsuitable { path: path.into(), what: what.into() })
}
