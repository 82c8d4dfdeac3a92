//! The data of a grant: the user's decision, the issued tokens, and the reasons for a refusal.

use std::time::Duration;

use serde::Serialize;

/// The lifetimes of codes and tokens that are issued from now on.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// How long an authorization code can be exchanged.
    pub code: Duration,
    /// How long an access token works.
    pub access_token: Duration,
    /// How long a refresh token can be spent.
    pub refresh_token: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            code: Duration::from_secs(600),
            access_token: Duration::from_secs(60),
            refresh_token: Duration::from_secs(30 * 86_400),
        }
    }
}

/// The server's treatment of a refresh token that a client presents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// Each use brings a new one, and a second use ends the grant (RFC 9700 §4.14.2).
    #[default]
    Strict,
    /// Like `Strict`, but within this time the token that was spent last may come again and yields
    /// another new one.
    Grace(Duration),
    /// The refresh token stays valid, and no answer contains a new one (RFC 6749 §6).
    Fixed,
}

/// A user's consent. First the code stands for it, then the tokens.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub account: String,
    pub redirect_uri: String,
    pub scopes: Vec<String>,
    pub code_challenge: String,
    pub nonce: Option<String>,
}

/// A refresh token's life, for a picture of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Life {
    /// Names the token without giving it away.
    pub fingerprint: String,
    /// Which sign-in it descends from.
    pub family: u64,
    /// The account of the grant.
    pub account: String,
    /// Its place in the family, from 0.
    pub position: usize,
    /// Unix time in milliseconds, as the other two.
    pub born_ms: i64,
    /// The end of its life, in Unix milliseconds.
    pub expires_ms: i64,
    /// The time at which it was spent, in Unix milliseconds.
    pub spent_ms: Option<i64>,
    /// The state of the token.
    pub state: LifeState,
}

/// The state of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LifeState {
    /// It can be spent.
    Live,
    /// Spent once, as it should be.
    Spent,
    /// Presented again after it was spent.
    Reused,
    /// Never spent, and dead with its family.
    Revoked,
    /// Never spent, and too old.
    Expired,
}

/// The result of a successful token request.
pub(super) struct Issued {
    pub account: String,
    pub nonce: Option<String>,
    pub access_token: String,
    /// Absent without the scope `offline_access`.
    pub refresh_token: Option<String>,
    pub expires_in: u64,
    pub scopes: Vec<String>,
}

/// Why a token request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `invalid_grant`: unknown, expired, revoked, or for something else; the words say which.
    Invalid(&'static str),
    /// `invalid_grant`: spent before. `revoked` is true if this request revoked the family.
    Reused { revoked: bool },
    /// `invalid_scope`: more than was granted.
    Scope,
}
