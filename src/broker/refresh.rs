//! What a flight does: the refresh, from the lock to the last byte that is durable.
//!
//! It takes the tenant's lock, or waits until whoever has it is done and takes what they committed. Under the lock it reads
//! the session anew, finishes what an earlier holder left in the journal, decides once more, and only then spends.

use std::{sync::Arc, time::Duration};

use dashmap::Entry as Slot;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Broker, CALLER_WAIT, Inner, Joined, Landed, TokenError,
    flight::Flight,
    save::{Precious, save},
    settle::{self, Settled},
};
use crate::{
    ids::Tenant,
    oauth::{Attempt, Provider},
    session::{
        RefreshTarget, Revision, Session,
        journal::{Intent, Journal, Spending},
    },
    store::{Purpose, TenantLock},
    sys::clock::UnixTime,
};

/// How often in a row a lock may be found free and then taken before a flight slows down.
const MAX_ROUNDS: u32 = 8;

/// The pause between two tries from then on.
const PAUSE: Duration = Duration::from_millis(500);

impl Broker {
    /// Joins the tenant's flight, or starts one for a caller that saw `seen` and wants `min_ttl`.
    pub(super) fn join(
        &self,
        tenant: &Tenant,
        provider: &Arc<Provider>,
        seen: Revision,
        min_ttl: Duration,
    ) -> Joined {
        match self.inner.flights.entry(tenant.clone()) {
            Slot::Occupied(flight) => flight.get().clone(),
            Slot::Vacant(free) => {
                let (landed, joined) = watch::channel(None);
                free.insert(joined.clone());
                let flight = Flight {
                    inner: self.inner.clone(),
                    tenant: tenant.clone(),
                    provider: provider.clone(),
                    seen,
                    min_ttl,
                    landed,
                };
                self.inner.tasks.spawn(flight.run());
                joined
            }
        }
    }
}

/// Takes the flight off the map however it ends, before anybody hears the result: who comes later starts anew.
struct OffTheMap {
    inner: Arc<Inner>,
    tenant: Tenant,
}

impl Drop for OffTheMap {
    fn drop(&mut self) {
        self.inner.flights.remove(&self.tenant);
    }
}

// === impl Flight ===

impl Flight {
    async fn run(self) {
        let map = OffTheMap { inner: self.inner.clone(), tenant: self.tenant.clone() };
        let landed = self.fly().await;
        if let Err(error) = &landed {
            tracing::info!(tenant = %self.tenant, %error, "no token");
        }
        self.inner.revoking.remove(&self.revision.lineage);
        drop(map);
        self.landed.send_replace(Some(landed));
    }

    async fn fly(&self) -> Landed {
        let mut rounds = 0;
        loop {
            if let Some(lock) = self.inner.store.try_lock(&self.tenant, Purpose::Refresh).await? {
                return self.refresh(lock).await;
            }
            match timeout(CALLER_WAIT, self.inner.store.wait_unlocked(&self.tenant)).await {
                Ok(unlocked) => unlocked?,
                // Nothing is under way here that could be lost, and whoever asks next starts anew. A detached process that
                // went on would pile up with its like behind a holder that is stuck.
                Err(_) if self.nobody_waits() => return Err(TokenError::InProgress(self.tenant.clone())),
                Err(_) => continue,
            }
            if let Some(landed) = self.without_sending(&self.read().await?) {
                return landed;
            }
            // Free for those who wait, and not to be had: somebody who waited too was stopped before they let go.
            rounds += 1;
            if rounds > MAX_ROUNDS {
                if self.nobody_waits() {
                    return Err(TokenError::InProgress(self.tenant.clone()));
                }
                sleep(PAUSE).await;
            }
        }
    }

