//! Orphans: tokens in the journal of a sign-in that is not in the store any more.
//!
//! A process that dies between the answer and its commit leaves the tokens in the journal. While the
//! sign-in is in the store, its own steps settle them: a repeated paste, a poll, a reload, or a look once
//! the sign-in is over ([`Broker::expire_undecided`]). If the sign-in is gone, nothing adopts them, because
//! the user cancelled it, replaced it, logged out, or never came back. Their grant is revoked:
//!
//! - The process that removes a sign-in looks at its journal at once ([`Broker::revoke_answered`]).
//! - Every broker that expires choices looks at all sign-in journals ([`Broker::settle_orphans`]). It finds
//!   the ones that the first process missed: it died between the removal and its look, another process held the lock, or
//!   the provider's endpoints were not known yet. It also finds the sign-ins that no process may finish, such
//!   as a server's where only `serve` runs, once the store may drop them.
//! - The next exchange or poll of the tenant does so before it writes its own journal
//!   ([`Broker::recover_journal`]). So commands alone forget no grant either.
//! - An answer whose id token is refused is an orphan at once: no process may use its tokens. The process that
//!   refuses it revokes their grant.
//!
//! # A session is not taken for an orphan
//!
//! A process may also die between the commit and the emptying of its journal. Its tokens are in use, and the
//! first refresh replaces them, so the tokens alone do not show it. A record of the tenant whose sign-in is
//! not older than the request in the journal may come from it: nothing is revoked then. A logout that keeps
//! the grant empties the tenant's sign-in journal.
//!
//! # When the process dies
//!
//! [`Broker::settle_orphans`] holds the sign-in lock while the provider is asked, and empties the journal only
//! after its answer. A death in between leaves the journal as it was, and the next look asks again: a
//! revocation can be repeated (RFC 7009 §2.2). While the provider does not answer, each look asks again, for
//! [`ASK_FOR`]. The other ways empty the journal first, because a user waits. If their process dies
//! before the provider answers, the grant lives on: see [`super::account_choice`].
//!
//! The journal names the token endpoint and no client. The revocation goes to the configured client of that
//! endpoint, which is the issuing one unless the operator changed it in between. Where it is another one,
//! the provider refuses, and the log has it.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::logout::Revoked;
use crate::{
    broker::{
        Broker, later,
        spend::{Recovered, recover},
    },
    ids::{Lineage, Tenant},
    oauth::{Attempt, Outcome, Provider, sign_in_outcome},
    secret::Fingerprint,
    session::{
        Binding, Change, Entry, Pending, Session, Unconfirmed,
        journal::{Answered, Found, Intent, Spending},
        seconds,
    },
    store::{Purpose, Records, StoreError, TenantLock},
    sys::{clock::UnixTime, random},
};

/// The longest time for one request of a look.
const REVOKE_WITHIN: Duration = Duration::from_secs(10);

/// The pause before the next look at a journal that could not be settled.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The time for which a provider that does not answer is asked to revoke an orphan.
const ASK_FOR: Duration = Duration::from_secs(24 * 60 * 60);

