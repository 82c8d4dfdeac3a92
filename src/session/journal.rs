//! The words in which a request that spends something is written down before it is sent, and its answer
//! before it is read.
//!
//! A journal is empty, or holds an [`Intent`], or an intent and the provider's [`Answer`]. An intent without an
//! answer means that nobody knows what became of it.

use std::{fmt, time::Duration};

use zeroize::Zeroizing;

use super::Spent;
use crate::{ids::UnixTime, secret::Fingerprint};

/// The longest body of a token response that is read, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// What is being spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spending {
    /// A refresh token.
    Refresh(Spent),
    /// An authorization code, in the sign-in whose `state` has this fingerprint.
    Code {
        /// Of the pending sign-in's `state`.
        state: Fingerprint,
        /// Of the code.
        code: Fingerprint,
    },
}

/// Written, with room for the answer, before the request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// What is being spent.
    pub spending: Spending,
    /// When, in Unix seconds.
    pub at: UnixTime,
    /// Where it goes.
    pub token_endpoint: String,
}

/// What came back, before anybody has looked into it.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as it came (RFC 9110 §10.2.3).
    pub retry_after: Option<String>,
    /// The body, at most [`MAX_BODY`] bytes.
    pub body: Zeroizing<Vec<u8>>,
    /// When it came, in Unix seconds.
    pub at: UnixTime,
}

impl Answer {
    /// How long ago it came; a clock that stepped back makes it new.
    pub fn age(&self, now: UnixTime) -> Duration {
        Duration::from_secs(now.saturating_sub(self.at).try_into().unwrap_or(0))
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("body_bytes", &self.body.len())
            .field("at", &self.at)
            .finish()
    }
}

/// What a tenant's lock file holds.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Journal {
    /// Nothing is under way.
    #[default]
    Empty,
    /// Sent, or about to be; no answer was saved.
    Intended(Intent),
    /// Answered, not yet committed.
    Answered(Intent, Answer),
}
