//! Child processes that share only three pipes with this one, and this process's own protection.
//!
//! A child leads a session and process group of its own. It inherits only stdin, stdout, stderr and
//! its configured environment, and neither signal mask nor dispositions. It has limits
//! of its own. On Linux it dies with the bot. One thread that never ends starts all children, because Linux ties `PR_SET_PDEATHSIG` to
//! the thread that forked, and a runtime's threads come and go.

#![expect(unsafe_code, reason = "the set-up between fork and exec and the signals are system calls")]

use std::{
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::{
    process::{ChildStderr, ChildStdin, ChildStdout},
    runtime::Handle,
    sync::oneshot,
};

#[cfg(target_os = "linux")]
use super::orphans;
use super::{cgroup::Cgroup, sandbox::Sandbox};

/// The most spawns that wait for the thread.
const MAX_WAITING: usize = 64;

/// A child process to start.
#[derive(Debug)]
pub struct Spec {
    /// The path of the program; it is not searched for.
    pub program: PathBuf,
    /// The arguments after the program's name. Every user of the machine can read them, so they
    /// hold no secrets.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working folder.
    pub folder: PathBuf,
    /// The sandbox, if any.
    pub sandbox: Option<Sandbox>,
    /// The limits of each of its processes.
    pub limits: Limits,
    /// The group to enter, if any. It ends with the child.
    pub cgroup: Option<Cgroup>,
}

/// The limits of one process, which its children inherit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The longest file that it may write, in bytes. A longer one is an error (`EFBIG`).
    pub file_size: Option<u64>,
    /// The most open descriptors.
    pub open_files: Option<u64>,
}

/// A child process and its process group. Dropping it kills the group.
#[derive(Debug)]
pub struct Child {
    child: tokio::process::Child,
    group: libc::pid_t,
    is_killed: bool,
    cgroup: Option<Cgroup>,
}

/// The ends of a child's pipes.
#[derive(Debug)]
pub struct Pipes {
    /// Its standard input.
    pub stdin: ChildStdin,
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
}

struct Order {
    spec: Spec,
    runtime: Handle,
    done: oneshot::Sender<io::Result<(Child, Pipes)>>,
}

/// Starts a child. Returns once its program has been executed.
///
/// # Errors
/// The system's: no such program, not executable, no memory, or the sandbox was refused;
/// `WouldBlock` when too many children are starting at once.
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
            // tokio panics while its runtime shuts down; the next order may come from another
            // runtime.
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

#[expect(clippy::disallowed_methods, reason = "sys/ is where processes are started")]
fn start(spec: Spec) -> io::Result<(Child, Pipes)> {
    let Spec { program, args, env, folder, sandbox, limits, cgroup } = spec;
    #[cfg(target_os = "linux")]
    let mut spawning = orphans::spawning();
    #[cfg(target_os = "linux")]
    let (entrance, reaps) = (cgroup.as_ref().map(Cgroup::entrance), spawning.are_adopted());
    // SAFETY: getpid has no conditions.
    let parent = unsafe { libc::getpid() };
    let mut command = std::process::Command::new(program);
    command.args(args).env_clear().envs(env).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: the code between fork and exec is async-signal-safe: system calls on plain numbers,
    // no allocation.
    unsafe {
        command.pre_exec(move || {
            #[cfg(target_os = "linux")]
            enter(entrance, reaps)?;
            set_up(parent, limits)?;
            sandbox.as_ref().map_or(Ok(()), Sandbox::apply)
        });
    }
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn()?;
    let pid = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok());
    match (pid, child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(group), Some(stdin), Some(stdout), Some(stderr)) => {
            #[cfg(target_os = "linux")]
            spawning.know(group);
            Ok((Child { child, group, is_killed: false, cgroup }, Pipes { stdin, stdout, stderr }))
        }
        _ => Err(io::Error::other("the process ended while it was being started")),
    }
}

