//! Workers' own folders: for each conversation and owner a home, temporary files and a working
//! folder. They are private to the bot's system user.
//!
//! # Names
//!
//! Landlock hides a folder's content, and lets every process of the bot's user walk through it. A
//! process that knows a path can therefore watch it with inotify, and read the names of the files in
//! it. So the name of a worker's folder is random, and no worker can learn another worker's:
//!
//! - the root cannot be listed, because Landlock denies it,
//! - a watch of the root reports a name only when its folder is created, removed or itself opened.
//!   So folders are created in advance, while no worker runs ([`WorkerFolders::prepare`]), and a
//!   worker's start touches only entries inside its folder. A new folder is created beside running
//!   workers only when no prepared one is left.
//!
//! [`FolderNames`], the map of conversations and owners to names, is durable and outside workers'
//! reach. The owner is a part of the key, because two users may share a direct message and prompt
//! in it. The files of one owner's worker stay hidden from the other owner.
//!
//! # What happens when the process dies, line by line
//!
//! - A name is recorded before its folder is used. An unrecorded folder is empty, and is used later.
//! - Folders of earlier versions are named `<conversation>-<owner>`. Their new names are recorded
//!   first, in one durable write, and then each folder is renamed. After a death in between, the map
//!   has the new name and the folder has its old name, from which the next start renames it. With
//!   the renames first, a death would lose the only link between a folder and its conversation.
//! - A sweep removes the files, then the marker, then the folder, and then forgets the name. After a
//!   death in between, the rest is swept later. A name without a folder is forgotten at the start.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Conversation, PromptError};
use crate::{
    ids::{RouteName, hex},
    sys::{
        files,
        folder_tree::{self, Listing},
        random, sandbox, socket,
    },
};

/// The parts of a worker's folder in which the worker may write.
pub(super) const PARTS: [&str; 3] = ["home", "tmp", "cwd"];
/// The folder of a worker's sockets, in which the worker cannot write.
pub(super) const SOCKETS: &str = "sockets";
/// The marker in a worker's folder. The bot sets its time of change at each start of the worker.
pub(super) const MARKER: &str = "used";
/// The file in the root with the missing limits of workers, as the bot found them at its last start.
const LIMITS: &str = "limits";
/// How many entries of a working folder are listed.
const MAX_LISTED: usize = 20;

/// The durable names of workers' folders. The map of conversations, on a higher floor, implements
/// it.
#[async_trait]
pub trait FolderNames: Send + Sync + 'static {
    /// Returns all names, with their keys (see [`Conversation::folder_key`]).
    fn all(&self) -> Vec<(String, String)>;
    /// Returns the name for a key.
    fn get(&self, key: &str) -> Option<String>;
    /// Records keys with their names durably, in one write.
    async fn record(&self, names: Vec<(String, String)>) -> io::Result<()>;
    /// Forgets these names.
    async fn forget(&self, names: Vec<String>) -> io::Result<()>;
}

impl Conversation {
    /// Returns the key of this conversation's and owner's folder: `<conversation>-<owner>`.
    pub fn folder_key(&self) -> String {
        format!("{}-{}", self.id.0, self.owner)
    }
}

/// Returns the limits of workers that are missing, as the bot found them at its last start. `None` if
/// no bot has started with this root.
pub fn missing_limits(root: &Path) -> Option<String> {
    files::read_text(&root.join(LIMITS)).ok()
}

/// Returns a name that nobody can guess: 128 random bits in hex.
pub(super) fn new_name() -> String {
    hex(&random::bytes::<16>())
}

/// Returns the path of a route's socket in a worker's folder. The folder's name is an example.
///
/// # Errors
/// A sentence, if the path is too long for a socket.
pub fn example_socket(root: &Path, route: &RouteName) -> Result<PathBuf, String> {
    let path = root.join(new_name()).join(SOCKETS).join(route.as_str());
    socket::check_length(&path).map(|()| path).map_err(|_| {
        format!(
            "the socket of the route {} has too long a path in agent.root: choose a shorter agent.root or route name",
            route.as_str()
        )
    })
}

/// Whether a name is of the form of `new_name`.
pub fn is_folder_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The folders of one conversation and owner.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    /// `HOME`.
    pub(super) home: PathBuf,
    /// `TMPDIR`.
    pub(super) tmp: PathBuf,
    /// The working folder.
    pub(super) work: PathBuf,
    /// The folder of the sockets of the injecting proxy.
    pub(super) sockets: PathBuf,
}

/// The folders of all workers.
pub(super) struct WorkerFolders {
    pub(super) root: PathBuf,
    pub(super) names: Arc<dyn FolderNames>,
    state: Mutex<State>,
    /// Notified when a folder is no longer in use.
    released: Notify,
}

#[derive(Default)]
pub(super) struct State {
    /// The names of the folders that a worker, a cleaning or a sweep uses.
    pub(super) in_use: HashSet<String>,
    /// The names of empty folders.
    pub(super) spare: Vec<String>,
}

