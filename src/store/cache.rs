//! The version of the file that was read or written last, so that a read of an unchanged file costs one stat(2), and a change of one
//! no read at all.
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
//! This holds where stat(2) tells of rename(2) at once, as the file systems of [`Location::check_file_system`] do. On one that was only
//! trusted (NFS keeps attributes for seconds) nothing is kept. It makes no difference whether the caller holds a lock: who reads
//! again under the tenant's lock learns of every commit that came before the lock was free, so a refresh token that was read this
//! way is the stored one.
//!
//! The folder's mode is looked at when the file is read and at each change, not at each look: what somebody else could do in a
//! folder that has become open to others is to move another file into place, and that is read anew, folder and all.
//!
//! # Why who changes the file need not read it
//!
//! Under the global lock the kept version is what the file holds, by the argument above, and stays so until the lock is let go: who keeps
//! to the protocol changes nothing without it. So the writer takes the version's document, changes it and writes it. What it
//! wrote is kept in turn, with the identity that the temp file's own descriptor has *after the rename*, which changes the ctime:
//!
//! - *Nobody edited it between our writing and that stat*, or it is not kept: a stat before the rename has the same mtime and length.
//!   An edit moves the mtime. Until the rename it would need the temp file's name, which is random and lives for one fsync; after it, it
//!   would have to come within the few microseconds to the second stat. That stat's ctime is then the one to which every later edit
//!   is compared, as above.
//! - *An edit in place within one tick of the kernel's clock, of the same length*, is the one thing that can be missed, and a writer that misses
//!   it writes over it. Such an edit is made without the lock within 10 ms of a commit. It would be lost as well to a writer that reads
//!   first, if it came after the reading instead; nobody who edits without the lock has ever been promised more.
//! - *A write that fails*, at whatever step, leaves nothing kept: the next one begins with the file.
//! - *Readers meanwhile* find the old version, which is the file's until the rename. From just before it until the new one is kept the
//!   writer has the [turn](Cache::turn), so they wait for these few system calls instead of reading in vain.
//!
//! [`Location::check_file_system`]: super::location::Location::check_file_system

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Records, codec::Document};
use crate::sys::disk::{DiskFile, Stat};

/// The version that was read or written last, if any.
#[derive(Default)]
pub(super) struct Cache {
    version: RwLock<Option<Arc<Version>>>,
    turn: Mutex<()>,
}

/// What the file held at one time.
pub(super) struct Version {
    identity: Stat,
    format: u64,
    foreign: usize,
    records: Arc<Records>,
    /// For the one who changes it; `None` once somebody does.
    document: Mutex<Option<Document>>,
    /// Open for as long as the version is kept: its inode number belongs to no other file meanwhile.
    file: Box<dyn DiskFile>,
}

/// Whether a file that was `before` in a folder under one name, and is `after` under another, holds what it held.
pub(super) fn was_not_touched(before: &Stat, after: &Stat) -> bool {
    // A rename changes the ctime, and only that.
    *before == Stat { changed: before.changed, ..*after }
}

// === impl Cache ===

impl Cache {
    /// What is `wanted` of the version that is kept, if the file is still the one that it is of.
    pub(super) fn get<T>(&self, identity: &Stat, wanted: impl FnOnce(&Arc<Version>) -> T) -> Option<T> {
        let version = self.version.read().unwrap_or_else(PoisonError::into_inner);
        version.as_ref().filter(|version| version.identity == *identity).map(wanted)
    }

    /// Keeps `version` in place of the one before.
    pub(super) fn put(&self, version: Arc<Version>) {
        drop(self.replace(Some(version)));
    }

    /// Keeps nothing.
    pub(super) fn clear(&self) {
        drop(self.replace(None));
    }

    /// Keeps nothing, and hands over the file of the version that was kept, if nobody else looks at that.
    pub(super) fn retire(&self) -> Option<Box<dyn DiskFile>> {
        Some(Arc::into_inner(self.replace(None)?)?.file)
    }

    /// One thread makes out a new version, and those that wanted it too then find it.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who drops what was kept does so after the lock: overwriting the secrets of a large file takes a while.
    fn replace(&self, version: Option<Arc<Version>>) -> Option<Arc<Version>> {
        let mut kept = self.version.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *kept, version)
    }
}

// === impl Version ===

impl Version {
    /// Of `document`, which `file` held when it had this `identity`.
    pub(super) fn new(identity: Stat, document: Document, file: Box<dyn DiskFile>) -> Self {
        Self {
            identity,
            format: document.version(),
            foreign: document.foreign(),
            records: document.records().clone(),
            document: Mutex::new(Some(document)),
            file,
        }
    }

    /// The number in the text's `version`.
    pub(super) fn format(&self) -> u64 {
        self.format
    }

    /// How many sessions and other members are of tenants that this version does not know.
    pub(super) fn foreign(&self) -> usize {
        self.foreign
    }

    /// All records.
    pub(super) fn records(&self) -> Arc<Records> {
        self.records.clone()
    }

    /// The document, for who is about to change it; `None` if somebody has it.
    pub(super) fn take(&self) -> Option<Document> {
        self.document().take()
    }

    /// Takes the document back, unchanged.
    pub(super) fn give_back(&self, document: Document) {
        *self.document() = Some(document);
    }

    fn document(&self) -> MutexGuard<'_, Option<Document>> {
        self.document.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
