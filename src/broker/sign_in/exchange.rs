//! The exchange of a code: the one request of a sign-in, and its result.
//!
//! The exchange holds the tenant's *sign-in* lock, which it takes without waiting, from before the
//! pending sign-in is read until the result is durable. If its process dies between the answer and
//! the commit, the next caller finishes it from the journal ([`Broker::recover_sign_in`]). An
//! outcome in doubt stays in the journal, so that the same code is not sent again.

use std::{sync::Arc, time::Duration};

use super::sign_in_progress::FinishingSignIn;
use crate::{
    broker::{
        Broker, DigitsPage, Event, FinishError, Finished, SignedIn, Undecided,
        error::{is_from_a_wrong_endpoint, wait_until},
        issuer_keys::{Unproved, log_unproved},
        spend::{Recovered, commit, may_hold_tokens, spend},
    },
    ids::{Lineage, Tenant},
    net::Unreachable,
    oauth::{
        Attempt, Mismatch, Outcome, Proof, Provider, SignatureFault, Userinfo, UserinfoAccount,
        sign_in_outcome,
    },
    secret::{AccessToken, AuthorizationCode, Digits, State},
    session::{
        Applied, Binding, CHOICE_LIFETIME, Changed, Entry, Grant, Pending, Session, Settlement, failure,
        journal::{Answered, Intent, Spending},
    },
    store::{Purpose, StoreError, TenantLock},
    sys::random,
};

/// The pause before the userinfo endpoint is asked again, if two accounts are to be compared.
const PAUSE_BEFORE_SECOND_QUESTION: Duration = Duration::from_secs(1);

/// A finished sign-in, and the candidate that it replaced.
pub(super) struct Exchanged {
    finished: Finished,
    replaced: Option<Session>,
    finishing: FinishingSignIn,
}

/// The result of an exchange.
#[expect(clippy::large_enum_variant, reason = "it is moved a few times and never kept")]
pub(super) enum Landed {
    /// The sign-in is finished.
    Finished(Exchanged),
    /// It waits for the digits that the browser shows.
    Digits(DigitsPage),
}

/// The result of a look at the journal of a sign-in ([`Broker::recover_sign_in`]).
pub(in crate::broker) enum RecoveredSignIn {
    /// The sign-in is finished.
    Finished(Box<Finished>),
    /// The journal holds nothing that could be committed.
    Nothing,
    /// The answer waits for a reload of the page.
    AwaitsReload,
    /// Another process holds the lock, or the provider's endpoints are not known yet.
    Later,
}

impl Broker {
    /// Exchanges the code and makes the result durable.
    #[tracing::instrument(name = "sign_in", skip_all, fields(%tenant, generation = 1))]
    pub(super) async fn exchange(
        &self,
        provider: &Arc<Provider>,
        tenant: &Tenant,
        state: &State,
        code: &AuthorizationCode,
    ) -> Result<Landed, FinishError> {
        let id = &tenant.provider;
        let gate = self.inner.sign_in_gates.pass(tenant).await;
        let lock = self.inner.store.try_lock(tenant, Purpose::SignIn).await?;
        drop(gate);
        let Some(mut lock) = lock else {
            return Err(match self.inner.store.lock_holder(tenant, Purpose::SignIn).await {
                Some(holder) => FinishError::Held { provider: id.clone(), holder },
                None => FinishError::Busy(id.clone()),
            });
        };
        let pending = lock.read().await?.pending().filter(|pending| pending.state == *state);
        let pending = pending.ok_or_else(|| FinishError::Superseded(id.clone()))?;
        // Another request of the browser has exchanged it. A second use would cost the grant.
        if pending.unconfirmed().is_some() || pending.failure().is_some() {
            return Err(FinishError::DigitsExpected(id.clone()));
        }
        let spending = Spending::Code { state: state.fingerprint(), code: code.fingerprint() };
        match self.recover_journal(provider, tenant, &state.fingerprint(), &mut lock).await? {
            Recovered::Answered(answered) => {
                let is_this_code = answered.intent().spending.matches(&spending);
                let attempt = Attempt::Answered(answered);
                match self.settle(provider, tenant, &pending, &mut lock, &attempt).await {
                    Ok(exchanged) => return Ok(exchanged),
                    Err(error) if is_this_code => return Err(error),
                    // The answer stays in the journal until the store works again.
                    Err(error @ FinishError::Store(_)) => return Err(error),
                    Err(error) => {
                        if matches!(error, FinishError::Uncertain { .. }) && may_hold_tokens(&attempt) {
                            lock.keep_unread().await?;
                        }
                        lock.clear().await?;
                    }
                }
            }
            Recovered::Unanswered(intent) if intent.spending.matches(&spending) => {
                return Err(FinishError::CodeSpent(id.clone()));
            }
            Recovered::Unanswered(_) | Recovered::Nothing => {}
        }
        let now = self.inner.now();
        if let Some(until) = pending.wrong_codes.and_then(|wrong| wrong.pause_until(now)) {
            return Err(FinishError::TooManyCodes {
                provider: id.clone(),
                retry_after: wait_until(until, now),
            });
        }
        let credentials = self.inner.credentials(provider, &pending.binding).await;
        let credentials =
            credentials.map_err(|problem| FinishError::NoClientSecret { provider: id.clone(), problem })?;
        let request = provider.acquirer(pending.grant()).request(
            provider,
            &pending,
            &Proof::Code { code: code.clone(), verifier: None },
            &credentials,
        );
        let request = request.map_err(|withheld| {
            tracing::error!(%tenant, reason = %withheld, "the code is not sent");
            FinishError::BindingChanged(id.clone())
        })?;
        let token_endpoint = provider.token_endpoint().to_string();
        let intent = Intent { spending, at: now, token_endpoint };
        let attempt = spend(&self.inner, tenant, Purpose::SignIn, &mut lock, intent, request).await?;
        self.settle(provider, tenant, &pending, &mut lock, &attempt).await
    }

