//! The disk of this machine.

use std::{
    ffi::OsString,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{Disk, DiskFile, Open, Stat};
#[cfg(feature = "test-util")]
use crate::sys::faults::Faults;
use crate::sys::{
    files::{PRIVATE_FILE, PRIVATE_FOLDER},
    filesystem::{self, FileSystem},
    flock::{self, Mode},
    folder_watch::FolderWatch,
    lock_holder::{self, LockHolder},
};

/// The machine's disk.
#[derive(Clone, Default)]
pub struct RealDisk {
    #[cfg(feature = "test-util")]
    faults: Faults,
    #[cfg(feature = "test-util")]
    user: Option<u32>,
}

impl RealDisk {
    /// The machine's disk. With `test-util` it has the faults that the environment names.
    pub fn new() -> Self {
        Self {
            #[cfg(feature = "test-util")]
            faults: Faults::from_environment(),
            #[cfg(feature = "test-util")]
            user: None,
        }
    }

    /// The machine's disk with these faults.
    #[cfg(feature = "test-util")]
    pub fn with(faults: Faults) -> Self {
        Self { faults, user: None }
    }

    /// The machine's disk, as a process of this user sees it. Access is checked as for the real
    /// user.
    #[cfg(feature = "test-util")]
    pub fn for_user(user: u32) -> Self {
        Self { user: Some(user), ..Self::default() }
    }

    #[cfg(feature = "test-util")]
    fn at<T>(&self, call: &str, path: &Path, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.faults.around(call, path, run)
    }

    #[cfg(not(feature = "test-util"))]
    fn at<T>(&self, _: &str, _: &Path, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        run()
    }
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
impl Disk for RealDisk {
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.at("canonicalize", path, || std::fs::canonicalize(path))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.at("readlink", path, || std::fs::read_link(path))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.at("stat", path, || Ok(std::fs::metadata(path)?.into()))
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        self.at("open", path, || {
            let mut options = OpenOptions::new();
            match how {
                // Without O_NONBLOCK, a FIFO in the file's place would block for ever.
                Open::Read => options.read(true).custom_flags(libc::O_NONBLOCK),
                Open::ReadWrite => {
                    options.read(true).write(true).create(true).truncate(false).mode(PRIVATE_FILE)
                }
                Open::CreateNew => options.write(true).create_new(true).mode(PRIVATE_FILE),
            };
            let file = options.open(path)?;
            Ok(Box::new(RealFile { file, path: path.to_owned(), disk: self.clone() }) as Box<dyn DiskFile>)
        })
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.at("mkdir", path, || DirBuilder::new().mode(PRIVATE_FOLDER).create(path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.at("list", folder, || std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at("rename", to, || std::fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at("remove", path, || std::fs::remove_file(path))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.at("fsync-folder", folder, || File::open(folder)?.sync_all())
    }

    fn check_writable(&self, folder: &Path) -> io::Result<()> {
        self.at("access", folder, || filesystem::check_writable(folder))
    }

    fn is_mount_point(&self, path: &Path) -> io::Result<bool> {
        self.at("statx", path, || filesystem::is_mount_point(path))
    }

    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.at("statfs", path, || filesystem::of(path))
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.at("statvfs", path, || filesystem::free_space(path))
    }

    fn watch(&self, file: &Path) -> io::Result<FolderWatch> {
        self.at("watch", file, || FolderWatch::new(file))
    }

    #[cfg(feature = "test-util")]
    fn effective_user(&self) -> u32 {
        self.user.unwrap_or_else(crate::sys::user::effective)
    }

    fn lock_holder(&self, path: &Path) -> Option<LockHolder> {
        lock_holder::of(path)
    }
}

struct RealFile {
    file: File,
    path: PathBuf,
    disk: RealDisk,
}

impl RealFile {
    /// Reads until `bytes` is full or the file ends.
    fn fill(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl DiskFile for RealFile {
    fn stat(&self) -> io::Result<Stat> {
        self.disk.at("fstat", &self.path, || Ok(self.file.metadata()?.into()))
    }

    fn read(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        self.disk.at("read", &self.path, || {
            // The buffer gets the file's length at once, and a little more. A buffer that grows
            // leaves copies of secrets in freed memory, now or when a caller inserts text.
            let len = usize::try_from(self.file.metadata()?.len().min(limit)).map_err(io::Error::other)?;
            let mut bytes = Zeroizing::new(vec![0; len + len / 16]);
            bytes.truncate(len);
            let filled = self.fill(0, &mut bytes)?;
            bytes.truncate(filled);
            Ok(bytes)
        })
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.at("read", &self.path, || self.fill(offset, bytes))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.at("write", &self.path, || self.file.write_all_at(bytes, offset))
    }

    fn reserve(&self, from: u64, to: u64) -> io::Result<()> {
        self.disk.at("reserve", &self.path, || filesystem::reserve(&self.file, from, to))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.at("truncate", &self.path, || self.file.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        // std's sync_all is fcntl(F_FULLFSYNC) on Apple systems, fsync(2) elsewhere.
        self.disk.at("fsync", &self.path, || self.file.sync_all())
    }

    fn lock(&self, mode: Mode) -> io::Result<()> {
        self.disk.at("lock", &self.path, || flock::lock(&self.file, mode))
    }

    fn try_lock(&self, mode: Mode) -> io::Result<bool> {
        self.disk.at("try-lock", &self.path, || flock::try_lock(&self.file, mode))
    }

    fn unlock(&self) -> io::Result<()> {
        self.disk.at("unlock", &self.path, || flock::unlock(&self.file))
    }
}
