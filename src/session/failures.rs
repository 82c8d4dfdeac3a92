//! Failures that a session records: a rejected token, refreshes that are held back, an ended grant.

use std::time::Duration;

use super::limits::{FORCED_REFRESH_INTERVAL, MAX_BACKOFF, seconds};
use crate::{ids::UnixTime, secret::Fingerprint};

/// Prefix of a [`Retry`]'s code when the refresh token may have been spent.
const IN_DOUBT: &str = "ambiguous_";

/// Prefix of a [`Retry`]'s code when the provider has refused the refresh for hours.
const STUCK: &str = "stuck_";

/// How often, and for how long, a provider must refuse a refresh in the same words before the
/// session counts as stuck.
const STUCK_AFTER: (u32, Duration) = (5, Duration::from_secs(6 * 60 * 60));

/// A report that a resource rejected an access token before its expiry.
///
/// An undecided report times one forced refresh. It refuses the token to its reporter alone,
/// because the reporter may be wrong or hostile. A refresh decides by bringing another token, and
/// the userinfo endpoint by refusing the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Fingerprint of the access token.
    pub fingerprint: Fingerprint,
    /// When the rejection was reported. It dates the last forced refresh.
    pub at: UnixTime,
    /// Whether the userinfo endpoint has confirmed the report. Then no caller gets the token.
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
    /// The provider's own refusals since the last success, if there are any.
    pub refused: Option<Refusals>,
}

/// Refusals of a refresh that are no verdict: the same word each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// The refusal as a stable word, such as `http_403`.
    pub code: String,
    /// When the first of them arrived.
    pub since: UnixTime,
    /// Their number.
    pub times: u32,
    /// When the user was notified that the session is stuck.
    pub notified_at: Option<UnixTime>,
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
    /// The provider has refused for hours without a verdict, and other sessions of the client are
    /// refreshed; `code` begins with `stuck_`.
    Stuck,
    /// A forced refresh succeeded and brought the reported access token back; `code` is
    /// `rejected_again`. It holds back forced refreshes alone.
    RejectedAgain,
}

// === impl Refusals ===

impl Refusals {
    /// Counts one more refusal. Another word begins a new count.
    #[must_use]
    pub fn count(before: Option<&Self>, code: &str, now: UnixTime) -> Self {
        match before {
            Some(same) if same.code == code && same.since <= now => {
                Self { times: same.times.saturating_add(1), ..same.clone() }
            }
            _ => Self { code: code.to_owned(), since: now, times: 1, notified_at: None },
        }
    }

    /// The number of refusals as words: `once`, `7 times`.
    pub fn in_words(&self) -> String {
        if self.times == 1 { "once".to_owned() } else { format!("{} times", self.times) }
    }

    /// Whether the provider has refused often enough, and for long enough.
    pub fn are_lasting(&self, now: UnixTime) -> bool {
        let (times, duration) = STUCK_AFTER;
        self.times >= times && now.saturating_sub(self.since) >= seconds(duration)
    }
}

// === impl Retry ===

impl Retry {
    /// The code when a forced refresh brought the reported access token back.
    pub const REJECTED_AGAIN: &str = "rejected_again";

    /// The record after a forced refresh that brought the reported access token back. Forced
    /// refreshes pause for [`FORCED_REFRESH_INTERVAL`], twice as long each time, at most
    /// [`MAX_BACKOFF`].
    pub(super) fn rejected_again(before: Option<&Self>, now: UnixTime) -> Self {
        let earlier = before.filter(|before| before.kind() == RetryKind::RejectedAgain);
        let attempts = earlier.map_or(0, |before| before.attempts).saturating_add(1);
        let pause = FORCED_REFRESH_INTERVAL * (1 << (attempts - 1).min(6));
        let not_before = now.saturating_add(seconds(pause.min(MAX_BACKOFF)));
        Self { set_at: now, not_before, attempts, code: Self::REJECTED_AGAIN.to_owned(), refused: None }
    }

    /// Returns the code of a session that counts as stuck because of this refusal.
    pub fn stuck_code(refusal: &str) -> String {
        format!("{STUCK}{refusal}")
    }

    /// The family of the record.
    pub fn kind(&self) -> RetryKind {
        RetryKind::of(&self.code)
    }

    /// The family of the last failure alone. It can be [`RetryKind::Misconfigured`] while an
    /// earlier failure keeps the refresh token in doubt.
    pub fn last_kind(&self) -> RetryKind {
        RetryKind::of_last(&self.code)
    }

    /// The time until which no request is sent, if it is still ahead. A record from the future is
    /// void, because the clock has stepped back. No record holds longer than [`MAX_BACKOFF`].
    pub fn active(&self, now: UnixTime) -> Option<UnixTime> {
        let until = self.not_before.min(self.set_at.saturating_add(seconds(MAX_BACKOFF)));
        (self.set_at <= now && now < until).then_some(until)
    }
}

// === impl RetryKind ===

