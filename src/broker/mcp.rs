//! Sign-ins at MCP servers: fresh discovery, a client of threadkey, and the scopes.
//!
//! A start asks the MCP server anew, because it may have another authorization server by now. It takes
//! no lock of the store during a request. Within a process one discovery or registration for each
//! provider runs at a time, and starts that come within [`FRESH_FOR`] share its result. Starts that wait
//! for a discovery share its failure too. No start waits longer than [`START_TIME`]. Two processes
//! may register at once: the store keeps the client that is written first, and both use it.
//!
//! A process that dies after the server's answer and before the write leaves a client at the server
//! that nobody uses. The next start registers another one.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Broker, Inner, PublicUrl, TokenError, Unusable, mcp_state::Server};
use crate::{
    ids::{ProviderId, Tenant},
    oauth::{
        BearerChallenge, Credentials, DiscoveryError, Provider, Publisher, ServerMetadata, Undiscovered,
        mcp::{ClientChoice, choose_client, choose_scopes, union},
    },
    session::{Binding, Change, DemandRefused, RegisteredClient},
    sys::secret_source::NoSecret,
};

/// The time for which one discovery serves all starts.
const FRESH_FOR: Duration = Duration::from_secs(30);

/// The longest time that a start spends with the servers.
const START_TIME: Duration = Duration::from_secs(30);

/// The most registrations at one provider in [`REGISTRATION_SPAN`]: three for each of two callbacks.
const MAX_REGISTRATIONS: usize = 6;
const REGISTRATION_SPAN: Duration = Duration::from_secs(60 * 60);

/// The time for which a refusal to register answers further starts.
const REFUSAL_LASTS: Duration = Duration::from_secs(60);

// === impl Broker ===

impl Broker {
    /// Takes the report that a resource demands more scopes than a tenant's token has (RFC 6750 §3.1).
    /// `challenges` are the values of the WWW-Authenticate headers. The next sign-in requests the
    /// granted and the demanded scopes together, in any process. Returns them, or `None` if the challenge
    /// demands nothing new, or more than [`Demanded`](crate::session::Demanded) allows. The operator decides
    /// on the scopes of a provider that is no MCP server, so `None` for that as well.
    ///
    /// Only the scopes of the challenge count. Its addresses do not, because an agent may report it.
    ///
    /// # Errors
    /// [`TokenError::UnknownProvider`], [`TokenError::NoSession`], or the store's.
    pub async fn insufficient_scope(
        &self,
        tenant: &Tenant,
        challenges: &[String],
    ) -> Result<Option<Vec<String>>, TokenError> {
        if !self.inner.providers.contains(&tenant.provider) {
            return Err(TokenError::UnknownProvider(tenant.provider.clone()));
        }
        let session = self.inner.store.read(tenant).await?.session;
        let session = session.ok_or_else(|| TokenError::NoSession(tenant.clone()))?;
        let published = self.inner.providers.undiscovered(&tenant.provider);
        if !published.is_some_and(|one| matches!(one.publisher, Publisher::Mcp(_))) {
            return Ok(None);
        }
        let challenge = BearerChallenge::find(challenges.iter().map(String::as_str));
        let Some(challenge) = challenge.filter(BearerChallenge::is_insufficient_scope) else {
            return Ok(None);
        };
        let (granted, now) = (session.granted_scopes(), self.inner.now());
        let mut missing = challenge.scopes;
        missing.retain(|scope| !granted.contains(scope));
        if missing.is_empty() {
            return Ok(None);
        }
        let refused = |reason: DemandRefused| {
            tracing::warn!(%tenant, "the resource of a token wants another sign-in with more scopes, and gets none: {reason}");
        };
        match session.demanded.clone().unwrap_or_default().with(&missing, now) {
            Ok(None) => return Ok(Some(union(&granted, &session.demanded_scopes(now)))),
            Ok(Some(_)) => {}
            Err(reason) => {
                refused(reason);
                return Ok(None);
            }
        }
        // The store decides, because another process may have taken a demand meanwhile.
        let demand = Change::Demand { lineage: session.lineage, scopes: missing };
        let changed = self.inner.store.change(tenant, demand).await?;
        let after = changed.after.session.filter(|_| changed.applied.took_effect());
        Ok(after.map(|session| union(&granted, &session.demanded_scopes(now))))
    }
}

