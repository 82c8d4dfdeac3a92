//! The broker's errors: one enum per operation. Each text names the next step.

use std::time::Duration;

use crate::{
    ids::{Principal, ProviderId, Tenant},
    net::Unreachable,
    oauth::{DiscoveryError, PasteError},
    session::{Ended, PENDING_LIFETIME, RetryKind, in_words},
    store::StoreError,
    sys::{clock::UnixTime, lock_holder::LockHolder, secret_source::NoSecret},
};

/// The reason why a caller gets no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// The configuration has no such provider.
    #[error("{}", unknown_provider(.0))]
    UnknownProvider(ProviderId),
    /// The provider's endpoints are not known, and they cannot be fetched now.
    #[error("{}", undiscovered(provider, problem, "the session is kept"))]
    Undiscovered {
        /// The provider.
        provider: ProviderId,
        /// The reason.
        problem: DiscoveryError,
    },
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
    #[error("{provider} refuses threadkey's client ({code}) for {tenant}; the session is kept. The operator must check {} of providers.{provider}", settings_of(code), provider = tenant.provider)]
    Misconfigured {
        /// The tenant.
        tenant: Tenant,
        /// The error code.
        code: String,
    },
    /// The secret of threadkey's client cannot be read. Nothing was sent.
    #[error("{}", no_client_secret(&tenant.provider, problem))]
    NoClientSecret {
        /// The tenant.
        tenant: Tenant,
        /// The reason.
        problem: NoSecret,
    },
    /// The provider does not exchange the session's token (RFC 8693 §2.2.2). The session is kept.
    #[error("{}", exchange_refused(tenant, from, code))]
    ExchangeRefused {
        /// The tenant whose token was asked for.
        tenant: Tenant,
        /// The tenant of the session.
        from: Tenant,
        /// The error code.
        code: String,
    },
    /// No exchange was possible now. Nothing is lost.
    #[error("no token for {tenant} can be exchanged for that of {from} now ({code}): try again in {} s", retry_after.as_secs())]
    ExchangeUnavailable {
        /// The tenant whose token was asked for.
        tenant: Tenant,
        /// The tenant of the session.
        from: Tenant,
        /// A stable word.
        code: String,
        /// The pause before the next try.
        retry_after: Duration,
    },
    /// A resource rejected the token of the environment. threadkey cannot get another one.
    #[error(
        "a resource rejected the token of {tenant}, which comes from the variable {variable} of threadkey's environment, so threadkey cannot refresh it: the operator must set another token, or remove {variable} from providers.{}.token_env", tenant.provider
    )]
    EnvironmentRejected {
        /// The tenant.
        tenant: Tenant,
        /// The variable.
        variable: String,
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
    /// The code of a session whose refresh token may not go to the configured endpoint.
    pub const BOUND_ELSEWHERE: &str = "binding_changed";

    /// Whether nobody has a right to a token now, until a user signs in or the operator acts. Otherwise the
    /// reason passes by itself.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::UnknownProvider(_)
                | Self::NoSession(_)
                | Self::Ended { .. }
                | Self::ExchangeRefused { .. }
                | Self::EnvironmentRejected { .. }
        )
    }

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

pub(super) fn unknown_provider(provider: &ProviderId) -> String {
    format!("there is no provider {provider} in the configuration; `threadkey providers` lists them")
}

/// The text about a provider whose tokens come by exchange.
pub(super) fn exchanged(id: &ProviderId, from: &ProviderId, next: &str) -> String {
    format!(
        "{id} has no sign-in of its own: its tokens come from the sign-in at {from}, by exchange. {next} at {from}"
    )
}

pub(super) fn undiscovered(provider: &ProviderId, problem: &DiscoveryError, state: &str) -> String {
    let next = match problem.is_temporary() {
        true => "Try again in a minute. If it stays so, the operator must mend the cause",
        false => "The operator must mend the cause",
    };
    format!("threadkey does not know the endpoints of {provider}, so {state}. {next}: {problem}")
}

pub(super) fn no_client_secret(provider: &ProviderId, problem: &NoSecret) -> String {
    format!(
        "the secret of threadkey's client at {provider} cannot be read, so nothing was sent and nothing is lost: {problem}. \
         The operator must mend {}",
        problem.to_mend(&format!("providers.{provider}"))
    )
}

fn exchange_refused(tenant: &Tenant, from: &Tenant, code: &str) -> String {
    let provider = &tenant.provider;
    let settings = match code {
        "invalid_client" => "client_id and the client secret",
        "invalid_scope" => "scopes",
        "invalid_target" => "audience and resource",
        "unauthorized_client" | "unsupported_grant_type" | "access_denied" => {
            "whether the client may exchange tokens at the server, and audience, resource and scopes"
        }
        "invalid_grant" | "invalid_token" => {
            return format!(
                "{} does not take the access token of {from} for an exchange ({code}); the session is kept. If its token works \
                 elsewhere, the operator must check providers.{provider}; else sign in again {}",
                from.provider,
                how_to_sign_in(from)
            );
        }
        _ => "audience, resource, scopes and the client",
    };
    format!(
        "{} refuses to exchange the token of {from} for one of {tenant} ({code}); the session is kept. The operator must check \
         {settings} of providers.{provider}",
        from.provider
    )
}