    /// Commits the meaning of the result.
    async fn settle(
        &self,
        provider: &Arc<Provider>,
        tenant: &Tenant,
        pending: &Pending,
        lock: &mut TenantLock,
        attempt: &Attempt<Answered>,
    ) -> Result<Landed, FinishError> {
        let id = tenant.provider.clone();
        let rules = provider.answer_rules(&pending.binding);
        let error = match sign_in_outcome(attempt, &rules, pending.nonce.as_ref()) {
            Ok(Outcome::Granted(mut grant)) => {
                match self.check_signature(provider, tenant, pending, &mut grant).await {
                    Ok(()) => return self.granted(provider, tenant, pending, lock, attempt, *grant).await,
                    Err(fault) => FinishError::IdTokenRefused { provider: id, problem: unsigned(fault) },
                }
            }
            // Only a refresh has such an outcome.
            Ok(Outcome::Foreign { claim }) => FinishError::Mismatch { provider: id, claim },
            Ok(Outcome::Ambiguous { code }) => return Err(FinishError::Uncertain { provider: id, code }),
            Ok(Outcome::Unspent { code, .. }) if Unreachable::STEPS.contains(&code.as_str()) => {
                FinishError::Unreachable { provider: id, code, cause: self.inner.client.trouble(provider) }
            }
            Ok(Outcome::Unspent { code, .. }) if is_from_a_wrong_endpoint(&code) => {
                let endpoint = provider.token_endpoint().to_string();
                FinishError::WrongEndpoint { provider: id, code, endpoint }
            }
            Ok(Outcome::Unspent { code, .. }) => FinishError::Unavailable { provider: id, code },
            Ok(Outcome::Ended { code } | Outcome::Refused { code }) => {
                FinishError::Refused { provider: id, code }
            }
            Ok(Outcome::Misconfigured { code }) => {
                self.inner.forget_client(provider, &pending.binding, &code).await;
                FinishError::Misconfigured { provider: id, code }
            }
            Err(Mismatch::Nonce) => FinishError::Mismatch { provider: id, claim: "nonce" },
            Err(Mismatch::Audience) => FinishError::Mismatch { provider: id, claim: "aud" },
            Err(Mismatch::NoNonce) => FinishError::NonceMissing(id),
            Err(fault) => FinishError::IdTokenRefused { provider: id, problem: fault.to_string() },
        };
        // A refused id token leaves tokens that no process may use.
        let refused = self.orphan(provider, &*lock.read().await?, Some(&pending.binding), attempt);
        // In this order: a reader of the journal after a death in between counts no code twice.
        lock.clear().await?;
        self.revoke_in_background(tenant, provider, refused);
        if let Attempt::Answered(_) = attempt {
            lock.settle(Settlement::WrongCode(pending.state.clone())).await?;
        }
        Err(error)
    }

