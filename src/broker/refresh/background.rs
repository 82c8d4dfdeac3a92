//! Refreshing the sessions in use before they expire, so that no caller has to wait.
//!
//! A session is due at three quarters of its lifetime plus a jitter that differs from session to
//! session. Sessions that began together, because a provider or this machine was down, do not all
//! return to the provider at once. In the meantime a worker's request refreshes its session too;
//! both join the one flight.
//!
//! The set of sessions in use and the store both report their changes. Only the passing of time
//! needs a timer, until the next session is due. Not every system reports a clock that is set, so
//! while a session will be due the clock is read now and then.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    broker::{Broker, DEFAULT_MIN_TTL, StoredToken, TokenPolicy},
    ids::Tenant,
    oauth::Endpoint,
    session::{Entry, Session, Wish, refresh_due_at, seconds},
    sys::clock::UnixTime,
};

/// The longest pause between two looks while a session will be due. It bounds how late a jump of
/// the clock is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The shortest pause, for sessions that live only seconds.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time between due and refresh; at most a tenth of the lifetime.
const LONGEST_JITTER: Duration = Duration::from_secs(10 * 60);

impl Broker {
    /// Refreshes the sessions of the tenants that `in_use` returns, soon after three quarters of
    /// their lifetimes. Calls `in_use` at least whenever `others` changes. Ends when dropped.
    ///
    /// A provider whose refresh ends the old access token is left out: a worker may be using it.
    pub async fn keep_fresh<F>(&self, in_use: F, mut others: watch::Receiver<u64>)
    where
        F: Fn() -> Vec<Tenant> + Send + Sync,
    {
        let mut stored = self.changes();
        loop {
            let mut pause = None;
            for tenant in in_use() {
                if let Some(next) = self.refresh_if_due(&tenant).await {
                    pause = Some(next.min(pause.unwrap_or(LONGEST_PAUSE)));
                }
            }
            let due = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause.max(SHORTEST_PAUSE)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = stored.next() => {}
                Ok(()) = others.changed() => {}
            }
        }
    }

    /// Refreshes the session if it is due. Returns the pause before the next look, or `None` if
    /// there is nothing to wait for.
    async fn refresh_if_due(&self, tenant: &Tenant) -> Option<Duration> {
        let provider = self.inner.providers.get(&tenant.provider)?;
        if provider.refresh_revokes_access() {
            return None;
        }
        let entry = match self.inner.store.read(tenant).await {
            Ok(entry) => entry,
            Err(error) => {
                tracing::warn!(%tenant, %error, "cannot check whether a refresh is due");
                return Some(LONGEST_PAUSE);
            }
        };
        let is_bound_here = |session: &Session| {
            let destination = provider.destination(&session.binding, Endpoint::Token);
            if let Err(withheld) = &destination {
                tracing::debug!(%tenant, reason = %withheld, "no refresh in the background");
            }
            destination.is_ok()
        };
        if !entry.session.as_ref().is_some_and(is_bound_here) {
            return None;
        }
        match next_step(tenant, &entry, self.inner.now()) {
            Step::Refresh => {
                drop(self.join(tenant, &provider, entry.session?.revision(), Wish::living(DEFAULT_MIN_TTL)));
                Some(SHORTEST_PAUSE)
            }
            Step::LookAfter(pause) => Some(pause),
            Step::Leave => None,
        }
    }
}

/// The next step for a session in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Refresh now.
    Refresh,
    /// Look again after this pause.
    LookAfter(Duration),
    /// Do nothing until the record changes.
    Leave,
}

fn next_step(tenant: &Tenant, entry: &Entry, now: UnixTime) -> Step {
    let at = |time: UnixTime| {
        Step::LookAfter(Duration::from_secs(time.saturating_sub(now).try_into().unwrap_or(0)))
    };
    let Some(session) = &entry.session else { return Step::Leave };
    let due = due_at(session);
    match StoredToken::new(tenant, entry, &TokenPolicy::default(), now) {
        StoredToken::Refresh => Step::Refresh,
        StoredToken::RefreshDue(_) if now >= due => Step::Refresh,
        StoredToken::RefreshDue(_) => at(due),
        StoredToken::Refused { retry_at: Some(until), .. } => at(until),
        StoredToken::Refused { retry_at: None, .. } | StoredToken::RecoverSignIn => Step::Leave,
        StoredToken::Fresh(_) if session.verdict().is_some() || session.refresh_token.is_none() => {
            Step::Leave
        }
        // Due and no refresh: held back, or in doubt for as long as the token works.
        StoredToken::Fresh(_) if now >= due => {
            let held_back = session.retry.as_ref().and_then(|retry| retry.active(now));
            at(held_back.unwrap_or(session.expires_at).min(session.expires_at))
        }
        StoredToken::Fresh(_) => at(due),
    }
}

