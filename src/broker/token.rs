//! Handing out access tokens.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Broker, CALLER_WAIT, DEFAULT_MIN_TTL, Lease, TokenError,
    error::{refusal, wait_until},
    flight::landing,
    later,
};
use crate::{
    ids::Tenant,
    oauth::Provider,
    secret::AccessToken,
    session::{Applied, Change, Decision, FORCED_REFRESH_INTERVAL, Session, adopts, decide},
};

/// How often a caller that joined somebody else's flight looks again before it is told to come back.
const LOOKS: usize = 3;

impl Broker {
    /// An access token that lives for at least `min_ttl`, refreshed first where that is needed. Waits at most
    /// [`CALLER_WAIT`]; dropping the future cancels nothing but the wait.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn token(&self, tenant: &Tenant, min_ttl: Duration) -> Result<Lease, TokenError> {
        let provider = self.inner.provider(tenant)?;
        if let Some(lease) = self.at_once(tenant, &provider, min_ttl) {
            return Ok(lease);
        }
        let deadline = Instant::now() + CALLER_WAIT;
        let mut session = self.session(tenant).await?;
        for _ in 0..LOOKS {
            let now = self.inner.now();
            let decision = decide(&session, now, min_ttl);
            if let Some(error) = refusal(tenant, decision.clone(), now) {
                return Err(error);
            }
            let seen = session.revision();
            match decision {
                Decision::Refresh => {}
                Decision::ServeAndRefresh if !provider.refresh_revokes_access() => {
                    drop(self.join(tenant, &provider, seen, min_ttl));
                    return Ok(Lease::new(tenant, &session, now));
                }
                _ => return Ok(Lease::new(tenant, &session, now)),
            }
            let joined = self.join(tenant, &provider, seen, min_ttl);
            let landed = timeout_at(deadline, landing(joined, tenant)).await;
            session = landed.map_err(|_| TokenError::InProgress(tenant.clone()))??;
            let now = self.inner.now();
            if adopts(&session, Some(seen), now) {
                return Ok(Lease::new(tenant, &session, now));
            }
        }
        Err(TokenError::InProgress(tenant.clone()))
    }

    /// A resource refused `token` before its time: takes the stored one if it differs, else notes it and refreshes, at most
    /// once in [`FORCED_REFRESH_INTERVAL`].
    ///
    /// # Errors
    /// See [`TokenError`]; `rejected_again` when the resource refuses a token that is fresh from the provider.
    pub async fn rejected(&self, tenant: &Tenant, token: &AccessToken) -> Result<Lease, TokenError> {
        self.inner.provider(tenant)?;
        let before = self.session(tenant).await?;
        if before.access_token == *token
            && !before.is_rejected()
            && self.note(tenant, token).await? == Applied::Stale
        {
            let session = self.session(tenant).await?;
            if session.access_token == *token && !session.is_rejected() {
                return Err(self.rejected_again(tenant, &session));
            }
        }
        self.token(tenant, DEFAULT_MIN_TTL).await
    }

    /// Notes the rejection, within what a caller waits: the global lock may be held up by a disk that hangs.
    async fn note(&self, tenant: &Tenant, token: &AccessToken) -> Result<Applied, TokenError> {
        let change = self.inner.store.change(tenant, Change::Reject(token.clone()));
        let noted = timeout(CALLER_WAIT, change).await;
        Ok(noted.map_err(|_| TokenError::InProgress(tenant.clone()))??)
    }

    /// The usual case: the store has not changed since it was read last, the token serves, and nothing is due. It waits for
    /// nothing, and allocates nothing but the answer.
    fn at_once(&self, tenant: &Tenant, provider: &Provider, min_ttl: Duration) -> Option<Lease> {
        let records = self.inner.store.current()?;
        let session = records.get(tenant)?.session.as_ref()?;
        let now = self.inner.now();
        let serves = match decide(session, now, min_ttl) {
            Decision::Serve => true,
            Decision::ServeAndRefresh => provider.refresh_revokes_access(),
            _ => false,
        };
        serves.then(|| Lease::new(tenant, session, now))
    }

    fn rejected_again(&self, tenant: &Tenant, session: &Session) -> TokenError {
        let now = self.inner.now();
        let again = session.rejected.as_ref().map_or(now, |r| later(r.at, FORCED_REFRESH_INTERVAL));
        TokenError::Unavailable {
            tenant: tenant.clone(),
            code: "rejected_again".into(),
            retry_after: wait_until(again, now),
        }
    }

    /// The tenant's session; first the one that a died exchange left in its journal.
    async fn session(&self, tenant: &Tenant) -> Result<Session, TokenError> {
        let none = || TokenError::NoSession(tenant.clone());
        let entry = self.inner.store.read(tenant).await?;
        let over = entry.session.as_ref().is_none_or(|session| session.verdict().is_some());
        if over && entry.pending.is_some() && self.recover_sign_in(tenant).await?.is_some() {
            return self.inner.store.read(tenant).await?.session.ok_or_else(none);
        }
        entry.session.ok_or_else(none)
    }
}
