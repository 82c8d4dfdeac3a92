//! A child process that outlives its caller: it has a session of its own (setsid), so that neither the caller's
//! terminal nor its process group takes it along, and nothing of the caller's but one pipe each way.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
};

/// The longest input that [`spawn`] takes, in bytes.
pub const MAX_INPUT: usize = 64 * 1024;

/// Without a handler each of them ends a process, and the answer that it waits for would be lost.
const IGNORED: &[libc::c_int] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGXCPU,
];

/// Starts this very program again with `arguments`, detached, in `/`. The child reads `input` on its standard input; what
/// it writes to its standard output comes out of the returned pipe. Its standard error goes nowhere.
///
/// The signals with which a process is asked to end, or woken, are ignored in it: it is there to end what it has begun, and has a
/// bound for that.
///
/// # Errors
/// The system's; `InvalidInput` when `input` is longer than [`MAX_INPUT`].
#[expect(clippy::disallowed_methods, reason = "sys/ is where processes are started")]
pub fn spawn(arguments: &[OsString], input: &[u8]) -> io::Result<OwnedFd> {
    if input.len() > MAX_INPUT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the input is too long"));
    }
    let mut command = Command::new(own_program()?);
    command
        .arg0("threadkey")
        .args(arguments)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    leave_the_callers_session(&mut command);
    let mut child = command.spawn()?;
    // Not waited for: when the caller ends first, init reaps the child.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    child.stdout.take().map(OwnedFd::from).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// The path under which this very program can be started again, even after its file was replaced where the system
/// allows it.
///
/// # Errors
/// The system's.
pub fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

#[expect(unsafe_code, reason = "setsid and signal have no safe form in std")]
fn leave_the_callers_session(command: &mut Command) {
    let prepare = || {
        // SAFETY: both calls are async-signal-safe (POSIX.1-2017 §2.4.3) and touch no memory of ours. An ignored signal
        // stays ignored over exec.
        unsafe {
            if libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            for signal in IGNORED {
                libc::signal(*signal, libc::SIG_IGN);
            }
        }
        // The caller's caller may have handed down a pipe or a lock, which would be held for as long as this child lives.
        super::process::close_others_on_exec();
        Ok(())
    };
    // SAFETY: `prepare` allocates nothing and takes no lock: last_os_error only reads errno, and close_others_on_exec makes
    // system calls on plain numbers.
    unsafe {
        command.pre_exec(prepare);
    }
}