// === impl Inner ===

impl Inner {
    /// Returns the provider for a new sign-in with this redirect URI; none stands for the configured one.
    /// For an MCP server it has the client and the scopes of this sign-in.
    pub(super) async fn for_sign_in(
        &self,
        tenant: &Tenant,
        redirect_uri: Option<&Url>,
    ) -> Result<Arc<Provider>, Unusable> {
        let id = &tenant.provider;
        let undiscovered = self.providers.undiscovered(id);
        let Some(undiscovered) = undiscovered.filter(|one| matches!(one.publisher, Publisher::Mcp(_))) else {
            return self.usable(id).await;
        };
        let failed = |problem| Unusable::Undiscovered { provider: id.clone(), problem };
        let too_slow = || DiscoveryError::TooSlow { server: undiscovered.publisher.to_string() };
        let asked_at = Instant::now();
        let until = asked_at + START_TIME;
        let server = self.mcp.servers.entry(id.clone()).or_default().clone();
        let mut server = timeout_at(until, server.lock()).await.map_err(|_| failed(too_slow()))?;
        // The discovery of another start ended while this one waited.
        if let Some((_, problem)) = server.failed.as_ref().filter(|(ended_at, _)| *ended_at >= asked_at) {
            return Err(failed(problem.clone()));
        }
        let found = timeout_at(until, self.discovered_now(&undiscovered, &mut server)).await;
        let found = found.unwrap_or_else(|_| Err(too_slow()));
        server.failed = found.as_ref().err().map(|problem| (Instant::now(), problem.clone()));
        let provider = found.map_err(failed)?;
        let scopes = self.scopes_for(tenant, &undiscovered, &provider).await?;
        let redirect_uri = redirect_uri.map_or(provider.redirect_uri(), Url::as_str);
        let client = self.client_for(&undiscovered, &provider, &mut server, redirect_uri, &scopes);
        let client = timeout_at(until, client).await.unwrap_or_else(|_| Err(failed(too_slow())));
        Ok(Arc::new(provider.with_client(client?, scopes)))
    }

    /// Returns the redirect URI of our public pages for sign-ins at this provider.
    ///
    /// A provider whose client threadkey makes has one of its own. So an answer that another server sent
    /// arrives elsewhere than the sign-in expects it (RFC 9700 §4.4). The others share the one that
    /// operators register.
    pub(super) fn callback(&self, id: &ProviderId) -> Option<Url> {
        let public = self.public_url.get()?;
        let is_ours = self.providers.undiscovered(id).is_some_and(|one| one.makes_client());
        Some(if is_ours { public.callback_of(id) } else { public.callback() })
    }

    /// Whether sign-ins at this provider may come back to our public pages.
    pub(super) fn may_return_to_us(&self, id: &ProviderId) -> bool {
        let published = self.providers.undiscovered(id).map(|one| !one.settings.paste_only);
        published.or_else(|| Some(self.providers.get(id)?.may_return_to_us())).unwrap_or(false)
    }

    /// Returns the provider as its server publishes it now.
    async fn discovered_now(
        &self,
        undiscovered: &Undiscovered,
        server: &mut Server,
    ) -> Result<Arc<Provider>, DiscoveryError> {
        let is_fresh = server.discovered_at.is_some_and(|at| at.elapsed() < FRESH_FOR);
        if let Some(provider) = self.providers.get(&undiscovered.id).filter(|_| is_fresh) {
            return Ok(provider);
        }
        let found = self.client.discover(undiscovered, self.now()).await?;
        let provider = self.providers.adopt(undiscovered, found)?;
        server.discovered_at = Some(Instant::now());
        Ok(provider)
    }

