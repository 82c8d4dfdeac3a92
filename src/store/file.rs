//! The file store for async callers: [`Store`] over [`StoreFile`], with its system calls off the
//! async threads.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Clients, Purpose, Records, Store, StoreError, TenantLock,
    blocking::blocking,
    change_notices::{ChangeNotices, Notifier},
    error::failed,
    group_commit::GroupCommit,
    location::FileStoreOptions,
    lock_files::GlobalGuard,
    lock_waiters::LockWaiters,
    locked_journal::LockedJournal,
    store_file::StoreFile,
    tenant_lock::FileTenantLock,
    unread,
};
use crate::{
    ids::{Tenant, UnixTime},
    session::{Change, Changed, Entry, LastProbe, RegisteredClient, Session},
    sys::{
        clock::Clock,
        disk::{Disk, RealDisk},
        files,
        lock::{Lock, Mode},
        lock_holder::LockHolder,
    },
};

/// Sessions in a JSON file, shared by processes through flock(2). Clones are cheap and are the same
/// store.
#[derive(Clone)]
pub struct FileStore {
    store_file: Arc<StoreFile>,
    /// Changes on their way to the file. At most one thread of a process waits for the global lock.
    group_commit: GroupCommit,
    lock_waiters: LockWaiters,
    notifier: Notifier,
}

impl FileStore {
    /// Opens the store at `path`. If the file is missing, the store is empty, and the first change
    /// makes it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the path cannot be followed; [`StoreError::Foreign`] when it leads to
    /// a folder of another user; [`StoreError::Unsuitable`] when it leads to a file system on which
    /// locks may not exclude, unless that is trusted. Each later call checks the content of the
    /// file.
    pub fn open(path: &Path, clock: Clock, options: FileStoreOptions) -> Result<Self, StoreError> {
        Self::on_disk(Arc::new(RealDisk::new()), path, clock, options)
    }

    /// [`FileStore::open`] on another disk than the machine's.
    ///
    /// # Errors
    /// As [`FileStore::open`].
    pub fn on_disk(
        disk: Arc<dyn Disk>,
        path: &Path,
        clock: Clock,
        options: FileStoreOptions,
    ) -> Result<Self, StoreError> {
        let path = std::path::absolute(path).map_err(failed("cannot find", path))?;
        let store_file = StoreFile::new(disk, path, clock, options);
        let paths = store_file.location.locate()?;
        store_file.location.check_owner(&paths)?;
        store_file.location.check_file_system(&paths)?;
        Ok(Self {
            store_file: Arc::new(store_file),
            group_commit: GroupCommit::default(),
            lock_waiters: LockWaiters::default(),
            notifier: Notifier::default(),
        })
    }

    /// The given path, made absolute.
    pub fn path(&self) -> &Path {
        &self.store_file.location.path
    }

    /// Returns a tenant's present session without reading other tenants' records. It blocks, and
    /// serves a program that prints one token and ends. `None` if only [`Store::read`] can answer,
    /// also with an error.
    pub fn find_session(&self, tenant: &Tenant) -> Option<Session> {
        self.store_file.find_session(tenant)
    }

    /// Waits until this process is the one that talks to Discord. It blocks its thread, so it must
    /// be called off the async threads. The lock lasts until it is dropped or the process dies.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Permissions`] when the lock file cannot be used.
    pub fn lock_bot(&self) -> Result<Lock, StoreError> {
        let (path, file) = self.store_file.location.open_bot_lock()?;
        Lock::acquire(file, Mode::Exclusive).map_err(failed("cannot lock", &path))
    }

    /// Takes the lock of [`FileStore::lock_bot`] if it is free; `None` if another process has it.
    ///
    /// # Errors
    /// As [`FileStore::lock_bot`].
    pub fn try_lock_bot(&self) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.store_file.location.open_bot_lock()?;
        Lock::try_exclusive(file).map_err(failed("cannot lock", &path))
    }

    /// Returns the process that holds the lock of [`FileStore::lock_bot`], where the system names it.
    pub fn bot_lock_holder(&self) -> Option<LockHolder> {
        let location = &self.store_file.location;
        location.disk.lock_holder(&location.locate().ok()?.bot_lock())
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.group_commit.len()
    }

    #[cfg(test)]
    pub(super) fn waits_for_global_lock(&self) -> bool {
        self.group_commit.waits_for_lock()
    }

    #[cfg(test)]
    pub(super) fn waiting_threads(&self) -> usize {
        self.lock_waiters.counts().0
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.lock_waiters.counts().1
    }

    #[cfg(test)]
    pub(super) fn has_notifier(&self) -> bool {
        self.notifier.is_running()
    }

    pub(super) async fn try_lock_backend(
        &self,
        tenant: &Tenant,
        purpose: Purpose,
    ) -> Result<Option<FileTenantLock>, StoreError> {
        let of = tenant.clone();
        let journal = self.run(move |store_file| LockedJournal::try_take(store_file, &of, purpose)).await?;
        Ok(journal.map(|journal| {
            let (store_file, group_commit) = (self.store_file.clone(), self.group_commit.clone());
            FileTenantLock::new(journal, tenant.clone(), store_file, group_commit)
        }))
    }

    /// Runs `work` under the global lock, after a limited wait for it.
    async fn locked<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreFile, &GlobalGuard) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.group_commit.locked(&self.store_file, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<StoreFile>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store_file = self.store_file.clone();
        blocking(self.path(), move || work(&store_file)).await
    }
}