    /// Checks the signature of the id token. The answer is durable, and no other lock than the sign-in
    /// lock is held ([`issuer_keys`](crate::broker::issuer_keys)). A token that was not requested is
    /// only ignored.
    pub(super) async fn check_signature(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        pending: &Pending,
        grant: &mut Grant,
    ) -> Result<(), SignatureFault> {
        let Some(identity) = &grant.identity else { return Ok(()) };
        match self.inner.prove(provider, &identity.id_token).await {
            Ok(()) => Ok(()),
            Err(Unproved::Refused(fault)) if pending.nonce.is_some() => Err(fault),
            Err(unproved) => {
                log_unproved(tenant, &unproved);
                grant.identity = None;
                Ok(())
            }
        }
    }

    pub(super) async fn granted(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        pending: &Pending,
        lock: &mut TenantLock,
        attempt: &Attempt<Answered>,
        grant: Grant,
    ) -> Result<Landed, FinishError> {
        let read = lock.read().await?;
        let subject = grant.identity.as_ref().map(|identity| identity.subject.clone());
        let is_nameless = grant.account.is_none() || grant.account == subject;
        let is_compared = read.session.as_ref().is_some_and(|session| {
            session.has_known_account() && (subject.is_none() || session.subject.is_none() && is_nameless)
        });
        // The last page of a sign-in by the browser names the account.
        let is_shown = pending.browser.is_some() && (subject.is_none() || is_nameless);
        let is_asked = is_compared || is_shown;
        let mut found = None;
        if is_asked {
            // The commit depends on the account. The answer is in the journal, so a later caller
            // can ask again.
            let (bound, token) = (&pending.binding, &grant.access_token);
            found = self.account(provider, tenant, bound, token, subject.as_deref()).await;
            if found.is_none() && is_compared {
                tokio::time::sleep(PAUSE_BEFORE_SECOND_QUESTION).await;
                found = self.account(provider, tenant, bound, token, subject.as_deref()).await;
            }
        }
        let is_unanswered = found.is_none();
        let finishing = FinishingSignIn::begin(&self.inner, tenant);
        let begun = self.inner.clock.elapsed();
        let now = self.inner.now();
        let grant = grant.aged(attempt.age(now));
        let mut session = Session::begin(Lineage(random::bytes()), grant, pending.binding.clone(), now);
        if let Some(found) = found {
            session.take_account(found.name, found.subject);
        }
        session.signed_in_by = Some(pending.started_by);
        session.signed_in_at = Some(now);
        if pending.browser.is_some() {
            return self.await_digits(tenant, pending, lock, session).await.map(Landed::Digits);
        }
        let settlement =
            || Settlement::SignIn { state: pending.state.clone(), session: Box::new(session.clone()) };
        let changed = commit(&self.inner, tenant, Purpose::SignIn, lock, &settlement, || {}).await;
        if let Err(error) = lock.clear().await {
            tracing::warn!(%tenant, %error, "the journal of the sign-in could not be emptied; the next one does it");
        }
        let before = match changed.applied {
            Applied::Done => changed.before,
            // An earlier try replaced the record that was read.
            Applied::Already => Entry::clone(&read),
            Applied::Stale => {
                self.drop_late(tenant, session);
                return Err(FinishError::Superseded(tenant.provider.clone()));
            }
        };
        let is = |there: &Option<Session>, lineage| there.as_ref().is_some_and(|s| s.lineage == lineage);
        let is_new = |there: &Option<Session>| is(there, session.lineage);
        let after = &changed.after;
        let is_gone = |old: &Session| !is(&after.session, old.lineage) && !is(&after.candidate, old.lineage);
        let replaced = before.candidate.filter(is_gone);
        if let Some(candidate) = changed.after.candidate.as_ref().filter(|new| new.lineage == session.lineage)
        {
            // The disk may have failed until the time to choose was over.
            let is_late = self.inner.clock.elapsed().saturating_sub(begun) >= CHOICE_LIFETIME;
            self.watch(tenant, candidate);
            if !is_late && let Some(undecided) = Undecided::in_record(tenant, &changed.after) {
                tracing::info!(%tenant, "signed in with another account; the user chooses");
                return Ok(Landed::Finished(Exchanged {
                    finished: Finished::Undecided(undecided),
                    replaced,
                    finishing,
                }));
            }
            let taken_out = self.take_out(tenant, session.lineage).await?;
            for dropped in replaced.iter().chain(taken_out.then_some(&session)) {
                self.expire_choice(tenant, &changed.after, dropped);
            }
            return Err(FinishError::Expired(tenant.provider.clone(), CHOICE_LIFETIME));
        }
        if !is_new(&changed.after.session) {
            // The disk failed for so long that the same write swept the candidate.
            for dropped in replaced.iter().chain([&session]) {
                self.expire_choice(tenant, &changed.after, dropped);
            }
            return Err(FinishError::Expired(tenant.provider.clone(), CHOICE_LIFETIME));
        }
        let mut session = session;
        if is_unanswered && (session.has_no_readable_name() || session.subject.is_none()) {
            self.find_account(provider, tenant, &mut session).await;
        }
        tracing::info!(%tenant, "signed in");
        let done = SignedIn::new(tenant, &session, before.session.as_ref(), &pending.scopes);
        Ok(Landed::Finished(Exchanged { finished: Finished::SignedIn(done), replaced, finishing }))
    }

