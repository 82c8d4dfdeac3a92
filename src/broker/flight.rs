//! A flight: the one refresh of a tenant in this process. Who it is for, what it comes to, and how one waits for that; what it does
//! on its way is in [`super::refresh`].

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Broker, Inner, Joined, Landed, TokenError, error::refusal};
use crate::{
    ids::Tenant,
    oauth::Provider,
    session::{Decision, Revision, Session, adopts, decide},
};

/// Whom a flight is for: it is over as soon as this caller could be served.
pub(super) struct Flight {
    pub(super) inner: Arc<Inner>,
    pub(super) tenant: Tenant,
    pub(super) provider: Arc<Provider>,
    pub(super) seen: Revision,
    pub(super) min_ttl: Duration,
    pub(super) landed: watch::Sender<Option<Landed>>,
}

impl Broker {
    /// Whether a flight of this tenant is under way in this process.
    pub(super) fn in_flight(&self, tenant: &Tenant) -> bool {
        self.inner.flights.contains_key(tenant)
    }
}

/// Waits for a flight's result. The flight does not notice if this is dropped.
pub(super) async fn landing(mut joined: Joined, tenant: &Tenant) -> Landed {
    match joined.wait_for(Option::is_some).await {
        Ok(landed) => landed.clone().unwrap_or_else(|| Err(TokenError::Internal(tenant.clone()))),
        // The sender is gone without a word: the task panicked.
        Err(_) => Err(TokenError::Internal(tenant.clone())),
    }
}

// === impl Flight ===

impl Flight {
    /// Whether every caller has given up; the map's own receiver does not count.
    pub(super) fn nobody_waits(&self) -> bool {
        self.landed.receiver_count() <= 1
    }

    /// The session as it is now.
    pub(super) async fn read(&self) -> Landed {
        let session = self.inner.store.read(&self.tenant).await?.session;
        session.ok_or_else(|| TokenError::NoSession(self.tenant.clone()))
    }

    /// Whether the store holds exactly this state of the grant.
    pub(super) async fn holds(&self, renewed: &Session) -> bool {
        self.read().await.is_ok_and(|session| session.refresh_target() == renewed.refresh_target())
    }

    /// What this flight comes to as things stand, or `None` if it has to send.
    pub(super) fn without_sending(&self, session: &Session) -> Option<Landed> {
        let now = self.inner.now();
        if adopts(session, Some(self.seen), now) {
            return Some(Ok(session.clone()));
        }
        match decide(session, now, self.min_ttl) {
            // A background flight begins with a token that serves; it is here to renew it.
            Decision::ServeAndRefresh | Decision::Refresh => None,
            _ => Some(self.decided(session)),
        }
    }

    /// What this flight comes to with this session, whatever it would take to have another.
    pub(super) fn decided(&self, session: &Session) -> Landed {
        let now = self.inner.now();
        match refusal(&self.tenant, decide(session, now, self.min_ttl), now) {
            Some(error) => Err(error),
            None if session.is_usable(now) => Ok(session.clone()),
            None => Err(TokenError::InProgress(self.tenant.clone())),
        }
    }

    /// The session is over, for a reason of our own.
    pub(super) fn ended(&self, code: &str) -> Landed {
        Err(TokenError::Ended { tenant: self.tenant.clone(), code: code.into() })
    }
}
