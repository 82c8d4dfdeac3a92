//! Small whole-file operations for all files but the store's.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

/// The mode of each file that threadkey makes, the store's too: only its owner can read it.
pub const PRIVATE_FILE: u32 = 0o600;

/// The mode of each folder that threadkey makes.
pub const PRIVATE_FOLDER: u32 = 0o700;

use super::{filesystem, random};

/// The longest file that [`read_text`] reads, in bytes.
pub const MAX_TEXT: u64 = 4 * 1024 * 1024;

/// Reads a whole text file of at most [`MAX_TEXT`] bytes.
///
/// # Errors
/// The system's; `InvalidData` when it is longer or not UTF-8.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    check_length(read)?;
    Ok(text)
}

/// A text file, and the users that can have written it.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// The content.
    pub text: String,
    /// The id of its owner.
    pub owner: u32,
    /// The id of its group.
    pub group: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Whether it can be written through this mount at all.
    pub is_on_read_only_mount: bool,
}

/// Reads a text file as [`read_text`] does. Owner and mode are those of the file that was read.
///
/// # Errors
/// As [`read_text`].
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn read_text_file(path: &Path) -> io::Result<TextFile> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let is_on_read_only_mount = filesystem::is_read_only(&file)?;
    let len = usize::try_from(metadata.len().min(MAX_TEXT)).map_err(io::Error::other)?;
    let mut text = String::with_capacity(len);
    let read = file.take(MAX_TEXT + 1).read_to_string(&mut text)?;
    check_length(read)?;
    let (owner, group, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
    Ok(TextFile { text, owner, group, mode, is_on_read_only_mount })
}

/// Reads a whole file of at most [`MAX_TEXT`] bytes, which need not be text.
///
/// # Errors
/// The system's; `InvalidData` when it is longer.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
    check_length(read)?;
    Ok(bytes)
}

/// Returns the first line of a file, if it is text of at most 255 bytes.
///
/// # Errors
/// The system's.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn first_line(path: &Path) -> io::Result<Option<String>> {
    let mut start = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut start)?;
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(if line.len() < 256 { String::from_utf8(line.to_vec()).ok() } else { None })
}

/// Whether there is a file of this name.
pub fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

/// Checks that `path` is a folder in which this process may make files.
///
/// # Errors
/// The system's.
#[expect(unsafe_code, reason = "std has no access")]
pub fn check_writable_folder(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the string ends with a zero and lives through the call.
    match unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the mode of a file lets its group or others read it. A file that cannot be examined is not.
pub fn is_readable_by_others(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o044 != 0)
}

/// Whether both paths lead to the same file.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()));
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

fn check_length(read: usize) -> io::Result<()> {
    if read as u64 > MAX_TEXT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
    }
    Ok(())
}

/// Makes a new file that its owner alone can read, durably. After an error no file is left.
///
/// # Errors
/// The system's; `AlreadyExists` when there is a file of this name.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn create_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

/// Writes a file that its owner alone can read, in place and not durably. A reader may see a part of it.
/// Does not follow a symlink.
///
/// # Errors
/// The system's.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(PRIVATE_FILE).custom_flags(libc::O_NOFOLLOW);
    options.open(path)?.write_all(bytes)
}

/// Replaces a file as a whole, durably and readable by its owner alone: temp file in the same
/// folder, fsync, rename, fsync of the folder. After an error the old file is as it was.
///
/// # Errors
/// The system's.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let temp =
        folder.join(format!(".{}.{}.tmp", name.to_string_lossy(), crate::ids::hex(&random::bytes::<8>())));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, path)?;
        File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&temp);
    })
}

/// Makes a folder that only its owner can enter, and its parents. An existing folder is left as it
/// is.
///
/// # Errors
/// The system's.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(path)
}

/// Sets a file's time of change to now, and creates it if it is missing. Does not follow a symlink.
///
/// # Errors
/// The system's.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn touch(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(PRIVATE_FILE).custom_flags(libc::O_NOFOLLOW);
    let now = super::clock::Clock::system().now();
    let now = std::time::Duration::from_secs(u64::try_from(now).unwrap_or_default());
    options.open(path)?.set_modified(std::time::UNIX_EPOCH + now)
}

/// Returns a file's time of change. Does not follow a symlink.
///
/// # Errors
/// The system's.
pub fn changed_at(path: &Path) -> io::Result<super::clock::UnixTime> {
    Ok(path.symlink_metadata()?.mtime())
}

/// Returns the names in a folder that are UTF-8, in no order.
///
/// # Errors
/// The system's.
pub fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?;
    let names =
        entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose());
    names.collect()
}

/// Removes a file. A missing one is not an error.
///
/// # Errors
/// The system's.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
