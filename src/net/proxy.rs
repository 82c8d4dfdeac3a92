//! The proxies of the environment, chosen for each URL.
//!
//! The variables are those of curl and of most HTTP clients: `HTTPS_PROXY`, `HTTP_PROXY`,
//! `ALL_PROXY` and `NO_PROXY`, each also in lower case. The upper case wins, and an empty value
//! counts as none. A value that is not a proxy is an error for every connection that would use it: a
//! direct connection instead would hide the mistake.

use std::{borrow::Cow, fmt};

use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::percent_decode_str;
use url::Url;

use super::target::{self, is_loopback};
use crate::secret::Secret;

/// The proxies.
pub struct Proxies {
    /// For `https` and `wss`.
    encrypted: Choice,
    /// For `http` and `ws`.
    plain: Choice,
    /// The hosts that `NO_PROXY` names, each with its port if it has one.
    direct: Vec<(String, Option<u16>)>,
}

type Choice = Option<Result<Proxy, ProxyError>>;

/// A variable does not name a usable proxy. The text never repeats its value, which may have a
/// password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{variable} is not the address of a proxy: {problem}. Write http://HOST:PORT, https://…, socks5://… or socks5h://…, with USER:PASSWORD@ before the host if the proxy needs it, and special characters percent-encoded"
)]
pub struct ProxyError {
    variable: &'static str,
    problem: &'static str,
}

/// One proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) protocol: Protocol,
    pub(super) host: String,
    pub(super) port: u16,
    /// User name and password.
    pub(super) credentials: Option<(Secret, Secret)>,
    variable: &'static str,
    /// The whole address, with the credentials.
    address: Secret,
}

/// The protocol between this machine and the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP CONNECT (RFC 9110 §9.3.6).
    Http,
    /// HTTP CONNECT inside TLS.
    Https,
    /// SOCKS 5 (RFC 1928) with an address that this machine resolves.
    Socks5,
    /// SOCKS 5 with a name that the proxy resolves.
    Socks5h,
}

impl Proxies {
    /// Reads the variables of this process.
    pub fn from_environment() -> Self {
        Self::new(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// Reads the variables.
    pub fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let value = |upper: &str| {
            let text = variable(upper).or_else(|| variable(&upper.to_lowercase()))?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let choice = |name| value(name).map(|text| Proxy::parse(name, &text));
        let all = choice("ALL_PROXY");
        Self {
            encrypted: choice("HTTPS_PROXY").or_else(|| all.clone()),
            plain: choice("HTTP_PROXY").or(all),
            direct: direct_hosts(&value("NO_PROXY").unwrap_or_default()),
        }
    }

    /// Returns the proxy for a URL, or `None` for a direct connection.
    pub(super) fn choose(&self, url: &Url) -> Result<Option<&Proxy>, ProxyError> {
        let encrypted = matches!(url.scheme(), "https" | "wss");
        let choice = if encrypted { &self.encrypted } else { &self.plain };
        match choice {
            Some(choice) if !is_loopback(url) && self.is_proxied(url) => {
                choice.as_ref().map(Some).map_err(Clone::clone)
            }
            _ => Ok(None),
        }
    }

    fn is_proxied(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        let direct = self.direct.iter().filter(|(_, only)| only.is_none() || *only == port);
        let direct: Vec<_> = direct.map(|(host, _)| host.as_str()).collect();
        // The matcher's `*` covers names alone, and no addresses.
        if direct.contains(&"*") {
            return false;
        }
        let matcher = Matcher::builder().all("http://proxy.invalid").no(direct.join(",")).build();
        // The matcher knows only the schemes of HTTP.
        let host = format!("https://{}/", url.host_str().unwrap_or_default().trim_end_matches('.'));
        host.parse().is_ok_and(|uri| matcher.intercept(&uri).is_some())
    }

    /// Returns the error of the variable that a connection to this URL would use.
    pub fn problem(&self, url: &Url) -> Option<ProxyError> {
        self.choose(url).err()
    }

    /// Returns the address of the proxy for a URL, with its credentials.
    pub(super) fn address_for(&self, url: &Url) -> Option<Url> {
        let proxy = self.choose(url).ok()??;
        Url::parse(proxy.address.expose()).ok()
    }

    /// Returns the proxy for https, as host and port with its variable, or `None` without one.
    ///
    /// # Errors
    /// When the variable does not name a usable proxy.
    pub fn for_https(&self) -> Result<Option<String>, ProxyError> {
        self.encrypted
            .as_ref()
            .map(|choice| choice.as_ref().map(ToString::to_string))
            .transpose()
            .map_err(Clone::clone)
    }
}

/// Reads `NO_PROXY`: hosts, addresses and networks between commas or white space. A host covers its
/// subdomains, with a dot or `*.` before it or without. `*` covers everything. A port limits an
/// entry to it.
fn direct_hosts(list: &str) -> Vec<(String, Option<u16>)> {
    let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
    let direct = entries.map(|entry| {
        let entry = entry.rsplit("://").next().unwrap_or_default().trim_end_matches('/');
        let (host, port) = match entry.rsplit_once(':') {
            // Without brackets, an IPv6 address has several colons and no port.
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, port.parse().ok()),
            _ => (entry, None),
        };
        let host = host.strip_prefix("*.").unwrap_or(host).replace(['[', ']'], "");
        let host = host.trim_end_matches('.').to_owned();
        if host.contains('*') && host != "*" {
            tracing::warn!(entry, "this entry of NO_PROXY matches no host: `*` stands alone or before a dot");
        }
        (host, port)
    });
    direct.collect()
}

impl Proxy {
    fn parse(variable: &'static str, text: &str) -> Result<Self, ProxyError> {
        let wrong = |problem| ProxyError { variable, problem };
        let full = if text.contains("://") { Cow::Borrowed(text) } else { format!("http://{text}").into() };
        let mut url = Url::parse(&full).map_err(|_| wrong("it is not a URL"))?;
        let protocol = match url.scheme() {
            "http" => Protocol::Http,
            "https" => Protocol::Https,
            "socks5" => Protocol::Socks5,
            "socks5h" => Protocol::Socks5h,
            "socks4" | "socks4a" | "socks" => return Err(wrong("threadkey speaks version 5 of SOCKS alone")),
            _ => return Err(wrong("its scheme is unknown")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_or_known_default().unwrap_or(1080);
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it does not end with its host and port"));
        }
        let decoded = |part: &str| percent_decode_str(part).decode_utf8().map(Secret::new);
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let decoded = decoded(user).and_then(|user| Ok((user, decoded(password.unwrap_or(""))?)));
                Some(decoded.map_err(|_| wrong("its user name or password is not UTF-8"))?)
            }
        };
        // reqwest takes a missing port for that of HTTP.
        if url.port_or_known_default().is_none() {
            url.set_port(Some(port)).map_err(|()| wrong("it has no host"))?;
        }
        Ok(Self { protocol, host, port, credentials, variable, address: Secret::new(String::from(url)) })
    }
}

