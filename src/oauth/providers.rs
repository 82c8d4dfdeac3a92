//! All configured providers: those whose endpoints are known, and those whose endpoints a server
//! publishes.
//!
//! A provider that names an `issuer` or an MCP server alone is [`Undiscovered`] until its endpoints
//! are found: in the cache of this machine at the first look, or by a fetch. From then on [`Providers::get`] returns it. A provider that is discovered again takes
//! the place of the earlier one. A caller keeps the one that it has: sessions are bound to their
//! endpoints in any case.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Once, PoisonError, RwLock},
};

use url::Url;

use super::{
    Discovered, DiscoveryCache, DiscoveryError, EnvironmentToken, Exchange, Provider, ProviderSettings,
};
use crate::ids::{ProviderId, Tenant, closest};

/// The server that publishes a provider's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// The authorization server itself (RFC 8414, OpenID Connect Discovery 1.0).
    Issuer(String),
    /// A protected resource, an MCP server, which names its authorization server (RFC 9728).
    Mcp(Url),
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issuer(issuer) => issuer.fmt(f),
            Self::Mcp(server) => server.fmt(f),
        }
    }
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
pub struct Providers {
    slots: Arc<BTreeMap<ProviderId, Slot>>,
    cache: Option<Arc<DiscoveryCache>>,
}

/// The place of one provider.
struct Slot {
    undiscovered: Option<Arc<Undiscovered>>,
    exchange: Option<Arc<Exchange>>,
    usable: RwLock<Option<Arc<Provider>>>,
    /// Whether the cache was read.
    looked: Once,
}

impl Slot {
    fn empty() -> Self {
        Self { undiscovered: None, exchange: None, usable: RwLock::default(), looked: Once::new() }
    }
}

// === impl Undiscovered ===

impl Undiscovered {
    /// Returns the resource that every token must be for, if the provider is an MCP server. Its metadata
    /// may name a parent of the server's path.
    pub fn mcp_server(&self) -> Option<Url> {
        let Publisher::Mcp(server) = &self.publisher else { return None };
        let written = self.settings.resource.as_ref().and_then(|resource| resource.parse().ok());
        written.or_else(|| Some(server.clone()))
    }

