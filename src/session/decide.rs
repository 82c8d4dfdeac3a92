//! Decides the next step of a request for a token, from the record and the time alone.

use std::time::Duration;

use super::{Ended, FORCED_REFRESH_INTERVAL, Retry, RetryKind, Revision, Session, seconds};
use crate::{ids::UnixTime, secret::Fingerprint};

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
        /// The provider's error code, [`Ended::EXHAUSTED`] or [`Ended::REJECTED`].
        code: String,
    },
}

/// The wishes of a caller that wants a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// How long the token must still live. At most half its lifetime counts, so that a provider of
    /// short-lived tokens does not cause a refresh per request.
    pub min_ttl: Duration,
    /// The access token that the caller has reported as rejected. The caller does not get it again.
    pub refused: Option<Fingerprint>,
    /// Refresh although the token serves, because the login dies when it is idle.
    pub renews: bool,
}

impl Wish {
    /// The wish of a caller that has reported no token.
    pub fn living(min_ttl: Duration) -> Self {
        Self { min_ttl, ..Self::default() }
    }

    /// The wish to keep a login alive.
    pub fn renewing() -> Self {
        Self { renews: true, ..Self::default() }
    }

    /// Whether the caller has reported the session's access token.
    pub fn refuses(&self, session: &Session) -> bool {
        self.refused.as_ref().is_some_and(|token| session.has_access_token(token))
    }
}

/// Decides for a caller with this wish.
pub fn decide(session: &Session, now: UnixTime, wish: &Wish) -> Decision {
    let usable = session.is_usable(now);
    let serves = usable && !wish.refuses(session);
    let remaining = session.remaining(now);
    let lives_long_enough = !remaining.is_zero() && remaining >= wish.min_ttl.min(session.lifetime() / 2);
    let fresh = serves && lives_long_enough;
    if let Some(ended) = session.verdict() {
        // The verdict concerns the refresh token; the access token works for the rest of its life.
        return if serves { Decision::Serve } else { Decision::Ended { code: ended.code.clone() } };
    }
    if session.refresh_token.is_none() {
        let code = if remaining.is_zero() { Ended::EXHAUSTED } else { Ended::REJECTED };
        return if serves { Decision::Serve } else { Decision::Ended { code: code.to_owned() } };
    }
    let retry = session.retry.as_ref();
    let active = retry.and_then(|retry| Some((retry, retry.active(now)?)));
    // A pause after a forced refresh holds back forced refreshes alone. A reporter must not be able
    // to keep the others from their refresh.
    let held_back = active.filter(|(retry, _)| retry.kind() != RetryKind::RejectedAgain);
    if wish.renews && !is_ambiguous(session) {
        return match held_back {
            Some((retry, until)) => {
                Decision::Backoff { until, kind: retry.last_kind(), code: retry.code.clone() }
            }
            None => Decision::Refresh,
        };
    }
    if fresh {
        let due = now >= refresh_due_at(session)
            || is_from_the_future(session, now)
            || session.awaits_forced_refresh();
        return if held_back.is_none() && !is_ambiguous(session) && due {
            Decision::ServeAndRefresh
        } else {
            Decision::Serve
        };
    }
    let rejected_again = || {
        let again = now.saturating_add(seconds(FORCED_REFRESH_INTERVAL));
        let until = active.map_or(again, |(_, until)| until);
        let code = Retry::REJECTED_AGAIN.to_owned();
        Decision::Backoff { until, kind: RetryKind::RejectedAgain, code }
    };
    if is_ambiguous(session) && usable {
        // A second request could be taken for theft. It is not needed while this token works, and
        // one report does not show that it does not.
        return if serves { Decision::Serve } else { rejected_again() };
    }
    if let Some((retry, until)) = held_back {
        return Decision::Backoff { until, kind: retry.last_kind(), code: retry.code.clone() };
    }
    if lives_long_enough && !may_force(session, now) { rejected_again() } else { Decision::Refresh }
}

