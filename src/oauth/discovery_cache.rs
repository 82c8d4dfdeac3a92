//! The cache of published metadata: a small file for each provider, in the folder
//! `auth.json.discovery` beside the store.
//!
//! The folder is open to its owner alone (0700), and so are the files (0600). A writer replaces a file
//! as a whole, so a reader finds the old file or the new one, and no lock is needed:
//!
//! - *Two processes write at once.* Each writes a temp file of its own name; the last rename wins.
//!   Both files hold metadata of the same issuer.
//! - *A process dies while it writes.* Before the rename the old file stands. A temp file may stay; it
//!   is never read, and the next writer of that provider removes it.
//! - *A file is damaged, of another version, or of another issuer.* It counts as absent, so the metadata
//!   is fetched again.
//!
//! The file holds no secret. But its content decides where secrets of new sign-ins go, so it stands
//! where only the store's owner writes, and a reader checks it as if it came from the server.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::Discovered;
use crate::{ids::ProviderId, sys::files};

/// The age from which metadata is refreshed in the background.
pub const CACHE_FRESH_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The version of the file's form.
const VERSION: u32 = 1;

/// The cache of published metadata.
#[derive(Clone, Debug)]
pub struct DiscoveryCache {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct File<T> {
    version: u32,
    #[serde(flatten)]
    discovered: T,
}

impl DiscoveryCache {
    /// The cache beside this store.
    pub fn beside(store: &Path) -> Self {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(".discovery");
        Self { folder: store.with_file_name(name) }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the file of a provider. The name of a provider is a safe name of a file.
    fn path(&self, id: &ProviderId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }

    /// Returns a provider's metadata, if it was published by `publisher`.
    pub fn read(&self, id: &ProviderId, publisher: &str) -> Option<Discovered> {
        let text = files::read_text(&self.path(id)).ok()?;
        let file: File<Discovered> = serde_json::from_str(&text).ok()?;
        let is_of_publisher = file.version == VERSION && file.discovered.publisher == publisher;
        is_of_publisher.then_some(file.discovered)
    }

    /// Replaces a provider's metadata.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, id: &ProviderId, discovered: &Discovered) -> io::Result<()> {
        let file = File { version: VERSION, discovered };
        let bytes = serde_json::to_vec_pretty(&file)?;
        files::create_private_folder(&self.folder)?;
        self.remove_leftovers(id);
        files::replace_private(&self.path(id), &bytes)
    }

    /// Removes the temp files of writers that died. A writer that lives notices, and its caller keeps
    /// the metadata in memory.
    fn remove_leftovers(&self, id: &ProviderId) {
        let begin = format!(".{id}.json.");
        let names = files::names_in(&self.folder).unwrap_or_default();
        for name in names.iter().filter(|name| name.starts_with(&begin) && name.ends_with(".tmp")) {
            let _ = files::remove(&self.folder.join(name));
        }
    }
}

#[cfg(test)]
mod tests;
