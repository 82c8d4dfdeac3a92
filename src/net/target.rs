//! The end of a connection: a host, a port, and whether TLS protects it.

use std::fmt;

use url::{Host, Url};

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// An address without brackets, or a name.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Target {
    /// Returns the end that a URL names, or `None` without a host or a port.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let tls = matches!(url.scheme(), "https" | "wss");
        let host = match url.host()? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        Some(Self { host, port: url.port_or_known_default()?, tls })
    }
}

impl fmt::Display for Target {
    /// Writes `host:port`, with an IPv6 address in brackets (RFC 3986 §3.2.2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        address(f, &self.host, self.port)
    }
}

/// Writes `host:port`.
pub(super) fn address(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

/// Whether the host is this machine, by its name alone: 127.0.0.0/8, `::1` or `localhost`.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
