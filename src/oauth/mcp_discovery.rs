//! The discovery of an MCP server's authorization server, and the registration of a client there.
//!
//! 1. The server is asked for its tools without a token. A stale token proves nothing here, so none is
//!    sent. `initialize` would open a session at the server, so it is not used.
//! 2. The metadata of the resource come from the address in the challenge, else from the well-known
//!    addresses (RFC 9728). An address in the challenge that fails is an error: the server named it.
//! 3. The metadata of the first authorization server that can be used name the endpoints.
//! 4. A server without such metadata is one of the specification of 2025-03-26: its own origin is the
//!    issuer, and without metadata its endpoints are `/authorize`, `/token` and `/register`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use url::Url;

use super::{
    BearerChallenge, Client, Discovered, DiscoveryError, DocumentError, DocumentRequest, ServerMetadata,
    Undiscovered,
    mcp::{ProtectedResource, canonical_uri, own_issuer, registration, resource_metadata_urls},
};
use crate::{
    net::Reach,
    secret::{ClientSecret, Scrubber},
    session::RegisteredClient,
    sys::clock::UnixTime,
};

/// The longest secret of a registered client, in bytes.
const MAX_SECRET: usize = 4096;

/// The longest client id, issuer, and way of authentication that are stored, in bytes.
const MAX_TEXT: usize = 2048;

/// The media types of an answer to a request over the streamable transport.
const ACCEPT: &str = "application/json, text/event-stream";

/// The metadata of a resource, and the scopes to request.
struct Resource {
    resource: String,
    issuers: Vec<String>,
    scopes: Vec<String>,
    /// Whether the server has no metadata of its own.
    is_legacy: bool,
}

// === impl Client ===

impl Client {
    /// Finds the authorization server of an MCP server. `challenge` is one that a caller got from it.
    ///
    /// # Errors
    /// See [`DiscoveryError`].
    pub async fn discover_mcp(
        &self,
        undiscovered: &Undiscovered,
        server: &Url,
        challenge: Option<&BearerChallenge>,
        now: UnixTime,
    ) -> Result<Discovered, DiscoveryError> {
        let probed = match challenge {
            Some(challenge) => Some(challenge.clone()),
            None => self.probe(undiscovered, server).await?,
        };
        let resource = self.resource(undiscovered, server, probed.unwrap_or_default()).await?;
        let found = |metadata| Discovered {
            publisher: server.to_string(),
            fetched_at: now,
            metadata,
            resource: Some(resource.resource.clone()),
            resource_scopes: resource.scopes.clone(),
            ..Discovered::default()
        };
        let is_useful = |metadata: &ServerMetadata| undiscovered.provider(found(metadata.clone())).map(drop);
        let mut first = None;
        for issuer in &resource.issuers {
            match self.server_metadata(undiscovered, issuer, is_useful).await {
                Ok(metadata) => return Ok(found(metadata)),
                Err(DiscoveryError::Document(DocumentError::Status { status: 404, .. }))
                    if resource.is_legacy =>
                {
                    let found = found(default_endpoints(issuer));
                    return undiscovered.provider(found.clone()).map(|_| found);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| DiscoveryError::NoAuthorizationServer { server: server.to_string() }))
    }

    /// Asks the server for its tools without a token, and returns its challenge.
    async fn probe(
        &self,
        undiscovered: &Undiscovered,
        server: &Url,
    ) -> Result<Option<BearerChallenge>, DiscoveryError> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
        let (trust, reach) = (undiscovered.settings.trust.clone(), reach(undiscovered, server));
        let request = DocumentRequest {
            accept: ACCEPT,
            ..DocumentRequest::post(server.clone(), trust, reach, body.to_string().into_bytes())
        };
        match self.document(request).await {
            Ok(document) if document.status == 401 => {
                Ok(BearerChallenge::find(document.www_authenticate.iter().map(String::as_str)))
            }
            Ok(_) => Ok(None),
            Err(error @ (DocumentError::Refused { .. } | DocumentError::Unreachable(_))) => {
                Err(DiscoveryError::Document(error))
            }
            // The well-known addresses need no answer to the probe.
            Err(_) => Ok(None),
        }
    }

