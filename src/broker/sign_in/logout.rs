//! Signing out, and revoking grants at the provider (RFC 7009).
//!
//! A logout takes effect at once and then revokes, unless the user keeps the grant. Some providers
//! end all grants of an account when one is revoked (RFC 7009 §2.1). So where another session here
//! has the same account, the caller asks its user first. A grant that no user decided about, such as
//! a late result, is not revoked then.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::broadcast::error::RecvError;

use crate::{
    broker::{Broker, Event, GrantEnd, Inner, LogoutError},
    ids::Tenant,
    oauth::{Endpoint, Provider, Withheld},
    session::{Change, Entry, Grant, Pending, Session},
    store::StoreError,
};

/// The effect of a logout. In each case the session is removed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedOut {
    /// The user keeps the grant.
    LocallyOnly,
    /// The provider has ended the grant.
    Revoked,
    /// The provider did not confirm the revocation.
    RevocationFailed,
    /// The grant may not or cannot be revoked from here.
    CannotRevoke(Withheld),
    /// Another session with the same account appeared during the logout, so the grant was not
    /// revoked.
    InUseElsewhere,
}

/// Whether a logout also ends the grant at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Removes only the session here.
    Keep,
    /// Revokes the grant too (RFC 7009).
    Revoke,
    /// As [`Revocation::Revoke`], unless another session here has the same account. Then the logout
    /// fails and does nothing, so that the caller can ask.
    UnlessShared,
}

/// The result of a request to revoke a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Revoked {
    /// The grant has ended.
    Yes,
    /// The provider refuses, or offers no revocation. Another try would end in the same way.
    No,
    /// No answer came, or one that asks for another try (RFC 7009 §2.2.1).
    Unanswered,
}

/// The pause before the second try of a revocation.
const SECOND_TRY_AFTER: Duration = Duration::from_secs(1);

/// The pauses before the later tries.
const LATER_TRIES_AFTER: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(9 * 60 * 60),
];

/// The time that a logout waits for the provider before its user reads the reason for the wait.
const REPORT_WAIT_AFTER: Duration = Duration::from_secs(2);

