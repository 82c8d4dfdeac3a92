//! The exchange of a code: the one request of a sign-in, and what comes of it.
//!
//! A sign-in takes the global lock for its single writes and the tenant's *sign-in* lock, without waiting, for the exchange of
//! the code; so it never waits for a refresh that is under way. An exchange whose process died between the answer and the commit
//! is finished from the journal, by whoever comes next.

use super::{
    Broker, Event, FinishError, Finished, SignedIn, Undecided,
    landing::Landing,
    save::{Precious, save},
};
use crate::{
    ids::{Lineage, Tenant},
    oauth::{Attempt, Outcome, Provider, outcome},
    secret::AuthorizationCode,
    session::{
        Applied, Change, Grant, Pending, Session, apply,
        journal::{Intent, Journal, Spending},
    },
    store::{Purpose, StoreError, TenantLock},
    sys::random,
};

/// A finished sign-in, and the one that waited for a choice until it came.
pub(super) struct Exchanged {
    finished: Finished,
    replaced: Option<Session>,
    landing: Landing,
}

impl Broker {
    /// Exchanges the code under the tenant's sign-in lock, and makes durable what comes of it.
    pub(super) async fn exchange(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        pending: Pending,
        code: &AuthorizationCode,
    ) -> Result<Exchanged, FinishError> {
        let id = &tenant.provider;
        let lock = self.inner.store.try_lock(tenant, Purpose::SignIn).await?;
        let mut lock = lock.ok_or_else(|| FinishError::Busy(id.clone()))?;
        let entry = self.inner.store.read(tenant).await?;
        if entry.pending.is_none_or(|now| now.state != pending.state) {
            return Err(FinishError::Superseded(id.clone()));
        }
        let spending = Spending::Code { state: pending.state.fingerprint(), code: code.fingerprint() };
        match lock.journal().await? {
            Journal::Answered(intent, answer) if same_sign_in(&intent, &pending) => {
                let answer = Attempt::Answered(answer);
                match self.settle(provider, tenant, &pending, lock.as_mut(), &answer).await {
                    Ok(exchanged) => return Ok(exchanged),
                    Err(error) if intent.spending == spending => return Err(error),
                    Err(_) => lock.clear().await?,
                }
            }
            Journal::Intended(intent) if intent.spending == spending => {
                return Err(FinishError::CodeSpent(id.clone()));
            }
            Journal::Answered(..) | Journal::Intended(_) => lock.clear().await?,
            Journal::Empty => {}
        }
        let request = provider.exchange(&pending, code);
        let request = request.map_err(|_| FinishError::BindingChanged(id.clone()))?;
        let token_endpoint = pending.binding.token_endpoint.clone();
        let intent = Intent { spending, at: self.inner.now(), token_endpoint };
        lock.intend(&intent).await?;
        let sent = self.inner.client.send(request).await;
        if let Attempt::Answered(answer) = &sent {
            save(
                &self.inner,
                tenant,
                Purpose::SignIn,
                lock.as_mut(),
                Precious::Answer(&intent, answer),
                || {},
            )
            .await;
        }
        self.settle(provider, tenant, &pending, lock.as_mut(), &sent).await
    }

    /// What becomes of an exchange. An outcome in doubt stays in the journal, so that the same code is not sent again.
    async fn settle(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        pending: &Pending,
        lock: &mut dyn TenantLock,
        sent: &Attempt,
    ) -> Result<Exchanged, FinishError> {
        let id = tenant.provider.clone();
        let error = match outcome(sent, &pending.binding.client_id, pending.nonce.as_ref()) {
            Outcome::Granted(grant) => {
                let grant = grant.aged(sent.age(self.inner.now()));
                return self.signed_in(provider, tenant, pending, lock, grant).await;
            }
            Outcome::Ambiguous { code } => return Err(FinishError::Uncertain { provider: id, code }),
            Outcome::Unspent { code, .. } => FinishError::Unavailable { provider: id, code },
            Outcome::Ended { code } => FinishError::Refused { provider: id, code },
            Outcome::Misconfigured { code } => FinishError::Misconfigured { provider: id, code },
            Outcome::Mismatch { claim } => FinishError::Mismatch { provider: id, claim },
        };
        lock.clear().await?;
        Err(error)
    }

