//! Handing out access tokens.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Broker, CALLER_WAIT, DEFAULT_MIN_TTL, Event, Lease, StoredToken, TokenError, TokenPolicy,
    refresh::await_flight, sign_in::RecoveredSignIn,
};
use crate::{
    ids::Tenant,
    oauth::{Provider, Undiscovered, Userinfo},
    secret::AccessToken,
    session::{Change, Changed, Entry, Retry, Session, Wish, adopts},
    store::Purpose,
};

/// How often a caller looks at the record, and joins a flight, before it gets
/// [`TokenError::InProgress`].
const LOOKS: usize = 3;

impl Broker {
    /// Returns an access token that lives for at least `min_ttl`, refreshed first where that is
    /// needed. Waits at most [`CALLER_WAIT`]. Dropping the future cancels the wait and nothing else.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn token(&self, tenant: &Tenant, min_ttl: Duration) -> Result<Lease, TokenError> {
        self.token_for(tenant, Wish::living(min_ttl)).await
    }

    /// The same for a caller that may have reported a token.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub(super) async fn token_for(&self, tenant: &Tenant, wish: Wish) -> Result<Lease, TokenError> {
        if let Some(exchange) = self.inner.providers.exchange(&tenant.provider) {
            return Box::pin(self.exchanged(&exchange, tenant, wish)).await;
        }
        if let Some(result) = self.environment_lease(tenant, &wish) {
            return result;
        }
        self.stored_token_for(tenant, wish).await
    }

    /// Returns the token of the environment, if this tenant has one. It takes precedence over the
    /// session, and no refresh can replace it.
    fn environment_lease(&self, tenant: &Tenant, wish: &Wish) -> Option<Result<Lease, TokenError>> {
        let token = self.inner.providers.environment_token(tenant)?;
        if wish.refused.as_ref().is_some_and(|refused| *refused == token.token.fingerprint()) {
            let (tenant, variable) = (tenant.clone(), token.variable.clone());
            return Some(Err(TokenError::EnvironmentRejected { tenant, variable }));
        }
        Some(Ok(Lease::of_environment(tenant, &token, self.inner.now())))
    }

    /// As [`Broker::token_for`], from the stored session alone.
    pub(super) async fn stored_token_for(&self, tenant: &Tenant, wish: Wish) -> Result<Lease, TokenError> {
        let providers = &self.inner.providers;
        if providers.get(&tenant.provider).is_none()
            && let Some(undiscovered) = providers.undiscovered(&tenant.provider)
            && let Some(decided) = Box::pin(self.without_endpoints(tenant, &wish, &undiscovered)).await?
        {
            return decided;
        }
        let provider = self.inner.usable(&tenant.provider).await?;
        let policy = TokenPolicy::new(&provider, wish.clone());
        if let Some(lease) = self.at_once(tenant, &policy) {
            return Ok(lease);
        }
        // Boxed, as the other ways of a token that is not fresh are: a caller's future has room for the
        // fresh one alone, and is moved several times on its way through the API.
        Box::pin(self.refreshed(tenant, &provider, &policy, wish)).await
    }

    /// Returns the token of the record as it is in the store now, after a refresh if it needs one.
    async fn refreshed(
        &self,
        tenant: &Tenant,
        provider: &Arc<Provider>,
        policy: &TokenPolicy,
        wish: Wish,
    ) -> Result<Lease, TokenError> {
        let deadline = Instant::now() + CALLER_WAIT;
        // Boxed, and dropped before a wait: many callers may wait at once.
        let mut entry = Box::new(self.inner.store.read(tenant).await?);
        for _ in 0..LOOKS {
            match StoredToken::new(tenant, &entry, policy, self.inner.now()) {
                StoredToken::Fresh(lease) => {
                    if let Some(session) = &entry.session {
                        self.note_use(tenant, session);
                    }
                    return Ok(lease);
                }
                StoredToken::RefreshDue(lease) => {
                    if let Some(session) = &entry.session {
                        self.note_use(tenant, session);
                        drop(self.join(tenant, provider, session.revision(), wish));
                    }
                    return Ok(lease);
                }
                StoredToken::Refused { error, .. } => {
                    Box::pin(self.end_if_exhausted(tenant, &entry)).await;
                    return Err(error);
                }
                StoredToken::RecoverSignIn => {
                    // The answer is in the journal, so a caller that gives up loses nothing.
                    let recovered = timeout_at(deadline, Box::pin(self.recover_sign_in(tenant))).await;
                    let Ok(recovered) = recovered else { return Err(self.still_in_progress(tenant).await) };
                    let recovered = matches!(recovered?, RecoveredSignIn::Finished(_));
                    *entry = self.inner.store.read(tenant).await?;
                    if !recovered {
                        // Without the sign-in, the record alone answers.
                        entry.pending = None;
                    }
                }
                StoredToken::Refresh => {
                    let revision = entry.session.as_ref().map(Session::revision);
                    drop(entry);
                    let seen = revision.ok_or_else(|| TokenError::NoSession(tenant.clone()))?;
                    let joined = self.join(tenant, provider, seen, wish.clone());
                    let _waiting = self.inner.metrics.waiting();
                    let result = timeout_at(deadline, await_flight(joined, tenant)).await;
                    let Ok(result) = result else { return Err(self.still_in_progress(tenant).await) };
                    let session = result?;
                    let now = self.inner.now();
                    if !wish.refuses(&session) && adopts(&session, Some(seen), now) {
                        self.note_use(tenant, &session);
                        return Ok(Lease::new(tenant, &session, now));
                    }
                    let session = Some(Arc::unwrap_or_clone(session));
                    entry = Box::new(Entry { session, ..Entry::default() });
                }
            }
        }
        Err(TokenError::InProgress(tenant.clone()))
    }

    /// Decides about the token of a provider whose endpoints are not known yet, if the record alone
    /// decides: a fresh token needs no endpoint, and a missing session does not get one by a fetch.
    async fn without_endpoints(
        &self,
        tenant: &Tenant,
        wish: &Wish,
        undiscovered: &Undiscovered,
    ) -> Result<Option<Result<Lease, TokenError>>, TokenError> {
        let entry = self.inner.store.read(tenant).await?;
        let policy = TokenPolicy::of_undiscovered(undiscovered, wish.clone());
        Ok(match StoredToken::new(tenant, &entry, &policy, self.inner.now()) {
            StoredToken::Fresh(lease) => Some(Ok(lease)),
            StoredToken::Refused { error: error @ TokenError::NoSession(_), .. } => Some(Err(error)),
            _ => None,
        })
    }

    /// Takes the report that a resource rejected `token` before its expiry. Returns the stored token
    /// if it differs. Otherwise records the report, and forces at most one refresh in
    /// [`FORCED_REFRESH_INTERVAL`](crate::session::FORCED_REFRESH_INTERVAL). The caller never gets `token` back.
    ///
    /// The report alone does not take the token from other callers. The userinfo endpoint confirms
    /// it, if there is no refresh token, or if the refresh brought the same token back.
    ///
    /// # Errors
    /// See [`TokenError`]; `rejected_again` when no other token can be had now.
    pub async fn rejected(&self, tenant: &Tenant, token: &AccessToken) -> Result<Lease, TokenError> {
        let wish = Wish { min_ttl: DEFAULT_MIN_TTL, refused: Some(token.fingerprint()), ..Wish::default() };
        if !self.is_stored(tenant) {
            return self.token_for(tenant, wish).await;
        }
        let provider = self.inner.usable(&tenant.provider).await?;
        let is_current = |entry: &Entry| entry.session.as_ref().is_some_and(|s| s.access_token == *token);
        let before = self.inner.store.read(tenant).await?;
        if !is_current(&before) {
            return self.token_for(tenant, wish).await;
        }
        let changed = self.change_in_time(tenant, Change::Reject(token.clone())).await?;
        let is_new = changed.applied.took_effect();
        if is_new && !changed.after.session.as_ref().is_some_and(Session::can_be_forced) {
            self.confirm_rejection(tenant, &provider, &changed.after, token).await;
        }
        let result = self.token_for(tenant, wish.clone()).await;
        let came_back = |error: &TokenError| matches!(error, TokenError::Unavailable { code, .. } if code == Retry::REJECTED_AGAIN);
        if is_new && result.as_ref().is_err_and(came_back) {
            self.confirm_rejection(tenant, &provider, &changed.after, token).await;
        }
        result
    }

    /// Whether the tokens of this tenant come from its own session.
    pub(super) fn is_stored(&self, tenant: &Tenant) -> bool {
        let providers = &self.inner.providers;
        providers.exchange(&tenant.provider).is_none() && providers.environment_token(tenant).is_none()
    }

    /// Asks the userinfo endpoint whether it refuses a reported token, and records that. Otherwise the
    /// report stays a report.
    async fn confirm_rejection(
        &self,
        tenant: &Tenant,
        provider: &Provider,
        entry: &Entry,
        token: &AccessToken,
    ) {
        // A token for a resource (RFC 8707) need not open the userinfo endpoint, whose 401 proves nothing
        // about it.
        let session = entry.session.as_ref().filter(|session| session.binding.resource.is_none());
        let request =
            session.and_then(|session| self.inner.userinfo(tenant, provider, &session.binding, token));
        let answer = match request {
            Some(request) => self.inner.client.userinfo(request).await,
            None => Userinfo::Unknown,
        };
        // A session of an earlier version has no subject yet.
        if let (Userinfo::Account(found), Some(session)) = (&answer, session)
            && session.subject.is_none()
        {
            self.inner.record_account(tenant, session, found.clone()).await;
        }
        if !matches!(answer, Userinfo::Refused) {
            tracing::info!(%tenant, "a caller reports that a resource rejected the access token; this is not confirmed");
            return self.inner.publish(Event::Reported(tenant.clone()));
        }
        match self.inner.store.change(tenant, Change::ConfirmRejection(token.clone())).await {
            Ok(changed) => self.publish_end(tenant, &changed),
            Err(error) => tracing::warn!(%tenant, %error, "a confirmed rejection could not be recorded"),
        }
    }

    /// Records the end of a session that has no usable access token and no refresh token, so that its
    /// user is notified. The caller gets its error in any case.
    async fn end_if_exhausted(&self, tenant: &Tenant, entry: &Entry) {
        let now = self.inner.now();
        let is_new = |session: &&Session| session.is_exhausted(now) && session.ended.is_none();
        let Some(session) = entry.session.as_ref().filter(is_new) else { return };
        match self.inner.store.change(tenant, Change::Exhausted(session.lineage)).await {
            Ok(changed) => self.publish_end(tenant, &changed),
            Err(error) => tracing::warn!(%tenant, %error, "the end of a session could not be recorded"),
        }
    }

    fn publish_end(&self, tenant: &Tenant, changed: &Changed) {
        let ended = |entry: &Entry| entry.session.as_ref()?.ended.as_ref().map(|ended| ended.code.clone());
        if let (None, Some(code)) = (ended(&changed.before), ended(&changed.after)) {
            tracing::warn!(%tenant, code, "the session has ended");
            self.inner.publish(Event::Ended { tenant: tenant.clone(), code });
        }
    }

    /// Lets a session that is held back be refreshed at once, because its user asks for it.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn try_again(&self, tenant: &Tenant) -> Result<Lease, TokenError> {
        let none = || TokenError::NoSession(tenant.clone());
        let session = self.inner.store.read(tenant).await?.session.ok_or_else(none)?;
        self.change_in_time(tenant, Change::TryAgain(session.lineage)).await?;
        self.token(tenant, DEFAULT_MIN_TTL).await
    }

    /// Applies a change within the time that a caller waits, because a disk that hangs holds the
    /// global lock.
    async fn change_in_time(&self, tenant: &Tenant, change: Change) -> Result<Changed, TokenError> {
        let changed = timeout(CALLER_WAIT, self.inner.store.change(tenant, change)).await;
        let Ok(changed) = changed else { return Err(self.still_in_progress(tenant).await) };
        Ok(changed?)
    }

    /// The error of a caller that has waited long enough for a refresh.
    async fn still_in_progress(&self, tenant: &Tenant) -> TokenError {
        let holder = self.inner.store.lock_holder(tenant, Purpose::Refresh).await;
        TokenError::still_in_progress(tenant, holder)
    }

    /// Returns the stored token without waiting, if the store is unchanged since the last read, the
    /// token serves and no refresh is due. Allocates nothing but the answer.
    fn at_once(&self, tenant: &Tenant, policy: &TokenPolicy) -> Option<Lease> {
        let records = self.inner.store.current()?;
        let entry = records.get(tenant)?;
        match StoredToken::new(tenant, entry, policy, self.inner.now()) {
            StoredToken::Fresh(lease) => {
                self.note_use(tenant, entry.session.as_ref()?);
                Some(lease)
            }
            _ => None,
        }
    }
}
