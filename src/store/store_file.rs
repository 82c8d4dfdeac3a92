//! The file store's blocking part: find the file, lock it, read it, replace it.
//!
//! # Which lock is held from where to where
//!
//! A reader takes no lock. rename(2) replaces the file as a whole, so an open file is one whole
//! version, old or new.
//!
//! A writer ([`Location::lock_global`], then [`StoreFile::change_all`]) goes through these steps,
//! and may die at each:
//!
//! 1. *Resolve the path, open `global.lock`, wait for it* ([`Location::lock_global`]). Dying here
//!    leaves an empty lock file.
//! 2. *Resolve again, under the lock.* If the path leads to the same file, every process that
//!    resolves it now meets at this lock. If it leads to another file, or the lock file itself was
//!    removed meanwhile, the lock is released and the search starts over.
//! 3. *Find out the content of the file, decide, compose the new text.* The lock is held, and
//!    nothing on the disk is changed. A file that is the one read or written last is not read
//!    again: [`super::cache`] has the argument why that is the same.
//! 4. *Write the whole new text to a temp file* of a new name, *and fsync it*. Dying here leaves
//!    the temp file. The next writer removes it, because only the holder of the lock may have one.
//! 5. *rename.* Before it the store is the old one, after it the new one; there is no third state.
//!    From now on this process knows the new text as the content of the file.
//! 6. *fsync the folder.* Only now the rename survives a power cut, and only now a caller gets its
//!    result. If this fails, or the rename fails and took effect all the same, the caller gets an
//!    error although readers see the new version. Then `unsettled` makes the next change write the
//!    file once more, even if that change has nothing to change, so that no result rests on a state
//!    that could still be undone. Where there is nothing to write, this step is done all the same:
//!    another process may have died before its own.
//! 7. *Remove the unread answers* of the sessions that were refreshed, replaced or logged out.
//!    Dying here leaves such a file; the next change of that session removes it.
//! 8. *Unlock*, by the drop of [`GlobalGuard`], or by the kernel. The snapshot before is dropped
//!    after that, and after the results are sent: only then is its text zeroed, and the old file
//!    freed by the disk.
//!
//! Changes of one process that wait for step 1 together go through the other steps together: see
//! [`super::group_commit`].
//!
//! A tenant's lock is taken before the global one, never while that is held, and by the task that
//! goes to the network. The global lock is never held during anything slower than steps 2 to 7. See
//! [`super::locked_journal`].

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    Clients, Records, StoreError,
    cache::{Cache, Snapshot, was_not_touched},
    clients_in_use,
    codec::{self, ChangedRecords, Document, Revised},
    error::{failed, unsuitable},
    find_session,
    location::{FileStoreOptions, Location, cannot_replace, check_private},
    lock_files::GlobalGuard,
    paths::Paths,
    section::sweep,
};
use crate::{
    ids::{Tenant, UnixTime},
    session::{Applied, Change, Changed, ClientSweep, RegisteredClient, Session, Update, apply},
    sys::{
        clock::Clock,
        disk::{Disk, DiskFile, Open, Stat},
    },
};

/// The longest store file, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// The most clients that no record is bound to. A server names as many issuers as it likes, and each may
/// get a client.
const MAX_UNUSED: usize = 64;

pub(super) struct StoreFile {
    pub(super) location: Arc<Location>,
    clock: Clock,
    unsettled: AtomicBool,
    cache: Cache,
    /// The zeroed buffer of a replaced text. Without it each commit in a large store would wait for
    /// the kernel to map new memory.
    spare: Mutex<Zeroizing<String>>,
}

/// An open file, and its state before anything of it was read.
type Opened = (Box<dyn DiskFile>, Stat);

/// The results of updates that shared a write.
pub(super) struct Committed {
    pub(super) changed: Vec<Changed>,
    /// The replaced snapshot, for [`StoreFile::retire`].
    pub(super) replaced: Option<Arc<Snapshot>>,
}

