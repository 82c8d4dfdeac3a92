//! How a refresh goes, in the order in which it happens.
//!
//! 1. [`Broker::join`]: the callers of a tenant in this process share one *flight*, a task of its
//!    own. A caller that gives up takes nothing with it.
//! 2. [`Flight::lock_and_refresh`] takes the tenant's lock, or waits until its holder has committed
//!    and adopts the result. One process refreshes; the others take over.
//! 3. [`Flight::refresh`] reads the session anew under the lock, finishes the request that an
//!    earlier holder left in the journal, and decides once more.
//! 4. [`spend`] announces the request in the journal, sends it, and saves the answer.
//! 5. [`Flight::settle`] commits the meaning of the answer and empties the journal.
//! 6. The flight publishes its result and releases the lock, after everything is durable.

mod background;
mod backoff;
mod flight;
mod keepalive;
mod settle;

use std::{sync::Arc, time::Duration};

use dashmap::Entry as Slot;
use flight::{Flight, Settled};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::Instrument as _;

use super::{
    Broker, CALLER_WAIT, FlightResult, Inner, Joined, StoredToken, TokenError, TokenPolicy,
    spend::{Recovered, recover, spend},
};
use crate::{
    ids::Tenant,
    oauth::{Attempt, Credentials, Provider, TokenRequest},
    session::{
        Ended, Entry, Locked, RefreshTarget, Revision, Session, Wish, adopts,
        journal::{Intent, Spending},
    },
    store::{Purpose, TenantLock},
    sys::{clock::UnixTime, secret_source::NoSecret},
};

/// How often in a row a lock may be reported free and then be taken, before a flight slows down.
const MAX_ROUNDS: u32 = 8;

/// The pause between two tries from then on.
const PAUSE: Duration = Duration::from_millis(500);

/// Removes the flight from the map, however it ends, before callers get the result. A later caller
/// starts a new flight.
struct RemoveOnDrop {
    inner: Arc<Inner>,
    tenant: Tenant,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        self.inner.flights.remove(&self.tenant);
    }
}

// === impl Broker ===

impl Broker {
    /// Joins the tenant's flight, or starts one for a caller that saw `seen` and has this wish.
    pub(super) fn join(
        &self,
        tenant: &Tenant,
        provider: &Arc<Provider>,
        seen: Revision,
        wish: Wish,
    ) -> Joined {
        match self.inner.flights.entry(tenant.clone()) {
            Slot::Occupied(flight) => flight.get().clone(),
            Slot::Vacant(free) => {
                let (result, joined) = watch::channel(None);
                free.insert(joined.clone());
                let (inner, tenant, provider) = (self.inner.clone(), tenant.clone(), provider.clone());
                let flight = Flight { inner, tenant, provider, seen, wish, result };
                self.inner.tasks.spawn(flight.run());
                joined
            }
        }
    }

    /// Whether this process has a flight of this tenant.
    pub(super) fn in_flight(&self, tenant: &Tenant) -> bool {
        self.inner.flights.contains_key(tenant)
    }
}

/// Waits for a flight's result. Dropping the future does not affect the flight.
pub(super) async fn await_flight(mut joined: Joined, tenant: &Tenant) -> FlightResult {
    match joined.wait_for(Option::is_some).await {
        Ok(result) => result.clone().unwrap_or_else(|| Err(TokenError::Internal(tenant.clone()))),
        // The task has panicked and dropped its sender.
        Err(_) => Err(TokenError::Internal(tenant.clone())),
    }
}

// === impl Flight ===

impl Flight {
    async fn run(self) {
        let map = RemoveOnDrop { inner: self.inner.clone(), tenant: self.tenant.clone() };
        let span = tracing::info_span!("refresh", tenant = %self.tenant, generation = self.seen.generation);
        let result = self.lock_and_refresh().instrument(span).await;
        if let Err(error) = &result {
            tracing::info!(tenant = %self.tenant, %error, "no token");
        }
        self.inner.keeping.remove(&self.tenant);
        drop(map);
        self.result.send_replace(Some(result));
    }

    async fn lock_and_refresh(&self) -> FlightResult {
        let mut rounds = 0;
        loop {
            if let Some(lock) = self.inner.store.try_lock(&self.tenant, Purpose::Refresh).await? {
                return self.refresh(lock).await;
            }
            let waited = self.inner.metrics.lock_wait();
            let unlocked = timeout(CALLER_WAIT, self.inner.store.wait_unlocked(&self.tenant)).await;
            drop(waited);
            match unlocked {
                Ok(unlocked) => unlocked?,
                // This flight has sent nothing, so ending it loses nothing. Detached processes that
                // waited on would pile up while a holder is stuck.
                Err(_) if self.has_no_caller() => return Err(self.in_progress()),
                Err(_) => continue,
            }
            if let Some(result) = self.result_without_request(&self.read().await?) {
                return result;
            }
            // The lock is free in shared mode but not in exclusive mode: a suspended waiter still
            // holds its shared lock.
            rounds += 1;
            if rounds > MAX_ROUNDS {
                if self.has_no_caller() {
                    return Err(self.in_progress());
                }
                sleep(PAUSE).await;
            }
        }
    }

