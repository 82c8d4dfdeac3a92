//! The state of the stored token: the one decision about the token that a caller gets.
//!
//! [`Broker::token`](super::Broker::token), a flight, the background refresh and the command line
//! all ask this function.

use super::{DEFAULT_MIN_TTL, Lease, TokenError, error::wait_until};
use crate::{
    ids::Tenant,
    oauth::{Provider, Undiscovered},
    session::{Decision, Entry, RetryKind, Wish, decide},
    sys::clock::UnixTime,
};

/// The wish of a caller, and the limits of the provider.
#[derive(Clone, Debug)]
pub struct TokenPolicy {
    /// The wish of the caller.
    pub wish: Wish,
    /// A refresh ends the old access token, so no refresh starts while a caller may use it.
    pub refresh_revokes_access: bool,
}

/// The state of a tenant's stored token.
#[derive(Clone, Debug)]
pub enum StoredToken {
    /// The token serves.
    Fresh(Lease),
    /// The token serves, and a refresh in the background is due.
    RefreshDue(Lease),
    /// A refresh is needed first.
    Refresh,
    /// There is no usable session, but a sign-in that a dead process left may be recovered.
    RecoverSignIn,
    /// There is no token now.
    Refused {
        /// Why.
        error: TokenError,
        /// When the record allows the next request, in Unix seconds; `None` if only a new sign-in
        /// helps.
        retry_at: Option<UnixTime>,
    },
}

// === impl TokenPolicy ===

impl TokenPolicy {
    /// The policy for a caller of this provider.
    pub fn new(provider: &Provider, wish: Wish) -> Self {
        Self { wish, refresh_revokes_access: provider.refresh_revokes_access() }
    }

    /// The policy for a caller of a provider whose endpoints are not known yet.
    pub fn of_undiscovered(provider: &Undiscovered, wish: Wish) -> Self {
        Self { wish, refresh_revokes_access: provider.settings.refresh_revokes_access }
    }
}

impl Default for TokenPolicy {
    /// The policy for a caller that names no lifetime, at a provider without quirks.
    fn default() -> Self {
        Self { wish: Wish::living(DEFAULT_MIN_TTL), refresh_revokes_access: false }
    }
}

// === impl StoredToken ===

impl StoredToken {
    /// Decides from the record and the time alone.
    pub fn new(tenant: &Tenant, entry: &Entry, policy: &TokenPolicy, now: UnixTime) -> Self {
        let is_recoverable = entry.pending.is_some();
        let Some(session) = &entry.session else {
            let error = TokenError::NoSession(tenant.clone());
            return if is_recoverable {
                Self::RecoverSignIn
            } else {
                Self::Refused { error, retry_at: None }
            };
        };
        let lease = || Lease::new(tenant, session, now);
        let tenant = tenant.clone();
        match decide(session, now, &policy.wish) {
            Decision::ServeAndRefresh if !policy.refresh_revokes_access => Self::RefreshDue(lease()),
            Decision::Serve | Decision::ServeAndRefresh => Self::Fresh(lease()),
            Decision::Refresh => Self::Refresh,
            Decision::Ended { .. } if is_recoverable => Self::RecoverSignIn,
            Decision::Ended { code } => {
                Self::Refused { error: TokenError::Ended { tenant, code }, retry_at: None }
            }
            Decision::Backoff { until, kind: RetryKind::Misconfigured, code } => {
                let error = TokenError::Misconfigured { tenant, code };
                Self::Refused { error, retry_at: Some(until) }
            }
            Decision::Backoff { until, code, .. } => {
                let error = TokenError::Unavailable { tenant, code, retry_after: wait_until(until, now) };
                Self::Refused { error, retry_at: Some(until) }
            }
        }
    }
}