    /// Chooses the scopes of a sign-in. Those that the user has, and those that the resource demanded
    /// since, are among them.
    async fn scopes_for(
        &self,
        tenant: &Tenant,
        undiscovered: &Undiscovered,
        provider: &Provider,
    ) -> Result<Vec<String>, Unusable> {
        let session = self.store.read(tenant).await?.session;
        let session = session.filter(|session| session.binding.issuer.as_deref() == provider.issuer());
        let demanded =
            session.as_ref().map(|session| session.demanded_scopes(self.now())).unwrap_or_default();
        let Some(session) = session.filter(|_| !demanded.is_empty()) else {
            return Ok(provider.scopes().to_vec());
        };
        let more = union(&session.granted_scopes(), &demanded);
        let written = &undiscovered.settings.scopes;
        let server = provider.discovered().and_then(|found| found.metadata.scopes_supported.as_deref());
        let base = if written.is_empty() { provider.scopes() } else { written };
        Ok(choose_scopes(base, None, server.unwrap_or_default(), &more))
    }

    /// Returns the id of the client for a sign-in with this redirect URI, registered if need be.
    async fn client_for(
        &self,
        undiscovered: &Undiscovered,
        provider: &Provider,
        server: &mut Server,
        redirect_uri: &str,
        scopes: &[String],
    ) -> Result<String, Unusable> {
        let failed = |problem| Unusable::Undiscovered { provider: undiscovered.id.clone(), problem };
        let Some(found) = provider.discovered() else { return Ok(provider.binding().client_id) };
        let metadata = &found.metadata;
        let endpoint = metadata.endpoint("registration_endpoint").and_then(|url| Url::parse(url).ok());
        // Servers fetch the document, and accept only https.
        let document = self.public_url.get().map(PublicUrl::client_document);
        let document = document.filter(|url| url.scheme() == "https");
        let choice = choose_client(
            !provider.registers_client(),
            document.as_ref().map(Url::as_str),
            metadata.client_id_metadata_document_supported,
            endpoint,
        );
        let endpoint = match choice {
            ClientChoice::Configured => return Ok(provider.binding().client_id),
            ClientChoice::Document(url) => return Ok(url),
            ClientChoice::Register(endpoint) => endpoint,
            ClientChoice::Ask => {
                return Err(failed(DiscoveryError::NoClient {
                    issuer: metadata.issuer.clone(),
                    redirect_uri: redirect_uri.to_owned(),
                    provider: undiscovered.id.clone(),
                }));
            }
        };
        let key = RegisteredClient::key(&metadata.issuer, redirect_uri);
        let there = self.store.clients().await?.get(&key).cloned();
        if let Some(client) = there.as_ref().filter(|client| !client.is_expired(self.now())) {
            return Ok(client.client_id.clone());
        }
        if let Some((_, problem)) = server.refused.get(&key).filter(|(at, _)| at.elapsed() < REFUSAL_LASTS) {
            return Err(failed(problem.clone()));
        }
        let registered = self.register(undiscovered, metadata, endpoint, server, redirect_uri, scopes).await;
        let registered = registered.map_err(|problem| {
            server.refused.retain(|_, (at, _)| at.elapsed() < REFUSAL_LASTS);
            server.refused.insert(key.clone(), (Instant::now(), problem.clone()));
            failed(problem)
        })?;
        let stored = self.store.store_client(&key, registered, there).await?;
        Ok(stored.client_id)
    }

    /// Registers a client, a few times an hour at most.
    async fn register(
        &self,
        undiscovered: &Undiscovered,
        metadata: &ServerMetadata,
        endpoint: Url,
        server: &mut Server,
        redirect_uri: &str,
        scopes: &[String],
    ) -> Result<RegisteredClient, DiscoveryError> {
        let recent = &mut server.registrations;
        recent.retain(|at| at.elapsed() < REGISTRATION_SPAN);
        if recent.len() >= MAX_REGISTRATIONS {
            return Err(DiscoveryError::RegistrationRefused {
                issuer: metadata.issuer.clone(),
                code: "six clients were registered within an hour".to_owned(),
                redirect_uri: redirect_uri.to_owned(),
                provider: undiscovered.id.clone(),
            });
        }
        recent.push(Instant::now());
        tracing::info!(provider = %undiscovered.id, issuer = metadata.issuer, "registering a client");
        let registered = self.client.register(undiscovered, metadata, endpoint, redirect_uri, scopes).await?;
        Ok(RegisteredClient { registered_at: Some(self.now()), ..registered })
    }