    /// Fetches the metadata of the resource.
    async fn resource(
        &self,
        undiscovered: &Undiscovered,
        server: &Url,
        challenge: BearerChallenge,
    ) -> Result<Resource, DiscoveryError> {
        let is_named = challenge.resource_metadata.is_some();
        let urls = match challenge.resource_metadata {
            Some(url) => vec![url],
            None => resource_metadata_urls(server),
        };
        for url in urls {
            let (trust, reach) = (undiscovered.settings.trust.clone(), reach(undiscovered, server));
            let document = self.document(DocumentRequest::get(url.clone(), trust, reach)).await;
            let document = match document.and_then(|document| document.successful_json()) {
                Ok(document) => document,
                Err(DocumentError::Status { status: 400..=499, .. } | DocumentError::NotJson { .. })
                    if !is_named =>
                {
                    continue;
                }
                Err(error) => return Err(DiscoveryError::Document(error)),
            };
            let read = ProtectedResource::read(&document, server);
            let found = read.map_err(|problem| DiscoveryError::Resource {
                server: server.to_string(),
                document: url.to_string(),
                problem,
            })?;
            let scopes =
                if challenge.scopes.is_empty() { found.scopes.unwrap_or_default() } else { challenge.scopes };
            let (resource, issuers) = (found.resource, found.authorization_servers);
            return Ok(Resource { resource, issuers, scopes, is_legacy: false });
        }
        Ok(Resource {
            resource: canonical_uri(server),
            issuers: vec![own_issuer(server)],
            scopes: challenge.scopes,
            is_legacy: true,
        })
    }

    /// Registers a client (RFC 7591 §3). The caller dates it.
    ///
    /// # Errors
    /// [`DiscoveryError::RegistrationRefused`], or the failure of the request.
    pub async fn register(
        &self,
        undiscovered: &Undiscovered,
        metadata: &ServerMetadata,
        endpoint: Url,
        redirect_uri: &str,
        scopes: &[String],
    ) -> Result<RegisteredClient, DiscoveryError> {
        let method =
            super::mcp::choose_auth_method(metadata.token_endpoint_auth_methods_supported.as_deref());
        let body = registration(redirect_uri, method, scopes);
        let (trust, reach) = (undiscovered.settings.trust.clone(), reach(undiscovered, &endpoint));
        let document = self.document(DocumentRequest::post(endpoint, trust, reach, body)).await;
        let document = document.map_err(DiscoveryError::Document)?;
        let refused = |code: String| DiscoveryError::RegistrationRefused {
            issuer: metadata.issuer.clone(),
            code,
            redirect_uri: redirect_uri.to_owned(),
            provider: undiscovered.id.clone(),
        };
        let members = document.json().unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if !document.is_success() {
            let word = |c: &char| c.is_ascii_alphanumeric() || "_-.".contains(*c);
            let code: String = text("error").unwrap_or_default().chars().filter(word).take(64).collect();
            return Err(refused(if code.is_empty() { format!("status {}", document.status) } else { code }));
        }
        let is_printable = |id: &&str| id.len() <= MAX_TEXT && id.bytes().all(|b| matches!(b, 0x20..=0x7e));
        let client_id = text("client_id").filter(is_printable);
        let client_id = client_id.ok_or_else(|| refused("an answer without client_id".to_owned()))?;
        let auth_method = text("token_endpoint_auth_method").unwrap_or(method);
        let secret = text("client_secret").filter(|_| auth_method != "none");
        // The store keeps them, and other users' sessions need its room.
        if metadata.issuer.len().max(auth_method.len()) > MAX_TEXT
            || secret.is_some_and(|secret| secret.len() > MAX_SECRET)
        {
            return Err(refused("an answer with too long a value".to_owned()));
        }
        if let Some(secret) = secret {
            Scrubber::of_process().note(secret);
        }
        let expires_at = members.get("client_secret_expires_at").and_then(Value::as_i64);
        Ok(RegisteredClient {
            client_id: client_id.to_owned(),
            client_secret: secret.map(ClientSecret::new),
            secret_expires_at: expires_at.filter(|at| *at > 0 && secret.is_some()),
            auth_method: Some(auth_method.to_owned()),
            registered_at: None,
            unused_since: None,
        })
    }
}

/// Returns the addresses that requests about this server may reach.
fn reach(undiscovered: &Undiscovered, server: &Url) -> Reach {
    let given = undiscovered.settings.reach.clone();
    given.unwrap_or_else(|| Reach::default().listing_host_of(server))
}

/// Returns the endpoints of a server of 2025-03-26 without metadata. That version demands PKCE.
fn default_endpoints(issuer: &str) -> ServerMetadata {
    let endpoints = [
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("registration_endpoint", "/register"),
    ];
    let endpoints = endpoints.map(|(member, path)| (member.to_owned(), format!("{issuer}{path}")));
    ServerMetadata {
        issuer: issuer.to_owned(),
        endpoints: BTreeMap::from(endpoints),
        code_challenge_methods_supported: Some(vec!["S256".to_owned()]),
        ..ServerMetadata::default()
    }
}
