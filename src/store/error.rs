//! The errors of a store. Each message names the file and the next step.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::sys::{
    disk::{is_device_fault, is_out_of_descriptors},
    lock_holder::LockHolder,
    user,
};

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
    /// Another process has held the global lock for longer than a change waits. Nothing was changed,
    /// and nothing will be: the change is withdrawn.
    #[error("{path} stays locked by {}, so nothing was changed: {}", named(holder.as_ref()), next_step(holder.as_ref()), path = path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, where the system names it.
        holder: Option<LockHolder>,
    },
    /// The folder belongs to another user than this process acts as. Its files would lock that user
    /// out.
    #[error("{}", foreign(folder, owner, user, *is_missing))]
    Foreign {
        /// The store's folder, or the nearest existing folder above it.
        folder: PathBuf,
        /// The user that it belongs to.
        owner: User,
        /// The user that this process acts as.
        user: User,
        /// Whether the store's folder does not exist yet.
        is_missing: bool,
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

/// A user of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: u32,
    /// Its name, if the system knows it.
    pub name: Option<String>,
    /// Whether the id stands for all users that this container does not know.
    pub is_unmapped: bool,
}

impl User {
    /// Describes the user with this id.
    pub(super) fn of(id: u32) -> Self {
        Self { id, name: user::name(id), is_unmapped: user::is_unmapped(id) }
    }

    /// The user as `sudo -u` takes it.
    fn argument(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("'#{}'", self.id))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (user id {})", self.id),
            None => write!(f, "user id {}", self.id),
        }
    }
}

fn foreign(folder: &Path, owner: &User, user: &User, is_missing: bool) -> String {
    let folder = folder.display();
    if owner.is_unmapped {
        return format!(
            "{folder} belongs to a user that this container does not map (user id {}), so nothing was read or made: map that \
             user, or give the folder to {user} from outside of the container",
            owner.id
        );
    }
    let what = if is_missing { "the folder above the store " } else { "" };
    format!(
        "{what}{folder} belongs to {owner}, and this command runs as {user}. Files of {user} would lock {owner} out, so nothing \
         was read or made: run the command as that user (`sudo -u {} threadkey …`). If the folder should be {user}'s, run \
         chown {} {folder}",
        owner.argument(),
        user.name.clone().unwrap_or_else(|| user.id.to_string()),
    )
}

fn named(holder: Option<&LockHolder>) -> String {
    match holder {
        Some(holder) if holder.is_this_process() => {
            format!("this process ({}), whose last write has not ended", holder.pid)
        }
        Some(holder) => holder.to_string(),
        None => "another process".to_owned(),
    }
}

fn next_step(holder: Option<&LockHolder>) -> String {
    match holder {
        Some(holder) if holder.is_this_process() => "check the disk".to_owned(),
        Some(holder) => holder.next_step(),
        None => "look for a threadkey that is stopped or hangs, and try again in a moment".to_owned(),
    }
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
            Self::Busy { path, holder } => Self::Busy { path: path.clone(), holder: holder.clone() },
            Self::Foreign { folder, owner, user, is_missing } => Self::Foreign {
                folder: folder.clone(),
                owner: owner.clone(),
                user: user.clone(),
                is_missing: *is_missing,
            },
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
