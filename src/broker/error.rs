//! The broker's errors: one enum per operation. Each text names the next step.

use std::time::Duration;

use crate::{
    ids::{Principal, ProviderId, Tenant},
    oauth::PasteError,
    session::{Ended, PENDING_LIFETIME, RetryKind, in_words},
    store::StoreError,
    sys::{clock::UnixTime, lock_holder::LockHolder},
};

/// The reason why a caller gets no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The configuration has no such provider.
    #[error("{}", unknown_provider(.0))]
    UnknownProvider(ProviderId),
    /// There is no session.
    #[error("{tenant} is not signed in: sign in {}", how_to_sign_in(.0), tenant = .0)]
    NoSession(Tenant),
    /// The session has ended.
    #[error("{}", ended(tenant, code))]
    Ended {
        /// The tenant.
        tenant: Tenant,
        /// The provider's error code, or `no_refresh_token`.
        code: String,
    },
    /// The provider cannot be reached, or asked for a pause. Nothing is lost.
    #[error("{}", unavailable(tenant, code, *retry_after))]
    Unavailable {
        /// The tenant.
        tenant: Tenant,
        /// A stable word.
        code: String,
        /// The pause before the next try.
        retry_after: Duration,
    },
    /// The refresh takes longer than a caller waits; it continues.
    #[error("the refresh of {0} is still in progress: try again in a moment")]
    InProgress(Tenant),
    /// As [`TokenError::InProgress`], and the process that the refresh depends on is known.
    #[error("the refresh of {tenant} is still in progress in {holder}: {}", holder.next_step())]
    Held {
        /// The tenant.
        tenant: Tenant,
        /// The process that holds the tenant's lock, or the stopped one that it waits for.
        holder: LockHolder,
    },
    /// The operator must correct the configuration.
    #[error("{provider} refuses threadkey's client ({code}) for {tenant}; the session is kept. The operator must check client_id, secret, scopes and endpoints of providers.{provider}", provider = tenant.provider)]
    Misconfigured {
        /// The tenant.
        tenant: Tenant,
        /// The error code.
        code: String,
    },
    /// The store.
    #[error("{0}")]
    Store(std::sync::Arc<StoreError>),
    /// A task ended without a result.
    #[error(
        "the refresh of {0} ended without a result. This is a defect of threadkey; nothing is lost: try again"
    )]
    Internal(Tenant),
}

impl TokenError {
    /// The error of a caller that has waited long enough for a refresh. `holder` is the process that
    /// the refresh depends on, if it is known and another one.
    pub fn still_in_progress(tenant: &Tenant, holder: Option<LockHolder>) -> Self {
        let tenant = tenant.clone();
        match holder {
            Some(holder) => Self::Held { tenant, holder },
            None => Self::InProgress(tenant),
        }
    }
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Store(std::sync::Arc::new(error))
    }
}

/// The time from `now` until `then`, at least 1 s: the value of a `Retry-After`.
pub(super) fn wait_until(then: UnixTime, now: UnixTime) -> Duration {
    Duration::from_secs(then.saturating_sub(now).max(1).try_into().unwrap_or(1))
}

/// A sign-in that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has no such provider.
    #[error("{}", unknown_provider(.0))]
    UnknownProvider(ProviderId),
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
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn unknown_provider(provider: &ProviderId) -> String {
    format!("there is no provider {provider} in the configuration; `threadkey providers` lists them")
}

fn ended(tenant: &Tenant, code: &str) -> String {
    let way = how_to_sign_in(tenant);
    if code == Ended::REJECTED {
        return format!(
            "the access token of {tenant} was rejected ({code}), and there is no refresh token to get another one: sign in again {way}"
        );
    }
    format!("the session {tenant} has ended ({code}): sign in again {way}")
}

