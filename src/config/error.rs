//! What can be wrong with a configuration, and where.

use std::{fmt, io, path::PathBuf};

/// Where it is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    File {
        /// Which one.
        path: PathBuf,
        /// Line and column, from 1, where they are known.
        at: Option<(usize, usize)>,
    },
    /// In an environment variable.
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

/// Why there is no configuration to work with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none.
    #[error(
        "there is no configuration. Write one to {}, or name it with --config or THREADKEY_CONFIG. The smallest one is:\n\n{SMALLEST}",
        places(looked)
    )]
    NotFound {
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// It cannot be read.
    #[error("the configuration {path} cannot be read: {source}", path = path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{place}: {what}")]
    Invalid {
        /// Where.
        place: Place,
        /// What, and what would be right.
        what: String,
    },
    /// `run` needs Discord.
    #[error(
        "{what}. A token comes from https://discord.com/developers/applications: your application, Bot, Reset Token"
    )]
    NoDiscordToken {
        /// What is missing, by its name.
        what: String,
    },
}

/// What a newcomer can begin with.
const SMALLEST: &str = r#"[discord]
token_env = "DISCORD_TOKEN"

[providers.acme]
authorization_endpoint = "https://id.acme.example/authorize"
token_endpoint = "https://id.acme.example/token"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
scopes = ["read", "offline_access"]
"#;

fn places(looked: &[PathBuf]) -> String {
    looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}
