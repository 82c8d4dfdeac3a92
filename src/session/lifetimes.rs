//! How long the parts of a record last.

use std::time::Duration;

use crate::ids::UnixTime;

/// How long a started sign-in stays open.
pub const PENDING_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// How long a person has to choose between their session and a sign-in as another account, from that sign-in on.
pub const CHOICE_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// For how long a write leaves a started sign-in, or one that waits for a choice, in the store after its time is over. More
/// than an exchange can take that was begun in the last second (connecting, 180 s for the answer, 10 s to ask whose
/// login it is); and the time in which whoever runs a broker takes out a sign-in that nobody chose, and revokes it.
pub const SWEEP_GRACE: Duration = Duration::from_secs(10 * 60);

/// The longest time for which a stored `retry` may hold requests back.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// How long after a forced refresh the next one may follow.
pub const FORCED_REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// Whether `lifetime` and `grace` from `since` are not over. A `since` of before 1970, or more than a lifetime ahead, comes from
/// a broken clock: it is over.
pub(super) fn is_within(since: UnixTime, lifetime: Duration, grace: Duration, now: UnixTime) -> bool {
    since > 0
        && now < since.saturating_add(seconds(lifetime + grace))
        && since <= now.saturating_add(seconds(lifetime))
}

/// A duration in whole seconds, as the store counts.
pub fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
