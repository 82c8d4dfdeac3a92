//! The results of a tenant's exchanges, which this process keeps in memory.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;

use super::{Lease, TokenError};
use crate::{
    ids::Lineage,
    session::{Session, Wish, seconds},
    sys::clock::UnixTime,
};

/// The exchanges of one tenant, and their lock.
pub(super) type ExchangeSlot = Arc<Mutex<Exchanges>>;

/// The newest results of one tenant's exchanges.
#[derive(Default)]
pub(super) struct Exchanges {
    pub(super) token: Option<Exchanged>,
    pub(super) failure: Option<Failure>,
}

/// A token by exchange.
pub(super) struct Exchanged {
    pub(super) lease: Lease,
    pub(super) lineage: Lineage,
    pub(super) at: UnixTime,
}

/// A failure, after which no exchange is tried before a pause ends.
pub(super) struct Failure {
    pub(super) lineage: Lineage,
    pub(super) at: UnixTime,
    pub(super) until: UnixTime,
    pub(super) error: TokenError,
}

// === impl Exchanged ===

impl Exchanged {
    /// Returns the lease, if the token serves a caller with this wish for this session.
    pub(super) fn serves(&self, session: &Session, wish: &Wish, now: UnixTime) -> Option<Lease> {
        let left = self.lease.expires_at.saturating_sub(now);
        let half = self.lease.expires_at.saturating_sub(self.at) / 2;
        let lives = left > 0 && left >= seconds(wish.min_ttl).min(half) && now >= self.at;
        let serves = self.lineage == session.lineage && lives && !self.is_refused(wish);
        let expires_in = Duration::from_secs(left.max(0).unsigned_abs());
        serves.then(|| Lease { expires_in, ..self.lease.clone() })
    }

    pub(super) fn is_refused(&self, wish: &Wish) -> bool {
        wish.refused.as_ref().is_some_and(|refused| *refused == self.lease.access_token.fingerprint())
    }
}
