//! Where a secret of a session may go: the one decision.
//!
//! A sign-in binds the client and the endpoints that the configuration names at that time. Every
//! request with a token, a code or a verifier asks [`Provider::destination`] for its target. So a
//! configuration that a stranger wrote or changed sends no secret of an earlier sign-in to another
//! place.
//!
//! A server that publishes its endpoints may publish another token endpoint one day. New sign-ins use
//! it. A session of before keeps using the endpoint that it is bound to, and follows only if the
//! operator lists that one in `formerly`.

use std::fmt;

use url::Url;

use super::Provider;
use crate::session::Binding;

/// An endpoint that gets secrets of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Refresh tokens, codes and verifiers (RFC 6749 §3.2).
    Token,
    /// Tokens to revoke (RFC 7009).
    Revocation,
    /// Access tokens (OpenID Connect Core §5.3).
    Userinfo,
}

/// The reason why a secret is not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// The configuration has no such endpoint.
    #[error("no {0} is configured")]
    NotConfigured(Endpoint),
    /// The sign-in bound another client or endpoint than the configured one.
    #[error("the sign-in is bound to {was}, and the configuration now names {now}")]
    Changed {
        /// The client or endpoint of the sign-in.
        was: String,
        /// The configured one.
        now: String,
    },
    /// The sign-in bound no such endpoint, and the configured one is on another server than the
    /// token endpoint.
    #[error("the sign-in is bound to no {endpoint}, and {now} is on another server than its token_endpoint")]
    Unbound {
        /// The kind of the endpoint.
        endpoint: Endpoint,
        /// The configured endpoint.
        now: String,
    },
}

// === impl Endpoint ===

impl fmt::Display for Endpoint {
    /// Writes the key of the setting.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "token_endpoint",
            Self::Revocation => "revocation_endpoint",
            Self::Userinfo => "userinfo_endpoint",
        })
    }
}

// === impl Provider ===

impl Provider {
    /// Returns the address to which a secret of a session or sign-in with this binding may go.
    ///
    /// The client and the endpoint must be those of the binding. An endpoint in
    /// [`formerly`](super::ProviderSettings::formerly) leads to the present one. A binding without a
    /// revocation or userinfo endpoint takes a configured one on the server of the token endpoint.
    ///
    /// # Errors
    /// See [`Withheld`]. Nothing may be sent.
    pub fn destination(&self, bound: &Binding, endpoint: Endpoint) -> Result<&Url, Withheld> {
        self.check_issued(bound)?;
        let (was, now) = match endpoint {
            Endpoint::Token => return Ok(self.published_earlier(bound).unwrap_or(&self.token_endpoint)),
            Endpoint::Revocation => (&bound.revocation_endpoint, &self.revocation_endpoint),
            Endpoint::Userinfo => (&bound.userinfo_endpoint, &self.userinfo_endpoint),
        };
        let now = now.as_ref().ok_or(Withheld::NotConfigured(endpoint))?;
        match was {
            Some(was) if self.leads_to(bound, was, now) => Ok(now),
            Some(was) => Err(Withheld::Changed { was: was.clone(), now: now.to_string() }),
            None if now.origin()
                == self.published_earlier(bound).unwrap_or(&self.token_endpoint).origin() =>
            {
                Ok(now)
            }
            None => Err(Withheld::Unbound { endpoint, now: now.to_string() }),
        }
    }

    /// Checks that the configured client issued a grant with this binding.
    ///
    /// # Errors
    /// [`Withheld::Changed`].
    pub(super) fn check_issued(&self, bound: &Binding) -> Result<(), Withheld> {
        if self.issued(bound) {
            return Ok(());
        }
        let shown = |token_endpoint: &str, client: &str| format!("{token_endpoint} for client {client}");
        Err(Withheld::Changed {
            was: shown(&bound.token_endpoint, &bound.client_id),
            now: shown(self.token_endpoint.as_str(), &self.client_id),
        })
    }

    /// Whether the configured client issued a grant with this binding, at its present or at an
    /// earlier token endpoint.
    pub fn issued(&self, bound: &Binding) -> bool {
        let is_known = self.leads_to(bound, &bound.token_endpoint, &self.token_endpoint)
            || self.published_earlier(bound).is_some();
        (bound.client_id == self.client_id || self.registers_client()) && is_known
    }

    /// Returns the bound token endpoint, if the same issuer published it earlier and publishes another
    /// one now. The session stays with it: a published change alone moves no refresh token to
    /// another server.
    fn published_earlier(&self, bound: &Binding) -> Option<&Url> {
        let was = bound.token_endpoint.as_str();
        // An issuer with another name in its id tokens has that name in each session.
        let is_same_issuer = bound.issuer == self.issuer || self.id_token_issuer.is_some();
        let is_earlier = is_same_issuer && !self.leads_to(bound, was, &self.token_endpoint);
        self.published_earlier.iter().find(|earlier| is_earlier && earlier.as_str() == was)
    }

    /// Whether the bound endpoint `was` is `now`, or an earlier one of the same issuer.
    fn leads_to(&self, bound: &Binding, was: &str, now: &Url) -> bool {
        // An issuer of many tenants has another name in each session.
        let is_other_issuer = self.id_token_issuer.is_none()
            && matches!((&bound.issuer, &self.issuer), (Some(was), Some(now)) if was != now);
        was == now.as_str() || (!is_other_issuer && self.formerly.iter().any(|former| former.as_str() == was))
    }
}

#[cfg(test)]
mod tests;