impl Proxy {
    /// Whether TLS protects the connection to the proxy.
    pub(super) fn uses_tls(&self) -> bool {
        self.protocol == Protocol::Https
    }
}

impl fmt::Display for Proxy {
    /// Shows host, port and variable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        target::address(f, &self.host, self.port)?;
        write!(f, " (from {})", self.variable)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("encrypted", &self.encrypted)
            .field("plain", &self.plain)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &'static [(&str, &str)]) -> Proxies {
        Proxies::new(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn chosen(variables: &'static [(&str, &str)], url: &str) -> String {
        match proxies(variables).choose(&url.parse().expect("a URL")) {
            Ok(None) => "direct".to_owned(),
            Ok(Some(proxy)) => format!("{:?} {proxy}", proxy.protocol),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_scheme_has_its_variable_and_all_proxy_covers_the_rest() {
        const HTTPS: &str = "https://id.example/token";
        assert_eq!(chosen(&[], HTTPS), "direct");
        assert_eq!(chosen(&[("HTTPS_PROXY", "http://p:3128")], HTTPS), "Http p:3128 (from HTTPS_PROXY)");
        assert_eq!(chosen(&[("https_proxy", "p:3128")], HTTPS), "Http p:3128 (from HTTPS_PROXY)");
        assert_eq!(chosen(&[("HTTPS_PROXY", "p")], "wss://gateway.example"), "Http p:80 (from HTTPS_PROXY)");
        assert_eq!(chosen(&[("HTTPS_PROXY", "https://p")], HTTPS), "Https p:443 (from HTTPS_PROXY)");
        assert_eq!(chosen(&[("ALL_PROXY", "socks5://p")], HTTPS), "Socks5 p:1080 (from ALL_PROXY)");
        assert_eq!(chosen(&[("all_proxy", "socks5h://[::1]:9")], HTTPS), "Socks5h [::1]:9 (from ALL_PROXY)");
        assert_eq!(chosen(&[("HTTP_PROXY", "p")], HTTPS), "direct");
        assert_eq!(chosen(&[("HTTP_PROXY", "p")], "http://id.example/"), "Http p:80 (from HTTP_PROXY)");
        assert_eq!(chosen(&[("HTTPS_PROXY", ""), ("ALL_PROXY", "p:1")], HTTPS), "Http p:1 (from ALL_PROXY)");
    }

    #[test]
    fn no_proxy_and_loopback_go_direct() {
        const NO: &[(&str, &str)] =
            &[("ALL_PROXY", "http://p:1"), ("no_proxy", "intern.example, .corp.example,10.0.0.0/8")];
        for url in [
            "https://intern.example/",
            "https://id.intern.example/",
            "wss://a.corp.example/",
            "https://10.1.2.3/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://localhost/",
        ] {
            assert_eq!(chosen(NO, url), "direct", "{url}");
        }
        for url in ["https://notintern.example/", "https://corp.example.org/", "https://11.1.2.3/"] {
            assert_eq!(chosen(NO, url), "Http p:1 (from ALL_PROXY)", "{url}");
        }
    }

    #[test]
    fn every_usual_form_of_no_proxy_is_read() {
        let is_direct = |no_proxy: &'static str, url: &str| {
            let proxies = Proxies::new(|name| match name {
                "ALL_PROXY" => Some("p:1".to_owned()),
                "NO_PROXY" => Some(no_proxy.to_owned()),
                _ => None,
            });
            matches!(proxies.choose(&url.parse().expect("a URL")), Ok(None))
        };
        for (no_proxy, url) in [
            ("*", "https://id.example/"),
            ("other, *", "https://[2001:db8::1]/"),
            ("*.example", "https://id.example/"),
            ("*.id.example", "https://id.example/"),
            (".example", "https://a.id.example/"),
            ("other id.example", "https://id.example/"),
            ("other\tid.example ,third", "https://id.example/"),
            ("ID.Example", "https://id.example./"),
            ("id.example.", "https://id.example/"),
            ("id.example:443", "https://id.example/"),
            (".example:8443", "https://id.example:8443/"),
            ("https://id.example/", "https://id.example/"),
            ("10.1.2.3:443", "https://10.1.2.3/"),
            ("2001:db8::1", "https://[2001:db8::1]/"),
            ("[2001:db8::1]", "https://[2001:db8:0::1]/"),
            ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443/"),
            ("2001:db8::/32", "https://[2001:db8::1]/"),
        ] {
            assert!(is_direct(no_proxy, url), "{no_proxy:?} {url}");
        }
        for (no_proxy, url) in [
            ("id.example:8443", "https://id.example/"),
            ("id.example:443", "https://id.example:8443/"),
            ("[2001:db8::1]:8443", "https://[2001:db8::1]/"),
            ("*.example", "https://notexample/"),
            ("id.example", "https://notid.example/"),
            (" , ,", "https://id.example/"),
            (".", "https://id.example/"),
            ("2001:db8::1", "https://[2001:db8::2]/"),
        ] {
            assert!(!is_direct(no_proxy, url), "{no_proxy:?} {url}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxies = proxies(&[("HTTPS_PROXY", "http://al%40ice:s3cr%3At@p:3128")]);
        let url = "https://id.example/".parse().expect("a URL");
        let proxy = proxies.choose(&url).expect("usable").expect("chosen");
        let (user, password) = proxy.credentials.as_ref().expect("given");
        assert_eq!((user.expose(), password.expose()), ("al@ice", "s3cr:t"));
        let address = proxies.address_for(&url).expect("chosen");
        assert_eq!(address.as_str(), "http://al%40ice:s3cr%3At@p:3128/");
        for shown in [format!("{proxies:?}"), format!("{proxy:?}"), proxy.to_string()] {
            assert!(!shown.contains("s3cr") && !shown.contains("ice"), "{shown}");
        }
    }

    #[test]
    fn an_unusable_value_is_an_error_that_names_the_variable_and_hides_the_value() {
        for (value, problem) in [
            ("http://user:pa#ss@p:3128", "it is not a URL"),
            ("http://user:s3cret@", "it is not a URL"),
            ("socks4://p:1080", "threadkey speaks version 5 of SOCKS alone"),
            ("ftp://s3cret@p:21", "its scheme is unknown"),
            ("http://p:3128/s3cret", "it does not end with its host and port"),
            ("http://u:%ff@p:1", "its user name or password is not UTF-8"),
        ] {
            let proxies = Proxies::new(|name| (name == "HTTPS_PROXY").then(|| value.to_owned()));
            let error = proxies.choose(&"https://id.example/".parse().expect("a URL")).expect_err("refused");
            let text = error.to_string();
            assert!(
                text.starts_with(&format!("HTTPS_PROXY is not the address of a proxy: {problem}.")),
                "{text}"
            );
            assert!(!format!("{text} {proxies:?}").contains("s3cret"), "{text}");
            let loopback = proxies.choose(&"https://127.0.0.1/".parse().expect("a URL"));
            assert!(matches!(loopback, Ok(None)), "loopback needs no proxy");
        }
    }
}
