//! A command in the user's terminal: a child with this process's own standard streams, process group and
//! environment.
//!
//! It stays in this process's group, so the terminal's own signals (Ctrl-C, Ctrl-\\, Ctrl-Z) reach it as
//! they reach every program in the foreground, and a shell stops and continues both together. This process
//! ignores Ctrl-C while the command runs, and passes on the signals that another process sends to it
//! alone.
//!
//! On Linux the command gets SIGHUP when this process dies, whatever killed it: its terminal's owner is
//! gone. Interactive shells end at it, and ignore SIGTERM. Under `nohup` it gets SIGTERM. Its descendants are found
//! through `/proc`. [`Foreground::end`] leaves none of them, except those in a session of their own, and
//! those whose parent ended earlier.

#![expect(unsafe_code, reason = "the set-up between fork and exec and the signals are system calls")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Command, ExitStatus},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    process::Child,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

/// The signals by which a user or a supervisor ends a program.
const ENDS: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGHUP];

/// The signals that a terminal sends to all programs in the foreground.
const OF_TERMINAL: [libc::c_int; 2] = [libc::SIGINT, libc::SIGQUIT];

/// Signals with the meaning that a program gives them.
const OTHERS: [libc::c_int; 2] = [libc::SIGUSR1, libc::SIGUSR2];

/// The pause between two looks for descendants that are about to end.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the remaining processes are killed.
const KILL_ROUNDS: u32 = 20;

/// A command in the terminal.
pub struct Foreground {
    child: Child,
    pid: libc::pid_t,
}

/// The signals that arrive for the command. While this exists, none of them ends this process.
pub struct PassedSignals(Vec<(libc::c_int, Signal)>);

/// A signal that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed(libc::c_int);

// === impl Passed ===

impl Passed {
    /// Whether it asks the program to end.
    pub fn ends(self) -> bool {
        ENDS.contains(&self.0)
    }

    /// Returns the exit code of a program that the signal ends.
    pub fn exit_code(self) -> u8 {
        u8::try_from(128 + self.0).unwrap_or(u8::MAX)
    }

    /// Whether the command has it already: the terminal sends it to this process's whole group.
    fn is_delivered(self) -> bool {
        OF_TERMINAL.contains(&self.0) && is_in_foreground()
    }
}

// === impl PassedSignals ===

impl PassedSignals {
    /// Sets the handlers. A signal that this process ignores, as under `nohup`, stays ignored. Must be
    /// called within a Tokio runtime, before the command starts.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        let all = ENDS.iter().chain(&OF_TERMINAL).chain(&OTHERS).filter(|number| !is_ignored(**number));
        let caught = all.map(|number| Ok((*number, signal(SignalKind::from_raw(*number))?)));
        Ok(Self(caught.collect::<io::Result<_>>()?))
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Passed {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(Passed(*number));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Returns a signal that has arrived, without waiting for one.
    pub async fn arrived(&mut self) -> Option<Passed> {
        // The runtime reads signals between two steps of a task.
        tokio::task::yield_now().await;
        self.next().now_or_never()
    }
}

/// Whether this process's group is the one that the terminal's signals go to. Standard input may be a pipe.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn is_in_foreground() -> bool {
    use std::os::fd::AsRawFd as _;
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return false };
    // SAFETY: both calls take and return plain numbers.
    unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) == libc::getpgrp() }
}

