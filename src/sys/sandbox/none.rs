//! No sandbox: this system is not Linux.

use std::io;

use super::{Policy, SandboxError};

/// A sandbox; on this system there is none.
#[derive(Debug)]
pub enum Sandbox {}

/// Checks that this system has a sandbox.
///
/// # Errors
/// Always: only Linux has Landlock.
pub fn supported() -> Result<(), SandboxError> {
    Err(SandboxError::Unsupported(
        "its system is not Linux, and only Linux has Landlock, which isolates the agents".to_owned(),
    ))
}

/// Whether a sandboxed process can connect only to those Unix sockets with a path that its policy
/// names.
pub fn governs_unix_sockets() -> bool {
    false
}

impl Sandbox {
    /// Builds the rules.
    ///
    /// # Errors
    /// Always: only Linux has Landlock.
    pub fn new(_: &Policy) -> Result<Self, SandboxError> {
        supported().map(|()| unreachable!("supported() refuses"))
    }

    pub(in crate::sys) fn apply(&self) -> io::Result<()> {
        match *self {}
    }
}
