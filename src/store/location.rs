//! The location of a store: the file and folders that its path leads to, and whether they are fit
//! for a store.
//!
//! Nothing here reads the store's content. Every result is a snapshot; hold a lock
//! ([`super::lock_files`]) if it must stay true.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    StoreError,
    error::{User, failed, unsuitable},
    paths::Paths,
};
use crate::sys::{
    disk::{Disk, DiskFile, Open, Stat},
    files::{PRIVATE_FILE, PRIVATE_FOLDER},
    user::ROOT,
};

const MOUNTED_FILE: &str = "the file itself is a mount (a single file that is bind-mounted into a container), so it cannot be replaced: mount its \
                            folder instead";

/// Options of a file store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStoreOptions {
    /// Use a file system on which flock is not known to exclude other machines.
    pub trust_filesystem: bool,
}

/// A store's path on a disk, and the options of the store.
pub(super) struct Location {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    pub(super) options: FileStoreOptions,
}

impl Location {
    /// Resolves the path.
    pub(super) fn locate(&self) -> Result<Paths, StoreError> {
        Paths::resolve(&*self.disk, &self.path).map_err(failed("cannot find", &self.path))
    }

    /// Returns the first existing folder from `folder` upwards.
    pub(super) fn nearest<'a>(&self, folder: &'a Path) -> &'a Path {
        folder.ancestors().find(|path| self.disk.stat(path).is_ok()).unwrap_or(folder)
    }

    /// Refuses a file system on which locks may exclude no other process, unless it is trusted.
    pub(super) fn check_file_system(&self, paths: &Paths) -> Result<(), StoreError> {
        if self.options.trust_filesystem {
            return Ok(());
        }
        let folder = self.nearest(&paths.folder);
        let found = self.disk.file_system(folder).map_err(failed("cannot examine", folder))?;
        if found.locks_hold {
            return Ok(());
        }
        unsuitable(
            &paths.folder,
            format!(
                "it is on {}, where file locks may not exclude other machines, and then a refresh token is spent twice: \
                 put the store on a local disk (ext4, xfs, btrfs, zfs, apfs), or, if you know that flock excludes there, \
                 set store.trust_filesystem = true",
                found.name
            ),
        )
    }

    /// Refuses a store of another user, also one whose folder is missing: see [`Self::may_make_in`].
    /// Makes nothing.
    pub(super) fn check_owner(&self, paths: &Paths) -> Result<(), StoreError> {
        let folder = self.nearest(&paths.folder);
        let owner = self.disk.stat(folder).map_err(failed("cannot examine", folder))?.owner;
        if folder == paths.folder { self.is_own(folder, owner) } else { self.may_make_in(folder, owner) }
    }

    /// Refuses an existing folder of another user. Lock files of this process's user would lock that
    /// user out, and root can make them anywhere.
    fn is_own(&self, folder: &Path, owner: u32) -> Result<(), StoreError> {
        let user = self.disk.effective_user();
        if owner == user { Ok(()) } else { Err(foreign(folder, owner, user, false)) }
    }

    /// Refuses to make the store's folder in a folder of another user: below a home, root's new
    /// folder would lock the home's user out. A folder of root's is not the home of another user. There
    /// the system's own permissions decide, so that a service can make a folder in `/tmp` or `/srv`.
    fn may_make_in(&self, folder: &Path, owner: u32) -> Result<(), StoreError> {
        let user = self.disk.effective_user();
        if owner == user || owner == ROOT { Ok(()) } else { Err(foreign(folder, owner, user, true)) }
    }

    /// Refuses a folder of another user, or one in which other users could replace the store.
    pub(super) fn check_folder(&self, folder: &Path) -> Result<(), StoreError> {
        let stat = self.disk.stat(folder).map_err(failed("cannot examine", folder))?;
        self.is_own(folder, stat.owner)?;
        if stat.mode & 0o022 != 0 {
            return Err(StoreError::Permissions {
                path: folder.into(),
                mode: stat.mode,
                wanted: PRIVATE_FOLDER,
            });
        }
        Ok(())
    }

    /// Refuses a store that a rename would not replace as a whole.
    pub(super) fn check_replaceable(&self, paths: &Paths) -> Result<(), StoreError> {
        let path = &paths.file;
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
        // If the system cannot answer (statx is missing or filtered), rename reports a mount.
        if self.disk.is_mount_point(path).unwrap_or(false) {
            return unsuitable(path, MOUNTED_FILE);
        }
        Ok(())
    }

    /// Makes `folder` and the missing folders above it, durably and with mode 0700.
    pub(super) fn make_folder(&self, folder: &Path) -> Result<(), StoreError> {
        if self.disk.stat(folder).is_ok() {
            return Ok(());
        }
        let Some(parent) = folder.parent() else { return Ok(()) };
        self.make_folder(parent)?;
        let owner = self.disk.stat(parent).map_err(failed("cannot examine", parent))?.owner;
        self.may_make_in(parent, owner)?;
        match self.disk.create_folder(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("cannot make", folder)(error));
            }
            _ => {}
        }
        self.sync(parent)
    }

    /// Makes the folders above a new store durable, before its first version is written. The
    /// process that made them may have died before they were durable, or may be about to. If there
    /// is a store already, its first writer has done this.
    pub(super) fn settle_folders(&self, paths: &Paths) -> Result<(), StoreError> {
        if self.disk.stat(&paths.file).is_ok() {
            return Ok(());
        }
        let examine = |path: &Path| self.disk.stat(path).map_err(failed("cannot examine", path));
        let device = examine(&paths.folder)?.device;
        for folder in paths.folder.ancestors().skip(1) {
            // A store made neither a mount point nor any folder above it.
            if examine(folder)?.device != device {
                break;
            }
            match self.disk.sync_folder(folder) {
                // A process that may not read a folder made none in it durably: it was there
                // before.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result.map_err(failed("cannot make durable the names in", folder))?,
            }
        }
        Ok(())
    }

    /// Makes the names in a folder durable, after a rename or a new file.
    pub(super) fn sync(&self, folder: &Path) -> Result<(), StoreError> {
        self.disk.sync_folder(folder).map_err(failed("cannot make durable the names in", folder))
    }

    /// Makes durable the rename that put the store there.
    pub(super) fn sync_folder(&self, paths: &Paths) -> Result<(), StoreError> {
        self.sync(&paths.folder)
    }

    /// Writes a new file that holds `text`, durably. Its name is not durable yet.
    pub(super) fn write_temp(&self, temp: &Path, text: &[u8]) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(temp, Open::CreateNew)?;
        file.write_at(0, text)?;
        file.sync()?;
        Ok(file)
    }
}

fn foreign(folder: &Path, owner: u32, user: u32, is_missing: bool) -> StoreError {
    StoreError::Foreign { folder: folder.into(), owner: User::of(owner), user: User::of(user), is_missing }
}

/// Refuses a file that other users could read or change.
pub(super) fn check_private(path: &Path, stat: &Stat) -> Result<(), StoreError> {
    if stat.mode & 0o077 != 0 {
        return Err(StoreError::Permissions { path: path.into(), mode: stat.mode, wanted: PRIVATE_FILE });
    }
    Ok(())
}

/// Returns the error for a failed rename over the store.
pub(super) fn cannot_replace(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices => {
            StoreError::Unsuitable { path: path.into(), what: MOUNTED_FILE.into() }
        }
        _ => failed("cannot replace", path)(error),
    }
}
