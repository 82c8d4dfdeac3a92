//! The configuration: `threadkey.toml` and `THREADKEY_SECTION__KEY` variables, turned into each module's own settings.
//!
//! Invariants: an unknown or wrong key is an error that says where it is and what was meant; a secret comes from a variable or a
//! file that the configuration names, never from the configuration itself, and no error repeats a value that could
//! be one. Relative paths are relative to the configuration file's folder.

mod agent;
mod build;
mod discord;
mod error;
mod file;
mod overrides;
mod provider;
mod secret;
mod source;
mod variables;
mod words;

use std::path::{Path, PathBuf};

pub use build::Config;
pub use error::{ConfigError, Place};
pub use variables::Variables;

use crate::sys::files;
use variables::{variable, xdg};

/// The variable that names the configuration file.
pub const CONFIG_VARIABLE: &str = "THREADKEY_CONFIG";

impl Config {
    /// Finds and reads the configuration: `explicit`, else `THREADKEY_CONFIG`, else `threadkey.toml` in `folder`, else
    /// `$XDG_CONFIG_HOME/threadkey/threadkey.toml`. `folder` is the current one, an absolute path.
    ///
    /// # Errors
    /// [`ConfigError`], with the place and what to do.
    pub fn load(explicit: Option<&Path>, folder: &Path, variables: &Variables) -> Result<Self, ConfigError> {
        let named = explicit.map(Path::to_owned).or_else(|| variable(variables, CONFIG_VARIABLE));
        if let Some(named) = named {
            let path = folder.join(named);
            let text = files::read_text(&path)
                .map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
            return build::build(path, text, variables);
        }
        let looked = places(folder, variables);
        for path in &looked {
            match files::read_text(path) {
                Ok(text) => return build::build(path.clone(), text, variables),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ConfigError::Unreadable { path: path.clone(), source }),
            }
        }
        Err(ConfigError::NotFound { looked })
    }
}

fn places(folder: &Path, variables: &Variables) -> Vec<PathBuf> {
    let mut places = vec![folder.join("threadkey.toml")];
    places.extend(
        xdg(variables, "XDG_CONFIG_HOME", ".config").map(|base| base.join("threadkey/threadkey.toml")),
    );
    places
}

#[cfg(test)]
mod tests;
