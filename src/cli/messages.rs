//! Texts that several `auth` commands print: the result of a sign-in, and the commands to type
//! next.

use std::fmt::Write as _;

use crate::{
    broker::{GrantEnd, SignedIn, Unchosen},
    ids::{Principal, Tenant},
};

/// Returns the option that names a principal, after a space. The default principal needs none.
pub(super) fn as_option(principal: Principal) -> String {
    if principal == Principal::Local { String::new() } else { format!(" --as {principal}") }
}

/// Returns the text about a finished sign-in.
pub(super) fn signed_in_text(signed_in: &SignedIn) -> String {
    let mut text = format!("Signed in at {}", signed_in.tenant.provider);
    if let Some(account) = &signed_in.account {
        let _ = write!(text, " as {account}");
    }
    if let Some(replaced) = &signed_in.replaced {
        let _ = write!(text, ", in place of {replaced}");
    }
    text.push('.');
    if !signed_in.renews {
        text.push_str(" The provider gave no refresh token: sign in again when the access token expires.");
    }
    if !signed_in.missing_scopes.is_empty() {
        let _ = write!(text, " Not granted: {}.", signed_in.missing_scopes.join(" "));
    }
    if let Some(dropped) = &signed_in.dropped {
        let _ = write!(text, " {}", dropped_text(&signed_in.tenant, dropped));
    }
    text
}

/// Returns the command that signs a tenant in.
pub(super) fn start_command(tenant: &Tenant) -> String {
    format!("`threadkey auth start {}{}`", tenant.provider, as_option(tenant.principal))
}

/// Returns the two commands that choose between the accounts of a tenant.
pub(super) fn choice_commands(tenant: &Tenant) -> String {
    let acting_as = as_option(tenant.principal);
    let provider = &tenant.provider;
    format!("`threadkey auth switch {provider}{acting_as}` or `threadkey auth keep {provider}{acting_as}`")
}

/// Returns the text about a sign-in that was not chosen.
pub(super) fn dropped_text(tenant: &Tenant, dropped: &Unchosen) -> String {
    let account = dropped.account.as_deref().unwrap_or("an unnamed account");
    let provider = &tenant.provider;
    match dropped.grant {
        GrantEnd::Revoked => {
            format!("The sign-in as {account} is dropped, and {provider} has ended its grant.")
        }
        GrantEnd::MayLiveOn => format!(
            "The sign-in as {account} is dropped here. Its grant may still be valid at {provider}: end it in your \
             account there."
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{broker::Undecided, ids::Lineage, sys::clock::UnixTime};

    pub(in crate::cli) fn undecided(tenant: &Tenant, until: UnixTime) -> Undecided {
        Undecided {
            tenant: tenant.clone(),
            lineage: Lineage([8; 16]),
            account: Some("bob@example.com".into()),
            current: Some("alice@example.com".into()),
            until,
            dropped: None,
        }
    }
}
