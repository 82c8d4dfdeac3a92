//! Discord: commands, buttons, modals, conversations, and what people see.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{agent::Workers, broker::Broker, ids::Snowflake, secret::Secret};

/// What the bot needs to know to be on Discord.
#[derive(Clone, Debug)]
pub struct DiscordSettings {
    /// The bot token.
    pub token: Secret,
    /// Another REST base than Discord's own; the gateway address then has to come from it.
    pub api_base: Option<Url>,
    /// Where it answers; empty means everywhere.
    pub allowed_guilds: Vec<Snowflake>,
    /// In which channels (a thread counts as its channel).
    pub allowed_channels: Vec<Snowflake>,
    /// To whom, by role.
    pub allowed_roles: Vec<Snowflake>,
    /// To whom, by user.
    pub allowed_users: Vec<Snowflake>,
    /// Workers may use the server's shared sessions where their owner has none.
    pub shared: bool,
    /// Where the ownership of conversations is kept.
    pub conversations: PathBuf,
}

/// Why the bot cannot be on Discord.
#[derive(Debug, thiserror::Error)]
pub enum DiscordError {
    /// Discord does not take the token.
    #[error(
        "Discord refuses the bot token: copy it anew from the developer portal (Bot, Reset Token) into the variable that discord.token_env names"
    )]
    TokenRefused,
    /// No connection.
    #[error("{address} cannot be reached: {detail}")]
    Unreachable {
        /// What was tried.
        address: String,
        /// How it went.
        detail: String,
    },
    /// The gateway would not be the configured one.
    #[error(
        "the server at discord.api_base {api_base} names no gateway ({detail}); threadkey does not fall back to Discord's own"
    )]
    NoGateway {
        /// The configured base.
        api_base: Url,
        /// How it went.
        detail: String,
    },
    /// Discord does not allow an intent.
    #[error("Discord refuses the intents: {0}")]
    Intents(String),
    /// The map of conversations.
    #[error("{path}: {detail}", path = path.display())]
    Conversations {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        detail: String,
    },
}

/// Is on Discord until `shutdown`. Without `workers` it signs people in and answers no prompts.
///
/// # Errors
/// When the connection cannot be made or is refused for good.
pub async fn run(
    settings: DiscordSettings,
    broker: Broker,
    workers: Option<Workers>,
    shutdown: CancellationToken,
) -> Result<(), DiscordError> {
    let _ = (settings, broker, workers, shutdown);
    unimplemented!()
}
