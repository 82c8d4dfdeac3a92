//! The ends of a login: when its refresh token stops working, whatever its access token does.
//!
//! A login has up to two of them. The *absolute* end comes after a fixed time from the sign-in, and
//! no refresh moves it. The *idle* end comes after a fixed time without a refresh, so each refresh
//! moves it.
//!
//! A provider's own words count before the settings. An answer names one end, that of its refresh
//! token. At a provider with an idle end it is that one, because each refresh renews it. At any
//! other it is the absolute one, until a later answer names a later end.

use std::time::Duration;

use super::{Session, seconds};
use crate::ids::UnixTime;

/// The longest time before an absolute end at which its user is notified.
pub const LONGEST_NOTICE: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The notice comes when one part in this many of a login's whole time is left.
const PARTS_LEFT_AT_NOTICE: i64 = 10;

/// A login that lives shorter has no notice: its user remembers the sign-in.
const SHORTEST_NOTICED: Duration = Duration::from_secs(24 * 60 * 60);

/// An end that moves by less is the same end: an answer names it in seconds from its own moment.
const SAME_END: Duration = Duration::from_secs(60 * 60);

/// The settings about the ends of a provider's logins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginLimits {
    /// The time from the sign-in after which a login ends, whatever happens.
    pub login: Option<Duration>,
    /// The time without a refresh after which a login ends.
    pub idle: Option<Duration>,
}

/// When a login ends, in Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoginEnds {
    /// No refresh moves this end.
    pub absolute: Option<UnixTime>,
    /// Each refresh moves this end.
    pub idle: Option<UnixTime>,
}

// === impl Session ===

impl Session {
    /// Returns the known ends of the login. A session that has ended has none any more, and one
    /// without a refresh token ends with its access token.
    pub fn login_ends(&self, limits: &LoginLimits) -> LoginEnds {
        if self.refresh_token.is_none() || self.verdict().is_some() {
            return LoginEnds::default();
        }
        let after = |start: UnixTime, time: Duration| start.saturating_add(seconds(time));
        let absolute = limits.login.and_then(|login| Some(after(self.signed_in_at?, login)));
        let idle = limits.idle.map(|idle| after(self.issued_at, idle));
        match limits.idle {
            Some(_) => LoginEnds { absolute, idle: self.refresh_expires_at.or(idle) },
            None => LoginEnds { absolute: self.refresh_expires_at.or(absolute), idle },
        }
    }

    /// Returns the absolute end of the login and the time from which its user should know of it.
    /// `None` without such an end, or if the user was notified of it.
    pub fn notice_of_end(&self, limits: &LoginLimits) -> Option<(UnixTime, UnixTime)> {
        let end = self.login_ends(limits).absolute?;
        let whole = end.saturating_sub(self.signed_in_at.unwrap_or(self.issued_at));
        let is_same = |notified: UnixTime| end <= notified.saturating_add(seconds(SAME_END));
        if whole < seconds(SHORTEST_NOTICED) || self.notified_end.is_some_and(is_same) {
            return None;
        }
        let before = (whole / PARTS_LEFT_AT_NOTICE).min(seconds(LONGEST_NOTICE));
        Some((end, end.saturating_sub(before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::test_session;

    const NOW: UnixTime = 1_795_358_672;
    const DAY: i64 = 86_400;

    fn days(days: u64) -> Option<Duration> {
        Some(Duration::from_secs(days * 86_400))
    }

    fn session() -> Session {
        Session { signed_in_at: Some(NOW), ..test_session(NOW, 3600) }
    }

    #[test]
    fn a_login_ends_after_the_time_of_the_setting_whatever_is_refreshed() {
        let limits = LoginLimits { login: days(27), idle: None };
        let mut session = session();
        session.issued_at = NOW + 20 * DAY;
        assert_eq!(session.login_ends(&limits), LoginEnds { absolute: Some(NOW + 27 * DAY), idle: None });
        session.signed_in_at = None;
        assert_eq!(session.login_ends(&limits), LoginEnds::default(), "the sign-in's time is unknown");
    }

    #[test]
    fn a_providers_own_end_counts_before_the_settings() {
        let mut session = session();
        session.refresh_expires_at = Some(NOW + 30 * DAY);
        let absolute = LoginLimits { login: days(27), idle: None };
        assert_eq!(session.login_ends(&absolute).absolute, Some(NOW + 30 * DAY));
        let renewed = LoginLimits { login: days(365), idle: days(90) };
        let ends = LoginEnds { absolute: Some(NOW + 365 * DAY), idle: Some(NOW + 30 * DAY) };
        assert_eq!(session.login_ends(&renewed), ends);
        let unset = LoginLimits::default();
        assert_eq!(session.login_ends(&unset).absolute, Some(NOW + 30 * DAY));
    }

    #[test]
    fn an_idle_end_moves_with_each_refresh_and_needs_no_notice() {
        let limits = LoginLimits { login: None, idle: days(90) };
        let mut session = session();
        session.issued_at = NOW + 20 * DAY;
        assert_eq!(session.login_ends(&limits).idle, Some(NOW + 110 * DAY));
        assert_eq!(session.notice_of_end(&limits), None);
    }

    #[test]
    fn an_ended_or_unrefreshable_session_has_no_end_ahead() {
        let limits = LoginLimits { login: days(27), idle: days(7) };
        let alone = Session { refresh_token: None, ..session() };
        assert_eq!(alone.login_ends(&limits), LoginEnds::default());
        let mut ended = session();
        let fingerprint = ended.refresh_token.as_ref().expect("has one").fingerprint();
        let code = "invalid_grant".into();
        ended.ended = Some(crate::session::Ended { at: NOW, code, fingerprint, notified_at: None });
        assert_eq!(ended.login_ends(&limits), LoginEnds::default());
    }

    #[test]
    fn the_notice_comes_three_days_or_a_tenth_before_the_end_and_once() {
        for (login, before) in [(365, 3 * DAY), (30, 3 * DAY), (7, 7 * DAY / 10), (1, DAY / 10)] {
            let limits = LoginLimits { login: days(login), idle: None };
            let end = NOW + login as i64 * DAY;
            let mut session = session();
            assert_eq!(session.notice_of_end(&limits), Some((end, end - before)), "{login} days");
            session.notified_end = Some(end);
            assert_eq!(session.notice_of_end(&limits), None, "{login} days");
            session.notified_end = Some(end - 30);
            assert_eq!(session.notice_of_end(&limits), None, "the same end, named some seconds later");
            session.notified_end = Some(end - DAY);
            assert!(session.notice_of_end(&limits).is_some(), "the end has moved");
        }
        let hours = LoginLimits { login: Some(Duration::from_secs(10 * 3600)), idle: None };
        assert_eq!(session().notice_of_end(&hours), None, "its user remembers the sign-in");
    }
}
