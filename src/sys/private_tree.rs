//! Private folders for the time of one process, and the removal of those whose process has died.
//!
//! Each folder has a lock file beside it, which its process holds. The kernel releases the lock at the
//! process's death, whatever killed it. So a folder or a lock file whose lock is free is stale, and the next
//! process removes both. The lock is taken before the folder is made, and a name is never used twice.
//!
//! A process may find a lock file that its owner has made and not locked yet, and remove it. So the owner
//! looks for the file once it has the lock, and takes another name if that file is gone.

#![expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use super::{
    files::{self, PRIVATE_FILE},
    flock::{self, Mode},
    random, user,
};
use crate::ids::hex;

const LOCK_END: &str = ".lock";

/// How many names are tried. Another process can take one for stale only in the moment before it is locked.
const MAX_NAMES: u32 = 8;

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub struct PrivateTree {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl PrivateTree {
    /// Makes a folder below `base`, which this function makes too. Removes the stale ones there first.
    ///
    /// # Errors
    /// The system's; `PermissionDenied` if others could change the content of `base`.
    pub fn make(base: &Path) -> io::Result<Self> {
        files::create_private_folder(base)?;
        if !is_own_folder(base)? {
            let problem = format!("{} must be a folder of this user alone", base.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        remove_stale(base);
        for _ in 0..MAX_NAMES {
            let name = hex(&random::bytes::<6>());
            let (path, lock_path) = (base.join(&name), base.join(name + LOCK_END));
            let lock = open_lock(&lock_path)?;
            if is_held(&lock, &lock_path)? {
                let tree = Self { path, lock_path, _lock: lock };
                files::create_private_folder(&tree.path)?;
                return Ok(tree);
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file at a path below the folder, as a whole, and makes its folders.
    ///
    /// # Errors
    /// The system's; `InvalidInput` if the path leads out of the folder.
    pub fn write(&self, relative: &Path, text: &[u8]) -> io::Result<()> {
        let path = self.within(relative)?;
        if let Some(parent) = path.parent() {
            files::create_private_folder(parent)?;
        }
        files::replace_private(&path, text)
    }

    /// Makes a folder at a path below the folder.
    ///
    /// # Errors
    /// As [`PrivateTree::write`].
    pub fn make_folder(&self, relative: &Path) -> io::Result<()> {
        files::create_private_folder(&self.within(relative)?)
    }

    /// Makes a symlink at a path below the folder. One that exists stays.
    ///
    /// # Errors
    /// As [`PrivateTree::write`].
    pub fn link(&self, relative: &Path, to: &Path) -> io::Result<()> {
        match symlink(to, self.within(relative)?) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a file at a path below the folder. A missing one is not an error.
    ///
    /// # Errors
    /// As [`PrivateTree::write`].
    pub fn remove_file(&self, relative: &Path) -> io::Result<()> {
        files::remove(&self.within(relative)?)
    }

    fn within(&self, relative: &Path) -> io::Result<PathBuf> {
        let is_plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        is_plain.then(|| self.path.join(relative)).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

impl Drop for PrivateTree {
    fn drop(&mut self) {
        remove(&self.path, &self.lock_path);
    }
}

/// Whether a path is a folder of this process's user whose content no other user can change. A symlink is
/// none.
///
/// # Errors
/// The system's.
pub fn is_own_folder(path: &Path) -> io::Result<bool> {
    let there = fs::symlink_metadata(path)?;
    Ok(there.is_dir() && there.uid() == user::effective() && there.mode() & 0o022 == 0)
}

/// Returns the names in a folder. A missing folder has none.
///
/// # Errors
/// The system's.
pub fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect(),
    }
}

/// Takes the lock, and returns whether it is that of the file which is at the path now.
fn is_held(lock: &File, path: &Path) -> io::Result<bool> {
    if !flock::try_lock(lock, Mode::Exclusive)? {
        return Ok(false);
    }
    let ours = lock.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes the folders and the lock files of dead processes. A process may have died with a lock file alone:
/// before it made its folder, or after it removed it.
fn remove_stale(base: &Path) {
    let names = names(base).unwrap_or_default();
    let folders = names.iter().filter_map(|name| name.to_str());
    let folders: BTreeSet<_> = folders.map(|name| name.strip_suffix(LOCK_END).unwrap_or(name)).collect();
    for folder in folders {
        let (path, lock_path) = (base.join(folder), base.join(format!("{folder}{LOCK_END}")));
        let lock = open_lock(&lock_path);
        if lock.as_ref().is_ok_and(|lock| flock::try_lock(lock, Mode::Exclusive).unwrap_or(false)) {
            remove(&path, &lock_path);
        }
    }
}

/// Removes a folder, and then its lock file. A symlink in it is removed, and its target stays.
fn remove(path: &Path, lock_path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a private folder cannot be removed: remove it");
        return;
    }
    let _ = files::remove(lock_path);
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn base() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder can be made")
    }

    #[test]
    fn a_folder_is_private_and_goes_with_its_owner() {
        let base = base();
        let tree = PrivateTree::make(&base.path().join("exec")).expect("it is made");
        let path = tree.path().to_owned();
        tree.write(Path::new("a/b.json"), b"{}").expect("it is written");
        tree.link(Path::new("a/target"), base.path()).expect("it is linked");
        let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("a")), mode(&path.join("a/b.json"))), (0o700, 0o700, 0o600));
        drop(tree);
        assert!(!path.exists() && base.path().exists());
        assert_eq!(names(&base.path().join("exec")).expect("it is there"), Vec::<OsString>::new());
    }

    #[test]
    fn the_folder_of_a_dead_process_is_removed_and_that_of_a_live_one_stays() {
        let base = base();
        let live = PrivateTree::make(base.path()).expect("it is made");
        let stale = base.path().join("dead");
        fs::create_dir(&stale).expect("it is made");
        fs::write(stale.join("token"), "t").expect("it is written");
        let next = PrivateTree::make(base.path()).expect("it is made");
        assert!(!stale.exists() && live.path().exists() && next.path().exists());
    }

    #[test]
    fn a_lock_file_without_a_folder_goes_with_its_process() {
        let base = base();
        let [dead, live] = ["dead.lock", "live.lock"].map(|name| base.path().join(name));
        fs::write(&dead, "").expect("it is written");
        let held = open_lock(&live).expect("it is made");
        assert!(is_held(&held, &live).expect("it is locked"));
        let next = PrivateTree::make(base.path()).expect("it is made");
        assert!(!dead.exists() && live.exists() && next.path().exists());
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_not_held() {
        let base = base();
        let path = base.path().join("new.lock");
        let lock = open_lock(&path).expect("it is made");
        remove_stale(base.path());
        assert!(!path.exists(), "it was free");
        assert!(!is_held(&lock, &path).expect("it is looked for"));
        let other = open_lock(&path).expect("it is made");
        assert!(!is_held(&lock, &path).expect("it is looked for"), "another file has its name");
        assert!(is_held(&other, &path).expect("it is locked"));
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        let base = base();
        let tree = PrivateTree::make(base.path()).expect("it is made");
        for path in ["../x", "/tmp/x", "a/../../x"] {
            assert!(tree.write(Path::new(path), b"").is_err(), "{path}");
        }
    }

    #[test]
    fn a_base_that_others_can_write_is_refused() {
        let base = base();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        assert!(PrivateTree::make(base.path()).is_err());
    }
}
