//! Folders whose content another process chose: it is listed and removed with bounded memory, a
//! bounded number of descriptors, and without following a symlink.
//!
//! Every step names one entry below an open directory descriptor. A symlink that a process puts in
//! the place of a folder is therefore never followed. A removal needs no recursion: it moves the
//! folders of a folder up before it removes the empty folder, so no depth can exhaust the stack.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, Mode, OFlags, chmod, mkdirat, openat, renameat, statat, unlinkat},
    io::Errno,
};

use super::random;
use crate::ids::hex;

/// How many entries are read at once.
const BATCH: usize = 1024;
/// How many entries are counted at most.
const MAX_COUNTED: usize = 10_000;
/// How many batches one removal takes at most. A process that still writes cannot hold it for ever.
const MAX_BATCHES: usize = 100_000;

pub(super) const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The entries of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The first names in order. The name of a folder ends with a slash.
    pub names: Vec<String>,
    /// How many entries follow, of at most 10,000 that are counted.
    pub more: usize,
}

/// Lists the first `max` entries of a folder. A missing folder has none.
///
/// # Errors
/// The system's; `NotADirectory` for a symlink.
pub fn list(folder: &Path, max: usize) -> io::Result<Listing> {
    let folder = match openat(CWD, folder, FOLDER | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Listing::default()),
        opened => opened?,
    };
    let mut all = Vec::new();
    for name in entries(&folder, MAX_COUNTED)? {
        let is_folder = statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory
        });
        all.push(format!("{}{}", name.to_string_lossy(), if is_folder { "/" } else { "" }));
    }
    all.sort_unstable();
    let more = all.len().saturating_sub(max);
    all.truncate(max);
    Ok(Listing { names: all, more })
}

/// Removes everything in a folder, and keeps the folder. A missing folder is empty.
///
/// # Errors
/// The system's; entries may have been removed. `NotADirectory` for a symlink.
pub fn remove_contents(folder: &Path) -> io::Result<()> {
    let top = match openat(CWD, folder, FOLDER | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ACCESS) => open_closed(CWD, folder)?,
        opened => opened?,
    };
    let mut moved = Moved { prefix: hex(&random::bytes::<8>()), count: 0 };
    for _ in 0..MAX_BATCHES {
        let batch = entries(&top, BATCH)?;
        if batch.is_empty() {
            return Ok(());
        }
        for name in batch {
            if !is_removed(&top, &name)? {
                empty_into(&top, &name, &mut moved)?;
            }
        }
    }
    Err(io::Error::other("a process still writes there"))
}

/// The names of folders that were moved up.
struct Moved {
    prefix: String,
    count: u64,
}

/// Removes a file, a symlink or an empty folder. Returns false for a folder with entries.
fn is_removed(parent: &OwnedFd, name: &CString) -> io::Result<bool> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes the files of the folder `name`, and moves its folders up into `top`.
fn empty_into(top: &OwnedFd, name: &CString, moved: &mut Moved) -> io::Result<()> {
    // Moving an entry needs the right to search its folder, which its owner may have taken away.
    let folder = open_closed(top, name)?;
    for entry in entries(&folder, BATCH)? {
        if is_removed(&folder, &entry)? {
            continue;
        }
        // A folder moves only if it may be written, because its entry `..` changes.
        drop(open_closed(&folder, &entry)?);
        moved.count += 1;
        renameat(&folder, &entry, top, format!(".{}-{}", moved.prefix, moved.count))?;
    }
    Ok(())
}

/// Opens a folder, and gives its owner all rights to it first.
pub(super) fn open_closed<P: rustix::path::Arg + Copy>(
    parent: impl std::os::fd::AsFd + Copy,
    name: P,
) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        // A descriptor of this kind needs no rights to the folder itself.
        let found = openat(parent, name, FOLDER | OFlags::PATH, Mode::empty())?;
        chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), Mode::RWXU)?;
        Ok(openat(&found, c".", FOLDER | OFlags::RDONLY, Mode::empty())?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(openat(parent, name, FOLDER | OFlags::RDONLY, Mode::empty())?)
    }
}