    /// With the lock. It is let go when this returns, after everything is durable.
    async fn refresh(&self, mut lock: Box<dyn TenantLock>) -> Landed {
        let mut again: Option<(UnixTime, RefreshTarget)> = None;
        // At most: what the journal held, one request, and its repetition within the provider's grace.
        for _ in 0..3 {
            let session = self.read().await?;
            let now = self.inner.now();
            // Only what was sent may be repeated, not the token of a sign-in that was finished meanwhile.
            let again_now =
                again.take().filter(|(_, spent)| session.refresh_target().as_ref() == Some(spent));
            let mut first_sent = again_now.map(|(at, _)| at);
            match self.recover(lock.as_mut(), &session).await? {
                Recovered::Nothing => {}
                Recovered::Changed => continue,
                Recovered::MaySendAgain(at) => first_sent = Some(at),
            }
            if first_sent.is_none()
                && let Some(landed) = self.without_sending(&session)
            {
                return landed;
            }
            let Some(spent) = session.refresh_target() else {
                return self.ended("no_refresh_token");
            };
            let sent_at = first_sent.unwrap_or(now);
            let sent = match self.send(lock.as_mut(), &session, &spent, sent_at).await? {
                Some(sent) => sent,
                None => return self.ended("binding_changed"),
            };
            let may_repeat = first_sent.is_none() && self.is_in_grace(sent_at);
            match settle::refresh(self, lock.as_mut(), &session, &spent, &sent, may_repeat).await? {
                Settled::Landed(session) => return Ok(*session),
                Settled::SendAgain => again = Some((sent_at, spent)),
                Settled::Decide => return self.decided(&self.read().await?),
            }
        }
        self.decided(&self.read().await?)
    }

    /// Finishes what an earlier holder of the lock left behind.
    async fn recover(&self, lock: &mut dyn TenantLock, session: &Session) -> Result<Recovered, TokenError> {
        let spending = session.refresh_target().map(Spending::Refresh);
        match lock.journal().await? {
            Journal::Empty => Ok(Recovered::Nothing),
            Journal::Answered(intent, answer) if same(&intent.spending, spending.as_ref()) => {
                tracing::warn!(tenant = %self.tenant, "committing the answer that an earlier process left in the journal");
                let spent =
                    session.refresh_target().ok_or_else(|| TokenError::Internal(self.tenant.clone()))?;
                settle::refresh(self, lock, session, &spent, &Attempt::Answered(answer), false).await?;
                Ok(Recovered::Changed)
            }
            Journal::Intended(intent) if same(&intent.spending, spending.as_ref()) => {
                if self.is_in_grace(intent.at) {
                    return Ok(Recovered::MaySendAgain(intent.at));
                }
                let spent =
                    session.refresh_target().ok_or_else(|| TokenError::Internal(self.tenant.clone()))?;
                settle::refresh(self, lock, session, &spent, &Attempt::Unanswered("no_answer"), false)
                    .await?;
                Ok(Recovered::Changed)
            }
            // Of a state that is gone: committed before, or a grant that was logged out or replaced.
            Journal::Intended(_) | Journal::Answered(..) => {
                lock.clear().await?;
                Ok(Recovered::Nothing)
            }
        }
    }

    /// Whether the provider still takes again what was first sent at `at`. A clock that stepped back does not tell.
    fn is_in_grace(&self, at: UnixTime) -> bool {
        let since = self.inner.now().saturating_sub(at);
        u64::try_from(since).is_ok_and(|since| since < self.provider.reuse_grace().as_secs())
    }

    /// Writes the intent down, sends, writes the answer down. `None` when the token may not go where the configuration now
    /// points.
    async fn send(
        &self,
        lock: &mut dyn TenantLock,
        session: &Session,
        spent: &RefreshTarget,
        at: i64,
    ) -> Result<Option<Attempt>, TokenError> {
        let request = match self.provider.refresh(session) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(None),
            Err(changed) => {
                tracing::error!(tenant = %self.tenant, %changed, "the refresh token stays where it is");
                return Ok(None);
            }
        };
        let token_endpoint = self.provider.token_endpoint().to_string();
        let spending = Spending::Refresh(spent.clone());
        let intent = Intent { spending, at, token_endpoint };
        lock.intend(&intent).await?;
        tracing::debug!(tenant = %self.tenant, generation = spent.revision.generation, "refreshing");
        let sent = self.inner.client.send(request).await;
        if let Attempt::Answered(answer) = &sent {
            save(&self.inner, &self.tenant, Purpose::Refresh, lock, Precious::Answer(&intent, answer), || {})
                .await;
        }
        Ok(Some(sent))
    }
}

enum Recovered {
    Nothing,
    Changed,
    MaySendAgain(i64),
}

fn same(journaled: &Spending, now: Option<&Spending>) -> bool {
    match (journaled, now) {
        (Spending::Refresh(then), Some(Spending::Refresh(now))) => {
            then.seen == now.seen && then.fingerprint.matches(&now.fingerprint)
        }
        _ => false,
    }
}
