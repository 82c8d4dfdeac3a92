//! Files below a folder in which another process may change everything at any time.
//!
//! The folder is opened once, before that process starts. Each step from there names one entry below
//! an open descriptor and follows no symlink: on Linux by `openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`, elsewhere, and on a kernel without it, by `O_NOFOLLOW`. So no symlink, put
//! there at any moment, leads out of the folder. A FIFO in the place of a folder is refused without a
//! wait, and one in the place of the file is replaced by the rename.
//!
//! What happens if this process dies: before the rename a temporary file of a fixed name is left,
//! which [`Below::remove`] removes as well. There is no fsync: a file that a power failure loses is
//! written again when its process starts the next time.

use std::{
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fchmod, ftruncate, mkdirat, openat, renameat, unlinkat},
    io::Errno,
};

use super::folder_tree::{FOLDER, open_closed};

/// How a folder of a path is opened. `NONBLOCK` is for a FIFO in its place.
const PART: OFlags = FOLDER.union(OFlags::RDONLY).union(OFlags::NONBLOCK);

/// A folder whose content another process may change.
#[derive(Debug)]
pub struct Below(OwnedFd);

/// A file that was written. It can be emptied wherever the other process moves it.
#[derive(Debug)]
pub struct Written(OwnedFd);

impl Written {
    /// Empties the file, whatever its name is now.
    ///
    /// # Errors
    /// The system's.
    pub fn empty(&self) -> io::Result<()> {
        Ok(ftruncate(&self.0, 0)?)
    }
}

impl Below {
    /// Opens a folder.
    ///
    /// # Errors
    /// The system's; `NotADirectory` for a symlink.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, folder, FOLDER | OFlags::RDONLY, Mode::empty())?))
    }

    /// Replaces the file at a relative path as a whole, readable by its owner alone. Missing folders
    /// are made, for their owner alone. After an error the old file is as it was.
    ///
    /// # Errors
    /// The system's; `InvalidInput` for a path that is absolute or has `..`.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<Written> {
        let (folders, name) = parts(path)?;
        let folder = self.walk(&folders, |parent, name| match open_folder(parent, name) {
            Err(Errno::NOENT) => match mkdirat(parent, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => Ok(open_folder(parent, name)?),
                Err(error) => Err(error.into()),
            },
            opened => Ok(opened?),
        })?;
        let folder = folder.as_ref().unwrap_or(&self.0);
        let temp = temp_name(name);
        remove_file(folder, &temp)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, &temp, flags, Mode::RUSR | Mode::WUSR)?;
        let write = || -> io::Result<OwnedFd> {
            // The umask may have taken a right away.
            fchmod(&file, Mode::RUSR | Mode::WUSR)?;
            let mut file = std::fs::File::from(file.try_clone()?);
            file.write_all(bytes)?;
            renameat(folder, &temp, folder, name)?;
            Ok(file.into())
        };
        write().map(Written).inspect_err(|_| {
            let _ = ftruncate(&file, 0);
            let _ = unlinkat(folder, &temp, AtFlags::empty());
        })
    }

    /// Removes the file at a relative path, and its temporary file. The folders stay. A folder whose
    /// rights were taken away gets them back. A missing file is not an error.
    ///
    /// # Errors
    /// As [`Below::replace`].
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (folders, name) = parts(path)?;
        let folder = self.walk(&folders, |parent, name| open_closed(parent, name));
        let folder = match folder {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let folder = match &folder {
            Some(folder) => folder,
            None => &open_closed(self.0.as_fd(), ".")?,
        };
        let temp = remove_file(folder, &temp_name(name));
        remove_file(folder, name).and(temp)
    }

    /// Opens the folders of a path, one below the other. Returns the last one, or `None` without any.
    fn walk(
        &self,
        folders: &[&str],
        open: impl Fn(BorrowedFd<'_>, &str) -> io::Result<OwnedFd>,
    ) -> io::Result<Option<OwnedFd>> {
        let mut folder: Option<OwnedFd> = None;
        for name in folders {
            let parent = folder.as_ref().unwrap_or(&self.0).as_fd();
            folder = Some(open(parent, name)?);
        }
        Ok(folder)
    }
}

/// Whether a path may be written below a folder: it is relative, and all its parts are names.
pub fn is_below(path: &Path) -> bool {
    parts(path).is_ok()
}

/// Returns the folders of a path and the name of its file.
fn parts(path: &Path) -> io::Result<(Vec<&str>, &str)> {
    let names = path.components().map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let names: Option<Vec<&str>> = names.collect();
    let (name, folders) =
        names.as_deref().and_then(<[&str]>::split_last).ok_or(io::ErrorKind::InvalidInput)?;
    Ok((folders.to_vec(), name))
}

fn temp_name(name: &str) -> String {
    format!(".{name}.threadkey-tmp")
}

fn remove_file(folder: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder of one name.
fn open_folder(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(parent, name, PART, Mode::empty(), resolve) {
            // A kernel or a filter without this call.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {}
            opened => return opened,
        }
    }
    open_unfollowed(parent, name)
}