fn unavailable(tenant: &Tenant, code: &str, retry_after: Duration) -> String {
    let (provider, seconds) = (&tenant.provider, retry_after.as_secs());
    match RetryKind::of(code) {
        RetryKind::RejectedAgain => format!(
            "the access token of {tenant} was reported as rejected, and {provider} has no other one now ({code}); the session is kept. Report it again in {seconds} s"
        ),
        RetryKind::Stuck => format!(
            "{provider} has refused to refresh {tenant} for hours ({code}), and refreshes others; the session is kept and tried once an hour. Most likely it has ended: sign in again {}",
            how_to_sign_in(tenant)
        ),
        RetryKind::Unspent | RetryKind::Ambiguous | RetryKind::Misconfigured => format!(
            "{provider} cannot refresh {tenant} now ({code}); the session is kept. Try again in {seconds} s"
        ),
    }
}

/// The commands that sign this tenant in.
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

/// A sign-in that could not be finished. Unless a text says otherwise, the sign-in stays open and
/// nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The configuration has no such provider.
    #[error("{}", unknown_provider(.0))]
    UnknownProvider(ProviderId),
    /// The user has no sign-in in progress.
    #[error("you have no sign-in in progress{} (one stays open for {}): begin with /auth start, or threadkey auth start in a terminal", for_provider(provider.as_ref()), in_words(PENDING_LIFETIME))]
    NothingPending {
        /// The provider that was asked about.
        provider: Option<ProviderId>,
    },
    /// No sign-in is in progress, but there is a session: most likely the code was used before.
    #[error("there is no sign-in in progress for {provider}, and you are signed in{}: a code works once, and yours was used", as_account(account.as_deref()))]
    AlreadyDone {
        /// The provider.
        provider: ProviderId,
        /// The account.
        account: Option<String>,
    },
    /// No sign-in is in progress, but one waits for a choice: most likely the code was used for it.
    #[error("you have already signed in at {provider}{}, and that sign-in waits for your choice: /auth status on Discord, or threadkey auth status in a terminal, asks again", as_account(account.as_deref()))]
    AwaitsChoice {
        /// The provider.
        provider: ProviderId,
        /// The account.
        account: Option<String>,
    },
    /// The sign-in has expired.
    #[error(
        "that sign-in for {0} has expired (it was open for {minutes}): start a new one and use its link",
        minutes = in_words(PENDING_LIFETIME)
    )]
    Expired(ProviderId),
    /// Several are in progress, and the paste does not name one.
    #[error("you have several sign-ins in progress ({}): name the provider", list(.0))]
    Ambiguous(Vec<ProviderId>),
    /// The sign-in is a server's, and its user does not manage that server here and now.
    #[error(
        "that sign-in for {0} is for a whole server, so nothing was sent: finish it in that server, as a member with the permission Manage Server. A manager of the server can give it to you"
    )]
    ManagersOnly(ProviderId),
    /// The paste belongs to another sign-in (RFC 6749 §10.12).
    #[error("{}", PasteError::StateMismatch)]
    StateMismatch,
    /// The paste contains no code, several codes, or a denial.
    #[error(transparent)]
    Paste(PasteError),
    /// A bare code where the state is needed.
    #[error("for {0} the code alone is not enough: paste the whole address of the page that you ended on")]
    StateNeeded(ProviderId),
    /// The answer comes from another server (RFC 9207).
    #[error(
        "that answer comes from {got}, and the sign-in was started at {expected}: nothing was sent. Start again and use the new link"
    )]
    IssuerMismatch {
        /// The issuer of the sign-in.
        expected: String,
        /// The issuer of the answer.
        got: String,
    },
    /// Another process is exchanging a code for it.
    #[error("a code for {0} is being exchanged: wait for that answer")]
    Busy(ProviderId),
    /// As [`FinishError::Busy`], and the other process is known.
    #[error("a code for {provider} is being exchanged by {holder}: {}", holder.next_step())]
    Held {
        /// The provider.
        provider: ProviderId,
        /// The process that holds the tenant's sign-in lock, or the stopped one that it waits for.
        holder: LockHolder,
    },
    /// The provider has accepted the code, and its answer cannot be saved as a session so far. It is
    /// tried again.
    #[error(
        "{0} has accepted your code, and the sign-in cannot be saved yet; it is not lost, so do not sign in again. \
         Look at the status in a moment"
    )]
    NotSaved(ProviderId),
    /// This code was sent before, or was about to be sent, and its outcome is unknown.
    #[error(
        "that code may have been sent to {0} before, and no answer came back; a code works once, so follow the link again and paste the new one"
    )]
    CodeSpent(ProviderId),
    /// The provider refuses the code.
    #[error(
        "{provider} does not accept that code ({code}): codes are short-lived and work once. Your sign-in is still open: follow the link again and paste the new code"
    )]
    Refused {
        /// The provider.
        provider: ProviderId,
        /// The provider's error code.
        code: String,
    },
    /// The provider did not accept several codes of this sign-in.
    #[error(
        "{provider} did not accept several codes, so the next one is sent only after a pause: follow the link again, and paste the new code in {} s. Your sign-in is still open",
        retry_after.as_secs()
    )]
    TooManyCodes {
        /// The provider.
        provider: ProviderId,
        /// The pause.
        retry_after: Duration,
    },
    /// The provider could not be reached: the code was not used.
    #[error(
        "{provider} cannot finish the sign-in now ({code}); your code was not used, and the sign-in is still open: send it again in a moment"
    )]
    Unavailable {
        /// The provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
    },
    /// The request went out and no answer came.
    #[error(
        "{provider} did not answer ({code}), so the code may have been used. Follow the link again and paste a new code"
    )]
    Uncertain {
        /// The provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
    },
    /// The operator must correct the configuration.
    #[error(
        "{provider} refuses threadkey's client ({code}): the operator must check client_id, redirect_uri, scopes and secret of providers.{provider}"
    )]
    Misconfigured {
        /// The provider.
        provider: ProviderId,
        /// The error code.
        code: String,
    },
    /// The tokens are for another sign-in.
    #[error(
        "{provider} answered for another sign-in (the id token's {claim} does not match), so its tokens were dropped: start again"
    )]
    Mismatch {
        /// The provider.
        provider: ProviderId,
        /// The claim.
        claim: &'static str,
    },
    /// The id token does not name its sign-in.
    #[error(
        "{0} answered with an id token that has no nonce, so its tokens were dropped: they may belong to another sign-in. If {0} enforces PKCE, the operator can set providers.{0}.enforces_pkce = true; then start again"
    )]
    NonceMissing(ProviderId),
    /// Cancelled, logged out or started again during the exchange; the result was dropped.
    #[error("that sign-in for {0} was cancelled or started again meanwhile; its result was dropped")]
    Superseded(ProviderId),
    /// The configuration names another endpoint or client than when the sign-in was started.
    #[error("the configuration of {0} has changed since the sign-in was started: start again")]
    BindingChanged(ProviderId),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task ended without a result.
    #[error("the exchange for {0} ended without a result. This is a defect of threadkey: start again")]
    Internal(ProviderId),
}