/// The exclusive use of a folder, until dropped.
pub(super) struct FolderUse {
    folders: Arc<WorkerFolders>,
    name: String,
}

impl Drop for FolderUse {
    fn drop(&mut self) {
        self.folders.state().in_use.remove(&self.name);
        self.folders.released.notify_waiters();
    }
}

impl WorkerFolders {
    /// Touches nothing on disk.
    pub(super) fn new(root: PathBuf, names: Arc<dyn FolderNames>) -> Arc<Self> {
        Arc::new(Self { root, names, state: Mutex::default(), released: Notify::new() })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the use of a folder, or returns `None` while another has it.
    pub(super) fn try_use(self: &Arc<Self>, name: &str) -> Option<FolderUse> {
        let is_free = self.state().in_use.insert(name.to_owned());
        is_free.then(|| FolderUse { folders: Arc::clone(self), name: name.to_owned() })
    }

    /// Takes the use of a folder. Waits while another has it.
    async fn wait_and_use(self: &Arc<Self>, name: &str) -> FolderUse {
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if let Some(in_use) = self.try_use(name) {
                return in_use;
            }
            released.await;
        }
    }

    /// Takes the use of a folder without a conversation. It is in use from the moment at which it is
    /// no longer spare, so that no second conversation gets it before its name is recorded.
    fn use_new(self: &Arc<Self>) -> FolderUse {
        let mut state = self.state();
        let name = state.spare.pop().unwrap_or_else(new_name);
        state.in_use.insert(name.clone());
        FolderUse { folders: Arc::clone(self), name }
    }

    /// Creates the folders of a worker, and marks them as used now.
    pub(super) async fn open(
        self: &Arc<Self>,
        conversation: &Conversation,
    ) -> Result<(Folders, FolderUse), PromptError> {
        let key = conversation.folder_key();
        let failed = |source| PromptError::Folder { path: self.root.clone(), source };
        let in_use = match self.names.get(&key) {
            Some(name) => self.wait_and_use(&name).await,
            None => {
                let in_use = self.use_new();
                self.names.record(vec![(key, in_use.name.clone())]).await.map_err(failed)?;
                in_use
            }
        };
        let (root, name) = (self.root.clone(), in_use.name.clone());
        let created = tokio::task::spawn_blocking(move || create(&root, &name)).await;
        Ok((created.map_err(io::Error::other).map_err(failed)??, in_use))
    }

    /// Records the missing limits of workers for [`missing_limits`]. A failure is logged.
    pub(super) fn note_limits(&self, missing: &str) {
        if let Err(error) = files::replace_private(&self.root.join(LIMITS), missing.as_bytes()) {
            tracing::warn!(%error, "the missing limits of agents cannot be recorded for doctor");
        }
    }

    /// Lists the working folder of a conversation.
    pub(super) async fn list(&self, conversation: &Conversation) -> io::Result<Listing> {
        let Some(name) = self.names.get(&conversation.folder_key()) else { return Ok(Listing::default()) };
        let work = self.root.join(name).join("cwd");
        tokio::task::spawn_blocking(move || folder_tree::list(&work, MAX_LISTED))
            .await
            .map_err(io::Error::other)?
    }

    /// Removes all files of a conversation. Returns false if its worker is running.
    pub(super) async fn clean(self: &Arc<Self>, conversation: &Conversation) -> io::Result<bool> {
        let Some(name) = self.names.get(&conversation.folder_key()) else { return Ok(true) };
        let Some(in_use) = self.try_use(&name) else { return Ok(false) };
        let own = self.root.join(name);
        let removed = tokio::task::spawn_blocking(move || {
            let _in_use = in_use;
            folder_tree::restore_rights(&own)?;
            PARTS.iter().try_for_each(|part| folder_tree::remove_contents(&own.join(part)))
        });
        removed.await.map_err(io::Error::other)?.map(|()| true)
    }
}

/// Marks a folder as used now. Its worker can make the marker unwritable, and a new one takes its
/// place then.
pub(super) fn mark(marker: &Path) -> io::Result<()> {
    match files::touch(marker) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            files::remove(marker)?;
            files::touch(marker)
        }
        marked => marked,
    }
}

fn create(root: &Path, name: &str) -> Result<Folders, PromptError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| PromptError::Folder { path, source }
    };
    let created = |path: PathBuf| match files::create_private_folder(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(PromptError::Folder { path, source }),
    };
    created(root.to_owned())?;
    let root = sandbox::resolve(root).map_err(failed(root))?;
    let own = created(root.join(name))?;
    folder_tree::restore_rights(&own).and_then(|()| mark(&own.join(MARKER))).map_err(failed(&own))?;
    let [home, tmp, work] = PARTS.map(|part| created(own.join(part)));
    let sockets = created(own.join(SOCKETS))?;
    Ok(Folders { home: home?, tmp: tmp?, work: work?, sockets })
}
