//! Signing in and out.
//!
//! A sign-in takes the global lock for its single writes and the tenant's *sign-in* lock, without waiting, for the exchange of
//! the code; so it never waits for a refresh that is under way. What was pasted is checked, and refused, before
//! anything is sent.

use super::{
    Broker, CancelError, Event, FinishError, Finished, GrantEnd, LoggedOut, LogoutError, Revocation, SignIn,
    SignedIn, StartError, Undecided,
    save::{Precious, save},
    shown::{Landing, Shown},
};
use crate::{
    ids::{Lineage, Principal, ProviderId, Tenant},
    oauth::{Outcome, Pasted, Provider, Sent, TokenRequest, outcome},
    secret::AuthorizationCode,
    session::{
        Applied, Change, Entry, Grant, Pending, Session, apply,
        journal::{Intent, Journal, Spending},
    },
    store::{Purpose, StoreError, TenantLock},
    sys::random,
};

/// How often a start that meets another one looks again.
const TRIES: usize = 3;

/// A finished sign-in, and the one that waited for a choice until it came.
struct Landed {
    finished: Finished,
    replaced: Option<Session>,
    landing: Landing,
}

impl Broker {
    /// Starts a sign-in, or shows the one again that `started_by` has under way.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(&self, tenant: &Tenant, started_by: Principal) -> Result<SignIn, StartError> {
        let provider = self.inner.providers.get(&tenant.provider).cloned();
        let provider = provider.ok_or_else(|| StartError::UnknownProvider(tenant.provider.clone()))?;
        let mut until = 0;
        for _ in 0..TRIES {
            let now = self.inner.now();
            let entry = self.inner.store.read(tenant).await?;
            if let Some(live) = entry.pending.as_ref().filter(|pending| pending.is_live(now)) {
                until = live.expires_at();
                if live.started_by != started_by {
                    break;
                }
                if provider.takes(live) {
                    return Ok(shown(&provider, Shown::link(tenant, live, &entry), live, true));
                }
                // Configured anew since: the old link leads to another place.
                self.inner.store.change(tenant, Change::Cancel(Some(live.state.clone()))).await?;
            }
            let seen = entry.session.as_ref().map(|session| session.lineage);
            let pending = provider.begin(started_by, seen, now);
            if self.inner.store.change(tenant, Change::Start(pending.clone())).await? == Applied::Done {
                return Ok(shown(&provider, Shown::link(tenant, &pending, &entry), &pending, false));
            }
        }
        Err(StartError::Busy { tenant: tenant.clone(), until })
    }

    /// Finishes the sign-in of `who` with what they pasted. Without `provider`: the one whose `state` matches, or the only
    /// one under way.
    ///
    /// # Errors
    /// See [`FinishError`].
    pub async fn finish(
        &self,
        who: Principal,
        provider: Option<&ProviderId>,
        pasted: Pasted,
    ) -> Result<Finished, FinishError> {
        let (tenant, pending) = self.pending_for(who, provider, &pasted).await?;
        let id = tenant.provider.clone();
        let provider = self.inner.providers.get(&id).cloned();
        let provider = provider.ok_or_else(|| FinishError::UnknownProvider(id.clone()))?;
        if pasted.state.is_none() && !provider.enforces_pkce() {
            return Err(FinishError::StateNeeded(id));
        }
        check_issuer(&pending, &pasted)?;
        let broker = self.clone();
        let code = pasted.code;
        let exchange = async move {
            let landed = broker.exchange(&provider, &tenant, pending, &code).await?;
            Ok(broker.landed(&tenant, landed).await)
        };
        // A task of its own: who gives up waiting does not lose what comes back.
        self.inner.tasks.spawn(exchange).await.unwrap_or(Err(FinishError::Internal(id)))
    }

    /// Drops what `who` has under way; with a provider only that. Returns what was dropped.
    ///
    /// # Errors
    /// See [`CancelError`].
    pub async fn cancel(
        &self,
        who: Principal,
        provider: Option<&ProviderId>,
    ) -> Result<Vec<Tenant>, CancelError> {
        let now = self.inner.now();
        let mut dropped = Vec::new();
        for (tenant, entry) in self.inner.store.list().await?.iter() {
            let Some(pending) = &entry.pending else { continue };
            let theirs = pending.started_by == who && provider.is_none_or(|p| *p == tenant.provider);
            let live = pending.is_live(now);
            if theirs
                && self.inner.store.change(tenant, Change::Cancel(Some(pending.state.clone()))).await?
                    == Applied::Done
                && live
            {
                dropped.push(tenant.clone());
            }
        }
        Ok(dropped)
    }

    /// Removes the session at once, and with it a sign-in that is under way or waits for a choice. What a process leaves behind that dies
    /// before the provider has answered: see `broker::choice`.
    ///
    /// # Errors
    /// See [`LogoutError`].
    pub async fn logout(&self, tenant: &Tenant, revocation: Revocation) -> Result<LoggedOut, LogoutError> {
        let (session, candidate) = self.remove(tenant, revocation).await?;
        tracing::info!(%tenant, "logged out");
        self.inner.tell(Event::LoggedOut(tenant.clone()));
        if revocation == Revocation::Keep {
            return Ok(LoggedOut::LocallyOnly);
        }
        let undecided = match candidate {
            Some(candidate) => self.give_up(tenant, candidate).await.grant,
            None => GrantEnd::Revoked,
        };
        let request = self.inner.providers.get(&tenant.provider).and_then(|p| p.revoke(&session));
        let Some(request) = request else { return Ok(LoggedOut::CannotRevoke) };
        Ok(if self.inner.revoke(tenant, request).await && undecided == GrantEnd::Revoked {
            LoggedOut::Revoked
        } else {
            LoggedOut::RevocationFailed
        })
    }

    /// Takes the session out, in the very state that is returned: a refresh that commits in between leaves a token behind
    /// that would otherwise live on while an older one is revoked. With it goes what waits for a choice, and that is returned too.
    async fn remove(
        &self,
        tenant: &Tenant,
        revocation: Revocation,
    ) -> Result<(Session, Option<Session>), LogoutError> {
        let mut last = None;
        for _ in 0..TRIES {
            let Entry { session, candidate, .. } = self.inner.store.read(tenant).await?;
            let Some(session) = session else { break };
            if revocation == Revocation::Revoke && self.in_flight(tenant) {
                self.inner.revoking.insert(session.lineage, ());
            }
            let waits = candidate.as_ref().map(|candidate| candidate.lineage);
            let change = Change::LogoutOf { seen: session.seen(), candidate: waits };
            if self.inner.store.change(tenant, change).await? == Applied::Done {
                return Ok((session, candidate));
            }
            last = Some((session, candidate));
        }
        let none = || LogoutError::NoSession(tenant.clone());
        // Without a session there is nothing to remove; a sign-in under way is not what was asked about.
        let last = last.ok_or_else(none)?;
        let gone = self.inner.store.change(tenant, Change::Logout).await? == Applied::Done;
        gone.then_some(last).ok_or_else(none)
    }

    /// The pending sign-in that a paste is for.
    async fn pending_for(
        &self,
        who: Principal,
        provider: Option<&ProviderId>,
        pasted: &Pasted,
    ) -> Result<(Tenant, Pending), FinishError> {
        if let Some(id) = provider.filter(|id| self.inner.providers.get(id).is_none()) {
            return Err(FinishError::UnknownProvider(id.clone()));
        }
        let now = self.inner.now();
        let entries = self.inner.store.list().await?;
        let here = |tenant: &Tenant| provider.is_none_or(|id| *id == tenant.provider);
        let mut open: Vec<(Tenant, Pending)> = Vec::new();
        let mut expired = None;
        let mut just_done = None;
        let mut undecided = None;
        for (tenant, entry) in entries.iter().filter(|(tenant, _)| here(tenant)) {
            if let Some(pending) = entry.pending.as_ref().filter(|pending| pending.started_by == who) {
                if pending.is_live(now) {
                    open.push((tenant.clone(), pending.clone()));
                } else {
                    expired = Some(tenant.provider.clone());
                }
            } else if let Some(one) =
                Undecided::of(tenant, entry, now).filter(|one| one.tenant.principal == who)
            {
                undecided = Some(one);
            } else if let Some(session) =
                entry.session.as_ref().filter(|s| tenant.principal == who && just_begun(s, now))
            {
                just_done = Some((tenant.provider.clone(), session.account.clone()));
            }
        }
        if open.is_empty() {
            return Err(match (undecided, just_done, expired) {
                (Some(Undecided { tenant, account, .. }), ..) => {
                    FinishError::AwaitsChoice { provider: tenant.provider, account }
                }
                (None, Some((provider, account)), _) => FinishError::AlreadyDone { provider, account },
                (None, None, Some(provider)) => FinishError::Expired(provider),
                (None, None, None) => FinishError::NothingPending { provider: provider.cloned() },
            });
        }
        if let Some(state) = &pasted.state {
            let found = open.into_iter().find(|(_, pending)| pending.state == *state);
            return found.ok_or(FinishError::StateMismatch);
        }
        if open.len() > 1 {
            return Err(FinishError::Ambiguous(
                open.into_iter().map(|(tenant, _)| tenant.provider).collect(),
            ));
        }
        open.pop().ok_or_else(|| FinishError::NothingPending { provider: provider.cloned() })
    }

    async fn exchange(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        pending: Pending,
        code: &AuthorizationCode,
    ) -> Result<Landed, FinishError> {
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
                let answer = Sent::Answer(answer);
                match self.settle(provider, tenant, &pending, lock.as_mut(), &answer).await {
                    Ok(landed) => return Ok(landed),
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
        if let Sent::Answer(answer) = &sent {
            save(&self.inner, tenant, lock.as_mut(), Precious::Answer(&intent, answer), || {}).await;
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
        sent: &Sent,
    ) -> Result<Landed, FinishError> {
        let id = tenant.provider.clone();
        let error = match outcome(sent, &pending.binding.client_id, pending.nonce.as_ref()) {
            Outcome::Granted(grant) => {
                return self.signed_in(provider, tenant, pending, lock, *grant).await;
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
    ) -> Result<Landed, FinishError> {
        let now = self.inner.now();
        let before = self.inner.store.read(tenant).await?;
        let asked = grant.account.is_none() && before.session.as_ref().is_some_and(Session::is_somebodys);
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
        let applied = save(&self.inner, tenant, lock, Precious::Change(&change), || {}).await;
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
            return Ok(Landed { finished: Finished::Undecided(undecided), replaced, landing });
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
        Ok(Landed { finished: Finished::SignedIn(done), replaced, landing })
    }

    /// With no lock held: gives up what waited for a choice until now, and tells.
    async fn landed(&self, tenant: &Tenant, landed: Landed) -> Finished {
        // Held until it is told.
        let Landed { mut finished, replaced, landing: _landing } = landed;
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
                let sent = Sent::Answer(answer);
                self.settle(&provider, tenant, &pending, lock.as_mut(), &sent).await
            }
            _ => return Ok(None),
        };
        drop(lock);
        match settled {
            Ok(landed) => Ok(Some(self.landed(tenant, landed).await)),
            Err(_) => Ok(None),
        }
    }
}

impl super::Inner {
    /// RFC 7009 §2.2: 200 also for a token that the provider no longer knows.
    pub(super) async fn revoke(&self, tenant: &Tenant, request: TokenRequest) -> bool {
        tracing::info!(%tenant, "the provider is asked to revoke a grant");
        match self.client.send(request).await {
            Sent::Answer(answer) if answer.status == 200 => {
                tracing::info!(%tenant, "the provider has revoked the grant");
                true
            }
            Sent::Answer(answer) => {
                tracing::warn!(%tenant, status = answer.status, "the provider did not revoke the grant");
                false
            }
            Sent::NotSent(code) | Sent::Unknown(code) => {
                tracing::warn!(%tenant, code, "the provider could not be asked to revoke the grant");
                false
            }
        }
    }

    /// A refresh came back for a grant that was logged out with revocation meanwhile: the new tokens go as well.
    pub(super) async fn revoke_late(
        &self,
        tenant: &Tenant,
        provider: &Provider,
        dead: &Session,
        grant: Grant,
    ) {
        if self.revoking.remove(&dead.lineage).is_none() {
            return;
        }
        let session = Session::begin(dead.lineage, grant, dead.binding.clone(), self.now());
        if let Some(request) = provider.revoke(&session) {
            self.revoke(tenant, request).await;
        }
    }
}

fn shown(provider: &Provider, shown: Shown, pending: &Pending, resumed: bool) -> SignIn {
    SignIn {
        tenant: shown.tenant().clone(),
        authorize_url: provider.authorize_url(pending),
        expires_at: pending.expires_at(),
        resumed,
        shown,
    }
}

/// RFC 9207 §2.4: an answer from another issuer than asked is refused.
fn check_issuer(pending: &Pending, pasted: &Pasted) -> Result<(), FinishError> {
    match (&pending.binding.issuer, &pasted.iss) {
        (Some(expected), Some(got)) if expected != got => Err(FinishError::IssuerMismatch {
            expected: expected.clone(),
            got: got.chars().take(200).collect(),
        }),
        _ => Ok(()),
    }
}

fn same_sign_in(intent: &Intent, pending: &Pending) -> bool {
    matches!(&intent.spending, Spending::Code { state, .. } if state.matches(&pending.state.fingerprint()))
}

/// A sign-in of the last quarter of an hour: a code that is pasted now was most likely for it.
fn just_begun(session: &Session, now: i64) -> bool {
    session.generation == 1 && now < super::later(session.issued_at, crate::session::PENDING_LIFETIME)
}