/// Returns the first names of a folder, in no order.
fn entries(folder: &OwnedFd, max: usize) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
            if names.len() == max {
                break;
            }
        }
    }
    Ok(names)
}

/// Gives the owner of a folder all rights to it again. A folder that has them is not touched, and a
/// missing one is not an error.
///
/// # Errors
/// The system's; `NotADirectory` for a symlink.
pub fn restore_rights(folder: &Path) -> io::Result<()> {
    match statat(CWD, folder, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if Mode::from_raw_mode(stat.st_mode).contains(Mode::RWXU) => Ok(()),
        Ok(_) => open_closed(CWD, folder).map(drop),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes an empty folder that only its owner can enter. Its parent exists.
///
/// # Errors
/// The system's; `AlreadyExists`.
pub fn make(folder: &Path) -> io::Result<()> {
    Ok(mkdirat(CWD, folder, Mode::RWXU)?)
}

/// Removes an empty folder. A missing one is not an error.
///
/// # Errors
/// The system's.
pub fn remove_empty(folder: &Path) -> io::Result<()> {
    match unlinkat(CWD, folder, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Moves a folder within its file system. Nothing may have the new name, except an empty folder.
///
/// # Errors
/// The system's.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat(CWD, from, CWD, to)?)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_removal_follows_no_symlink_and_keeps_the_folder() {
        let around = tempfile::tempdir().expect("a folder");
        let (folder, outside) = (around.path().join("worker"), around.path().join("outside"));
        fs::create_dir_all(folder.join("a/b/c")).expect("made");
        fs::create_dir(&outside).expect("made");
        for file in [folder.join("a/b/c/file"), folder.join("file"), outside.join("file")] {
            fs::write(file, "x").expect("written");
        }
        symlink(&outside, folder.join("link")).expect("made");
        symlink(&outside, folder.join("a/link")).expect("made");
        remove_contents(&folder).expect("removed");
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 0);
        assert!(outside.join("file").exists());

        let link = around.path().join("link");
        symlink(&outside, &link).expect("made");
        assert!(remove_contents(&link).is_err(), "a link in the place of the folder");
        assert!(list(&link, 1).is_err());
        assert!(outside.join("file").exists());
        assert!(remove_contents(&around.path().join("missing")).is_ok());
    }

    #[test]
    fn neither_depth_nor_closed_folders_stop_a_removal() {
        use std::os::unix::fs::PermissionsExt as _;
        let around = tempfile::tempdir().expect("a folder");
        let folder = around.path().join("worker");
        fs::create_dir(&folder).expect("made");
        // 5,000 levels are deeper than a path may be long, so they are made from the inside out.
        for level in 0..5000 {
            let outer = around.path().join(format!("level-{level}"));
            fs::create_dir(&outer).expect("made");
            if level > 0 {
                fs::rename(around.path().join(format!("level-{}", level - 1)), outer.join("d"))
                    .expect("moved");
            }
        }
        fs::rename(around.path().join("level-4999"), folder.join("d")).expect("moved");
        fs::create_dir_all(folder.join("closed/inner")).expect("made");
        fs::set_permissions(folder.join("closed/inner"), fs::Permissions::from_mode(0o0)).expect("closed");
        fs::set_permissions(folder.join("closed"), fs::Permissions::from_mode(0o0)).expect("closed");
        remove_contents(&folder).expect("removed");
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 0);
    }

    #[test]
    fn a_listing_is_sorted_bounded_and_counts_the_rest() {
        let around = tempfile::tempdir().expect("a folder");
        for name in ["b", "c", "d"] {
            fs::write(around.path().join(name), "x").expect("written");
        }
        fs::create_dir(around.path().join("a")).expect("made");
        let listing = list(around.path(), 2).expect("listed");
        assert_eq!(listing, Listing { names: vec!["a/".into(), "b".into()], more: 2 });
        assert_eq!(list(&around.path().join("missing"), 2).expect("listed"), Listing::default());
    }
}
