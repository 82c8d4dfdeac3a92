//! The lock files beside a store. Their locks (flock(2)) order the processes that use the store.
//!
//! A lock excludes another process only if both lock the same file. So after taking a lock, the
//! holder checks that the store's path still leads to the same place, and that the lock file still
//! has its name. Otherwise it releases the lock and the search starts over. These are steps 1 and 2
//! of [`super::store_file`]; a tenant's lock has the same ([`super::locked_journal`]).

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::{
    Purpose, StoreError,
    error::{failed, unsuitable},
    location::{Location, check_private},
    paths::{Paths, tenant_of_sign_in},
};
use crate::{
    ids::Tenant,
    sys::{
        disk::{DiskFile, Open},
        lock::{Lock, Mode},
        lock_holder::LockHolder,
    },
};

/// How often a search starts over while the path leads elsewhere each time.
pub(super) const MAX_SEARCHES: u32 = 8;

/// A lock file, open and not locked.
pub(super) type LockFile = (PathBuf, Box<dyn DiskFile>);

/// The global lock of the store at `paths`, held.
pub(super) struct GlobalGuard {
    pub(super) paths: Paths,
    _lock: Lock,
}

impl Location {
    /// Takes the global lock. Blocks until it is free.
    pub(super) fn lock_global(&self) -> Result<GlobalGuard, StoreError> {
        for _ in 0..MAX_SEARCHES {
            let paths = self.locate()?;
            self.make_folder(&paths.folder)?;
            self.check_folder(&paths.folder)?;
            self.check_file_system(&paths)?;
            let path = paths.global_lock();
            let lock = Lock::acquire(self.open_lock(&path)?, Mode::Exclusive)
                .map_err(failed("cannot lock", &path))?;
            if self.still_there(&paths, &path, &lock)? {
                return Ok(GlobalGuard { paths, _lock: lock });
            }
        }
        self.leads_elsewhere()
    }

    /// Checks that the global lock can be taken, or that a process at work holds it.
    pub(super) fn check_global_lock(&self) -> Result<(), StoreError> {
        let path = self.locate()?.global_lock();
        if Lock::try_exclusive(self.open_lock(&path)?).map_err(failed("cannot lock", &path))?.is_some() {
            return Ok(());
        }
        match self.global_lock_holder() {
            Some(holder) if holder.is_stopped => Err(StoreError::Busy { path, holder: Some(holder) }),
            _ => Ok(()),
        }
    }

    /// The process that holds the global lock exclusively.
    pub(super) fn global_lock_holder(&self) -> Option<LockHolder> {
        self.disk.lock_holder(&self.locate().ok()?.global_lock())
    }

    /// The process that holds a tenant's lock, unless it is this one. A stopped holder of the global
    /// lock comes first: the holder of the tenant's lock waits for it.
    pub(super) fn lock_holder(&self, tenant: &Tenant, purpose: Purpose) -> Option<LockHolder> {
        let paths = self.locate().ok()?;
        let holder = |path: &Path| self.disk.lock_holder(path).filter(|holder| !holder.is_this_process());
        let tenants = holder(&paths.tenant_lock(tenant, purpose));
        match tenants {
            Some(tenants) if tenants.is_stopped => Some(tenants),
            tenants => holder(&paths.global_lock()).filter(|global| global.is_stopped).or(tenants),
        }
    }

    /// Opens the lock file of a tenant to wait for it; `None` if the lock was never taken. Needs no
    /// write permission.
    pub(super) fn open_to_wait(&self, tenant: &Tenant) -> Result<Option<LockFile>, StoreError> {
        let path = self.locate()?.tenant_lock(tenant, Purpose::Refresh);
        match self.disk.open(&path, Open::Read) {
            Ok(file) => Ok(Some((path, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("cannot open", &path)(error)),
        }
    }

    /// Returns the tenants whose sign-in lock file is not empty. Takes no lock.
    pub(super) fn sign_in_journals(&self) -> Result<Vec<Tenant>, StoreError> {
        let folder = self.locate()?.tenant_locks();
        let names = match self.disk.list(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names.map_err(failed("cannot read", &folder))?,
        };
        let is_written = |name: &OsString| {
            let stat = self.disk.stat(&folder.join(name));
            stat.is_ok_and(|stat| stat.is_file && stat.len > 0)
        };
        let tenant = |name: OsString| tenant_of_sign_in(&name).filter(|_| is_written(&name));
        Ok(names.into_iter().filter_map(tenant).collect())
    }

    /// Opens the lock file of the one process that talks to Discord.
    pub(super) fn open_bot_lock(&self) -> Result<LockFile, StoreError> {
        let paths = self.locate()?;
        self.make_folder(&paths.folder)?;
        self.check_folder(&paths.folder)?;
        let path = paths.bot_lock();
        let file = self.open_lock(&path)?;
        Ok((path, file))
    }

    /// Opens a lock file, or makes it with mode 0600.
    pub(super) fn open_lock(&self, path: &Path) -> Result<Box<dyn DiskFile>, StoreError> {
        let file = self.disk.open(path, Open::ReadWrite).map_err(failed("cannot open", path))?;
        let stat = file.stat().map_err(failed("cannot open", path))?;
        check_private(path, &stat)?;
        Ok(file)
    }

    /// Whether the store's path still leads to `paths`, and `lock` still locks the file at `path`.
    pub(super) fn still_there(&self, paths: &Paths, path: &Path, lock: &Lock) -> Result<bool, StoreError> {
        let ours = lock.file().stat().map_err(failed("cannot examine", path))?;
        let same = match self.disk.stat(path) {
            Ok(stat) => stat.is_same_file(&ours),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed("cannot examine", path)(error)),
        };
        Ok(same && self.locate()? == *paths)
    }

    /// Returns the error for a search that started over too often.
    pub(super) fn leads_elsewhere<T>(&self) -> Result<T, StoreError> {
        unsuitable(
            &self.path,
            "it leads to another file each time it is followed; stop the program that keeps changing it",
        )
    }
}