impl From<PasteError> for FinishError {
    fn from(error: PasteError) -> Self {
        match error {
            PasteError::StateMismatch => Self::StateMismatch,
            error => Self::Paste(error),
        }
    }
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
    /// It was made before, or the sign-in was replaced by a newer one or has expired.
    #[error(
        "no sign-in for {0} waits for your choice: it was decided, replaced or dropped. To use another account, sign in again"
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
    #[error("{0} is not signed in, so there is nothing to log out")]
    NoSession(Tenant),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_a_session_names_the_sign_in_command() {
        let words = |tenant: &str| TokenError::NoSession(tenant.parse().expect("a tenant")).to_string();
        assert_eq!(
            words("acme/local"),
            "acme/local is not signed in: sign in with `threadkey auth start acme`"
        );
        assert_eq!(
            words("acme/user:5"),
            "acme/user:5 is not signed in: sign in with `/auth start` on Discord, or `threadkey auth start acme --as user:5` in a terminal"
        );
        assert!(words("acme/guild:9").contains("`/auth start` and `shared` on Discord"));
        let tenant = "acme/guild:9".parse().expect("a tenant");
        let busy = StartError::Busy { tenant, until: 1_795_358_672 }.to_string();
        assert!(busy.ends_with("ends by itself within 15 minutes: try again then"), "{busy}");
    }
}
