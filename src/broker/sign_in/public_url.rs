//! The public address of the sign-in pages.

use url::{Host, Url};

use crate::ids::ProviderId;

/// The address under which browsers reach our sign-in pages: an origin without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(Url);

/// The reason why a text is not a public address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlError {
    /// It is not a URL.
    #[error("expected a URL such as https://threadkey.example.org")]
    NotAUrl,
    /// Browsers keep our cookie over https alone, or on loopback.
    #[error("expected https, because the cookie of a sign-in needs it; http works on loopback alone")]
    NotHttps,
    /// It has more than scheme, host and port.
    #[error(
        "expected scheme, host and port alone, such as https://threadkey.example.org: no path, query, user or fragment"
    )]
    MoreThanOrigin,
}

impl PublicUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// See [`PublicUrlError`].
    pub fn parse(text: &str) -> Result<Self, PublicUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| PublicUrlError::NotAUrl)?;
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(PublicUrlError::NotAUrl),
        };
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            _ => return Err(PublicUrlError::NotHttps),
        }
        let is_origin = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if is_origin { Ok(Self(url)) } else { Err(PublicUrlError::MoreThanOrigin) }
    }

    /// The redirect URI of the way back through the browser. Clients register it at the provider.
    pub fn callback(&self) -> Url {
        self.at("oauth/callback")
    }

    /// The redirect URI of that way at a provider whose client threadkey makes.
    pub fn callback_of(&self, provider: &ProviderId) -> Url {
        self.at(&format!("oauth/callback/{provider}"))
    }

    /// The address of the client id metadata document.
    pub fn client_document(&self) -> Url {
        self.at("oauth/client.json")
    }

    /// The start page with this id.
    pub(super) fn start(&self, id: &str) -> Url {
        self.at(&format!("start/{id}"))
    }

    /// The origin, as browsers write it in a header.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// The value of the `Host` header of a browser's request.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The whole address.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(path);
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_an_https_origin_or_loopback_without_a_path() {
        let url = PublicUrl::parse(" https://threadkey.example.org:8443/ ").expect("an address");
        assert_eq!(url.callback().as_str(), "https://threadkey.example.org:8443/oauth/callback");
        let of = url.callback_of(&"linear.1".parse().expect("a name"));
        assert_eq!(of.as_str(), "https://threadkey.example.org:8443/oauth/callback/linear.1");
        assert_eq!(url.start("id").as_str(), "https://threadkey.example.org:8443/start/id");
        assert_eq!(url.authority(), "threadkey.example.org:8443");
        assert_eq!(PublicUrl::parse("https://a.example").expect("an address").authority(), "a.example");
        for good in ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"] {
            assert!(PublicUrl::parse(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("threadkey.example.org", PublicUrlError::NotAUrl),
            ("http://threadkey.example.org", PublicUrlError::NotHttps),
            ("ftp://threadkey.example.org", PublicUrlError::NotHttps),
            ("https://threadkey.example.org/bot", PublicUrlError::MoreThanOrigin),
            ("https://threadkey.example.org/?a", PublicUrlError::MoreThanOrigin),
            ("https://me@threadkey.example.org", PublicUrlError::MoreThanOrigin),
        ] {
            assert_eq!(PublicUrl::parse(bad).expect_err(bad), why, "{bad}");
        }
    }
}
