//! The access token that a caller gets.

use std::time::Duration;

use crate::{ids::Tenant, secret::AccessToken, session::Session, sys::clock::UnixTime};

/// An access token, and its properties.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The tenant that it belongs to.
    pub tenant: Tenant,
    /// The token.
    pub access_token: AccessToken,
    /// Usually `Bearer`.
    pub token_type: String,
    /// Unix seconds.
    pub expires_at: UnixTime,
    /// The rest of its lifetime.
    pub expires_in: Duration,
    /// Space separated.
    pub scope: Option<String>,
    /// The account, in the provider's words.
    pub account: Option<String>,
    /// The session's generation.
    pub generation: u64,
}

impl Lease {
    /// The session's access token at `now`.
    pub(super) fn new(tenant: &Tenant, session: &Session, now: UnixTime) -> Self {
        Self {
            tenant: tenant.clone(),
            access_token: session.access_token.clone(),
            token_type: session.token_type.clone(),
            expires_at: session.expires_at,
            expires_in: session.remaining(now),
            scope: session.scope.clone(),
            account: session.account.clone(),
            generation: session.generation,
        }
    }
}
