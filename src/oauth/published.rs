//! The rules for published metadata: where it is, which members count, and how it completes the
//! settings of a provider.
//!
//! Everything here is pure. Invariants:
//! - The `issuer` in the document is the same text as the configured one (RFC 8414 §3.3). So no
//!   server can publish endpoints for another one.
//! - A value of the configuration overrides a published one.
//! - A published endpoint meets the rules of a configured one. It is http only if the issuer is.
//! - The server supports PKCE with S256, unless the operator switched PKCE off for a client with a
//!   secret.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};
use url::Url;

use crate::session::GrantKind;

use super::{
    Discovered, DiscoveryError, Provider, ProviderError, Publisher, ServerMetadata, Undiscovered,
    scope_choice::choose_scopes,
    settings::{ProviderSettings, Wrong, endpoint},
};

/// The members that are addresses.
const ENDPOINTS: [&str; 9] = [
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "jwks_uri",
    "registration_endpoint",
    "device_authorization_endpoint",
    "backchannel_authentication_endpoint",
    "introspection_endpoint",
];

/// The scopes of a sign-in whose configuration names none, if the server supports them: the account
/// and a refresh token (OpenID Connect Core §3.1.2.1 and §11).
const DEFAULT_SCOPES: [&str; 2] = ["openid", "offline_access"];

/// The longest text of a member in a message, in characters.
const SHOWN: usize = 200;

/// Returns the addresses of an issuer's metadata in the order in which they are tried: RFC 8414 §3
/// inserts the well-known part before the path, and OpenID Connect Discovery §4 appends it.
pub fn metadata_urls(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/').to_owned();
    let with_path = |path: String| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url
    };
    [
        with_path(format!("/.well-known/oauth-authorization-server{path}")),
        with_path(format!("{path}/.well-known/openid-configuration")),
    ]
}

// === impl ServerMetadata ===

impl ServerMetadata {
    /// Reads a document. `expected` is the issuer whose document it must be.
    ///
    /// # Errors
    /// [`DiscoveryError::Issuer`] and [`DiscoveryError::Member`].
    pub fn read(document: &Map<String, Value>, at: &Url, expected: &str) -> Result<Self, DiscoveryError> {
        let published = document.get("issuer").and_then(Value::as_str).unwrap_or_default();
        if published != expected {
            return Err(DiscoveryError::Issuer {
                document: format!("{}{}", at.origin().ascii_serialization(), at.path()),
                published: shown(published),
                expected: expected.to_owned(),
            });
        }
        let wrong = |member: &str, problem: &str| DiscoveryError::Member {
            publisher: expected.to_owned(),
            member: member.to_owned(),
            problem: problem.to_owned(),
        };
        let mut endpoints = BTreeMap::new();
        for member in ENDPOINTS {
            match document.get(member) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => drop(endpoints.insert(member.to_owned(), text.clone())),
                Some(_) => return Err(wrong(member, "it is no text")),
            }
        }
        let texts = |member: &str| match document.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(values)) => {
                let texts = values.iter().map(|value| value.as_str().map(str::to_owned));
                texts
                    .collect::<Option<Vec<_>>>()
                    .map(Some)
                    .ok_or_else(|| wrong(member, "it is no list of texts"))
            }
            Some(_) => Err(wrong(member, "it is no list of texts")),
        };
        let is_true = |member: &str| document.get(member) == Some(&Value::Bool(true));
        Ok(Self {
            issuer: published.to_owned(),
            endpoints,
            authorization_response_iss_parameter_supported: is_true(
                "authorization_response_iss_parameter_supported",
            ),
            token_endpoint_auth_methods_supported: texts("token_endpoint_auth_methods_supported")?,
            code_challenge_methods_supported: texts("code_challenge_methods_supported")?,
            scopes_supported: texts("scopes_supported")?,
            grant_types_supported: texts("grant_types_supported")?,
            client_id_metadata_document_supported: is_true("client_id_metadata_document_supported"),
        })
    }
}

// === impl Publisher ===

impl Publisher {
    /// Returns the issuer or the URL that the configuration names.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Issuer(issuer) => issuer,
            Self::Mcp(url) => url.as_str(),
        }
    }
}

// === impl Undiscovered ===

