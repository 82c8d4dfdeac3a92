//! The sidecars: the files beside a store whose locks (flock(2)) order those who use it.
//!
//! A lock excludes somebody only if both have it of the same file. So whoever has got one looks again, under it, whether the store's path still
//! leads there and the lock file is still the one of that name; if not, the lock is let go and the search starts over. That is steps
//! 1 and 2 of [`super::store_file`], and the same for a tenant's lock ([`super::locked_journal`]).

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    Purpose, StoreError,
    error::{failed, unsuitable},
    location::{Location, check_private},
    paths::Paths,
};
use crate::{
    ids::Tenant,
    sys::{
        disk::{DiskFile, Open},
        lock::{Lock, Mode},
    },
};

/// How often a search starts over because the path leads elsewhere each time.
pub(super) const MAX_SEARCHES: u32 = 8;

/// A sidecar, open and not locked.
pub(super) type LockFile = (PathBuf, Box<dyn DiskFile>);

/// The global lock of the store at `place`, held.
pub(super) struct GlobalGuard {
    pub(super) paths: Paths,
    _lock: Lock,
}

impl Location {
    /// Takes the global lock, for as long as it takes.
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
        let paths = self.locate()?;
        self.make_folder(&paths.folder)?;
        self.check_folder(&paths.folder)?;
        let path = paths.bot_lock();
        let file = self.open_lock(&path)?;
        Ok((path, file))
    }

    /// Opens a sidecar, made 0600 if it is not there.
    pub(super) fn open_lock(&self, path: &Path) -> Result<Box<dyn DiskFile>, StoreError> {
        let file = self.disk.open(path, Open::ReadWrite).map_err(failed("cannot open", path))?;
        let stat = file.stat().map_err(failed("cannot open", path))?;
        check_private(path, &stat)?;
        Ok(file)
    }

    /// Whether the path still leads to `place`, and `lock` is still the lock there.
    pub(super) fn still_there(&self, paths: &Paths, path: &Path, lock: &Lock) -> Result<bool, StoreError> {
        let ours = lock.file().stat().map_err(failed("cannot examine", path))?;
        let same = match self.disk.stat(path) {
            Ok(stat) => stat.is_same_file(&ours),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed("cannot examine", path)(error)),
        };
        Ok(same && self.locate()? == *paths)
    }

    /// The end of a search that started over too often.
    pub(super) fn leads_elsewhere<T>(&self) -> Result<T, StoreError> {
        unsuitable(&self.path, "it leads to another file each time it is followed; let it stay one")
    }
}
