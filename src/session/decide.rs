//! Decides the next step of a request for a token, from the record and the time alone.

use std::time::Duration;

use super::{RetryKind, Revision, Session, seconds};
use crate::ids::UnixTime;

/// The largest difference between clocks that no step has moved, in seconds.
const MAX_SKEW: i64 = 300;

/// The next step of a caller that wants a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Use the access token.
    Serve,
    /// Use the access token, and refresh in the background.
    ServeAndRefresh,
    /// Refresh first.
    Refresh,
    /// Wait: no request is sent before `until`.
    Backoff {
        /// Unix seconds.
        until: UnixTime,
        /// The family of the last failure.
        kind: RetryKind,
        /// The failure as a stable word.
        code: String,
    },
    /// Sign in again: the session has ended.
    Ended {
        /// The provider's error code, or `no_refresh_token`.
        code: String,
    },
}

/// Decides for a caller that wants the token to live at least `min_ttl`. At most half the lifetime
/// counts, so that a provider of short-lived tokens does not cause a refresh per request.
pub fn decide(session: &Session, now: UnixTime, min_ttl: Duration) -> Decision {
    let usable = session.is_usable(now);
    let fresh = usable && session.remaining(now) >= min_ttl.min(session.lifetime() / 2);
    if let Some(ended) = session.verdict() {
        // The verdict concerns the refresh token; the access token works for the rest of its life.
        return if usable { Decision::Serve } else { Decision::Ended { code: ended.code.clone() } };
    }
    if session.refresh_token.is_none() {
        return if usable { Decision::Serve } else { Decision::Ended { code: "no_refresh_token".into() } };
    }
    let held_back = session.retry.as_ref().and_then(|retry| Some((retry, retry.active(now)?)));
    if fresh {
        let due = now >= refresh_due_at(session) || is_from_the_future(session, now);
        return if held_back.is_none() && !is_ambiguous(session) && due {
            Decision::ServeAndRefresh
        } else {
            Decision::Serve
        };
    }
    if is_ambiguous(session) && usable {
        // A second request could be taken for theft; it is not needed while this token works.
        return Decision::Serve;
    }
    match held_back {
        Some((retry, until)) => {
            Decision::Backoff { until, kind: retry.last_kind(), code: retry.code.clone() }
        }
        None => Decision::Refresh,
    }
}

/// The share of the lifetime that is left when a refresh in the background is due: one in this many
/// parts.
const PARTS_LEFT_WHEN_DUE: i64 = 4;

/// When a refresh in the background is due: after three quarters of the access token's lifetime.
pub fn refresh_due_at(session: &Session) -> UnixTime {
    let lifetime = seconds(session.lifetime());
    session.issued_at.saturating_add(lifetime - lifetime / PARTS_LEFT_WHEN_DUE)
}

/// Whether a caller that saw `seen` can take the session as it is now: another process has
/// committed since, and its token works.
pub fn adopts(session: &Session, seen: Option<Revision>, now: UnixTime) -> bool {
    Some(session.revision()) != seen && session.is_usable(now)
}

/// Whether the clock has stepped back since the token was issued. Then the rest of its lifetime is
/// unknown.
fn is_from_the_future(session: &Session, now: UnixTime) -> bool {
    session.issued_at > now.saturating_add(MAX_SKEW)
}

