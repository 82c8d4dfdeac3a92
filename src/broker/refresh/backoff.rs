//! The pause after a failed refresh.

use std::time::Duration;

use crate::session::RetryKind;

/// How long no process tries again: 1 s, doubled with each failure in a row, at most 5 min, ±30 %
/// by `fraction` (0 to 1). A misconfiguration is tried every 5 min to 1 h.
pub(super) fn backoff(attempts: u32, kind: RetryKind, fraction: f64) -> Duration {
    let (first, cap) = match kind {
        RetryKind::Misconfigured | RetryKind::Stuck => (300, 3600),
        RetryKind::Unspent | RetryKind::Ambiguous | RetryKind::RejectedAgain => (1, 300),
    };
    let seconds = (first << (attempts.saturating_sub(1)).min(16)).min(cap);
    let jittered = Duration::from_secs(seconds).mul_f64(0.7 + 0.6 * fraction);
    // The store counts whole seconds. Rounding up keeps a pause from becoming zero.
    Duration::from_secs(jittered.as_secs_f64().ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_from_one_second_to_five_minutes_within_thirty_percent() {
        let middle = |attempts| backoff(attempts, RetryKind::Unspent, 0.5).as_secs();
        assert_eq!((1..=10).map(middle).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(middle(u32::MAX), 300);
        assert_eq!(backoff(5, RetryKind::Unspent, 0.0).as_secs(), 12);
        assert_eq!(backoff(5, RetryKind::Unspent, 1.0).as_secs(), 21);
    }

    #[test]
    fn a_misconfiguration_is_tried_every_five_minutes_to_an_hour() {
        assert_eq!(backoff(1, RetryKind::Misconfigured, 0.5).as_secs(), 300);
        assert_eq!(backoff(9, RetryKind::Misconfigured, 0.5).as_secs(), 3600);
    }
}
