//! The end of a refresh: what each outcome of a request writes into the record.
//!
//! Every write names the state that the request spent, so a late one changes nothing. The journal is
//! emptied after the write; a process that dies in between leaves an answer for the next holder.

use std::{sync::Arc, time::Duration};

use super::{
    backoff::backoff,
    flight::{Flight, Settled},
};
use crate::{
    broker::{
        Event, TokenError, is_from_a_wrong_endpoint,
        issuer_keys::{Unproved, log_unproved},
        later,
        spend::{commit, may_hold_tokens},
    },
    oauth::{Attempt, Outcome, outcome},
    session::{
        Ended, Grant, Identity, MAX_BACKOFF, RefreshTarget, Refusals, Retry, RetryKind, Session, Settlement,
        journal::Answered,
    },
    store::{Purpose, TenantLock},
    sys::{clock::UnixTime, random},
};

/// The shortest pause in the store's whole seconds: at least one second passes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);

/// The part of an answer that outlives the end of its session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// The whole answer, in the tenant's `.unread` file.
    Unread,
}

/// A refresh without new tokens, to be recorded.
struct Failed {
    code: String,
    /// The pause before the next try, if the failure names one.
    pause: Option<Duration>,
    /// The refusals so far, this one included.
    refused: Option<Refusals>,
}

impl Flight {
    /// Commits the meaning of a result and empties the journal. `took` is the duration of this process's
    /// own request. With `may_repeat` an ambiguous result is tried again at once.
    pub(super) async fn settle(
        &self,
        lock: &mut TenantLock,
        session: &Session,
        target: &RefreshTarget,
        attempt: &Attempt<Answered>,
        took: Option<Duration>,
        may_repeat: bool,
    ) -> Result<Settled, TokenError> {
        let refused = session.retry.as_ref().and_then(|retry| retry.refused.clone());
        let outcome = outcome(attempt, &self.provider.refresh_rules(session));
        self.inner.metrics.refreshed(&self.tenant.provider, &outcome, took);
        let (code, pause) = match outcome {
            Outcome::Granted(grant) => {
                return Ok(self.granted(lock, session, target, attempt, *grant).await);
            }
            Outcome::Ended { code } => return self.end(lock, target, code, Kept::Nothing).await,
            Outcome::Foreign { claim } => {
                tracing::error!(
                    tenant = %self.tenant, claim,
                    "a refresh brought the tokens of another account or client; they are not used, and `threadkey doctor` names the file that keeps them"
                );
                let code = Ended::OTHER_ACCOUNT.to_owned();
                return self.end(lock, target, code, Kept::Unread).await;
            }
            Outcome::Ambiguous { code } => {
                if may_repeat {
                    tracing::warn!(tenant = %self.tenant, code, "no clear answer; the provider allows a repetition");
                    // The record comes first: a process that takes over must not count its request
                    // as the first one.
                    let failed = Failed { code, pause: Some(Duration::ZERO), refused };
                    self.hold_back(lock, session, target, attempt, failed).await?;
                    return Ok(Settled::Repeat);
                }
                (code, None)
            }
            Outcome::Unspent { code, retry_after } => (code, retry_after),
            Outcome::Refused { code } => return self.refused(lock, session, target, attempt, code).await,
            Outcome::Misconfigured { code } => {
                self.inner.forget_client(&self.provider, &session.binding, &code).await;
                (code, None)
            }
        };
        self.hold_back(lock, session, target, attempt, Failed { code, pause, refused }).await?;
        Ok(Settled::Recorded)
    }