/// Whether this process ignores a signal.
fn is_ignored(number: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the second argument reads nothing, and the third one is written to memory of its own.
    let read = unsafe { libc::sigaction(number, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed memory is a valid action, also if the call failed.
    read == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

// === impl Foreground ===

impl Foreground {
    /// Starts the command at this path, with these variables beside those of this process. `name` is its
    /// first argument, which is its own name. A variable without a value is removed. Must be called on the main thread: Linux ties the death of the
    /// command to the thread that started it.
    ///
    /// # Errors
    /// The system's.
    #[expect(clippy::disallowed_methods, reason = "sys/ is where processes are started")]
    pub fn spawn(
        program: &Path,
        name: &OsString,
        args: &[OsString],
        variables: &BTreeMap<OsString, Option<OsString>>,
    ) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg0(name).args(args);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let parent = std::process::id();
        let at_death = if is_ignored(libc::SIGHUP) { libc::SIGTERM } else { libc::SIGHUP };
        let prepare = move || {
            // SAFETY: the calls are async-signal-safe (POSIX.1-2017 §2.4.3) and take plain numbers.
            unsafe {
                // This process ignores it, so that a limit on file sizes is an error there.
                libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
                #[cfg(target_os = "linux")]
                {
                    libc::prctl(libc::PR_SET_PDEATHSIG, at_death);
                    // The parent may have died before.
                    if libc::getppid() as u32 != parent {
                        libc::raise(at_death);
                    }
                }
            }
            let _ = (parent, at_death);
            Ok(())
        };
        // SAFETY: `prepare` allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(prepare);
        }
        let child = tokio::process::Command::from(command).spawn()?;
        let pid = child.id().and_then(|id| libc::pid_t::try_from(id).ok()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { child, pid })
    }

    /// Waits until the command has ended. May be cancelled and called again.
    ///
    /// # Errors
    /// The system's.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Passes a signal on to the command, unless the terminal has sent it to the command too.
    pub fn pass(&self, signal: Passed) {
        if !signal.is_delivered() && self.child.id().is_some() {
            send(self.pid, signal.0);
        }
    }

    /// Ends the command and its descendants: by this signal, and by KILL after `grace`. Waits for all of
    /// them.
    ///
    /// # Errors
    /// The system's.
    pub async fn end(&mut self, signal: Passed, grace: Duration) -> io::Result<ExitStatus> {
        let mut known: BTreeSet<libc::pid_t> = descendants().into_iter().chain([self.pid]).collect();
        for process in &known {
            send(*process, signal.0);
        }
        if !self.settle(&mut known, grace).await {
            // A process may have started another one since the last look.
            for _ in 0..KILL_ROUNDS {
                for process in &known {
                    send(*process, libc::SIGKILL);
                }
                if self.settle(&mut known, PAUSE * 5).await {
                    break;
                }
            }
        }
        self.child.wait().await
    }

    /// Waits until the command and all known descendants have ended. Keeps those known whose parent ends
    /// first. Returns false when `within` is over.
    async fn settle(&mut self, known: &mut BTreeSet<libc::pid_t>, within: Duration) -> bool {
        let settled = async {
            loop {
                known.extend(descendants());
                let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
                known.retain(|process| *process == self.pid && !has_ended || is_live(*process));
                if known.is_empty() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        timeout(within, settled).await.is_ok()
    }
}

/// Returns the exit code of an ended command, as a shell does: 128 and the number of the signal that ended
/// it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}

fn send(process: libc::pid_t, signal: libc::c_int) {
    // SAFETY: plain numbers.
    unsafe {
        libc::kill(process, signal);
    }
}

/// Returns the live descendants of this process, except those in a session of their own. Such a process
/// has left its terminal on purpose. One of them may be a refresh that a hook has started, whose end would
/// lose a token.
fn descendants() -> Vec<libc::pid_t> {
    let mut found = Vec::new();
    let mut parents = vec!["self".to_owned()];
    while let Some(parent) = parents.pop() {
        for child in children(&parent) {
            if is_live(child) {
                found.push(child);
            }
            parents.push(child.to_string());
        }
    }
    found
}

/// Returns the children of all threads of a process. Only Linux lists them.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn children(process: &str) -> Vec<libc::pid_t> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Whether a process belongs to this process's session and has not ended.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn is_live(process: libc::pid_t) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    // The name in parentheses may have any characters. State, parent, group and session follow.
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_whitespace();
    let has_ended = matches!(fields.next(), None | Some("Z" | "X"));
    // SAFETY: plain numbers.
    let session = unsafe { libc::getsid(0) };
    !has_ended && fields.nth(2).and_then(|of| of.parse().ok()) == Some(session)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_names_the_signal_that_ended_a_command() {
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(libc::SIGTERM)), 143);
    }
}
