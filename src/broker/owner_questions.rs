//! The questions by which the bot asks owners to sign in for their agents: see `owner_wait`.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::WithoutBot;
use crate::{agent::Conversation, ids::Tenant};

/// The longest time for which a worker may wait for its owner.
pub const LONGEST_OWNER_WAIT: Duration = Duration::from_secs(300);

/// Asks the owners of conversations to sign in. The bot, on a higher floor, implements it.
#[async_trait]
pub trait OwnerQuestions: Send + Sync + 'static {
    /// Asks the owner of a conversation to sign in at `tenant`, which is the owner's own. A question that
    /// is open already is not repeated. The result holds the refusal once there is one; a sign-in shows
    /// in the store.
    ///
    /// # Errors
    /// The owner is not asked now.
    async fn ask(
        &self,
        conversation: &Conversation,
        tenant: &Tenant,
    ) -> Result<watch::Receiver<Option<OwnerRefusal>>, OwnerRefusal>;
}

/// The reason why no sign-in follows a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerRefusal {
    /// The owner has declined.
    #[error("the owner has declined to sign in for an agent, and is not asked again for a while")]
    Declined,
    /// The access was denied at the provider.
    #[error("the access was denied at the provider, and the owner is not asked again for a while")]
    DeniedByProvider,
    /// The agent has asked for too many sign-ins.
    #[error(
        "this agent has asked its owner for too many sign-ins: ask again in {} s, or wait for the owner's own `/auth start`", retry_after.as_secs()
    )]
    TooMany {
        /// The time to wait.
        retry_after: Duration,
    },
    /// No message reaches the owner.
    #[error(
        "the owner cannot be asked, because the thread takes no message of the bot and neither do direct messages"
    )]
    Unreachable,
    /// This process has no bot.
    #[error("the owner cannot be asked, because this threadkey runs without its Discord bot")]
    NoBot,
}

#[async_trait]
impl OwnerQuestions for WithoutBot {
    async fn ask(
        &self,
        _conversation: &Conversation,
        _tenant: &Tenant,
    ) -> Result<watch::Receiver<Option<OwnerRefusal>>, OwnerRefusal> {
        Err(OwnerRefusal::NoBot)
    }
}
