//! kqueue(2), with a descriptor on everything that is watched. It does not say which entry of a folder has changed, so each one
//! counts, and whoever is woken looks.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, FromRawFd as _, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
};

const GONE: u32 = libc::NOTE_DELETE | libc::NOTE_RENAME | libc::NOTE_REVOKE;
const ENTRIES: u32 = GONE | libc::NOTE_WRITE | libc::NOTE_ATTRIB;

#[derive(Debug)]
pub(super) struct Watcher {
    queue: OwnedFd,
    watched: Vec<File>,
    before: Vec<File>,
}

impl Watcher {
    #[expect(unsafe_code, reason = "std has no kqueue")]
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: kqueue takes nothing; what it returns, if it is no error, is a new descriptor that nobody else owns.
        let queue = unsafe {
            let fd = libc::kqueue();
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { queue, watched: Vec::new(), before: Vec::new() })
    }

    pub(super) fn begin(&mut self) {
        self.before.append(&mut self.watched);
    }

    /// Closing a descriptor ends its watch.
    pub(super) fn settle(&mut self) {
        self.before.clear();
    }

    pub(super) fn watch_entry(&mut self, folder: &Path, _: &OsStr) -> io::Result<()> {
        self.add(folder, ENTRIES)
    }

    pub(super) fn watch_itself(&mut self, step: &Path) -> io::Result<()> {
        self.add(step, GONE)
    }

    #[expect(clippy::unnecessary_wraps, reason = "another system has more to watch of a symlink")]
    pub(super) fn watch_symlink(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "another system has more to say")]
    pub(super) fn sees_all(&self) -> bool {
        true
    }

    pub(super) fn watch_file(&mut self, file: &Path) -> io::Result<()> {
        self.add(file, ENTRIES)
    }

    /// Whether there were events; `WouldBlock` when there are none.
    #[expect(unsafe_code, reason = "std has no kqueue")]
    pub(super) fn read(&mut self) -> io::Result<bool> {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: an event of zeros is one, and is written by the call; all pointers live through it.
        let got = unsafe {
            let mut events: [libc::kevent; 64] = std::mem::zeroed();
            libc::kevent(
                self.queue.as_raw_fd(),
                std::ptr::null(),
                0,
                events.as_mut_ptr(),
                64,
                std::ptr::from_ref(&at_once),
            )
        };
        match got {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            got if got > 0 => Ok(true),
            _ => Err(io::Error::last_os_error()),
        }
    }

    #[expect(unsafe_code, reason = "std has no kqueue")]
    #[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
    fn add(&mut self, path: &Path, notes: u32) -> io::Result<()> {
        // O_SYMLINK opens the symlink itself; it excludes reading one that leads nowhere, which O_EVTONLY does not need.
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_EVTONLY | libc::O_SYMLINK).open(path)?;
        // SAFETY: an event of zeros is one; the call reads it and keeps nothing but its numbers.
        let added = unsafe {
            let mut change: libc::kevent = std::mem::zeroed();
            change.ident = file.as_raw_fd() as usize;
            change.filter = libc::EVFILT_VNODE;
            change.flags = libc::EV_ADD | libc::EV_CLEAR;
            change.fflags = notes;
            libc::kevent(
                self.queue.as_raw_fd(),
                std::ptr::from_ref(&change),
                1,
                std::ptr::null_mut(),
                0,
                std::ptr::null(),
            )
        };
        if added < 0 {
            return Err(io::Error::last_os_error());
        }
        self.watched.push(file);
        Ok(())
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.queue.as_raw_fd()
    }
}