    /// Counts a refusal that is not a verdict. Once it has lasted, the session is stuck: it is tried each
    /// hour, and its user is notified.
    async fn refused(
        &self,
        lock: &mut TenantLock,
        session: &Session,
        target: &RefreshTarget,
        attempt: &Attempt<Answered>,
        code: String,
    ) -> Result<Settled, TokenError> {
        let now = self.inner.now();
        let before = session.retry.as_ref().and_then(|retry| retry.refused.as_ref());
        let refusals = Refusals::count(before, &code, now);
        let is_stuck = refusals.are_lasting(now)
            && !session.is_usable(now)
            && self.are_others_refreshed(session, refusals.since).await?;
        let (code, pause) =
            if is_stuck { (Retry::stuck_code(&code), Some(MAX_BACKOFF)) } else { (code, None) };
        self.hold_back(lock, session, target, attempt, Failed { code, pause, refused: Some(refusals) })
            .await?;
        if is_stuck {
            let is_new = session.end_code().is_none();
            self.inner.publish(Event::Stuck { tenant: self.tenant.clone(), is_new });
        }
        Ok(Settled::Recorded)
    }

    /// Whether the provider has issued tokens to this client since then, for other tenants. Then the
    /// refusals concern this session, and not the client or the network.
    async fn are_others_refreshed(&self, session: &Session, since: UnixTime) -> Result<bool, TokenError> {
        let records = self.inner.store.list().await?;
        let is_served = |other: &Session| {
            other.issued_at >= since
                && other.binding.token_endpoint == session.binding.token_endpoint
                && other.binding.client_id == session.binding.client_id
        };
        let others = records.iter().filter(|(tenant, _)| **tenant != self.tenant);
        Ok(others.filter_map(|(_, entry)| entry.session.as_ref()).any(is_served))
    }

    async fn granted(
        &self,
        lock: &mut TenantLock,
        session: &Session,
        target: &RefreshTarget,
        attempt: &Attempt<Answered>,
        mut grant: Grant,
    ) -> Settled {
        let unproved = self.take_unproved(session, &mut grant);
        // The lifetime counts from the answer, however long the commit is tried.
        let left = || grant.clone().aged(attempt.age(self.inner.now()));
        let settlement = || Settlement::Refreshed { target: target.clone(), grant: Box::new(left()) };
        // The journal is durable, so callers are served while the commit is tried again.
        let serve = || {
            let mut refreshed = session.clone();
            refreshed.take(left(), self.inner.now());
            self.result.send_replace(Some(Ok(Arc::new(refreshed))));
        };
        let changed = commit(&self.inner, &self.tenant, Purpose::Refresh, lock, &settlement, serve).await;
        self.clear(lock).await;
        match changed.after.session {
            Some(refreshed) if changed.applied.took_effect() => {
                tracing::info!(tenant = %self.tenant, generation = refreshed.generation, "refreshed");
                let refreshed = Arc::new(refreshed);
                if let Some(code) = session.end_code().map(str::to_owned) {
                    self.inner.publish(Event::Recovered { tenant: self.tenant.clone(), code });
                }
                if let Some(identity) = unproved {
                    let (inner, provider) = (self.inner.clone(), self.provider.clone());
                    let (tenant, session) = (self.tenant.clone(), refreshed.clone());
                    let task = async move {
                        inner.identify_later(&provider, &tenant, &session, identity).await;
                    };
                    self.inner.tasks.spawn(task);
                }
                Settled::Refreshed(refreshed)
            }
            after => {
                tracing::info!(tenant = %self.tenant, "logged out or signed in again meanwhile; the late answer is dropped");
                if after.is_none_or(|after| after.lineage != session.lineage) {
                    self.inner.revoke_late(&self.tenant, session, grant).await;
                }
                Settled::Recorded
            }
        }
    }

    /// Takes an identity that the keys in memory do not prove out of a grant. Returns it if no id token
    /// of the session was accepted, so that it can be proved after the commit.
    fn take_unproved(&self, session: &Session, grant: &mut Grant) -> Option<Identity> {
        let identity = grant.identity.as_ref()?;
        let unproved = self.inner.prove_from_memory(&self.provider, &identity.id_token).err()?;
        let identity = grant.identity.take();
        match unproved {
            Unproved::NoKeys if !session.has_proved_subject() => identity,
            unproved => {
                log_unproved(&self.tenant, &unproved);
                None
            }
        }
    }

