//! The file store for async callers: [`Store`] over [`Core`], with its system calls off the async threads.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use super::{
    Purpose, Records, Store, StoreError, TenantLock, blocking::blocking, changes::Changes, core::Core,
    error::failed, ground::FileStoreOptions, held::Held, queue::Queue, tenant_lock::FileTenantLock,
    wait::Waits, watch::Watch,
};
use crate::{
    ids::Tenant,
    session::{Applied, Change, Entry, Session},
    sys::{
        clock::Clock,
        disk::{Disk, RealDisk},
        lock::{Lock, Mode},
    },
};

/// Sessions in a JSON file, shared by processes that meet at flock(2). Cheap to clone; clones are the same store.
#[derive(Clone)]
pub struct FileStore {
    core: Arc<Core>,
    /// Changes on their way to the file; so a process has one thread at most that waits for the global lock.
    queue: Queue,
    waits: Waits,
    watch: Watch,
}

impl FileStore {
    /// The store at `path`. The file may be missing: then the store is empty, and made at the first change.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the path cannot be followed; [`StoreError::Unsuitable`] when it leads to a file system on
    /// which locks may not exclude, unless that is trusted. What the file holds is looked at later, by each call.
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
        let core = Core::new(disk, path, clock, options);
        core.ground.check_file_system(&core.ground.locate()?)?;
        Ok(Self {
            core: Arc::new(core),
            queue: Queue::default(),
            waits: Waits::default(),
            watch: Watch::default(),
        })
    }

    /// The path as it was given, made absolute.
    pub fn path(&self) -> &Path {
        &self.core.ground.path
    }

    /// A tenant's session as it is now, for a program that wants just that and ends: blocking, at once, and without reading
    /// other tenants' records. `None` when [`Store::read`] has to tell, and that may be an error.
    pub fn glance(&self, tenant: &Tenant) -> Option<Session> {
        self.core.glance(tenant)
    }

    /// Waits until this process is the one that talks to Discord, for as long as it takes, in a thread that blocks: call
    /// it off the async threads. The lock lasts until it is dropped or the process dies.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Permissions`] when the lock file cannot be used.
    pub fn lock_bot(&self) -> Result<Lock, StoreError> {
        let (path, file) = self.core.ground.open_bot_lock()?;
        Lock::acquire(file, Mode::Exclusive).map_err(failed("cannot lock", &path))
    }

    /// [`FileStore::lock_bot`] if nobody has it; `None` if somebody has.
    ///
    /// # Errors
    /// As [`FileStore::lock_bot`].
    pub fn try_lock_bot(&self) -> Result<Option<Lock>, StoreError> {
        let (path, file) = self.core.ground.open_bot_lock()?;
        Lock::try_exclusive(file).map_err(failed("cannot lock", &path))
    }

    #[cfg(test)]
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    #[cfg(test)]
    pub(super) fn waiting_threads(&self) -> usize {
        self.waits.counts().0
    }

    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.waits.counts().1
    }

    #[cfg(test)]
    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_watching()
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Core>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let core = self.core.clone();
        blocking(self.path(), move || work(&core)).await
    }
}

#[async_trait]
impl Store for FileStore {
    async fn read(&self, tenant: &Tenant) -> Result<Entry, StoreError> {
        Ok(self.list().await?.get(tenant).cloned().unwrap_or_default())
    }

    async fn list(&self) -> Result<Arc<Records>, StoreError> {
        match self.core.current() {
            Some(records) => Ok(records),
            None => self.run(|core| core.records()).await,
        }
    }

    fn current(&self) -> Option<Arc<Records>> {
        self.core.current()
    }

    fn changes(&self) -> Changes {
        self.watch.changes(&self.core.ground)
    }

    async fn change(&self, tenant: &Tenant, change: Change) -> Result<Applied, StoreError> {
        debug_assert!(
            !matches!(change, Change::Refreshed { .. } | Change::HoldBack { .. } | Change::End { .. }),
            "what comes of a refresh is committed by the holder of the tenant's lock"
        );
        self.queue.change(&self.core, tenant, change, None).await
    }

    async fn try_lock(
        &self,
        tenant: &Tenant,
        purpose: Purpose,
    ) -> Result<Option<Box<dyn TenantLock>>, StoreError> {
        let of = tenant.clone();
        let held = self.run(move |core| Held::try_take(core, &of, purpose)).await?;
        Ok(held.map(|held| {
            let (core, queue) = (self.core.clone(), self.queue.clone());
            Box::new(FileTenantLock::new(held, tenant.clone(), core, queue)) as Box<dyn TenantLock>
        }))
    }

    async fn wait_unlocked(&self, tenant: &Tenant) -> Result<(), StoreError> {
        let of = tenant.clone();
        match self.run(move |core| core.ground.open_to_wait(&of)).await? {
            None => Ok(()),
            Some((path, file)) => {
                let failed = failed("cannot wait for", &path);
                self.waits.wait(path.clone(), file).await.map_err(failed)
            }
        }
    }

    fn location(&self) -> String {
        self.core.ground.path.display().to_string()
    }
}
