//! The Discord bot: commands, buttons, modals, conversations, and their messages. The only user of
//! serenity.
//!
//! Invariants:
//! - authority comes from `interaction.user` alone; a custom_id is an opaque random id and proves
//!   nothing,
//! - every interaction is acknowledged before any slow work starts,
//! - one user sees the links, codes and states of a sign-in: in ephemeral answers or in a direct
//!   message,
//! - one rule, in `rights`, decides for every command, button, modal, autocompletion and message,
//! - every message is sent through `rest`, which paces the requests and scrubs live tokens,
//! - with another REST base than Discord's, no request ever goes to Discord's own,
//! - serenity connects to the gateway only through `relay`, which uses the proxies and certificates
//!   of [`Outward`](crate::net::Outward).

mod acting_managers;
mod agent_text;
mod ask;
mod auth;
mod authorization_response;
mod bot;
mod bounded_map;
mod buttons;
mod closed_thread;
mod code_block;
mod command;
mod commands;
mod conversations;
mod dispatch;
mod ended_rights;
mod first_contact;
mod gateway;
mod has_agents;
mod held_prompts;
mod help;
mod hidden;
mod hold_prompt;
mod interaction;
mod interaction_tokens;
mod invite;
mod link;
mod open_thread;
mod permission;
mod prompt_search;
mod prompts;
mod question;
mod question_text;
mod questions;
mod relay;
mod rest;
mod retry;
mod rights;
mod running_turns;
mod session_events;
mod session_notice;
mod shared_logins;
mod sign_in;
mod split;
mod turn;
mod turn_messages;
mod turn_text;
mod unreached_users;
mod wire;

pub use conversations::{Conversations, ConversationsError};
pub use first_contact::gateway_address;
pub use gateway::{BotDeps, run};
pub use hidden::is_hidden;
pub use invite::{invite, missing_names};
pub use questions::SignInQuestions;
pub use rights::{Application, Rights, RightsInWords, rights_in_words};

use std::path::PathBuf;

use url::Url;

use crate::{ids::Snowflake, net::Trust, secret::Secret};

/// Log targets of the libraries below this module, which every subscriber must exclude at every
/// level. They log whole requests and payloads, with interaction tokens and pasted codes, at
/// several levels and in their spans. This module itself logs the parts that matter.
pub const UNLOGGABLE: &[&str] = &["serenity", "tungstenite", "tokio_tungstenite"];

/// The settings of the bot.
#[derive(Clone, Debug)]
pub struct DiscordSettings {
    /// The bot token.
    pub token: Secret,
    /// Another REST base than Discord's own. The gateway address is then requested from it, and it
    /// enforces its own rate limits.
    pub api_base: Option<Url>,
    /// The certificate authorities that Discord's servers may use.
    pub trust: Trust,
    /// All users may use the bot. The lists below then limit the places alone.
    pub allow_everyone: bool,
    /// Servers in which the bot answers, and whose members may use it; empty means all.
    pub allowed_guilds: Vec<Snowflake>,
    /// Channels in which the bot answers, and which a member must see; a thread counts as its channel.
    pub allowed_channels: Vec<Snowflake>,
    /// Roles of which a member must have one.
    pub allowed_roles: Vec<Snowflake>,
    /// Users who may use the bot, whether or not they are members of a listed server.
    pub allowed_users: Vec<Snowflake>,
    /// The channel for reports about the shared logins of servers.
    pub log_channel: Option<Snowflake>,
    /// Workers may use the server's shared sessions where their owner has no session.
    pub guild_sessions: bool,
    /// The file that records the owners of conversations.
    pub conversations: PathBuf,
}

impl DiscordSettings {
    /// Returns the base of the REST API.
    pub fn base(&self) -> Url {
        let own = || Url::parse(DISCORD_BASE).expect("the constant is a URL");
        self.api_base.clone().unwrap_or_else(own)
    }
}

/// The base of Discord's own REST API.
const DISCORD_BASE: &str = "https://discord.com/";

impl DiscordError {
    /// Whether only the operator can mend it. Any other error may pass while the bot tries again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Unreachable { .. })
    }
}

/// The reason why the bot cannot connect to Discord.
#[derive(Debug, thiserror::Error)]
pub enum DiscordError {
    /// Discord refuses the token.
    #[error(
        "Discord refuses the bot token: copy a new one from the developer portal (Bot, Reset Token) into the variable that discord.token_env names"
    )]
    TokenRefused,
    /// No connection.
    #[error("cannot reach Discord at {address}: {detail}")]
    Unreachable {
        /// The address.
        address: String,
        /// The error.
        detail: String,
    },
    /// The configured base names no usable gateway.
    #[error(
        "the server at discord.api_base {api_base} names no gateway ({detail}); threadkey does not fall back to Discord's own. Check discord.api_base"
    )]
    NoGateway {
        /// The configured base.
        api_base: Url,
        /// The error.
        detail: String,
    },
    /// The gateway's relay cannot be opened.
    #[error("the port for Discord's gateway on 127.0.0.1 cannot be opened: {0}")]
    Relay(std::io::Error),
    /// Discord refuses an intent.
    #[error("Discord refuses the gateway intents: {0}")]
    Intents(String),
    /// The map of conversations cannot be used.
    #[error(transparent)]
    Conversations(#[from] ConversationsError),
}
