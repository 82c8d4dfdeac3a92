//! The file store's blocking part: find the file, lock it, read it, replace it.
//!
//! # Who holds what, from where to where
//!
//! A reader takes no lock. rename(2) replaces the file as a whole, so what it opened is one whole version, old or new.
//!
//! A writer ([`Location::lock_global`], then [`StoreFile::change_all`]) goes through these steps, and may die at each:
//!
//! 1. *Resolve the path, open `global.lock`, wait for it* ([`Location::lock_global`]). Dying here leaves an empty sidecar.
//! 2. *Resolve again, under the lock.* The same file: everybody who resolves it now meets at this lock. Another: the
//!    lock is let go and the search starts over. The lock file itself was removed meanwhile: likewise.
//! 3. *Know what the file holds, decide, put the changes into its text.* The lock is held; nothing on the disk is changed. A file that is
//!    the one read or written last is not read again: [`super::cache`] says why that is the same.
//! 4. *Write the whole new text to a temp file* of a new name, *and fsync it*. Dying here leaves it behind; the next writer, which alone holds the
//!    lock, removes it.
//! 5. *rename.* Before it the store is the old one, after it the new one; there is no third state. What was written is now what this
//!    process knows of the file.
//! 6. *fsync the folder.* Only now the rename survives a power cut, and only now anybody is told. If this fails, or the rename
//!    fails and took effect all the same, the caller gets an error although readers see the new version; `unsettled` makes the
//!    next change write the file once more, even if that change has nothing to change, so that nobody is told of a state that
//!    could still be undone. Where there is nothing to write, this step is done all the same: another process may have died
//!    before its own.
//! 7. *Unlock*, by [`GlobalGuard`]'s drop, or by the kernel. The file before is closed after that, and after the answers: only then does the disk
//!    free it.
//!
//! Changes of one process that wait for step 1 together go through the other steps together: see [`super::group_commit`].
//!
//! The tenants' locks are taken before the global one, never while it is held, and by whoever goes to the network;
//! the global lock never is held during anything slower than steps 2 to 6. See [`super::locked_journal`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Records, StoreError,
    cache::{Cache, Version, was_not_touched},
    codec,
    codec::{Document, Encoded},
    error::{failed, unsuitable},
    find_session,
    location::{FileStoreOptions, Location, cannot_replace, check_private},
    lock_files::GlobalGuard,
    paths::Paths,
};
use crate::{
    ids::Tenant,
    session::{Applied, Changed, Session, Update, apply},
    sys::{
        clock::Clock,
        disk::{Disk, DiskFile, Open, Stat},
    },
};

/// The longest store file, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

pub(super) struct StoreFile {
    pub(super) location: Arc<Location>,
    clock: Clock,
    unsettled: AtomicBool,
    cache: Cache,
}

/// A file that is open, and what it was before anything of it was read.
type Opened = (Box<dyn DiskFile>, Stat);

/// What became of changes that shared a write.
pub(super) struct Committed {
    pub(super) changed: Vec<Changed>,
    /// What the store was before. The disk frees it when this is dropped, for which nobody has to wait.
    pub(super) _replaced: Option<Box<dyn DiskFile>>,
}

