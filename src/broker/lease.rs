//! What a caller who wants a token gets.

use std::time::Duration;

use crate::{ids::Tenant, secret::AccessToken, session::Session, sys::clock::UnixTime};

/// An access token to use, and what is known of it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Whose it is.
    pub tenant: Tenant,
    /// The token.
    pub access_token: AccessToken,
    /// Usually `Bearer`.
    pub token_type: String,
    /// Unix seconds.
    pub expires_at: UnixTime,
    /// What is left of its life now.
    pub expires_in: Duration,
    /// Space separated.
    pub scope: Option<String>,
    /// Whose login it is.
    pub account: Option<String>,
    /// The session's state.
    pub generation: u64,
}

impl Lease {
    /// The session's access token, as it is now.
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
