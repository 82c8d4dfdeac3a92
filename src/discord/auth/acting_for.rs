//! For whom somebody acts, and whose sessions they may see.

use super::super::asked::Asked;
use crate::ids::{IdError, Principal, ProviderId, Snowflake, Tenant};

/// Whether a person acts for themself or for their server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discord) enum For {
    Themself,
    Server,
}

impl For {
    pub(in crate::discord) fn shared(shared: bool) -> Self {
        if shared { Self::Server } else { Self::Themself }
    }
}

/// The tenant that this person may act for, or what to tell them.
pub(in crate::discord) fn tenant(asked: &Asked, provider: &str, whom: For) -> Result<Tenant, String> {
    let provider: ProviderId = provider.trim().parse().map_err(|error: IdError| error.to_string())?;
    let principal = match (whom, asked.guild) {
        (For::Themself, _) => Principal::User(asked.user),
        (For::Server, None) => {
            return Err("`shared` is for a whole server: use it in one of its channels.".to_owned());
        }
        (For::Server, Some(_)) if !asked.manages_guild() => {
            return Err("Only people who may manage this server (the permission Manage Server) can sign it in or out. Without `shared` you act for yourself.".to_owned());
        }
        (For::Server, Some(guild)) => Principal::Guild(guild),
    };
    Ok(Tenant::new(provider, principal))
}

/// The principals whose sessions a person may see where they are.
pub(super) fn visible(user: Snowflake, guild: Option<Snowflake>) -> Vec<Principal> {
    std::iter::once(Principal::User(user)).chain(guild.map(Principal::Guild)).collect()
}