    /// Keeps the result of an exchange until its digits are typed.
    async fn await_digits(
        &self,
        tenant: &Tenant,
        pending: &Pending,
        lock: &mut TenantLock,
        session: Session,
    ) -> Result<DigitsPage, FinishError> {
        let digits = Digits::of(u64::from_le_bytes(random::bytes()));
        let settlement = || Settlement::AwaitDigits {
            state: pending.state.clone(),
            session: Box::new(session.clone()),
            digits: digits.fingerprint(&pending.state),
        };
        let changed = commit(&self.inner, tenant, Purpose::SignIn, lock, &settlement, || {}).await;
        if let Err(error) = lock.clear().await {
            tracing::warn!(%tenant, %error, "the journal of the sign-in could not be emptied; the next one does it");
        }
        if !changed.applied.took_effect() {
            self.drop_late(tenant, session);
            return Err(FinishError::Superseded(tenant.provider.clone()));
        }
        self.watch(tenant, &session);
        tracing::info!(%tenant, "the browser has returned; the user types the digits");
        Ok(DigitsPage { provider: tenant.provider.clone(), account: session.account, digits })
    }

    /// Marks that this process is finishing a sign-in.
    pub(super) fn finishing(&self, tenant: &Tenant) -> FinishingSignIn {
        FinishingSignIn::begin(&self.inner, tenant)
    }

    /// Concludes a sign-in whose digits were right, after the change that placed its session.
    pub(super) async fn conclude_confirmed(
        &self,
        tenant: &Tenant,
        pending: &Pending,
        waiting: &Session,
        changed: Changed,
        finishing: FinishingSignIn,
    ) -> Finished {
        let Changed { before, after, .. } = changed;
        let undecided = Undecided::in_record(tenant, &after).filter(|one| one.lineage == waiting.lineage);
        let finished = match undecided {
            Some(undecided) => {
                if let Some(candidate) = &after.candidate {
                    self.watch(tenant, candidate);
                }
                tracing::info!(%tenant, "signed in with another account; the user chooses");
                Finished::Undecided(undecided)
            }
            None => {
                tracing::info!(%tenant, "signed in");
                let before = before.session.as_ref();
                Finished::SignedIn(SignedIn::new(tenant, waiting, before, &pending.scopes))
            }
        };
        self.conclude(tenant, Exchanged { finished, replaced: before.candidate, finishing }).await
    }

    /// Revokes the replaced candidate and publishes the result. The caller holds no lock.
    pub(super) async fn conclude(&self, tenant: &Tenant, exchanged: Exchanged) -> Finished {
        let Exchanged { mut finished, replaced, finishing } = exchanged;
        if let Some(replaced) = replaced {
            let unchosen = Some(self.revoke_dropped(tenant, replaced).await);
            match &mut finished {
                Finished::SignedIn(done) => done.dropped = unchosen,
                Finished::Undecided(undecided) => undecided.dropped = unchosen,
            }
        }
        match &finished {
            Finished::SignedIn(done) => {
                self.inner.publish(Event::SignedIn(done.clone()));
                self.publish_recovered(done);
            }
            Finished::Undecided(undecided) => self.inner.publish(Event::Undecided(undecided.clone())),
        }
        // Until here no look at the store reports the same.
        drop(finishing);
        finished
    }

    /// Publishes that a tenant whose session had ended has one that works.
    pub(super) fn publish_recovered(&self, done: &SignedIn) {
        if let Some(code) = done.ended.clone() {
            self.inner.publish(Event::Recovered { tenant: done.tenant.clone(), code });
        }
    }

