//! What a record says of trouble: a token that was refused, refreshes that are held back, a grant that is over.

use super::lifetimes::{MAX_BACKOFF, seconds};
use crate::{ids::UnixTime, secret::Fingerprint};

/// With this the code of a [`Retry`] begins when the refresh token may have been spent.
const IN_DOUBT: &str = "ambiguous_";

/// An access token that a resource refused although it should still be good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which one.
    pub fingerprint: Fingerprint,
    /// When that was reported.
    pub at: UnixTime,
}

/// Refreshes are held back, in every process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When this was written; a clock before it makes the record void.
    pub set_at: UnixTime,
    /// Nothing is sent before.
    pub not_before: UnixTime,
    /// Failures in a row.
    pub attempts: u32,
    /// What happened, as a stable word: see [`RetryKind`] for the families.
    pub code: String,
}

/// What kind of trouble a [`Retry`] tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryKind {
    /// Nothing was spent.
    Unspent,
    /// It is not known whether the refresh token was spent; `code` begins with `ambiguous_`.
    Ambiguous,
    /// The operator has to mend the configuration; `code` is the RFC 6749 §5.2 error or `binding_changed`.
    Misconfigured,
}

impl Retry {
    /// Its family, from the code.
    pub fn kind(&self) -> RetryKind {
        if self.code.starts_with(IN_DOUBT) { RetryKind::Ambiguous } else { self.last_kind() }
    }

    /// The family of what happened last, also where the refresh token is in doubt since before: that the operator has to mend
    /// something is no less true then.
    pub fn last_kind(&self) -> RetryKind {
        let in_doubt = self.code.strip_prefix(IN_DOUBT);
        match in_doubt.unwrap_or(&self.code) {
            "invalid_client"
            | "unauthorized_client"
            | "invalid_scope"
            | "invalid_request"
            | "unsupported_grant_type"
            | "invalid_target"
            | "binding_changed" => RetryKind::Misconfigured,
            _ if in_doubt.is_some() => RetryKind::Ambiguous,
            _ => RetryKind::Unspent,
        }
    }

    /// Until when nothing is sent, if that is still ahead. A record from the future (the clock stepped back) is
    /// void, and none holds longer than [`MAX_BACKOFF`].
    pub fn active(&self, now: UnixTime) -> Option<UnixTime> {
        let until = self.not_before.min(self.set_at.saturating_add(seconds(MAX_BACKOFF)));
        (self.set_at <= now && now < until).then_some(until)
    }
}

/// A provider's verdict that the grant is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it was heard.
    pub at: UnixTime,
    /// The error code, `invalid_grant` for example.
    pub code: String,
    /// The refresh token that the verdict is about.
    pub fingerprint: Fingerprint,
    /// When its person was told.
    pub notified_at: Option<UnixTime>,
}
