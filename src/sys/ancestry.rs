//! The processes of a worker, by the kernel's facts.
//!
//! A child of this program leads a session of its own. Its processes are in that session, or descend
//! from it. No process can enter another's session, or become the descendant of another process's
//! child: a process gets its parent and its session when it is forked, and later only by the death of
//! its parent or by a session of its own. So a worker cannot pass for another one.

#![expect(unsafe_code, reason = "the session is read by a system call")]

/// How many parents are looked at.
const MAX_DEPTH: usize = 64;

/// Whether a process is that child, in its session, or its descendant. Reads a few small files of
/// `/proc`.
pub fn belongs_to(process: i32, child: u32) -> bool {
    // No process has the number 0, but `getsid` returns it for a session outside this PID namespace.
    let Some(child) = libc::pid_t::try_from(child).ok().filter(|child| *child > 0) else {
        return false;
    };
    // SAFETY: a plain number.
    if process > 0 && unsafe { libc::getsid(process) } == child {
        return true;
    }
    let parents = std::iter::successors(Some(process), |process| parent(*process));
    parents.take(MAX_DEPTH).any(|process| process == child)
}

/// Returns the parent of a process, or `None` if it has none that this process sees.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn parent(process: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may itself contain them.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_to_itself_and_not_to_a_stranger() {
        let own = std::process::id();
        let number = i32::try_from(own).expect("a number of a process");
        assert!(belongs_to(number, own));
        assert!(!belongs_to(number, u32::MAX) && !belongs_to(number, 0) && !belongs_to(0, own));
        let parent = std::os::unix::process::parent_id();
        assert!(!belongs_to(i32::try_from(parent).expect("a number"), own));
    }
}
