//! A sign-in that returned another account than the session's. The user chooses, and the grant that
//! was not chosen is revoked.
//!
//! The process that removes a candidate from the store revokes its grant (RFC 7009). That is the
//! process that keeps the session, that finishes another sign-in in its place, or, once the time to
//! choose has expired, the first broker that knows it ([`Broker::expire_choices`]). It removes the
//! candidate first, so that no user can choose a grant that is being revoked, and only one process
//! revokes it. The store's own sweep comes later and revokes nothing, because the store talks to no
//! provider.
//!
//! # Whose clock decides that the time to choose is over
//!
//! Removing a candidate and revoking it cannot be undone, and any clock may be wrong by hours. So a
//! process removes a candidate only if two things agree: its clock, and the time for which it has
//! watched the candidate ([`Watch`]), which no step of the clock moves. A process that met the
//! candidate while it could be chosen waits for the rest of its time. Any other process waits for
//! the whole time. A short-lived command watches nothing, so it removes a candidate only when its
//! time is over beyond doubt, a day later ([`Session::choice_is_long_over`], adr/0027).
//!
//! # Dying between the two
//!
//! An orderly exit waits for the provider. A process that is killed before the provider answers
//! leaves the grant at the provider, unreported. So does a logout with revocation, and a provider that
//! answers none of the tries ([`Inner::revoke_surely`](crate::broker::Inner)). This is accepted: no program holds the grant, because its tokens were removed with the record, and no
//! message to a user claims that it has ended. The rest is an entry in the account's list of
//! applications at the provider, and in our log the line that the provider was asked, without a
//! result. The alternatives cost more:
//!
//! - *Revoke first, then remove.* In the meantime the user may choose the grant in another process
//!   and get a dead session in place of a live one. Even an expired candidate can be chosen again
//!   after a clock that was ahead is corrected. And a session that is being logged out would be
//!   handed out, and refreshed to tokens that no process revokes, for as long as the provider
//!   takes.
//! - *A note of the grants to revoke, for a later process.* It must hold the refresh token: a live
//!   secret on disk that has no use. Each choice and logout would cost a second durable write, the
//!   programs that share the store would have one more section to sweep, and a provider that never
//!   answers would need a rule for giving up.
//! - *A report in the status or by the doctor.* Without such a note there is nothing to report
//!   from.

use std::{collections::HashSet, time::Duration};

use tokio::time::timeout;

use super::{RecoveredSignIn, logout::Revoked, orphans::LOOK_AGAIN};
use crate::{
    broker::{
        Broker, ChoiceError, Event, GrantEnd, Kept, SignedIn, Unchosen, Undecided, candidate_watch::Watch,
        later,
    },
    ids::{Lineage, Tenant},
    session::{Applied, Change, Entry, Pending, Session, failure},
    store::StoreError,
    sys::clock::UnixTime,
};

/// The longest time for the provider to revoke a grant that was not chosen. Only the report to the
/// user depends on it.
const REVOKE_WITHIN: Duration = Duration::from_secs(10);

/// The longest pause before a candidate expires. It bounds the delay after a jump of the clock or a
/// suspended machine. Also the pause after a failed look.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The shortest pause between two looks, however often the store changes.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

impl Broker {
    /// Returns the sign-in of this tenant that waits for a choice.
    ///
    /// # Errors
    /// The store's.
    pub async fn undecided(&self, tenant: &Tenant) -> Result<Option<Undecided>, StoreError> {
        let entry = self.inner.store.read(tenant).await?;
        Ok(Undecided::of(tenant, &entry, self.inner.now()))
    }

    /// Puts the sign-in of this lineage in the session's place. The old session's grant stays as it
    /// is at the provider.
    ///
    /// # Errors
    /// See [`ChoiceError`].
    pub async fn switch(&self, tenant: &Tenant, lineage: Lineage) -> Result<SignedIn, ChoiceError> {
        let switched = self.inner.store.change(tenant, Change::Switch { lineage }).await?;
        let chosen = switched.after.session.filter(|_| switched.applied.took_effect());
        let chosen = chosen.ok_or_else(|| ChoiceError::Gone(tenant.clone()))?;
        tracing::info!(%tenant, "the sign-in with another account was chosen");
        let scopes = self.inner.scopes(tenant);
        let signed_in = SignedIn::new(tenant, &chosen, switched.before.session.as_ref(), &scopes);
        self.inner.publish(Event::Switched(signed_in.clone()));
        self.publish_recovered(&signed_in);
        Ok(signed_in)
    }