    /// Makes the credentials of a request for this binding: those of the registered client that it
    /// names, or the configured ones. A client of another issuer is never used.
    ///
    /// # Errors
    /// Without the secret the server would refuse a good client, so an unreadable store is an error.
    pub(super) async fn credentials(
        &self,
        provider: &Provider,
        bound: &Binding,
    ) -> Result<Credentials, NoSecret> {
        if !provider.registers_client() {
            return provider.credentials(self.now()).await;
        }
        let found = self.registered(bound).await.map_err(|error| NoSecret::Store(error.to_string()))?;
        Ok(Credentials::registered(found.as_ref().map(|(_, client)| client)))
    }

    /// Retires the registered client of this binding, because its server no longer knows it. The next
    /// sign-in registers another one. Sessions that are bound to it keep its secret.
    pub(super) async fn forget_client(&self, provider: &Provider, bound: &Binding, code: &str) {
        if !provider.registers_client() || code != "invalid_client" {
            return;
        }
        let retired = match self.registered(bound).await {
            // Its secret stays for the sessions that are bound to it: the refusal may be an error.
            Ok(Some((key, client))) => self.store.retire_client(&key, &client).await,
            Ok(None) => return,
            Err(error) => Err(error),
        };
        match retired {
            Ok(true) => tracing::warn!(
                provider = %provider.id(), "the server no longer knows its registered client; the next sign-in registers another one"
            ),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(provider = %provider.id(), %error, "a registered client cannot be taken out of use")
            }
        }
    }

    /// Finds the registered client of a binding.
    async fn registered(
        &self,
        bound: &Binding,
    ) -> Result<Option<(String, RegisteredClient)>, crate::store::StoreError> {
        let Some(issuer) = &bound.issuer else { return Ok(None) };
        let prefix = RegisteredClient::key(issuer, "");
        let clients = self.store.clients().await?;
        let found = clients
            .iter()
            .find(|(key, client)| key.starts_with(&prefix) && client.client_id == bound.client_id);
        Ok(found.map(|(key, client)| (key.clone(), client.clone())))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test damages a store")]
mod tests {
    use super::*;
    use crate::{
        oauth::{Client, Discovered, ProviderSettings, Providers, RECOMMENDED_REDIRECT_URI},
        store::{FileStore, FileStoreOptions},
        sys::clock::Clock,
    };

    #[tokio::test]
    async fn no_request_is_made_without_its_secret_while_the_clients_cannot_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, clock) = (folder.path().join("auth.json"), Clock::fixed(0));
        let store = FileStore::open(&path, clock.clone(), FileStoreOptions::default()).expect("a store");
        let settings = ProviderSettings {
            registers_client: true,
            redirect_uri: RECOMMENDED_REDIRECT_URI.to_owned(),
            ..ProviderSettings::default()
        };
        let publisher = Publisher::Mcp("https://mcp.example/".parse().expect("a URL"));
        let undiscovered = Undiscovered { id: "linear".parse().expect("an id"), settings, publisher };
        let endpoint = |name: &str| (format!("{name}_endpoint"), format!("https://id.example/{name}"));
        let metadata = ServerMetadata {
            issuer: "https://id.example".to_owned(),
            endpoints: ["authorization", "token"].map(endpoint).into(),
            code_challenge_methods_supported: Some(vec!["S256".to_owned()]),
            ..ServerMetadata::default()
        };
        let found = Discovered { metadata, ..Discovered::default() };
        let provider = undiscovered.provider(found).expect("is usable");
        let client = Client::new(clock.clone()).expect("a client");
        let broker =
            Broker::new(Arc::new(store), Providers::with_undiscovered([], [undiscovered]), client, clock);
        let bound = Binding { client_id: "c-1".to_owned(), ..provider.binding() };
        assert!(bound.issuer.is_some());
        broker.inner.credentials(&provider, &bound).await.expect("a store without clients can be read");
        std::fs::write(&path, "{").expect("writable");
        let read = broker.inner.credentials(&provider, &bound).await;
        let refused = read.map(drop).expect_err("it cannot be read");
        assert!(refused.to_string().contains("registered clients cannot be read"), "{refused}");
    }
}
