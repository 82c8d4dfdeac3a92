//! The configuration: builds each module's settings from `threadkey.toml` and
//! `THREADKEY_SECTION__KEY` variables.
//!
//! Invariants:
//! - An unknown or wrong key is an error with its place and a suggestion.
//! - A secret comes from a variable or a file that the configuration names, never from the
//!   configuration itself. No error repeats a value that could be a secret.
//! - Workers cannot read a file that a secret was read from.
//! - A relative path starts at the folder of the configuration file.
//! - The file comes from a place that the user or the system chose, and no other user can have
//!   written it: see `origin`.
//!
//! # A new setting
//!
//! A new setting needs four places:
//! - a field of its section in `file`,
//! - its check and its default in the section's builder: `agent`, `discord`, `hooks`, `inject`, `provider`, `public`
//!   or `build`,
//! - a field of the module's settings,
//! - a line in `deploy/threadkey.toml`; a test compares its keys with those of `file`.
//!
//! Overrides, suggestions and the places of errors need no change. A secret is read by
//! `secret::SecretReader`, which also keeps its file from the workers.

mod agent;
mod build;
mod diagnostics;
mod discord;
mod environment;
mod error;
mod exchange;
mod file;
mod hooks;
mod inject;
mod mcp;
mod operators;
mod origin;
mod overrides;
mod presets;
mod provider;
mod public;
mod secret;
mod source;
mod tools;
mod trust;
mod upstream_presets;
mod variables;

use std::path::{Path, PathBuf};

pub use build::Config;
pub use error::{ConfigError, Place};
pub use origin::CONFIG_VARIABLE;
pub use secret::with_missing_secrets;
pub use variables::Variables;

use origin::Origin;

impl Config {
    /// Finds and reads the configuration.
    ///
    /// `explicit` names the file, or else `THREADKEY_CONFIG` does. Without both, the file is
    /// `$XDG_CONFIG_HOME/threadkey/threadkey.toml`, or else `/etc/threadkey/threadkey.toml`.
    /// `folder` is the current folder, an absolute path.
    ///
    /// # Errors
    /// When no configuration file exists, when it cannot be read or is invalid, or when other users
    /// can have written it and `explicit` does not name it.
    pub fn load(explicit: Option<&Path>, folder: &Path, variables: &Variables) -> Result<Self, ConfigError> {
        let Origin { path, text, unused } = origin::find(explicit, folder, variables)?;
        let mut config = Self::parse(path, text, variables)?;
        config.unused = unused;
        Ok(config)
    }

    /// Reads the text of a configuration as that of the file `path`.
    ///
    /// # Errors
    /// When the text is invalid.
    pub fn parse(path: PathBuf, text: String, variables: &Variables) -> Result<Self, ConfigError> {
        build::build(path, text, variables)
    }

    /// Checks that programs which get this file by `THREADKEY_CONFIG` use it.
    ///
    /// # Errors
    /// When other users can have written it.
    pub fn check_for_programs(path: &Path) -> Result<(), ConfigError> {
        origin::check_for_programs(path)
    }

    /// Returns the file that [`Config::load`] reads if it exists: the named one, or else the user's
    /// own. `None` without both.
    pub fn place(explicit: Option<&Path>, folder: &Path, variables: &Variables) -> Option<PathBuf> {
        origin::place(explicit, folder, variables)
    }
}

#[cfg(test)]
mod tests;
