//! Control groups (cgroup v2): limits on the memory and processes of each worker, and an end that no
//! process of a worker escapes.
//!
//! A process may use this only where its own group was delegated to it, as by `Delegate=` of a
//! systemd unit. The rule of cgroup v2 is that a group with limited sub-groups has no processes of
//! its own. So the bot first moves itself into the sub-group `bot`. Each worker gets a sub-group
//! beside it, which it enters between fork and exec.
//!
//! A group counts as delegated if this process is the only one in it and may change it. Any other
//! group belongs to another manager.
//!
//! If the bot dies, the sub-groups of its workers stay. The next start in the same group kills what
//! is in them, and removes them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::fs::FileExt as _,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The sub-group of the bot itself.
const BOT: &str = "bot";
/// The names of workers' sub-groups begin with this. A number follows: the name is visible to all
/// workers, so it must not contain the random name of a folder.
const WORKER: &str = "worker-";
/// The controllers for the limits.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// The pause between two attempts to remove a group whose processes are dying, and their number.
const PAUSE: Duration = Duration::from_millis(10);
const ATTEMPTS: u32 = 200;

/// The limits of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// The most memory, in bytes. The worker gets no swap.
    pub memory: u64,
    /// The most processes and threads.
    pub processes: u64,
}

/// The delegated group of this process.
#[derive(Debug)]
pub struct Cgroups {
    folder: PathBuf,
    controllers: Vec<&'static str>,
    next: AtomicU64,
}

/// The group of one worker. Dropping it kills its processes.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    processes: File,
    /// Open since before the worker's start, because a worker can change the modes of its group's
    /// files. Kernels before 5.14 have no `cgroup.kill`.
    killer: Option<File>,
}

impl Cgroups {
    /// Takes over this process's own group.
    ///
    /// # Errors
    /// The reason why this machine or its configuration does not allow it.
    pub fn take_over() -> Result<Self, String> {
        Self::take_over_at(&own_folder()?, std::process::id())
    }

    /// Takes over the group in `folder`, in which `own` is the only process.
    ///
    /// # Errors
    /// As [`Cgroups::take_over`].
    pub fn take_over_at(folder: &Path, own: u32) -> Result<Self, String> {
        let not_delegated = |error: io::Error| format!("threadkey's cgroup is not delegated to it ({error})");
        let processes = read(&folder.join("cgroup.procs")).map_err(not_delegated)?;
        if processes.lines().any(|line| line.trim() != own.to_string()) {
            return Err("threadkey's cgroup is not delegated to it (other processes are in it)".to_owned());
        }
        make(&folder.join(BOT)).map_err(not_delegated)?;
        write(&folder.join(BOT).join("cgroup.procs"), &own.to_string()).map_err(not_delegated)?;
        let offered = read(&folder.join("cgroup.controllers")).unwrap_or_default();
        let is_enabled = |controller: &&str| {
            offered.split_whitespace().any(|one| one == *controller)
                && write(&folder.join("cgroup.subtree_control"), &format!("+{controller}")).is_ok()
        };
        let controllers = CONTROLLERS.into_iter().filter(is_enabled).collect();
        for entry in fs::read_dir(folder).map_err(not_delegated)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(WORKER) {
                let _ = kill(&entry.path());
                let _ = remove_empty(&entry.path());
            }
        }
        Ok(Self { folder: folder.to_owned(), controllers, next: AtomicU64::new(1) })
    }

    /// Returns the limits that this group cannot set.
    pub fn missing(&self) -> Vec<&'static str> {
        CONTROLLERS.into_iter().filter(|controller| !self.controllers.contains(controller)).collect()
    }

    /// Creates the group of a worker.
    ///
    /// # Errors
    /// The system's.
    pub fn create(&self, limits: GroupLimits) -> io::Result<Cgroup> {
        let folder = loop {
            let folder = self.folder.join(format!("{WORKER}{}", self.next.fetch_add(1, Ordering::Relaxed)));
            match create_dir(&folder) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => break created.map(|()| folder)?,
            }
        };
        let set_up = || {
            if self.controllers.contains(&"memory") {
                write(&folder.join("memory.max"), &limits.memory.to_string())?;
                // A machine without swap has no such file.
                let _ = write(&folder.join("memory.swap.max"), "0");
            }
            if self.controllers.contains(&"pids") {
                write(&folder.join("pids.max"), &limits.processes.to_string())?;
            }
            let killer = open_existing(&folder.join("cgroup.kill")).ok();
            Ok((open_for_writing(&folder.join("cgroup.procs"))?, killer))
        };
        match set_up() {
            Ok((processes, killer)) => Ok(Cgroup { folder, processes, killer }),
            Err(error) => {
                let _ = remove_empty(&folder);
                Err(error)
            }
        }
    }
}

impl Cgroup {
    /// The descriptor to which a process writes `0` to enter the group.
    pub(super) fn entrance(&self) -> RawFd {
        self.processes.as_raw_fd()
    }

    /// Kills all processes of the group.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&self) -> io::Result<()> {
        match self.killer.as_ref().map(|killer| killer.write_at(b"1", 0)) {
            Some(Ok(_)) => Ok(()),
            _ => kill(&self.folder),
        }
    }

    /// Kills all processes of the group, waits until they are gone, and removes the group.
    ///
    /// # Errors
    /// The system's. The next start tries again.
    pub async fn end(&self) -> io::Result<()> {
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            // A process that enters just now, or forks in a kernel without `cgroup.kill`, is killed
            // at the next attempt.
            self.kill()?;
            result = remove_empty(&self.folder);
            match &result {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => tokio::time::sleep(PAUSE).await,
                _ => break,
            }
        }
        result
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = remove_empty(&self.folder);
    }
}

/// Kills all processes of a group. Kernels before 5.14 have no `cgroup.kill`.
fn kill(folder: &Path) -> io::Result<()> {
    match write(&folder.join("cgroup.kill"), "1") {
        Ok(()) => Ok(()),
        Err(_) if !folder.exists() => Ok(()),
        Err(_) => {
            let processes = read(&folder.join("cgroup.procs"))?;
            for process in processes.lines().filter_map(|line| line.trim().parse().ok()) {
                kill_one(process);
            }
            Ok(())
        }
    }
}

#[expect(unsafe_code, reason = "a process is signalled by a system call")]
fn kill_one(process: libc::pid_t) {
    if process > 1 {
        // SAFETY: plain numbers.
        unsafe { libc::kill(process, libc::SIGKILL) };
    }
}

/// Returns the folder of this process's own group.
fn own_folder() -> Result<PathBuf, String> {
    let own = read(Path::new("/proc/self/cgroup")).map_err(|error| format!("it has no cgroup ({error})"))?;
    let mounts = read(Path::new("/proc/self/mountinfo")).map_err(|error| format!("no mounts ({error})"))?;
    locate(&own, &mounts).ok_or_else(|| "cgroup v2 is not mounted".to_owned())
}

/// Returns the folder of the group that `/proc/self/cgroup` names, by `/proc/self/mountinfo`.
fn locate(own: &str, mounts: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        if !after.starts_with("cgroup2 ") {
            return None;
        }
        let mut fields = before.split(' ').skip(3);
        let (root, mounted_at) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(mounted_at).join(below))
    })
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn open_for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(path)
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn create_dir(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

fn make(path: &Path) -> io::Result<()> {
    match create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn remove_empty(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "cgroup/tests.rs"]
mod tests;
