//! The file store's blocking part: find the file, lock it, read it, replace it.
//!
//! # Who holds what, from where to where
//!
//! A reader takes no lock. rename(2) replaces the file as a whole, so what it opened is one whole version, old or new.
//!
//! A writer ([`Core::lock_global`], then [`Core::change_all`]) goes through these steps, and may die at each:
//!
//! 1. *Resolve the path, open `global.lock`, wait for it* ([`Core::lock_global`]). Dying here leaves an empty sidecar.
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
//! Changes of one process that wait for step 1 together go through the other steps together: see [`super::queue`].
//!
//! The tenants' locks are taken before the global one, never while it is held, and by whoever goes to the network;
//! the global lock never is held during anything slower than steps 2 to 6. See [`super::tenant_lock`].

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    FileStoreOptions, Purpose, Records, StoreError,
    cache::{Cache, Version, was_not_touched},
    codec,
    codec::{Document, Encoded},
    glance,
    place::Place,
    tenant_lock::Held,
};
use crate::{
    ids::Tenant,
    session::{Applied, Change, Session, apply},
    sys::{
        clock::Clock,
        disk::{Disk, DiskFile, Open, Stat},
        lock::{Lock, Mode},
    },
};

/// The longest store file, in bytes.
pub(super) const MAX_FILE: u64 = 64 * 1024 * 1024;

/// How often a search starts over because the path leads elsewhere each time.
const MAX_SEARCHES: u32 = 8;

pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) options: FileStoreOptions,
    unsettled: AtomicBool,
    cache: Cache,
}

/// A sidecar, open and not locked.
pub(super) type LockFile = (PathBuf, Box<dyn DiskFile>);

/// A file that is open, and what it was before anything of it was read.
type Opened = (Box<dyn DiskFile>, Stat);

/// The global lock of the store at `place`, held.
pub(super) struct GlobalGuard {
    place: Place,
    _lock: Lock,
}

/// What became of changes that shared a write.
pub(super) struct Committed {
    pub(super) applied: Vec<Applied>,
    /// What the store was before. The disk frees it when this is dropped, for which nobody has to wait.
    pub(super) _replaced: Option<Box<dyn DiskFile>>,
}

/// `error` with what was tried on which path.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { action, path: path.into(), source }
}

pub(super) fn unsuitable<T>(path: &Path, what: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Unsuitable { path: path.into(), what: what.into() })
}