    /// Refreshes under the lock, which is released when this returns.
    async fn refresh(&self, mut lock: TenantLock) -> FlightResult {
        let mut repeat: Option<(UnixTime, RefreshTarget)> = None;
        // At most three turns: the answer in the journal, one request, and its repetition within
        // the provider's grace.
        for _ in 0..3 {
            let session = lock.read().await?.session();
            let session = session.ok_or_else(|| TokenError::NoSession(self.tenant.clone()))?;
            let target = session.refresh_target();
            // Only the same token may be sent again, not that of a sign-in finished meanwhile.
            let repeated = repeat.take().filter(|(_, sent)| target.as_ref() == Some(sent));
            let mut first_sent = repeated.map(|(at, _)| at);

            let is_current = |spending: &Spending| matches!((spending, &target), (Spending::Refresh(then), Some(now)) if then.matches(now));
            let left_behind = match recover(&mut lock, is_current).await? {
                Recovered::Nothing => None,
                Recovered::Answered(answered) => {
                    tracing::warn!(tenant = %self.tenant, "committing the answer that an earlier process left in the journal");
                    Some(Attempt::Answered(answered))
                }
                Recovered::Unanswered(intent) if self.is_in_grace(intent.at) => {
                    first_sent = Some(intent.at);
                    None
                }
                Recovered::Unanswered(_) => Some(Attempt::Unanswered("no_answer")),
            };
            if let (Some(attempt), Some(target)) = (left_behind, &target) {
                self.settle(&mut lock, &session, target, &attempt, None, false).await?;
                continue;
            }

            if first_sent.is_none()
                && let Some(result) = self.result_without_request(&session)
            {
                return result;
            }
            let Some(target) = target else { return self.ended(Ended::EXHAUSTED) };
            let credentials = self.inner.credentials(&self.provider, &session.binding).await;
            let credentials = credentials.map_err(|problem| self.no_client_secret(problem))?;
            let Some(request) = self.request(&session, &credentials) else {
                return self.ended(TokenError::BOUND_ELSEWHERE);
            };
            let at = first_sent.unwrap_or_else(|| self.inner.now());
            let token_endpoint = self.provider.token_endpoint().to_string();
            let intent = Intent { spending: Spending::Refresh(target.clone()), at, token_endpoint };
            tracing::debug!(tenant = %self.tenant, generation = session.generation, "refreshing");
            let started = Instant::now();
            let attempt =
                spend(&self.inner, &self.tenant, Purpose::Refresh, &mut lock, intent, request).await?;

            let took = Some(started.elapsed());
            let may_repeat = first_sent.is_none() && self.is_in_grace(at);
            match self.settle(&mut lock, &session, &target, &attempt, took, may_repeat).await? {
                Settled::Refreshed(session) => return Ok(session),
                Settled::Repeat => repeat = Some((at, target)),
                Settled::Recorded => break,
            }
        }
        self.result_from_record(&self.read().await?)
    }

    /// The refresh request; `None` if the refresh token may not go to the configured endpoint.
    fn request(&self, session: &Locked<Session>, credentials: &Credentials) -> Option<TokenRequest> {
        match self.provider.refresh(session, credentials) {
            Ok(request) => request,
            Err(withheld) => {
                tracing::error!(tenant = %self.tenant, reason = %withheld, "the refresh token is not sent");
                None
            }
        }
    }

    /// Whether the provider still accepts a refresh token that was first sent at `at`. After a
    /// clock step backwards it counts as no.
    fn is_in_grace(&self, at: UnixTime) -> bool {
        let since = self.inner.now().saturating_sub(at);
        u64::try_from(since).is_ok_and(|since| since < self.provider.reuse_grace().as_secs())
    }

    /// The result if no request is needed, or `None` if one is.
    fn result_without_request(&self, session: &Session) -> Option<FlightResult> {
        if !self.wish.refuses(session) && adopts(session, Some(self.seen), self.inner.now()) {
            return Some(Ok(Arc::new(session.clone())));
        }
        match self.stored_token(session) {
            // A background flight begins with a token that serves, in order to refresh it.
            StoredToken::RefreshDue(_) | StoredToken::Refresh => None,
            _ => Some(self.result_from_record(session)),
        }
    }

    /// The result with this session, without another request.
    fn result_from_record(&self, session: &Session) -> FlightResult {
        match self.stored_token(session) {
            StoredToken::Refused { error, .. } => Err(error),
            _ if session.is_usable(self.inner.now()) => Ok(Arc::new(session.clone())),
            _ => Err(self.in_progress()),
        }
    }

    fn stored_token(&self, session: &Session) -> StoredToken {
        let entry = Entry { session: Some(session.clone()), ..Entry::default() };
        let policy = TokenPolicy::new(&self.provider, self.wish.clone());
        StoredToken::new(&self.tenant, &entry, &policy, self.inner.now())
    }

    /// The session as stored now.
    async fn read(&self) -> Result<Session, TokenError> {
        let session = self.inner.store.read(&self.tenant).await?.session;
        session.ok_or_else(|| TokenError::NoSession(self.tenant.clone()))
    }

    /// Whether every caller has given up; the map's own receiver does not count.
    fn has_no_caller(&self) -> bool {
        self.result.receiver_count() <= 1
    }

    fn in_progress(&self) -> TokenError {
        TokenError::InProgress(self.tenant.clone())
    }

    fn no_client_secret(&self, problem: NoSecret) -> TokenError {
        tracing::error!(tenant = %self.tenant, %problem, "the client's secret cannot be read; nothing is sent");
        TokenError::NoClientSecret { tenant: self.tenant.clone(), problem }
    }

    fn ended(&self, code: &str) -> FlightResult {
        Err(TokenError::Ended { tenant: self.tenant.clone(), code: code.into() })
    }
}
