//! No control groups: this system is not Linux.

use std::io;

/// The limits of one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// The most memory, in bytes.
    pub memory: u64,
    /// The most processes and threads.
    pub processes: u64,
}

/// The delegated group of this process; on this system there is none.
#[derive(Debug)]
pub enum Cgroups {}

/// The group of one worker; on this system there is none.
#[derive(Debug)]
pub enum Cgroup {}

impl Cgroups {
    /// Takes over this process's own group.
    ///
    /// # Errors
    /// Always: only Linux has control groups.
    pub fn take_over() -> Result<Self, String> {
        Err("its system is not Linux, and only Linux has cgroups".to_owned())
    }

    /// Returns the limits that this group cannot set.
    pub fn missing(&self) -> Vec<&'static str> {
        match *self {}
    }

    /// Creates the group of a worker.
    ///
    /// # Errors
    /// None.
    pub fn create(&self, _: GroupLimits) -> io::Result<Cgroup> {
        match *self {}
    }
}

impl Cgroup {
    /// Kills all processes of the group.
    ///
    /// # Errors
    /// None.
    pub fn kill(&self) -> io::Result<()> {
        match *self {}
    }

    /// Kills all processes of the group, and removes it.
    ///
    /// # Errors
    /// None.
    pub async fn end(&self) -> io::Result<()> {
        match *self {}
    }
}