impl Broker {
    /// Waits until the tenant has been logged out by this process for two seconds. A caller that
    /// awaits a logout beside it can then report that only the provider's answer is missing. Must be
    /// called before the logout.
    pub fn outlasts_removal(&self, tenant: &Tenant) -> impl Future<Output = ()> + Send + 'static {
        let (mut events, tenant) = (self.events(), tenant.clone());
        async move {
            loop {
                match events.recv().await {
                    Ok(Event::LoggedOut(removed)) if removed == tenant => break,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
            tokio::time::sleep(REPORT_WAIT_AFTER).await;
        }
    }

    /// Removes the session at once, and with it a sign-in in progress or waiting for a choice. The
    /// module doc of `account_choice` describes what a process that dies before the provider
    /// answers leaves behind. Dropping the future cancels the wait and nothing else.
    ///
    /// # Errors
    /// See [`LogoutError`].
    pub async fn logout(&self, tenant: &Tenant, revocation: Revocation) -> Result<LoggedOut, LogoutError> {
        // A task of its own: after the removal it alone has the refresh token that is to be revoked.
        let (broker, tenant) = (self.clone(), tenant.clone());
        let logout = self.inner.tasks.spawn(async move { broker.log_out(&tenant, revocation).await });
        logout.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    async fn log_out(&self, tenant: &Tenant, revocation: Revocation) -> Result<LoggedOut, LogoutError> {
        if revocation == Revocation::UnlessShared {
            let others = self.sharing_the_account(tenant).await?;
            if !others.is_empty() {
                return Err(LogoutError::Shared { tenant: tenant.clone(), others });
            }
        }
        if revocation == Revocation::Keep {
            // A refresh in progress keeps the grant too.
            self.inner.keeping.insert(tenant.clone(), ());
        }
        // The commit returns the very state that it removed: no refresh can slip in between.
        let removed = self.inner.store.change(tenant, Change::Logout).await;
        let is_removed = removed.as_ref().is_ok_and(|removed| removed.applied.took_effect());
        if !is_removed || !self.in_flight(tenant) {
            self.inner.keeping.remove(tenant);
        }
        let removed = removed?;
        let session = removed.before.session.filter(|_| is_removed);
        let session = session.ok_or_else(|| self.no_session(tenant))?;
        tracing::info!(%tenant, "logged out");
        self.inner.publish(Event::LoggedOut(tenant.clone()));
        // The user keeps the session's grant, and not one that was never confirmed. But its revocation
        // may end every grant of the account (RFC 7009 §2.1), and with it the one that is kept.
        let pending = removed.before.pending.as_ref();
        let ends_the_kept = revocation == Revocation::Keep
            && pending
                .and_then(Pending::unconfirmed)
                .is_some_and(|one| one.session.accounts_with(&session).may_be_same());
        // The account of an answer in the journal is unknown, and may be the one that is kept.
        let is_unknown = revocation == Revocation::Keep && pending.and_then(Pending::unconfirmed).is_none();
        if !ends_the_kept && !is_unknown {
            self.revoke_removed(tenant, pending).await;
        }
        if revocation == Revocation::Keep {
            if let Err(error) = self.forget_answered(tenant).await {
                tracing::warn!(%tenant, %error, "the journal of the sign-in cannot be emptied");
            }
            return Ok(LoggedOut::LocallyOnly);
        }
        let undecided = match removed.before.candidate {
            Some(candidate) => self.revoke_dropped(tenant, candidate).await.grant,
            None => GrantEnd::Revoked,
        };
        let provider = match self.inner.revoking_provider(tenant, &session) {
            Ok(provider) => provider,
            Err(withheld) => return Ok(LoggedOut::CannotRevoke(withheld)),
        };
        if revocation == Revocation::UnlessShared
            && !self.inner.in_live_use(tenant, &session).await?.is_empty()
        {
            return Ok(LoggedOut::InUseElsewhere);
        }
        let ended = self.inner.revoke_surely(tenant, &provider, &session).await;
        Ok(if ended == Revoked::Yes && undecided == GrantEnd::Revoked {
            LoggedOut::Revoked
        } else {
            LoggedOut::RevocationFailed
        })
    }

    /// Returns the reason why a tenant has no session to log out.
    fn no_session(&self, tenant: &Tenant) -> LogoutError {
        let id = tenant.provider.clone();
        if let Some(exchange) = self.inner.providers.exchange(&id) {
            return LogoutError::Exchanged { id, from: exchange.from().clone() };
        }
        match self.environment_variable(tenant) {
            Some(variable) => LogoutError::FromEnvironment { tenant: tenant.clone(), variable },
            None => LogoutError::NoSession(tenant.clone()),
        }
    }

    /// Returns the other tenants whose sessions may end with this tenant's grant.
    async fn sharing_the_account(&self, tenant: &Tenant) -> Result<Vec<Tenant>, StoreError> {
        let Some(session) = self.inner.store.read(tenant).await?.session else { return Ok(Vec::new()) };
        let sharing = self.inner.in_live_use(tenant, &session).await?;
        Ok(sharing.into_iter().filter(|other| other != tenant).collect())
    }
}

impl Inner {
    /// Asks the provider to revoke a grant. RFC 7009 §2.2: 200 also for a token that the provider
    /// no longer knows.
    pub(super) async fn revoke(&self, tenant: &Tenant, provider: &Provider, session: &Session) -> Revoked {
        let credentials = match self.credentials(provider, &session.binding).await {
            Ok(credentials) => credentials,
            Err(problem) => {
                tracing::error!(%tenant, %problem, "the client's secret cannot be read; the grant is not revoked");
                return Revoked::Unanswered;
            }
        };
        let Ok(request) = provider.revoke(session, &credentials) else { return Revoked::No };
        tracing::info!(%tenant, "the provider is asked to revoke a grant");
        match self.client.revoke(request).await {
            Ok(200) => {
                tracing::info!(%tenant, "the provider has revoked the grant");
                Revoked::Yes
            }
            Ok(status) => {
                tracing::warn!(%tenant, status, "the provider did not revoke the grant");
                if matches!(status, 408 | 425 | 429 | 500..) { Revoked::Unanswered } else { Revoked::No }
            }
            Err(code) => {
                tracing::warn!(%tenant, code, "the provider could not be asked to revoke the grant");
                Revoked::Unanswered
            }
        }
    }

    /// As [`Inner::revoke`], with a second try a moment later. A provider that answers neither is asked
    /// again for half a day, while this process lives and no other session may end with the grant. An exit
    /// does not wait for that.
    pub(super) async fn revoke_surely(
        self: &Arc<Self>,
        tenant: &Tenant,
        provider: &Arc<Provider>,
        session: &Session,
    ) -> Revoked {
        let first = self.revoke(tenant, provider, session).await;
        if first != Revoked::Unanswered {
            return first;
        }
        tokio::time::sleep(SECOND_TRY_AFTER).await;
        let second = self.revoke(tenant, provider, session).await;
        if second == Revoked::Unanswered {
            let (inner, provider) = (self.clone(), provider.clone());
            let (tenant, session) = (tenant.clone(), session.clone());
            tokio::spawn(async move {
                for pause in LATER_TRIES_AFTER {
                    tokio::time::sleep(pause).await;
                    if inner.may_be_in_use(&tenant, &session).await
                        || inner.revoke(&tenant, &provider, &session).await != Revoked::Unanswered
                    {
                        break;
                    }
                }
            });
        }
        second
    }

    /// Returns the provider that may be asked to revoke a grant.
    pub(super) fn revoking_provider(
        &self,
        tenant: &Tenant,
        session: &Session,
    ) -> Result<Arc<Provider>, Withheld> {
        let provider = self.providers.get(&tenant.provider);
        let provider = provider.ok_or(Withheld::NotConfigured(Endpoint::Revocation))?;
        let allowed = provider.destination(&session.binding, Endpoint::Revocation).map(drop);
        let refused = allowed.inspect_err(|withheld| {
            tracing::warn!(%tenant, reason = %withheld, "the provider is not asked to revoke a grant");
        });
        refused.map(|()| provider)
    }

    /// Returns the tenants with a live session or a candidate that may have the same account at the
    /// same client. An unknown account may be any.
    async fn in_live_use(&self, tenant: &Tenant, session: &Session) -> Result<Vec<Tenant>, StoreError> {
        let is_live = |other: &Session| other.verdict().is_none();
        self.in_use(tenant, |other| is_live(other) && other.accounts_with(session).may_be_same()).await
    }

    /// Returns the tenants with a session or a candidate of the same client that counts.
    async fn in_use(
        &self,
        tenant: &Tenant,
        counts: impl Fn(&Session) -> bool,
    ) -> Result<Vec<Tenant>, StoreError> {
        let Some(provider) = self.providers.get(&tenant.provider) else { return Ok(Vec::new()) };
        let is_one = |other: &Session| provider.issued(&other.binding) && counts(other);
        let has_one = |entry: &Entry| entry.session.iter().chain(&entry.candidate).any(is_one);
        let entries = self.store.list().await?;
        Ok(entries.iter().filter(|(_, entry)| has_one(entry)).map(|(tenant, _)| tenant.clone()).collect())
    }

    /// Whether another session may end with this grant, which is in the store no longer and about which no
    /// user decided. An unknown account may be any. An ended session counts too, because its access token may
    /// still be served.
    pub(super) async fn may_be_in_use(&self, tenant: &Tenant, session: &Session) -> bool {
        match self.in_use(tenant, |other| other.accounts_with(session).may_be_same()).await {
            Ok(others) => !others.is_empty(),
            Err(error) => {
                tracing::warn!(%tenant, %error, "cannot check whether the account is in use elsewhere; its grant is not revoked");
                true
            }
        }
    }

    /// Revokes the tokens of a refresh whose grant was logged out or replaced in the meantime, unless
    /// its user keeps the grant or another session has the same account.
    pub(in crate::broker) async fn revoke_late(
        self: &Arc<Self>,
        tenant: &Tenant,
        dead: &Session,
        grant: Grant,
    ) {
        if self.keeping.remove(tenant).is_some() {
            return;
        }
        // Without a new refresh token in the answer, the old one still works.
        let mut session = dead.clone();
        session.take(grant, self.now());
        if self.may_be_in_use(tenant, &session).await {
            return;
        }
        if let Ok(provider) = self.revoking_provider(tenant, &session) {
            self.revoke_surely(tenant, &provider, &session).await;
        }
    }
}
