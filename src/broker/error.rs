//! The error of a token, and the texts that the errors of the broker share. Each names the next step.

use std::time::Duration;

use crate::{
    ids::{Principal, ProviderId, Tenant},
    net::Unreachable,
    oauth::{DiscoveryError, no_provider},
    session::{Ended, RetryKind},
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
    format!("{}; `threadkey providers` lists them", no_provider(provider.as_str()))
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
pub(super) fn settings_of(code: &str) -> &'static str {
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

#[cfg(test)]
mod tests;
