//! A Unix socket that one process serves and only its user can connect to.
//!
//! Invariants: the process that serves `<path>` holds the flock on `<path>.lock`. So if the lock is
//! free, a socket file at `<path>` belongs to a dead server. The socket appears at its path only
//! once it listens and has its mode.

use std::{
    fs::{File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use super::files::PRIVATE_FILE;

/// The longest socket path on every supported system in bytes (104 with the final zero on macOS),
/// less the `.new` under which the socket is made.
const MAX_PATH: usize = 103 - NEW.len();
const NEW: &str = ".new";

/// The reason that a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process serves it.
    #[error("another threadkey already serves {path}: stop it, or set another api.socket", path = .0.display())]
    Live(PathBuf),
    /// Another file has that name.
    #[error("{path} is not a socket, so it was left alone: set another api.socket", path = .0.display())]
    NotASocket(PathBuf),
    /// The path is too long for a socket.
    #[error("the socket path {path} is longer than {MAX_PATH} bytes, which systems refuse: set a shorter api.socket", path = .0.display())]
    TooLong(PathBuf),
    /// A system call failed.
    #[error("cannot {action} {path}: {source}. Check api.socket and the folder's permissions", path = path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A socket that is being served. Dropping it removes the file, if the file is still this socket's,
/// and then releases the lock.
#[derive(Debug)]
pub struct PrivateSocket {
    path: PathBuf,
    /// Device and inode of the socket file.
    file: (u64, u64),
    _lock: Option<File>,
}

/// Serves `path`: makes its folder with mode 0700 if it is missing, replaces a dead server's
/// socket, and gives the socket mode 0600. The listener does not block.
///
/// # Errors
/// See [`BindError`].
pub fn bind_private(path: &Path) -> Result<(UnixListener, PrivateSocket), BindError> {
    check_length(path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    super::files::create_private_folder(folder).map_err(|e| failed("make the folder", folder, e))?;
    let lock = lock(path)?;
    check_kind(path)?;
    let (listener, file) = listen(path).map_err(|e| failed("listen on", path, e))?;
    Ok((listener, PrivateSocket { path: path.to_owned(), file, _lock: Some(lock) }))
}

/// Serves `path` as [`bind_private`] does, in a folder whose sockets this process alone makes. It takes
/// no lock.
///
/// # Errors
/// See [`BindError`].
pub fn bind_in_own_folder(path: &Path) -> Result<(UnixListener, PrivateSocket), BindError> {
    check_length(path)?;
    check_kind(path)?;
    let (listener, file) = listen(path).map_err(|e| failed("listen on", path, e))?;
    Ok((listener, PrivateSocket { path: path.to_owned(), file, _lock: None }))
}

/// Refuses a path that is longer than a socket's may be.
///
/// # Errors
/// [`BindError::TooLong`].
pub fn check_length(path: &Path) -> Result<(), BindError> {
    if path.as_os_str().as_bytes().len() > MAX_PATH {
        return Err(BindError::TooLong(path.to_owned()));
    }
    Ok(())
}

/// Checks whether [`bind_private`] can serve `path`, and makes nothing. If the socket's folder is
/// missing, the nearest folder above it must be writable.
///
/// # Errors
/// See [`BindError`].
pub fn check_path(path: &Path) -> Result<(), BindError> {
    check_length(path)?;
    check_kind(path)?;
    let existing = path.ancestors().skip(1).find(|folder| folder.symlink_metadata().is_ok());
    let folder = existing.unwrap_or(Path::new("."));
    super::files::check_writable_folder(folder).map_err(|e| failed("make the socket in", folder, e))
}

/// Refuses a path at which a file of another kind exists.
fn check_kind(path: &Path) -> Result<(), BindError> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("look at", path, error)),
    }
}

impl Drop for PrivateSocket {
    #[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|there| identity(&there) == self.file) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn lock(path: &Path) -> Result<File, BindError> {
    let path_of_lock = beside(path, ".lock");
    let opened =
        OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE_FILE).open(&path_of_lock);
    let file = opened.map_err(|e| failed("open", &path_of_lock, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BindError::Live(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed("lock", &path_of_lock, error)),
    }
}

/// Makes the socket under another name and moves it to `path`, so that no client meets it before it
/// is ready.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn listen(path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let new = beside(path, NEW);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(&new, Permissions::from_mode(PRIVATE_FILE))?;
    let file = identity(&std::fs::symlink_metadata(&new)?);
    std::fs::rename(&new, path)?;
    Ok((listener, file))
}

fn identity(file: &std::fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> BindError {
    BindError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests put files where the socket goes")]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_is_private_and_gone_with_its_server() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("run/threadkey.sock");
        let (_listener, socket) = bind_private(&path).expect("binds");
        assert_eq!((mode(&path), mode(path.parent().expect("has one"))), (0o600, 0o700));
        UnixStream::connect(&path).expect("listens");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_live_server_is_left_alone_and_a_dead_ones_socket_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("threadkey.sock");
        drop(UnixListener::bind(&path).expect("binds"));
        assert!(path.exists(), "a dead server leaves its socket");
        let first = bind_private(&path).expect("takes its place");
        assert!(matches!(bind_private(&path), Err(BindError::Live(_))));
        UnixStream::connect(&path).expect("the first one still listens");
        drop(first);
        bind_private(&path).expect("is free again");
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_never_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("threadkey.sock");
        std::fs::write(&path, "precious").expect("writes");
        assert!(matches!(bind_private(&path), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("is there"), "precious");
        let long = folder.path().join("s".repeat(120));
        assert!(matches!(bind_private(&long), Err(BindError::TooLong(_))));
    }

    #[test]
    fn a_path_is_checked_without_making_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let in_folder = |name: &str| folder.path().join(name);
        std::fs::write(in_folder("file"), "precious").expect("writes");
        std::fs::create_dir(in_folder("folder")).expect("makes a folder");
        for wrong in ["file", "folder", "file/s", &"s".repeat(120)] {
            assert!(check_path(&in_folder(wrong)).is_err(), "{wrong}");
        }
        std::fs::set_permissions(in_folder("folder"), Permissions::from_mode(0o500)).expect("is ours");
        let is_root = crate::sys::user::effective() == 0;
        assert_eq!(check_path(&in_folder("folder/s")).is_ok(), is_root);
        check_path(&in_folder("missing/s")).expect("can be made");
        assert!(!in_folder("missing").exists());
    }

    #[test]
    fn a_server_removes_nothing_that_took_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("threadkey.sock");
        let (_listener, socket) = bind_private(&path).expect("binds");
        std::fs::remove_file(&path).expect("is there");
        let _other = UnixListener::bind(&path).expect("binds");
        drop(socket);
        assert!(path.exists());
    }
}
