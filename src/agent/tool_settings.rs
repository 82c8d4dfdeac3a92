//! The tools of an agent, as the configuration names them.

use std::path::{Path, PathBuf};

use crate::{
    ids::{ProviderId, RouteName},
    tools::{Means, Tool, Way},
};

/// A tool that a worker uses with a provider's tokens.
#[derive(Clone, Debug)]
pub struct AgentTool {
    /// The tool.
    pub tool: &'static Tool,
    /// The way in which it gets tokens.
    pub way: Way,
    /// The parts of that way.
    pub means: &'static Means,
    /// The provider.
    pub provider: ProviderId,
    /// The vendor's address.
    pub base_url: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The route of the injecting proxy.
    pub route: Option<RouteName>,
}

impl AgentTool {
    /// Returns the paths of its files, relative to the home.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.means.paths().map(|path| self.in_home(path))
    }

    /// Returns the paths of its files with a secret, relative to the home.
    pub(super) fn secret_paths(&self) -> impl Iterator<Item = PathBuf> {
        self.means.paths().filter(|path| self.means.is_secret_file(path)).map(|path| self.in_home(path))
    }

    pub(super) fn in_home(&self, path: &str) -> PathBuf {
        match &self.means.folder {
            Some(folder) => Path::new(&folder.home).join(path),
            None => PathBuf::from(path),
        }
    }
}