    /// Keeps the session and removes the sign-in of this lineage. Its grant is revoked where the
    /// provider offers that.
    ///
    /// # Errors
    /// See [`ChoiceError`].
    pub async fn keep(&self, tenant: &Tenant, lineage: Lineage) -> Result<Kept, ChoiceError> {
        let before = self.inner.store.read(tenant).await?;
        let candidate = before.candidate.filter(|candidate| candidate.lineage == lineage);
        let candidate = candidate.ok_or_else(|| ChoiceError::Gone(tenant.clone()))?;
        if !self.take_out(tenant, lineage).await? {
            return Err(ChoiceError::Gone(tenant.clone()));
        }
        tracing::info!(%tenant, "the session was kept; the sign-in with another account is dropped");
        let account = before.session.and_then(|session| session.account);
        let unchosen = self.revoke_dropped(tenant, candidate).await;
        Ok(Kept { tenant: tenant.clone(), account, unchosen })
    }

    /// Removes the sign-ins that were not chosen in time, as far as this process can know that, and
    /// begins to revoke them. Settles the journals of sign-ins that are over or gone. Returns the time of
    /// the next look, in Unix seconds.
    ///
    /// # Errors
    /// The store's.
    pub async fn expire_undecided(&self) -> Result<Option<UnixTime>, StoreError> {
        let now = self.inner.now();
        let mut next = None;
        let mut wrote = false;
        let mut present = HashSet::new();
        let records = self.inner.store.list().await?;
        for (tenant, entry) in records.iter() {
            // Tokens that wait for their digits have the same time, and the same rule ends it.
            if let Some(pending) = &entry.pending
                && let Some(waiting) = pending.unconfirmed()
            {
                present.insert((tenant.clone(), waiting.session.lineage));
                match self.time_left(tenant, &waiting.session, now) {
                    Some(end) => next = Some(next.map_or(end, |next: UnixTime| next.min(end))),
                    None => drop(self.fail_return(tenant, pending, failure::NO_DIGITS).await?),
                }
            } else if let Some(pending) = entry.pending.as_ref().filter(|one| one.polling.is_none())
                && let Some(look) = self.look_for_an_answer(tenant, pending, now).await
            {
                next = Some(next.map_or(look, |next: UnixTime| next.min(look)));
            }
            let Some(candidate) = &entry.candidate else { continue };
            present.insert((tenant.clone(), candidate.lineage));
            if let Some(end) = self.time_left(tenant, candidate, now) {
                next = Some(next.map_or(end, |next: UnixTime| next.min(end)));
                continue;
            }
            let taken_out = self.take_out(tenant, candidate.lineage).await?;
            // The write that removed the one before also sweeps older ones, which only this call
            // knows.
            if taken_out || (wrote && candidate.is_swept(now)) {
                self.expire_choice(tenant, entry, candidate);
            }
            wrote |= taken_out;
        }
        self.inner.looked_at.retain(|(tenant, state), ()| {
            let pending = records.get(tenant).and_then(|entry| entry.pending.as_ref());
            pending.is_some_and(|pending| pending.state.fingerprint() == *state)
        });
        self.inner.watched.retain(|watched, _| present.contains(watched));
        let orphans = self.settle_orphans(&records, now).await?;
        Ok(next.into_iter().chain(orphans).min())
    }

    /// Looks for the answer that a process left in its journal when it died, once the sign-in is over or
    /// has failed. Returns the time of the next look. [`Broker::poll_sign_ins`] does it for a poll.
    async fn look_for_an_answer(
        &self,
        tenant: &Tenant,
        pending: &Pending,
        now: UnixTime,
    ) -> Option<UnixTime> {
        let key = (tenant.clone(), pending.state.fingerprint());
        if pending.is_live(now) {
            self.inner.looked_at.remove(&key);
            return Some(pending.expires_at());
        }
        if self.inner.looked_at.contains_key(&key) {
            return None;
        }
        match self.recover_sign_in(tenant).await {
            Ok(RecoveredSignIn::Later) => self.discover_if_old(&tenant.provider),
            Ok(RecoveredSignIn::Nothing) => {
                self.inner.looked_at.insert(key, ());
                return None;
            }
            Ok(RecoveredSignIn::Finished(_) | RecoveredSignIn::AwaitsReload) => return None,
            Err(error) => tracing::warn!(%tenant, %error, "the journal of a sign-in cannot be read"),
        }
        Some(later(now, LOOK_AGAIN))
    }

