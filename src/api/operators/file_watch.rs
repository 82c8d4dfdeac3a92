//! Files that an operator replaces while threadkey runs.
//!
//! A file is replaced in place, by rename, or by a symlink of one of its folders. So every event in
//! its folder leads to a new look. A watch belongs to a folder's inode, and a change of a path above it
//! or of a symlink's target has no event. So every ten seconds the paths are resolved anew, and a look
//! follows. That also serves folders that cannot be watched.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::select_all;

use crate::sys::folder_watch::FolderWatch;

/// How long a watch is kept, and the pause before a folder that cannot be watched is tried again.
const WATCH_AGAIN: Duration = Duration::from_secs(10);

/// The folder that a path names its file in.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Calls `look` now, after each change in one of the folders, and every ten seconds. `what` names the files in the log.
/// Does not return.
pub(crate) async fn follow_folders(mut folders: Vec<PathBuf>, what: &str, look: impl Fn()) {
    folders.sort();
    folders.dedup();
    if folders.is_empty() {
        return std::future::pending().await;
    }
    let mut is_reported = false;
    loop {
        let watches: Result<Vec<_>, _> =
            folders.iter().map(|folder| FolderWatch::of_folder(folder)).collect();
        // A change from before the watch has no event.
        look();
        match watches {
            Ok(mut watches) => {
                is_reported = false;
                let following = async {
                    while changed(&mut watches).await {
                        look();
                    }
                    std::future::pending::<()>().await;
                };
                let _ = tokio::time::timeout(WATCH_AGAIN, following).await;
            }
            Err(error) => {
                if !is_reported {
                    tracing::warn!(%error, "the folder of {what} cannot be watched; a new file is found within ten seconds");
                }
                is_reported = true;
                tokio::time::sleep(WATCH_AGAIN).await;
            }
        }
    }
}

/// Waits for a change in one of the folders. Returns `false` if that is no longer possible.
async fn changed(watches: &mut [FolderWatch]) -> bool {
    let waits = watches.iter_mut().map(|watch| Box::pin(watch.changed()));
    select_all(waits).await.0.is_ok()
}
