//! `/auth`: every answer is for the person who asked alone.

mod cancel;
mod choice;
mod code;
mod logout;
mod look;
mod open;
mod start;
mod status;

pub(super) use cancel::cancel;
pub(super) use choice::{choose, lapsed, may_choose, waits};
pub(super) use code::{finish, signed_in};
pub(super) use logout::{Revoke, logout};
pub(super) use look::look;
pub(super) use open::{OpenSignIns, Outcome, close, close_all};
pub(super) use start::start;
pub(super) use status::status;

use super::asked::Asked;
use crate::ids::{Principal, ProviderId, Snowflake, Tenant};

/// Whether a person acts for themself or for their server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Themself,
    Server,
}

impl For {
    pub(super) fn shared(shared: bool) -> Self {
        if shared { Self::Server } else { Self::Themself }
    }
}

/// The tenant that this person may act for, or what to tell them.
pub(super) fn tenant(asked: &Asked, provider: &str, whom: For) -> Result<Tenant, String> {
    let provider: ProviderId =
        provider.trim().parse().map_err(|error: crate::ids::IdError| error.to_string())?;
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

/// ` for this server`, where a tenant is one.
fn for_whom(tenant: &Tenant) -> &'static str {
    match tenant.principal {
        Principal::Guild(_) => " for this server",
        Principal::User(_) | Principal::Local => "",
    }
}

/// The providers by name, for those who named another.
fn known_providers<'a>(ids: impl Iterator<Item = &'a ProviderId>) -> String {
    let names: Vec<_> = ids.take(25).map(|id| format!("`{id}`")).collect();
    match names.as_slice() {
        [] => "The operator has configured none yet.".to_owned(),
        names => format!("There is: {}.", names.join(", ")),
    }
}

/// The principals whose sessions a person may see where they are.
fn visible(user: Snowflake, guild: Option<Snowflake>) -> Vec<Principal> {
    std::iter::once(Principal::User(user)).chain(guild.map(Principal::Guild)).collect()
}
