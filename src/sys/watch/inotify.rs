//! inotify(7).
//!
//! A watch belongs to an inode, and following a path again meets most of them again: they keep their numbers, and those that were not
//! met are given back. An event that is read for one of those was in the queue before the path was followed, and says nothing new.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd, FromRawFd as _, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// An entry of a folder: moved to or away, made, removed, written to, other permissions. And the folder's own permissions.
const ENTRY: u32 = libc::IN_MOVED_TO
    | libc::IN_MOVED_FROM
    | libc::IN_CREATE
    | libc::IN_DELETE
    | libc::IN_CLOSE_WRITE
    | libc::IN_ATTRIB
    | libc::IN_ONLYDIR;
/// A folder or symlink that is a step of the path.
const ITSELF: u32 = libc::IN_MOVE_SELF | libc::IN_DELETE_SELF | libc::IN_DONT_FOLLOW;
/// A symlink's number of links changes when it is removed or replaced, and that is told at once, however many have it open.
const SYMLINK: u32 = ITSELF | libc::IN_ATTRIB;
/// The end of a watch, which nobody has to ask for; and the queue's overflow.
const ENDED: u32 = libc::IN_IGNORED | libc::IN_UNMOUNT;

/// Length of `struct inotify_event` without the name.
const HEAD: usize = 16;

/// The names of interest in what is watched; without any, itself is of interest alone.
type Watches = BTreeMap<i32, Vec<OsString>>;

#[derive(Debug)]
pub(super) struct Watcher {
    events: File,
    watches: Watches,
    before: Watches,
    sees_all: bool,
}

impl Watcher {
    #[expect(unsafe_code, reason = "std has no inotify")]
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: inotify_init1 takes a number; what it returns, if it is no error, is a new descriptor that nobody else owns.
        let events = unsafe {
            let fd = libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(fd)
        };
        Ok(Self { events, watches: Watches::new(), before: Watches::new(), sees_all: true })
    }

    /// The path is about to be followed.
    pub(super) fn begin(&mut self) {
        // What an attempt that failed has left goes with the rest.
        self.before.append(&mut self.watches);
        self.sees_all = true;
    }

    /// The path has been followed: gives back what it does not lead through any more.
    #[expect(unsafe_code, reason = "std has no inotify")]
    pub(super) fn settle(&mut self) {
        for watch in std::mem::take(&mut self.before).into_keys() {
            if !self.watches.contains_key(&watch) {
                // SAFETY: plain numbers. It fails where the kernel has given the watch up by itself.
                unsafe { libc::inotify_rm_watch(self.events.as_raw_fd(), watch) };
            }
        }
    }

    pub(super) fn watch_entry(&mut self, folder: &Path, name: &OsStr) -> io::Result<()> {
        let watch = self.add(folder, ENTRY)?;
        self.watches.entry(watch).or_default().push(name.to_owned());
        Ok(())
    }

    /// One that may not be read cannot be watched, and may all the same be passed through.
    pub(super) fn watch_itself(&mut self, step: &Path) -> io::Result<()> {
        match self.add(step, ITSELF) {
            Ok(watch) => {
                self.watches.entry(watch).or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.sees_all = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn watch_symlink(&mut self, link: &Path) -> io::Result<()> {
        let watch = self.add(link, SYMLINK)?;
        self.watches.entry(watch).or_default();
        Ok(())
    }

    pub(super) fn sees_all(&self) -> bool {
        self.sees_all
    }

    /// Its entry tells all of it.
    #[expect(clippy::unnecessary_wraps, reason = "another system has to watch the file itself")]
    pub(super) fn watch_file(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Reads some events. Whether one of them may matter; `WouldBlock` when there are none.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let read = (&self.events).read(&mut buffer)?;
        let mut rest = &buffer[..read];
        let mut matters = false;
        while let Some((event, after)) = Event::split(rest) {
            matters |= self.matters(&event);
            rest = after;
        }
        Ok(matters)
    }

    fn matters(&self, event: &Event<'_>) -> bool {
        if event.mask & libc::IN_Q_OVERFLOW != 0 {
            return true;
        }
        let Some(names) = self.watches.get(&event.watch) else { return false };
        event.mask & ENDED != 0 || event.name.is_empty() || names.iter().any(|name| name == event.name)
    }

    #[expect(unsafe_code, reason = "std has no inotify")]
    fn add(&self, path: &Path, mask: u32) -> io::Result<i32> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the string ends with a zero and lives through the call.
        let watch = unsafe {
            libc::inotify_add_watch(self.events.as_raw_fd(), path.as_ptr(), mask | libc::IN_MASK_ADD)
        };
        if watch < 0 { Err(io::Error::last_os_error()) } else { Ok(watch) }
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}

/// `struct inotify_event`.
struct Event<'a> {
    watch: i32,
    mask: u32,
    /// Empty where it is about what is watched itself.
    name: &'a OsStr,
}

impl<'a> Event<'a> {
    /// The first one in `bytes`, and what comes after it.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let end = HEAD.checked_add(usize::try_from(word(12)?).ok()?)?;
        let name = bytes.get(HEAD..end)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let event = Self { watch: word(0)?.cast_signed(), mask: word(4)?, name: OsStr::from_bytes(name) };
        Some((event, &bytes[end..]))
    }
}
