//! Restricts a child process to its own files and processes, with Landlock (Linux).
//!
//! A [`Sandbox`] is built before the fork and applied between fork and exec. From then on the
//! process and all its descendants, whatever their user, open only the files that the [`Policy`]
//! grants. They signal and trace only processes of the same sandbox, and reach no abstract Unix
//! socket outside. Root is bound too: its capabilities are dropped, so that it can neither mount
//! nor trace its way out. A system call filter closes what Landlock leaves open between processes of
//! one user: key rings, System V memory, schedules and limits.
//!
//! TCP is not restricted, on purpose: agents use the network. Landlock does not govern three things:
//!
//! * before Linux 7.1 (ABI 9), connections to a Unix socket that has a path; only that socket's
//!   permissions do;
//! * `stat`, `chmod`, `chown`, `utime` and `setxattr` on files of the process's own user. So a
//!   worker can damage the modes of its user's files, but neither read nor change their content;
//! * watches by inotify of a folder whose path the process knows, if its user may read the folder. They
//!   show the names of the files in it. So a secret folder needs a secret path.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::{Sandbox, governs_unix_sockets, supported};

#[cfg(not(target_os = "linux"))]
mod none;
#[cfg(not(target_os = "linux"))]
pub use none::{Sandbox, governs_unix_sockets, supported};

use std::{
    io,
    path::{Component, Path, PathBuf},
};

/// The files and sockets of a sandboxed process. Paths may be symlinks; their targets count.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Paths to read, list and execute; a missing one is an error.
    pub read: Vec<PathBuf>,
    /// Likewise, but a missing path is skipped, and so is a path in or under `deny`.
    pub read_if_there: Vec<PathBuf>,
    /// Folders to read and write.
    pub write: Vec<PathBuf>,
    /// Unix sockets to connect to; a missing one is skipped.
    pub connect: Vec<PathBuf>,
    /// Paths that `read` and `read_if_there` do not grant, even if they grant a parent. `write`
    /// ignores this.
    pub deny: Vec<PathBuf>,
}

/// The reason why no sandbox is available.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine has no Landlock, or one that is too old.
    #[error("{0}")]
    Unsupported(String),
    /// A path of the policy cannot be granted.
    #[error("{path} cannot be granted to the sandbox: {source}", path = path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel refused the rules.
    #[error("the kernel refused the sandbox: {0}")]
    Kernel(String),
}

/// Resolves the symlinks of the existing part of a path, and appends the missing part as it is.
///
/// # Errors
/// The system's, except that of a missing file.
#[expect(clippy::disallowed_methods, reason = "sys/ is where files are touched")]
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    let mut rest = Vec::new();
    let mut known = absolute.as_path();
    loop {
        match std::fs::canonicalize(known) {
            Ok(mut found) => {
                found.extend(rest.iter().rev());
                return Ok(found);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match (known.components().next_back(), known.parent()) {
                    (Some(Component::Normal(name)), Some(parent)) => {
                        rest.push(name.to_owned());
                        known = parent;
                    }
                    _ => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}
