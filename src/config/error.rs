//! Configuration errors and their places.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// The place of a configuration error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A place in the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line and column, from 1, if they are known.
        at: Option<(usize, usize)>,
    },
    /// An environment variable.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, at: Some((line, column)) } => {
                write!(f, "{}, line {line}, column {column}", path.display())
            }
            Self::File { path, at: None } => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "the variable {name}"),
        }
    }
}

/// The reason why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No configuration file exists.
    #[error(
        "there is no configuration at {}.{} `threadkey config init` asks a few questions and writes one. \
         Another file is named with --config or THREADKEY_CONFIG. {}The smallest one is:\n\n{SMALLEST}",
        joined(searched), without_home(searched), in_folder(unused.as_deref())
    )]
    NotFound {
        /// The places where the file was searched.
        searched: Vec<PathBuf>,
        /// A file of this name in the current folder, which is never read by itself.
        unused: Option<PathBuf>,
    },
    /// The file that the user names does not exist.
    #[error(
        "there is no configuration at {path}, which {by} names: correct {by}, or write the file with \
         `threadkey config init --config {path}`",
        path = path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// The option or the variable that names it.
        by: &'static str,
    },
    /// Other users can have written the file.
    #[error("the configuration {path} is not used: {problem}", path = path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// The reason, and the way to mend it.
        problem: String,
    },
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A key or a value is wrong.
    #[error("{place}: {problem}")]
    Invalid {
        /// The place of the key or value.
        place: Place,
        /// The problem and the way to mend it.
        problem: String,
    },
    /// `run` needs a Discord token.
    #[error(
        "{missing}. Get a token at https://discord.com/developers/applications: your application, Bot, Reset Token"
    )]
    NoDiscordToken {
        /// The missing setting, variable or file, in a sentence without its end.
        missing: String,
    },
}

impl ConfigError {
    /// Returns the key, or the section, of an error of a text that was not written.
    pub fn key_in_unwritten<'a>(&self, text: &'a str) -> &'a str {
        let Self::Invalid { place: Place::File { at: Some((line, _)), .. }, .. } = self else { return "" };
        let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        line.split('=').next().unwrap_or_default().trim()
    }

    /// Describes an error of a text that was not written. In place of a line number it names the key or
    /// the section, without the value, which may be a secret.
    pub fn in_unwritten(&self, text: &str) -> String {
        let Self::Invalid { place: Place::File { at: Some(_), .. }, problem } = self else {
            return self.to_string();
        };
        let key = self.key_in_unwritten(text);
        // Some problems name their key themselves.
        if problem.contains(&format!("{key}: ")) { problem.to_string() } else { format!("{key}: {problem}") }
    }
}

/// A configuration to start with.
const SMALLEST: &str = r#"[discord]
token_env = "DISCORD_TOKEN"

[providers.acme]
authorization_endpoint = "https://id.acme.example/authorize"
token_endpoint = "https://id.acme.example/token"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:28471/callback"
scopes = ["read", "offline_access"]
"#;

/// Explains why only the system's place was searched.
fn without_home(searched: &[PathBuf]) -> &'static str {
    if searched.len() > 1 { "" } else { " HOME names no folder, so no file of yours was looked for." }
}

fn in_folder(unused: Option<&Path>) -> String {
    let text = |path: &Path| {
        format!("{} is not read by itself: if you trust it, name it with --config. ", path.display())
    };
    unused.map(text).unwrap_or_default()
}

fn joined(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}
