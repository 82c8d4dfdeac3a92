//! Child processes that share nothing with this one but three pipes, and this process's own protection.
//!
//! A child leads a session and process group of its own, inherits no descriptor but stdin, stdout and stderr, no
//! environment that it was not given, no signal mask or disposition, and dies with the bot (Linux). All of them are started by
//! one thread that never ends: Linux ties `PR_SET_PDEATHSIG` to the thread that forked, and runtimes' threads come and go.

#![expect(unsafe_code, reason = "set-up between fork and exec, and signals, are system calls")]

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    time::Duration,
};

use tokio::{
    process::{ChildStderr, ChildStdin, ChildStdout},
    runtime::Handle,
    sync::oneshot,
};

use super::sandbox::Sandbox;

/// How many spawns may wait for the thread that does them.
const MAX_WAITING: usize = 64;

/// What to start.
#[derive(Debug)]
pub struct Spec {
    /// The program: a path, not searched for.
    pub program: PathBuf,
    /// What follows the program's name. Anybody on the machine can read these: no secrets.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working folder.
    pub folder: PathBuf,
    /// What keeps it apart, if anything.
    pub sandbox: Option<Sandbox>,
}

/// A child process and its process group. Dropping it kills the group.
#[derive(Debug)]
pub struct Child {
    child: tokio::process::Child,
    group: libc::pid_t,
    over: bool,
}

/// The ends of a child's pipes.
#[derive(Debug)]
pub struct Pipes {
    /// What it reads.
    pub stdin: ChildStdin,
    /// What it writes.
    pub stdout: ChildStdout,
    /// What it complains of.
    pub stderr: ChildStderr,
}

struct Order {
    spec: Spec,
    runtime: Handle,
    done: oneshot::Sender<io::Result<(Child, Pipes)>>,
}

/// Starts a child. Its program has been executed when this returns.
///
/// # Errors
/// The system's: no such program, not executable, no memory, or the sandbox could not be put on; `WouldBlock` when
/// too many are being started at once.
pub async fn spawn(spec: Spec) -> io::Result<(Child, Pipes)> {
    static SPAWNER: OnceLock<mpsc::SyncSender<Order>> = OnceLock::new();
    let orders = match SPAWNER.get() {
        Some(orders) => orders,
        None => {
            let orders = start_spawner()?;
            SPAWNER.get_or_init(|| orders)
        }
    };
    let (done, outcome) = oneshot::channel();
    orders.try_send(Order { spec, runtime: Handle::current(), done }).map_err(|_| {
        io::Error::new(io::ErrorKind::WouldBlock, "too many processes are being started at once")
    })?;
    outcome.await.map_err(|_| io::Error::other("the process could not be started: the runtime is ending"))?
}

fn start_spawner() -> io::Result<mpsc::SyncSender<Order>> {
    let (sender, orders) = mpsc::sync_channel::<Order>(MAX_WAITING);
    std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
        for Order { spec, runtime, done } in orders {
            // tokio panics when its runtime is being shut down; the next order may come from another one.
            let started = std::panic::catch_unwind(AssertUnwindSafe(|| {
                let _runtime = runtime.enter();
                start(spec)
            }));
            if let Ok(started) = started {
                let _ = done.send(started);
            }
        }
    })?;
    Ok(sender)
}

#[expect(clippy::disallowed_methods, reason = "this is where processes are started")]
fn start(spec: Spec) -> io::Result<(Child, Pipes)> {
    let Spec { program, args, env, folder, sandbox } = spec;
    // SAFETY: getpid has no conditions.
    let parent = unsafe { libc::getpid() };
    let mut command = std::process::Command::new(program);
    command.args(args).env_clear().envs(env).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: what runs between fork and exec is async-signal-safe: system calls on plain numbers, no allocation.
    unsafe {
        command.pre_exec(move || {
            set_up(parent)?;
            sandbox.as_ref().map_or(Ok(()), Sandbox::put_on)
        });
    }
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn()?;
    let pid = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok());
    match (pid, child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(group), Some(stdin), Some(stdout), Some(stderr)) => {
            Ok((Child { child, group, over: false }, Pipes { stdin, stdout, stderr }))
        }
        _ => Err(io::Error::other("the process ended while it was being started")),
    }
}

/// Between fork and exec; async-signal-safe.
fn set_up(parent: libc::pid_t) -> io::Result<()> {
    // SAFETY: these calls take plain numbers, or a pointer to a value that outlives the call.
    unsafe {
        if libc::setsid() < 0 {
            return Err(io::Error::last_os_error());
        }
        #[cfg(target_os = "linux")]
        {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = parent;
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &no_core);
        libc::umask(0o077);
    }
    close_others_on_exec();
    Ok(())
}

/// Marks all descriptors above stderr close-on-exec; not closed here, for the parent learns of a failed exec by one of them.
/// Async-signal-safe.
pub(super) fn close_others_on_exec() {
    // SAFETY: these calls take plain numbers, or a pointer to a value that outlives the call.
    unsafe {
        #[cfg(target_os = "linux")]
        if libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        const AT_MOST: libc::rlim_t = 65_536;
        let mut limit = libc::rlimit { rlim_cur: AT_MOST, rlim_max: AT_MOST };
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        for descriptor in 3..limit.rlim_cur.min(AT_MOST) {
            libc::fcntl(descriptor as libc::c_int, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

// === impl Child ===

impl Child {
    /// Waits until the child itself (its group may live on) has ended. May be cancelled and called again.
    ///
    /// # Errors
    /// The system's.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the whole group: TERM, then KILL when the child has ended or after `grace`. The child is reaped.
    ///
    /// # Errors
    /// The system's.
    pub async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal_group(libc::SIGTERM);
        let _ = tokio::time::timeout(grace, self.child.wait()).await;
        self.kill().await
    }

    /// Kills the whole group at once. The child is reaped.
    ///
    /// # Errors
    /// The system's.
    pub async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.signal_group(libc::SIGKILL);
        self.over = true;
        self.child.wait().await
    }

    /// A group that still has a member keeps its number from being given away, also after its leader was reaped; an empty
    /// one is signalled within an instant of that, long before the numbers come round again.
    fn signal_group(&self, signal: libc::c_int) {
        if !self.over {
            // SAFETY: plain numbers; the group is one that this process made.
            unsafe {
                libc::killpg(self.group, signal);
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal_group(libc::SIGKILL);
    }
}

/// Finds a program as a shell would: a name with a slash is a path, another is looked for in `path` (`:` between folders).
///
/// # Errors
/// `NotFound`, or `PermissionDenied` when what is there may not be executed.
pub fn find_program(name: &Path, path: &std::ffi::OsStr) -> io::Result<PathBuf> {
    if name.components().count() > 1 || name.is_absolute() {
        return executable(&std::path::absolute(name)?);
    }
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "no such program in PATH");
    for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
        match executable(&folder.join(name)) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn executable(path: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        return Ok(path.to_owned());
    }
    let what = if metadata.is_file() { "it is not executable" } else { "it is not a file" };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

/// Keeps other processes of the same user from reading this one's memory, environment and descriptors, and from tracing it
/// (Linux); and makes a write beyond the limit on file sizes an error (`EFBIG`) instead of this process's death, which would take
/// along what a provider has just given out. To be called before any secret is read.
///
/// # Errors
/// The system's.
pub fn harden_self() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler; children that we start get the default back, detached ones keep this.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain numbers.
    #[cfg(target_os = "linux")]
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
