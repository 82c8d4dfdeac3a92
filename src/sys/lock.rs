//! flock(2), a lock that ends with its holder.
//!
//! A lock belongs to an open file description, so two descriptors of one process exclude each other
//! as two processes do. An explicit `LOCK_UN` releases it, because a child that is just starting
//! may hold a copy of the descriptor until it calls exec. The kernel releases it when the last
//! holder dies, whatever killed it. The lock has no lease and no time, so neither a slow holder nor
//! a step of the clock ends it.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

pub use super::flock::Mode;

use super::disk::DiskFile;

/// How often a non-blocking attempt is repeated while the lock is only shared, by a waiter that is
/// about to release it.
const TRIES: u32 = 40;

/// How often a lock is tried while a caller waits for a limited time.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// A lock, held until it is dropped.
pub struct Lock {
    file: Box<dyn DiskFile>,
}

impl Lock {
    /// Takes the lock. Blocks until it is free.
    ///
    /// # Errors
    /// The system's.
    pub fn acquire(file: Box<dyn DiskFile>, mode: Mode) -> io::Result<Self> {
        file.lock(mode)?;
        Ok(Self { file })
    }

    /// Takes the lock exclusively; `None` if another descriptor holds it exclusively.
    ///
    /// A waiter takes a shared lock and releases it at once. During such a moment the lock counts
    /// as free, so the attempt is repeated a bounded number of times, with pauses of random length.
    ///
    /// # Errors
    /// The system's.
    pub fn try_exclusive(file: Box<dyn DiskFile>) -> io::Result<Option<Self>> {
        for _ in 0..TRIES {
            if file.try_lock(Mode::Exclusive)? {
                return Ok(Some(Self { file }));
            }
            if !file.try_lock(Mode::Shared)? {
                return Ok(None);
            }
            file.unlock()?;
            pause();
        }
        Ok(None)
    }

    /// Takes the lock exclusively; `None` if it is not free within `patience`. Tries again at short
    /// intervals, for a caller that runs once.
    ///
    /// # Errors
    /// The system's.
    pub fn exclusive_within(file: Box<dyn DiskFile>, patience: Duration) -> io::Result<Option<Self>> {
        let mut left = patience;
        loop {
            if file.try_lock(Mode::Exclusive)? {
                return Ok(Some(Self { file }));
            }
            if left.is_zero() {
                return Ok(None);
            }
            let pause = left.min(TRY_EVERY);
            sleep(pause);
            left -= pause;
        }
    }

    /// The locked file.
    pub fn file(&self) -> &dyn DiskFile {
        &*self.file
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It cannot fail on an open descriptor, and closing the file a moment later releases the
        // lock too.
        let _ = self.file.unlock();
    }
}

fn pause() {
    sleep(Duration::from_micros((super::random::fraction() * 1000.0) as u64));
}

#[expect(clippy::disallowed_methods, reason = "flock has no attempt that ends after a time")]
fn sleep(pause: Duration) {
    std::thread::sleep(pause);
}

/// Asks a second process, this program started as `__lock-probe PATH`, whether the lock of `path`
/// is held.
///
/// # Errors
/// The system's; `InvalidData` when the answer is neither `held` nor `free`.
#[expect(clippy::disallowed_methods, reason = "sys/ is where processes are started")]
pub fn probe_from_another_process(path: &Path) -> io::Result<bool> {
    // A program that was replaced while it runs is still found there.
    let own = Path::new("/proc/self/exe");
    let program = if cfg!(target_os = "linux") { own.to_owned() } else { std::env::current_exe()? };
    let output = Command::new(program)
        .arg("__lock-probe")
        .arg(path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .output()?;
    match output.stdout.trim_ascii() {
        b"held" => Ok(true),
        b"free" => Ok(false),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("it gave no answer ({})", output.status)))
        }
    }
}
