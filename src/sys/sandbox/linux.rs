//! The sandbox on Linux: Landlock, no capabilities, and a system call filter.

#![expect(unsafe_code, reason = "Landlock is set up by system calls between fork and exec")]

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, Scope, make_bitflags,
};

use super::{Policy, SandboxError, resolve};
use crate::sys::seccomp::Filter;

/// The first ABI with scopes for signals and abstract sockets (Linux 6.12). Below it a worker could
/// kill the bot.
const NEEDED: ABI = ABI::V6;
/// The newest ABI whose rights were reviewed. Its additions to [`NEEDED`] are used where the kernel
/// has them.
const KNOWN: ABI = ABI::V10;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{Execute | ReadFile | ReadDir});
const DEVICE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | WriteFile | IoctlDev});
const FILE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile});
const LIST: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadDir});
/// The entries of a process's own folder in `/proc` that language runtimes read. `/proc` as a whole
/// shows other processes' command lines. The folder as a whole contains `net/unix`, once more for
/// each thread, which lists the paths of all Unix sockets, and so the secret names of other workers'
/// folders. So the threads can be listed only.
const OWN_PROC: [(&CStr, BitFlags<AccessFs>); 21] = [
    (c"/proc/self", LIST),
    (c"/proc/self/auxv", FILE),
    (c"/proc/self/cgroup", FILE),
    (c"/proc/self/cmdline", FILE),
    (c"/proc/self/comm", FILE),
    (c"/proc/self/environ", FILE),
    (c"/proc/self/fd", make_bitflags!(AccessFs::{ReadFile | ReadDir})),
    (c"/proc/self/fdinfo", make_bitflags!(AccessFs::{ReadFile | ReadDir})),
    (c"/proc/self/gid_map", FILE),
    (c"/proc/self/io", FILE),
    (c"/proc/self/limits", FILE),
    (c"/proc/self/maps", FILE),
    (c"/proc/self/mountinfo", FILE),
    (c"/proc/self/mounts", FILE),
    (c"/proc/self/oom_score", FILE),
    (c"/proc/self/smaps", FILE),
    (c"/proc/self/smaps_rollup", FILE),
    (c"/proc/self/stat", FILE),
    (c"/proc/self/statm", FILE),
    (c"/proc/self/status", FILE),
    (c"/proc/self/uid_map", FILE),
];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Checks that this kernel has everything that [`Sandbox`] needs.
///
/// # Errors
/// [`SandboxError::Unsupported`] with the missing part.
pub fn supported() -> Result<(), SandboxError> {
    let missing = match abi() {
        abi if abi >= NEEDED as libc::c_long => return Ok(()),
        abi if abi >= 0 => format!("its Landlock has ABI {abi}, and ABI 6 (Linux 6.12) is needed"),
        _ => {
            let error = io::Error::last_os_error();
            format!(
                "it has no Landlock ({error}); Linux 6.12 or later with `landlock` among its security modules is needed"
            )
        }
    };
    Err(SandboxError::Unsupported(missing))
}

/// Whether a sandboxed process can connect only to those Unix sockets with a path that its policy
/// names (Linux 7.1).
pub fn governs_unix_sockets() -> bool {
    abi() >= ABI::V9 as libc::c_long
}

/// Returns the number of the kernel's Landlock ABI. Without Landlock it is negative, and the
/// system's error is set.
fn abi() -> libc::c_long {
    const VERSION: u32 = 1;
    // SAFETY: with a null attribute of size 0 and this flag the call only returns the ABI's number.
    unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION)
    }
}

/// A sandbox for one child process, built and not yet applied.
#[derive(Debug)]
pub struct Sandbox {
    ruleset: OwnedFd,
    drop_capabilities: bool,
    filter: Filter,
}

