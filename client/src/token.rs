//! A token with the other members of threadkey's answer.

use serde::Deserialize;

use crate::{AccessToken, Error};

/// An access token and its description.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Token {
    /// The token.
    pub access_token: AccessToken,
    /// The authentication scheme to present it with, mostly `Bearer`.
    pub token_type: String,
    /// When it expires, in Unix seconds; 253402300799 if the provider names no end.
    pub expires_at: i64,
    /// Its remaining life when the answer was made, in seconds.
    pub expires_in: i64,
    /// Its scopes, separated by spaces, if the provider named them.
    pub scope: Option<String>,
    /// The provider that issued it.
    pub provider: String,
    /// The principal that the session belongs to, such as `user:803` or `local`.
    pub principal: String,
    /// The number of commits to its session. A newer token has a higher number.
    pub generation: u64,
    /// The account that signed in, if it is known.
    pub account: Option<String>,
    /// `environment` or `exchange`, if the token is not that of a session.
    pub source: Option<String>,
}

/// The answer on the wire. Unknown members are ignored, because threadkey may be newer.
#[derive(Deserialize)]
struct Wire {
    access_token: String,
    token_type: String,
    expires_at: i64,
    expires_in: i64,
    scope: Option<String>,
    provider: String,
    principal: String,
    generation: u64,
    account: Option<String>,
    source: Option<String>,
}

impl Token {
    /// Reads the answer. The error repeats no part of it, because it may hold a token.
    pub(crate) fn read(json: &[u8]) -> Result<Self, Error> {
        let wire: Wire =
            serde_json::from_slice(json).map_err(|_| Error::Unknown("this is no token".into()))?;
        Ok(Self {
            access_token: AccessToken::new(wire.access_token),
            token_type: wire.token_type,
            expires_at: wire.expires_at,
            expires_in: wire.expires_in,
            scope: wire.scope,
            provider: wire.provider,
            principal: wire.principal,
            generation: wire.generation,
            account: wire.account,
            source: wire.source,
        })
    }
}