impl Broker {
    /// Settles the sign-in journals whose sign-in is gone. Returns the time of the next look, if one of
    /// them is left.
    pub(super) async fn settle_orphans(
        &self,
        records: &Records,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, StoreError> {
        let mut is_left = false;
        for tenant in self.inner.store.sign_in_journals().await? {
            let pending = records.get(&tenant).and_then(|entry| entry.pending.as_ref());
            let is_gone = pending.is_none_or(|pending| pending.is_swept(now));
            if !is_gone || !self.inner.providers.contains(&tenant.provider) {
                continue;
            }
            match self.settle_orphan(&tenant).await {
                Ok(is_settled) => is_left |= !is_settled,
                Err(error) => {
                    is_left = true;
                    tracing::warn!(%tenant, %error, "the journal of a sign-in cannot be settled; it is tried again");
                }
            }
        }
        Ok(is_left.then(|| later(now, LOOK_AGAIN)))
    }

    /// Revokes the grant in a journal, and then empties it. Returns whether nothing is left to do.
    async fn settle_orphan(&self, tenant: &Tenant) -> Result<bool, StoreError> {
        let Some(provider) = self.inner.providers.get(&tenant.provider) else {
            self.discover_if_old(&tenant.provider);
            return Ok(false);
        };
        let Some(mut lock) = self.inner.store.try_lock(tenant, Purpose::SignIn).await? else {
            return Ok(false);
        };
        let entry = lock.read().await?;
        let Found::Answered(answered) = lock.journal().await? else {
            // Without an answer no tokens are known, and the code is never sent again.
            if is_gone(&entry, None, self.inner.now()) {
                lock.clear().await?;
            }
            return Ok(true);
        };
        let arrived = answered.answer().at;
        if !is_gone(&entry, Some(answered.intent()), self.inner.now()) {
            return Ok(true);
        }
        if let Some(orphan) = self.orphan(&provider, &entry, None, &Attempt::Answered(answered)) {
            tracing::warn!(%tenant, "a sign-in that is gone left a grant in its journal; it is revoked");
            let ended = self.revoke_orphan(tenant, &provider, orphan);
            let is_late = self.inner.now() >= arrived.saturating_add(seconds(ASK_FOR));
            match timeout(REVOKE_WITHIN, ended).await.unwrap_or(Revoked::Unanswered) {
                Revoked::Unanswered if !is_late => return Ok(false),
                Revoked::Yes => {}
                Revoked::Unanswered | Revoked::No => {
                    tracing::warn!(%tenant, "the grant of a sign-in that is gone may live on at the provider");
                }
            }
        }
        lock.clear().await?;
        Ok(true)
    }

    /// Cancels this sign-in, and revokes its grant if it has one. Returns whether this call did.
    pub(super) async fn cancel_pending(
        &self,
        tenant: &Tenant,
        pending: &Pending,
    ) -> Result<bool, StoreError> {
        self.end_pending(tenant, pending, || Change::Cancel(Some(pending.state.clone()))).await
    }

    /// Applies a change that ends this sign-in, and revokes its grant. Returns whether this call did.
    pub(super) async fn end_pending(
        &self,
        tenant: &Tenant,
        pending: &Pending,
        change: impl Fn() -> Change,
    ) -> Result<bool, StoreError> {
        let read = self.inner.store.read(tenant).await?.pending.filter(|read| read.state == pending.state);
        let removed = match self.inner.store.change(tenant, change()).await {
            Ok(ended) if !ended.applied.took_effect() => return Ok(false),
            Ok(ended) => ended.before.pending,
            // Nothing was changed, and a second try would wait for the same lock.
            Err(busy @ StoreError::Busy { .. }) => return Err(busy),
            // The try may have taken effect without becoming durable, and then no later caller finds
            // the grant. After a second try that is durable, this call has removed it.
            Err(_) => {
                let again = self.inner.store.change(tenant, change()).await?;
                let Entry { session, candidate, .. } = &again.after;
                let is_placed = |waiting: &Unconfirmed| {
                    session.iter().chain(candidate).any(|there| there.lineage == waiting.session.lineage)
                };
                if again.applied.took_effect() {
                    again.before.pending
                } else {
                    read.filter(|read| !read.unconfirmed().is_some_and(is_placed))
                }
            }
        };
        self.revoke_removed(tenant, removed.as_ref()).await;
        Ok(removed.is_some())
    }

    /// Revokes, in a task of its own, the grant of a pending sign-in that was removed from the store. The
    /// tokens wait for their digits, or in the journal of a process that died.
    pub(super) async fn revoke_removed(&self, tenant: &Tenant, removed: Option<&Pending>) {
        let Some(removed) = removed else { return };
        let Some(waiting) = removed.unconfirmed() else {
            if let Err(error) = self.revoke_answered(tenant, removed).await {
                tracing::warn!(%tenant, %error, "the journal of a sign-in that has ended cannot be read");
            }
            return;
        };
        let (broker, tenant, session) = (self.clone(), tenant.clone(), waiting.session.clone());
        self.inner.tasks.spawn(async move { broker.revoke_dropped(&tenant, session).await });
    }

    /// Revokes the grant in the journal of a sign-in that was removed from the store, or has failed. No
    /// process can commit it any more. A process that still holds the lock revokes it itself.
    async fn revoke_answered(&self, tenant: &Tenant, removed: &Pending) -> Result<(), StoreError> {
        let Some(provider) = self.inner.providers.get(&tenant.provider) else { return Ok(()) };
        let Some((mut lock, answered)) = self.answered(tenant, removed).await? else { return Ok(()) };
        let entry = lock.read().await?;
        let orphan = self.orphan(&provider, &entry, Some(&removed.binding), &Attempt::Answered(answered));
        lock.clear().await?;
        drop(lock);
        self.revoke_in_background(tenant, &provider, orphan);
        Ok(())
    }

    /// Empties the journal of a tenant whose user has logged out and keeps the grant.
    pub(super) async fn forget_answered(&self, tenant: &Tenant) -> Result<(), StoreError> {
        let Some(mut lock) = self.inner.store.try_lock(tenant, Purpose::SignIn).await? else {
            return Ok(());
        };
        if lock.read().await?.pending.is_none() {
            lock.clear().await?;
        }
        Ok(())
    }

    /// Takes the lock of a sign-in whose answer is in the journal.
    async fn answered(
        &self,
        tenant: &Tenant,
        removed: &Pending,
    ) -> Result<Option<(TenantLock, Answered)>, StoreError> {
        let Some(mut lock) = self.inner.store.try_lock(tenant, Purpose::SignIn).await? else {
            return Ok(None);
        };
        Ok(match lock.journal().await? {
            Found::Answered(answered) if is_of(&answered.intent().spending, &removed.state.fingerprint()) => {
                Some((lock, answered))
            }
            _ => None,
        })
    }

    /// As [`recover`] for the sign-in with this state. Revokes the grant of another one that is gone.
    pub(super) async fn recover_journal(
        &self,
        provider: &Arc<Provider>,
        tenant: &Tenant,
        state: &Fingerprint,
        lock: &mut TenantLock,
    ) -> Result<Recovered, StoreError> {
        if let Found::Answered(answered) = lock.journal().await?
            && !is_of(&answered.intent().spending, state)
        {
            let entry = lock.read().await?;
            let orphan = self.orphan(provider, &entry, None, &Attempt::Answered(answered));
            lock.clear().await?;
            self.revoke_in_background(tenant, provider, orphan);
        }
        recover(lock, |spending| is_of(spending, state)).await
    }

    /// Returns the grant in a journal that no record may hold. Without a binding, which that of a removed
    /// sign-in is, the configured client of the request's endpoint issued it.
    pub(super) fn orphan(
        &self,
        provider: &Provider,
        entry: &Entry,
        bound: Option<&Binding>,
        attempt: &Attempt<Answered>,
    ) -> Option<Session> {
        let Attempt::Answered(answered) = attempt else { return None };
        let intent = answered.intent();
        let (at, token_endpoint) = (intent.at, intent.token_endpoint.clone());
        let is_of_any_sign_in = bound.is_none();
        let bound = bound.cloned().unwrap_or_else(|| Binding { token_endpoint, ..provider.binding() });
        // Without a nonce no id token costs the tokens, which are only revoked.
        let outcome = sign_in_outcome(attempt, &provider.answer_rules(&bound), None);
        let Ok(Outcome::Granted(grant)) = outcome else { return None };
        let waiting = entry.pending.as_ref().and_then(Pending::unconfirmed).map(|waiting| &waiting.session);
        let may_hold = |there: &Session| {
            there.access_token == grant.access_token
                || there.refresh_token.is_some() && there.refresh_token == grant.refresh_token
                || is_of_any_sign_in && there.signed_in_at.is_none_or(|signed_in| signed_in >= at)
        };
        if entry.session.iter().chain(&entry.candidate).chain(waiting).any(may_hold) {
            return None;
        }
        let now = self.inner.now();
        let grant = grant.aged(attempt.age(now));
        Some(Session::begin(Lineage(random::bytes()), grant, bound, now))
    }

    /// Revokes an orphan that is in no journal any more.
    pub(super) fn revoke_in_background(
        &self,
        tenant: &Tenant,
        provider: &Arc<Provider>,
        orphan: Option<Session>,
    ) {
        let Some(orphan) = orphan else { return };
        let (broker, tenant, provider) = (self.clone(), tenant.clone(), provider.clone());
        self.inner.tasks.spawn(async move {
            let orphan = broker.named(&tenant, &provider, orphan).await;
            broker.revoke_dropped(&tenant, orphan).await
        });
    }

    /// Asks once for the revocation of an orphan, unless another session of its account ends with it.
    async fn revoke_orphan(&self, tenant: &Tenant, provider: &Provider, orphan: Session) -> Revoked {
        let orphan = self.named(tenant, provider, orphan).await;
        if self.inner.may_be_in_use(tenant, &orphan).await {
            return Revoked::No;
        }
        match self.inner.revoking_provider(tenant, &orphan) {
            Ok(provider) => self.inner.revoke(tenant, &provider, &orphan).await,
            Err(_) => Revoked::No,
        }
    }

    /// Asks for the account of an orphan: another session of the same account may end with its grant.
    async fn named(&self, tenant: &Tenant, provider: &Provider, mut orphan: Session) -> Session {
        if orphan.account.is_none() {
            let (bound, token) = (&orphan.binding, &orphan.access_token);
            let subject = orphan.subject.as_deref();
            if let Some(found) = self.account(provider, tenant, bound, token, subject).await {
                orphan.take_account(found.name, found.subject);
            }
        }
        orphan
    }
}

/// Whether the sign-in of this request is not in the store, or may be dropped from it.
fn is_gone(entry: &Entry, intent: Option<&Intent>, now: UnixTime) -> bool {
    entry.pending.as_ref().is_none_or(|pending| {
        let is_another = |intent: &Intent| !is_of(&intent.spending, &pending.state.fingerprint());
        pending.is_swept(now) || intent.is_some_and(is_another)
    })
}

/// Whether a request spends a code of the sign-in with this state.
fn is_of(spending: &Spending, state: &Fingerprint) -> bool {
    matches!(spending, Spending::Code { state: then, .. } if then.matches(state))
}
