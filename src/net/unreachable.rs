//! The cause of a connection that could not be made.

use std::net::IpAddr;

use super::{NoAuthorities, ProxyError};

/// The reason why a host cannot be reached. Each text names the host or the proxy, and the next
/// step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The name has no address.
    #[error(
        "the name {host} cannot be resolved ({problem}). Check its spelling in the configuration, and the DNS of this machine; where only a proxy leads out, set HTTPS_PROXY (with SOCKS as socks5h://…)"
    )]
    Name {
        /// The name.
        host: String,
        /// The resolver's error.
        problem: String,
    },
    /// No connection.
    #[error(
        "{address} cannot be reached: {problem}. Check that its server runs, and the network and the proxy variables of this machine"
    )]
    Connect {
        /// Host and port.
        address: String,
        /// The system's error.
        problem: String,
    },
    /// TLS failed, usually because of the certificate.
    #[error("{problem}")]
    Tls {
        /// Host and port.
        address: String,
        /// A sentence that names the host and the next step.
        problem: String,
    },
    /// No certificate is trusted.
    #[error("the certificate of {host} cannot be checked, because {cause}")]
    NoAuthorities {
        /// The host.
        host: String,
        /// The reason.
        cause: NoAuthorities,
    },
    /// The proxy cannot be reached, or refuses.
    #[error("the proxy {proxy} {problem}")]
    Proxy {
        /// Host, port and variable of the proxy, without its credentials.
        proxy: String,
        /// The rest of the sentence, with the next step.
        problem: String,
    },
    /// The host is not public, and the connection may reach public hosts alone.
    #[error(
        "{}, and no server may lead threadkey into a private network. Where the provider really is there, set allow_private = true in its section",
        is_private(host, *address)
    )]
    Private {
        /// The name, or the address in its plain form.
        host: String,
        /// The first address that is not public.
        address: IpAddr,
    },
    /// The proxy would resolve a name that the operator did not list.
    #[error(
        "the proxy {proxy} would resolve {host} unchecked, so threadkey does not pass it on. If the host belongs to the provider, add it to discovery_hosts in the provider's section"
    )]
    Unlisted {
        /// The host.
        host: String,
        /// Host, port and variable of the proxy.
        proxy: String,
    },
    /// A variable does not name a usable proxy.
    #[error(transparent)]
    ProxyVariable(#[from] ProxyError),
}

fn is_private(host: &str, address: IpAddr) -> String {
    if host.trim_matches(['[', ']']).parse() == Ok(address) {
        return format!("{address} is a private address");
    }
    format!("the name {host} has the private address {address}")
}

impl Unreachable {
    /// The stable words of the steps.
    pub const STEPS: [&str; 4] = ["dns", "connect", "tls", "proxy"];

    /// Whether the cause may end without a change of the configuration.
    pub fn may_end(&self) -> bool {
        !matches!(self, Self::Private { .. } | Self::Unlisted { .. } | Self::ProxyVariable(_))
    }

    /// Returns the stable word of the failed step: `dns`, `connect`, `tls` or `proxy`.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Name { .. } => "dns",
            Self::Connect { .. } | Self::Private { .. } => "connect",
            Self::Tls { .. } | Self::NoAuthorities { .. } => "tls",
            Self::Proxy { .. } | Self::Unlisted { .. } | Self::ProxyVariable(_) => "proxy",
        }
    }
}
