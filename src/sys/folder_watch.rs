//! A watch on one name in one folder, by inotify(7) where the system has it.
//!
//! Only changes of the name itself count: a file is made there, moved there or away, or removed. A
//! reader that opens the file causes no event, so any number of readers wakes no process. An edit
//! in place causes none either; stores are replaced by rename(2) and never edited.
//!
//! The kernel queues an event before the system call that caused it returns. So after
//! [`FolderWatch::follow`] has returned, every later change ends a wait. An overflow of the queue
//! and the end of the watch (the folder is removed or unmounted) end it too.
//!
//! A watch belongs to the folder's inode, not to its path. The caller resolves the path now and
//! then and calls [`FolderWatch::follow`] again.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::FolderWatch;

#[cfg(not(target_os = "linux"))]
mod none;
#[cfg(not(target_os = "linux"))]
pub use none::FolderWatch;

#[cfg(all(test, target_os = "linux"))]
mod tests;