#[async_trait]
impl Store for FileStore {
    async fn read(&self, tenant: &Tenant) -> Result<Entry, StoreError> {
        Ok(self.list().await?.get(tenant).cloned().unwrap_or_default())
    }

    async fn list(&self) -> Result<Arc<Records>, StoreError> {
        match self.store_file.current() {
            Some(records) => Ok(records),
            None => self.run(|store_file| store_file.records()).await,
        }
    }

    fn current(&self) -> Option<Arc<Records>> {
        self.store_file.current()
    }

    async fn clients(&self) -> Result<Arc<Clients>, StoreError> {
        self.run(|store_file| store_file.clients()).await
    }

    async fn store_client(
        &self,
        key: &str,
        client: RegisteredClient,
        replaced: Option<RegisteredClient>,
    ) -> Result<RegisteredClient, StoreError> {
        let key = key.to_owned();
        self.locked(move |store_file, guard| store_file.store_client(guard, &key, replaced.as_ref(), client))
            .await
    }

    async fn retire_client(&self, key: &str, client: &RegisteredClient) -> Result<bool, StoreError> {
        let (key, client) = (key.to_owned(), client.clone());
        self.locked(move |store_file, guard| store_file.retire_client(guard, &key, &client)).await
    }

    async fn sweep_clients(&self, after: Duration) -> Result<Vec<String>, StoreError> {
        self.locked(move |store_file, guard| store_file.sweep_clients(guard, after)).await
    }

    fn changes(&self) -> ChangeNotices {
        self.notifier.subscribe(&self.store_file.location)
    }

    async fn change(&self, tenant: &Tenant, change: Change) -> Result<Changed, StoreError> {
        self.group_commit.change(&self.store_file, tenant, change.into(), None).await
    }

    async fn sweep(&self, ended_before: UnixTime) -> Result<Vec<Tenant>, StoreError> {
        self.locked(move |store_file, guard| store_file.sweep(guard, ended_before)).await
    }

    async fn try_lock(&self, tenant: &Tenant, purpose: Purpose) -> Result<Option<TenantLock>, StoreError> {
        Ok(self.try_lock_backend(tenant, purpose).await?.map(TenantLock::new))
    }

    async fn unread(&self) -> Result<Vec<Tenant>, StoreError> {
        self.run(|store_file| unread::tenants(&store_file.location)).await
    }

    async fn sign_in_journals(&self) -> Result<Vec<Tenant>, StoreError> {
        self.run(|store_file| store_file.location.sign_in_journals()).await
    }

    async fn wait_unlocked(&self, tenant: &Tenant) -> Result<(), StoreError> {
        let of = tenant.clone();
        match self.run(move |store_file| store_file.location.open_to_wait(&of)).await? {
            None => Ok(()),
            Some((path, file)) => {
                let failed = failed("cannot wait for", &path);
                self.lock_waiters.wait(path.clone(), file).await.map_err(failed)
            }
        }
    }

    async fn lock_holder(&self, tenant: &Tenant, purpose: Purpose) -> Option<LockHolder> {
        let of = tenant.clone();
        let found = self.run(move |store_file| Ok(store_file.location.lock_holder(&of, purpose)));
        found.await.ok().flatten()
    }

    async fn check_locks(&self) -> Result<(), StoreError> {
        self.run(|store_file| store_file.location.check_global_lock()).await
    }

    async fn last_probe(&self, tenant: &Tenant) -> Option<LastProbe> {
        let of = tenant.clone();
        let read = self.run(move |store_file| {
            let path = store_file.location.locate()?.probe(&of);
            let text = files::first_line(&path).map_err(failed("cannot read", &path))?;
            Ok(text.as_deref().and_then(LastProbe::parse))
        });
        read.await.ok().flatten()
    }

    async fn keep_probe(&self, tenant: &Tenant, probe: LastProbe) {
        let of = tenant.clone();
        let written = self.run(move |store_file| {
            let paths = store_file.location.locate()?;
            store_file.location.check_folder(&paths.folder)?;
            store_file.location.make_folder(&paths.tenant_locks())?;
            let path = paths.probe(&of);
            files::write_private(&path, probe.text().as_bytes()).map_err(failed("cannot write", &path))
        });
        if let Err(error) = written.await {
            tracing::debug!(%tenant, %error, "a probe could not be kept");
        }
    }

    fn location(&self) -> String {
        self.store_file.location.path.display().to_string()
    }
}
