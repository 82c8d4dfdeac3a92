//! How long the parts of a record last, and how those times are written for a user.

use std::time::Duration;

use crate::ids::UnixTime;

/// How long a started sign-in stays open.
pub const PENDING_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a user can choose between the session and a sign-in with another account, counted from
/// that sign-in.
pub const CHOICE_LIFETIME: Duration = PENDING_LIFETIME;

/// How far the clock of a process may be wrong, either way, without an effect on the sign-ins of
/// others (adr/0027).
pub const CLOCK_ERROR: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a write leaves an expired sign-in, pending or waiting for a choice, in the store.
///
/// A write sees one clock only, which may be wrong by [`CLOCK_ERROR`]. The entry is only garbage by then: an
/// expired sign-in can neither be finished nor chosen. The second half is the time in which a broker
/// removes a sign-in that was not chosen, and revokes it.
pub const SWEEP_GRACE: Duration = Duration::from_secs(2 * CLOCK_ERROR.as_secs());

/// The longest time for which a stored `retry` holds requests back.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// The shortest time between two forced refreshes.
pub const FORCED_REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// The `expires_at` of an access token whose lifetime the provider does not name:
/// 9999-12-31T23:59:59Z.
pub const UNKNOWN_EXPIRY: UnixTime = 253_402_300_799;

/// Whether an `expires_at` is the end of a token's life, and not [`UNKNOWN_EXPIRY`].
pub fn is_known_expiry(expires_at: UnixTime) -> bool {
    expires_at < UNKNOWN_EXPIRY
}

/// Whether `lifetime` plus `grace`, counted from `since`, has not expired. A `since` before 1970,
/// or more than both ahead, comes from a broken clock and counts as expired.
pub(super) fn is_within(since: UnixTime, lifetime: Duration, grace: Duration, now: UnixTime) -> bool {
    since > 0
        && now < since.saturating_add(seconds(lifetime + grace))
        && since <= now.saturating_add(seconds(lifetime + grace))
}

/// A duration in whole seconds, the unit of the store.
pub fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A duration as a user reads it, such as "15 minutes"; in seconds if it is shorter than a minute.
pub fn in_words(duration: Duration) -> String {
    match (duration.as_secs() / 60, duration.as_secs()) {
        (0, 1) => "1 second".to_owned(),
        (0, seconds) => format!("{seconds} seconds"),
        (1, _) => "1 minute".to_owned(),
        (minutes, _) => format!("{minutes} minutes"),
    }
}

/// The time from `now` to `end` as a user reads it.
pub fn left_in_words(end: UnixTime, now: UnixTime) -> String {
    in_words(Duration::from_secs(end.saturating_sub(now).try_into().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_minutes_or_seconds() {
        assert_eq!(in_words(Duration::from_secs(1)), "1 second");
        assert_eq!(left_in_words(1000, 941), "59 seconds");
        assert_eq!(left_in_words(1000, 1001), "0 seconds");
        assert_eq!(in_words(Duration::from_secs(60)), "1 minute");
        assert_eq!(in_words(PENDING_LIFETIME), "15 minutes");
    }
}
