//! Why the broker could not do what was asked: one enum per operation, each sentence with what to do next.

use std::time::Duration;

use crate::{
    ids::{Principal, ProviderId, Tenant},
    session::{Decision, PENDING_LIFETIME, RetryKind},
    store::StoreError,
    sys::clock::UnixTime,
};

/// No token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The configuration has no such provider.
    #[error("there is no provider {0} in the configuration; `threadkey providers` lists them")]
    UnknownProvider(ProviderId),
    /// Nobody has signed in.
    #[error("nobody is signed in for {tenant}: sign in {}", how_to_sign_in(.0), tenant = .0)]
    NoSession(Tenant),
    /// The session is over.
    #[error("the session {tenant} has ended ({code}): sign in again {}", how_to_sign_in(tenant))]
    Ended {
        /// Which one.
        tenant: Tenant,
        /// The provider's word, or `no_refresh_token`.
        code: String,
    },
    /// The provider cannot be reached, or asked for patience. Nothing is lost.
    #[error(
        "{provider} cannot renew {tenant} just now ({code}); it is kept. Try again in {} s",
        retry_after.as_secs(), provider = tenant.provider
    )]
    Unavailable {
        /// Which one.
        tenant: Tenant,
        /// A stable word.
        code: String,
        /// When it makes sense to ask again.
        retry_after: Duration,
    },
    /// The refresh takes longer than a caller waits; it goes on.
    #[error("the refresh of {0} is still under way: ask again in a moment")]
    InProgress(Tenant),
    /// The operator has to mend something.
    #[error("{provider} refuses threadkey's client ({code}) for {tenant}; the session is kept. The operator has to check client_id, secret, scopes and endpoints of providers.{provider}", provider = tenant.provider)]
    Misconfigured {
        /// Which one.
        tenant: Tenant,
        /// The error code.
        code: String,
    },
    /// The store.
    #[error("{0}")]
    Store(std::sync::Arc<StoreError>),
    /// A task of our own ended without a result.
    #[error(
        "the refresh of {0} ended without a result; this is a defect. The journal keeps what was under way: ask again"
    )]
    Internal(Tenant),
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Store(std::sync::Arc::new(error))
    }
}

/// The error that a decision means for a caller, if it means one.
pub(super) fn refusal(tenant: &Tenant, decision: Decision, now: UnixTime) -> Option<TokenError> {
    let tenant = tenant.clone();
    match decision {
        Decision::Serve | Decision::ServeAndRefresh | Decision::Refresh => None,
        Decision::Ended { code } => Some(TokenError::Ended { tenant, code }),
        Decision::Backoff { kind: RetryKind::Misconfigured, code, .. } => {
            Some(TokenError::Misconfigured { tenant, code })
        }
        Decision::Backoff { until, code, .. } => {
            Some(TokenError::Unavailable { tenant, code, retry_after: wait_until(until, now) })
        }
    }
}

/// Seconds from `now` until `then`, at least 1: what a `Retry-After` says.
pub(super) fn wait_until(then: UnixTime, now: UnixTime) -> Duration {
    Duration::from_secs(then.saturating_sub(now).max(1).try_into().unwrap_or(1))
}

