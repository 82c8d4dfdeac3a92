//! The operating system. Only this module has the real clock, randomness, disk, locks and
//! processes, and only this module has `unsafe`.

pub mod ancestry;
pub mod below;
pub mod browser;
#[cfg(target_os = "linux")]
pub mod cgroup;
#[cfg(not(target_os = "linux"))]
#[path = "cgroup/none.rs"]
pub mod cgroup;
pub mod clock;
pub mod connection_owner;
pub mod detach;
pub mod disk;
#[cfg(feature = "test-util")]
pub mod faults;
pub mod files;
pub mod filesystem;
mod flock;
pub mod folder_tree;
pub mod folder_watch;
pub mod foreground;
pub mod lock;
pub mod lock_holder;
#[cfg(target_os = "linux")]
mod orphans;
pub mod private_tree;
pub mod process;
pub mod random;
pub mod sandbox;
#[cfg(target_os = "linux")]
mod seccomp;
pub mod secret_source;
pub mod socket;
pub mod terminal;
pub mod user;
