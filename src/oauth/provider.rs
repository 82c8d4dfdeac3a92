//! A provider: one OAuth client at one authorization server, checked once, when it is built.
//!
//! Invariants: every endpoint is https, or http on loopback (RFC 6749 §3.1.2.1 and §3.2, RFC 8252 §8.3), without user info and
//! without a fragment (RFC 6749 §3.1); what the configuration adds to the authorization request cannot replace a
//! parameter of the protocol. What the provider says to whom is in `request`.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use oauth2::RedirectUrl;
use url::{Host, Url};

use crate::{
    ids::ProviderId,
    secret::Secret,
    session::{Binding, Pending},
};

/// What the configuration says of a provider, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct ProviderSettings {
    /// RFC 8414 `issuer`; compared with the callback's `iss` where both are there.
    pub issuer: Option<String>,
    /// Where people sign in.
    pub authorization_endpoint: String,
    /// Where codes and refresh tokens are exchanged.
    pub token_endpoint: String,
    /// RFC 7009.
    pub revocation_endpoint: Option<String>,
    /// OpenID Connect Core §5.3.
    pub userinfo_endpoint: Option<String>,
    /// The client.
    pub client_id: String,
    /// For confidential clients.
    pub client_secret: Option<Secret>,
    /// Where the provider sends the browser.
    pub redirect_uri: String,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// More parameters for the authorization request.
    pub authorize_params: BTreeMap<String, String>,
    /// RFC 8707.
    pub resource: Option<String>,
    /// How long after its first use the provider takes a refresh token again.
    pub reuse_grace: Duration,
    /// A refresh ends the life of the old access token.
    pub refresh_revokes_access: bool,
    /// The provider refuses an exchange without the right PKCE verifier, so that a code without its `state` may be taken.
    pub enforces_pkce: bool,
}

/// Why a provider is refused, by its name in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A URL that is not one, or not https.
    #[error("providers.{provider}.{key}: {what}")]
    Setting {
        /// Which provider.
        provider: ProviderId,
        /// Which key.
        key: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// No TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// A provider that can be used: every URL is parsed, and https or on loopback.
#[derive(Clone)]
pub struct Provider {
    pub(super) id: ProviderId,
    pub(super) issuer: Option<String>,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) userinfo_endpoint: Option<Url>,
    pub(super) client_id: String,
    pub(super) client_secret: Option<Secret>,
    pub(super) redirect_uri: RedirectUrl,
    pub(super) scopes: Vec<String>,
    pub(super) authorize_params: BTreeMap<String, String>,
    pub(super) resource: Option<String>,
    reuse_grace: Duration,
    refresh_revokes_access: bool,
    pub(super) enforces_pkce: bool,
}

/// The refresh token belongs to another endpoint or client than the configuration now names; nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it was issued by {was}, and the configuration now says {now}: sign in again")]
pub struct BindingChanged {
    /// Token endpoint and client id that it came from.
    pub was: String,
    /// Those of the configuration.
    pub now: String,
}

