//! The texts that several messages about sign-ins share.

use super::super::{
    bot::Bot,
    wire::{Message, inline_code, relative_time},
};
use crate::{
    broker::{GrantEnd, SignedIn, Unchosen},
    ids::{Principal, ProviderId, Tenant},
    oauth::DiscoveryError,
    session::is_known_expiry,
};

/// Returns ` for this server` for the tenant of a server, else nothing.
pub(in crate::discord) fn for_server(tenant: &Tenant) -> &'static str {
    match tenant.principal {
        Principal::Guild(_) => " for this server",
        Principal::User(_) | Principal::Local => "",
    }
}

/// Lists the configured providers, for a user who named none or an unknown one.
pub(in crate::discord) fn known_providers<'a>(ids: impl Iterator<Item = &'a ProviderId>) -> String {
    let names: Vec<_> = ids.take(25).map(|id| format!("`{id}`")).collect();
    match names.as_slice() {
        [] => "My operator has configured none yet.".to_owned(),
        names => format!("Known providers: {}.", names.join(", ")),
    }
}

/// Reports a provider that is not configured, with the configured ones.
pub(in crate::discord) fn unknown_provider(bot: &Bot, provider: &ProviderId) -> Message {
    let providers = bot.broker.providers();
    let similar = providers.similar(provider).map(|similar| format!("Did you mean `{similar}`? "));
    Message::text(format!(
        "There is no provider `{provider}`. {}{}",
        similar.unwrap_or_default(),
        known_providers(providers.ids())
    ))
}

/// The message about a provider whose endpoints cannot be found. The log has the details for the
/// operator.
pub(in crate::discord) fn undiscovered(provider: &ProviderId, problem: &DiscoveryError) -> Message {
    tracing::error!(%provider, %problem, "the endpoints of a provider are not known");
    let next = if problem.is_temporary() {
        "Try again in a minute. If it stays so, ask my operator to look at my log."
    } else {
        "Only my operator can correct this: ask them to look at my log."
    };
    Message::text(format!("I cannot find out where `{provider}` takes sign-ins, so nothing was sent. {next}"))
}

/// Names an account, or calls it another account if its name is unknown.
pub(super) fn account_name(account: Option<&str>) -> String {
    account.map_or_else(|| "an unnamed account".to_owned(), inline_code)
}

/// Reports a sign-in that has become the session.
pub(super) fn signed_in(signed_in: &SignedIn) -> String {
    let (provider, server) = (&signed_in.tenant.provider, for_server(&signed_in.tenant));
    let mut text = match &signed_in.account {
        Some(account) => format!("Signed in as {} at `{provider}`{server}.", inline_code(account)),
        None => format!("Signed in at `{provider}`{server}."),
    };
    if let Some(replaced) = &signed_in.replaced {
        text.push_str(&format!("\nThis replaces the sign-in as {}.", inline_code(replaced)));
    }
    if !signed_in.renews && !is_known_expiry(signed_in.expires_at) {
        text.push_str(&format!(
            "\n`{provider}` gave no refresh token and names no end, so this sign-in works until `{provider}` ends it. Then sign in again."
        ));
    } else if !signed_in.renews {
        text.push_str(&format!(
            "\n`{provider}` gave no refresh token, so this sign-in ends {}. Then sign in again.",
            relative_time(signed_in.expires_at)
        ));
    }
    if !signed_in.missing_scopes.is_empty() {
        text.push_str(&format!(
            "\n`{provider}` did not grant {}. Agents that need it may fail; sign in again and allow it.",
            scope_list(&signed_in.missing_scopes)
        ));
    }
    if let Some(dropped) = &signed_in.dropped {
        text.push('\n');
        text.push_str(&dropped_sign_in(&signed_in.tenant, dropped));
    }
    text
}

/// Lists scopes as code, at most ten of them.
pub(in crate::discord) fn scope_list(scopes: &[String]) -> String {
    let shown: Vec<_> = scopes.iter().take(10).map(|scope| inline_code(scope)).collect();
    let more = scopes.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    shown.join(", ") + &more
}

/// Reports a sign-in that was not chosen, and whether its grant still works at the provider.
pub(super) fn dropped_sign_in(tenant: &Tenant, dropped: &Unchosen) -> String {
    let (account, provider) = (account_name(dropped.account.as_deref()), &tenant.provider);
    match dropped.grant {
        GrantEnd::Revoked => {
            format!("The sign-in as {account} is dropped, and `{provider}` has ended its access.")
        }
        GrantEnd::MayLiveOn => format!(
            "The sign-in as {account} is dropped here. Its access may still work at `{provider}`: remove it in that account there."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::DocumentError;

    #[test]
    fn unknown_endpoints_name_the_operators_part_and_the_next_step() {
        let url = || "https://id.example/.well-known/openid-configuration".to_owned();
        let wait = "Try again in a minute. If it stays so, ask my operator to look at my log.";
        let mend = "Only my operator can correct this: ask them to look at my log.";
        let publisher = || "https://id.example".to_owned();
        for (problem, next) in [
            (DiscoveryError::Document(DocumentError::Status { url: url(), status: 503 }), wait),
            (DiscoveryError::Document(DocumentError::TooSlow { host: "id.example".into() }), wait),
            (DiscoveryError::Document(DocumentError::TooLarge { host: "id.example".into() }), mend),
            (DiscoveryError::Document(DocumentError::Status { url: url(), status: 404 }), mend),
            (DiscoveryError::NoS256 { publisher: publisher() }, mend),
            (
                DiscoveryError::Issuer {
                    document: url(),
                    published: "https://evil.example".into(),
                    expected: publisher(),
                },
                mend,
            ),
        ] {
            let message = undiscovered(&"acme".parse().expect("a name"), &problem);
            let text = format!("I cannot find out where `acme` takes sign-ins, so nothing was sent. {next}");
            assert_eq!(message.content, text, "{problem}");
        }
    }

    #[test]
    fn a_finished_sign_in_names_its_account_the_replaced_one_and_its_end() {
        let mut result = SignedIn {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: Some("alice@example.com".into()),
            replaced: None,
            expires_at: 1_795_362_272,
            renews: true,
            missing_scopes: vec![],
            dropped: None,
            ended: None,
        };
        assert_eq!(signed_in(&result), "Signed in as `alice@example.com` at `acme`.");
        result.tenant = "acme/guild:9".parse().expect("a tenant");
        result.replaced = Some("bo`b".into());
        result.renews = false;
        result.missing_scopes = vec!["write".into(), "admin".into()];
        assert_eq!(
            signed_in(&result),
            "Signed in as `alice@example.com` at `acme` for this server.\nThis replaces the sign-in as `bo'b`.\n`acme` gave no refresh token, so this sign-in ends <t:1795362272:R>. Then sign in again.\n`acme` did not grant `write`, `admin`. Agents that need it may fail; sign in again and allow it."
        );
        result.replaced = None;
        result.missing_scopes.clear();
        result.expires_at = crate::session::UNKNOWN_EXPIRY;
        assert_eq!(
            signed_in(&result),
            "Signed in as `alice@example.com` at `acme` for this server.\n`acme` gave no refresh token and names no end, so this sign-in works until `acme` ends it. Then sign in again."
        );
    }
}