    /// Whether threadkey makes the client: it registers one, or publishes the metadata document of one.
    pub fn makes_client(&self) -> bool {
        self.settings.registers_client && self.settings.client_id.is_empty()
    }
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
            (provider.id().clone(), Slot { usable, ..Slot::empty() })
        });
        let published = undiscovered
            .into_iter()
            .map(|one| (one.id.clone(), Slot { undiscovered: Some(Arc::new(one)), ..Slot::empty() }));
        let exchanged = exchanges
            .into_iter()
            .map(|one| (one.id().clone(), Slot { exchange: Some(Arc::new(one)), ..Slot::empty() }));
        Self { slots: Arc::new(known.chain(published).chain(exchanged).collect()), cache: None }
    }

    /// Returns the same providers with this cache of published metadata.
    #[must_use]
    pub fn cached_in(self, cache: DiscoveryCache) -> Self {
        Self { cache: Some(Arc::new(cache)), ..self }
    }

    /// Returns the provider of this name, if its endpoints are known. The first look at a provider
    /// whose endpoints a server publishes reads its file in the cache, once.
    pub fn get(&self, id: &ProviderId) -> Option<Arc<Provider>> {
        let slot = self.slots.get(id)?;
        if let (Some(undiscovered), Some(cache)) = (&slot.undiscovered, &self.cache) {
            slot.looked.call_once(|| {
                if let Some(provider) = cached(undiscovered, cache) {
                    slot.set(provider);
                }
            });
        }
        slot.usable.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the cache again, because another process may have written it. Makes the provider usable
    /// if its metadata is there.
    pub fn look_again(&self, id: &ProviderId) -> Option<Arc<Provider>> {
        let (slot, cache) = (self.slots.get(id)?, self.cache.as_ref()?);
        slot.set(cached(slot.undiscovered.as_ref()?, cache)?);
        self.get(id)
    }

    /// Builds a provider from fetched metadata, makes it usable from now on and for all clones, and
    /// writes the cache. A cache that cannot be written is logged: the next process fetches again.
    ///
    /// # Errors
    /// See [`Undiscovered::provider`]. The earlier provider stays.
    pub fn adopt(
        &self,
        undiscovered: &Undiscovered,
        mut found: Discovered,
    ) -> Result<Arc<Provider>, DiscoveryError> {
        let before = self.get(&undiscovered.id);
        if let Some(before) = before.as_ref().and_then(|before| before.discovered()) {
            found.remember(before);
        }
        let provider = undiscovered.provider(found.clone())?;
        let was = before.as_ref().and_then(|before| before.discovered()).map(|was| &was.metadata.issuer);
        // A client of the operator belongs to the issuer that it was registered at.
        if let Some(was) = was.filter(|was| !provider.registers_client() && **was != found.metadata.issuer) {
            return Err(DiscoveryError::Setting(format!(
                "{} now names the issuer {}, and client_id belongs to {was}. If that is right, register a client there, correct client_id, and remove this provider's file in the folder of the cache",
                found.publisher, found.metadata.issuer
            )));
        }
        if let Some(before) = before.filter(|before| before.token_endpoint() != provider.token_endpoint()) {
            tracing::warn!(
                provider = %undiscovered.id,
                "{} publishes another token endpoint: {}. Sessions of before keep using {}. If it is gone, list it in providers.{}.formerly",
                found.publisher, provider.token_endpoint(), before.token_endpoint(), undiscovered.id
            );
        }
        if let Some(Err(error)) = self.cache.as_ref().map(|cache| cache.write(&undiscovered.id, &found)) {
            tracing::warn!(
                provider = %undiscovered.id,
                "{} cannot be written, so the next process fetches the metadata again: {error}",
                self.cache.as_ref().map(|cache| cache.folder().display().to_string()).unwrap_or_default()
            );
        }
        let provider = Arc::new(provider);
        if let Some(slot) = self.slots.get(&undiscovered.id) {
            *slot.usable.write().unwrap_or_else(PoisonError::into_inner) = Some(provider.clone());
        }
        Ok(provider)
    }

    /// Whether a provider of this name is configured.
    pub fn contains(&self, id: &ProviderId) -> bool {
        self.slots.contains_key(id)
    }

    /// Returns the provider of this name as it is configured, if a server publishes its endpoints.
    pub fn undiscovered(&self, id: &ProviderId) -> Option<Arc<Undiscovered>> {
        self.slots.get(id)?.undiscovered.clone()
    }

    /// Returns the token of the environment that this tenant gets in place of its session's. It needs no
    /// endpoints.
    pub fn environment_token(&self, tenant: &Tenant) -> Option<EnvironmentToken> {
        let token = self.environment(&tenant.provider)?;
        token.principals.contains(&tenant.principal).then_some(token)
    }

    /// Returns the token of the environment of this provider.
    pub fn environment(&self, id: &ProviderId) -> Option<EnvironmentToken> {
        match self.undiscovered(id) {
            Some(undiscovered) => undiscovered.settings.environment.clone(),
            None => self.get(id)?.environment().cloned(),
        }
    }

    /// Returns the provider of this name, if its tokens come from the sign-in at another one.
    pub fn exchange(&self, id: &ProviderId) -> Option<Arc<Exchange>> {
        self.slots.get(id)?.exchange.clone()
    }

    /// Returns the providers whose tokens come from the sign-in at another one.
    pub fn exchanges(&self) -> impl Iterator<Item = Arc<Exchange>> {
        self.ids().filter_map(|id| self.exchange(id))
    }

    /// Makes a discovered provider usable, from now on and for all clones. Does nothing for a name
    /// that is not configured.
    pub fn discovered(&self, provider: Provider) {
        if let Some(slot) = self.slots.get(provider.id()) {
            slot.set(provider);
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
        self.slots.keys()
    }
}

/// Reports a text that names no provider. A text that cannot be a name is quoted.
pub fn no_provider(text: &str) -> String {
    let known = "in the configuration";
    match text.parse::<ProviderId>() {
        Ok(id) => format!("there is no provider {id} {known}"),
        Err(_) => format!("there is no provider {text:?} {known}"),
    }
}

/// Reports a text that names none of these providers, with the next step.
pub fn no_provider_among<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let next = match closest(text, known.iter().copied()) {
        Some(similar) => format!("did you mean {similar}?"),
        None if known.is_empty() => "no provider is configured".to_owned(),
        None => format!("configured are {}", known.join(", ")),
    };
    format!("{}; {next}", no_provider(text))
}

impl Slot {
    fn set(&self, provider: Provider) {
        *self.usable.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(provider));
    }
}

/// Returns the provider from its file in the cache. Metadata that does not fit the configuration counts
/// as absent: it is fetched again, and the fetch reports the reason.
fn cached(undiscovered: &Undiscovered, cache: &DiscoveryCache) -> Option<Provider> {
    let found = cache.read(&undiscovered.id, undiscovered.publisher.as_str())?;
    undiscovered
        .provider(found)
        .inspect_err(|error| tracing::debug!(%error, "cached metadata is not used"))
        .ok()
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ids()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{ServerMetadata, provider::tests::settings};

    fn found(issuer: &str) -> Discovered {
        let endpoint = |name: &str| (name.to_owned(), format!("{issuer}/{name}"));
        let metadata = ServerMetadata {
            issuer: issuer.to_owned(),
            endpoints: ["authorization_endpoint", "token_endpoint"].map(endpoint).into(),
            code_challenge_methods_supported: Some(vec!["S256".to_owned()]),
            ..ServerMetadata::default()
        };
        Discovered { publisher: "https://mcp.example/".into(), metadata, ..Discovered::default() }
    }

    #[test]
    fn a_client_of_the_operator_never_follows_a_server_to_another_issuer() {
        let settings = ProviderSettings {
            issuer: None,
            authorization_endpoint: String::new(),
            token_endpoint: String::new(),
            ..settings()
        };
        let publisher = Publisher::Mcp("https://mcp.example/".parse().expect("a URL"));
        let undiscovered = Undiscovered { id: "acme".parse().expect("an id"), settings, publisher };
        let providers = Providers::with_undiscovered([], [undiscovered.clone()]);
        let first = providers.adopt(&undiscovered, found("https://one.example")).expect("is usable");
        let error = providers.adopt(&undiscovered, found("https://two.example")).expect_err("is refused");
        assert!(error.to_string().contains("client_id belongs to https://one.example"), "{error}");
        let still = providers.get(&undiscovered.id).expect("the first one stays");
        assert_eq!(still.token_endpoint(), first.token_endpoint());
    }
}
