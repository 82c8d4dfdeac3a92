//! The configuration: builds each module's settings from `threadkey.toml` and
//! `THREADKEY_SECTION__KEY` variables.
//!
//! Invariants:
//! - An unknown or wrong key is an error with its place and a suggestion.
//! - A secret comes from a variable or a file that the configuration names, never from the
//!   configuration itself. No error repeats a value that could be a secret.
//! - Workers cannot read a file that a secret was read from.
//! - A relative path starts at the folder of the configuration file.
//!
//! # A new setting
//!
//! A new setting needs four places:
//! - a field of its section in `file`,
//! - its check and its default in the section's builder: `agent`, `discord`, `provider` or `build`,
//! - a field of the module's settings,
//! - a line in `deploy/threadkey.toml`; a test compares its keys with those of `file`.
//!
//! Overrides, suggestions and the places of errors need no change. A secret is read by
//! `secret::SecretReader`, which also keeps its file from the workers.

mod agent;
mod build;
mod diagnostics;
mod discord;
mod error;
mod file;
mod overrides;
mod provider;
mod secret;
mod source;
mod trust;
mod variables;

use std::path::{Path, PathBuf};

pub use build::Config;
pub use error::{ConfigError, Place};
pub use variables::Variables;

use crate::sys::files;
use variables::{path_variable, xdg_folder};

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "THREADKEY_CONFIG";

impl Config {
    /// Finds and reads the configuration.
    ///
    /// `explicit` names the file, or else `THREADKEY_CONFIG` does. Without both, the file is
    /// `threadkey.toml` in `folder`, or else `$XDG_CONFIG_HOME/threadkey/threadkey.toml`. `folder`
    /// is the current folder, an absolute path.
    ///
    /// # Errors
    /// When no configuration file exists, or it cannot be read, or it is invalid.
    pub fn load(explicit: Option<&Path>, folder: &Path, variables: &Variables) -> Result<Self, ConfigError> {
        let named = explicit.map(Path::to_owned).or_else(|| path_variable(variables, CONFIG_VARIABLE));
        if let Some(named) = named {
            let path = folder.join(named);
            let text = files::read_text(&path)
                .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
            return build::build(path, text, variables);
        }
        let searched = default_places(folder, variables);
        for path in &searched {
            match files::read_text(path) {
                Ok(text) => return build::build(path.clone(), text, variables),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ConfigError::Unreadable { path: path.clone(), source }),
            }
        }
        Err(ConfigError::NotFound { searched })
    }
}

fn default_places(folder: &Path, variables: &Variables) -> Vec<PathBuf> {
    let mut places = vec![folder.join("threadkey.toml")];
    places.extend(
        xdg_folder(variables, "XDG_CONFIG_HOME", ".config").map(|base| base.join("threadkey/threadkey.toml")),
    );
    places
}

#[cfg(test)]
mod tests;
