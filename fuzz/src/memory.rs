//! A disk in memory, for one process and without faults. It is fast enough for thousands of stores
//! a second. Other tests cover crashes.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use threadkey::sys::{
    disk::{Disk, DiskFile, Open, Stat},
    filesystem::FileSystem,
    lock::Mode,
};
use zeroize::Zeroizing;

/// The longest wait for a lock. No thread holds one longer than a change takes.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// A disk. Clones share its content.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<File>>,
    folders: BTreeSet<PathBuf>,
    made: u64,
}

struct File {
    number: u64,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    bytes: Vec<u8>,
    /// The number of changes in place.
    changes: i64,
    locked: bool,
}

struct Handle(Arc<File>);

// === impl MemoryDisk ===

impl MemoryDisk {
    /// Creates a disk with this folder and its ancestors.
    pub fn new(folder: &Path) -> Self {
        let disk = Self::default();
        disk.state().folders.extend(folder.ancestors().map(Path::to_owned));
        disk
    }

    /// Writes a new file, in place of an existing one of that name.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let file = self.state().make(path);
        file.inside().bytes = bytes.to_vec();
    }

    /// Returns the file's content, or `None` if the file does not exist.
    pub fn get(&self, path: &Path) -> Option<Vec<u8>> {
        let file = self.state().files.get(path)?.clone();
        let bytes = file.inside().bytes.clone();
        Some(bytes)
    }

    /// Returns the paths of all files.
    pub fn names(&self) -> Vec<PathBuf> {
        self.state().files.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn effective_user(&self) -> u32 {
        FOLDER.owner
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.state().stat(path).map(|_| path.to_owned())
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.state().stat(path).and(Err(io::ErrorKind::InvalidInput.into()))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.state().stat(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let file = match (state.files.get(path).cloned(), how) {
            (Some(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, Open::Read) => return Err(not_found()),
            (None, _) => state.make(path),
        };
        Ok(Box::new(Handle(file)))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.state().folders.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let state = self.state();
        let here = state.files.keys().filter(|path| path.parent() == Some(folder));
        Ok(here.filter_map(|path| path.file_name()).map(OsString::from).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.files.remove(from).ok_or_else(not_found)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.state().files.remove(path).map(drop).ok_or_else(not_found)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.state().stat(folder).map(drop)
    }

    fn check_writable(&self, folder: &Path) -> io::Result<()> {
        self.state().stat(folder).map(drop)
    }

    fn is_mount_point(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        Ok(FileSystem { name: "memory".into(), locks_hold: true })
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

// === impl State ===

impl State {
    fn make(&mut self, path: &Path) -> Arc<File> {
        self.made += 1;
        let file = Arc::new(File { number: self.made, inside: Mutex::default() });
        self.files.insert(path.to_owned(), file.clone());
        file
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        match self.files.get(path) {
            Some(file) => Ok(file.stat()),
            None if self.folders.contains(path) => Ok(FOLDER),
            None => Err(not_found()),
        }
    }
}

const FOLDER: Stat = Stat {
    device: 1,
    inode: 0,
    mode: 0o700,
    owner: 0,
    links: 1,
    len: 0,
    modified: (0, 0),
    changed: (0, 0),
    is_file: false,
};

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

// === impl File ===

impl File {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut inside = self.inside();
        change(&mut inside.bytes);
        inside.changes += 1;
        Ok(())
    }

    fn stat(&self) -> Stat {
        let inside = self.inside();
        let (len, changed) = (inside.bytes.len() as u64, (inside.changes, 0));
        Stat { inode: self.number, mode: 0o600, len, modified: changed, changed, is_file: true, ..FOLDER }
    }
}

// === impl Handle ===

impl DiskFile for Handle {
    fn stat(&self) -> io::Result<Stat> {
        Ok(self.0.stat())
    }

    fn read(&self, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
        let inside = self.0.inside();
        let end = inside.bytes.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Zeroizing::new(inside.bytes[..end].to_vec()))
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let inside = self.0.inside();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(inside.bytes.len());
        let read = bytes.len().min(inside.bytes.len() - from);
        bytes[..read].copy_from_slice(&inside.bytes[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        self.0.change(|content| {
            content.resize(content.len().max(from + bytes.len()), 0);
            content[from..from + bytes.len()].copy_from_slice(bytes);
        })
    }

    fn reserve(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.0.change(|content| content.resize(len, 0))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, mode: Mode) -> io::Result<()> {
        // The store that was closed last may still be on its way out of the lock: it answers before it unlocks.
        let since = Instant::now();
        while !self.try_lock(mode)? {
            assert!(since.elapsed() < LOCK_WAIT, "the process waits for a lock that it holds itself");
            std::thread::yield_now();
        }
        Ok(())
    }

    fn try_lock(&self, _: Mode) -> io::Result<bool> {
        Ok(!std::mem::replace(&mut self.0.inside().locked, true))
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.inside().locked = false;
        Ok(())
    }
}
