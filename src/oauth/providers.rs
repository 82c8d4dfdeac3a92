//! All configured providers: those whose endpoints are known, and those whose endpoints a server
//! publishes.
//!
//! A provider that names an `issuer` or an MCP server alone is [`Undiscovered`] until its endpoints
//! are found. From then on [`Providers::get`] returns it. A provider that is discovered again takes
//! the place of the earlier one. A caller keeps the one that it has: sessions are bound to their
//! endpoints in any case.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use url::Url;

use super::{Exchange, Provider, ProviderSettings};
use crate::ids::{ProviderId, closest};

/// The server that publishes a provider's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// The authorization server itself (RFC 8414, OpenID Connect Discovery 1.0).
    Issuer(String),
    /// A protected resource, an MCP server, which names its authorization server (RFC 9728).
    Mcp(Url),
}

/// A provider whose endpoints a server publishes.
#[derive(Clone, Debug)]
pub struct Undiscovered {
    /// Its name.
    pub id: ProviderId,
    /// The settings of the configuration. They override published values.
    pub settings: ProviderSettings,
    /// The server that publishes the rest.
    pub publisher: Publisher,
}

/// All configured providers. Cheap to clone; clones share their state.
#[derive(Clone, Default)]
pub struct Providers(Arc<BTreeMap<ProviderId, Slot>>);

/// The place of one provider.
#[derive(Default)]
struct Slot {
    undiscovered: Option<Arc<Undiscovered>>,
    exchange: Option<Arc<Exchange>>,
    usable: RwLock<Option<Arc<Provider>>>,
}

// === impl Providers ===

impl Providers {
    /// Collects providers with known endpoints under their names.
    pub fn new(providers: impl IntoIterator<Item = Provider>) -> Self {
        Self::with_undiscovered(providers, [])
    }

    /// Collects providers with known endpoints, and those to be discovered, under their names.
    pub fn with_undiscovered(
        providers: impl IntoIterator<Item = Provider>,
        undiscovered: impl IntoIterator<Item = Undiscovered>,
    ) -> Self {
        Self::with_exchanges(providers, undiscovered, [])
    }

    /// As [`Providers::with_undiscovered`], and those whose tokens come from the sign-in at another one.
    pub fn with_exchanges(
        providers: impl IntoIterator<Item = Provider>,
        undiscovered: impl IntoIterator<Item = Undiscovered>,
        exchanges: impl IntoIterator<Item = Exchange>,
    ) -> Self {
        let known = providers.into_iter().map(|provider| {
            let usable = RwLock::new(Some(Arc::new(provider.clone())));
            (provider.id().clone(), Slot { usable, ..Slot::default() })
        });
        let published = undiscovered
            .into_iter()
            .map(|one| (one.id.clone(), Slot { undiscovered: Some(Arc::new(one)), ..Slot::default() }));
        let exchanged = exchanges
            .into_iter()
            .map(|one| (one.id().clone(), Slot { exchange: Some(Arc::new(one)), ..Slot::default() }));
        Self(Arc::new(known.chain(published).chain(exchanged).collect()))
    }

    /// Returns the provider of this name, if its endpoints are known.
    pub fn get(&self, id: &ProviderId) -> Option<Arc<Provider>> {
        self.0.get(id)?.usable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a provider of this name is configured.
    pub fn contains(&self, id: &ProviderId) -> bool {
        self.0.contains_key(id)
    }

    /// Returns the provider of this name as it is configured, if a server publishes its endpoints.
    pub fn undiscovered(&self, id: &ProviderId) -> Option<Arc<Undiscovered>> {
        self.0.get(id)?.undiscovered.clone()
    }

    /// Returns the provider of this name, if its tokens come from the sign-in at another one.
    pub fn exchange(&self, id: &ProviderId) -> Option<Arc<Exchange>> {
        self.0.get(id)?.exchange.clone()
    }

    /// Returns the providers whose tokens come from the sign-in at another one.
    pub fn exchanges(&self) -> impl Iterator<Item = Arc<Exchange>> {
        self.ids().filter_map(|id| self.exchange(id))
    }

    /// Makes a discovered provider usable, from now on and for all clones. Does nothing for a name
    /// that is not configured.
    pub fn discovered(&self, provider: Provider) {
        if let Some(slot) = self.0.get(provider.id()) {
            *slot.usable.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(provider));
        }
    }

    /// Returns the providers whose endpoints are known, in the order of their names.
    pub fn usable(&self) -> impl Iterator<Item = Arc<Provider>> {
        self.ids().filter_map(|id| self.get(id))
    }

    /// Returns the name of the provider, if there is exactly one.
    pub fn only(&self) -> Option<&ProviderId> {
        let mut ids = self.ids();
        ids.next().filter(|_| ids.next().is_none())
    }

    /// Returns the name that is most similar to an unknown one, if any is similar enough.
    pub fn similar(&self, unknown: &ProviderId) -> Option<&ProviderId> {
        let similar = closest(unknown.as_str(), self.ids().map(ProviderId::as_str))?;
        self.ids().find(|id| id.as_str() == similar)
    }

    /// Returns the names of all providers, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ProviderId> {
        self.0.keys()
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ids()).finish()
    }
}
