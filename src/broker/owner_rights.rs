//! The question whether the owner of a conversation may still use its sessions.

use std::time::Duration;

use async_trait::async_trait;

use crate::agent::Conversation;

/// Answers for the owners of conversations. The bot, on a higher floor, implements it.
#[async_trait]
pub trait OwnerRights: Send + Sync + 'static {
    /// Returns the rights of the conversation's owner, as they were at most 60 s ago.
    ///
    /// # Errors
    /// The owner has lost the right, or it is unknown for too long.
    async fn of(&self, conversation: &Conversation) -> Result<Standing, RightsError>;
}

/// The rights of an owner who may use the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The owner is a member of the server whose sessions the conversation shares.
    pub shares: bool,
}

/// The reason why an owner's agent gets no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RightsError {
    /// The owner may no longer use the bot.
    NotEntitled,
    /// The right is unknown, because Discord gives no answer for too long.
    Unknown {
        /// The time after which another try makes sense.
        retry_after: Duration,
    },
}

/// The rights in a process without the bot: every conversation keeps those that it began with.
#[derive(Clone, Copy, Debug)]
pub struct WithoutBot;

#[async_trait]
impl OwnerRights for WithoutBot {
    async fn of(&self, conversation: &Conversation) -> Result<Standing, RightsError> {
        Ok(Standing { shares: conversation.shared_guild.is_some() })
    }
}
