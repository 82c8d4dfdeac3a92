//! Polls: the token requests of a sign-in that threadkey finishes itself (RFC 8628 §3.4, CIBA Core §10).
//!
//! Every poll may return the tokens, so each follows the steps of `spend.rs`: under the tenant's
//! sign-in lock the request is announced in the journal, sent, and its answer saved before it is read.
//!
//! # One poller per sign-in
//!
//! `run` and `serve` poll all sign-ins ([`Broker::poll_sign_ins`]), and a command polls the one that it
//! shows ([`Broker::poll_to_end`]). So a sign-in goes on if its command ends. Two processes that poll the
//! same one are kept apart by the lock and the journal:
//!
//! - A poll holds the sign-in lock, taken without waiting, from before the record is read until after
//!   the answer is saved and its meaning is committed. A second process finds the lock held, and comes
//!   back an interval later.
//! - The answer "pending" stays in the journal until the next poll, with the time of its arrival. A
//!   poller that takes the lock reads it, and waits for the rest of the interval. So all pollers together
//!   keep one pace, and no poll writes the store.
//! - `slow_down` and failures write the new pace into the record ([`Polling::not_before`]), which all
//!   processes read.
//!
//! No lock is held between two polls.
//!
//! # The process dies
//!
//! | dies | leaves | the next poller |
//! | --- | --- | --- |
//! | before the intent is durable | nothing was sent | polls when it is due |
//! | before the answer of a poll is durable | an intent without an answer | polls again after twice the interval (RFC 8628 §3.5) |
//! | before the answer of an exchange is durable | an intent without an answer | ends the sign-in with `code_spent`: the code is not sent again |
//! | before the commit | the answer | commits it and sends nothing |
//! | after the commit | a journal for a sign-in that is gone | the next holder empties it |
//!
//! The answer of a sign-in that was cancelled meanwhile, or that no process may finish, is revoked:
//! [`super::orphans`].
//!
//! A lost answer may have held the tokens. The provider refuses the code then, and the sign-in ends with
//! its error: no token is spent twice, because the code of a poll returns tokens once.
//!
//! # The interval
//!
//! The waiting here is the interval that the RFC demands (§3.5). Nothing else in threadkey polls. The
//! end of a sign-in by a user's command is noticed at the next poll.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::task::AbortHandle;

use super::{
    Finished, SignInProgress,
    exchange::{Exchanged, Landed},
};
use crate::{
    broker::{
        Broker, FinishError, OwnerRights, RightsError, later,
        owner_rights::check_starter,
        spend::{Recovered, may_hold_tokens, spend},
    },
    ids::{Principal, Tenant},
    oauth::{Attempt, Mismatch, Outcome, Proof, Provider, Reading},
    secret::{Fingerprint, Scrubber, State},
    session::{
        Locked, MAX_BACKOFF, Pending, Polling, Settlement, failure,
        journal::{Answered, Intent, Spending},
    },
    store::{Purpose, StoreError, TenantLock},
    sys::clock::UnixTime,
};

/// The pause after a store that could not be read.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// The result of a poll.
#[derive(Debug)]
pub enum Polled {
    /// The user has not decided. The next poll is due at this time, in Unix seconds.
    Waiting(UnixTime),
    /// The sign-in is finished.
    Finished(Box<Finished>),
    /// The sign-in has ended without tokens. The word is the provider's, such as `access_denied`.
    Ended(String),
    /// The sign-in is gone: cancelled, replaced, expired, or finished by another process.
    Gone,
}

/// The meaning of one answer, once it is committed.
enum Settled {
    Wait(UnixTime),
    Granted(Box<Exchanged>),
    Ended(String),
    Exchange(Proof),
}

impl Broker {
    /// Polls a sign-in once, if a poll is due. Runs in a task of its own, so a caller that gives up
    /// loses no answer.
    ///
    /// # Errors
    /// See [`FinishError`]. The sign-in stays open.
    pub async fn poll(&self, shown: &SignInProgress) -> Result<Polled, FinishError> {
        let (tenant, Some(state)) = (shown.tenant().clone(), shown.state().cloned()) else {
            return Ok(Polled::Gone);
        };
        self.poll_state(tenant, state).await
    }

    async fn poll_state(&self, tenant: Tenant, state: Fingerprint) -> Result<Polled, FinishError> {
        let (broker, id) = (self.clone(), tenant.provider.clone());
        let polled = self.inner.tasks.spawn(async move { broker.poll_now(&tenant, &state).await });
        polled.await.unwrap_or(Err(FinishError::Internal(id)))
    }

