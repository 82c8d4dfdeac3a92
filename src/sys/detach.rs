//! A child process that outlives its caller. It has a session of its own (setsid), so neither the
//! caller's terminal nor its process group ends it. It inherits one pipe each way and nothing else.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
};

/// The longest input of [`spawn`], in bytes.
pub const MAX_INPUT: usize = 64 * 1024;

/// The signals that the child ignores. Without a handler each ends a process, and the answer that
/// the process waits for would be lost.
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

/// Starts this program again with `arguments`, detached, in `/`. The child reads `input` on its
/// standard input, and writes its standard output to the returned pipe. Its standard error is
/// discarded.
///
/// The child ignores the signals that end or wake a process. It finishes the request that it began,
/// and has a time limit for that.
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
    command.envs(absolute_certificate_paths());
    leave_the_callers_session(&mut command);
    let mut child = command.spawn()?;
    // The child is not waited for. If the caller ends first, init reaps the child.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input)?;
    }
    child.stdout.take().map(OwnedFd::from).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// Returns the variables that name certificates, with absolute paths. The child runs in `/`, where a
/// relative path would lead elsewhere.
fn absolute_certificate_paths() -> impl Iterator<Item = (&'static str, OsString)> {
    let absolute = |path: PathBuf| std::path::absolute(path).ok();
    let file = std::env::var_os("SSL_CERT_FILE").and_then(|file| absolute(file.into()));
    let folders = std::env::var_os("SSL_CERT_DIR")
        .and_then(|folders| std::env::join_paths(std::env::split_paths(&folders).filter_map(absolute)).ok());
    let file = file.map(|file| ("SSL_CERT_FILE", file.into_os_string()));
    file.into_iter().chain(folders.map(|folders| ("SSL_CERT_DIR", folders)))
}

/// Returns the path under which this program can be started again; on Linux also after its file was
/// replaced.
///
/// # Errors
/// The system's.
pub fn own_program() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// Returns the path of this program for another process. If the file was replaced meanwhile, it is that of
/// the new one.
///
/// # Errors
/// The system's.
pub fn program_path() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(path.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from).unwrap_or(path))
}

/// Gives this process the program's name. The system names a process by the last part of the path that
/// started it, which is `exe` after [`spawn`]. A failure changes nothing else, so it is ignored.
#[expect(unsafe_code, reason = "a process is named by a system call")]
pub fn name_self() {
    // SAFETY: the name is a C string of at most 16 bytes.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"threadkey".as_ptr());
    }
}

#[expect(unsafe_code, reason = "std has no safe setsid and signal")]
fn leave_the_callers_session(command: &mut Command) {
    let prepare = || {
        // SAFETY: both calls are async-signal-safe (POSIX.1-2017 §2.4.3) and touch none of this
        // program's memory. An ignored signal stays ignored over exec.
        unsafe {
            if libc::setsid() == -1 {
                return Err(io::Error::last_os_error());
            }
            for signal in IGNORED {
                libc::signal(*signal, libc::SIG_IGN);
            }
        }
        // The caller may have inherited a pipe or a lock. The child would hold it for as long as it
        // lives.
        super::process::close_others_on_exec();
        Ok(())
    };
    // SAFETY: `prepare` allocates nothing and takes no lock. last_os_error only reads errno, and
    // close_others_on_exec makes system calls on plain numbers.
    unsafe {
        command.pre_exec(prepare);
    }
}
