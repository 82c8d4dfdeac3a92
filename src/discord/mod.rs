//! Discord: commands, buttons, modals, conversations, and what people see. The only user of serenity.
//!
//! Invariants:
//! - authority comes from `interaction.user` alone; a custom_id is an opaque random id and proves nothing,
//! - every interaction is acknowledged before anything slow is asked,
//! - sign-in links, codes and states are seen by one person: in ephemeral answers or in a direct message,
//! - the allow-lists hold for every command, button, modal, autocompletion and message,
//! - everything that is sent goes through `rest`, which paces it and scrubs live tokens,
//! - with another REST base than Discord's, nothing ever goes to Discord's own.

mod allow;
mod answer;
mod ask;
mod asked;
mod auth;
mod bot;
mod bounded;
mod buttons;
mod commands;
mod conversations;
mod dispatch;
mod follow;
mod gateway;
mod messages;
mod notify;
mod people;
mod permission;
mod rest;
mod screen;
mod scrub;
mod sign_ins;
mod split;
mod turn;
mod turns;
mod wire;

pub use gateway::run;
pub use scrub::Scrubber;

use std::path::PathBuf;

use url::Url;

use crate::{ids::Snowflake, secret::Secret};

/// Log targets of the libraries below this module. They print whole requests and payloads, with interaction tokens
/// and what people paste, at several levels and in their spans: a subscriber has to leave them out at every level. What
/// matters of it this module logs itself.
pub const UNLOGGABLE: &[&str] = &["serenity", "tungstenite", "tokio_tungstenite"];

/// What the bot needs to know to be on Discord.
#[derive(Clone, Debug)]
pub struct DiscordSettings {
    /// The bot token.
    pub token: Secret,
    /// Another REST base than Discord's own; the gateway address then has to come from it, and so have rate limits.
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
    #[error(
        "{address} cannot be reached: {detail}. Check this machine's way to the network, and start threadkey again"
    )]
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
