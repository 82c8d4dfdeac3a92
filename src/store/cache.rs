//! The snapshot of the file that was read or written last. With it a read of an unchanged file
//! costs one stat(2), and a change of such a file costs no read at all.
//!
//! # Why the snapshot is the present content of the file
//!
//! A snapshot is kept with its identity: the [`Stat`] of the descriptor it was read from, taken
//! before the first byte was read. Each call stats the path, where the kernel follows symlinks, and
//! uses the snapshot only if no field of the two differs.
//!
//! - *A commit*, by any process, renames a new file over the old one. The old file is still open
//!   here, so its inode number is not free, and the new file has another number. A call that begins
//!   after the commit returned stats after the rename, and sees it.
//! - *A symlink that leads elsewhere, or another file moved into place,* is another inode, for the
//!   same reason.
//! - *An edit in place*, which threadkey never makes but an editor may, changes the ctime, and no
//!   program can set that back. An edit during our read leaves a ctime later than the kept one.
//!   Only an edit of the same length, within the same tick of the kernel's clock as the change
//!   before it, would be missed until the next change. A tick is 10 ms at most; Linux 6.13 and
//!   later have none.
//! - *chmod, chown or another hard link* changes the ctime. The file is read again and meets all
//!   checks.
//! - *A removed file* makes stat(2) fail, and no snapshot is used.
//!
//! This holds where stat(2) reports rename(2) at once, as on the file systems of
//! [`Location::check_file_system`]. On a file system that is only trusted (NFS keeps attributes for
//! seconds) no snapshot is kept. Locks make no difference: a process that reads again under the
//! tenant's lock sees every commit from before the lock was free. So a refresh token that was read
//! this way is the stored one.
//!
//! The mode of the folder is checked when the file is read and at each change, not at each lookup.
//! If the folder has become open to others, they can move another file into place, and that file is
//! read again together with the check of the folder.
//!
//! # Why a writer can skip reading the file
//!
//! Under the global lock the snapshot is the content of the file, by the argument above, and stays
//! so until the lock is released: no process that keeps to the protocol changes the file without
//! the lock. So the writer revises the snapshot's document and writes the result. The new file
//! becomes the next snapshot, with the identity that the temp file's own descriptor has *after the
//! rename*, which changes the ctime:
//!
//! - *If the file was edited between our write and that stat*, it is not kept: a stat from before
//!   the rename must have the same mtime and length. An edit moves the mtime. Before the rename an
//!   editor would need the name of the temp file, which is random and lives for one fsync. After
//!   the rename it has only the few microseconds until the second stat. Every later edit is
//!   compared with the ctime of that stat.
//! - *An edit in place of the same length within one tick of the kernel's clock* is the only change
//!   that can be missed, and a writer that misses it overwrites it. Such an edit is made without
//!   the lock within 10 ms of a commit. A writer that reads first would lose it as well, if the
//!   edit came after the read. Edits without the lock have never been safe.
//! - *A write that fails*, at whatever step, leaves no snapshot: the next change begins with the
//!   file.
//! - *Readers meanwhile* use the old snapshot, which is the content of the file until the rename.
//!   From just before the rename until the new snapshot is kept, the writer has the
//!   [turn](Cache::turn). Readers wait for these few system calls instead of reading a file that
//!   the cache is about to have.
//!
//! [`Location::check_file_system`]: super::location::Location::check_file_system

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Records, codec::Document};
use crate::sys::disk::{DiskFile, Stat};

/// The snapshot that was read or written last, if any.
#[derive(Default)]
pub(super) struct Cache {
    snapshot: RwLock<Option<Arc<Snapshot>>>,
    turn: Mutex<()>,
}

/// The content of the file at one time.
pub(super) struct Snapshot {
    pub(super) identity: Stat,
    pub(super) document: Document,
    /// Stays open as long as the snapshot is kept, so that no other file gets its inode number.
    pub(super) _file: Box<dyn DiskFile>,
}

/// Whether a file has the same content before and after its rename.
pub(super) fn was_not_touched(before: &Stat, after: &Stat) -> bool {
    // A rename changes the ctime, and only that.
    *before == Stat { changed: before.changed, ..*after }
}

// === impl Cache ===

impl Cache {
    /// Applies `wanted` to the snapshot, if the file still has the snapshot's identity.
    pub(super) fn get<T>(&self, identity: &Stat, wanted: impl FnOnce(&Arc<Snapshot>) -> T) -> Option<T> {
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        snapshot.as_ref().filter(|snapshot| snapshot.identity == *identity).map(wanted)
    }

    /// Keeps `snapshot` in place of the present one.
    pub(super) fn put(&self, snapshot: Option<Arc<Snapshot>>) {
        let mut kept = self.snapshot.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = std::mem::replace(&mut *kept, snapshot);
        drop(kept);
        // After the lock: zeroing the secrets of a large file takes a while.
        drop(replaced);
    }

    /// Lets one thread make the next snapshot. Threads that wait for their turn then find it.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// All records.
    pub(super) fn records(&self) -> Arc<Records> {
        self.document.records().clone()
    }

    /// Counts the members of the file's sections whose tenant this version does not know.
    pub(super) fn foreign(&self) -> usize {
        self.document.foreign()
    }
}
