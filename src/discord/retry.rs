//! When a failed request to Discord is sent again.
//!
//! The pauses of a [`Backoff`] double from one second, vary by 30 %, and are never shorter than
//! Discord's `Retry-After`. The caller knows whether a failure can pass by itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::sys::random;

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// The longest `Retry-After` that is obeyed. Discord's own bans end within an hour.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// The longest pause before another attempt to connect.
pub(super) const MAX_CONNECT_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The longest pause before another attempt to show a text for which a user waits.
pub(super) const MAX_SHOW_PAUSE: Duration = Duration::from_secs(30);

/// The pauses between attempts that fail in a row.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    failures: u32,
    longest: Duration,
}

impl Backoff {
    /// Pauses of at most `longest`, give or take 30 %.
    pub(super) fn up_to(longest: Duration) -> Self {
        Self { failures: 0, longest }
    }

    /// Returns the pause after a failure. `retry_after` is the one that the answer asked for.
    pub(super) fn pause(&mut self, retry_after: Option<Duration>) -> Duration {
        self.pause_with(retry_after, random::fraction())
    }

    fn pause_with(&mut self, retry_after: Option<Duration>, fraction: f64) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        doubled.mul_f64(0.7 + 0.6 * fraction).max(asked)
    }

    /// Starts over after a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The tries of one request within a limited time. Only for a request that may arrive twice.
#[derive(Debug)]
pub(super) struct Tries {
    deadline: Instant,
    backoff: Backoff,
}

impl Tries {
    /// Begins now.
    pub(super) fn within(time: Duration) -> Self {
        Self { deadline: Instant::now() + time, backoff: Backoff::up_to(MAX_SHOW_PAUSE) }
    }

    /// Waits before the next try. Returns `false` if there is none: the last one did not fail, or not
    /// for a reason that passes, or the time is over.
    pub(super) async fn again(&mut self, has_failed_for_now: bool) -> bool {
        let next = Instant::now() + self.backoff.pause(None);
        let goes_on = has_failed_for_now && next <= self.deadline;
        if goes_on {
            tokio::time::sleep_until(next).await;
        }
        goes_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(fraction: f64, longest: Duration) -> Vec<u64> {
        let mut backoff = Backoff::up_to(longest);
        (0..11).map(|_| backoff.pause_with(None, fraction).as_millis() as u64 / 100).collect()
    }

    #[test]
    fn pauses_double_from_one_second_to_five_minutes_within_thirty_percent() {
        let middle = [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3000, 3000];
        assert_eq!(seconds(0.5, MAX_CONNECT_PAUSE), middle);
        assert_eq!(seconds(0.0, MAX_CONNECT_PAUSE)[9..], [2100, 2100]);
        assert_eq!(seconds(1.0, MAX_CONNECT_PAUSE)[9..], [3900, 3900]);
        assert_eq!(seconds(0.5, MAX_SHOW_PAUSE)[..7], [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_retry_after_is_obeyed_for_up_to_an_hour_and_a_success_starts_over() {
        let mut backoff = Backoff::up_to(MAX_CONNECT_PAUSE);
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(backoff.pause_with(asked(40), 0.5), Duration::from_secs(40));
        assert_eq!(backoff.pause_with(asked(1), 0.5), Duration::from_secs(2), "the longer one counts");
        assert_eq!(backoff.pause_with(asked(86_400), 0.5), MAX_RETRY_AFTER);
        backoff.reset();
        assert_eq!(backoff.pause_with(None, 0.5), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_of_failures_is_survived_and_an_endless_one_is_given_up() {
        let began = Instant::now();
        let mut tries = Tries::within(Duration::from_secs(120));
        while began.elapsed() < Duration::from_secs(60) {
            assert!(tries.again(true).await);
        }
        assert!(!tries.again(false).await);
        let mut tries = Tries::within(Duration::from_secs(120));
        while tries.again(true).await {}
        assert!(began.elapsed() < Duration::from_secs(60 + 40 + 120), "it gives up in the end");
    }
}