impl Undiscovered {
    /// Completes the settings by published metadata, and builds the provider.
    ///
    /// # Errors
    /// See [`DiscoveryError`].
    pub fn provider(&self, discovered: Discovered) -> Result<Provider, DiscoveryError> {
        let metadata = &discovered.metadata;
        let mut settings = self.settings.clone();
        self.check_endpoints(metadata)?;
        let has_code = settings.grants.is_empty() || settings.grants.contains(&GrantKind::Code);
        // No other grant has a code that a thief could use.
        if has_code {
            self.check_pkce(metadata)?;
        }
        settings.client_auth = self.client_auth(metadata)?;
        let required = |member: &'static str, written: String| {
            let published = metadata.endpoint(member).map(str::to_owned);
            let chosen = Some(written).filter(|written| !written.is_empty()).or(published);
            chosen.ok_or_else(|| DiscoveryError::Missing { publisher: metadata.issuer.clone(), member })
        };
        if has_code {
            settings.authorization_endpoint =
                required("authorization_endpoint", settings.authorization_endpoint)?;
        }
        settings.token_endpoint = required("token_endpoint", settings.token_endpoint)?;
        let optional = |written: Option<String>, member: &str| {
            written.or_else(|| metadata.endpoint(member).map(str::to_owned))
        };
        settings.revocation_endpoint = optional(settings.revocation_endpoint, "revocation_endpoint");
        settings.userinfo_endpoint = optional(settings.userinfo_endpoint, "userinfo_endpoint");
        settings.jwks_uri = optional(settings.jwks_uri, "jwks_uri");
        settings.device_authorization_endpoint =
            optional(settings.device_authorization_endpoint, "device_authorization_endpoint");
        settings.backchannel_authentication_endpoint =
            optional(settings.backchannel_authentication_endpoint, "backchannel_authentication_endpoint");
        if let Some(resource) = &discovered.resource {
            settings.resource.get_or_insert_with(|| resource.clone());
            if settings.scopes.is_empty() {
                let server = metadata.scopes_supported.as_deref().unwrap_or_default();
                settings.scopes = choose_scopes(&discovered.resource_scopes, None, server, &[]);
            }
        } else if settings.scopes.is_empty() {
            let supported = DEFAULT_SCOPES.into_iter().filter(|scope| metadata.supports_scope(scope));
            settings.scopes = supported.map(str::to_owned).collect();
        }
        settings.issuer = Some(metadata.issuer.clone());
        settings.discovered = Some(Arc::new(discovered));
        Provider::new(self.id.clone(), settings).map_err(|error| DiscoveryError::Setting(error.to_string()))
    }

    /// Checks the settings that do not depend on the metadata.
    ///
    /// # Errors
    /// [`ProviderError::Setting`] for the first wrong key.
    pub fn check(&self) -> Result<(), ProviderError> {
        let mut settings: ProviderSettings = self.settings.clone();
        for written in [&mut settings.authorization_endpoint, &mut settings.token_endpoint] {
            if written.is_empty() {
                self.publisher.as_str().clone_into(written);
            }
        }
        for optional in
            [&mut settings.device_authorization_endpoint, &mut settings.backchannel_authentication_endpoint]
        {
            optional.get_or_insert_with(|| self.publisher.as_str().to_owned());
        }
        // It is compared with the token endpoint, which may not be known yet.
        if self.settings.token_endpoint.is_empty() {
            settings.request_form.refresh_endpoint = None;
        }
        Provider::new(self.id.clone(), settings).map(drop)
    }

    /// Checks the published addresses that the configuration does not override.
    fn check_endpoints(&self, metadata: &ServerMetadata) -> Result<(), DiscoveryError> {
        let is_written = |member: &str| match member {
            "authorization_endpoint" => !self.settings.authorization_endpoint.is_empty(),
            "token_endpoint" => !self.settings.token_endpoint.is_empty(),
            "revocation_endpoint" => self.settings.revocation_endpoint.is_some(),
            "userinfo_endpoint" => self.settings.userinfo_endpoint.is_some(),
            "device_authorization_endpoint" => self.settings.device_authorization_endpoint.is_some(),
            "backchannel_authentication_endpoint" => {
                self.settings.backchannel_authentication_endpoint.is_some()
            }
            "jwks_uri" => self.settings.jwks_uri.is_some(),
            _ => false,
        };
        let is_https = metadata.issuer.starts_with("https:");
        for (member, text) in &metadata.endpoints {
            if is_written(member) {
                continue;
            }
            let wrong = |problem: String| DiscoveryError::Member {
                publisher: metadata.issuer.clone(),
                member: member.clone(),
                problem: format!("{:?}: {problem}", shown(text)),
            };
            let url = endpoint("endpoint", text).map_err(|Wrong { what, .. }| wrong(what))?;
            if is_https && url.scheme() != "https" {
                return Err(wrong("it is http, and the issuer is https".to_owned()));
            }
        }
        Ok(())
    }

    fn check_pkce(&self, metadata: &ServerMetadata) -> Result<(), DiscoveryError> {
        let supports = metadata.code_challenge_methods_supported.iter().flatten();
        if self.settings.request_form.pkce && !supports.into_iter().any(|method| method == "S256") {
            return Err(DiscoveryError::NoS256 { publisher: metadata.issuer.clone() });
        }
        Ok(())
    }

    /// Chooses the way of authenticating the client. A client without a secret and a key is public,
    /// whatever the server publishes: many servers leave out `none`.
    fn client_auth(&self, metadata: &ServerMetadata) -> Result<Option<String>, DiscoveryError> {
        let settings = &self.settings;
        if settings.client_auth.is_some() {
            return Ok(settings.client_auth.clone());
        }
        let basic = vec!["client_secret_basic".to_owned()];
        let methods = metadata.token_endpoint_auth_methods_supported.as_ref().unwrap_or(&basic);
        let accepts = |method: &str| methods.iter().any(|accepted| accepted == method);
        let refused = |has| {
            Err(DiscoveryError::ClientAuth {
                publisher: metadata.issuer.clone(),
                methods: methods.iter().take(10).map(|method| shown(method)).collect(),
                has,
            })
        };
        if settings.client_key.is_some() {
            return if accepts("private_key_jwt") {
                Ok(Some("private_key_jwt".to_owned()))
            } else {
                refused("a private key")
            };
        }
        if settings.client_secret.is_none() {
            return Ok(None);
        }
        match (accepts("client_secret_basic"), accepts("client_secret_post")) {
            (true, _) => Ok(Some("basic".to_owned())),
            (false, true) => Ok(Some("post".to_owned())),
            (false, false) => refused("a secret"),
        }
    }
}

/// Returns the beginning of a foreign text for a message.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
