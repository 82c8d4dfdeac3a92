//! The error of a start.

use super::error::{exchanged, no_client_secret, undiscovered, unknown_provider};
use crate::{
    ids::{Principal, ProviderId, Tenant},
    net::Unreachable,
    oauth::DiscoveryError,
    session::{GrantKind, PENDING_LIFETIME, in_words},
    store::StoreError,
    sys::{clock::UnixTime, secret_source::NoSecret},
};

/// A sign-in that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The provider has no sign-in of its own.
    #[error("{}", exchanged(id, from, "Sign in"))]
    Exchanged {
        /// The provider.
        id: ProviderId,
        /// The provider with the sign-in.
        from: ProviderId,
    },
    /// The configuration has no such provider.
    #[error("{}", unknown_provider(.0))]
    UnknownProvider(ProviderId),
    /// The provider's endpoints are not known, and they cannot be fetched now.
    #[error("{}", undiscovered(provider, problem, "no sign-in was started"))]
    Undiscovered {
        /// The provider.
        provider: ProviderId,
        /// The reason.
        problem: DiscoveryError,
    },
    /// Another user has a sign-in of the same tenant in progress.
    #[error(
        "another user is signing in for {tenant}; that sign-in ends by itself within {}: try again then",
        in_words(PENDING_LIFETIME)
    )]
    Busy {
        /// The tenant.
        tenant: Tenant,
        /// Unix seconds.
        until: UnixTime,
    },
    /// The provider's section does not list this grant.
    #[error(
        "{provider} offers no sign-in by {grant}, but by {}: name one of them, or the operator adds \"{grant}\" to grants of providers.{provider}",
        names(offered)
    )]
    NotOffered {
        /// The provider.
        provider: ProviderId,
        /// The wanted grant.
        grant: GrantKind,
        /// The configured grants.
        offered: Vec<GrantKind>,
    },
    /// No name of the user at the provider is known (CIBA).
    #[error(
        "{provider} must be asked for a user by name, and no name of {user} is known: the operator must add it to login_hints of providers.{provider}"
    )]
    NoLoginHint {
        /// The provider.
        provider: ProviderId,
        /// The user who starts the sign-in.
        user: Principal,
    },
    /// The secret of threadkey's client cannot be read.
    #[error("{}", no_client_secret(provider, problem))]
    NoClientSecret {
        /// The provider.
        provider: ProviderId,
        /// The reason.
        problem: NoSecret,
    },
    /// The provider cannot be reached, or did not answer.
    #[error(
        "{provider} cannot begin the sign-in now ({code}{}): try again in a moment. If it stays so, the operator must check the network of this machine and the endpoints of providers.{provider}",
        cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
    )]
    Unreachable {
        /// The provider.
        provider: ProviderId,
        /// A stable word: `connect`, `timeout`, …
        code: String,
        /// The cause, if this process knows it.
        cause: Option<Unreachable>,
    },
    /// The provider did not begin the sign-in.
    #[error(
        "{provider} does not begin the sign-in by {grant} ({problem}): the operator must check client_id, scopes and the endpoints of providers.{provider}, and at the provider whether this client may use that grant"
    )]
    NotBegun {
        /// The provider.
        provider: ProviderId,
        /// The grant.
        grant: GrantKind,
        /// The provider's error code, or the fault of its answer.
        problem: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn names(grants: &[GrantKind]) -> String {
    grants.iter().map(|grant| grant.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_fails_names_the_next_step() {
        let (provider, user): (ProviderId, _) = ("acme".parse().expect("an id"), Principal::Local);
        let tenant = "acme/guild:9".parse().expect("a tenant");
        let busy = StartError::Busy { tenant, until: 1_795_358_672 }.to_string();
        assert!(busy.ends_with("ends by itself within 15 minutes: try again then"), "{busy}");
        let (grant, offered) = (GrantKind::Ciba, vec![GrantKind::Code, GrantKind::Device]);
        let not_offered = StartError::NotOffered { provider: provider.clone(), grant, offered }.to_string();
        assert!(not_offered.contains("but by code, device: name one of them"), "{not_offered}");
        let nameless = StartError::NoLoginHint { provider, user }.to_string();
        assert!(nameless.ends_with("add it to login_hints of providers.acme"), "{nameless}");
    }
}
