//! Failures that a session records: a rejected token, refreshes that are held back, an ended grant.

use super::limits::{MAX_BACKOFF, seconds};
use crate::{ids::UnixTime, secret::Fingerprint};

/// Prefix of a [`Retry`]'s code when the refresh token may have been spent.
const IN_DOUBT: &str = "ambiguous_";

/// An access token that a resource rejected before its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Fingerprint of the access token.
    pub fingerprint: Fingerprint,
    /// When the rejection was reported.
    pub at: UnixTime,
    /// Whether a refresh or the userinfo endpoint has confirmed the report.
    pub decided: bool,
}

/// Refreshes are held back, in every process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When this was written; an earlier clock makes the record void.
    pub set_at: UnixTime,
    /// No request is sent before this time.
    pub not_before: UnixTime,
    /// Number of failures in a row.
    pub attempts: u32,
    /// The failure as a stable word: see [`RetryKind`] for the families.
    pub code: String,
}

/// The family of failures that a [`Retry`] records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryKind {
    /// Nothing was spent.
    Unspent,
    /// The refresh token may have been spent; `code` begins with `ambiguous_`.
    Ambiguous,
    /// The operator must correct the configuration; `code` is the RFC 6749 §5.2 error or
    /// `binding_changed`.
    Misconfigured,
}

impl Retry {
    /// The family of the record.
    pub fn kind(&self) -> RetryKind {
        if self.code.starts_with(IN_DOUBT) { RetryKind::Ambiguous } else { self.last_kind() }
    }

    /// The family of the last failure alone. It can be [`RetryKind::Misconfigured`] while an
    /// earlier failure keeps the refresh token in doubt.
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

    /// The time until which no request is sent, if it is still ahead. A record from the future is
    /// void, because the clock has stepped back. No record holds longer than [`MAX_BACKOFF`].
    pub fn active(&self, now: UnixTime) -> Option<UnixTime> {
        let until = self.not_before.min(self.set_at.saturating_add(seconds(MAX_BACKOFF)));
        (self.set_at <= now && now < until).then_some(until)
    }
}

/// A provider's verdict that the grant has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When the verdict arrived.
    pub at: UnixTime,
    /// The error code, such as `invalid_grant`.
    pub code: String,
    /// Fingerprint of the refresh token that the verdict refers to.
    pub fingerprint: Fingerprint,
    /// When the user was notified.
    pub notified_at: Option<UnixTime>,
}
