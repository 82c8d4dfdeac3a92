//! Keeping idle logins alive: where the operator sets `keepalive`, a login that no caller uses is
//! refreshed before its provider ends it.
//!
//! A login is due `keepalive` after its last refresh, less a jitter of up to a tenth. Each provider
//! has a task of its own, which refreshes one login at a time. So a slow provider delays no other
//! one, and gets no burst of requests.
//!
//! These logins are left alone:
//!
//! - a login that has ended, or that has no refresh token;
//! - an ambiguous one, because a second request could be taken for theft, and a stuck one;
//! - one whose refresh revokes the access token while a worker may be using it;
//! - one of a principal that may no longer use the bot ([`OwnerRights::of_principal`]);
//! - one that no caller has used for [`LONGEST_UNUSED`].
//!
//! # How the last use is known
//!
//! A token that is handed out writes nothing. Instead the first refresh that only keeps a login alive
//! first records the last moment at which a caller can have had the token before: `unused_since`. The
//! next token that is handed out removes the record, once. A process that dies between the two
//! writes leaves a record that the next token removes.
//!
//! The store reports changes. Only the passing of time needs a timer, until the next login is due.
//! Not every system reports a clock that is set, so the clock is read once an hour as well.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;

use super::{await_flight, background::spread};
use crate::{
    broker::{Broker, OwnerRights, RightsError, later},
    ids::{ProviderId, Tenant},
    oauth::{Endpoint, Provider},
    session::{Change, RetryKind, Session, Wish, seconds},
    sys::clock::UnixTime,
};

/// The time after the last use at which a login is given up.
const LONGEST_UNUSED: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The jitter of a login is at most one part in this many of `keepalive`.
const JITTER_PARTS: i64 = 10;

/// The longest pause between two looks at the clock.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// The pause after a login was left alone, or refreshed, before it is looked at again.
const AFTER_TRY: Duration = Duration::from_secs(15 * 60);

/// The pause before the rights of a principal without rights are checked again.
const WITHOUT_RIGHTS: Duration = Duration::from_secs(6 * 60 * 60);

impl Broker {
    /// Keeps the idle logins of all providers with `keepalive` alive. `in_use` returns the tenants
    /// whose tokens live workers may have. Ends when dropped.
    pub async fn keep_alive<F>(&self, in_use: F, rights: Arc<dyn OwnerRights>)
    where
        F: Fn() -> Vec<Tenant> + Send + Sync,
    {
        let providers = self.inner.providers.ids().filter_map(|id| {
            let keepalive = match self.inner.providers.undiscovered(id) {
                Some(undiscovered) => undiscovered.settings.keepalive,
                None => self.inner.providers.get(id)?.keepalive(),
            };
            Some((id, keepalive?))
        });
        join_all(providers.map(|(id, every)| self.keep_provider_alive(id, every, &in_use, &*rights))).await;
    }

