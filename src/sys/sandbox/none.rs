//! No sandbox: this system is not Linux.

use std::io;

use super::{Policy, SandboxError};

/// A sandbox; on this system there is none.
#[derive(Debug)]
pub enum Sandbox {}

/// Whether this system can keep a process apart.
///
/// # Errors
/// Always: Landlock is Linux's.
pub fn supported() -> Result<(), SandboxError> {
    Err(SandboxError::Unsupported(
        "its system is not Linux, and Landlock is what keeps agents apart".to_owned(),
    ))
}

/// Whether a sandboxed process can connect to no Unix socket with a path but those that its policy names.
pub fn governs_unix_sockets() -> bool {
    false
}

impl Sandbox {
    /// Builds the rules.
    ///
    /// # Errors
    /// Always: Landlock is Linux's.
    pub fn new(_: &Policy) -> Result<Self, SandboxError> {
        supported().map(|()| unreachable!("supported() refuses"))
    }

    pub(in crate::sys) fn put_on(&self) -> io::Result<()> {
        match *self {}
    }
}
