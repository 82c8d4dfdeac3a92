//! Words that more than one of the `/auth` commands has.

use super::super::wire::{Message, code, relative};
use crate::{
    broker::{GrantEnd, SignedIn, Unchosen},
    ids::{Principal, ProviderId, Tenant},
};

/// ` for this server`, where a tenant is one.
pub(super) fn for_whom(tenant: &Tenant) -> &'static str {
    match tenant.principal {
        Principal::Guild(_) => " for this server",
        Principal::User(_) | Principal::Local => "",
    }
}

/// The providers by name, for those who named another.
pub(super) fn known_providers<'a>(ids: impl Iterator<Item = &'a ProviderId>) -> String {
    let names: Vec<_> = ids.take(25).map(|id| format!("`{id}`")).collect();
    match names.as_slice() {
        [] => "The operator has configured none yet.".to_owned(),
        names => format!("There is: {}.", names.join(", ")),
    }
}

/// An account by its name, or as another one.
pub(super) fn named(account: Option<&str>) -> String {
    account.map_or_else(|| "another account".to_owned(), code)
}

/// What the person reads when it worked, whichever way it was finished.
pub(in crate::discord) fn signed_in(done: &SignedIn) -> Message {
    let provider = &done.tenant.provider;
    let mut text = match &done.account {
        Some(account) => format!("Signed in as {} at `{provider}`{}.", code(account), for_whom(&done.tenant)),
        None => format!("Signed in at `{provider}`{}.", for_whom(&done.tenant)),
    };
    if let Some(replaced) = &done.replaced {
        text.push_str(&format!("\nThis replaces the sign-in as {}.", code(replaced)));
    }
    if !done.renews {
        text.push_str(&format!(
            "\n`{provider}` gave nothing to renew it with: it ends {}, and then you sign in again.",
            relative(done.expires_at)
        ));
    }
    if let Some(dropped) = &done.dropped {
        text.push('\n');
        text.push_str(&dropped_words(&done.tenant, dropped));
    }
    Message::text(text)
}

/// What became of a sign-in that was not chosen.
pub(super) fn dropped_words(tenant: &Tenant, dropped: &Unchosen) -> String {
    let (account, provider) = (named(dropped.account.as_deref()), &tenant.provider);
    match dropped.grant {
        GrantEnd::Revoked => {
            format!("The sign-in as {account} is dropped, and `{provider}` has ended its access.")
        }
        GrantEnd::MayLiveOn => format!(
            "The sign-in as {account} is dropped here. Its access may live on at `{provider}`: remove it in that account there."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_person_reads_as_whom_and_what_was_replaced_and_when_it_ends_for_good() {
        let mut done = SignedIn {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: Some("alice@example.com".into()),
            replaced: None,
            expires_at: 1_795_362_272,
            renews: true,
            dropped: None,
        };
        assert_eq!(signed_in(&done).content, "Signed in as `alice@example.com` at `acme`.");
        done.tenant = "acme/guild:9".parse().expect("a tenant");
        done.replaced = Some("bo`b".into());
        done.renews = false;
        assert_eq!(
            signed_in(&done).content,
            "Signed in as `alice@example.com` at `acme` for this server.\nThis replaces the sign-in as `bo'b`.\n`acme` gave nothing to renew it with: it ends <t:1795362272:R>, and then you sign in again."
        );
    }
}
