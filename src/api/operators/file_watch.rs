//! Files that an operator replaces while threadkey runs.
//!
//! A file is replaced in place, by rename, or by a symlink of one of its folders. So every event in
//! its folder leads to a new look. Where a folder cannot be watched, a look follows each minute.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::select_all;

use crate::sys::folder_watch::FolderWatch;

/// The pause before a folder that cannot be watched is tried again.
const WATCH_AGAIN: Duration = Duration::from_secs(60);

/// The folder that a path names its file in.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Calls `look` now and after each change in one of the folders. `what` names the files in the log.
/// Does not return.
pub(crate) async fn follow_folders(mut folders: Vec<PathBuf>, what: &str, look: impl Fn()) {
    folders.sort();
    folders.dedup();
    if folders.is_empty() {
        return std::future::pending().await;
    }
    loop {
        let watches: Result<Vec<_>, _> =
            folders.iter().map(|folder| FolderWatch::of_folder(folder)).collect();
        match watches {
            Ok(mut watches) => {
                // A change from before the watch has no event.
                look();
                while changed(&mut watches).await {
                    look();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the folder of {what} cannot be watched; a new file is found within a minute");
                look();
            }
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}

/// Waits for a change in one of the folders. Returns `false` if that is no longer possible.
async fn changed(watches: &mut [FolderWatch]) -> bool {
    let waits = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
    select_all(waits).await.0.is_ok()
}