impl Provider {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`ProviderError::Setting`] for the first key that is wrong, with what would be right.
    pub fn new(id: ProviderId, settings: ProviderSettings) -> Result<Self, ProviderError> {
        let name = id.clone();
        Self::checked(id, settings).map_err(|Wrong { key, what }| ProviderError::Setting {
            provider: name,
            key,
            what,
        })
    }

    fn checked(id: ProviderId, settings: ProviderSettings) -> Result<Self, Wrong> {
        let optional = |key, text: Option<String>| text.map(|text| endpoint(key, &text)).transpose();
        let authorization_endpoint = endpoint("authorization_endpoint", &settings.authorization_endpoint)?;
        if let Some((name, _)) = authorization_endpoint.query_pairs().find(|(name, _)| is_reserved(name)) {
            let what = format!("its query sets {name}, which threadkey sets itself: leave that out");
            return Err(Wrong { key: "authorization_endpoint", what });
        }
        if settings.client_secret.as_ref().is_some_and(Secret::is_empty) {
            let what = "it is empty: give the secret, or leave the key out for a public client".to_owned();
            return Err(Wrong { key: "client_secret", what });
        }
        check_authorize_params(&settings.authorize_params)?;
        Ok(Self {
            id,
            issuer: settings.issuer.map(issuer).transpose()?,
            authorization_endpoint,
            token_endpoint: endpoint("token_endpoint", &settings.token_endpoint)?,
            revocation_endpoint: optional("revocation_endpoint", settings.revocation_endpoint)?,
            userinfo_endpoint: optional("userinfo_endpoint", settings.userinfo_endpoint)?,
            client_id: client_id(settings.client_id)?,
            client_secret: settings.client_secret,
            redirect_uri: redirect_uri(settings.redirect_uri)?,
            scopes: scopes(settings.scopes)?,
            authorize_params: settings.authorize_params,
            resource: settings.resource.map(resource).transpose()?,
            reuse_grace: settings.reuse_grace,
            refresh_revokes_access: settings.refresh_revokes_access,
            enforces_pkce: settings.enforces_pkce,
        })
    }

    /// Its name.
    pub fn id(&self) -> &ProviderId {
        &self.id
    }

    /// Its issuer (RFC 8414 §2), as configured; the callback's `iss` (RFC 9207) has to be the same text.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// See [`ProviderSettings::reuse_grace`].
    pub fn reuse_grace(&self) -> Duration {
        self.reuse_grace
    }

    /// See [`ProviderSettings::refresh_revokes_access`].
    pub fn refresh_revokes_access(&self) -> bool {
        self.refresh_revokes_access
    }

    /// See [`ProviderSettings::enforces_pkce`].
    pub fn enforces_pkce(&self) -> bool {
        self.enforces_pkce
    }

    /// Whether a sign-in that was started earlier can still be finished here: same endpoints, client and redirect URI.
    pub fn takes(&self, pending: &Pending) -> bool {
        pending.binding == self.binding() && pending.redirect_uri == self.redirect_uri.as_str()
    }

    /// Where its refresh tokens may go.
    pub fn binding(&self) -> Binding {
        Binding {
            issuer: self.issuer.clone(),
            token_endpoint: self.token_endpoint.to_string(),
            client_id: self.client_id.clone(),
            resource: self.resource.clone(),
        }
    }

    /// The token endpoint, for messages.
    pub fn token_endpoint(&self) -> &Url {
        &self.token_endpoint
    }

    /// Where the browser comes back to, exactly as configured: providers compare it as text (RFC 6749 §3.1.2.3).
    pub fn redirect_uri(&self) -> &str {
        self.redirect_uri.as_str()
    }

    /// Whether it can revoke (RFC 7009).
    pub fn can_revoke(&self) -> bool {
        self.revocation_endpoint.is_some()
    }

    /// Whether it can tell whose login an access token is (OpenID Connect Core §5.3).
    pub fn has_userinfo(&self) -> bool {
        self.userinfo_endpoint.is_some()
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("id", &self.id)
            .field("token_endpoint", &self.token_endpoint.as_str())
            .field("client_id", &self.client_id)
            .field("confidential", &self.client_secret.is_some())
            .finish_non_exhaustive()
    }
}

/// A setting that is refused.
struct Wrong {
    key: &'static str,
    what: String,
}

/// Parameters of the authorization request that only threadkey sets: RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2, OpenID
/// Connect Core §3.1.2.1; and the two of RFC 9101, which would replace all others.
const RESERVED: [&str; 11] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "code_challenge",
    "code_challenge_method",
    "scope",
    "nonce",
    "resource",
    "request",
    "request_uri",
];

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

fn check_authorize_params(params: &BTreeMap<String, String>) -> Result<(), Wrong> {
    let wrong = |what| Err(Wrong { key: "authorize_params", what });
    for name in params.keys() {
        if name.is_empty() {
            return wrong("a parameter has no name: give it one, or leave it out".to_owned());
        }
        if is_reserved(name) {
            return wrong(format!("{name} is set by threadkey itself: leave it out"));
        }
    }
    Ok(())
}