    async fn end(
        &self,
        lock: &mut TenantLock,
        target: &RefreshTarget,
        code: String,
        kept: Kept,
    ) -> Result<Settled, TokenError> {
        let settlement = Settlement::End { target: target.clone(), code: code.clone() };
        let changed = lock.settle(settlement).await?;
        if kept == Kept::Unread && changed.applied.took_effect() {
            lock.keep_unread().await?;
        }
        self.clear(lock).await;
        if changed.applied.took_effect() {
            tracing::warn!(tenant = %self.tenant, code, "the provider has ended the session");
            self.inner.publish(Event::Ended { tenant: self.tenant.clone(), code });
        }
        Ok(Settled::Recorded)
    }

    /// Records the failure and the time before which no process tries again. An answer that could
    /// not be read stays in the journal until it is kept elsewhere: it may hold the only copy of a
    /// token.
    async fn hold_back(
        &self,
        lock: &mut TenantLock,
        session: &Session,
        target: &RefreshTarget,
        attempt: &Attempt<Answered>,
        failed: Failed,
    ) -> Result<(), TokenError> {
        let Failed { code, pause, refused } = failed;
        let now = self.inner.now();
        let before = session.retry.as_ref();
        let attempts = before.map_or(0, |retry| retry.attempts).saturating_add(1);
        let code = match before.map(Retry::kind) {
            // A token in doubt stays in doubt, whatever the next try brings, until it is given up.
            Some(RetryKind::Ambiguous) if !is_ambiguous_or_stuck(&code) => format!("ambiguous_{code}"),
            _ => code,
        };
        let mut retry = Retry { set_at: now, not_before: now, attempts, code, refused };
        let pause = pause.unwrap_or_else(|| backoff(attempts, retry.last_kind(), random::fraction()));
        // The present second has begun, so a pause of one second could end at once.
        let pause = if pause.is_zero() { pause } else { pause.clamp(SHORTEST_PAUSE, MAX_BACKOFF) };
        retry.not_before = later(now, pause);
        self.log_held_back(&retry);
        let is_unread = retry.last_kind() == RetryKind::Ambiguous && may_hold_tokens(attempt);
        let changed = lock.settle(Settlement::HoldBack { target: target.clone(), retry }).await?;
        if is_unread && changed.applied.took_effect() {
            lock.keep_unread().await?;
            tracing::warn!(
                tenant = %self.tenant, "the provider's answer could not be read; `threadkey doctor` names the file that keeps it"
            );
        }
        self.clear(lock).await;
        Ok(())
    }

    fn log_held_back(&self, retry: &Retry) {
        let (tenant, code, attempts) = (&self.tenant, &retry.code, retry.attempts);
        match retry.last_kind() {
            RetryKind::Misconfigured => tracing::error!(
                %tenant, code, "the provider refuses this client: check providers.{}; the session is kept", tenant.provider
            ),
            RetryKind::Ambiguous => {
                tracing::warn!(%tenant, code, attempts, "the refresh token may have been spent")
            }
            RetryKind::Stuck => tracing::error!(
                %tenant, code, attempts, "the provider has refused this session for hours, and refreshes others of the client; it is tried each hour"
            ),
            RetryKind::Unspent if is_from_a_wrong_endpoint(code) => tracing::error!(
                %tenant, code, attempts, "the token endpoint is most likely wrong: check providers.{}.token_endpoint; nothing was spent", tenant.provider
            ),
            RetryKind::Unspent | RetryKind::RejectedAgain => {
                tracing::warn!(%tenant, code, attempts, "not refreshed; nothing was spent")
            }
        }
    }

    /// Empties the journal. A failure does no harm: a journal names the state that it concerns.
    async fn clear(&self, lock: &mut TenantLock) {
        if let Err(error) = lock.clear().await {
            tracing::warn!(tenant = %self.tenant, %error, "the journal could not be emptied; the next refresh does it");
        }
    }
}

fn is_ambiguous_or_stuck(code: &str) -> bool {
    matches!(RetryKind::of(code), RetryKind::Ambiguous | RetryKind::Stuck)
}
