//! Handing out access tokens.

use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Broker, CALLER_WAIT, DEFAULT_MIN_TTL, Lease, StoredToken, TokenError, TokenPolicy, error::wait_until,
    later, refresh::await_flight,
};
use crate::{
    ids::Tenant,
    oauth::Provider,
    secret::AccessToken,
    session::{Change, Entry, FORCED_REFRESH_INTERVAL, Session, adopts},
    store::Purpose,
};

/// How often a caller looks at the record, and joins a flight, before it gets
/// [`TokenError::InProgress`].
const LOOKS: usize = 3;

impl Broker {
    /// Returns an access token that lives for at least `min_ttl`, refreshed first where that is
    /// needed. Waits at most [`CALLER_WAIT`]. Dropping the future cancels the wait and nothing
    /// else.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub async fn token(&self, tenant: &Tenant, min_ttl: Duration) -> Result<Lease, TokenError> {
        let provider = self.inner.provider(tenant)?;
        if let Some(lease) = self.at_once(tenant, &provider, min_ttl) {
            return Ok(lease);
        }
        let deadline = Instant::now() + CALLER_WAIT;
        let policy = TokenPolicy::new(&provider, min_ttl);
        let mut entry = self.inner.store.read(tenant).await?;
        for _ in 0..LOOKS {
            match StoredToken::new(tenant, &entry, policy, self.inner.now()) {
                StoredToken::Fresh(lease) => return Ok(lease),
                StoredToken::RefreshDue(lease) => {
                    if let Some(session) = &entry.session {
                        drop(self.join(tenant, &provider, session.revision(), min_ttl));
                    }
                    return Ok(lease);
                }
                StoredToken::Refused { error, .. } => return Err(error),
                StoredToken::RecoverSignIn => {
                    // The answer is in the journal, so a caller that gives up loses nothing.
                    let recovered = timeout_at(deadline, self.recover_sign_in(tenant)).await;
                    let Ok(recovered) = recovered else { return Err(self.still_in_progress(tenant).await) };
                    let recovered = recovered?.is_some();
                    entry = self.inner.store.read(tenant).await?;
                    if !recovered {
                        // Without the sign-in, the record alone answers.
                        entry.pending = None;
                    }
                }
                StoredToken::Refresh => {
                    let session = entry.session.ok_or_else(|| TokenError::NoSession(tenant.clone()))?;
                    let seen = session.revision();
                    let joined = self.join(tenant, &provider, seen, min_ttl);
                    let result = timeout_at(deadline, await_flight(joined, tenant)).await;
                    let Ok(result) = result else { return Err(self.still_in_progress(tenant).await) };
                    let session = result?;
                    let now = self.inner.now();
                    if adopts(&session, Some(seen), now) {
                        return Ok(Lease::new(tenant, &session, now));
                    }
                    entry = Entry { session: Some(session), ..Entry::default() };
                }
            }
        }
        Err(TokenError::InProgress(tenant.clone()))
    }

    /// Takes the report that a resource rejected `token` before its expiry. Returns the stored
    /// token if it differs. Otherwise records the rejection and refreshes, at most once in
    /// [`FORCED_REFRESH_INTERVAL`].
    ///
    /// # Errors
    /// See [`TokenError`]; `rejected_again` when the resource rejects a token that the provider has
    /// just issued.
    pub async fn rejected(&self, tenant: &Tenant, token: &AccessToken) -> Result<Lease, TokenError> {
        self.inner.provider(tenant)?;
        let none = || TokenError::NoSession(tenant.clone());
        let before = self.inner.store.read(tenant).await?;
        if before.session.is_some_and(|session| is_accepted(&session, token)) {
            let changed = self.record_rejection(tenant, token).await?;
            let after = changed.ok_or_else(none)?;
            if is_accepted(&after, token) {
                return Err(self.rejected_again(tenant, &after));
            }
        }
        self.token(tenant, DEFAULT_MIN_TTL).await
    }

    /// Records the rejection within the time that a caller waits, because a disk that hangs holds
    /// the global lock. Returns the session after it.
    async fn record_rejection(
        &self,
        tenant: &Tenant,
        token: &AccessToken,
    ) -> Result<Option<Session>, TokenError> {
        let change = self.inner.store.change(tenant, Change::Reject(token.clone()));
        let changed = timeout(CALLER_WAIT, change).await;
        let Ok(changed) = changed else { return Err(self.still_in_progress(tenant).await) };
        Ok(changed?.after.session)
    }

    /// The error of a caller that has waited long enough for a refresh.
    async fn still_in_progress(&self, tenant: &Tenant) -> TokenError {
        let holder = self.inner.store.lock_holder(tenant, Purpose::Refresh).await;
        TokenError::still_in_progress(tenant, holder)
    }

    /// Returns the stored token without waiting, if the store is unchanged since the last read, the
    /// token serves and no refresh is due. Allocates nothing but the answer.
    fn at_once(&self, tenant: &Tenant, provider: &Provider, min_ttl: Duration) -> Option<Lease> {
        let records = self.inner.store.current()?;
        let policy = TokenPolicy::new(provider, min_ttl);
        match StoredToken::new(tenant, records.get(tenant)?, policy, self.inner.now()) {
            StoredToken::Fresh(lease) => Some(lease),
            _ => None,
        }
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
}

/// Whether `token` is the session's current one and is not recorded as rejected.
fn is_accepted(session: &Session, token: &AccessToken) -> bool {
    session.access_token == *token && !session.is_rejected()
}
