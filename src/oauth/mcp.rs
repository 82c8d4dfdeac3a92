//! The rules of the MCP authorization specification (2026-07-28) that need no network: which
//! documents to ask for, which resource they may describe, which client and which scopes to use.
//!
//! An MCP server is a protected resource (RFC 9728). Its metadata name the authorization server, whose
//! own metadata (RFC 8414, OpenID Connect Discovery) name the endpoints. Credentials belong to one
//! issuer and are never sent to another one.

use serde_json::{Map, Value, json};
use url::Url;

use super::{challenge::scope_list, discovery_error::ResourceError};

/// The name under which threadkey registers, which users read on the consent page.
const CLIENT_NAME: &str = "threadkey";

/// The most authorization servers of a resource that count.
const MAX_SERVERS: usize = 8;

/// The scope that asks for a refresh token (OpenID Connect Core §11).
pub const OFFLINE_ACCESS: &str = "offline_access";

/// The metadata of a protected resource (RFC 9728 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// The resource, exactly as the document writes it. Requests repeat it (RFC 8707).
    pub resource: String,
    /// The issuers of the authorization servers, at least one, in the order of the document.
    pub authorization_servers: Vec<String>,
    /// The scopes of the resource; `None` if the document names none.
    pub scopes: Option<Vec<String>>,
}

/// A client of threadkey at one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientChoice {
    /// The client of the configuration.
    Configured,
    /// The address of the client's own metadata document.
    Document(String),
    /// A client that must be registered at this endpoint (RFC 7591).
    Register(Url),
    /// There is none: the operator must register one.
    Ask,
}

// === impl ProtectedResource ===

impl ProtectedResource {
    /// Reads the metadata of the MCP server `server`.
    ///
    /// # Errors
    /// See [`ResourceError`].
    pub fn read(document: &Map<String, Value>, server: &Url) -> Result<Self, ResourceError> {
        let resource = document.get("resource").and_then(Value::as_str);
        let resource = resource.ok_or(ResourceError::Missing("resource"))?;
        if !is_resource_of(resource, server) {
            let shown = resource.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(ResourceError::OtherResource(shown));
        }
        let servers = document.get("authorization_servers").and_then(Value::as_array);
        let servers: Vec<String> = servers
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .take(MAX_SERVERS)
            .map(str::to_owned)
            .collect();
        if servers.is_empty() {
            return Err(ResourceError::Missing("authorization_servers"));
        }
        let scopes = document.get("scopes_supported").and_then(Value::as_array);
        let scopes = scopes.map(|scopes| {
            let words: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
            scope_list(&words.join(" "))
        });
        Ok(Self { resource: resource.to_owned(), authorization_servers: servers, scopes })
    }
}

/// Returns the well-known addresses of a resource's metadata, in the order in which they are tried:
/// at the path of the server, then at the root (RFC 9728 §3.1).
pub fn resource_metadata_urls(server: &Url) -> Vec<Url> {
    const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
    let mut root = server.clone();
    root.set_fragment(None);
    let mut at_path = root.clone();
    root.set_query(None);
    root.set_path(WELL_KNOWN);
    let path = server.path().trim_end_matches('/');
    if path.is_empty() && server.query().is_none() {
        return vec![root];
    }
    at_path.set_path(&format!("{WELL_KNOWN}{path}"));
    vec![at_path, root]
}

/// Returns the addresses of an issuer's metadata in the order of the MCP specification: RFC 8414, then
/// OpenID with the path inserted, then OpenID with the path first.
pub fn issuer_metadata_urls(issuer: &Url) -> Vec<Url> {
    let mut urls = super::metadata_urls(issuer).to_vec();
    let path = issuer.path().trim_end_matches('/');
    if !path.is_empty() {
        let mut inserted = issuer.clone();
        inserted.set_path(&format!("/.well-known/openid-configuration{path}"));
        urls.insert(1, inserted);
    }
    urls
}

