//! The public keys of issuers in memory, with the times of their fetches.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use dashmap::DashMap;
use tokio::sync::Mutex;
use url::Url;

use crate::oauth::KeySet;

/// The shortest time between two requests to one issuer.
const PAUSE: Duration = Duration::from_secs(60);

/// The keys of all issuers, by their address.
#[derive(Default)]
pub(super) struct IssuerKeys(DashMap<Url, Arc<Issuer>>);

#[derive(Default)]
pub(super) struct Issuer {
    /// Held during a fetch, so that there is one at a time.
    pub(super) fetching: Mutex<()>,
    known: std::sync::Mutex<Known>,
}

/// Times are those of [`Clock::elapsed`](crate::sys::clock::Clock::elapsed).
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) keys: Option<(Arc<KeySet>, Duration)>,
    pub(super) asked_at: Option<Duration>,
}

// === impl IssuerKeys ===

impl IssuerKeys {
    pub(super) fn of(&self, url: &Url) -> Arc<Issuer> {
        self.0.entry(url.clone()).or_default().clone()
    }
}

// === impl Issuer ===

impl Issuer {
    pub(super) fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

// === impl Known ===

impl Known {
    pub(super) fn younger_than(&self, age: Duration, now: Duration) -> Option<Arc<KeySet>> {
        let (keys, since) = self.keys.as_ref()?;
        (now.saturating_sub(*since) < age).then(|| keys.clone())
    }

    pub(super) fn may_ask(&self, now: Duration) -> bool {
        self.asked_at.is_none_or(|asked| now.saturating_sub(asked) >= PAUSE)
    }
}
