//! Signing out.

use super::{Broker, Event, GrantEnd, LogoutError};
use crate::{
    ids::Tenant,
    session::{Applied, Change, Entry, Session},
};

/// How often a logout that meets another change looks again.
const TRIES: usize = 3;

/// What a logout did.
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
    /// Only the session here goes.
    Keep,
    /// RFC 7009.
    Revoke,
}

impl Broker {
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
            let change = Change::LogoutOf { seen: session.revision(), candidate: waits };
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
}