impl StoreFile {
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf, clock: Clock, options: FileStoreOptions) -> Self {
        let location = Arc::new(Location { disk, path, options });
        Self {
            location,
            clock,
            unsettled: AtomicBool::new(false),
            cache: Cache::default(),
            spare: Mutex::default(),
        }
    }

    /// Returns the present records, if the file is still the cached one. Costs one stat(2).
    pub(super) fn current(&self) -> Option<Arc<Records>> {
        self.cached(&self.location.path, |snapshot| snapshot.records())
    }

    /// Returns the present records.
    pub(super) fn records(&self) -> Result<Arc<Records>, StoreError> {
        if let Some(records) = self.current() {
            return Ok(records);
        }
        let snapshot = self.snapshot(&self.location.locate()?)?;
        Ok(snapshot.map(|snapshot| snapshot.records()).unwrap_or_default())
    }

    /// Returns the present snapshot: the cached one, or one that is read, checked in whole, and
    /// cached. `None` if there is no store.
    fn snapshot(&self, paths: &Paths) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let _turn = self.cache.turn();
        if let Some(snapshot) = self.cached(&paths.file, Arc::clone) {
            return Ok(Some(snapshot));
        }
        let Some((file, identity)) = self.open(paths)? else { return Ok(None) };
        let document = Document::decode(&paths.file, read(paths, &*file)?)?;
        let snapshot = Arc::new(Snapshot { identity, document, _file: file });
        if !self.location.options.trust_filesystem {
            self.cache.put(Some(snapshot.clone()));
        }
        Ok(Some(snapshot))
    }

    /// Applies `wanted` to the cached snapshot, if it is the present one.
    fn cached<T>(&self, path: &Path, wanted: impl FnOnce(&Arc<Snapshot>) -> T) -> Option<T> {
        if self.location.options.trust_filesystem {
            return None;
        }
        self.cache.get(&self.location.disk.stat(path).ok()?, wanted)
    }

    /// Returns one tenant's present session, if it can be found without reading all records.
    pub(super) fn find_session(&self, tenant: &Tenant) -> Option<Session> {
        let paths = self.location.locate().ok()?;
        let (file, stat) = self.open(&paths).ok()??;
        let read_at = |offset, bytes: &mut [u8]| file.read_at(offset, bytes);
        find_session::find_session(read_at, stat.len, find_session::WINDOW, tenant)
    }

    /// Applies `updates`, in this order, with one write. All are durable when it returns.
    pub(super) fn change_all(
        &self,
        guard: &GlobalGuard,
        updates: Vec<(Tenant, Update)>,
    ) -> Result<Committed, StoreError> {
        let snapshot = self.snapshot(&guard.paths)?;
        let document = snapshot.as_ref().map_or(Document::empty(), |snapshot| &snapshot.document);
        let now = self.clock.now();
        let mut new = ChangedRecords::default();
        let mut update = |tenant: &Tenant, update| {
            let before = new.entry(document, tenant);
            let mut after = before.clone();
            let applied = apply(&mut after, update, now);
            if applied == Applied::Done {
                new.put(tenant, after.clone());
            }
            Changed { applied, before, after }
        };
        let (origins, mut changed): (Vec<_>, Vec<_>) = updates
            .into_iter()
            .map(|(tenant, of)| {
                let is_settlement = matches!(of, Update::Settlement(_));
                let changed = update(&tenant, of);
                ((tenant, is_settlement), changed)
            })
            .unzip();
        let mut replaced = None;
        if changed.iter().any(|one| one.applied == Applied::Done) || self.unsettled.load(Ordering::SeqCst) {
            new.sweep(document, now);
            for one in &mut changed {
                sweep(&mut one.after, now);
            }
            // Whichever step of a write fails, the next change begins with the file.
            replaced = self.write(guard, snapshot, new).inspect_err(|_| self.cache.put(None))?;
        } else {
            // The process that brought the file into this state may have died between its rename
            // and its fsync. The results rest on that state.
            self.location.sync_folder(&guard.paths)?;
        }
        self.remove_unread(&guard.paths, &origins, &changed);
        Ok(Committed { changed, replaced })
    }

    /// Removes the sessions that ended before this time, with one write. Returns their tenants.
    pub(super) fn sweep(
        &self,
        guard: &GlobalGuard,
        ended_before: UnixTime,
    ) -> Result<Vec<Tenant>, StoreError> {
        let now = self.clock.now();
        let records = match self.snapshot(&guard.paths)? {
            Some(snapshot) => snapshot.records(),
            None => return Ok(Vec::new()),
        };
        let due = records.iter().filter_map(|(tenant, entry)| {
            let change = Change::Sweep { lineage: entry.session.as_ref()?.lineage, ended_before };
            // A rehearsal: most sessions are live, and none of those belongs into the write.
            (apply(&mut entry.clone(), change.clone(), now) == Applied::Done)
                .then(|| (tenant.clone(), change.into()))
        });
        let due: Vec<(Tenant, Update)> = due.collect();
        drop(records);
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let tenants = due.iter().map(|(tenant, _)| tenant.clone()).collect();
        let Committed { replaced, .. } = self.change_all(guard, due)?;
        self.retire(replaced);
        Ok(tenants)
    }

    /// Returns the registered clients.
    pub(super) fn clients(&self) -> Result<Arc<Clients>, StoreError> {
        let snapshot = self.snapshot(&self.location.locate()?)?;
        Ok(snapshot.map(|snapshot| snapshot.document.clients().clone()).unwrap_or_default())
    }

    /// Puts `new` in the place of the client `replaced`. If another client is there, it stays. Returns
    /// the client that is there afterwards. It is durable. The oldest unused clients make room for it.
    pub(super) fn store_client(
        &self,
        guard: &GlobalGuard,
        key: &str,
        replaced: Option<&RegisteredClient>,
        new: RegisteredClient,
    ) -> Result<RegisteredClient, StoreError> {
        let snapshot = self.snapshot(&guard.paths)?;
        let there = snapshot.as_ref().and_then(|snapshot| snapshot.document.clients().get(key)).cloned();
        if let Some(there) = there.filter(|there| !replaced.is_some_and(|replaced| replaced.is_same(there))) {
            self.location.sync_folder(&guard.paths)?;
            return Ok(there);
        }
        let mut changes: BTreeMap<_, _> =
            snapshot.iter().flat_map(|s| Self::crowded_out(&s.document)).map(|key| (key, None)).collect();
        changes.insert(key.to_owned(), Some(new.clone()));
        self.write_clients(guard, snapshot, changes)?;
        Ok(new)
    }

    /// Moves the client to the key of retired ones, if it is still at `key`.
    pub(super) fn retire_client(
        &self,
        guard: &GlobalGuard,
        key: &str,
        client: &RegisteredClient,
    ) -> Result<bool, StoreError> {
        let snapshot = self.snapshot(&guard.paths)?;
        let there = snapshot.as_ref().and_then(|snapshot| snapshot.document.clients().get(key)).cloned();
        let there = there.filter(|there| there.is_same(client));
        let moved = there.and_then(|there| Some((there.retired_key(key)?, there)));
        let Some((retired, there)) = moved else {
            self.location.sync_folder(&guard.paths)?;
            return Ok(false);
        };
        self.write_clients(guard, snapshot, [(key.to_owned(), None), (retired, Some(there))])?;
        Ok(true)
    }

    /// Sweeps the clients, with one write. Returns the keys of the removed ones.
    pub(super) fn sweep_clients(
        &self,
        guard: &GlobalGuard,
        after: Duration,
    ) -> Result<Vec<String>, StoreError> {
        let snapshot = self.snapshot(&guard.paths)?;
        let Some(document) = snapshot.as_ref().map(|snapshot| &snapshot.document) else {
            return Ok(Vec::new());
        };
        // The members of another version may be bound to any client.
        if document.foreign() > 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let mut swept = BTreeMap::new();
        for (key, client, is_used) in clients_in_use(document.records(), document.clients()) {
            match client.sweep(is_used, after, now) {
                Some(ClientSweep::Mark(client)) => drop(swept.insert(key.clone(), Some(client))),
                Some(ClientSweep::Remove) => drop(swept.insert(key.clone(), None)),
                None => {}
            }
        }
        let removed = swept.iter().filter(|(_, kept)| kept.is_none()).map(|(key, _)| key.clone()).collect();
        if !swept.is_empty() {
            self.write_clients(guard, snapshot, swept)?;
        }
        Ok(removed)
    }

    /// Returns the keys of the clients that must go before one more is stored: of those that no record
    /// is bound to, the oldest beyond [`MAX_UNUSED`].
    fn crowded_out(document: &Document) -> Vec<String> {
        if document.foreign() > 0 {
            return Vec::new();
        }
        let unused = clients_in_use(document.records(), document.clients()).filter(|(_, _, used)| !used);
        let mut unused: Vec<_> =
            unused.map(|(key, client, _)| (client.unused_since.max(client.registered_at), key)).collect();
        unused.sort_unstable();
        let excess = (unused.len() + 1).saturating_sub(MAX_UNUSED);
        unused.into_iter().take(excess).map(|(_, key)| key.clone()).collect()
    }

    fn write_clients(
        &self,
        guard: &GlobalGuard,
        snapshot: Option<Arc<Snapshot>>,
        changes: impl IntoIterator<Item = (String, Option<RegisteredClient>)>,
    ) -> Result<(), StoreError> {
        let changed = ChangedRecords::of_clients(changes);
        let replaced = self.write(guard, snapshot, changed).inspect_err(|_| self.cache.put(None))?;
        self.retire(replaced);
        Ok(())
    }

    /// Zeroes a replaced text and closes its file. No caller of a change has to wait for that.
    pub(super) fn retire(&self, replaced: Option<Arc<Snapshot>>) {
        if let Some(snapshot) = replaced.and_then(Arc::into_inner) {
            *self.spare() = snapshot.document.into_spare();
        }
    }

    fn spare(&self) -> MutexGuard<'_, Zeroizing<String>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the unread answers of sessions that have changed since, or are gone. Best effort:
    /// the next change of the session tries again.
    fn remove_unread(&self, paths: &Paths, origins: &[(Tenant, bool)], changed: &[Changed]) {
        for ((tenant, is_settlement), Changed { applied, before, after }) in origins.iter().zip(changed) {
            let revision = |session: &Option<Session>| session.as_ref().map(Session::revision);
            // The first try of this settlement took effect, failed, and left the file.
            let is_retried = *is_settlement && *applied == Applied::Already;
            if is_retried || revision(&before.session) != revision(&after.session) {
                let _ = self.location.disk.remove(&paths.unread(tenant));
            }
        }
    }

    /// Opens the store, if there is one and it is private, and returns its state before anything of
    /// it is read.
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

    /// Writes the records that changed since `snapshot`, and returns the snapshot once it is
    /// replaced. The guard ensures that no other process is about to write.
    fn write(
        &self,
        guard: &GlobalGuard,
        snapshot: Option<Arc<Snapshot>>,
        changed: ChangedRecords,
    ) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let paths = &guard.paths;
        let path = &paths.file;
        let document = snapshot.as_ref().map_or(Document::empty(), |snapshot| &snapshot.document);
        check_version(path, document)?;
        self.location.check_replaceable(paths)?;
        let revised = document.revise(changed, std::mem::take(&mut *self.spare()));
        if revised.text().len() as u64 > MAX_FILE {
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
            .write_temp(&temp, revised.text().as_bytes())
            .map_err(failed("cannot write", &temp))
            .and_then(|file| self.replace(path, &temp, file, snapshot, revised));
        let replaced = written.inspect_err(|_| {
            // Best effort: if it fails as well, the next writer removes the file.
            let _ = self.location.disk.remove(&temp);
        })?;
        self.location.sync_folder(paths)?;
        self.unsettled.store(false, Ordering::SeqCst);
        Ok(replaced)
    }

    /// Puts the temp file in the place of the store, and caches its content for the next call.
    fn replace(
        &self,
        path: &Path,
        temp: &Path,
        file: Box<dyn DiskFile>,
        mut snapshot: Option<Arc<Snapshot>>,
        revised: Revised,
    ) -> Result<Option<Arc<Snapshot>>, StoreError> {
        let before = file.stat();
        let _turn = self.cache.turn();
        // Even if the rename fails, it may have taken effect.
        self.unsettled.store(true, Ordering::SeqCst);
        self.location.disk.rename(temp, path).map_err(|error| cannot_replace(path, error))?;
        self.cache.put(None);
        if let (Ok(before), Ok(identity), false) =
            (before, file.stat(), self.location.options.trust_filesystem)
            && was_not_touched(&before, &identity)
        {
            // Records that no reader has are changed without a copy.
            let records = match &mut snapshot {
                None => Arc::default(),
                Some(snapshot) => match Arc::get_mut(snapshot) {
                    Some(snapshot) => snapshot.document.take_records(),
                    None => snapshot.records(),
                },
            };
            let document = revised.into_document(records);
            self.cache.put(Some(Arc::new(Snapshot { identity, document, _file: file })));
        }
        Ok(snapshot)
    }

    /// Removes temp files of writers that died. Only the holder of the global lock may have one.
    fn remove_leftovers(&self, paths: &Paths) {
        for name in self.location.disk.list(&paths.folder).unwrap_or_default() {
            if paths.is_temp(&name) {
                let _ = self.location.disk.remove(&paths.folder.join(name));
            }
        }
    }

    /// Checks all preconditions of a write that can be checked before it.
    pub(super) fn check_writable(&self, paths: &Paths) -> Result<(), StoreError> {
        self.location.check_folder(&paths.folder)?;
        self.location.check_file_system(paths)?;
        self.location.disk.check_writable(&paths.folder).map_err(failed("cannot write in", &paths.folder))?;
        self.writable(paths).map(drop)
    }

    /// Returns the present snapshot, if this version of threadkey may replace it.
    pub(super) fn writable(&self, paths: &Paths) -> Result<Option<Arc<Snapshot>>, StoreError> {
        self.location.check_replaceable(paths)?;
        let snapshot = self.snapshot(paths)?;
        if let Some(snapshot) = &snapshot {
            check_version(&paths.file, &snapshot.document)?;
        }
        Ok(snapshot)
    }
}

fn read(paths: &Paths, file: &dyn DiskFile) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    file.read(MAX_FILE + 1).map_err(failed("cannot read", &paths.file))
}

fn check_version(path: &Path, document: &Document) -> Result<(), StoreError> {
    let version = document.version();
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