    async fn signed_in(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        pending: &Pending,
        lock: &mut dyn TenantLock,
        mut grant: Grant,
    ) -> Result<Exchanged, FinishError> {
        let now = self.inner.now();
        let before = self.inner.store.read(tenant).await?;
        let asked =
            grant.account.is_none() && before.session.as_ref().is_some_and(Session::has_known_account);
        if asked {
            // Before the commit, which decides by it. The answer is in the journal: whoever finds it there asks anew.
            grant.account = self.inner.client.account(provider, &grant.access_token).await;
        }
        let landing = Landing::begin(&self.inner, tenant);
        let lineage = Lineage(random::bytes());
        let mut session = Session::begin(lineage, grant, pending.binding.clone(), now);
        let change = Change::SignIn { state: pending.state.clone(), session: Box::new(session.clone()) };
        let mut expected = before.clone();
        apply(&mut expected, change.clone(), now);
        let change = || change.clone();
        let applied =
            save(&self.inner, tenant, Purpose::SignIn, lock, Precious::Change(&change), || {}).await;
        if let Err(error) = lock.clear().await {
            tracing::warn!(%tenant, %error, "the journal of the sign-in could not be emptied; the next one does it");
        }
        let after = match self.inner.store.read(tenant).await {
            Err(error) if applied == Applied::Stale => return Err(error.into()),
            // It is saved, and was decided by what was there.
            Err(_) => expected.clone(),
            Ok(after) => after,
        };
        let is = |at: &Option<Session>, lineage| at.as_ref().is_some_and(|there| there.lineage == lineage);
        let replaced = before
            .candidate
            .filter(|old| !is(&after.session, old.lineage) && !is(&after.candidate, old.lineage));
        if is(&after.candidate, lineage)
            && let Some(undecided) = Undecided::in_record(tenant, &after)
        {
            tracing::info!(%tenant, "signed in as another account; its person chooses");
            return Ok(Exchanged { finished: Finished::Undecided(undecided), replaced, landing });
        }
        // It waited for a choice, and does no more: the disk failed until its time was over, or somebody has decided already.
        let waited = applied == Applied::Done && is(&expected.candidate, lineage);
        if waited && after.session.is_some() && !is(&after.session, lineage) {
            for dropped in replaced.iter().chain([&session]) {
                self.lapse(tenant, &after, dropped);
            }
            return Err(FinishError::Expired(tenant.provider.clone()));
        }
        // Stale and there all the same: an earlier try took effect and could not be made durable; this one did.
        if !is(&after.session, lineage) && applied == Applied::Stale {
            return Err(FinishError::Superseded(tenant.provider.clone()));
        }
        if session.account.is_none() && !asked {
            session.account = self.find_account(provider, tenant, &session).await;
        }
        tracing::info!(%tenant, "signed in");
        let done = SignedIn::new(tenant, &session, before.session.as_ref());
        Ok(Exchanged { finished: Finished::SignedIn(done), replaced, landing })
    }

    /// With no lock held: gives up what waited for a choice until now, and tells.
    pub(super) async fn conclude(&self, tenant: &Tenant, exchanged: Exchanged) -> Finished {
        // Held until it is told.
        let Exchanged { mut finished, replaced, landing: _landing } = exchanged;
        if let Some(replaced) = replaced {
            let unchosen = Some(self.give_up(tenant, replaced).await);
            match &mut finished {
                Finished::SignedIn(done) => done.dropped = unchosen,
                Finished::Undecided(undecided) => undecided.dropped = unchosen,
            }
        }
        self.inner.tell(match &finished {
            Finished::SignedIn(done) => Event::SignedIn(done.clone()),
            Finished::Undecided(undecided) => Event::Undecided(undecided.clone()),
        });
        finished
    }

    /// Asks the provider whose login it is, and notes it. After the commit, where nothing depends on it.
    async fn find_account(&self, provider: &Provider, tenant: &Tenant, session: &Session) -> Option<String> {
        let account = self.inner.client.account(provider, &session.access_token).await?;
        let change = Change::Account { lineage: session.lineage, account: account.clone() };
        if let Err(error) = self.inner.store.change(tenant, change).await {
            tracing::warn!(%tenant, %error, "the account's name could not be noted");
        }
        Some(account)
    }

    /// Commits what an exchange left behind whose process died between the answer and the commit. Says what came of
    /// it, if it was something.
    pub(super) async fn recover_sign_in(&self, tenant: &Tenant) -> Result<Option<Finished>, StoreError> {
        let Some(provider) = self.inner.providers.get(&tenant.provider).cloned() else { return Ok(None) };
        let Some(mut lock) = self.inner.store.try_lock(tenant, Purpose::SignIn).await? else {
            return Ok(None);
        };
        let Some(pending) = self.inner.store.read(tenant).await?.pending else { return Ok(None) };
        let settled = match lock.journal().await? {
            Journal::Answered(intent, answer) if same_sign_in(&intent, &pending) => {
                tracing::warn!(%tenant, "finishing the sign-in that an earlier process left in the journal");
                let sent = Attempt::Answered(answer);
                self.settle(&provider, tenant, &pending, lock.as_mut(), &sent).await
            }
            _ => return Ok(None),
        };
        drop(lock);
        match settled {
            Ok(exchanged) => Ok(Some(self.conclude(tenant, exchanged).await)),
            Err(_) => Ok(None),
        }
    }
}

fn same_sign_in(intent: &Intent, pending: &Pending) -> bool {
    matches!(&intent.spending, Spending::Code { state, .. } if state.matches(&pending.state.fingerprint()))
}
