//! What the configuration says of a provider, and whether that can be used: each setting by itself.

use std::{collections::BTreeMap, time::Duration};

use oauth2::RedirectUrl;
use url::{Host, Url};

use crate::{ids::ProviderId, secret::Secret};

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

/// A setting that is refused.
pub(super) struct Wrong {
    pub(super) key: &'static str,
    pub(super) what: String,
}

/// Parameters of the authorization request that only threadkey sets: RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2, OpenID
/// Connect Core §3.1.2.1; and the two of RFC 9101, which would replace all others.
pub(super) const RESERVED: [&str; 11] = [
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

pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

pub(super) fn check_authorize_params(params: &BTreeMap<String, String>) -> Result<(), Wrong> {
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
pub(super) fn endpoint(key: &'static str, text: &str) -> Result<Url, Wrong> {
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

pub(super) fn issuer(text: String) -> Result<String, Wrong> {
    let url = web_url("issuer", &text)?;
    if url.query().is_some() {
        let what =
            "it carries a query, and an issuer has none (RFC 8414 §2): leave out the ? and what follows it";
        return Err(Wrong { key: "issuer", what: what.to_owned() });
    }
    Ok(text)
}

pub(super) fn redirect_uri(text: String) -> Result<RedirectUrl, Wrong> {
    web_url("redirect_uri", &text)?;
    RedirectUrl::new(text).map_err(|_| Wrong { key: "redirect_uri", what: "it is not a URL".to_owned() })
}

pub(super) fn client_id(text: String) -> Result<String, Wrong> {
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

pub(super) fn scopes(scopes: Vec<String>) -> Result<Vec<String>, Wrong> {
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

pub(super) fn resource(text: String) -> Result<String, Wrong> {
    // RFC 8707 §2: an absolute URI without a fragment.
    match Url::parse(&text) {
        Ok(url) if url.fragment().is_none() => Ok(text),
        _ => {
            let what = "it has to be an absolute URI without a fragment (RFC 8707 §2)".to_owned();
            Err(Wrong { key: "resource", what })
        }
    }
}
