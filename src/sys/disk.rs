//! The disk as the store needs it. Every system call that can fail, or be a process's last one, is
//! a method of its own, so that a test can cause either.

mod real;

pub use real::RealDisk;

use std::{
    ffi::OsString,
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{filesystem::FileSystem, flock::Mode, folder_watch::FolderWatch, lock_holder::LockHolder, user};

/// The attributes of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The device.
    pub device: u64,
    /// The number of the file on that device.
    pub inode: u64,
    /// The permission bits, `0o7777` at most.
    pub mode: u32,
    /// The owner's user id.
    pub owner: u32,
    /// The number of its names.
    pub links: u64,
    /// The length in bytes.
    pub len: u64,
    /// The time of the last change of the content (mtime): seconds and nanoseconds. The owner can
    /// set it.
    pub modified: (i64, i64),
    /// The time of the last change of content or attributes (ctime): seconds and nanoseconds. No
    /// call sets it.
    pub changed: (i64, i64),
    /// Whether it is a regular file.
    pub is_file: bool,
}

impl Stat {
    /// Whether both belong to the same file.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

impl From<Metadata> for Stat {
    fn from(metadata: Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            links: metadata.nlink(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_file: metadata.is_file(),
        }
    }
}

/// Whether the device itself failed (`EIO`).
pub fn is_device_fault(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Whether this process, or the machine, has as many files open as it may (`EMFILE`, `ENFILE`).
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// A way to open a file; the descriptor is always close-on-exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading.
    Read,
    /// For reading and writing. A missing file is made with mode 0600.
    ReadWrite,
    /// For writing. The file is made with mode 0600; an existing file is an error.
    CreateNew,
}

/// A disk. Each method is one or a few system calls, and returns their errors.
#[expect(missing_docs, reason = "the methods are named after the calls")]
pub trait Disk: Send + Sync + 'static {
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// Follows symlinks.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// With mode 0700. The parent must exist.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Returns an error unless this process may make files in `folder`.
    fn check_writable(&self, folder: &Path) -> io::Result<()>;
    /// Whether something is mounted on `path` itself; `false` where the system has no answer.
    fn is_mount_point(&self, path: &Path) -> io::Result<bool>;
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;
    /// The space in bytes that this user can still write.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Watches a file's name in its folder. Must be called within a Tokio runtime. A disk of a test
    /// has no change notices.
    fn watch(&self, _file: &Path) -> io::Result<FolderWatch> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The user to whom new files and folders belong.
    fn effective_user(&self) -> u32 {
        user::effective()
    }
    /// The process that holds the lock of a file exclusively; `None` if there is none, or if the
    /// system does not name it. A disk of a test names none.
    fn lock_holder(&self, _path: &Path) -> Option<LockHolder> {
        None
    }
}

/// An open file.
#[expect(missing_docs, reason = "the methods are named after the calls")]
pub trait DiskFile: Send + Sync {
    fn stat(&self) -> io::Result<Stat>;
    /// Reads the whole content, or its first `limit` bytes.
    fn read(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>>;
    /// Reads from `offset` until `bytes` is full or the file ends. Returns the number of bytes
    /// read, 0 at the end.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset` from the start.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reserves space, so that writing the bytes `from..to` cannot fail for lack of it. May extend
    /// the file with zeros.
    fn reserve(&self, from: u64, to: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable (`F_FULLFSYNC` on macOS).
    fn sync(&self) -> io::Result<()>;
    /// Waits for the lock.
    fn lock(&self, mode: Mode) -> io::Result<()>;
    /// Returns `false` if another lock excludes this one.
    fn try_lock(&self, mode: Mode) -> io::Result<bool>;
    fn unlock(&self) -> io::Result<()>;
}