fn ended(tenant: &Tenant, code: &str) -> String {
    let way = how_to_sign_in(tenant);
    if code == Ended::REJECTED {
        return format!(
            "the access token of {tenant} was rejected ({code}), and there is no refresh token to get another one: sign in again {way}"
        );
    }
    if code == Ended::OTHER_ACCOUNT {
        return format!(
            "{provider} answered a refresh of {tenant} with the tokens of another account or client ({code}), so none of them is used: sign in again {way}. If it happens again, {provider} must mend it; `threadkey doctor` names the file that keeps the answer",
            provider = tenant.provider
        );
    }
    if code == TokenError::BOUND_ELSEWHERE {
        return format!(
            "the session {tenant} belongs to another token endpoint or client than the configured ones ({code}), so nothing was sent: \
             sign in again {way}. If {provider} has only moved, the operator can list its earlier endpoints in \
             providers.{provider}.formerly",
            provider = tenant.provider
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
        RetryKind::Unspent if matches!(code, "http_400" | "http_401" | "http_403") => format!(
            "{provider} refuses to refresh {tenant} now, for no reason that threadkey knows ({code}); the session is kept. Try again in {seconds} s. If it lasts (`threadkey auth status` shows since when), sign in again {}",
            how_to_sign_in(tenant)
        ),
        RetryKind::Unspent if Unreachable::STEPS.contains(&code) => format!(
            "{provider} cannot refresh {tenant} now ({code}); the session is kept. Try again in {seconds} s. If it stays so, the \
             operator must check the network of this machine and the endpoints of providers.{provider}"
        ),
        RetryKind::Unspent | RetryKind::Ambiguous if is_from_a_wrong_endpoint(code) => format!(
            "{provider} cannot refresh {tenant}: the address of its token endpoint is most likely wrong ({code}); the session is kept. The \
             operator must check providers.{provider}.token_endpoint; the next try is in {seconds} s"
        ),
        RetryKind::Unspent | RetryKind::Ambiguous | RetryKind::Misconfigured => format!(
            "{provider} cannot refresh {tenant} now ({code}); the session is kept. Try again in {seconds} s"
        ),
    }
}

/// The settings that a provider's error code is about (RFC 6749 §4.1.2.1 and §5.2, RFC 8707 §2).
fn settings_of(code: &str) -> &'static str {
    match code {
        "invalid_client" => "client_id and the client secret",
        "unauthorized_client" | "unsupported_grant_type" | "unsupported_response_type" => {
            "client_id, and at the provider whether this client may use authorization codes and refresh tokens,"
        }
        "invalid_scope" => "scopes",
        "invalid_request" => "redirect_uri, authorize_params and the endpoints",
        "invalid_target" => "resource",
        _ => "client_id, the client secret, redirect_uri, scopes and endpoints",
    }
}

