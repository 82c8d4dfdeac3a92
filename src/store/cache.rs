//! The file as it was read last, so that a read of an unchanged file costs one stat(2).
//!
//! # Why what it gives out is what the file holds now
//!
//! A version is kept with its identity, the [`Stat`] of the very descriptor it was read from, taken before the first byte was
//! read. A call stats the path, symlinks followed by the kernel, and takes the kept version only if nothing in that differs.
//!
//! - *A commit*, by any process, renames a new file over the old one. The old one is still open here, so its inode number is not
//!   free: the new file has another. A call that begins after the commit returned stats after the rename, and sees it.
//! - *A symlink that leads elsewhere, or another file moved into place*: another inode, for the same reason.
//! - *An edit in place*, which threadkey never makes and an editor may: it changes the ctime, and nobody can set that back. One in
//!   the middle of our reading leaves a ctime that is later than the one kept. Only one of the same length within the same tick of
//!   the kernel's clock (10 ms at most; none on Linux 6.13 and later) as the change before it would be missed until the next change.
//! - *chmod, chown, another hard link*: they change the ctime; the file is read anew and meets all checks.
//! - *A removed file*: stat(2) fails, nothing kept is used.
//!
//! This holds where stat(2) tells of rename(2) at once, as the file systems of [`Core::check_file_system`] do. On one that was only
//! trusted (NFS keeps attributes for seconds) nothing is kept. It makes no difference whether the caller holds a lock: who reads
//! again under the tenant's lock learns of every commit that came before the lock was free, so a refresh token that was read this
//! way is the stored one.
//!
//! The folder's mode is looked at when the file is read and at each change, not at each look: what somebody else could do in a
//! folder that has become open to others is to move another file into place, and that is read anew, folder and all.
//!
//! [`Core::check_file_system`]: super::core::Core::check_file_system

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::Records;
use crate::sys::disk::{DiskFile, Stat};

/// The version that was read last, if any.
#[derive(Default)]
pub(super) struct Cache {
    version: RwLock<Option<Version>>,
    reading: Mutex<()>,
}

struct Version {
    identity: Stat,
    records: Arc<Records>,
    /// Open for as long as the version is kept: its inode number belongs to no other file meanwhile.
    _file: Box<dyn DiskFile>,
}

impl Cache {
    /// The records, if the file is still the one they were read from.
    pub(super) fn get(&self, identity: &Stat) -> Option<Arc<Records>> {
        let version = self.version.read().unwrap_or_else(PoisonError::into_inner);
        version
            .as_ref()
            .filter(|version| version.identity == *identity)
            .map(|version| version.records.clone())
    }

    /// Keeps what was read from `file` after it had this `identity`, in place of the version before.
    pub(super) fn put(&self, identity: Stat, records: Arc<Records>, file: Box<dyn DiskFile>) {
        let version = Version { identity, records, _file: file };
        let before = self.version.write().unwrap_or_else(PoisonError::into_inner).replace(version);
        // After the lock: overwriting the secrets of a large file takes a while.
        drop(before);
    }

    /// One thread reads a new version, and those that wanted it too then find it.
    pub(super) fn reading(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
