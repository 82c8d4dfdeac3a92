//! How workers are run, and which settings are refused.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{ids::ProviderId, sys::sandbox};

/// How a worker is kept from what is not its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The strongest that this machine offers; refuses to spawn where there is none.
    #[default]
    Auto,
    /// Landlock with its signal and socket scopes (Linux 6.12); refuses to spawn where it is missing.
    Landlock,
    /// Nothing. A worker can then read what the bot can read.
    None,
}

/// How workers are run.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Which providers' tokens a worker may ask for.
    pub providers: Vec<ProviderId>,
    /// How it is kept apart.
    pub isolation: Isolation,
    /// More variables for its environment; `{capability}`, `{conversation}`, `{user}` and `{token:PROVIDER}` expand.
    pub env: BTreeMap<String, String>,
    /// Where each worker gets a folder of its own, with HOME, TMPDIR and its working folder in it.
    pub root: PathBuf,
    /// The token API's socket.
    pub socket: PathBuf,
    /// Folders that workers may read besides the system's and the program's own.
    pub read: Vec<PathBuf>,
    /// What no sandboxed worker may reach even where it lies under a readable folder: the store's folder, the configuration, files
    /// with secrets. `root` counts as one of them.
    pub deny: Vec<PathBuf>,
    /// How many may run at once.
    pub max_workers: usize,
    /// How long one may idle before it is ended.
    pub idle: Duration,
    /// How long one gets to answer the ACP handshake.
    pub start_within: Duration,
}

/// Why these settings are no good. What is at fault is named as in threadkey.toml.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A folder that workers may read holds what they must not.
    #[error(
        "agent.read: {read} holds {secret}, which no agent may see: move one of them, or name folders that do not hold it",
        read = read.display(), secret = secret.display()
    )]
    ReadsSecret {
        /// The folder of `agent.read`.
        read: PathBuf,
        /// What it would open up.
        secret: PathBuf,
    },
    /// The workers' own folders lie with the secrets.
    #[error(
        "agent.root: {root} lies in {secret}, which no agent may see: choose another folder",
        root = root.display(), secret = secret.display()
    )]
    RootInSecret {
        /// The folder of `agent.root`.
        root: PathBuf,
        /// Where it lies.
        secret: PathBuf,
    },
    /// A path could not be looked at.
    #[error("{path} cannot be looked at: {source}", path = path.display())]
    Path {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AgentSettings {
    /// Refuses settings under which a sandboxed worker could read another's folder, the store or the configuration. Looks at
    /// symlinks, so it opens folders.
    ///
    /// # Errors
    /// With a sentence for the operator.
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
