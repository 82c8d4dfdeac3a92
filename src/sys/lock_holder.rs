//! The process that holds a flock(2), where the system names it.
//!
//! flock(2) has no call that asks for the holder. Linux lists all locks in `/proc/locks`, by device
//! and inode. Other systems name no holder. A process of another process namespace is not listed.

use std::{fmt, path::Path};

/// The longest command name that is shown, in bytes; the kernel's own limit.
#[cfg(target_os = "linux")]
const MAX_COMMAND: usize = 16;

/// A process that holds a lock exclusively.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Its id.
    pub pid: u32,
    /// The name of its program, without arguments; `None` if the system hides it.
    pub command: Option<String>,
    /// Whether it is stopped (SIGSTOP, SIGTSTP, or by a debugger), and so never releases the lock by
    /// itself.
    pub is_stopped: bool,
}

impl LockHolder {
    /// Whether it is this process.
    pub fn is_this_process(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Returns the next step of a user who waits for the lock.
    pub fn next_step(&self) -> String {
        let pid = self.pid;
        if self.is_stopped {
            format!(
                "let it go on with `kill -CONT {pid}`, or end it with `kill -KILL {pid}`, which loses nothing; then try again"
            )
        } else {
            "try again in a moment".to_owned()
        }
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if let Some(command) = &self.command {
            write!(f, " ({command})")?;
        }
        if self.is_stopped { f.write_str(", which is stopped") } else { Ok(()) }
    }
}

/// Returns the process that holds the lock of the file at `path` exclusively. `None` if there is
/// none, or the system does not name it.
#[cfg(target_os = "linux")]
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub(super) fn of(path: &Path) -> Option<LockHolder> {
    use std::os::unix::fs::MetadataExt as _;

    let file = std::fs::metadata(path).ok()?;
    let device = (libc::major(file.dev()), libc::minor(file.dev()));
    let locks = super::files::read_text("/proc/locks".as_ref()).ok()?;
    let pid = find(&locks, device, file.ino())?;
    // The name may be any bytes.
    let stat = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let (command, is_stopped) =
        parse_stat(&stat).map_or((None, false), |(name, stopped)| (Some(name), stopped));
    Some(LockHolder { pid, command, is_stopped })
}

/// Names no holder: this system does not list its locks.
#[cfg(not(target_os = "linux"))]
pub(super) fn of(_: &Path) -> Option<LockHolder> {
    None
}

/// Finds the exclusive flock on a file in the text of `/proc/locks`. A file system may show another
/// device there than in stat(2), as btrfs does. Then the inode alone counts, if it is unique.
#[cfg(target_os = "linux")]
fn find(locks: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let candidates = locks.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The second word of a line about a waiter is an arrow.
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else { return None };
        let mut parts = file.split(':');
        let major = u32::from_str_radix(parts.next()?, 16).ok()?;
        let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
        let found: u64 = parts.next()?.parse().ok()?;
        let pid: u32 = pid.parse().ok().filter(|pid| *pid > 0)?;
        (found == inode).then_some(((major, minor), pid))
    });
    let candidates: Vec<_> = candidates.collect();
    match candidates.iter().find(|(of, _)| *of == device) {
        Some((_, pid)) => Some(*pid),
        None if candidates.len() == 1 => candidates.first().map(|(_, pid)| *pid),
        None => None,
    }
}

/// Reads the program's name, and whether the process is stopped, from `/proc/PID/stat`.
#[cfg(target_os = "linux")]
fn parse_stat(stat: &[u8]) -> Option<(String, bool)> {
    // The name stands in parentheses and may contain some itself.
    let start = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let name = stat.get(start..end)?.iter().take(MAX_COMMAND);
    let name = name.map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }).collect();
    let state = stat.get(end + 2)?;
    Some((name, matches!(state, b'T' | b't')))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: FLOCK  ADVISORY  WRITE 41 08:01:77 0 EOF
1: -> FLOCK  ADVISORY  WRITE 42 08:01:77 0 EOF
2: POSIX  ADVISORY  WRITE 43 08:01:78 0 EOF
3: FLOCK  ADVISORY  READ 44 08:01:79 0 EOF
4: FLOCK  ADVISORY  WRITE 45 00:1f:80 0 EOF
5: FLOCK  ADVISORY  WRITE 46 fd:00:81 0 EOF
6: FLOCK  ADVISORY  WRITE 47 fe:00:81 0 EOF
7: FLOCK  ADVISORY  WRITE 0 08:01:82 0 EOF
";

    #[test]
    fn the_holder_is_the_process_with_the_exclusive_flock_on_that_file() {
        let found = |device, inode| find(LOCKS, device, inode);
        assert_eq!(found((8, 1), 77), Some(41), "and not its waiter");
        assert_eq!(found((8, 1), 78), None, "a lock of another kind");
        assert_eq!(found((8, 1), 79), None, "a shared lock is held for a moment only");
        assert_eq!(found((0, 0x2a), 80), Some(45), "the device differs and the inode is unique");
        assert_eq!(found((0xfe, 0), 81), Some(47));
        assert_eq!(found((8, 1), 81), None, "two files have this inode");
        assert_eq!(found((8, 1), 82), None, "a process of another namespace");
    }

    #[test]
    fn a_stopped_process_is_recognised_and_no_name_reaches_a_terminal_unfiltered() {
        assert_eq!(parse_stat(b"41 (threadkey) T 1 41"), Some(("threadkey".into(), true)));
        assert_eq!(parse_stat(b"41 (a) S) S 1 41"), Some(("a)?S".into(), false)));
        assert_eq!(parse_stat(b"41 (\x1b[2Jx) t 1"), Some(("?[2Jx".into(), true)));
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"41 (x)"), None);
    }

    #[test]
    fn a_lock_of_this_process_is_found_on_this_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.lock");
        #[expect(clippy::disallowed_methods, reason = "the file is the test's own")]
        let file = std::fs::File::create(&path).expect("writable");
        assert_eq!(of(&path), None);
        super::super::flock::lock(&file, super::super::flock::Mode::Exclusive).expect("free");
        let holder = of(&path).expect("listed");
        assert!(holder.is_this_process() && !holder.is_stopped && holder.command.is_some(), "{holder:?}");
    }
}
