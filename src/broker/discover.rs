//! The provider of a request: found among the configured ones, and discovered first where a server
//! publishes its endpoints.
//!
//! A caller asks before it takes any lock of the store, so no such lock is held while a server is
//! asked. Within a process one fetch for each provider runs at a time:
//!
//! - *A provider whose endpoints are unknown.* [`Inner::usable`] reads the cache again, then fetches.
//!   Callers that come meanwhile wait for the same fetch, and share its failure.
//! - *A provider whose metadata is old.* Callers go on with the known endpoints. A sign-in start, and
//!   [`Broker::keep_discovered`], fetch in the background. A fetch that fails changes nothing.
//!
//! Two processes may fetch at the same time. Each finds the metadata of the same issuer, and the
//! cache keeps one of both.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Broker, FinishError, Inner, StartError, TokenError,
    error::{exchanged, unknown_provider},
    fetches::{Fetches, Turn},
};
use crate::{
    ids::ProviderId,
    oauth::{CACHE_FRESH_FOR, DiscoveryError, Provider, Undiscovered},
    session::seconds,
    store::StoreError,
};

/// How often a long-running process looks for old metadata.
const LOOK_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The reason why a provider cannot be used now.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unusable {
    /// The configuration has no such provider.
    #[error("{}", unknown_provider(.0))]
    Unknown(ProviderId),
    /// Its tokens come from the sign-in at another provider, so it has none of its own.
    #[error("{}", exchanged(id, from, "Sign in"))]
    Exchanged {
        /// The provider.
        id: ProviderId,
        /// The provider with the sign-in.
        from: ProviderId,
    },
    /// The provider's endpoints are not known.
    #[error("the endpoints of {provider} are not known: {problem}")]
    Undiscovered {
        /// The provider.
        provider: ProviderId,
        /// The reason.
        problem: DiscoveryError,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl Unusable ===

impl From<Unusable> for TokenError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Unknown(id) | Unusable::Exchanged { id, .. } => Self::UnknownProvider(id),
            Unusable::Undiscovered { provider, problem } => Self::Undiscovered { provider, problem },
            Unusable::Store(error) => Self::from(error),
        }
    }
}

impl From<Unusable> for StartError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Unknown(id) => Self::UnknownProvider(id),
            Unusable::Exchanged { id, from } => Self::Exchanged { id, from },
            Unusable::Undiscovered { provider, problem } => Self::Undiscovered { provider, problem },
            Unusable::Store(error) => Self::Store(error),
        }
    }
}

impl From<Unusable> for FinishError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Unknown(id) | Unusable::Exchanged { id, .. } => Self::UnknownProvider(id),
            Unusable::Undiscovered { provider, problem } => Self::Undiscovered { provider, problem },
            Unusable::Store(error) => Self::Store(error),
        }
    }
}

// === impl Broker ===

impl Broker {
    /// Fetches the metadata of a provider now, whatever its age. Returns `None` for a provider whose
    /// endpoints the operator wrote.
    ///
    /// # Errors
    /// See [`DiscoveryError`]. The earlier endpoints stay in use.
    pub async fn discover_again(&self, id: &ProviderId) -> Option<Result<Arc<Provider>, DiscoveryError>> {
        let undiscovered = self.inner.providers.undiscovered(id)?;
        let fetches = self.inner.fetches(id);
        let mut turn = fetches.turn().await;
        Some(self.inner.fetch(&undiscovered, &mut turn).await)
    }

