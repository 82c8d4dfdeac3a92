//! The system call flock(2) on the machine's own files. [`super::lock`] describes the lock.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, RawFd},
};

/// The mode of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Other holders may share it.
    Shared,
    /// No other holder may share it.
    Exclusive,
}

impl Mode {
    fn operation(self) -> libc::c_int {
        match self {
            Self::Shared => libc::LOCK_SH,
            Self::Exclusive => libc::LOCK_EX,
        }
    }
}

pub(super) fn lock(file: &File, mode: Mode) -> io::Result<()> {
    flock(file.as_raw_fd(), mode.operation())
}

pub(super) fn try_lock(file: &File, mode: Mode) -> io::Result<bool> {
    match flock(file.as_raw_fd(), mode.operation() | libc::LOCK_NB) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn unlock(file: &File) -> io::Result<()> {
    flock(file.as_raw_fd(), libc::LOCK_UN)
}

#[expect(
    unsafe_code,
    reason = "flock(2) has no safe wrapper that also takes LOCK_SH and LOCK_NB on every target"
)]
fn flock(fd: RawFd, operation: libc::c_int) -> io::Result<()> {
    loop {
        // SAFETY: flock takes two integers and touches no memory; a bad descriptor is an error, not
        // undefined.
        if unsafe { libc::flock(fd, operation) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