impl StoreFile {
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf, clock: Clock, options: FileStoreOptions) -> Self {
        let location = Arc::new(Location { disk, path, options });
        Self { location, clock, unsettled: AtomicBool::new(false), cache: Cache::default() }
    }

    /// The records as they are now, if the file is still the one that is kept. One stat(2).
    pub(super) fn current(&self) -> Option<Arc<Records>> {
        self.kept(&self.location.path, |version| version.records())
    }

    /// The records as they are now.
    pub(super) fn records(&self) -> Result<Arc<Records>, StoreError> {
        match self.current() {
            Some(records) => Ok(records),
            None => Ok(self
                .version(&self.location.locate()?)?
                .map(|version| version.records())
                .unwrap_or_default()),
        }
    }

    /// The version that is there now: the one that is kept, or else read, checked in whole, and kept; `None` if there is no store.
    fn version(&self, paths: &Paths) -> Result<Option<Arc<Version>>, StoreError> {
        let _turn = self.cache.turn();
        if let Some(version) = self.kept(&paths.file, Arc::clone) {
            return Ok(Some(version));
        }
        let Some((file, identity)) = self.open(paths)? else { return Ok(None) };
        let version = Arc::new(Version::new(identity, decode(paths, &*file)?, file));
        if !self.location.options.trust_filesystem {
            self.cache.put(version.clone());
        }
        Ok(Some(version))
    }

    /// What is wanted of the version that is kept, if it is the one that is there now.
    fn kept<T>(&self, path: &Path, wanted: impl FnOnce(&Arc<Version>) -> T) -> Option<T> {
        if self.location.options.trust_filesystem {
            return None;
        }
        self.cache.get(&self.location.disk.stat(path).ok()?, wanted)
    }

    /// One tenant's session as it is now, if it can be told without reading all of the file's records.
    pub(super) fn find_session(&self, tenant: &Tenant) -> Option<Session> {
        let (file, stat) = self.open(&self.location.locate().ok()?).ok()??;
        let window = usize::try_from(stat.len).ok()?.min(find_session::WINDOW);
        find_session::session(|offset, bytes| file.read_at(offset, bytes), window, tenant)
    }

    /// Applies `changes`, in this order, with one write; all are durable when it returns.
    pub(super) fn change_all(
        &self,
        guard: &GlobalGuard,
        updates: Vec<(Tenant, Update)>,
    ) -> Result<Committed, StoreError> {
        let (version, mut document) = self.document(guard)?;
        let now = self.clock.now();
        let mut change = |(tenant, update): (Tenant, Update)| {
            let before = document.entry(&tenant);
            let mut after = before.clone();
            let applied = apply(&mut after, update, now);
            if applied == Applied::Done {
                document.put(&tenant, after.clone());
            }
            Changed { applied, before, after }
        };
        let changed: Vec<_> = updates.into_iter().map(&mut change).collect();
        let mut replaced = None;
        if changed.iter().any(|one| one.applied == Applied::Done) || self.unsettled.load(Ordering::SeqCst) {
            drop(version);
            document.sweep(now);
            // Whatever the step at which it failed: the next one begins with the file.
            replaced = self.write(guard, document).inspect_err(|_| self.cache.clear())?;
        } else {
            if let Some(version) = version {
                version.give_back(document);
            }
            // Who brought the file into this state may have died between the rename and this. The answer rests on it.
            self.location.sync_folder(&guard.paths)?;
        }
        Ok(Committed { changed, _replaced: replaced })
    }

    /// The document to change, with the version that it is of. Who holds the global lock is alone with it.
    fn document(&self, guard: &GlobalGuard) -> Result<(Option<Arc<Version>>, Document), StoreError> {
        loop {
            let Some(version) = self.version(&guard.paths)? else { return Ok((None, Document::empty())) };
            if let Some(document) = version.take() {
                return Ok((Some(version), document));
            }
            // Whoever took it did not come back, and what is read anew is whole.
            self.cache.clear();
        }
    }

    /// Opens the store, if it is there and private, and says what it is before anything of it is read.
    fn open(&self, paths: &Paths) -> Result<Option<Opened>, StoreError> {
        let Paths { file: path, folder } = paths;
        let file = match self.location.disk.open(path, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot read", path)(error)),
        };
        let stat = file.stat().map_err(failed("cannot read", path))?;
        check_file(path, &stat)?;
        self.location.check_folder(folder)?;
        Ok(Some((file, stat)))
    }

    /// Replaces the store, and hands over what it was. The guard says that nobody else is about to.
    fn write(
        &self,
        guard: &GlobalGuard,
        document: Document,
    ) -> Result<Option<Box<dyn DiskFile>>, StoreError> {
        let paths = &guard.paths;
        let path = &paths.file;
        check_version(path, document.version())?;
        self.location.check_replaceable(paths)?;
        let encoded = document.encode();
        if encoded.text().len() as u64 > MAX_FILE {
            return unsuitable(
                path,
                format!("it would grow beyond {MAX_FILE} bytes; log out tenants that are gone"),
            );
        }
        self.remove_leftovers(paths);
        self.location.settle_folders(paths)?;
        let temp = paths.temp();
        let written = self
            .location
            .write_temp(&temp, encoded.text())
            .map_err(failed("cannot write", &temp))
            .and_then(|file| self.replace(path, &temp, file, encoded));
        let replaced = written.inspect_err(|_| {
            // Best effort: if it fails as well, the next writer removes the file.
            let _ = self.location.disk.remove(&temp);
        })?;
        self.location.sync_folder(paths)?;
        self.unsettled.store(false, Ordering::SeqCst);
        Ok(replaced)
    }

    /// Puts the temp file in the store's place, and keeps what it holds: who reads from now on need not.
    fn replace(
        &self,
        path: &Path,
        temp: &Path,
        file: Box<dyn DiskFile>,
        encoded: Encoded,
    ) -> Result<Option<Box<dyn DiskFile>>, StoreError> {
        let before = file.stat();
        let _turn = self.cache.turn();
        // Also if it fails: it may have taken effect all the same.
        self.unsettled.store(true, Ordering::SeqCst);
        self.location.disk.rename(temp, path).map_err(|error| cannot_replace(path, error))?;
        // The records of the version before are shared with it; without it they need not be copied to be changed.
        let replaced = self.cache.retire();
        if let (Ok(before), Ok(identity), false) =
            (before, file.stat(), self.location.options.trust_filesystem)
            && was_not_touched(&before, &identity)
        {
            self.cache.put(Arc::new(Version::new(identity, encoded.settle(), file)));
        }
        Ok(replaced)
    }

    /// Removes temp files of writers that died. Only the holder of the global lock may have one.
    fn remove_leftovers(&self, paths: &Paths) {
        for name in self.location.disk.list(&paths.folder).unwrap_or_default() {
            if paths.is_temp(&name) {
                let _ = self.location.disk.remove(&paths.folder.join(name));
            }
        }
    }

    /// Whether a write would succeed, as far as can be said before it.
    pub(super) fn check_writable(&self, paths: &Paths) -> Result<(), StoreError> {
        self.location.check_folder(&paths.folder)?;
        self.location.check_file_system(paths)?;
        self.location.disk.check_writable(&paths.folder).map_err(failed("cannot write in", &paths.folder))?;
        self.writable(paths).map(drop)
    }

    /// The store, if it is one that this version may replace.
    pub(super) fn writable(&self, paths: &Paths) -> Result<Option<Arc<Version>>, StoreError> {
        self.location.check_replaceable(paths)?;
        let version = self.version(paths)?;
        if let Some(version) = &version {
            check_version(&paths.file, version.format())?;
        }
        Ok(version)
    }
}

fn decode(paths: &Paths, file: &dyn DiskFile) -> Result<Document, StoreError> {
    let text = file.read(MAX_FILE + 1).map_err(failed("cannot read", &paths.file))?;
    Document::decode(&paths.file, text)
}

fn check_version(path: &Path, version: u64) -> Result<(), StoreError> {
    if version > codec::VERSION {
        return Err(StoreError::Newer { path: path.into(), version });
    }
    Ok(())
}

fn check_file(path: &Path, stat: &Stat) -> Result<(), StoreError> {
    if !stat.is_file {
        return unsuitable(
            path,
            "this is not a regular file; store.path names the file, auth.json for example",
        );
    }
    check_private(path, stat)?;
    if stat.len > MAX_FILE {
        return unsuitable(path, format!("it is longer than {MAX_FILE} bytes, which no store is"));
    }
    Ok(())
}