    /// Returns when this process may remove a candidate, or `None` if it may do so now.
    fn time_left(&self, tenant: &Tenant, candidate: &Session, now: UnixTime) -> Option<UnixTime> {
        let left = self.watch(tenant, candidate);
        let awaits_choice = candidate.awaits_choice(now);
        if candidate.choice_is_long_over(now) || (!awaits_choice && left.is_zero()) {
            return None;
        }
        let end = if awaits_choice { candidate.choice_ends_at() } else { now };
        Some(end.max(later(now, left)))
    }

    /// Watches a candidate from now on, unless this process does so already. Returns the time for
    /// which the process keeps it.
    pub(super) fn watch(&self, tenant: &Tenant, candidate: &Session) -> Duration {
        let elapsed = self.inner.clock.elapsed();
        let begin = || Watch::begin(candidate, elapsed, self.inner.now());
        let watch = *self.inner.watched.entry((tenant.clone(), candidate.lineage)).or_insert_with(begin);
        watch.left(elapsed)
    }

    /// Calls [`Broker::expire_undecided`] whenever a candidate expires or the store changes. Ends
    /// when dropped.
    pub async fn expire_choices(&self) {
        let mut changes = self.changes();
        loop {
            let pause = match self.expire_undecided().await {
                Ok(None) => None,
                Ok(Some(next)) => {
                    let left = next.saturating_sub(self.inner.now()).try_into().unwrap_or(0);
                    Some(Duration::from_secs(left).min(LONGEST_PAUSE))
                }
                Err(error) => {
                    tracing::warn!(%error, "sign-ins that were not chosen cannot be removed; the next look tries again");
                    Some(LONGEST_PAUSE)
                }
            };
            tokio::time::sleep(SHORTEST_PAUSE).await;
            let due = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause.saturating_sub(SHORTEST_PAUSE)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = changes.next() => {}
            }
        }
    }

    /// Removes a candidate from the store. Returns whether this call did.
    pub(super) async fn take_out(&self, tenant: &Tenant, lineage: Lineage) -> Result<bool, StoreError> {
        let take_out = || self.inner.store.change(tenant, Change::Keep { lineage });
        match take_out().await {
            Ok(changed) => Ok(changed.applied == Applied::Done),
            // Nothing was changed, and a second try would wait for the same lock.
            Err(busy @ StoreError::Busy { .. }) => Err(busy),
            // The try may have taken effect without becoming durable, and then no later caller
            // finds the candidate. After a second try that is durable, this call has removed it.
            Err(_) => take_out().await.map(|_| true),
        }
    }

    /// Revokes a candidate that was not chosen in time, and then publishes the end of the choice.
    pub(super) fn expire_choice(&self, tenant: &Tenant, entry: &Entry, candidate: &Session) {
        tracing::info!(%tenant, "the sign-in with another account was not chosen in time and is dropped");
        let (broker, tenant, candidate) = (self.clone(), tenant.clone(), candidate.clone());
        let account = entry.session.as_ref().and_then(|session| session.account.clone());
        self.inner.tasks.spawn(async move {
            let unchosen = broker.revoke_dropped(&tenant, candidate).await;
            broker.inner.publish(Event::Lapsed(Kept { tenant, account, unchosen }));
        });
    }

    /// Revokes the grant of a sign-in that was removed from the store. Runs in a task of its own,
    /// because no later caller asks for it again.
    pub(super) async fn revoke_dropped(&self, tenant: &Tenant, candidate: Session) -> Unchosen {
        let account = candidate.account.clone();
        let (broker, of) = (self.clone(), tenant.clone());
        let ended =
            self.inner.tasks.spawn(async move { broker.revoke_unchosen(&of, &candidate).await }).await;
        let grant = match ended {
            Ok(true) => GrantEnd::Revoked,
            Ok(false) | Err(_) => GrantEnd::MayLiveOn,
        };
        if grant == GrantEnd::MayLiveOn {
            tracing::warn!(%tenant, "the grant of a sign-in that was not chosen may live on at the provider");
        }
        Unchosen { account, grant }
    }

    async fn revoke_unchosen(&self, tenant: &Tenant, candidate: &Session) -> bool {
        if self.inner.may_be_in_use(tenant, candidate).await {
            return false;
        }
        let Ok(provider) = self.inner.revoking_provider(tenant, candidate) else { return false };
        let (inner, tenant, candidate) = (self.inner.clone(), tenant.clone(), candidate.clone());
        // A task of its own: the tries go on after the report.
        let ended = tokio::spawn(async move { inner.revoke_surely(&tenant, &provider, &candidate).await });
        matches!(timeout(REVOKE_WITHIN, ended).await, Ok(Ok(Revoked::Yes)))
    }
}
