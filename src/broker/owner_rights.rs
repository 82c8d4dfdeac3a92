//! The question whether the owner of a conversation may still use its sessions.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    agent::Conversation,
    ids::{Principal, Snowflake, Tenant},
    session::Pending,
};

/// The time after which a process without the bot is asked again about a server's managers.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Answers for the owners of conversations. The bot, on a higher floor, implements it.
#[async_trait]
pub trait OwnerRights: Send + Sync + 'static {
    /// Returns the rights of the conversation's owner, as they were at most 60 s ago.
    ///
    /// # Errors
    /// The owner has lost the right, or it is unknown for too long.
    async fn of(&self, conversation: &Conversation) -> Result<Standing, RightsError>;

    /// Checks that a principal's login may still be used here: a user may use the bot, and a server
    /// has the bot and is on the operator's lists. The login of a terminal is the operator's own.
    ///
    /// # Errors
    /// As [`OwnerRights::of`].
    async fn of_principal(&self, principal: Principal) -> Result<(), RightsError>;

    /// Checks that a user manages a server now.
    ///
    /// # Errors
    /// As [`OwnerRights::of`].
    async fn manages(&self, guild: Snowflake, user: Snowflake) -> Result<(), RightsError>;
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

/// The rights in a process without the bot: every conversation keeps those that it began with. Only the
/// bot knows the managers of a server.
#[derive(Clone, Copy, Debug)]
pub struct WithoutBot;

#[async_trait]
impl OwnerRights for WithoutBot {
    async fn of(&self, conversation: &Conversation) -> Result<Standing, RightsError> {
        Ok(Standing { shares: conversation.shared_guild.is_some() })
    }

    async fn of_principal(&self, _principal: Principal) -> Result<(), RightsError> {
        Ok(())
    }

    async fn manages(&self, _guild: Snowflake, _user: Snowflake) -> Result<(), RightsError> {
        Err(RightsError::Unknown { retry_after: ASK_AGAIN })
    }
}

/// Checks that the party that started a sign-in may still finish it: it may use the bot, and for a
/// server's sign-in the bot may serve that server, which the user manages now.
pub(super) async fn check_starter(
    rights: &dyn OwnerRights,
    tenant: &Tenant,
    pending: &Pending,
) -> Result<(), RightsError> {
    rights.of_principal(pending.started_by).await?;
    match (tenant.principal, pending.started_by) {
        (Principal::Guild(guild), Principal::User(user)) => {
            rights.of_principal(tenant.principal).await?;
            rights.manages(guild, user).await
        }
        _ => Ok(()),
    }
}