/// A URL of the provider that requests, with secrets in them, go to.
fn endpoint(key: &'static str, text: &str) -> Result<Url, Wrong> {
    let wrong = |what: &str| Wrong { key, what: what.to_owned() };
    let url = web_url(key, text)?;
    // What an HTTP request takes as its target is a little narrower than a URL; and shorter.
    url.as_str()
        .parse::<http::Uri>()
        .map_err(|_| wrong("it cannot be the target of a request: shorten it"))?;
    Ok(url)
}

/// https, or http on loopback; no user info, no fragment.
fn web_url(key: &'static str, text: &str) -> Result<Url, Wrong> {
    let wrong = |what: &str| Err(Wrong { key, what: what.to_owned() });
    if text.is_empty() {
        return wrong("it is missing: give the URL from the provider's documentation");
    }
    // A URL parser drops these without a word, and others compare such a text to the letter.
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong("it has white space in it: leave that out");
    }
    let Ok(url) = Url::parse(text) else {
        return wrong("it is not a URL: write it in full, as in https://id.example.com/path");
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => {
            return wrong(
                "http would show secrets to the network: write https (http is for 127.0.0.1, [::1] and localhost alone)",
            );
        }
        _ => return wrong("it has to begin with https:// (or http:// on 127.0.0.1, [::1] or localhost)"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("it carries a user name or password before the @: leave them out");
    }
    if url.fragment().is_some() {
        return wrong("it carries a fragment: leave out the # and what follows it");
    }
    Ok(url)
}

/// Whether the host is this machine, by its name alone: 127.0.0.0/8, `::1` or `localhost`.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn issuer(text: String) -> Result<String, Wrong> {
    let url = web_url("issuer", &text)?;
    if url.query().is_some() {
        let what =
            "it carries a query, and an issuer has none (RFC 8414 §2): leave out the ? and what follows it";
        return Err(Wrong { key: "issuer", what: what.to_owned() });
    }
    Ok(text)
}

fn redirect_uri(text: String) -> Result<RedirectUrl, Wrong> {
    web_url("redirect_uri", &text)?;
    RedirectUrl::new(text).map_err(|_| Wrong { key: "redirect_uri", what: "it is not a URL".to_owned() })
}

fn client_id(text: String) -> Result<String, Wrong> {
    let wrong = |what: &str| Err(Wrong { key: "client_id", what: what.to_owned() });
    if text.is_empty() {
        return wrong("it is missing: give the id under which threadkey is registered at the provider");
    }
    // RFC 6749 appendix A.1.
    if !text.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
        return wrong("it may hold printable ASCII alone (RFC 6749 appendix A.1)");
    }
    Ok(text)
}

fn scopes(scopes: Vec<String>) -> Result<Vec<String>, Wrong> {
    // RFC 6749 §3.3: scope-token.
    let allowed = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    match scopes.iter().find(|scope| scope.is_empty() || !scope.bytes().all(allowed)) {
        None => Ok(scopes),
        Some(bad) => {
            let what = format!(
                "{:?} is not one scope: each entry is printable ASCII without spaces, quotes and backslashes (RFC 6749 §3.3)",
                bad.chars().take(80).collect::<String>()
            );
            Err(Wrong { key: "scopes", what })
        }
    }
}

fn resource(text: String) -> Result<String, Wrong> {
    // RFC 8707 §2: an absolute URI without a fragment.
    match Url::parse(&text) {
        Ok(url) if url.fragment().is_none() => Ok(text),
        _ => {
            let what = "it has to be an absolute URI without a fragment (RFC 8707 §2)".to_owned();
            Err(Wrong { key: "resource", what })
        }
    }
}

/// All configured providers.
#[derive(Clone, Debug, Default)]
pub struct Providers(Arc<BTreeMap<ProviderId, Arc<Provider>>>);

impl Providers {
    /// Gathers them.
    pub fn new(providers: impl IntoIterator<Item = Provider>) -> Self {
        let keyed = providers.into_iter().map(|p| (p.id().clone(), Arc::new(p))).collect();
        Self(Arc::new(keyed))
    }

    /// One of them.
    pub fn get(&self, id: &ProviderId) -> Option<&Arc<Provider>> {
        self.0.get(id)
    }

    /// Their names, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ProviderId> {
        self.0.keys()
    }
}

#[cfg(test)]
pub(super) mod tests;
