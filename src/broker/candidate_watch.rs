//! A process's own measure of the time for which a candidate can be chosen.
//!
//! `sign_in/account_choice.rs` describes its use.

use std::time::Duration;

use crate::{
    session::{CHOICE_LIFETIME, Session},
    sys::clock::UnixTime,
};

/// The time for which a process keeps a candidate that it has met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// When the process met it, by [`Clock::elapsed`](crate::sys::clock::Clock::elapsed).
    since: Duration,
    /// How long it stays from then on.
    wait: Duration,
}

impl Watch {
    /// Begins to watch at the time `since`, with the clock at `now`.
    pub(super) fn begin(candidate: &Session, since: Duration, now: UnixTime) -> Self {
        let rest = candidate.choice_ends_at().saturating_sub(now);
        let rest = rest.try_into().map_or(Duration::ZERO, Duration::from_secs);
        Self { since, wait: if candidate.awaits_choice(now) { rest } else { CHOICE_LIFETIME } }
    }

    /// The rest of the time at `elapsed`.
    pub(super) fn left(self, elapsed: Duration) -> Duration {
        (self.since + self.wait).saturating_sub(elapsed).min(self.wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::test_session;

    const NOW: UnixTime = 1_795_358_672;
    const START: Duration = Duration::from_secs(5000);

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn a_candidate_is_watched_for_the_rest_of_its_time_and_no_clock_step_shortens_that() {
        let candidate = test_session(NOW, 3600);
        let watch = Watch::begin(&candidate, START, NOW + 300);
        assert_eq!(watch.left(START), minutes(10));
        assert_eq!(watch.left(START + minutes(4)), minutes(6));
        assert_eq!(watch.left(START + minutes(11)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_hours_ahead_or_behind_watches_for_the_whole_time() {
        let candidate = test_session(NOW, 3600);
        for wrong in [-4 * 3600, 4 * 3600] {
            let watch = Watch::begin(&candidate, START, NOW + wrong);
            assert_eq!(watch.left(START + minutes(14)), minutes(1), "{wrong}");
        }
    }
}
