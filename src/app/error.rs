//! The reason why the program could not start, or had to stop.

use crate::{
    agent::SettingsError,
    api::{PagesError, ServeError},
    cli::{Exit, ExitError},
    discord::DiscordError,
    oauth::ProviderError,
    store::StoreError,
};

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
            Self::Api(_) | Self::Pages(_) | Self::Agent(_) | Self::AgentFolders { .. } => Exit::Usage,
            Self::Discord(DiscordError::Unreachable { .. }) => Exit::Later,
            Self::Discord(DiscordError::Conversations { .. }) => Exit::Store,
            Self::Discord(DiscordError::Relay(_)) => Exit::Internal,
            Self::Discord(_) => Exit::Usage,
            Self::System { .. } | Self::Stopped(_) => Exit::Internal,
        }
    }
}
