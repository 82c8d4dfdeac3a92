//! How long the parts of a record last, and how those times are written for a user.

use std::time::Duration;

use crate::ids::UnixTime;

/// How long a started sign-in stays open.
pub const PENDING_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a user can choose between the session and a sign-in with another account, counted from
/// that sign-in.
pub const CHOICE_LIFETIME: Duration = PENDING_LIFETIME;

/// How long a write leaves an expired sign-in, pending or waiting for a choice, in the store.
///
/// An exchange that began in the last second needs less: connecting, 180 s for the answer, and 10 s
/// for the account. Within the same time a broker removes a sign-in that was not chosen, and
/// revokes it.
pub const SWEEP_GRACE: Duration = Duration::from_secs(10 * 60);

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
/// or more than a lifetime ahead, comes from a broken clock and counts as expired.
pub(super) fn is_within(since: UnixTime, lifetime: Duration, grace: Duration, now: UnixTime) -> bool {
    since > 0
        && now < since.saturating_add(seconds(lifetime + grace))
        && since <= now.saturating_add(seconds(lifetime))
}

/// A duration in whole seconds, the unit of the store.
pub fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A duration in whole minutes as a user reads it, such as "15 minutes".
pub fn in_words(duration: Duration) -> String {
    match duration.as_secs() / 60 {
        1 => "1 minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_minutes() {
        assert_eq!(in_words(Duration::from_secs(60)), "1 minute");
        assert_eq!(in_words(PENDING_LIFETIME), "15 minutes");
    }
}