impl Core {
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf, clock: Clock, options: FileStoreOptions) -> Self {
        Self { disk, path, clock, options, unsettled: AtomicBool::new(false), cache: Cache::default() }
    }

    /// The records as they are now, if the file is still the one that is kept. One stat(2).
    pub(super) fn current(&self) -> Option<Arc<Records>> {
        self.kept(&self.path, |version| version.records())
    }

    /// The records as they are now.
    pub(super) fn records(&self) -> Result<Arc<Records>, StoreError> {
        match self.current() {
            Some(records) => Ok(records),
            None => Ok(self.version(&self.locate()?)?.map(|version| version.records()).unwrap_or_default()),
        }
    }

    /// The version that is there now: the one that is kept, or else read, checked in whole, and kept; `None` if there is no store.
    fn version(&self, place: &Place) -> Result<Option<Arc<Version>>, StoreError> {
        let _turn = self.cache.turn();
        if let Some(version) = self.kept(&place.file, Arc::clone) {
            return Ok(Some(version));
        }
        let Some((file, identity)) = self.open(place)? else { return Ok(None) };
        let version = Arc::new(Version::new(identity, decode(place, &*file)?, file));
        if !self.options.trust_filesystem {
            self.cache.put(version.clone());
        }
        Ok(Some(version))
    }

    /// What is wanted of the version that is kept, if it is the one that is there now.
    fn kept<T>(&self, path: &Path, wanted: impl FnOnce(&Arc<Version>) -> T) -> Option<T> {
        if self.options.trust_filesystem {
            return None;
        }
        self.cache.get(&self.disk.stat(path).ok()?, wanted)
    }

    /// One tenant's session as it is now, if it can be told without reading all of the file's records.
    pub(super) fn glance(&self, tenant: &Tenant) -> Option<Session> {
        let (file, stat) = self.open(&self.locate().ok()?).ok()??;
        let window = usize::try_from(stat.len).ok()?.min(glance::WINDOW);
        glance::session(|offset, bytes| file.read_at(offset, bytes), window, tenant)
    }

    /// Applies `changes`, in this order, with one write; all are durable when it returns.
    pub(super) fn change_all(
        &self,
        guard: &GlobalGuard,
        changes: Vec<(Tenant, Change)>,
    ) -> Result<Committed, StoreError> {
        let (version, mut document) = self.document(guard)?;
        let now = self.clock.now();
        let mut change = |(tenant, change): (Tenant, Change)| {
            let mut entry = document.entry(&tenant);
            let applied = apply(&mut entry, change, now);
            if applied == Applied::Done {
                document.put(&tenant, entry);
            }
            applied
        };
        let applied: Vec<_> = changes.into_iter().map(&mut change).collect();
        let mut replaced = None;
        if applied.contains(&Applied::Done) || self.unsettled.load(Ordering::SeqCst) {
            drop(version);
            document.sweep(now);
            // Whatever the step at which it failed: the next one begins with the file.
            replaced = self.write(guard, document).inspect_err(|_| self.cache.clear())?;
        } else {
            if let Some(version) = version {
                version.give_back(document);
            }
            // Who brought the file into this state may have died between the rename and this. The answer rests on it.
            self.sync_folder(&guard.place)?;
        }
        Ok(Committed { applied, _replaced: replaced })
    }

    /// The document to change, with the version that it is of. Who holds the global lock is alone with it.
    fn document(&self, guard: &GlobalGuard) -> Result<(Option<Arc<Version>>, Document), StoreError> {
        loop {
            let Some(version) = self.version(&guard.place)? else { return Ok((None, Document::empty())) };
            if let Some(document) = version.take() {
                return Ok((Some(version), document));
            }
            // Whoever took it did not come back, and what is read anew is whole.
            self.cache.clear();
        }
    }

    /// Takes the tenant's lock if nobody has it, and if what comes of holding it could be saved: nothing is spent for
    /// a store that cannot be written.
    pub(super) fn try_lock(
        self: &Arc<Self>,
        tenant: &Tenant,
        purpose: Purpose,
    ) -> Result<Option<Held>, StoreError> {
        for _ in 0..MAX_SEARCHES {
            let place = self.locate()?;
            self.make_folder(&place.folder)?;
            self.check_writable(&place)?;
            self.make_folder(&place.tenant_locks())?;
            let path = place.tenant_lock(tenant, purpose);
            let file = self.open_lock(&path)?;
            let Some(lock) = Lock::try_exclusive(file).map_err(failed("cannot lock", &path))? else {
                return Ok(None);
            };
            if self.still_there(&place, &path, &lock)? {
                return Ok(Some(Held { core: self.clone(), place, path, lock }));
            }
        }
        unsuitable(&self.path, "it leads to another file each time it is followed; let it stay one")
    }

    /// The file to wait on for a tenant's lock; `None` if nobody ever took it. Needs no write permission.
    pub(super) fn open_to_wait(&self, tenant: &Tenant) -> Result<Option<LockFile>, StoreError> {
        let path = self.locate()?.tenant_lock(tenant, Purpose::Refresh);
        match self.disk.open(&path, Open::Read) {
            Ok(file) => Ok(Some((path, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("cannot open", &path)(error)),
        }
    }

    /// The lock file of the one process that talks to Discord.
    pub(super) fn open_bot_lock(&self) -> Result<LockFile, StoreError> {
        let place = self.locate()?;
        self.make_folder(&place.folder)?;
        self.check_folder(&place.folder)?;
        let path = place.bot_lock();
        let file = self.open_lock(&path)?;
        Ok((path, file))
    }

    /// Where the path leads now.
    pub(super) fn locate(&self) -> Result<Place, StoreError> {
        Place::resolve(&*self.disk, &self.path).map_err(failed("cannot find", &self.path))
    }

    /// Refuses a file system on which locks may exclude nobody, unless it is trusted.
    pub(super) fn check_file_system(&self, place: &Place) -> Result<(), StoreError> {
        if self.options.trust_filesystem {
            return Ok(());
        }
        let folder = self.nearest(&place.folder);
        let found = self.disk.file_system(folder).map_err(failed("cannot examine", folder))?;
        if found.locks_hold {
            return Ok(());
        }
        unsuitable(
            &place.folder,
            format!(
                "it is on {}, where file locks may not exclude other machines, and then a refresh token is spent twice: \
                 put the store on a local disk (ext4, xfs, btrfs, zfs, apfs), or, if you know that flock excludes there, \
                 set store.trust_filesystem = true",
                found.name
            ),
        )
    }

    /// The first folder from `folder` upwards that is there.
    pub(super) fn nearest<'a>(&self, folder: &'a Path) -> &'a Path {
        folder.ancestors().find(|path| self.disk.stat(path).is_ok()).unwrap_or(folder)
    }

    /// Opens the store, if it is there and private, and says what it is before anything of it is read.
    fn open(&self, place: &Place) -> Result<Option<Opened>, StoreError> {
        let Place { file: path, folder } = place;
        let file = match self.disk.open(path, Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot read", path)(error)),
        };
        let stat = file.stat().map_err(failed("cannot read", path))?;
        check_file(path, &stat)?;
        self.check_folder(folder)?;
        Ok(Some((file, stat)))
    }

    /// Takes the global lock, for as long as it takes.
    pub(super) fn lock_global(&self) -> Result<GlobalGuard, StoreError> {
        for _ in 0..MAX_SEARCHES {
            let place = self.locate()?;
            self.make_folder(&place.folder)?;
            self.check_folder(&place.folder)?;
            self.check_file_system(&place)?;
            let path = place.global_lock();
            let lock = Lock::acquire(self.open_lock(&path)?, Mode::Exclusive)
                .map_err(failed("cannot lock", &path))?;
            if self.still_there(&place, &path, &lock)? {
                return Ok(GlobalGuard { place, _lock: lock });
            }
        }
        unsuitable(&self.path, "it leads to another file each time it is followed; let it stay one")
    }

    /// Replaces the store, and hands over what it was. The guard says that nobody else is about to.
    fn write(
        &self,
        guard: &GlobalGuard,
        document: Document,
    ) -> Result<Option<Box<dyn DiskFile>>, StoreError> {
        let place = &guard.place;
        let path = &place.file;
        check_version(path, document.version())?;
        self.check_replaceable(place)?;
        let encoded = document.encode();
        if encoded.text().len() as u64 > MAX_FILE {
            return unsuitable(
                path,
                format!("it would grow beyond {MAX_FILE} bytes; log out tenants that are gone"),
            );
        }
        self.remove_leftovers(place);
        self.settle_folders(place)?;
        let temp = place.temp();
        let written = self
            .write_temp(&temp, encoded.text())
            .map_err(failed("cannot write", &temp))
            .and_then(|file| self.replace(path, &temp, file, encoded));
        let replaced = written.inspect_err(|_| {
            // Best effort: if it fails as well, the next writer removes the file.
            let _ = self.disk.remove(&temp);
        })?;
        self.sync_folder(place)?;
        self.unsettled.store(false, Ordering::SeqCst);
        Ok(replaced)
    }

    /// Makes the rename that brought the store there durable.
    pub(super) fn sync_folder(&self, place: &Place) -> Result<(), StoreError> {
        let folder = &place.folder;
        self.disk.sync_folder(folder).map_err(failed("cannot make durable what is in", folder))
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
        self.disk.rename(temp, path).map_err(|error| cannot_replace(path, error))?;
        // The records of the version before are shared with it; without it they need not be copied to be changed.
        let replaced = self.cache.retire();
        if let (Ok(before), Ok(identity), false) = (before, file.stat(), self.options.trust_filesystem)
            && was_not_touched(&before, &identity)
        {
            self.cache.put(Arc::new(Version::new(identity, encoded.settle(), file)));
        }
        Ok(replaced)
    }

    pub(super) fn write_temp(&self, temp: &Path, text: &[u8]) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(temp, Open::CreateNew)?;
        file.write_at(0, text)?;
        file.sync()?;
        Ok(file)
    }

    /// Removes temp files of writers that died. Only the holder of the global lock may have one.
    fn remove_leftovers(&self, place: &Place) {
        for name in self.disk.list(&place.folder).unwrap_or_default() {
            if place.is_temp(&name) {
                let _ = self.disk.remove(&place.folder.join(name));
            }
        }
    }

    /// Whether a write would succeed, as far as can be said before it.
    fn check_writable(&self, place: &Place) -> Result<(), StoreError> {
        self.check_folder(&place.folder)?;
        self.check_file_system(place)?;
        self.disk.check_writable(&place.folder).map_err(failed("cannot write in", &place.folder))?;
        self.writable(place).map(drop)
    }

    /// The store, if it is one that this version may replace.
    pub(super) fn writable(&self, place: &Place) -> Result<Option<Arc<Version>>, StoreError> {
        self.check_replaceable(place)?;
        let version = self.version(place)?;
        if let Some(version) = &version {
            check_version(&place.file, version.format())?;
        }
        Ok(version)
    }

    fn check_replaceable(&self, place: &Place) -> Result<(), StoreError> {
        let path = &place.file;
        let stat = match self.disk.stat(path) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed("cannot examine", path)(error)),
        };
        if stat.links > 1 {
            return unsuitable(
                path,
                format!(
                    "the file has {} names (hard links); replacing it under one would leave the others with spent tokens: \
                     remove the other names, or make them symlinks",
                    stat.links
                ),
            );
        }
        // Where this cannot be told (statx missing or filtered), rename says so.
        if self.disk.is_mount_point(path).unwrap_or(false) {
            return unsuitable(path, MOUNTED_FILE);
        }
        Ok(())
    }

    pub(super) fn check_folder(&self, folder: &Path) -> Result<(), StoreError> {
        let stat = self.disk.stat(folder).map_err(failed("cannot examine", folder))?;
        if stat.mode & 0o022 != 0 {
            return Err(StoreError::Permissions { path: folder.into(), mode: stat.mode, wanted: 0o700 });
        }
        Ok(())
    }

    /// Makes `folder` and what is missing above it, durably, for its owner alone.
    fn make_folder(&self, folder: &Path) -> Result<(), StoreError> {
        if self.disk.stat(folder).is_ok() {
            return Ok(());
        }
        let Some(parent) = folder.parent() else { return Ok(()) };
        self.make_folder(parent)?;
        match self.disk.create_folder(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("cannot make", folder)(error));
            }
            _ => {}
        }
        self.disk.sync_folder(parent).map_err(failed("cannot make durable what is in", parent))
    }

    /// Before the first version of a store is there: makes durable the folders that it is in. Whoever made them may have died
    /// before they were, or be about to do so. Where there is a store, somebody has been through this.
    fn settle_folders(&self, place: &Place) -> Result<(), StoreError> {
        if self.disk.stat(&place.file).is_ok() {
            return Ok(());
        }
        let examine = |path: &Path| self.disk.stat(path).map_err(failed("cannot examine", path));
        let device = examine(&place.folder)?.device;
        for folder in place.folder.ancestors().skip(1) {
            // What is mounted was not made by a store; nor was anything above it.
            if examine(folder)?.device != device {
                break;
            }
            match self.disk.sync_folder(folder) {
                // Nobody makes a folder durably in one that they may not read: it was there before.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result.map_err(failed("cannot make durable what is in", folder))?,
            }
        }
        Ok(())
    }

    /// Opens a sidecar, made 0600 if it is not there.
    pub(super) fn open_lock(&self, path: &Path) -> Result<Box<dyn DiskFile>, StoreError> {
        let file = self.disk.open(path, Open::ReadWrite).map_err(failed("cannot open", path))?;
        let stat = file.stat().map_err(failed("cannot open", path))?;
        check_private(path, &stat)?;
        Ok(file)
    }

    /// Whether the path still leads to `place`, and `lock` is still the lock there.
    fn still_there(&self, place: &Place, path: &Path, lock: &Lock) -> Result<bool, StoreError> {
        let ours = lock.file().stat().map_err(failed("cannot examine", path))?;
        let same = match self.disk.stat(path) {
            Ok(stat) => stat.is_same_file(&ours),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed("cannot examine", path)(error)),
        };
        Ok(same && self.locate()? == *place)
    }
}

const MOUNTED_FILE: &str = "the file itself is a mount (a single file that is bind-mounted into a container), so it cannot be replaced: mount its \
                            folder instead";

fn cannot_replace(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices => {
            StoreError::Unsuitable { path: path.into(), what: MOUNTED_FILE.into() }
        }
        _ => failed("cannot replace", path)(error),
    }
}

fn decode(place: &Place, file: &dyn DiskFile) -> Result<Document, StoreError> {
    let text = file.read(MAX_FILE + 1).map_err(failed("cannot read", &place.file))?;
    Document::decode(&place.file, text)
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

fn check_private(path: &Path, stat: &Stat) -> Result<(), StoreError> {
    if stat.mode & 0o077 != 0 {
        return Err(StoreError::Permissions { path: path.into(), mode: stat.mode, wanted: 0o600 });
    }
    Ok(())
}
