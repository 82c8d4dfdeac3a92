//! Questions about a session that its record and the time answer.

use std::time::Duration;

use super::{
    CHOICE_LIFETIME, CLOCK_ERROR, Ended, Grant, RefreshTarget, Rejected, RetryKind, Revision, SWEEP_GRACE,
    Session, is_known_expiry, limits::is_within, scopes, seconds,
};
use crate::{ids::UnixTime, secret::Fingerprint};

impl Session {
    /// Whether this session is the result of refreshing `target` with this grant.
    pub fn is_refresh_of(&self, target: &RefreshTarget, grant: &Grant) -> bool {
        self.lineage == target.revision.lineage
            && self.generation == target.revision.generation.wrapping_add(1)
            && self.access_token == grant.access_token
            && grant.refresh_token.as_ref().is_none_or(|token| self.refresh_token.as_ref() == Some(token))
    }

    /// Whether the session is live and its account is known. Then a sign-in with another account
    /// waits for the user's choice.
    pub fn has_known_account(&self) -> bool {
        (self.account.is_some() || self.subject.is_some()) && self.verdict().is_none()
    }

    /// For a candidate: when it can no longer be chosen.
    pub fn choice_ends_at(&self) -> UnixTime {
        self.issued_at.saturating_add(seconds(CHOICE_LIFETIME))
    }

    /// For a candidate: whether it can still be chosen. A broken clock's counts as expired, as for
    /// a pending sign-in.
    pub fn awaits_choice(&self, now: UnixTime) -> bool {
        is_within(self.issued_at, CHOICE_LIFETIME, Duration::ZERO, now)
    }

    /// For a candidate: whether its time to be chosen is over beyond doubt, even if this clock is
    /// wrong by [`CLOCK_ERROR`].
    pub fn choice_is_long_over(&self, now: UnixTime) -> bool {
        !is_within(self.issued_at, CHOICE_LIFETIME, CLOCK_ERROR, now)
    }

    /// For a candidate: whether a write drops it, [`SWEEP_GRACE`] after its end.
    pub fn is_swept(&self, now: UnixTime) -> bool {
        !is_within(self.issued_at, CHOICE_LIFETIME, SWEEP_GRACE, now)
    }

    /// The state of the grant.
    pub fn revision(&self) -> Revision {
        Revision { lineage: self.lineage, generation: self.generation }
    }

    /// The state and token that a refresh would spend; `None` without a refresh token.
    pub fn refresh_target(&self) -> Option<RefreshTarget> {
        let token = self.refresh_token.as_ref()?;
        Some(RefreshTarget { revision: self.revision(), fingerprint: token.fingerprint() })
    }

    /// The access token's whole lifetime.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(self.issued_at).try_into().unwrap_or(0))
    }

    /// The rest of the access token's lifetime; zero once it has expired.
    pub fn remaining(&self, now: UnixTime) -> Duration {
        Duration::from_secs(self.expires_at.saturating_sub(now).try_into().unwrap_or(0))
    }

    /// Whether this is the fingerprint of the current access token.
    pub fn has_access_token(&self, fingerprint: &Fingerprint) -> bool {
        fingerprint.matches(&self.access_token.fingerprint())
    }

    /// Whether a caller has reported that a resource rejected the current access token.
    pub fn is_reported(&self) -> bool {
        self.rejected.as_ref().is_some_and(|r| self.has_access_token(&r.fingerprint))
    }

    /// Whether the provider names an end of the access token's life. Otherwise the token works until
    /// a resource rejects it.
    pub fn has_known_expiry(&self) -> bool {
        is_known_expiry(self.expires_at)
    }

    /// Whether such a report is confirmed. Then no caller gets the access token.
    pub fn is_rejected(&self) -> bool {
        self.rejected.as_ref().is_some_and(|r| r.decided) && self.is_reported()
    }

    /// Whether a report asks for a forced refresh that no process has made yet.
    pub fn awaits_forced_refresh(&self) -> bool {
        let is_made = |rejected: &Rejected| {
            let retry = self.retry.as_ref();
            retry.is_some_and(|r| r.kind() == RetryKind::RejectedAgain && r.set_at >= rejected.at)
        };
        self.is_reported() && !self.rejected.as_ref().is_some_and(is_made)
    }

    /// Whether the access token has neither expired nor been rejected.
    pub fn is_usable(&self, now: UnixTime) -> bool {
        !self.remaining(now).is_zero() && !self.is_rejected()
    }

    /// Whether a report may force a refresh: there is a live refresh token that is not in doubt.
    pub fn can_be_forced(&self) -> bool {
        let is_in_doubt = self.retry.as_ref().is_some_and(|r| r.kind() == RetryKind::Ambiguous);
        self.refresh_token.is_some() && self.verdict().is_none() && !is_in_doubt
    }

    /// Whether the session has no usable access token and no refresh token to replace it.
    pub fn is_exhausted(&self, now: UnixTime) -> bool {
        self.refresh_token.is_none() && !self.is_usable(now)
    }

    /// The requested scopes that were not granted. An answer without `scope` granted all of them
    /// (RFC 6749 §5.1).
    pub fn missing_scopes(&self, requested: &[String]) -> Vec<String> {
        scopes::missing(requested, self)
    }

    /// The code that stands for refusals over hours without a verdict.
    pub const STUCK: &str = "stuck";

    /// The error code of the session's end, or [`Session::STUCK`]; `None` if it works.
    pub fn end_code(&self) -> Option<&str> {
        if let Some(ended) = self.verdict() {
            return Some(&ended.code);
        }
        let is_stuck = self.retry.as_ref().is_some_and(|retry| retry.kind() == RetryKind::Stuck);
        is_stuck.then_some(Self::STUCK)
    }

    /// The verdict on the current refresh token. A verdict on an older token does not count.
    pub fn verdict(&self) -> Option<&Ended> {
        let ended = self.ended.as_ref()?;
        match &self.refresh_token {
            Some(token) if !ended.fingerprint.matches(&token.fingerprint()) => None,
            _ => Some(ended),
        }
    }
}