    /// Revokes the grant of a sign-in that was cancelled or replaced during its exchange. No caller
    /// waits for that.
    fn drop_late(&self, tenant: &Tenant, session: Session) {
        let (broker, tenant) = (self.clone(), tenant.clone());
        self.inner.tasks.spawn(async move { broker.revoke_dropped(&tenant, session).await });
    }

    /// Asks the provider for the account. With a `subject` of an id token, an answer about another one
    /// is not used (OpenID Connect Core §5.3.2).
    pub(super) async fn account(
        &self,
        provider: &Provider,
        tenant: &Tenant,
        bound: &Binding,
        token: &AccessToken,
        subject: Option<&str>,
    ) -> Option<UserinfoAccount> {
        let request = self.inner.userinfo(tenant, provider, bound, token)?;
        let Userinfo::Account(account) = self.inner.client.userinfo(request).await else { return None };
        if subject.is_some_and(|subject| !account.is_of(subject)) {
            tracing::warn!(%tenant, "the userinfo endpoint names another account than the id token; its answer is not used");
            return None;
        }
        Some(account)
    }

    /// Asks the provider for the account and records it. Called after the commit, which does not
    /// depend on it.
    async fn find_account(&self, provider: &Provider, tenant: &Tenant, session: &mut Session) {
        let (bound, token) = (&session.binding, &session.access_token);
        let subject = session.subject.as_deref();
        let Some(found) = self.account(provider, tenant, bound, token, subject).await else { return };
        self.inner.record_account(tenant, session, found.clone()).await;
        session.take_account(found.name, found.subject);
    }

    /// Commits the result of an exchange whose process died between the answer and the commit.
    /// The result of a sign-in by the browser waits for a reload of its page; once its time is over, its
    /// grant is revoked.
    pub(in crate::broker) async fn recover_sign_in(
        &self,
        tenant: &Tenant,
    ) -> Result<RecoveredSignIn, StoreError> {
        let Some(provider) = self.inner.providers.get(&tenant.provider) else {
            return Ok(RecoveredSignIn::Later);
        };
        let Some(_gate) = self.inner.sign_in_gates.try_pass(tenant) else {
            return Ok(RecoveredSignIn::Later);
        };
        let Some(mut lock) = self.inner.store.try_lock(tenant, Purpose::SignIn).await? else {
            return Ok(RecoveredSignIn::Later);
        };
        let Some(pending) = lock.read().await?.pending() else { return Ok(RecoveredSignIn::Nothing) };
        if pending.polling.is_some() {
            drop(lock);
            let polled = self.recover_poll(tenant, &pending.state).await?;
            return Ok(polled.map_or(RecoveredSignIn::Nothing, RecoveredSignIn::finished));
        }
        // It is committed, and the process died before it emptied the journal.
        if pending.unconfirmed().is_some() {
            lock.clear().await?;
            return Ok(RecoveredSignIn::Nothing);
        }
        let recovered =
            self.recover_journal(&provider, tenant, &pending.state.fingerprint(), &mut lock).await?;
        let Recovered::Answered(answered) = recovered else { return Ok(RecoveredSignIn::Nothing) };
        // The answer stays in the journal for the page: a reload of it shows the digits.
        if pending.browser.is_some() && pending.is_live(self.inner.now()) {
            return Ok(RecoveredSignIn::AwaitsReload);
        }
        tracing::warn!(%tenant, "finishing the sign-in that an earlier process left in the journal");
        let attempt = Attempt::Answered(answered);
        let settled = self.settle(&provider, tenant, &pending, &mut lock, &attempt).await;
        drop(lock);
        match settled {
            Ok(Landed::Finished(exchanged)) => {
                Ok(RecoveredSignIn::finished(self.conclude(tenant, exchanged).await))
            }
            Ok(Landed::Digits(_)) => {
                // No page shows these digits any more.
                self.fail_return(tenant, &pending, failure::INTERRUPTED).await?;
                Ok(RecoveredSignIn::Nothing)
            }
            Err(FinishError::Store(error)) => Err(error),
            Err(_) => Ok(RecoveredSignIn::Nothing),
        }
    }
}

// === impl RecoveredSignIn ===

impl RecoveredSignIn {
    fn finished(finished: Finished) -> Self {
        Self::Finished(Box::new(finished))
    }
}

/// Returns the reason for the refusal of a signature, and who mends it.
fn unsigned(fault: SignatureFault) -> String {
    format!(
        "{fault}. The operator must check jwks_uri; if it is right, the provider must mend its keys or its signature"
    )
}
