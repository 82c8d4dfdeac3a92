//! Refreshing by itself what is in use, so that nobody who asks has to wait.
//!
//! A session is due at three quarters of its life, and a while later that differs from session to session: sessions that began
//! together, because a provider or this machine was down, do not all come back to the provider at once. Within that while a
//! worker's own question refreshes it too; both meet in the one flight.
//!
//! Who is in use, and what is stored, tells of its changes. Only for the time there is a timer: until the next session is due. A clock
//! that is set has no event on all systems, so while there is something to wait for it is read now and then.

use std::time::Duration;

use tokio::sync::watch;

use super::{Broker, DEFAULT_MIN_TTL};
use crate::{
    ids::Tenant,
    session::{Decision, Session, decide, refresh_due_at, seconds},
    sys::clock::UnixTime,
};

/// The longest pause between two looks while a session will be due: a clock that jumped is noticed then.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The shortest one, for sessions that live only seconds.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time after which a session that is due is refreshed; and at most a tenth of its life.
const LONGEST_JITTER: Duration = Duration::from_secs(10 * 60);

impl Broker {
    /// Refreshes by itself, soon after three quarters of their lives, the sessions of the tenants that `in_use` names each time
    /// it is asked, which is at least whenever `others` says that it would name others; ends when dropped. A provider whose
    /// refresh ends the old access token is left alone: a worker may be using it just now.
    pub async fn keep_fresh<F>(&self, in_use: F, mut others: watch::Receiver<u64>)
    where
        F: Fn() -> Vec<Tenant> + Send + Sync,
    {
        let mut stored = self.changes();
        loop {
            let mut pause = None;
            for tenant in in_use() {
                if let Some(look_in) = self.refresh_if_due(&tenant).await {
                    pause = Some(look_in.min(pause.unwrap_or(LONGEST_PAUSE)));
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

    /// Refreshes it if it is due, and says when to look again; `None` when there is nothing to do for it.
    async fn refresh_if_due(&self, tenant: &Tenant) -> Option<Duration> {
        let provider = self.inner.providers.get(&tenant.provider)?;
        if provider.refresh_revokes_access() {
            return None;
        }
        let session = match self.inner.store.read(tenant).await {
            Ok(entry) => entry.session?,
            Err(error) => {
                tracing::warn!(%tenant, %error, "cannot look whether a refresh is due");
                return Some(LONGEST_PAUSE);
            }
        };
        match look(&session, self.inner.now()) {
            Look::Refresh => {
                drop(self.join(tenant, provider, session.revision(), DEFAULT_MIN_TTL));
                Some(SHORTEST_PAUSE)
            }
            Look::Again(pause) => Some(pause),
            Look::Leave => None,
        }
    }
}

/// What to do about a session in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It is time.
    Refresh,
    /// Not yet; look after this long.
    Again(Duration),
    /// Nothing is to be done until it is another one.
    Leave,
}

fn look(session: &Session, now: UnixTime) -> Look {
    let again =
        |at: UnixTime| Look::Again(Duration::from_secs(at.saturating_sub(now).try_into().unwrap_or(0)));
    // Where callers would have to wait for a refresh before it is due by its age, it is due then.
    let wanted = seconds(DEFAULT_MIN_TTL).min((seconds(session.lifetime()) + 1) / 2);
    let stale = session.expires_at.saturating_sub(wanted).saturating_add(1);
    let due = refresh_due_at(session).saturating_add(jitter(session)).min(stale);
    match decide(session, now, DEFAULT_MIN_TTL) {
        Decision::Refresh => Look::Refresh,
        Decision::ServeAndRefresh if now >= due => Look::Refresh,
        Decision::ServeAndRefresh => again(due),
        Decision::Backoff { until, .. } => again(until),
        Decision::Ended { .. } => Look::Leave,
        Decision::Serve if session.verdict().is_some() || session.refresh_token.is_none() => Look::Leave,
        // Past that and still no refresh: held back, or in doubt for as long as it works.
        Decision::Serve if now >= due => {
            let held_back = session.retry.as_ref().and_then(|retry| retry.active(now));
            again(held_back.unwrap_or(session.expires_at).min(session.expires_at))
        }
        Decision::Serve => again(due),
    }
}

/// How long after it is due a session is refreshed, in seconds: the same at each look, different for each session and each
/// generation of it. At the end of it the token still lives as long as callers want it to.
fn jitter(session: &Session) -> i64 {
    let lifetime = seconds(session.lifetime());
    let spare = lifetime / 4 - seconds(DEFAULT_MIN_TTL);
    let longest = (lifetime / 10).min(seconds(LONGEST_JITTER)).min(spare).max(0);
    // The lineage is random; the multiplication carries the generation into the upper bits, which count.
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

    fn after(seconds: u64) -> Look {
        Look::Again(Duration::from_secs(seconds))
    }

    #[test]
    fn from_five_seconds_to_ninety_days_it_is_refreshed_once_and_while_it_still_serves() {
        for lifetime in [5, 6, 10, 30, 59, 60, 90, 240, 300, 600, 3600, 8 * 3600, DAY, 30 * DAY, 90 * DAY] {
            for generation in 1..200 {
                let mut session = test_session(NOW, lifetime);
                session.generation = generation;
                let mut now = NOW;
                let mut looks = 0;
                while let Look::Again(pause) = look(&session, now) {
                    now += seconds(pause.max(SHORTEST_PAUSE));
                    looks += 1;
                    assert!(looks < 4, "{lifetime} s: no hot loop");
                }
                assert_eq!(look(&session, now), Look::Refresh);
                assert!(session.is_usable(now), "{lifetime} s: at {} s it is over", now - NOW);
                assert!(now - NOW >= lifetime / 2, "{lifetime} s: {} s is early", now - NOW);
            }
        }
    }

    #[test]
    fn sessions_that_began_together_are_spread_over_a_tenth_of_their_life_and_ten_minutes_at_most() {
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
    fn what_is_held_back_is_looked_at_when_that_is_over_and_what_has_ended_not_at_all() {
        let mut session = test_session(NOW - 3590, 3600);
        let retry =
            |code: &str| Some(Retry { set_at: NOW, not_before: NOW + 4, attempts: 1, code: code.into() });
        session.retry = retry("http_503");
        assert_eq!(look(&session, NOW), after(4));
        session.expires_at = NOW + 200;
        assert_eq!(look(&session, NOW), after(4), "it serves, and is past its time");
        session.retry = retry("ambiguous_timeout");
        assert_eq!(look(&session, NOW + 5), after(195), "in doubt: while it works nothing is sent");
        assert_eq!(look(&session, NOW + 200), Look::Refresh);
        let fingerprint = session.refresh_token.as_ref().expect("has one").fingerprint();
        session.ended = Some(Ended { at: NOW, code: "invalid_grant".into(), fingerprint, notified_at: None });
        assert_eq!(look(&session, NOW), Look::Leave);
        assert_eq!(look(&session, NOW + 200), Look::Leave);
        session.ended = None;
        session.retry = None;
        session.refresh_token = None;
        assert_eq!(look(&session, NOW), Look::Leave);
    }
}
