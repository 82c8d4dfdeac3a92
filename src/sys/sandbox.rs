//! Keeps a child process to the files and processes that are its own, with Landlock (Linux).
//!
//! A [`Sandbox`] is built before the fork and put on between fork and exec. From then on the process and all its
//! descendants, whatever their user, can open only what the [`Policy`] grants, can signal and trace only processes of the
//! same sandbox, and reach no abstract Unix socket of outside. Root is bound like anybody; its capabilities are
//! dropped as well, so that it can neither mount nor trace its way out, and a system call filter keeps it from other
//! processes' resource limits.
//!
//! What is absent on purpose: TCP is not restricted, for agents talk to the network. What Landlock does not govern: before
//! Linux 7.1 (ABI 9) connecting to a Unix socket that has a path, which is a matter of that socket's permissions alone;
//! and, on files of the process's own user that it can name, `stat`, `chmod`, `chown`, `utime` and `setxattr`. A worker can so
//! spoil the modes of its user's files, but read or change the content of none.

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

/// What a sandboxed process may reach. Paths may be symlinks; what they lead to counts.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// May be read, listed and executed; an absent one is an error.
    pub read: Vec<PathBuf>,
    /// Likewise, but an absent one is left out, and so is whatever lies in or under `deny`.
    pub read_if_there: Vec<PathBuf>,
    /// Folders for reading and writing.
    pub write: Vec<PathBuf>,
    /// Unix sockets to connect to; an absent one is left out.
    pub connect: Vec<PathBuf>,
    /// What `read` and `read_if_there` must not open up, even where a parent of it is granted. `write` is not touched by it.
    pub deny: Vec<PathBuf>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine has no (or too old a) Landlock.
    #[error("{0}")]
    Unsupported(String),
    /// A path that was to be granted.
    #[error("{path} cannot be granted to the sandbox: {source}", path = path.display())]
    Path {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused the rules.
    #[error("the kernel refused the sandbox: {0}")]
    Kernel(String),
}

/// The path with its symlinks resolved, as far as it exists; what does not exist yet is appended as it is.
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