    /// Refreshes old metadata, and fetches missing metadata, once an hour and for ever. For a process
    /// that runs for long.
    pub async fn keep_discovered(&self) {
        loop {
            self.discover_old().await;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Fetches the metadata of each provider that has none, or none of the last day. A failure is
    /// logged.
    pub async fn discover_old(&self) {
        for id in self.inner.providers.ids() {
            if self.inner.is_old(id) {
                self.inner.refresh_metadata(id).await;
            }
        }
    }

    /// As [`Broker::discover_old`] for one provider, in the background.
    pub(super) fn discover_if_old(&self, id: &ProviderId) {
        if self.inner.is_old(id) {
            let (inner, id) = (self.inner.clone(), id.clone());
            self.inner.tasks.spawn(async move { inner.refresh_metadata(&id).await });
        }
    }
}

// === impl Broker ===

impl Broker {
    /// Returns a provider with known endpoints.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub async fn usable(&self, id: &ProviderId) -> Result<Arc<Provider>, Unusable> {
        self.inner.usable(id).await
    }
}

// === impl Inner ===

impl Inner {
    /// Returns a provider with known endpoints. The caller holds no lock. It may wait for a fetch.
    pub(super) async fn usable(&self, id: &ProviderId) -> Result<Arc<Provider>, Unusable> {
        if let Some(exchange) = self.providers.exchange(id) {
            return Err(Unusable::Exchanged { id: id.clone(), from: exchange.from().clone() });
        }
        if let Some(provider) = self.providers.get(id) {
            return Ok(provider);
        }
        let undiscovered = self.providers.undiscovered(id).ok_or_else(|| Unusable::Unknown(id.clone()))?;
        // Boxed: most callers never fetch, and their futures need no room for it.
        Box::pin(self.discover(id, &undiscovered)).await
    }

    /// Fetches the endpoints of a provider, unless another caller has them meanwhile.
    async fn discover(
        &self,
        id: &ProviderId,
        undiscovered: &Undiscovered,
    ) -> Result<Arc<Provider>, Unusable> {
        let asked_at = Instant::now();
        let fetches = self.fetches(id);
        let mut turn = fetches.turn().await;
        let failed = |problem| Unusable::Undiscovered { provider: id.clone(), problem };
        if let Some(provider) = self.providers.get(id).or_else(|| self.providers.look_again(id)) {
            return Ok(provider);
        }
        // The fetch of another caller ended while this one waited.
        if let Some((_, problem)) = turn.as_ref().filter(|(ended_at, _)| *ended_at >= asked_at) {
            return Err(failed(problem.clone()));
        }
        self.fetch(undiscovered, &mut turn).await.map_err(failed)
    }

    fn fetches(&self, id: &ProviderId) -> Arc<Fetches> {
        self.fetches.entry(id.clone()).or_default().clone()
    }

    /// Fetches the metadata, and makes the provider usable.
    async fn fetch(
        &self,
        undiscovered: &Undiscovered,
        turn: &mut Turn<'_>,
    ) -> Result<Arc<Provider>, DiscoveryError> {
        let found = self.client.discover(undiscovered, self.now()).await;
        let adopted = found.and_then(|found| self.providers.adopt(undiscovered, found));
        **turn = adopted.as_ref().err().map(|problem| (Instant::now(), problem.clone()));
        adopted
    }

    /// Whether a provider's metadata is missing or older than a day. A time in the future counts as
    /// old: the clock was wrong.
    fn is_old(&self, id: &ProviderId) -> bool {
        if self.providers.undiscovered(id).is_none() {
            return false;
        }
        let provider = self.providers.get(id);
        let Some(found) = provider.as_ref().and_then(|provider| provider.discovered()) else { return true };
        let age = self.now().saturating_sub(found.fetched_at);
        !(0..seconds(CACHE_FRESH_FOR)).contains(&age)
    }

    /// Refreshes old metadata, unless a fetch is under way or another process has just refreshed it.
    async fn refresh_metadata(&self, id: &ProviderId) {
        let Some(undiscovered) = self.providers.undiscovered(id) else { return };
        let fetches = self.fetches(id);
        let Some(mut turn) = fetches.turn_now() else { return };
        self.providers.look_again(id);
        if !self.is_old(id) {
            return;
        }
        if let Err(problem) = self.fetch(&undiscovered, &mut turn).await {
            let consequence = match self.providers.get(id) {
                Some(_) => "the endpoints of before stay in use",
                None => "nobody can sign in there",
            };
            tracing::warn!(provider = %id, %problem, "the metadata of a provider cannot be fetched; {consequence}");
        }
    }
}