/// Whether a refresh may begin although the access token has time left. Each report of the token
/// allows one, and a confirmed report one after each pause.
fn may_force(session: &Session, now: UnixTime) -> bool {
    let is_paused = || session.retry.as_ref().is_some_and(|retry| retry.active(now).is_some());
    session.awaits_forced_refresh() || session.is_rejected() && !is_paused()
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

    const MINUTE: Wish = Wish { min_ttl: Duration::from_secs(60), refused: None, renews: false };

    fn session(lifetime: i64, age: i64) -> Session {
        test_session(NOW - age, lifetime)
    }

    #[test]
    fn a_fresh_token_serves_and_is_refreshed_at_three_quarters_of_its_lifetime() {
        assert_eq!(decide(&session(3600, 0), NOW, &MINUTE), Decision::Serve);
        assert_eq!(decide(&session(3600, 2699), NOW, &MINUTE), Decision::Serve);
        assert_eq!(decide(&session(3600, 2700), NOW, &MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&session(3600, 3540), NOW, &MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&session(3600, 3541), NOW, &MINUTE), Decision::Refresh);
        assert_eq!(decide(&session(3600, 3600), NOW, &MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_login_is_renewed_although_its_token_serves_but_not_in_doubt_or_held_back() {
        let renewing = Wish::renewing();
        let mut session = session(3600, 0);
        assert_eq!(decide(&session, NOW, &renewing), Decision::Refresh);
        let retry = |code: &str| {
            Some(Retry { set_at: NOW, not_before: NOW + 30, attempts: 1, code: code.into(), refused: None })
        };
        session.retry = retry("http_503");
        assert!(
            matches!(decide(&session, NOW, &renewing), Decision::Backoff { until, .. } if until == NOW + 30)
        );
        session.retry = retry("ambiguous_timeout");
        assert_eq!(decide(&session, NOW, &renewing), Decision::Serve);
        session.retry = None;
        session.refresh_token = None;
        assert_eq!(decide(&session, NOW, &renewing), Decision::Serve);
    }

    #[test]
    fn a_token_from_the_future_is_refreshed_although_its_end_is_far_away() {
        let hours = 4 * 3600;
        assert_eq!(decide(&session(3600, -hours), NOW, &MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&session(3600, -MAX_SKEW), NOW, &MINUTE), Decision::Serve);
        let mut held_back = session(3600, -hours);
        let code = "http_503".into();
        held_back.retry = Some(Retry { set_at: NOW, not_before: NOW + 30, attempts: 1, code, refused: None });
        assert_eq!(decide(&held_back, NOW, &MINUTE), Decision::Serve);
    }

    #[test]
    fn at_most_half_the_lifetime_counts_of_the_requested_minimum() {
        assert_eq!(decide(&session(10, 5), NOW, &MINUTE), Decision::Serve);
        assert_eq!(decide(&session(10, 6), NOW, &MINUTE), Decision::Refresh);
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
            let at = |age: i64| decide(&session(lifetime, age), NOW, &MINUTE);
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
        assert_eq!(decide(&session(0, 0), NOW, &MINUTE), Decision::Refresh);
        assert_eq!(refresh_due_at(&session(0, 0)), NOW);
        let mut ends_before_it_begins = session(3600, 0);
        ends_before_it_begins.expires_at = ends_before_it_begins.issued_at - 10;
        assert_eq!(decide(&ends_before_it_begins, NOW, &MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_clock_that_steps_by_hours_serves_refreshes_or_waits_but_never_blocks() {
        const STEP: i64 = 4 * 3600;
        let fresh = session(3600, 0);
        assert_eq!(decide(&fresh, NOW - STEP, &MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&fresh, NOW + STEP, &MINUTE), Decision::Refresh);
        let mut refused = session(3600, 0);
        refused.rejected =
            Some(Rejected { fingerprint: refused.access_token.fingerprint(), at: NOW, decided: true });
        for now in [NOW - STEP, NOW, NOW + STEP] {
            assert_eq!(decide(&refused, now, &MINUTE), Decision::Refresh);
        }
        let code = "http_429".to_owned();
        refused.retry = Some(Retry { set_at: NOW, not_before: NOW + 3600, attempts: 1, code, refused: None });
        assert!(matches!(decide(&refused, NOW, &MINUTE), Decision::Backoff { .. }));
        for now in [NOW - STEP, NOW + STEP] {
            assert_eq!(decide(&refused, now, &MINUTE), Decision::Refresh);
        }
    }

    fn reported(mut session: Session, decided: bool) -> Session {
        let fingerprint = session.access_token.fingerprint();
        session.rejected = Some(Rejected { fingerprint, at: NOW, decided });
        session
    }

    fn refusing(session: &Session) -> Wish {
        Wish { refused: Some(session.access_token.fingerprint()), ..MINUTE }
    }

    fn rejected_again(until: UnixTime) -> Decision {
        let code = Retry::REJECTED_AGAIN.to_owned();
        Decision::Backoff { until, kind: RetryKind::RejectedAgain, code }
    }

    #[test]
    fn a_reported_token_serves_others_and_is_refreshed_for_its_reporter() {
        let s = reported(session(3600, 0), false);
        assert_eq!(decide(&s, NOW, &MINUTE), Decision::ServeAndRefresh);
        assert_eq!(decide(&s, NOW, &refusing(&s)), Decision::Refresh);
        let untouched = session(3600, 0);
        assert_eq!(decide(&untouched, NOW, &refusing(&untouched)), rejected_again(NOW + 60), "not recorded");
    }

    #[test]
    fn a_reported_token_that_came_back_serves_others_and_waits_for_its_reporter() {
        let mut s = reported(session(3600, 0), false);
        s.retry = Some(Retry::rejected_again(None, NOW));
        assert_eq!(decide(&s, NOW, &MINUTE), Decision::Serve);
        assert_eq!(decide(&s, NOW, &refusing(&s)), rejected_again(NOW + 60));
        assert_eq!(decide(&s, NOW + 90, &MINUTE), Decision::Serve, "nobody asked for another refresh");
        assert_eq!(decide(&s, NOW + 90, &refusing(&s)), rejected_again(NOW + 150), "it can report again");
        // The pause of a report keeps no caller from the refresh that is due anyway.
        s.retry = Some(Retry::rejected_again(None, NOW + 3590));
        assert_eq!(decide(&s, NOW + 3600, &MINUTE), Decision::Refresh);
        assert_eq!(decide(&s, NOW + 3600, &refusing(&s)), Decision::Refresh);
    }

    #[test]
    fn a_confirmed_report_keeps_the_token_from_every_caller() {
        let mut s = reported(session(3600, 0), true);
        assert_eq!(decide(&s, NOW, &MINUTE), Decision::Refresh);
        s.retry = Some(Retry::rejected_again(None, NOW));
        assert_eq!(decide(&s, NOW, &MINUTE), rejected_again(NOW + 60));
        assert_eq!(decide(&s, NOW + 60, &MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_report_spends_no_refresh_token_that_is_in_doubt() {
        let mut s = reported(session(3600, 0), false);
        let code = "ambiguous_timeout".to_owned();
        s.retry = Some(Retry { set_at: NOW - 10, not_before: NOW - 5, attempts: 1, code, refused: None });
        assert_eq!(decide(&s, NOW, &MINUTE), Decision::Serve);
        assert_eq!(decide(&s, NOW, &refusing(&s)), rejected_again(NOW + 60));
        let confirmed = reported(s, true);
        assert_eq!(decide(&confirmed, NOW, &MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_token_of_unknown_lifetime_without_a_refresh_token_serves_all_but_its_reporter() {
        let mut s = session(3600, 0);
        (s.refresh_token, s.expires_at) = (None, crate::session::UNKNOWN_EXPIRY);
        let years = 20 * 365 * 86_400;
        assert_eq!(decide(&s, NOW + years, &MINUTE), Decision::Serve);
        assert_eq!(decide(&s, NOW, &refusing(&s)), Decision::Ended { code: "rejected".into() });
        s.expires_at = NOW + 3600;
        assert_eq!(decide(&s, NOW + 3600, &MINUTE), Decision::Ended { code: "no_refresh_token".into() });
    }

    #[test]
    fn an_ended_session_serves_its_access_token_until_that_expires() {
        let mut s = session(3600, 3590);
        let fingerprint = s.refresh_token.as_ref().expect("has one").fingerprint();
        s.ended = Some(Ended { at: NOW, code: "invalid_grant".into(), fingerprint, notified_at: None });
        assert_eq!(decide(&s, NOW, &MINUTE), Decision::Serve);
        assert_eq!(decide(&s, NOW + 10, &MINUTE), Decision::Ended { code: "invalid_grant".into() });
        s.refresh_token = Some(RefreshToken::new("a newer one"));
        assert_eq!(decide(&s, NOW + 10, &MINUTE), Decision::Refresh);
    }

    #[test]
    fn a_backoff_holds_for_at_most_an_hour_and_not_when_it_was_set_in_the_future() {
        let mut s = session(3600, 3600);
        let retry = |set_at, not_before| {
            Some(Retry { set_at, not_before, attempts: 1, code: "http_503".into(), refused: None })
        };
        s.retry = retry(NOW, NOW + 30);
        let until = NOW + 30;
        let held = Decision::Backoff { until, kind: RetryKind::Unspent, code: "http_503".into() };
        assert_eq!(decide(&s, NOW, &MINUTE), held);
        assert_eq!(decide(&s, NOW + 30, &MINUTE), Decision::Refresh);
        s.retry = retry(NOW + 4 * 3600, NOW + 4 * 3600 + 30);
        assert_eq!(decide(&s, NOW, &MINUTE), Decision::Refresh, "the clock stepped back");
        s.retry = retry(NOW - 3600, NOW + 86_400);
        assert_eq!(decide(&s, NOW, &MINUTE), Decision::Refresh, "an hour is over");
    }

    #[test]
    fn an_ambiguous_refresh_is_not_repeated_while_the_access_token_works() {
        let mut s = session(3600, 3550);
        s.retry = Some(Retry {
            set_at: NOW - 10,
            not_before: NOW - 5,
            attempts: 1,
            code: "ambiguous_timeout".into(),
            refused: None,
        });
        assert_eq!(decide(&s, NOW, &MINUTE), Decision::Serve);
        assert_eq!(decide(&s, NOW + 50, &MINUTE), Decision::Refresh);
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