/// Enters a group, and becomes the reaper of orphaned descendants if that is asked for.
/// Async-signal-safe.
#[cfg(target_os = "linux")]
fn enter(entrance: Option<std::os::fd::RawFd>, reaps: bool) -> io::Result<()> {
    // SAFETY: plain numbers, and a buffer of the given length.
    unsafe {
        if let Some(entrance) = entrance
            && libc::write(entrance, c"0".as_ptr().cast(), 1) < 0
        {
            return Err(io::Error::last_os_error());
        }
        if reaps && libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets up the child between fork and exec. Async-signal-safe.
fn set_up(parent: libc::pid_t, limits: Limits) -> io::Result<()> {
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
        if limits.file_size.is_some() {
            // The write fails, and the process lives to report it.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
        limit(libc::RLIMIT_CORE as _, Some(0))?;
        limit(libc::RLIMIT_FSIZE as _, limits.file_size)?;
        limit(libc::RLIMIT_NOFILE as _, limits.open_files)?;
        restore_descriptor_limit()?;
        libc::umask(0o077);
    }
    close_others_on_exec();
    Ok(())
}

/// The soft limit of descriptors that this process started with, once it has raised it. Its children
/// get that one: some programs cannot use descriptors above 1023.
static FIRST_DESCRIPTOR_LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Raises this process's soft limit of descriptors to the hard one, and returns it. Children that
/// [`spawn`] starts get the earlier one.
///
/// # Errors
/// The system's.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a value that outlives the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        if limit.rlim_cur < limit.rlim_max {
            FIRST_DESCRIPTOR_LIMIT.store(limit.rlim_cur, Ordering::Relaxed);
            limit.rlim_cur = limit.rlim_max;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(limit.rlim_cur)
}

/// Gives a child the soft limit of descriptors that this process started with. Async-signal-safe.
fn restore_descriptor_limit() -> io::Result<()> {
    let first = FIRST_DESCRIPTOR_LIMIT.load(Ordering::Relaxed);
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a value that outlives the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_cur.min(first);
        if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lowers a limit of this process for good. A lower one stays as it is. Async-signal-safe.
fn limit(resource: libc::c_int, most: Option<u64>) -> io::Result<()> {
    let Some(most) = most else { return Ok(()) };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a value that outlives the calls.
    unsafe {
        if libc::getrlimit(resource as _, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_max = limit.rlim_max.min(most as libc::rlim_t);
        limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max);
        if libc::setrlimit(resource as _, &limit) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Marks all descriptors above stderr close-on-exec. They stay open until then, because one of them
/// reports a failed exec to the parent. Async-signal-safe.
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
    /// Returns its number.
    pub fn number(&self) -> Option<u32> {
        u32::try_from(self.group).ok()
    }

    /// Waits until the child itself has ended; its group may live on. May be cancelled and called
    /// again.
    ///
    /// # Errors
    /// The system's.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the whole group: TERM, then KILL once the child has ended or after `grace`. Reaps the
    /// child.
    ///
    /// # Errors
    /// The system's.
    pub async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal_group(libc::SIGTERM);
        let _ = tokio::time::timeout(grace, self.child.wait()).await;
        self.kill().await
    }

    /// Kills the whole group at once, and all descendants that left it, as far as this process can
    /// find them: by the cgroup, and as orphans. Reaps the child.
    ///
    /// # Errors
    /// The system's.
    pub async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.signal_group(libc::SIGKILL);
        self.is_killed = true;
        if let Some(cgroup) = &self.cgroup {
            let _ = cgroup.kill();
        }
        let status = self.child.wait().await;
        #[cfg(target_os = "linux")]
        {
            orphans::forget(self.group);
            let _ = tokio::task::spawn_blocking(orphans::end_all).await;
        }
        if let Some(cgroup) = self.cgroup.take()
            && let Err(error) = cgroup.end().await
        {
            tracing::warn!(%error, "the cgroup of an ended agent cannot be removed");
        }
        status
    }

    /// Signals the group. While the group has a member, its number is not reused, even after its
    /// leader was reaped. An empty group is signalled an instant later, long before the numbers
    /// wrap around.
    fn signal_group(&self, signal: libc::c_int) {
        if !self.is_killed {
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

/// Ends all children that are left and their descendants, at the end of this process. Without
/// [`adopt_orphans`] it does nothing.
pub fn end_children() {
    #[cfg(target_os = "linux")]
    orphans::end_children();
}

/// Marks a child as none of the orphans, until dropped.
#[cfg(target_os = "linux")]
type Known = Option<orphans::Known>;
#[cfg(not(target_os = "linux"))]
type Known = ();

/// Starts another child than those of [`spawn`]. While the second value lives, the child is not taken
/// for an orphan, which the end of any worker would kill.
#[expect(clippy::disallowed_methods, reason = "sys/ is where processes are started")]
pub(super) fn spawn_known(
    command: &mut tokio::process::Command,
) -> io::Result<(tokio::process::Child, Known)> {
    #[cfg(target_os = "linux")]
    {
        let mut spawning = orphans::spawning();
        let child = command.spawn()?;
        let known = spawning.know_until_drop(child.id());
        Ok((child, known))
    }
    #[cfg(not(target_os = "linux"))]
    Ok((command.spawn()?, ()))
}

/// Makes this process the one that ends the orphaned descendants of its children. Only for a process
/// that starts children by [`spawn`] alone.
///
/// # Errors
/// The system's; `Unsupported` where it is not Linux.
pub fn adopt_orphans() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    return orphans::adopt();
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Finds a program as a shell does. A name with a slash is a path; any other is searched for in
/// `path`, whose folders are separated by `:`.
///
/// # Errors
/// `NotFound`, or `PermissionDenied` when the file may not be executed.
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

/// Protects this process. On Linux, no other process of the same user can read its memory,
/// environment and descriptors, or trace it. A write beyond the limit on file sizes becomes an
/// error (`EFBIG`) instead of the process's death, which would lose a token that a provider has
/// just issued. Call it before any secret is read.
///
/// # Errors
/// The system's.
pub fn harden_self() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler. Workers get the default back; detached
    // children keep this.
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