/// A sign-in that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has no such provider.
    #[error("there is no provider {0} in the configuration; `threadkey providers` lists them")]
    UnknownProvider(ProviderId),
    /// Somebody else has one under way for the same tenant.
    #[error("somebody else is just signing in for {tenant}; that sign-in ends by itself within {} minutes: try again then", PENDING_LIFETIME.as_secs() / 60)]
    Busy {
        /// For whom.
        tenant: Tenant,
        /// Unix seconds.
        until: UnixTime,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The commands that do it, for whoever this is about.
fn how_to_sign_in(tenant: &Tenant) -> String {
    let Tenant { provider, principal } = tenant;
    let shared = match principal {
        Principal::Local => return format!("with `threadkey auth start {provider}`"),
        Principal::User(_) => "",
        Principal::Guild(_) => " and `shared`",
    };
    format!(
        "with `/auth start`{shared} on Discord, or `threadkey auth start {provider} --as {principal}` in a terminal"
    )
}

/// A sign-in that could not be finished. Unless it says otherwise, the sign-in stays open and nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The configuration has no such provider.
    #[error("there is no provider {0} in the configuration; `threadkey providers` lists them")]
    UnknownProvider(ProviderId),
    /// Nothing under way for this person.
    #[error("you have no sign-in under way{} (one is open for 15 minutes): begin with /auth start, or threadkey auth start in a terminal", for_provider(provider.as_ref()))]
    NothingPending {
        /// Where it was looked for.
        provider: Option<ProviderId>,
    },
    /// Nothing under way, but there is a session: most likely the code was used before.
    #[error("there is no sign-in under way for {provider}, and you are signed in{}: a code works once, and the last one has done its work", as_account(account.as_deref()))]
    AlreadyDone {
        /// Where.
        provider: ProviderId,
        /// As whom.
        account: Option<String>,
    },
    /// Nothing under way, but a sign-in waits for a choice: most likely the code was used for that.
    #[error("you signed in at {provider}{} already, and that waits for your choice: /auth status on Discord, or threadkey auth status in a terminal, asks again", as_account(account.as_deref()))]
    AwaitsChoice {
        /// Where.
        provider: ProviderId,
        /// As whom.
        account: Option<String>,
    },
    /// Too late.
    #[error("that sign-in for {0} was open for 15 minutes and is over: start a new one and use its link")]
    Expired(ProviderId),
    /// Several are under way and the paste does not tell which.
    #[error("you have several sign-ins under way ({}): name the provider", list(.0))]
    Ambiguous(Vec<ProviderId>),
    /// The paste belongs to another sign-in (RFC 6749 §10.12).
    #[error(
        "that code belongs to another sign-in (its state does not match): use the newest link, and paste what it ends with"
    )]
    StateMismatch,
    /// A bare code where the state is needed.
    #[error("for {0} the code alone is not enough: paste the whole address of the page that you ended on")]
    StateNeeded(ProviderId),
    /// The answer comes from another server (RFC 9207).
    #[error(
        "that answer comes from {got}, and the sign-in was started at {expected}: nothing was sent. Start again and use the new link"
    )]
    IssuerMismatch {
        /// What was expected.
        expected: String,
        /// What came.
        got: String,
    },
    /// Somebody is just exchanging a code for it.
    #[error("a code for {0} is just being exchanged: wait for that answer")]
    Busy(ProviderId),
    /// This very code was sent before, or was about to be, and what became of it is not known.
    #[error(
        "that code may have been sent to {0} before, and no answer came back; a code works once, so follow the link again and paste the new one"
    )]
    CodeSpent(ProviderId),
    /// The provider does not take the code.
    #[error(
        "{provider} does not take that code ({code}): codes are short-lived and work once. Your sign-in is still open: follow the link again and paste the new code"
    )]
    Refused {
        /// Which provider.
        provider: ProviderId,
        /// Its word.
        code: String,
    },
    /// The provider could not be reached: the code was not used.
    #[error(
        "{provider} cannot finish the sign-in just now ({code}); your code was not used, and the sign-in is still open: send it again in a moment"
    )]
    Unavailable {
        /// Which provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
    },
    /// The request went out and no answer came.
    #[error(
        "{provider} did not answer ({code}), so nobody knows whether it took the code. Follow the link again and paste a new code"
    )]
    Uncertain {
        /// Which provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
    },
    /// The operator has to mend something.
    #[error(
        "{provider} refuses threadkey's client ({code}): the operator has to check client_id, redirect_uri, scopes and secret of providers.{provider}"
    )]
    Misconfigured {
        /// Which provider.
        provider: ProviderId,
        /// The error code.
        code: String,
    },
    /// The tokens are for another sign-in.
    #[error(
        "{provider} answered for another sign-in (the id token's {claim} does not match), so nothing was taken: start again"
    )]
    Mismatch {
        /// Which provider.
        provider: ProviderId,
        /// Which claim.
        claim: &'static str,
    },
    /// Cancelled, logged out or started anew while the exchange was under way; the result was dropped.
    #[error("that sign-in for {0} was cancelled or started anew meanwhile; its result was dropped")]
    Superseded(ProviderId),
    /// The configuration names another endpoint or client than when the sign-in was started.
    #[error("the configuration of {0} has changed since the sign-in was started: start again")]
    BindingChanged(ProviderId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task of our own ended without a result.
    #[error("the exchange for {0} ended without a result; this is a defect. Start again")]
    Internal(ProviderId),
}

fn for_provider(provider: Option<&ProviderId>) -> String {
    provider.map(|p| format!(" for {p}")).unwrap_or_default()
}

fn as_account(account: Option<&str>) -> String {
    account.map(|a| format!(" as {a}")).unwrap_or_default()
}

fn list(providers: &[ProviderId]) -> String {
    providers.iter().map(ProviderId::as_str).collect::<Vec<_>>().join(", ")
}

/// A sign-in that could not be cancelled.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A choice between two accounts that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// It was made before, the sign-in was replaced by a newer one, or its time is over.
    #[error(
        "for {0} no sign-in waits for your choice: it was decided, replaced or dropped. To use another account, sign in anew"
    )]
    Gone(Tenant),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A session that could not be logged out.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// There is nothing to remove.
    #[error("nobody is signed in for {0}, so there is nothing to log out")]
    NoSession(Tenant),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_signed_in_reads_the_command_that_does_it_for_them() {
        let words = |tenant: &str| TokenError::NoSession(tenant.parse().expect("a tenant")).to_string();
        assert_eq!(
            words("acme/local"),
            "nobody is signed in for acme/local: sign in with `threadkey auth start acme`"
        );
        assert_eq!(
            words("acme/user:5"),
            "nobody is signed in for acme/user:5: sign in with `/auth start` on Discord, or `threadkey auth start acme --as user:5` in a terminal"
        );
        assert!(words("acme/guild:9").contains("`/auth start` and `shared` on Discord"));
        let tenant = "acme/guild:9".parse().expect("a tenant");
        let busy = StartError::Busy { tenant, until: 1_795_358_672 }.to_string();
        assert!(busy.ends_with("ends by itself within 15 minutes: try again then"), "{busy}");
    }
}
