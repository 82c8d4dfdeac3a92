//! The servers that a token may be sent to.

use url::Url;

/// Whether a token may be sent there (RFC 6750 §5.3).
pub(crate) fn is_safe(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

/// The URL for an error: without user, password and query.
pub(crate) fn without_secrets(url: &str) -> String {
    let Ok(mut url) = Url::parse(url) else { return "this text".into() };
    url.set_query(None);
    url.set_fragment(None);
    // A URL without an authority has neither.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.into()
}
