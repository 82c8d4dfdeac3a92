//! The settings of workers, and the check that refuses unsafe ones.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{AgentFile, AgentTool};
use crate::{
    ids::{ProviderId, RouteName},
    sys::sandbox,
};

/// How a worker is isolated from the bot, other workers and the rest of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The strongest isolation that this machine offers. Without any, no worker starts.
    #[default]
    Auto,
    /// Landlock with its signal and socket scopes (Linux 6.12). Without it, no worker starts.
    Landlock,
    /// No isolation. A worker can then read every file that the bot can read.
    None,
}

/// The limits of one worker.
#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    /// The longest file that it may write, in bytes.
    pub file_size: u64,
    /// The most open descriptors of each of its processes.
    pub open_files: u64,
    /// The most memory, in bytes. It needs a delegated cgroup.
    pub memory: u64,
    /// The most processes and threads. It needs a delegated cgroup.
    pub processes: u64,
}

impl Default for WorkerLimits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self { file_size: 4 * GIB, open_files: 8192, memory: 4 * GIB, processes: 1024 }
    }
}

/// An MCP server that an agent is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McpServer {
    /// The provider whose tokens it takes. The server has its name.
    pub provider: ProviderId,
    /// The route of the injecting proxy that leads to it.
    pub route: RouteName,
    /// The rest of its URL after the upstream of the route: a path, and a query if there is one.
    pub path: String,
}

/// The settings of an agent and its workers.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The agent's name for people.
    pub title: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The providers whose tokens a worker may ask for.
    pub providers: Vec<ProviderId>,
    /// The isolation.
    pub isolation: Isolation,
    /// The routes of the injecting proxy.
    pub routes: Vec<RouteName>,
    /// The MCP servers that a worker is handed.
    pub mcp: Vec<McpServer>,
    /// Whether the worker reaches them by `threadkey mcp` in any case. Otherwise it gets their addresses
    /// if it takes any over HTTP.
    pub mcp_by_stdio: bool,
    /// The tools that get tokens.
    pub tools: Vec<AgentTool>,
    /// The files below its home that get tokens.
    pub files: Vec<AgentFile>,
    /// More environment variables, in which the placeholders of [`check_placeholders`] expand.
    ///
    /// [`check_placeholders`]: super::check_placeholders
    pub env: BTreeMap<String, String>,
    /// The folder in which each worker gets a folder of its own, with its HOME, TMPDIR and working
    /// folder.
    pub root: PathBuf,
    /// The token API's socket.
    pub socket: PathBuf,
    /// Folders that workers may read besides the system's and the program's own ones.
    pub read: Vec<PathBuf>,
    /// The paths that no sandboxed worker may reach, even below a readable folder: the store's
    /// folder, the configuration, and files with secrets. `root` counts as one of them.
    pub deny: Vec<PathBuf>,
    /// How many workers may run at once.
    pub max_workers: usize,
    /// How many workers of one owner may run at once.
    pub max_workers_per_user: usize,
    /// The limits of each worker.
    pub limits: WorkerLimits,
    /// How long a worker may be idle before it is ended.
    pub idle: Duration,
    /// How long the folder of a worker is kept without being used.
    pub keep_files: Duration,
    /// How long a worker may take to answer the ACP handshake.
    pub start_within: Duration,
    /// How long a turn may last.
    pub max_turn: Duration,
    /// How long a worker may send nothing during a turn, without a question to its owner.
    pub max_silence: Duration,
}

/// The reason why settings are refused. The message names the setting as in threadkey.toml.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A folder that workers may read holds a secret.
    #[error(
        "agent.read: {read} holds {secret}, which no agent may see: move one of them, or list folders without it",
        read = read.display(), secret = secret.display()
    )]
    ReadsSecret {
        /// The folder of `agent.read`.
        read: PathBuf,
        /// The path in it that no worker may read.
        secret: PathBuf,
    },
    /// The folder of the workers lies in a folder with secrets.
    #[error(
        "agent.root: {root} lies in {secret}, which no agent may see: choose another folder",
        root = root.display(), secret = secret.display()
    )]
    RootInSecret {
        /// The folder of `agent.root`.
        root: PathBuf,
        /// The folder that holds it.
        secret: PathBuf,
    },
    /// A path could not be resolved.
    #[error("{path} cannot be resolved: {source}. Check the paths in the table agent of threadkey.toml", path = path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl AgentSettings {
    /// Refuses settings with which a sandboxed worker could read another worker's folder, the store
    /// or the configuration.
    ///
    /// This resolves symlinks, so it touches the disk.
    ///
    /// # Errors
    /// The setting that the operator has to change.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.isolation == Isolation::None {
            return Ok(());
        }
        let root = resolve(&self.root)?;
        let secrets = self.deny.iter().map(|path| resolve(path)).collect::<Result<Vec<_>, _>>()?;
        if let Some(secret) = secrets.iter().find(|secret| root.starts_with(secret)) {
            return Err(SettingsError::RootInSecret { root, secret: secret.clone() });
        }
        for read in &self.read {
            let found = resolve(read)?;
            let overlaps = |secret: &&PathBuf| secret.starts_with(&found) || found.starts_with(secret);
            if let Some(secret) = secrets.iter().chain([&root]).find(overlaps) {
                return Err(SettingsError::ReadsSecret { read: read.clone(), secret: secret.clone() });
            }
        }
        Ok(())
    }
}

fn resolve(path: &Path) -> Result<PathBuf, SettingsError> {
    sandbox::resolve(path).map_err(|source| SettingsError::Path { path: path.to_owned(), source })
}
