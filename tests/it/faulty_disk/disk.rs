//! A disk on which one call fails, or all calls from one on.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use threadkey::sys::{
    disk::{Disk, DiskFile, Open, RealDisk, Stat},
    filesystem::FileSystem,
    lock::Mode,
};
use zeroize::Zeroizing;

/// The machine's disk, with a fault.
#[derive(Clone)]
pub(super) struct Failing(Arc<Fault>);

struct Fault {
    disk: RealDisk,
    calls: AtomicU64,
    /// The number of the call that fails; 0 is none.
    at: AtomicU64,
    /// Whether all later calls fail too.
    persistent: AtomicBool,
    errno: i32,
    failed_call: Mutex<Option<(&'static str, PathBuf)>>,
}

struct FailingFile {
    disk: Failing,
    path: PathBuf,
    file: Box<dyn DiskFile>,
}

// === impl Failing ===

impl Failing {
    pub(super) fn new(errno: i32) -> Self {
        let (calls, at, failed_call) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        let persistent = AtomicBool::new(false);
        Self(Arc::new(Fault { disk: RealDisk::new(), calls, at, persistent, errno, failed_call }))
    }

    /// Counts calls from now, and fails at this one; 0 fails at none.
    pub(super) fn arm(&self, at: u64) {
        self.0.calls.store(0, Ordering::SeqCst);
        self.0.at.store(at, Ordering::SeqCst);
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::SeqCst)
    }

    /// Returns the failed call, and its path.
    pub(super) fn failed_call(&self) -> Option<(&'static str, PathBuf)> {
        self.0.failed_call.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes all calls after a failed one fail too.
    pub(super) fn keep_failing(&self) {
        self.0.persistent.store(true, Ordering::SeqCst);
    }

    pub(super) fn recover(&self) {
        self.0.at.store(0, Ordering::SeqCst);
    }

    fn at<T>(
        &self,
        call: &'static str,
        path: &Path,
        run: impl FnOnce(&RealDisk) -> io::Result<T>,
    ) -> io::Result<T> {
        let number = self.0.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let at = self.0.at.load(Ordering::SeqCst);
        if number == at || (at != 0 && number > at && self.0.persistent.load(Ordering::SeqCst)) {
            *self.0.failed_call.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((call, path.to_owned()));
            return Err(io::Error::from_raw_os_error(self.0.errno));
        }
        run(&self.0.disk)
    }
}

impl Disk for Failing {
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.at("canonicalize", path, |disk| disk.canonicalize(path))
    }
    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.at("readlink", path, |disk| disk.read_link(path))
    }
    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.at("stat", path, |disk| disk.stat(path))
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let file = self.at("open", path, |disk| disk.open(path, how))?;
        Ok(Box::new(FailingFile { disk: self.clone(), path: path.to_owned(), file }))
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.at("mkdir", path, |disk| disk.create_folder(path))
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        self.at("list", folder, |disk| disk.list(folder))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at("rename", to, |disk| disk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at("remove", path, |disk| disk.remove(path))
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.at("fsync-folder", folder, |disk| disk.sync_folder(folder))
    }
    fn check_writable(&self, folder: &Path) -> io::Result<()> {
        self.at("access", folder, |disk| disk.check_writable(folder))
    }
    fn is_mount_point(&self, path: &Path) -> io::Result<bool> {
        self.at("statx", path, |disk| disk.is_mount_point(path))
    }
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        self.at("statfs", path, |disk| disk.file_system(path))
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.at("statvfs", path, |disk| disk.free_space(path))
    }
}

// === impl FailingFile ===

impl FailingFile {
    fn at<T>(&self, call: &'static str, run: impl FnOnce(&dyn DiskFile) -> io::Result<T>) -> io::Result<T> {
        self.disk.at(call, &self.path, |_| run(&*self.file))
    }
}

impl DiskFile for FailingFile {
    fn stat(&self) -> io::Result<Stat> {
        self.at("fstat", |file| file.stat())
    }
    fn read(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        self.at("read", |file| file.read(limit))
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.at("read", |file| file.read_at(offset, bytes))
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.at("write", |file| file.write_at(offset, bytes))
    }
    fn reserve(&self, from: u64, to: u64) -> io::Result<()> {
        self.at("reserve", |file| file.reserve(from, to))
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.at("truncate", |file| file.set_len(len))
    }
    fn sync(&self) -> io::Result<()> {
        self.at("fsync", |file| file.sync())
    }
    fn lock(&self, mode: Mode) -> io::Result<()> {
        self.at("lock", |file| file.lock(mode))
    }
    fn try_lock(&self, mode: Mode) -> io::Result<bool> {
        self.at("try-lock", |file| file.try_lock(mode))
    }
    fn unlock(&self) -> io::Result<()> {
        // Unlocking an open descriptor cannot fail, and is tried in every case.
        self.file.unlock()
    }
}