/// Whether a resource is this server, or a parent of it on the same origin. A document at the root
/// describes the whole origin, and a token for it is good for the server too.
pub fn is_resource_of(resource: &str, server: &Url) -> bool {
    let Ok(resource) = Url::parse(resource) else { return false };
    if resource.fragment().is_some() || resource.origin() != server.origin() {
        return false;
    }
    if !resource.username().is_empty() || resource.password().is_some() {
        return false;
    }
    let parent = resource.path().trim_end_matches('/');
    let is_within =
        server.path().strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    is_within && (resource.query().is_none() || resource.query() == server.query())
}

/// Returns the canonical URI of an MCP server, for a server without metadata: without a fragment, and
/// without the slash of an empty path.
pub fn canonical_uri(server: &Url) -> String {
    let mut url = server.clone();
    url.set_fragment(None);
    let text = String::from(url);
    match text.strip_suffix('/') {
        Some(origin) if server.path() == "/" && server.query().is_none() => origin.to_owned(),
        _ => text,
    }
}

/// Returns the issuer of a server without metadata (the specification of 2025-03-26): its own origin.
pub fn own_issuer(server: &Url) -> String {
    server.origin().ascii_serialization()
}

/// Chooses the client, in the order of the specification.
pub fn choose_client(
    is_configured: bool,
    document: Option<&str>,
    supports_documents: bool,
    registration_endpoint: Option<Url>,
) -> ClientChoice {
    match (is_configured, document, registration_endpoint) {
        (true, ..) => ClientChoice::Configured,
        (_, Some(document), _) if supports_documents => ClientChoice::Document(document.to_owned()),
        (_, _, Some(endpoint)) => ClientChoice::Register(endpoint),
        (_, _, None) => ClientChoice::Ask,
    }
}

/// Chooses the scopes of a sign-in: those of the challenge, else all that the resource supports, and
/// `offline_access` where the authorization server supports it. `more` are those that the user has,
/// or that the resource demanded since.
pub fn choose_scopes(
    challenged: &[String],
    resource: Option<&[String]>,
    server: &[String],
    more: &[String],
) -> Vec<String> {
    let initial = if challenged.is_empty() { resource.unwrap_or_default() } else { challenged };
    let mut scopes = union(more, initial);
    let offline = OFFLINE_ACCESS.to_owned();
    if server.contains(&offline) && !scopes.contains(&offline) {
        scopes.push(offline);
    }
    scopes
}

/// Returns all scopes of both lists, each once.
pub fn union(first: &[String], second: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for scope in first.iter().chain(second) {
        if !all.contains(scope) {
            all.push(scope.clone());
        }
    }
    all
}

/// Chooses how the client authenticates: as a public client where the server allows it, because a
/// secret that comes over the network adds nothing to PKCE here. RFC 8414 §2: a server that names no
/// method takes `client_secret_basic`.
pub fn choose_auth_method(supported: Option<&[String]>) -> &'static str {
    const ORDER: [&str; 3] = ["none", "client_secret_basic", "client_secret_post"];
    let supported = supported.unwrap_or_default();
    ORDER
        .into_iter()
        .find(|method| supported.iter().any(|one| one == method))
        .unwrap_or("client_secret_basic")
}

/// Returns the metadata of the client for a registration (RFC 7591 §2). A loopback redirect URI makes
/// it a native application (OpenID Connect Dynamic Client Registration §2).
pub fn registration(redirect_uri: &str, auth_method: &str, scopes: &[String]) -> Vec<u8> {
    let is_native = Url::parse(redirect_uri).map_or(true, |url| crate::net::is_loopback(&url));
    let mut metadata = json!({
        "client_name": CLIENT_NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": auth_method,
        "application_type": if is_native { "native" } else { "web" },
    });
    if !scopes.is_empty() {
        metadata["scope"] = json!(scopes.join(" "));
    }
    metadata.to_string().into_bytes()
}

/// Returns the client id metadata document of a client with these redirect URIs. It is served at
/// `client_id`, its own address.
pub fn client_document(client_id: &str, client_uri: &str, redirect_uris: &[&str]) -> Value {
    json!({
        "client_id": client_id,
        "client_name": CLIENT_NAME,
        "client_uri": client_uri,
        "redirect_uris": redirect_uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "web",
    })
}

#[cfg(test)]
mod tests;
