//! The published metadata of an authorization server (RFC 8414, OpenID Connect Discovery 1.0), as
//! threadkey keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sys::clock::UnixTime;

/// The members of a server's metadata that threadkey uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerMetadata {
    /// The issuer.
    pub issuer: String,
    /// The endpoints, by the names of their members, such as `token_endpoint` and `jwks_uri`.
    pub endpoints: BTreeMap<String, String>,
    /// Whether each authorization response has an `iss` (RFC 9207 §3).
    pub authorization_response_iss_parameter_supported: bool,
    /// The ways of authenticating a client. `None` means `client_secret_basic` (RFC 8414 §2).
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// The methods of PKCE. `None` means that the server has none (RFC 8414 §2).
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// The scopes, if the server names them.
    pub scopes_supported: Option<Vec<String>>,
    /// The grant types, if the server names them.
    pub grant_types_supported: Option<Vec<String>>,
    /// Whether a client id may be the URL of a metadata document.
    pub client_id_metadata_document_supported: bool,
}

/// Published metadata, and the time of its fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovered {
    /// The issuer or the URL that the configuration names.
    pub publisher: String,
    /// The time of the fetch.
    pub fetched_at: UnixTime,
    /// The metadata.
    pub metadata: ServerMetadata,
    /// The token endpoints that the same issuer published earlier. A session that is bound to one of
    /// them still uses it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_token_endpoints: Vec<String>,
    /// The resource that tokens are requested for (RFC 8707), if the publisher is an MCP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The scopes that the MCP server demands or supports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_scopes: Vec<String>,
}

// === impl ServerMetadata ===

impl ServerMetadata {
    /// Returns the address that a member holds.
    pub fn endpoint(&self, member: &str) -> Option<&str> {
        self.endpoints.get(member).map(String::as_str)
    }

    /// Whether the server publishes that it supports a scope.
    pub fn supports_scope(&self, scope: &str) -> bool {
        self.scopes_supported.iter().flatten().any(|supported| supported == scope)
    }
}

// === impl Discovered ===

/// The highest number of earlier token endpoints that are remembered.
const MAX_EARLIER: usize = 8;

impl Discovered {
    /// Remembers the token endpoint that the same issuer published before, the newest first.
    pub(super) fn remember(&mut self, before: &Self) {
        if before.metadata.issuer != self.metadata.issuer {
            return;
        }
        let now = self.metadata.endpoint("token_endpoint").map(str::to_owned);
        let was = before.metadata.endpoint("token_endpoint").map(str::to_owned);
        let known = was.into_iter().chain(before.earlier_token_endpoints.iter().cloned());
        let mut earlier: Vec<String> = Vec::new();
        for endpoint in known.filter(|endpoint| Some(endpoint) != now.as_ref()) {
            if !earlier.contains(&endpoint) && earlier.len() < MAX_EARLIER {
                earlier.push(endpoint);
            }
        }
        self.earlier_token_endpoints = earlier;
    }
}
