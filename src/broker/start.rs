//! Starting a sign-in, and giving one up.
//!
//! Each takes the global lock for its single writes, and nothing else.

use super::{Broker, CancelError, Shown, StartError};
use crate::{
    ids::{Principal, ProviderId, Tenant},
    oauth::Provider,
    session::{Applied, Change, Pending},
    sys::clock::UnixTime,
};

/// How often a start that meets another one looks again.
const TRIES: usize = 3;

/// A sign-in that waits for its code.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// For whom.
    pub tenant: Tenant,
    /// Where the person goes. Carries the state, so it is shown to nobody else.
    pub authorize_url: url::Url,
    /// Unix seconds.
    pub expires_at: UnixTime,
    /// It had been started before, and is shown again.
    pub resumed: bool,
    /// What was shown, to follow it with [`Broker::look_at`].
    pub shown: Shown,
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
