//! Small whole-file operations for all files but the store's.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::random;

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

fn check_length(read: usize) -> io::Result<()> {
    if read as u64 > MAX_TEXT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
    }
    Ok(())
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
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
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
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
