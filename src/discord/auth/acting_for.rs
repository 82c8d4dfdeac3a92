//! The tenant that a user's command acts for, and the principals whose sessions the user may see.

use super::super::{bot::Bot, interaction::Interaction, sign_in::known_providers};
use crate::ids::{IdError, Principal, ProviderId, Snowflake, Tenant};

/// The party that a command acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActingFor {
    /// The user alone.
    User,
    /// The server in which the command was given.
    Server,
}

impl ActingFor {
    /// Reads the option `shared`.
    pub(super) fn shared(shared: bool) -> Self {
        if shared { Self::Server } else { Self::User }
    }

    /// Returns the tenant, or the text for a user who may not act for it. Where one provider is
    /// configured, the user need not name it.
    pub(super) fn tenant(
        self,
        bot: &Bot,
        interaction: &Interaction,
        provider: Option<&str>,
    ) -> Result<Tenant, String> {
        let provider: ProviderId = match (provider, bot.broker.providers().only()) {
            (Some(name), _) => name.trim().parse().map_err(|error: IdError| error.to_string())?,
            (None, Some(only)) => only.clone(),
            (None, None) => {
                let known = known_providers(bot.broker.providers().ids());
                return Err(format!("Name a provider with the option `provider`. {known}"));
            }
        };
        let principal = match (self, interaction.guild) {
            (Self::User, _) => Principal::User(interaction.user),
            (Self::Server, None) => {
                return Err("`shared` is for a whole server: use it in one of its channels.".to_owned());
            }
            (Self::Server, Some(_)) if !interaction.has_bot() => {
                return Err("I am not a member of this server, so it cannot share a sign-in. A manager of the server can invite me. Without `shared` you act for yourself.".to_owned());
            }
            (Self::Server, Some(_)) if !interaction.manages_guild() => {
                return Err("Only members with the permission Manage Server can sign this server in or out. Without `shared` you act for yourself.".to_owned());
            }
            (Self::Server, Some(guild)) => Principal::Guild(guild),
        };
        Ok(Tenant::new(provider, principal))
    }
}

/// Whether the user may act for this tenant here and now. A button may be pressed long after its
/// message was sent.
pub(in crate::discord) fn acts_for(interaction: &Interaction, tenant: &Tenant) -> bool {
    match tenant.principal {
        Principal::Guild(guild) => interaction.guild == Some(guild) && interaction.manages_guild(),
        Principal::User(user) => user == interaction.user,
        Principal::Local => false,
    }
}

/// Returns the principals whose sessions a user may see in this server, or in direct messages.
pub(super) fn visible(user: Snowflake, guild: Option<Snowflake>) -> Vec<Principal> {
    std::iter::once(Principal::User(user)).chain(guild.map(Principal::Guild)).collect()
}
