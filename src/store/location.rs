//! The ground that a store stands on: where its path leads, the folders there, and whether they and the file are fit.
//!
//! Nothing here looks at what the store holds. What is found holds for the moment; who needs it to last has a lock ([`super::lock_files`]).

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    StoreError,
    error::{failed, unsuitable},
    paths::Paths,
};
use crate::sys::disk::{Disk, DiskFile, Open, Stat};

const MOUNTED_FILE: &str = "the file itself is a mount (a single file that is bind-mounted into a container), so it cannot be replaced: mount its \
                            folder instead";

/// What a file store may be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStoreOptions {
    /// Use a file system on which flock is not known to exclude other machines.
    pub trust_filesystem: bool,
}

/// A path on a disk, and what it is used as.
pub(super) struct Location {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) path: PathBuf,
    pub(super) options: FileStoreOptions,
}

impl Location {
    /// Where the path leads now.
    pub(super) fn locate(&self) -> Result<Paths, StoreError> {
        Paths::resolve(&*self.disk, &self.path).map_err(failed("cannot find", &self.path))
    }

    /// The first folder from `folder` upwards that is there.
    pub(super) fn nearest<'a>(&self, folder: &'a Path) -> &'a Path {
        folder.ancestors().find(|path| self.disk.stat(path).is_ok()).unwrap_or(folder)
    }

    /// Refuses a file system on which locks may exclude nobody, unless it is trusted.
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

    /// Refuses a folder in which others could move another file into place.
    pub(super) fn check_folder(&self, folder: &Path) -> Result<(), StoreError> {
        let stat = self.disk.stat(folder).map_err(failed("cannot examine", folder))?;
        if stat.mode & 0o022 != 0 {
            return Err(StoreError::Permissions { path: folder.into(), mode: stat.mode, wanted: 0o700 });
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
        // Where this cannot be told (statx missing or filtered), rename says so.
        if self.disk.is_mount_point(path).unwrap_or(false) {
            return unsuitable(path, MOUNTED_FILE);
        }
        Ok(())
    }

    /// Makes `folder` and what is missing above it, durably, for its owner alone.
    pub(super) fn make_folder(&self, folder: &Path) -> Result<(), StoreError> {
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
    pub(super) fn settle_folders(&self, paths: &Paths) -> Result<(), StoreError> {
        if self.disk.stat(&paths.file).is_ok() {
            return Ok(());
        }
        let examine = |path: &Path| self.disk.stat(path).map_err(failed("cannot examine", path));
        let device = examine(&paths.folder)?.device;
        for folder in paths.folder.ancestors().skip(1) {
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

    /// Makes the rename that brought the store there durable.
    pub(super) fn sync_folder(&self, paths: &Paths) -> Result<(), StoreError> {
        let folder = &paths.folder;
        self.disk.sync_folder(folder).map_err(failed("cannot make durable what is in", folder))
    }

    /// A new file that holds `text`, durably; its name is not durable yet.
    pub(super) fn write_temp(&self, temp: &Path, text: &[u8]) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(temp, Open::CreateNew)?;
        file.write_at(0, text)?;
        file.sync()?;
        Ok(file)
    }
}

/// Refuses a file that others could read or change.
pub(super) fn check_private(path: &Path, stat: &Stat) -> Result<(), StoreError> {
    if stat.mode & 0o077 != 0 {
        return Err(StoreError::Permissions { path: path.into(), mode: stat.mode, wanted: 0o600 });
    }
    Ok(())
}

/// What a rename over the store that failed means.
pub(super) fn cannot_replace(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices => {
            StoreError::Unsuitable { path: path.into(), what: MOUNTED_FILE.into() }
        }
        _ => failed("cannot replace", path)(error),
    }
}