    async fn keep_provider_alive(
        &self,
        id: &ProviderId,
        every: Duration,
        in_use: &(impl Fn() -> Vec<Tenant> + Send + Sync),
        rights: &dyn OwnerRights,
    ) {
        let mut stored = self.changes();
        // Logins that were tried or left alone, until when. So no result causes a hot loop.
        let mut rested: BTreeMap<Tenant, UnixTime> = BTreeMap::new();
        loop {
            let now = self.inner.now();
            rested.retain(|_, until| *until > now && *until <= later(now, WITHOUT_RIGHTS));
            let (due, next) = self.due(id, every, &rested).await;
            if let Some((tenant, session)) = due {
                let pause = self.keep_one_alive(&tenant, &session, in_use, rights).await;
                rested.insert(tenant, later(self.inner.now(), pause));
                continue;
            }
            let pause = async {
                match next {
                    Some(at) => {
                        let left = u64::try_from(at.saturating_sub(self.inner.now())).unwrap_or(0);
                        tokio::time::sleep(Duration::from_secs(left.max(1)).min(LONGEST_PAUSE)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                () = stored.next() => {}
            }
        }
    }

    /// Returns the login of a provider that is due first and may be refreshed now, or the time of
    /// the next look.
    async fn due(
        &self,
        id: &ProviderId,
        every: Duration,
        rested: &BTreeMap<Tenant, UnixTime>,
    ) -> (Option<(Tenant, Session)>, Option<UnixTime>) {
        let now = self.inner.now();
        let records = match self.inner.store.list().await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(provider = %id, %error, "cannot check which logins need to be kept alive");
                return (None, Some(later(now, AFTER_TRY)));
            }
        };
        let of_provider = records.iter().filter(|(tenant, _)| tenant.provider == *id);
        let times = of_provider.filter_map(|(tenant, entry)| {
            let session = entry.session.as_ref()?;
            let at = due_at(session, every, now)?;
            Some((at.max(rested.get(tenant).copied().unwrap_or(at)), tenant, session))
        });
        match times.min_by_key(|(at, ..)| *at) {
            Some((at, tenant, session)) if at <= now => (Some((tenant.clone(), session.clone())), None),
            first => (None, first.map(|(at, ..)| at)),
        }
    }

    /// Refreshes one login, unless it must be left alone. Returns the time to leave it alone from now
    /// on.
    async fn keep_one_alive(
        &self,
        tenant: &Tenant,
        session: &Session,
        in_use: &(impl Fn() -> Vec<Tenant> + Send + Sync),
        rights: &dyn OwnerRights,
    ) -> Duration {
        let provider = match self.inner.usable(&tenant.provider).await {
            Ok(provider) => provider,
            Err(error) => {
                tracing::warn!(%tenant, %error, "cannot keep the login alive");
                return AFTER_TRY;
            }
        };
        if let Err(withheld) = provider.destination(&session.binding, Endpoint::Token) {
            tracing::debug!(%tenant, reason = %withheld, "the login is not kept alive");
            return WITHOUT_RIGHTS;
        }
        if provider.refresh_revokes_access() && in_use().contains(tenant) {
            return AFTER_TRY;
        }
        match rights.of_principal(tenant.principal).await {
            Ok(()) => self.refresh_idle(tenant, session, &provider).await,
            Err(RightsError::NotEntitled) => {
                tracing::info!(%tenant, "the login is not kept alive, because its owner may no longer use the bot");
                return WITHOUT_RIGHTS;
            }
            Err(RightsError::Unknown { .. }) => {}
        }
        AFTER_TRY
    }

    async fn refresh_idle(&self, tenant: &Tenant, session: &Session, provider: &Arc<Provider>) {
        // The record comes first: a refresh without it would look like a use.
        if let Err(error) = self.inner.store.change(tenant, Change::Unused(session.lineage)).await {
            return tracing::warn!(%tenant, %error, "the login is not kept alive, because the store cannot be written");
        }
        let flight = self.join(tenant, provider, session.revision(), Wish::renewing());
        match await_flight(flight, tenant).await {
            Ok(_) => tracing::info!(%tenant, "kept the idle login alive"),
            Err(error) => tracing::warn!(%tenant, %error, "the idle login was not refreshed"),
        }
    }

    /// Notes that a caller gets a token of this session. Costs nothing unless the session was kept
    /// alive without a caller.
    pub(in crate::broker) fn note_use(&self, tenant: &Tenant, session: &Session) {
        if session.unused_since.is_none() || self.inner.noting.insert(tenant.clone(), ()).is_some() {
            return;
        }
        let (inner, tenant, lineage) = (self.inner.clone(), tenant.clone(), session.lineage);
        self.inner.tasks.spawn(async move {
            if let Err(error) = inner.store.change(&tenant, Change::HandedOut(lineage)).await {
                tracing::warn!(%tenant, %error, "the use of a login could not be recorded");
            }
            inner.noting.remove(&tenant);
        });
    }
}

/// When a login must be refreshed to stay alive, or `None` if it is left alone until it changes.
fn due_at(session: &Session, every: Duration, now: UnixTime) -> Option<UnixTime> {
    session.refresh_token.as_ref()?;
    if session.verdict().is_some()
        || session.unused_since.is_some_and(|since| later(since, LONGEST_UNUSED) <= now)
    {
        return None;
    }
    let held_back = match &session.retry {
        None => None,
        Some(retry) if matches!(retry.kind(), RetryKind::Ambiguous | RetryKind::Stuck) => return None,
        Some(retry) => retry.active(now),
    };
    let jitter = spread(session, seconds(every) / JITTER_PARTS);
    let due = later(session.issued_at, every).saturating_sub(jitter);
    Some(held_back.map_or(due, |until| due.max(until)))
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
    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    fn due(session: &Session, now: UnixTime) -> Option<UnixTime> {
        due_at(session, WEEK, now)
    }

    #[test]
    fn an_idle_login_is_due_within_the_last_tenth_of_its_time() {
        let mut times: Vec<_> = (0..=255)
            .map(|n| Session { lineage: Lineage([n; 16]), ..test_session(NOW, 3600) })
            .map(|session| due(&session, NOW).expect("is kept alive") - NOW)
            .collect();
        times.sort_unstable();
        assert!(times[0] >= 7 * DAY - 7 * DAY / 10 && times[255] <= 7 * DAY, "{times:?}");
        assert!(times[255] - times[0] > 7 * DAY / 20, "the logins are spread: {times:?}");
    }

    #[test]
    fn an_ended_ambiguous_or_stuck_login_is_left_alone() {
        let idle = test_session(NOW - 8 * DAY, 3600);
        assert!(due(&idle, NOW).is_some());
        assert_eq!(due(&Session { refresh_token: None, ..idle.clone() }, NOW), None);
        let fingerprint = idle.refresh_token.as_ref().expect("has one").fingerprint();
        let ended = Ended { at: NOW, code: "invalid_grant".into(), fingerprint, notified_at: None };
        assert_eq!(due(&Session { ended: Some(ended), ..idle.clone() }, NOW), None);
        let retry = |code: &str| {
            Some(Retry { set_at: NOW, not_before: NOW + 40, attempts: 1, code: code.into(), refused: None })
        };
        for code in ["ambiguous_timeout", &Retry::stuck_code("http_400")] {
            assert_eq!(due(&Session { retry: retry(code), ..idle.clone() }, NOW), None, "{code}");
            assert_eq!(due(&Session { retry: retry(code), ..idle.clone() }, NOW + DAY), None, "{code}");
        }
        assert_eq!(due(&Session { retry: retry("http_503"), ..idle }, NOW), Some(NOW + 40));
    }

    #[test]
    fn a_login_is_given_up_ninety_days_after_its_last_use() {
        let mut idle = test_session(NOW - 8 * DAY, 3600);
        idle.unused_since = Some(NOW - 89 * DAY);
        assert!(due(&idle, NOW).is_some());
        assert!(due(&idle, NOW + DAY - 1).is_some());
        assert_eq!(due(&idle, NOW + DAY), None);
    }
}
