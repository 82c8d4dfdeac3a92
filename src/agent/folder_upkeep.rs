//! The upkeep of workers' folders: the folders of earlier versions get new names, folders are
//! created in advance, and unused folders are removed. See [`super::folders`] for the reasons.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::Path,
    sync::Arc,
    time::Duration,
};

use super::{
    folders::{MARKER, PARTS, SOCKETS, WorkerFolders, is_folder_name, mark, new_name},
    tool_files::{LIST, remove_left},
};
use crate::{
    ids::Snowflake,
    sys::{clock::UnixTime, files, folder_tree},
};

/// How many empty folders are kept for new conversations.
const SPARE: usize = 64;
/// How many folders are kept. With more, the ones that are unused for the longest time are removed
/// first, so that the map of their names stays readable.
const MAX_FOLDERS: usize = 10_000;

impl WorkerFolders {
    /// Renames the folders of earlier versions, forgets the names of missing folders, and removes the files
    /// with tokens that a bot has left because it died, and creates folders in advance. Must be called before a worker starts.
    pub(super) async fn prepare(self: &Arc<Self>) -> io::Result<()> {
        let root = self.root.clone();
        let found = blocking(move || {
            files::create_private_folder(&root)?;
            files::names_in(&root)
        })
        .await?;
        let old: Vec<_> = found.iter().filter(|name| is_old_name(name)).cloned().collect();
        let unknown: Vec<_> = old.iter().filter(|key| self.names.get(key).is_none()).collect();
        if !unknown.is_empty() {
            let names = unknown.into_iter().map(|key| (key.clone(), new_name())).collect();
            self.names.record(names).await?;
        }
        for key in old {
            let Some(name) = self.names.get(&key) else { continue };
            let (from, to) = (self.root.join(&key), self.root.join(name));
            // An older version has used its own name again. Neither folder replaces the other.
            if !files::exists(&to) {
                blocking(move || folder_tree::rename(&from, &to)).await?;
            } else {
                tracing::warn!(
                    folder = %from.display(), new = %to.display(),
                    "a conversation has two folders for its agent; the older one is not used and can be removed"
                );
            }
        }
        let left: Vec<_> = found.iter().filter(|name| is_folder_name(name)).cloned().collect();
        let root = self.root.clone();
        blocking(move || {
            for name in left {
                let own = root.join(name);
                if let Err(error) = remove_left(&own, &own.join(PARTS[0])) {
                    let folder = own.display();
                    tracing::warn!(%folder, %error, "files with tokens that an agent has left cannot be removed");
                }
            }
            Ok(())
        })
        .await?;
        let root = self.root.clone();
        let missing = self.names.all().into_iter().map(|(_, name)| name);
        let missing: Vec<_> = missing.filter(|name| !files::exists(&root.join(name))).collect();
        if !missing.is_empty() {
            self.names.forget(missing).await?;
        }
        self.refill().await
    }

    /// Creates folders in advance if no worker runs.
    pub(super) async fn refill(self: &Arc<Self>) -> io::Result<()> {
        let folders = Arc::clone(self);
        blocking(move || {
            // A worker's start waits for this lock, so none begins meanwhile.
            let mut state = folders.state();
            if !state.in_use.is_empty() || state.spare.len() >= SPARE {
                return Ok(());
            }
            let known: HashSet<_> = folders.names.all().into_iter().map(|(_, name)| name).collect();
            for name in files::names_in(&folders.root)? {
                let is_spare = is_folder_name(&name)
                    && !known.contains(&name)
                    && !state.spare.contains(&name)
                    && folder_tree::list(&folders.root.join(&name), 1)?.names.is_empty();
                if is_spare {
                    state.spare.push(name);
                }
            }
            while state.spare.len() < SPARE {
                let name = new_name();
                folder_tree::make(&folders.root.join(&name))?;
                state.spare.push(name);
            }
            Ok(())
        })
        .await
    }

    /// Removes the folders that no worker has used for `keep`, and the oldest ones of too many.
    /// Returns how many it removed.
    pub(super) async fn sweep(self: &Arc<Self>, now: UnixTime, keep: Duration) -> io::Result<usize> {
        let root = self.root.clone();
        let found = blocking(move || files::names_in(&root)).await?;
        let keep = UnixTime::try_from(keep.as_secs()).unwrap_or(UnixTime::MAX);
        let spare = self.state().spare.clone();
        let mut by_use: BTreeMap<(UnixTime, String), ()> = BTreeMap::new();
        for name in found.into_iter().filter(|name| is_folder_name(name) && !spare.contains(name)) {
            let marker = self.root.join(&name).join(MARKER);
            let own = self.root.join(&name);
            let used = blocking(move || {
                folder_tree::restore_rights(&own)?;
                last_use(&marker, now)
            });
            let used = used.await;
            match used {
                Ok(used) => drop(by_use.insert((used, name), ())),
                Err(error) => tracing::warn!(%error, "the last use of an agent's folder is not known"),
            }
        }
        let excess = by_use.len().saturating_sub(MAX_FOLDERS);
        let due = by_use.into_keys().enumerate();
        let due = due.filter(|(at, (used, _))| *at < excess || now.saturating_sub(*used) >= keep);
        let mut removed = Vec::new();
        for (_, (used, name)) in due {
            let Some(_in_use) = self.try_use(&name) else { continue };
            let own = self.root.join(&name);
            // A worker may have used it since.
            match blocking(move || remove(&own, used, now)).await {
                Ok(true) => removed.push(name),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "an agent's unused folder cannot be removed"),
            }
        }
        let count = removed.len();
        if count > 0 {
            self.names.forget(removed).await?;
        }
        Ok(count)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Whether this is the name of a folder of an earlier version: `<conversation>-<owner>`.
fn is_old_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(conversation, owner)| {
        conversation.parse::<Snowflake>().is_ok() && owner.parse::<Snowflake>().is_ok()
    })
}

/// Returns the time of the last use. A folder without a marker, or with one from the future, counts
/// as used now: a worker can set its own marker's time, but cannot keep its files for ever.
fn last_use(marker: &Path, now: UnixTime) -> io::Result<UnixTime> {
    match files::changed_at(marker) {
        Ok(used) if used <= now => Ok(used),
        Ok(_) => mark(marker).map(|()| now),
        Err(error) if error.kind() == io::ErrorKind::NotFound => mark(marker).map(|()| now),
        Err(error) => Err(error),
    }
}

/// Removes a worker's folder, if it was not used since.
fn remove(own: &Path, used: UnixTime, now: UnixTime) -> io::Result<bool> {
    let marker = own.join(MARKER);
    if last_use(&marker, now)? != used {
        return Ok(false);
    }
    for part in PARTS.into_iter().chain([SOCKETS]) {
        folder_tree::remove_contents(&own.join(part))?;
        folder_tree::remove_empty(&own.join(part))?;
    }
    files::remove(&own.join(LIST))?;
    files::remove(&marker)?;
    folder_tree::remove_empty(own)?;
    Ok(true)
}