/// When the background refreshes a session: after its jitter, but before callers would have to
/// wait.
fn due_at(session: &Session) -> UnixTime {
    let wanted = seconds(DEFAULT_MIN_TTL).min((seconds(session.lifetime()) + 1) / 2);
    let stale = session.expires_at.saturating_sub(wanted).saturating_add(1);
    refresh_due_at(session).saturating_add(jitter(session)).min(stale)
}

/// The seconds between due and refresh. They are the same at each look and differ for each session
/// and each generation. After them the token still lives as long as callers ask for.
fn jitter(session: &Session) -> i64 {
    let lifetime = seconds(session.lifetime());
    let left = session.expires_at.saturating_sub(refresh_due_at(session));
    let spare = left.saturating_sub(seconds(DEFAULT_MIN_TTL));
    spread(session, (lifetime / 10).min(seconds(LONGEST_JITTER)).min(spare).max(0))
}

/// A number from 0 to `longest` that is the same at each look, and differs for each session and each
/// generation.
pub(super) fn spread(session: &Session, longest: i64) -> i64 {
    // The lineage is random; the multiplication carries the generation into the upper bits.
    let mut bits = [0; 8];
    bits.copy_from_slice(&session.lineage.0[..8]);
    let mixed = u64::from_le_bytes(bits).wrapping_add(session.generation).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((i128::from(mixed >> 32) * i128::from(longest + 1)) >> 32) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::Lineage,
        session::{Ended, Retry, test_session},
    };

    const NOW: UnixTime = 1_795_358_672;
    const DAY: i64 = 86_400;

    fn after(seconds: u64) -> Step {
        Step::LookAfter(Duration::from_secs(seconds))
    }

    fn look(session: &Session, now: UnixTime) -> Step {
        let entry = Entry { session: Some(session.clone()), ..Entry::default() };
        next_step(&"acme/local".parse().expect("a tenant"), &entry, now)
    }

    #[test]
    fn any_lifetime_is_refreshed_once_while_the_token_still_serves() {
        for lifetime in [5, 6, 10, 30, 59, 60, 90, 240, 300, 600, 3600, 8 * 3600, DAY, 30 * DAY, 90 * DAY] {
            for generation in 1..200 {
                let mut session = test_session(NOW, lifetime);
                session.generation = generation;
                let mut now = NOW;
                let mut looks = 0;
                while let Step::LookAfter(pause) = look(&session, now) {
                    now += seconds(pause.max(SHORTEST_PAUSE));
                    looks += 1;
                    assert!(looks < 4, "{lifetime} s: no hot loop");
                }
                assert_eq!(look(&session, now), Step::Refresh);
                assert!(session.is_usable(now), "{lifetime} s: expired at {} s", now - NOW);
                assert!(now - NOW >= lifetime / 2, "{lifetime} s: {} s is early", now - NOW);
            }
        }
    }

    #[test]
    fn sessions_that_began_together_are_spread_over_a_tenth_of_their_lifetime() {
        for (lifetime, longest) in [(3600, 360), (300, 15), (240, 0), (30 * DAY, 600)] {
            let jitters: Vec<_> = (0..=255)
                .map(|n| {
                    let mut session = test_session(NOW, lifetime);
                    session.lineage = Lineage([n; 16]);
                    jitter(&session)
                })
                .collect();
            assert!(jitters.iter().all(|jitter| (0..=longest).contains(jitter)), "{lifetime}: {jitters:?}");
            assert!(jitters.iter().any(|jitter| *jitter <= longest / 8), "{lifetime}: {jitters:?}");
            assert!(jitters.iter().any(|jitter| *jitter >= longest - longest / 8), "{lifetime}: {jitters:?}");
        }
        let session = test_session(NOW, 3600);
        assert_eq!(jitter(&session), jitter(&session), "it does not move from look to look");
    }

    #[test]
    fn a_held_back_session_is_checked_after_its_pause_and_an_ended_one_not_at_all() {
        let mut session = test_session(NOW - 3590, 3600);
        let retry = |code: &str| {
            Some(Retry { set_at: NOW, not_before: NOW + 4, attempts: 1, code: code.into(), refused: None })
        };
        session.retry = retry("http_503");
        assert_eq!(look(&session, NOW), after(4));
        session.expires_at = NOW + 200;
        assert_eq!(look(&session, NOW), after(4), "it serves although it is due");
        session.retry = retry("ambiguous_timeout");
        assert_eq!(look(&session, NOW + 5), after(195), "in doubt: nothing is sent while it works");
        assert_eq!(look(&session, NOW + 200), Step::Refresh);
        let fingerprint = session.refresh_token.as_ref().expect("has one").fingerprint();
        session.ended = Some(Ended { at: NOW, code: "invalid_grant".into(), fingerprint, notified_at: None });
        assert_eq!(look(&session, NOW), Step::Leave);
        assert_eq!(look(&session, NOW + 200), Step::Leave);
        session.ended = None;
        session.retry = None;
        session.refresh_token = None;
        assert_eq!(look(&session, NOW), Step::Leave);
    }
}
