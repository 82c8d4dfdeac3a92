//! Words that more than one of the `auth` commands has: how a sign-in went, and what to type next.

use std::fmt::Write as _;

use crate::{
    broker::{GrantEnd, SignedIn, Unchosen},
    ids::{Principal, Tenant},
};

/// The option that names a principal, with a space before it; nothing for the one that needs none.
pub(super) fn as_principal(principal: Principal) -> String {
    if principal == Principal::Local { String::new() } else { format!(" --as {principal}") }
}

/// How a sign-in went, and what of it is good to know.
pub(super) fn signed_in_words(signed_in: &SignedIn) -> String {
    let mut words = format!("Signed in at {}", signed_in.tenant.provider);
    if let Some(account) = &signed_in.account {
        let _ = write!(words, " as {account}");
    }
    if let Some(replaced) = &signed_in.replaced {
        let _ = write!(words, ", in place of {replaced}");
    }
    words.push('.');
    if !signed_in.renews {
        words.push_str(" The provider gave no refresh token: sign in again when the access token ends.");
    }
    if let Some(dropped) = &signed_in.dropped {
        let _ = write!(words, " {}", dropped_words(&signed_in.tenant, dropped));
    }
    words
}

/// The two commands that decide about a sign-in as another account.
pub(super) fn commands(tenant: &Tenant) -> String {
    let whose = as_principal(tenant.principal);
    let provider = &tenant.provider;
    format!("`threadkey auth switch {provider}{whose}` or `threadkey auth keep {provider}{whose}`")
}

/// What became of a sign-in that was not chosen.
pub(super) fn dropped_words(tenant: &Tenant, dropped: &Unchosen) -> String {
    let account = dropped.account.as_deref().unwrap_or("another account");
    let provider = &tenant.provider;
    match dropped.grant {
        GrantEnd::Revoked => {
            format!("The sign-in as {account} is dropped, and {provider} has ended its grant.")
        }
        GrantEnd::MayLiveOn => format!(
            "The sign-in as {account} is dropped here; its grant may live on at {provider}: end it in that account there."
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
