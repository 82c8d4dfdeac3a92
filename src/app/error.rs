//! The reason why the program could not start, or had to stop.

use crate::{
    agent::SettingsError,
    api::{ListenError, OperatorKeyError, PagesError, ServeError},
    cli::{Exit, ExitError},
    discord::DiscordError,
    oauth::ProviderError,
    store::StoreError,
};

/// A section of an operator key.
const EXAMPLE_KEY: &str = r#"[api.operator_keys.example]
key_file = "/etc/threadkey/example.key"
principals = ["user:80351110224678912"]
providers = ["acme"]
"#;

/// The reason why the program could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The token API cannot be served.
    #[error(transparent)]
    Api(#[from] ServeError),
    /// The sign-in pages cannot be served.
    #[error(transparent)]
    Pages(#[from] PagesError),
    /// The token API cannot be served on TCP.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An operator key cannot be used.
    #[error(transparent)]
    OperatorKey(#[from] OperatorKeyError),
    /// `serve` has no operator key, and so nobody could use it.
    #[error(
        "`threadkey serve` needs an operator key, because without the bot there are no workers: make one with \
         `openssl rand -hex 32`, put it into a variable or a file, and name that in the configuration:\n\n{EXAMPLE_KEY}"
    )]
    NoOperatorKey,
    /// The workers' settings are wrong.
    #[error(transparent)]
    Agent(#[from] SettingsError),
    /// The folders of the workers cannot be prepared.
    #[error(
        "the agents' folders in {root} cannot be prepared: {source}. Check that agent.root belongs to threadkey's user and that its disk is in order",
        root = root.display()
    )]
    AgentFolders {
        /// The folder of `agent.root`.
        root: std::path::PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Discord cannot be reached or refuses the bot.
    #[error(transparent)]
    Discord(#[from] DiscordError),
    /// A system call failed unexpectedly.
    #[error("{problem}: {source}")]
    System {
        /// The failed operation.
        problem: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// A part of the program ended because of a defect. The log has the place.
    #[error(
        "{0} stopped because of a defect; the log has its place. The journal has the state of each refresh: start threadkey again"
    )]
    Stopped(&'static str),
}

impl ExitError for AppError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Provider(error) => error.exit(),
            Self::Api(_) | Self::Pages(_) | Self::Listen(_) => Exit::Usage,
            Self::OperatorKey(_) | Self::NoOperatorKey | Self::Agent(_) | Self::AgentFolders { .. } => {
                Exit::Usage
            }
            Self::Discord(DiscordError::Unreachable { .. }) => Exit::Later,
            Self::Discord(DiscordError::Conversations { .. }) => Exit::Store,
            Self::Discord(DiscordError::Relay(_)) => Exit::Internal,
            Self::Discord(_) => Exit::Usage,
            Self::System { .. } | Self::Stopped(_) => Exit::Internal,
        }
    }
}