/// Whether an answer with this code most likely comes from another address than a token endpoint: a
/// missing page, a redirect, or a page without tokens.
pub fn is_from_a_wrong_endpoint(code: &str) -> bool {
    let status = code.trim_start_matches("ambiguous_").strip_prefix("http_");
    let status: Option<u16> = status.and_then(|status| status.parse().ok());
    status.is_some_and(|status| matches!(status, 200..=399 | 404 | 405 | 410))
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

/// A sign-in that could not be finished. Unless a variant states otherwise, the sign-in stays open and
/// nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// The configuration has no such provider.
    #[error("{}", unknown_provider(.0))]
    UnknownProvider(ProviderId),
    /// The provider's endpoints are not known, and they cannot be fetched now. The code was not used.
    #[error("{}", undiscovered(provider, problem, "your code was not used, and the sign-in is still open"))]
    Undiscovered {
        /// The provider.
        provider: ProviderId,
        /// The reason.
        problem: DiscoveryError,
    },
    /// The user has no sign-in in progress.
    #[error("you have no sign-in in progress{} (one stays open for {} at most): begin with /auth start, or threadkey auth start in a terminal", for_provider(provider.as_ref()), in_words(PENDING_LIFETIME))]
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
        "that sign-in for {0} has expired (it was open for {open_for}): start a new one and use its link",
        open_for = in_words(*.1)
    )]
    Expired(ProviderId, Duration),
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
    /// The sign-in comes back through our own pages, so a paste could bring another user's answer.
    #[error(
        "the sign-in for {0} goes through its link, so nothing was sent: a pasted address could be another user's. Open the link of /auth start, and type the six digits that its last page shows"
    )]
    ByBrowser(ProviderId),
    /// The sign-in waits for its digits.
    #[error(
        "the sign-in for {0} waits for the six digits of its last page: type only them. If you do not have them, use /auth cancel and start again"
    )]
    DigitsExpected(ProviderId),
    /// Other digits than those of the page.
    #[error("those are not the digits of the page for {provider}: look at it again. You have {}", attempts(*left))]
    WrongDigits {
        /// The provider.
        provider: ProviderId,
        /// The attempts that are left.
        left: u32,
    },
    /// The digits are those of none of the pages that wait. It counts against each.
    #[error("those are not the digits of any of your pages ({}): look at them again, and name the provider. You have {}", list(providers), attempts(*left))]
    WrongDigitsOfSeveral {
        /// The providers.
        providers: Vec<ProviderId>,
        /// The attempts that are left for the last of them.
        left: u32,
    },
    /// Other digits were typed too often.
    #[error(
        "those digits are wrong too, so the sign-in for {provider} is dropped{}. Begin again with /auth start", if *is_revoked { ", and its access has ended" } else { ". Its access may still work there: remove it in that account" }
    )]
    DigitsUsedUp {
        /// The provider.
        provider: ProviderId,
        /// Whether the provider has ended the grant.
        is_revoked: bool,
    },
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
    /// The answer names no issuer, and the provider's answers always do (RFC 9207 §2.4).
    #[error(
        "that answer does not name {0} as its issuer, and answers of {0} always do: nothing was sent. Paste the whole address of the page that you ended on; if it has no iss, it comes from another server"
    )]
    IssuerMissing(ProviderId),
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
    /// No connection to the provider: the code was not used.
    #[error(
        "{provider} cannot be reached ({code}{}); your code was not used, and the sign-in is still open: send it again in a moment. If it stays so, the operator must check the network of this machine and the endpoints of providers.{provider}",
        cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
    )]
    Unreachable {
        /// The provider.
        provider: ProviderId,
        /// The failed step: `dns`, `connect`, `tls` or `proxy`.
        code: String,
        /// The cause, if this process knows it.
        cause: Option<Unreachable>,
    },
    /// The address of the token endpoint is most likely wrong: the code was not used.
    #[error(
        "{endpoint} is most likely not the token endpoint of {provider} ({code}): the operator must check providers.{provider}.token_endpoint. Your code was not used, and the sign-in is still open"
    )]
    WrongEndpoint {
        /// The provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
        /// The configured token endpoint.
        endpoint: String,
    },
    /// The provider refuses the authorization request (RFC 6749 §4.1.2.1). It sent no code.
    #[error(
        "{provider} refuses threadkey's sign-in request ({error}{}): the operator must check {} of providers.{provider}",
        description.as_deref().map(|d| format!(": {d}")).unwrap_or_default(), settings_of(error)
    )]
    RequestRefused {
        /// The provider.
        provider: ProviderId,
        /// The error code.
        error: String,
        /// The provider's description, cleaned for display.
        description: Option<String>,
    },
    /// The provider could not process the request: the code was not used.
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
    #[error("{}", uncertain(provider, code))]
    Uncertain {
        /// The provider.
        provider: ProviderId,
        /// A stable word.
        code: String,
    },
    /// The operator must correct the configuration.
    #[error(
        "{provider} refuses threadkey's client ({code}): the operator must check {} of providers.{provider}",
        settings_of(code)
    )]
    Misconfigured {
        /// The provider.
        provider: ProviderId,
        /// The error code.
        code: String,
    },
    /// The secret of threadkey's client cannot be read. The code was not sent.
    #[error("{}", no_client_secret(provider, problem))]
    NoClientSecret {
        /// The provider.
        provider: ProviderId,
        /// The reason.
        problem: NoSecret,
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
    /// The id token proves no account.
    #[error(
        "{provider} answered with an id token that is refused, so its tokens were dropped: {problem}. Then start again"
    )]
    IdTokenRefused {
        /// The provider.
        provider: ProviderId,
        /// The claim or the fault of the signature, and who mends it.
        problem: String,
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
    /// The sign-in needs no code: it is polled.
    #[error(
        "your sign-in at {0} needs no code here: allow the access on the provider's own page or device, and it finishes by itself"
    )]
    NoCodeNeeded(ProviderId),
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

fn uncertain(provider: &ProviderId, code: &str) -> String {
    if is_from_a_wrong_endpoint(code) {
        return format!(
            "{provider} answered without a token ({code}), so the code may have been used. Follow the link again and paste a new code. If \
             this repeats, the operator must check providers.{provider}.token_endpoint"
        );
    }
    format!(
        "{provider} did not answer ({code}), so the code may have been used. Follow the link again and paste a new code"
    )
}

/// The attempts that are left, as a user reads them.
fn attempts(left: u32) -> String {
    match left {
        1 => "one attempt left".to_owned(),
        left => format!("{left} attempts left"),
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

#[cfg(test)]
mod tests;
