//! The state of the stored token: the one decision about the token that a caller gets.
//!
//! [`Broker::token`](super::Broker::token), a flight, the background refresh and the command line
//! all ask this function.

use url::Url;

use super::{DEFAULT_MIN_TTL, Lease, TokenError, error::wait_until};
use crate::{
    ids::Tenant,
    oauth::{Provider, Undiscovered},
    session::{Decision, Entry, RetryKind, Session, Wish, decide},
    sys::clock::UnixTime,
};

/// The wish of a caller, and the limits of the provider.
#[derive(Clone, Debug)]
pub struct TokenPolicy {
    /// The wish of the caller.
    pub wish: Wish,
    /// A refresh ends the old access token, so no refresh starts while a caller may use it.
    pub refresh_revokes_access: bool,
    /// The MCP server that the token must be for, or a parent of its address.
    pub mcp_server: Option<Url>,
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
        let mcp_server = provider.mcp_server();
        Self { wish, refresh_revokes_access: provider.refresh_revokes_access(), mcp_server }
    }

    /// The policy for a caller of a provider whose endpoints are not known yet.
    pub fn of_undiscovered(provider: &Undiscovered, wish: Wish) -> Self {
        let mcp_server = provider.mcp_server();
        Self { wish, refresh_revokes_access: provider.settings.refresh_revokes_access, mcp_server }
    }

    /// Whether a session is for the provider's MCP server, if it is one. A name in the configuration is
    /// free: a session of another provider that had this name must not reach the server.
    fn fits(&self, session: &Session) -> bool {
        let Some(server) = &self.mcp_server else { return true };
        let resource = session.binding.resource.as_ref().and_then(|resource| resource.parse::<Url>().ok());
        resource.is_some_and(|resource| resource == *server || resource.origin() == server.origin())
    }
}

impl Default for TokenPolicy {
    /// The policy for a caller that names no lifetime, at a provider without quirks.
    fn default() -> Self {
        Self { wish: Wish::living(DEFAULT_MIN_TTL), refresh_revokes_access: false, mcp_server: None }
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
        if !policy.fits(session) {
            let (tenant, code) = (tenant.clone(), TokenError::BOUND_ELSEWHERE.to_owned());
            return if is_recoverable {
                Self::RecoverSignIn
            } else {
                Self::Refused { error: TokenError::Ended { tenant, code }, retry_at: None }
            };
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::test_session;

    const NOW: UnixTime = 1_795_358_672;

    #[test]
    fn a_session_of_another_server_is_never_served_for_an_mcp_server() {
        let tenant: Tenant = "codex/user:5".parse().expect("a tenant");
        let server: Url = "https://mcp.example/a/mcp".parse().expect("a URL");
        let policy = TokenPolicy { mcp_server: Some(server), ..TokenPolicy::default() };
        let decide = |resource: Option<&str>, policy: TokenPolicy| {
            let mut session = test_session(NOW, 3600);
            session.binding.resource = resource.map(str::to_owned);
            let entry = Entry { session: Some(session), ..Entry::default() };
            StoredToken::new(&tenant, &entry, &policy, NOW)
        };
        for own in ["https://mcp.example/a/mcp", "https://mcp.example/", "https://mcp.example"] {
            assert!(matches!(decide(Some(own), policy.clone()), StoredToken::Fresh(_)), "{own}");
        }
        for other in
            [None, Some("https://other.example/mcp"), Some("http://mcp.example/a/mcp"), Some("urn:x")]
        {
            let decided = decide(other, policy.clone());
            let StoredToken::Refused { error: TokenError::Ended { code, .. }, retry_at: None } = &decided
            else {
                panic!("{other:?}: {decided:?}")
            };
            assert_eq!(code, TokenError::BOUND_ELSEWHERE);
            assert!(matches!(decide(other, TokenPolicy::default()), StoredToken::Fresh(_)), "{other:?}");
        }
    }
}
