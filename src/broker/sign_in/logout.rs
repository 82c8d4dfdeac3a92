//! Signing out, and revoking grants at the provider (RFC 7009).

use crate::{
    broker::{Broker, Event, GrantEnd, Inner, LogoutError},
    ids::Tenant,
    oauth::Provider,
    session::{Change, Grant, Session},
};

/// The effect of a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedOut {
    /// Removed here; the grant lives on at the provider.
    LocallyOnly,
    /// Removed here and revoked at the provider.
    Revoked,
    /// Removed here; the provider did not confirm the revocation.
    RevocationFailed,
    /// Removed here; the provider offers no revocation.
    CannotRevoke,
}

/// Whether a logout also ends the grant at the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// Removes only the session here.
    Keep,
    /// Revokes the grant too (RFC 7009).
    Revoke,
}

impl Broker {
    /// Removes the session at once, and with it a sign-in in progress or waiting for a choice. The
    /// module doc of `account_choice` describes what a process that dies before the provider
    /// answers leaves behind.
    ///
    /// # Errors
    /// See [`LogoutError`].
    pub async fn logout(&self, tenant: &Tenant, revocation: Revocation) -> Result<LoggedOut, LogoutError> {
        if revocation == Revocation::Revoke {
            // A refresh in progress revokes the tokens that it brings.
            self.inner.revoking.insert(tenant.clone(), ());
        }
        // The commit returns the very state that it removed: no refresh can slip in between.
        let removed = self.inner.store.change(tenant, Change::Logout).await;
        let is_removed = removed.as_ref().is_ok_and(|removed| removed.applied.took_effect());
        if !is_removed || !self.in_flight(tenant) {
            self.inner.revoking.remove(tenant);
        }
        let removed = removed?;
        let session = removed.before.session.filter(|_| is_removed);
        let session = session.ok_or_else(|| LogoutError::NoSession(tenant.clone()))?;
        tracing::info!(%tenant, "logged out");
        self.inner.publish(Event::LoggedOut(tenant.clone()));
        if revocation == Revocation::Keep {
            return Ok(LoggedOut::LocallyOnly);
        }
        let undecided = match removed.before.candidate {
            Some(candidate) => self.revoke_dropped(tenant, candidate).await.grant,
            None => GrantEnd::Revoked,
        };
        let provider = self.inner.providers.get(&tenant.provider);
        let Some(provider) = provider.filter(|provider| provider.revokes(&session)) else {
            return Ok(LoggedOut::CannotRevoke);
        };
        Ok(if self.inner.revoke(tenant, provider, &session).await && undecided == GrantEnd::Revoked {
            LoggedOut::Revoked
        } else {
            LoggedOut::RevocationFailed
        })
    }
}

impl Inner {
    /// Asks the provider to revoke a grant. RFC 7009 §2.2: 200 also for a token that the provider
    /// no longer knows.
    pub(super) async fn revoke(&self, tenant: &Tenant, provider: &Provider, session: &Session) -> bool {
        let credentials = match provider.credentials(self.now()).await {
            Ok(credentials) => credentials,
            Err(problem) => {
                tracing::error!(%tenant, %problem, "the client's secret cannot be read; the grant is not revoked");
                return false;
            }
        };
        let Some(request) = provider.revoke(session, &credentials) else { return false };
        tracing::info!(%tenant, "the provider is asked to revoke a grant");
        match self.client.revoke(request).await {
            Ok(200) => {
                tracing::info!(%tenant, "the provider has revoked the grant");
                true
            }
            Ok(status) => {
                tracing::warn!(%tenant, status, "the provider did not revoke the grant");
                false
            }
            Err(code) => {
                tracing::warn!(%tenant, code, "the provider could not be asked to revoke the grant");
                false
            }
        }
    }

    /// Revokes the tokens of a refresh whose grant was logged out with revocation in the meantime.
    pub(in crate::broker) async fn revoke_late(
        &self,
        tenant: &Tenant,
        provider: &Provider,
        dead: &Session,
        grant: Grant,
    ) {
        if self.revoking.remove(tenant).is_none() {
            return;
        }
        let session = Session::begin(dead.lineage, grant, dead.binding.clone(), self.now());
        self.revoke(tenant, provider, &session).await;
    }
}
