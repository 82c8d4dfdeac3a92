//! The tools and the files of an agent, as the configuration names them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    ids::{ProviderId, RouteName},
    secret::Secret,
    tools::{Means, Template, Tool, Way},
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

/// A file below a worker's home.
#[derive(Clone, Debug)]
pub struct AgentFile {
    /// Its path, relative to the home.
    pub path: String,
    /// Its content.
    pub text: FileText,
}

/// The content of a file.
#[derive(Clone, Debug)]
pub enum FileText {
    /// A text with placeholders.
    Free(String),
    /// A built-in template with a provider's token.
    Template {
        /// The template.
        template: &'static Template,
        /// The provider.
        provider: ProviderId,
        /// The vendor's address, for a template that names it.
        base_url: Option<String>,
    },
}

/// The variables of tools. A secret of the injecting proxy may be in them.
pub(super) type ToolVariables = BTreeMap<String, Secret>;

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