impl RetryKind {
    /// The family of a code.
    pub fn of(code: &str) -> Self {
        if code.starts_with(IN_DOUBT) { Self::Ambiguous } else { Self::of_last(code) }
    }

    fn of_last(code: &str) -> Self {
        let in_doubt = code.strip_prefix(IN_DOUBT);
        match in_doubt.unwrap_or(code) {
            "invalid_client"
            | "unauthorized_client"
            | "invalid_scope"
            | "invalid_request"
            | "unsupported_grant_type"
            | "invalid_target"
            | "binding_changed" => Self::Misconfigured,
            Retry::REJECTED_AGAIN => Self::RejectedAgain,
            code if code.starts_with(STUCK) => Self::Stuck,
            _ if in_doubt.is_some() => Self::Ambiguous,
            _ => Self::Unspent,
        }
    }
}

/// The codes that a provider did not accept for one sign-in. They throttle the next ones, so that a
/// user cannot make threadkey send codes at the rate of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongCodes {
    /// Their number.
    pub times: u32,
    /// When the last of them was refused.
    pub at: UnixTime,
}

impl WrongCodes {
    /// How many codes are sent without a pause.
    const FREE: u32 = 3;

    /// Counts one more.
    #[must_use]
    pub fn count(before: Option<Self>, now: UnixTime) -> Self {
        Self { times: before.map_or(0, |before| before.times).saturating_add(1), at: now }
    }

    /// The time before which no further code is sent, if it is still ahead: 10 s after the third
    /// wrong code, and twice as long after each further one. A record from the future is void.
    pub fn pause_until(self, now: UnixTime) -> Option<UnixTime> {
        let extra = self.times.checked_sub(Self::FREE)?;
        let until = self.at.saturating_add(10 << extra.min(10));
        (self.at <= now && now < until).then_some(until)
    }
}

/// A provider's verdict that the grant has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When the verdict arrived.
    pub at: UnixTime,
    /// The error code, such as `invalid_grant`; [`Ended::EXHAUSTED`] without a refresh token.
    pub code: String,
    /// Fingerprint of the refresh token that the verdict refers to. Without one, of the access
    /// token.
    pub fingerprint: Fingerprint,
    /// When the user was notified.
    pub notified_at: Option<UnixTime>,
}

impl Ended {
    /// The code of a session without a refresh token whose access token has expired.
    pub const EXHAUSTED: &str = "no_refresh_token";

    /// The code of a session without a refresh token whose access token was rejected.
    pub const REJECTED: &str = "rejected";

    /// The code of a session for which a refresh brought tokens of another account or client.
    pub const OTHER_ACCOUNT: &str = "other_account";
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_795_358_672;

    #[test]
    fn only_five_refusals_in_the_same_words_over_six_hours_are_lasting() {
        let mut refusals = Refusals::count(None, "http_403", NOW);
        for hour in 1..=5 {
            let now = NOW + hour * 3600;
            refusals = Refusals::count(Some(&refusals), "http_403", now);
            assert!(!refusals.are_lasting(now), "{hour} h");
        }
        assert!(refusals.are_lasting(NOW + 6 * 3600));
        let other = Refusals::count(Some(&refusals), "http_400", NOW + 6 * 3600);
        assert_eq!((other.times, other.since), (1, NOW + 6 * 3600));
        let few = Refusals { times: 4, ..refusals.clone() };
        assert!(!few.are_lasting(NOW + 24 * 3600));
        let stepped = Refusals::count(Some(&refusals), "http_403", NOW - 3600);
        assert_eq!(stepped.times, 1, "the clock stepped back");
    }

    #[test]
    fn each_code_belongs_to_one_family() {
        for (code, kind) in [
            ("http_503", RetryKind::Unspent),
            ("ambiguous_timeout", RetryKind::Ambiguous),
            ("ambiguous_invalid_client", RetryKind::Ambiguous),
            ("invalid_client", RetryKind::Misconfigured),
            ("stuck_http_403", RetryKind::Stuck),
            ("rejected_again", RetryKind::RejectedAgain),
        ] {
            let retry = Retry { set_at: 0, not_before: 0, attempts: 1, code: code.into(), refused: None };
            assert_eq!(retry.kind(), kind, "{code}");
        }
    }

    #[test]
    fn wrong_codes_pause_from_the_third_on_and_twice_as_long_each_time() {
        let pause = |times| WrongCodes { times, at: NOW }.pause_until(NOW).map(|until| until - NOW);
        let pauses: Vec<_> = (1..=7).map(pause).collect();
        assert_eq!(pauses, [None, None, Some(10), Some(20), Some(40), Some(80), Some(160)]);
        assert_eq!(pause(u32::MAX), Some(10_240));
        let wrong = WrongCodes { times: 3, at: NOW };
        assert_eq!(wrong.pause_until(NOW + 10), None);
        assert_eq!(wrong.pause_until(NOW - 60), None, "the clock stepped back");
    }
}