impl Sandbox {
    /// Builds the rules. Blocks on the disk.
    ///
    /// # Errors
    /// The kernel is too old, a path of the policy is missing, or the kernel refuses the rules.
    pub fn new(policy: &Policy) -> Result<Self, SandboxError> {
        supported()?;
        let deny =
            policy.deny.iter().map(|path| resolve(path).map_err(at(path))).collect::<Result<Vec<_>, _>>()?;
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(NEEDED))
            .and_then(|rules| rules.scope(Scope::from_all(NEEDED)))
            .and_then(|rules| {
                rules.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(KNOWN))
            })
            .and_then(Ruleset::create)
            .map_err(kernel)?;
        for path in &policy.read {
            rules = grant_reading(rules, &canonical(path)?, &deny)?;
        }
        for path in &policy.read_if_there {
            if let Ok(found) = canonical(path) {
                rules = grant_reading(rules, &found, &deny)?;
            }
        }
        let all = AccessFs::from_all(KNOWN);
        let devices = make_bitflags!(AccessFs::{MakeChar | MakeBlock | IoctlDev});
        for path in &policy.write {
            rules = grant(rules, path, all & !devices)?;
        }
        for path in policy.connect.iter().filter(|path| path.exists()) {
            rules = grant(rules, path, AccessFs::ResolveUnix.into())?;
        }
        for path in DEVICES.map(Path::new).into_iter().filter(|path| path.exists()) {
            rules = grant(rules, path, DEVICE)?;
        }
        let ruleset: Option<OwnedFd> = rules.into();
        let ruleset = ruleset.ok_or_else(|| SandboxError::Kernel("it made no rule set".to_owned()))?;
        // SAFETY: geteuid has no conditions.
        let drop_capabilities = unsafe { libc::geteuid() } == 0;
        Ok(Self { ruleset, drop_capabilities, filter: Filter::new() })
    }

    /// Applies the sandbox to the calling thread and all its descendants, for good.
    /// Async-signal-safe.
    ///
    /// # Errors
    /// The system's. The process must not continue after one.
    pub(in crate::sys) fn apply(&self) -> io::Result<()> {
        self.grant_own_proc();
        if self.drop_capabilities {
            drop_all_capabilities()?;
        }
        // SAFETY: these calls take plain numbers.
        unsafe {
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            check(libc::syscall(libc::SYS_landlock_restrict_self, self.ruleset.as_raw_fd(), 0_u32))?;
        }
        self.filter.apply()
    }

    /// Grants [`OWN_PROC`]. Runtimes work without it too, so a failure is ignored.
    fn grant_own_proc(&self) {
        #[repr(C, packed)]
        struct PathBeneathAttr {
            allowed_access: u64,
            parent_fd: i32,
        }
        const RULE_PATH_BENEATH: u32 = 1;
        for (path, access) in OWN_PROC {
            // SAFETY: the path is a C string, the attribute outlives the call, and the descriptor is
            // closed once.
            unsafe {
                let entry = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                if entry >= 0 {
                    let attr = PathBeneathAttr { allowed_access: access.bits(), parent_fd: entry };
                    libc::syscall(
                        libc::SYS_landlock_add_rule,
                        self.ruleset.as_raw_fd(),
                        RULE_PATH_BENEATH,
                        std::ptr::from_ref(&attr),
                        0_u32,
                    );
                    libc::close(entry);
                }
            }
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SandboxError {
    |source| SandboxError::Path { path: path.to_owned(), source }
}

fn kernel(error: impl std::error::Error) -> SandboxError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    SandboxError::Kernel(text)
}

#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
fn canonical(path: &Path) -> Result<PathBuf, SandboxError> {
    fs::canonicalize(path).map_err(at(path))
}

/// Grants reading beneath `path`, except beneath `deny`. A folder that contains a denied path is
/// granted entry by entry. `path` and `deny` are resolved.
fn grant_reading(
    rules: RulesetCreated,
    path: &Path,
    deny: &[PathBuf],
) -> Result<RulesetCreated, SandboxError> {
    if deny.iter().any(|denied| path.starts_with(denied)) {
        return Ok(rules);
    }
    if !deny.iter().any(|denied| denied.starts_with(path)) {
        return grant(rules, path, READ);
    }
    fs::read_dir(path).map_err(at(path))?.try_fold(rules, |rules, entry| {
        let entry = entry.map_err(at(path))?.path();
        // A symlink is granted by its target, and only if that is in the same folder.
        match canonical(&entry) {
            Ok(found) if found.starts_with(path) && found != path => grant_reading(rules, &found, deny),
            _ => Ok(rules),
        }
    })
}

fn grant(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, SandboxError> {
    let fd = PathFd::new(path)
        .map_err(|error| SandboxError::Path { path: path.to_owned(), source: io::Error::other(error) })?;
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    rules.add_rule(PathBeneath::new(fd, access)).map_err(kernel)
}

/// Empties the bounding, ambient, inheritable, permitted and effective sets. Root
/// still owns its files. Where the bounding set cannot be changed, `no_new_privs` restricts the
/// permitted set at exec.
fn drop_all_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    // SAFETY: plain numbers, and pointers to values that outlive the call, of the layout that
    // version 3 asks for.
    unsafe {
        for capability in 0..64 {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                break;
            }
        }
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        let header = Header { version: VERSION_3, pid: 0 };
        let none = [0_u32; 6];
        check(libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), none.as_ptr()))
    }
}

fn check(returned: libc::c_long) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
