//! Why the program could not run, or had to stop.

use crate::{
    agent::SettingsError,
    api::ServeError,
    cli::{Exit, ExitCode},
    discord::DiscordError,
    oauth::ProviderError,
    store::StoreError,
};

/// Why the program could not run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The token API.
    #[error(transparent)]
    Api(#[from] ServeError),
    /// The workers' settings.
    #[error(transparent)]
    Agent(#[from] SettingsError),
    /// Discord.
    #[error(transparent)]
    Discord(#[from] DiscordError),
    /// A system call that should not have failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A part ended that should not have; the log has the place.
    #[error(
        "{0} stopped with a defect; the log says where. What was under way is in its journal: start threadkey again"
    )]
    Stopped(&'static str),
}

impl ExitCode for AppError {
    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Provider(error) => error.exit(),
            Self::Api(_) | Self::Agent(_) => Exit::Usage,
            Self::Discord(DiscordError::Unreachable { .. }) => Exit::Later,
            Self::Discord(DiscordError::Conversations { .. }) => Exit::Store,
            Self::Discord(_) => Exit::Usage,
            Self::System { .. } | Self::Stopped(_) => Exit::Internal,
        }
    }
}
