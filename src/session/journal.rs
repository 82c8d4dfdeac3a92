//! The record of a request that spends a single-use secret, and the types that keep its order.
//!
//! A refresh token and an authorization code are good for one request. So the request is announced
//! before it is sent, and the answer is saved before it is read. Each step needs the value that
//! only the step before it returns, so a program that skips a step does not compile:
//!
//! 1. [`TenantLock::intend`](super::TenantLock::intend) makes the [`Intent`] durable, with room for
//!    the answer, and returns [`Intended`].
//! 2. Sending takes the [`Intended`] and returns [`Unread`]: an answer whose body has no accessor.
//! 3. [`TenantLock::record`](super::TenantLock::record) makes the answer durable and returns
//!    [`Answered`], the only form that can be parsed.
//! 4. [`TenantLock::settle`](super::TenantLock::settle) commits the result, and
//!    [`TenantLock::clear`](super::TenantLock::clear) empties the journal.
//!
//! An intent without an answer means that the outcome of the request is unknown.
//!
//! ```compile_fail
//! # use threadkey::session::journal::Unread;
//! fn an_answer_cannot_be_read_before_it_is_durable(unread: &Unread) -> &[u8] {
//!     &unread.answer().body
//! }
//! ```
//!
//! ```compile_fail
//! # use threadkey::session::journal::{Intent, Intended};
//! fn an_intent_is_not_durable_because_a_caller_made_it(intent: Intent) -> Intended {
//!     Intended(intent)
//! }
//! ```

use std::{fmt, time::Duration};

use zeroize::Zeroizing;

use super::RefreshTarget;
use crate::{
    ids::{Tenant, UnixTime},
    secret::Fingerprint,
};

/// The longest body of a token response, in bytes.
pub const MAX_BODY: usize = 256 * 1024;

/// The secret that a request spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spending {
    /// A refresh token.
    Refresh(RefreshTarget),
    /// An authorization code.
    Code {
        /// Fingerprint of the pending sign-in's `state`.
        state: Fingerprint,
        /// Fingerprint of the code.
        code: Fingerprint,
    },
}

/// The announcement of a request, written before the request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The secret that the request spends.
    pub spending: Spending,
    /// When it is sent, in Unix seconds.
    pub at: UnixTime,
    /// The URL that it is sent to.
    pub token_endpoint: String,
}

/// An answer as received.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as received (RFC 9110 §10.2.3).
    pub retry_after: Option<String>,
    /// The `Content-Type` header as received (RFC 9110 §8.3).
    pub content_type: Option<String>,
    /// The `Content-Encoding` header as received (RFC 9110 §8.4).
    pub content_encoding: Option<String>,
    /// Whether the body is not known to be whole: its frame broke off or was too long, or its end was
    /// that of a connection without TLS.
    pub cut: bool,
    /// The body as received, at most [`MAX_BODY`] bytes.
    pub body: Zeroizing<Vec<u8>>,
    /// When it arrived, in Unix seconds.
    pub at: UnixTime,
}

/// The content of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Journal {
    /// No request is in progress.
    #[default]
    Empty,
    /// A request was sent, or was about to be sent. No answer was saved.
    Intended(Intent),
    /// The answer is saved and not committed yet.
    Answered(Intent, Answer),
}

/// An intent that is durable. Sending consumes it, so one intent allows one request.
#[derive(Debug)]
pub struct Intended(Intent);

/// An answer that is not durable yet. Its body cannot be read.
#[derive(Clone, Debug)]
pub struct Unread {
    intent: Intent,
    answer: Answer,
}

/// An answer that is durable, and the intent that it belongs to.
#[derive(Clone, Debug)]
pub struct Answered {
    intent: Intent,
    answer: Answer,
}

/// The content of a tenant's lock file at the moment when the lock is taken.
#[derive(Debug)]
pub enum Found {
    /// No request is in progress.
    Nothing,
    /// An earlier holder died before it saved an answer.
    Intended(Intent),
    /// An earlier holder died between the answer and the commit.
    Answered(Answered),
}

// === impl Spending ===

impl Spending {
    /// Whether both spend the same secret. Fingerprints of different lengths are compared by their
    /// common prefix.
    pub fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refresh(one), Self::Refresh(other)) => one.matches(other),
            (Self::Code { state: s1, code: c1 }, Self::Code { state: s2, code: c2 }) => {
                s1.matches(s2) && c1.matches(c2)
            }
            (Self::Refresh(_), Self::Code { .. }) | (Self::Code { .. }, Self::Refresh(_)) => false,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Time since the answer arrived; zero if the clock has stepped back.
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
            .field("cut", &self.cut)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

// === impl Intended ===

impl Intended {
    /// For [`TenantLock::intend`](super::TenantLock::intend), after the intent is durable.
    pub(super) fn new(intent: Intent) -> Self {
        Self(intent)
    }

    /// An intent for tests that send without a store.
    #[cfg(any(test, feature = "test-util"))]
    pub fn for_tests() -> Self {
        let fingerprint = || Fingerprint::of("test");
        let spending = Spending::Code { state: fingerprint(), code: fingerprint() };
        Self(Intent { spending, at: 0, token_endpoint: String::new() })
    }

    /// Pairs the answer with the intent of its request.
    pub fn answered(self, answer: Answer) -> Unread {
        Unread { intent: self.0, answer }
    }
}

// === impl Unread ===

impl Unread {
    /// The answer, for tests of the client.
    #[cfg(test)]
    pub(crate) fn for_tests(&self) -> &Answer {
        &self.answer
    }

    /// For [`TenantLock::record`](super::TenantLock::record) alone.
    pub(super) fn for_the_journal(&self) -> (&Intent, &Answer) {
        (&self.intent, &self.answer)
    }

    /// Formats the answer for a rescue file. `format` can return bytes and nothing else.
    pub fn rescue_text(
        &self,
        tenant: &Tenant,
        format: fn(&Tenant, &Intent, &Answer) -> Zeroizing<Vec<u8>>,
    ) -> Zeroizing<Vec<u8>> {
        format(tenant, &self.intent, &self.answer)
    }
}

// === impl Answered ===

impl Answered {
    /// For [`super::TenantLock`], after the answer is durable.
    pub(super) fn new(intent: Intent, answer: Answer) -> Self {
        Self { intent, answer }
    }

    /// An answer for tests of its meaning, in no journal.
    #[cfg(any(test, feature = "test-util"))]
    pub fn for_tests(answer: Answer) -> Self {
        Self { intent: Intended::for_tests().0, answer }
    }

    /// The intent of its request.
    pub fn intent(&self) -> &Intent {
        &self.intent
    }

    /// The answer.
    pub fn answer(&self) -> &Answer {
        &self.answer
    }
}