/// Opens a folder of one name where the system has no `openat2`.
fn open_unfollowed(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    openat(parent, name, PART, Mode::empty())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    };

    use super::*;
    use crate::sys::folder_tree;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_for_its_owner_alone() {
        let around = tempfile::tempdir().expect("a folder");
        let below = Below::open(around.path()).expect("opened");
        let path = Path::new("a/b/file");
        below.replace(path, b"old and long").expect("written");
        below.replace(path, b"new").expect("written");
        assert_eq!(fs::read(around.path().join(path)).expect("read"), b"new");
        assert_eq!(fs::metadata(around.path().join(path)).expect("there").mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(around.path().join("a/b")).expect("there").mode() & 0o777, 0o700);
        assert_eq!(
            fs::read_dir(around.path().join("a/b")).expect("a folder").count(),
            1,
            "no temporary file"
        );
        below.remove(path).expect("removed");
        below.remove(path).expect("a missing file is no error");
        below.remove(Path::new("x/y")).expect("a missing folder is no error");
        assert!(around.path().join("a/b").exists());
    }

    #[test]
    fn no_symlink_fifo_or_path_leads_out_of_the_folder() {
        let around = tempfile::tempdir().expect("a folder");
        let (home, outside) = (around.path().join("home"), around.path().join("outside"));
        fs::create_dir(&home).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("file"), "outside").expect("written");
        let below = Below::open(&home).expect("opened");

        symlink(&outside, home.join("link")).expect("made");
        symlink(outside.join("file"), home.join("file")).expect("made");
        symlink(outside.join("file"), home.join(".file.threadkey-tmp")).expect("made");
        rustix::fs::mknodat(CWD, home.join("fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).expect("made");
        for path in ["link/file", "fifo/file", "../outside/file", "/tmp/file", "", ".", ".."] {
            assert!(below.replace(Path::new(path), b"x").is_err(), "{path}");
            assert!(below.remove(Path::new(path)).is_err(), "{path}");
        }
        below.replace(Path::new("file"), b"own").expect("the link is replaced");
        below.replace(Path::new("fifo"), b"own").expect("the FIFO is replaced");
        assert_eq!(fs::read(home.join("file")).expect("read"), b"own");
        assert!(!home.join("file").symlink_metadata().expect("there").is_symlink());
        assert_eq!(fs::read(outside.join("file")).expect("read"), b"outside");
        symlink(outside.join("file"), home.join("other")).expect("made");
        below.remove(Path::new("other")).expect("the link itself is removed");
        assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 1);
    }

    #[test]
    fn a_system_without_openat2_follows_no_symlink_either() {
        let around = tempfile::tempdir().expect("a folder");
        fs::create_dir(around.path().join("folder")).expect("made");
        symlink(around.path().join("folder"), around.path().join("link")).expect("made");
        let below = Below::open(around.path()).expect("opened");
        for open in [open_folder, open_unfollowed] {
            assert!(open(below.0.as_fd(), "folder").is_ok());
            assert!(open(below.0.as_fd(), "link").is_err());
        }
    }

    #[test]
    fn thousands_of_writes_beside_swaps_for_symlinks_change_nothing_outside() {
        use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
        let around = tempfile::tempdir().expect("a folder");
        let (home, outside) = (around.path().join("home"), around.path().join("outside"));
        fs::create_dir_all(home.join("a/b")).expect("made");
        fs::create_dir_all(outside.join("b")).expect("made");
        fs::write(outside.join("b/file"), "outside").expect("written");
        let below = Below::open(&home).expect("opened");
        let (is_done, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (a, away) = (home.join("a"), home.join("away"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    // A write may have made the folder anew.
                    if fs::rename(&a, &away).is_ok() && symlink(&outside, &a).is_ok() {
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = fs::remove_file(&a);
                    let _ = fs::rename(&away, &a);
                    let _ = folder_tree::remove_contents(&away);
                    let _ = folder_tree::remove_empty(&away);
                }
            });
            let mut written = 0;
            while written < 3000 || swaps.load(Ordering::Relaxed) < 3000 {
                written += usize::from(below.replace(Path::new("a/b/file"), b"own").is_ok());
                let _ = below.remove(Path::new("a/b/file"));
            }
            is_done.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read(outside.join("b/file")).expect("read"), b"outside");
        assert_eq!(fs::read_dir(outside.join("b")).expect("a folder").count(), 1);
        assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 1);
    }

    #[test]
    fn a_closed_folder_does_not_keep_a_file_and_a_moved_file_is_emptied() {
        let around = tempfile::tempdir().expect("a folder");
        let below = Below::open(around.path()).expect("opened");
        let path = Path::new("a/file");
        let written = below.replace(path, b"secret").expect("written");
        fs::hard_link(around.path().join(path), around.path().join("moved")).expect("linked");
        fs::set_permissions(around.path().join("a"), fs::Permissions::from_mode(0o0)).expect("closed");
        below.remove(path).expect("removed");
        assert!(!around.path().join(path).exists());
        written.empty().expect("emptied");
        assert_eq!(fs::read(around.path().join("moved")).expect("read"), b"");
    }
}