    /// Polls a sign-in until it has ended, at its interval.
    ///
    /// # Errors
    /// See [`FinishError`]. The sign-in stays open.
    pub async fn poll_to_end(&self, shown: &SignInProgress) -> Result<Polled, FinishError> {
        loop {
            match self.poll(shown).await? {
                Polled::Waiting(due) => tokio::time::sleep(self.left_until(due)).await,
                ended => return Ok(ended),
            }
        }
    }

    /// Polls all sign-ins, from now on. Ends when dropped. One that is over is looked at once, for the
    /// answer of a process that died; nothing is sent. A sign-in is polled only while its starter may
    /// finish it; then it is cancelled. That of a server's manager waits while no bot knows the managers.
    pub async fn poll_sign_ins(&self, rights: Arc<dyn OwnerRights>) {
        let mut changes = self.changes();
        let mut pollers: HashMap<(Tenant, Fingerprint), Poller> = HashMap::new();
        loop {
            let mut over = HashSet::new();
            match self.inner.store.list().await {
                Ok(records) => {
                    for (tenant, entry) in records.iter() {
                        let Some(pending) = entry.pending.as_ref().filter(|one| one.polling.is_some()) else {
                            continue;
                        };
                        let key = (tenant.clone(), pending.state.fingerprint());
                        // A process may have died with the tokens in its journal. One look finds them.
                        if !pending.is_live(self.inner.now()) {
                            over.insert(key.clone());
                        } else if pollers.get(&key).is_some_and(|poller| poller.0.is_finished()) {
                            pollers.remove(&key);
                        }
                        pollers
                            .entry(key)
                            .or_insert_with_key(|(tenant, state)| self.poller(tenant, state, &rights));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the sign-ins in progress cannot be read; it is tried again");
                    tokio::time::sleep(STORE_PAUSE).await;
                    continue;
                }
            }
            pollers.retain(|key, poller| !poller.0.is_finished() || over.contains(key));
            changes.next().await;
        }
    }

    /// Starts the poller of one sign-in.
    fn poller(&self, tenant: &Tenant, state: &Fingerprint, rights: &Arc<dyn OwnerRights>) -> Poller {
        let (broker, tenant, state) = (self.clone(), tenant.clone(), state.clone());
        let rights = rights.clone();
        let task = tokio::spawn(async move {
            loop {
                match broker.may_finish(&tenant, &state, &*rights).await {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(pause) => {
                        tokio::time::sleep(pause).await;
                        continue;
                    }
                }
                let pause = match broker.poll_state(tenant.clone(), state.clone()).await {
                    Ok(Polled::Waiting(due)) => broker.left_until(due),
                    Ok(Polled::Finished(_) | Polled::Ended(_) | Polled::Gone) => return,
                    Err(error) => {
                        tracing::warn!(%tenant, %error, "a sign-in cannot be polled now");
                        STORE_PAUSE
                    }
                };
                tokio::time::sleep(pause).await;
            }
        });
        Poller(task.abort_handle())
    }

    /// Whether a sign-in may be polled. One whose starter has lost the right is cancelled. Returns the
    /// time after which to ask again if that is unknown.
    async fn may_finish(
        &self,
        tenant: &Tenant,
        state: &Fingerprint,
        rights: &dyn OwnerRights,
    ) -> Result<bool, Duration> {
        let entry = self.inner.store.read(tenant).await.map_err(|_| STORE_PAUSE)?;
        let live = entry.pending.filter(|pending| in_progress(pending, state).is_some());
        let Some(pending) = live else { return Ok(false) };
        match check_starter(rights, tenant, &pending).await {
            Ok(()) => Ok(true),
            Err(RightsError::Unknown { retry_after }) => Err(retry_after),
            Err(RightsError::NotEntitled) => {
                tracing::info!(%tenant, "a sign-in is cancelled, because its starter may no longer finish it");
                let (broker, tenant) = (self.clone(), tenant.clone());
                // A task of its own: the change and the revocation belong together.
                let cancelled = async move { broker.cancel_pending(&tenant, &pending).await };
                match self.inner.tasks.spawn(cancelled).await {
                    Ok(Ok(_)) => Ok(false),
                    Ok(Err(_)) | Err(_) => Err(STORE_PAUSE),
                }
            }
        }
    }

    /// The time until a poll is due. A jump of the clock lengthens it by one longest interval at most.
    fn left_until(&self, due: UnixTime) -> Duration {
        let left = due.saturating_sub(self.inner.now()).try_into().unwrap_or(0);
        Duration::from_secs(left).clamp(Duration::from_secs(1), MAX_BACKOFF)
    }

    async fn poll_now(&self, tenant: &Tenant, state: &Fingerprint) -> Result<Polled, FinishError> {
        let id = &tenant.provider;
        let provider = self.inner.usable(id).await;
        let provider = provider.map_err(|_| FinishError::UnknownProvider(id.clone()))?;
        // Before the lock: a command may have to run.
        let entry = self.inner.store.read(tenant).await?;
        let Some(polling) = entry.pending.as_ref().and_then(|pending| in_progress(pending, state)) else {
            return Ok(Polled::Gone);
        };
        let now = self.inner.now();
        let Some(mut lock) = self.inner.store.try_lock(tenant, Purpose::SignIn).await? else {
            return Ok(Polled::Waiting(later(now, polling.pause())));
        };
        let polled = self.poll_locked(&provider, tenant, state, &mut lock).await;
        drop(lock);
        Ok(match polled? {
            None => Polled::Gone,
            Some(Settled::Wait(due)) => Polled::Waiting(due),
            Some(Settled::Ended(code)) => Polled::Ended(code),
            Some(Settled::Granted(exchanged)) => {
                Polled::Finished(Box::new(self.conclude(tenant, *exchanged).await))
            }
            // `poll_locked` exchanges a code itself.
            Some(Settled::Exchange(_)) => Polled::Waiting(now),
        })
    }

    #[tracing::instrument(name = "sign_in", skip_all, fields(%tenant, generation = 1))]
    async fn poll_locked(
        &self,
        provider: &Arc<Provider>,
        tenant: &Tenant,
        state: &Fingerprint,
        lock: &mut TenantLock,
    ) -> Result<Option<Settled>, FinishError> {
        let id = &tenant.provider;
        let read = lock.read().await?;
        let Some(pending) = read.pending() else { return Ok(None) };
        let Some(polling) = in_progress(&pending, state).cloned() else { return Ok(None) };
        if let Some(code) = &polling.ended {
            return Ok(Some(Settled::Ended(code.clone())));
        }
        let now = self.inner.now();
        let (due, left) = match self.recover_journal(provider, tenant, state, lock).await? {
            Recovered::Answered(answered) => {
                let settled = self.settle_poll(provider, tenant, &pending, lock, answered).await?;
                match settled {
                    Settled::Wait(due) => (due, None),
                    Settled::Exchange(proof) => (now, Some(proof)),
                    ended => return Ok(Some(ended)),
                }
            }
            // The exchange of a code has no answer, and the next poll may return the same code.
            Recovered::Unanswered(intent) if !is_poll(&intent, &polling) => {
                return self.end_poll(lock, &pending, failure::CODE_SPENT).await.map(Some);
            }
            // RFC 8628 §3.5: fewer polls after one without an answer.
            Recovered::Unanswered(intent) => (polling.next_after(later(intent.at, polling.pause())), None),
            Recovered::Nothing => (polling.next_after(pending.created_at), None),
        };
        if !pending.is_live(now) {
            return Ok(None);
        }
        // A clock that stepped back must not stop the polls.
        let is_due = now >= due || due.saturating_sub(now) > crate::session::seconds(MAX_BACKOFF);
        if left.is_none() && !is_due {
            return Ok(Some(Settled::Wait(due)));
        }
        let mut proof = left.unwrap_or(Proof::Poll);
        loop {
            // Empties the journal of a "pending", which has served as the pace.
            lock.clear().await?;
            let answered = match self.ask(provider, tenant, &pending, lock, &proof).await? {
                Attempt::Answered(answered) => answered,
                Attempt::NotSent(code) => {
                    tracing::info!(%tenant, code, "a poll of a sign-in was not sent");
                    let due = self.slow_down(lock, &pending, None).await?;
                    return Ok(Some(Settled::Wait(due)));
                }
                Attempt::Unanswered(code) if !matches!(proof, Proof::Poll) => {
                    tracing::warn!(%tenant, code, "the exchange of a code got no answer");
                    return self.end_poll(lock, &pending, failure::CODE_SPENT).await.map(Some);
                }
                // The intent stays in the journal: it is the pace of the next poll.
                Attempt::Unanswered(code) => {
                    tracing::warn!(%tenant, code, "a poll of a sign-in got no answer");
                    return Ok(Some(Settled::Wait(later(now, 2 * polling.pause()))));
                }
            };
            match self.settle_poll(provider, tenant, &pending, lock, answered).await? {
                Settled::Exchange(next) if matches!(proof, Proof::Poll) => proof = next,
                Settled::Exchange(_) => return Err(FinishError::Internal(id.clone())),
                settled => return Ok(Some(settled)),
            }
        }
    }

    /// Commits the answer of a poll whose process died between the answer and the commit. Sends
    /// nothing. Returns the finished sign-in, or `None` if the answer was another one.
    pub(super) async fn recover_poll(
        &self,
        tenant: &Tenant,
        state: &State,
    ) -> Result<Option<Finished>, StoreError> {
        // The bot finishes it, because it knows whether the starter still manages the server.
        if matches!(tenant.principal, Principal::Guild(_)) {
            return Ok(None);
        }
        let Some(provider) = self.inner.providers.get(&tenant.provider) else { return Ok(None) };
        let Some(mut lock) = self.inner.store.try_lock(tenant, Purpose::SignIn).await? else {
            return Ok(None);
        };
        let state = state.fingerprint();
        let pending = lock.read().await?.pending();
        let Some(pending) = pending.filter(|pending| in_progress(pending, &state).is_some()) else {
            return Ok(None);
        };
        let recovered = self.recover_journal(&provider, tenant, &state, &mut lock).await?;
        let Recovered::Answered(answered) = recovered else { return Ok(None) };
        let settled = self.settle_poll(&provider, tenant, &pending, &mut lock, answered).await;
        drop(lock);
        match settled {
            Ok(Settled::Granted(exchanged)) => Ok(Some(self.conclude(tenant, *exchanged).await)),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Sends the token request with this proof.
    async fn ask(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        pending: &Locked<Pending>,
        lock: &mut TenantLock,
        proof: &Proof,
    ) -> Result<Attempt<Answered>, FinishError> {
        let id = || tenant.provider.clone();
        let now = self.inner.now();
        let credentials = self.inner.credentials(provider, &pending.binding).await;
        let credentials =
            credentials.map_err(|problem| FinishError::NoClientSecret { provider: id(), problem })?;
        let request = provider.acquirer(pending.grant()).request(provider, pending, proof, &credentials);
        let request = request.map_err(|withheld| {
            tracing::error!(%tenant, reason = %withheld, "the sign-in is not polled");
            FinishError::BindingChanged(id())
        })?;
        let code = match (proof, &pending.polling) {
            (Proof::Code { code, .. }, _) => code.fingerprint(),
            (Proof::Poll, Some(polling)) => polling.code.fingerprint(),
            (Proof::Poll, None) => return Err(FinishError::Internal(id())),
        };
        let spending = Spending::Code { state: pending.state.fingerprint(), code };
        let intent = Intent { spending, at: now, token_endpoint: provider.token_endpoint().to_string() };
        let _known = match proof {
            Proof::Code { code, .. } => Some(Scrubber::of_process().pin(code.expose())),
            Proof::Poll => None,
        };
        Ok(spend(&self.inner, tenant, Purpose::SignIn, lock, intent, request).await?)
    }

    /// Commits the meaning of an answer that is in the journal.
    async fn settle_poll(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        pending: &Locked<Pending>,
        lock: &mut TenantLock,
        answered: Answered,
    ) -> Result<Settled, FinishError> {
        let Some(polling) = &pending.polling else {
            return Err(FinishError::Internal(tenant.provider.clone()));
        };
        let is_poll = is_poll(answered.intent(), polling);
        let arrived = answered.answer().at;
        let attempt = Attempt::Answered(answered);
        let rules = provider.answer_rules(&pending.binding);
        let acquirer = provider.acquirer(pending.grant());
        let outcome = match acquirer.read(&attempt, &rules, pending, is_poll) {
            Ok(Reading::Pending) => return Ok(Settled::Wait(polling.next_after(arrived))),
            Ok(Reading::Exchange(proof)) => return Ok(Settled::Exchange(proof)),
            Ok(Reading::SlowDown { interval }) => {
                return Ok(Settled::Wait(self.slow_down(lock, pending, Some(interval)).await?));
            }
            Ok(Reading::Ended { code }) => return self.end_poll(lock, pending, code).await,
            Ok(Reading::Outcome(outcome)) => outcome,
            Err(Mismatch::Nonce | Mismatch::NoNonce) => {
                return self.end_poll(lock, pending, "wrong_nonce").await;
            }
            Err(Mismatch::Audience) => return self.end_poll(lock, pending, "wrong_audience").await,
            Err(mismatch) => {
                tracing::warn!(%tenant, %mismatch, "the id token of a sign-in is refused");
                return self.end_poll(lock, pending, "wrong_id_token").await;
            }
        };
        match outcome {
            Outcome::Granted(mut grant) => {
                if let Err(fault) = self.check_signature(provider, tenant, pending, &mut grant).await {
                    tracing::warn!(%tenant, %fault, "the id token of a sign-in is refused");
                    return self.end_poll(lock, pending, "wrong_signature").await;
                }
                let granted = self.granted(provider, tenant, pending, lock, &attempt, *grant).await?;
                let Landed::Finished(granted) = granted else {
                    return Err(FinishError::Superseded(tenant.provider.clone()));
                };
                Ok(Settled::Granted(Box::new(granted)))
            }
            Outcome::Ended { code } | Outcome::Refused { code } | Outcome::Misconfigured { code } => {
                self.inner.forget_client(provider, &pending.binding, &code).await;
                self.end_poll(lock, pending, &code).await
            }
            // Only a refresh has such an outcome.
            Outcome::Foreign { .. } => self.end_poll(lock, pending, "wrong_id_token").await,
            Outcome::Ambiguous { ref code } | Outcome::Unspent { ref code, .. } => {
                tracing::warn!(%tenant, code, "a poll of a sign-in got no verdict");
                if may_hold_tokens(&attempt) {
                    lock.keep_unread().await?;
                }
                if !is_poll && matches!(outcome, Outcome::Ambiguous { .. }) {
                    return self.end_poll(lock, pending, failure::CODE_SPENT).await;
                }
                Ok(Settled::Wait(self.slow_down(lock, pending, None).await?))
            }
        }
    }

    /// Writes a slower pace into the record, and empties the journal. The provider may have asked for
    /// it, with or without the new interval; else the next pause alone is longer. Returns the time of the
    /// next poll.
    async fn slow_down(
        &self,
        lock: &mut TenantLock,
        pending: &Pending,
        asked: Option<Option<u32>>,
    ) -> Result<UnixTime, StoreError> {
        let Some(mut polling) = pending.polling.clone() else { return Ok(self.inner.now()) };
        let now = self.inner.now();
        let not_before = match asked {
            Some(named) => {
                let longer = polling.interval.saturating_add(Polling::SLOW_DOWN);
                polling.interval = named.unwrap_or(0).max(longer).min(Polling::LONGEST_INTERVAL);
                later(now, polling.pause())
            }
            None => later(now, 2 * polling.pause()),
        };
        polling.not_before = Some(not_before);
        let polling = Box::new(polling);
        lock.settle(Settlement::Polled { state: pending.state.clone(), polling }).await?;
        lock.clear().await?;
        Ok(not_before)
    }

    /// Records that the sign-in has ended without tokens, and empties the journal.
    async fn end_poll(
        &self,
        lock: &mut TenantLock,
        pending: &Pending,
        code: &str,
    ) -> Result<Settled, FinishError> {
        if let Some(mut polling) = pending.polling.clone() {
            polling.ended = Some(code.to_owned());
            let polling = Box::new(polling);
            lock.settle(Settlement::Polled { state: pending.state.clone(), polling }).await?;
        }
        lock.clear().await?;
        Ok(Settled::Ended(code.to_owned()))
    }
}

/// A task that polls one sign-in. It ends when dropped; a poll that is under way goes on.
struct Poller(AbortHandle);

impl Drop for Poller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The poll of a pending sign-in with this state.
fn in_progress<'a>(pending: &'a Pending, state: &Fingerprint) -> Option<&'a Polling> {
    pending.polling.as_ref().filter(|_| pending.state.fingerprint().matches(state))
}

/// Whether a request is a poll, and not the exchange of the code that a poll returned.
fn is_poll(intent: &Intent, polling: &Polling) -> bool {
    matches!(&intent.spending, Spending::Code { code, .. } if code.matches(&polling.code.fingerprint()))
}