fn is_ambiguous(session: &Session) -> bool {
    session.retry.as_ref().is_some_and(|retry| retry.kind() == RetryKind::Ambiguous)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        secret::RefreshToken,
        session::{Ended, Rejected, Retry, test_session},
    };

    const NOW: UnixTime = 1_795_358_672;
    const MINUTE: Duration = Duration::from_secs(60);

    fn session(lifetime: i64, age: i64) -> Session {
        test_session(NOW - age, lifetime)
    }

    #[test]
    fn a_fresh_token_serves_and_is_refreshed_at_three_quarters_of_its_lifetime() {
        assert_eq!(decide(&session(3600, 0), NOW, MINUTE), Decision::Serve);
        assert_eq!(decide(&session(3600, 2699), NOW, MINUTE), Decision::Serve);
        assert_eq!(decide(&session(3600, 2700), NOW, MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&session(3600, 3540), NOW, MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&session(3600, 3541), NOW, MINUTE), Decision::Refresh);
        assert_eq!(decide(&session(3600, 3600), NOW, MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_token_from_the_future_is_refreshed_although_its_end_is_far_away() {
        let hours = 4 * 3600;
        assert_eq!(decide(&session(3600, -hours), NOW, MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&session(3600, -MAX_SKEW), NOW, MINUTE), Decision::Serve);
        let mut held_back = session(3600, -hours);
        let code = "http_503".into();
        held_back.retry = Some(Retry { set_at: NOW, not_before: NOW + 30, attempts: 1, code });
        assert_eq!(decide(&held_back, NOW, MINUTE), Decision::Serve);
    }

    #[test]
    fn at_most_half_the_lifetime_counts_of_the_requested_minimum() {
        assert_eq!(decide(&session(10, 5), NOW, MINUTE), Decision::Serve);
        assert_eq!(decide(&session(10, 6), NOW, MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_token_of_any_lifetime_serves_for_half_of_it_and_until_a_minute_before_its_end() {
        const DAY: i64 = 86_400;
        for (lifetime, due, last) in [
            // Too short for a refresh in the background: the wanted life is as long as the rest at
            // three quarters, or longer.
            (5, None, 2),
            (10, None, 5),
            (60, None, 30),
            (239, None, 179),
            // From three quarters of its life to a minute before its end it is refreshed in the
            // background.
            (300, Some(225), 240),
            (3600, Some(2700), 3540),
            (8 * 3600, Some(6 * 3600), 8 * 3600 - 60),
            (10 * DAY, Some(10 * DAY / 4 * 3), 10 * DAY - 60),
            (90 * DAY, Some(90 * DAY / 4 * 3), 90 * DAY - 60),
        ] {
            let at = |age: i64| decide(&session(lifetime, age), NOW, MINUTE);
            assert_eq!(at(0), Decision::Serve, "{lifetime}");
            let last_alone = due.map_or(last, |due| due - 1);
            assert_eq!(at(last_alone), Decision::Serve, "{lifetime}");
            if let Some(due) = due {
                assert_eq!(at(due), Decision::ServeAndRefresh, "{lifetime}");
                assert_eq!(at(last), Decision::ServeAndRefresh, "{lifetime}");
            }
            assert_eq!(at(last + 1), Decision::Refresh, "{lifetime}");
            assert_eq!(at(lifetime), Decision::Refresh, "{lifetime}");
            assert!(lifetime - last <= (lifetime + 1) / 2 + 1, "{lifetime}: no hot loop");
        }
    }

    #[test]
    fn a_token_with_a_lifetime_of_zero_is_refreshed_and_not_served() {
        assert_eq!(decide(&session(0, 0), NOW, MINUTE), Decision::Refresh);
        assert_eq!(refresh_due_at(&session(0, 0)), NOW);
        let mut ends_before_it_begins = session(3600, 0);
        ends_before_it_begins.expires_at = ends_before_it_begins.issued_at - 10;
        assert_eq!(decide(&ends_before_it_begins, NOW, MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_clock_that_steps_by_hours_serves_refreshes_or_waits_but_never_blocks() {
        const STEP: i64 = 4 * 3600;
        let fresh = session(3600, 0);
        assert_eq!(decide(&fresh, NOW - STEP, MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&fresh, NOW + STEP, MINUTE), Decision::Refresh);
        let mut refused = session(3600, 0);
        refused.rejected =
            Some(Rejected { fingerprint: refused.access_token.fingerprint(), at: NOW, decided: false });
        for now in [NOW - STEP, NOW, NOW + STEP] {
            assert_eq!(decide(&refused, now, MINUTE), Decision::Refresh);
        }
        let code = "http_429".to_owned();
        refused.retry = Some(Retry { set_at: NOW, not_before: NOW + 3600, attempts: 1, code });
        assert!(matches!(decide(&refused, NOW, MINUTE), Decision::Backoff { .. }));
        for now in [NOW - STEP, NOW + STEP] {
            assert_eq!(decide(&refused, now, MINUTE), Decision::Refresh);
        }
    }

    #[test]
    fn a_rejected_token_does_not_serve() {
        let mut s = session(3600, 0);
        s.rejected = Some(Rejected { fingerprint: s.access_token.fingerprint(), at: NOW, decided: false });
        assert_eq!(decide(&s, NOW, MINUTE), Decision::Refresh);
    }

    #[test]
    fn an_ended_session_serves_its_access_token_until_that_expires() {
        let mut s = session(3600, 3590);
        let fingerprint = s.refresh_token.as_ref().expect("has one").fingerprint();
        s.ended = Some(Ended { at: NOW, code: "invalid_grant".into(), fingerprint, notified_at: None });
        assert_eq!(decide(&s, NOW, MINUTE), Decision::Serve);
        assert_eq!(decide(&s, NOW + 10, MINUTE), Decision::Ended { code: "invalid_grant".into() });
        s.refresh_token = Some(RefreshToken::new("a newer one"));
        assert_eq!(decide(&s, NOW + 10, MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_backoff_holds_for_at_most_an_hour_and_not_when_it_was_set_in_the_future() {
        let mut s = session(3600, 3600);
        let retry =
            |set_at, not_before| Some(Retry { set_at, not_before, attempts: 1, code: "http_503".into() });
        s.retry = retry(NOW, NOW + 30);
        let until = NOW + 30;
        let held = Decision::Backoff { until, kind: RetryKind::Unspent, code: "http_503".into() };
        assert_eq!(decide(&s, NOW, MINUTE), held);
        assert_eq!(decide(&s, NOW + 30, MINUTE), Decision::Refresh);
        s.retry = retry(NOW + 4 * 3600, NOW + 4 * 3600 + 30);
        assert_eq!(decide(&s, NOW, MINUTE), Decision::Refresh, "the clock stepped back");
        s.retry = retry(NOW - 3600, NOW + 86_400);
        assert_eq!(decide(&s, NOW, MINUTE), Decision::Refresh, "an hour is over");
    }

    #[test]
    fn an_ambiguous_refresh_is_not_repeated_while_the_access_token_works() {
        let mut s = session(3600, 3550);
        s.retry = Some(Retry {
            set_at: NOW - 10,
            not_before: NOW - 5,
            attempts: 1,
            code: "ambiguous_timeout".into(),
        });
        assert_eq!(decide(&s, NOW, MINUTE), Decision::Serve);
        assert_eq!(decide(&s, NOW + 50, MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_loser_adopts_any_commit_that_works() {
        let s = session(3600, 0);
        let mut before = s.revision();
        assert!(!adopts(&s, Some(before), NOW));
        before.generation -= 1;
        assert!(adopts(&s, Some(before), NOW));
        assert!(!adopts(&s, Some(before), NOW + 3600), "it has expired meanwhile");
    }
}
