//! The addresses to which a connection may go, where a URL comes from a server and not from the
//! operator.
//!
//! A published document names URLs. Without a limit it could lead this process to a service inside
//! the operator's network. So such a connection is limited:
//! - A name is resolved once, every address of the answer is checked, and only these addresses are
//!   connected to. A name that has another address a moment later changes nothing.
//! - One private address among the answers refuses them all.
//! - A proxy that resolves names by itself gets only hosts that the operator listed, because nobody
//!   checks the address there.
//! - A loopback host is allowed if the operator listed a loopback host. A program on this machine
//!   can reach loopback by itself.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use url::Url;

use super::{Unreachable, target::Target};

/// The addresses to which a connection may go. The default is public addresses alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    private: bool,
    hosts: BTreeSet<String>,
}

impl Reach {
    /// Allows private addresses too.
    #[must_use]
    pub fn with_private(mut self, is_allowed: bool) -> Self {
        self.private |= is_allowed;
        self
    }

    /// Lists a host that the operator wrote. A proxy that resolves names may get it. If the host is a
    /// loopback one, loopback hosts are allowed.
    #[must_use]
    pub fn listing(mut self, host: &str) -> Self {
        self.hosts.insert(plain(host));
        self
    }

    /// Lists the host of a URL that the operator wrote.
    #[must_use]
    pub fn listing_host_of(self, url: &Url) -> Self {
        match url.host_str() {
            Some(host) => self.listing(host),
            None => self,
        }
    }

    /// Checks the addresses of a target before any of them is connected to.
    pub(super) fn check(&self, target: &Target, addresses: &[SocketAddr]) -> Result<(), Unreachable> {
        let allows_loopback = is_loopback_host(&target.host) && self.lists_loopback();
        let is_allowed = |ip: IpAddr| self.private || is_public(ip) || (allows_loopback && ip.is_loopback());
        match addresses.iter().map(SocketAddr::ip).find(|ip| !is_allowed(*ip)) {
            None => Ok(()),
            Some(address) => Err(Unreachable::Private { host: target.host.clone(), address }),
        }
    }

    /// Checks a target that a proxy resolves.
    pub(super) fn check_listed(&self, target: &Target, proxy: &str) -> Result<(), Unreachable> {
        if !self.hosts.contains(&plain(&target.host)) {
            return Err(Unreachable::Unlisted { host: target.host.clone(), proxy: proxy.to_owned() });
        }
        match target.host.parse() {
            Ok(ip) => self.check(target, &[SocketAddr::new(ip, target.port)]),
            Err(_) => Ok(()),
        }
    }

    fn lists_loopback(&self) -> bool {
        self.hosts.iter().any(|host| is_loopback_host(host))
    }
}

/// Returns a host in lower case, without the brackets of an IPv6 address and the final dot of a name.
fn plain(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

fn is_loopback_host(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Whether the public internet routes an address. Addresses of a machine, of a private or shared
/// network, of documentation, and of cloud metadata services are not public (RFC 6890).
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

/// The special networks of IPv4, as the first address and the length of the prefix.
const SPECIAL_V4: [([u8; 4], u32); 16] = [
    // This network.
    ([0, 0, 0, 0], 8),
    // Private networks (RFC 1918).
    ([10, 0, 0, 0], 8),
    ([172, 16, 0, 0], 12),
    ([192, 168, 0, 0], 16),
    // Networks of an internet provider (RFC 6598). One cloud has its metadata service there.
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    // Link-local addresses, and the metadata service of most clouds.
    ([169, 254, 0, 0], 16),
    // The metadata service of Azure.
    ([168, 63, 129, 16], 32),
    // Protocol assignments. One cloud has its metadata service there.
    ([192, 0, 0, 0], 24),
    // Documentation (RFC 5737).
    ([192, 0, 2, 0], 24),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    // Relays to IPv6 (RFC 7526).
    ([192, 88, 99, 0], 24),
    // Benchmarks (RFC 2544).
    ([198, 18, 0, 0], 15),
    // Multicast.
    ([224, 0, 0, 0], 4),
    // Reserved, and broadcast.
    ([240, 0, 0, 0], 4),
];

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let is_in = |(network, length): &([u8; 4], u32)| {
        (ip.to_bits() ^ Ipv4Addr::from(*network).to_bits()) >> (32 - length) == 0
    };
    !SPECIAL_V4.iter().any(is_in)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    match segments {
        // NAT64: the network translates the IPv4 address at the end (RFC 6052 §2.1).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // Protocol assignments, with Teredo and ORCHID (RFC 2928).
        [0x2001, second, ..] if second < 0x0200 => false,
        // Documentation (RFC 3849, RFC 9637).
        [0x2001, 0x0db8, ..] => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // 6to4 holds an IPv4 address, and its relays are gone (RFC 7526).
        [0x2002, ..] => false,
        // Global unicast addresses. This leaves out loopback, unspecified, v4-mapped, unique local,
        // link-local and multicast addresses.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reach: &Reach, url: &str, addresses: &[&str]) -> Result<(), Unreachable> {
        let target = Target::of(&url.parse().expect("a URL")).expect("a host");
        let addresses: Vec<_> =
            addresses.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 443)).collect();
        reach.check(&target, &addresses)
    }

    #[test]
    fn only_addresses_that_the_internet_routes_are_public() {
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().expect("an address")), "{private}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(is_public(public.parse().expect("an address")), "{public}");
        }
    }

    #[test]
    fn one_private_address_among_public_ones_refuses_the_name() {
        let refused = check(&Reach::default(), "https://a.test/", &["8.8.8.8", "10.0.0.1"]);
        let refused = refused.expect_err("10.0.0.1 is private");
        let text = refused.to_string();
        assert!(text.starts_with("the name a.test has the private address 10.0.0.1"), "{text}");
        assert!(text.contains("allow_private"), "{text}");
        assert_eq!(check(&Reach::default(), "https://a.test/", &["8.8.8.8"]), Ok(()));
        let allowing = Reach::default().with_private(true);
        assert_eq!(check(&allowing, "https://a.test/", &["10.0.0.1"]), Ok(()));
    }

    #[test]
    fn every_written_form_of_a_private_address_is_refused() {
        for url in [
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://127.0.0.1./",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
        ] {
            let target = Target::of(&url.parse().expect("a URL")).expect("a host");
            let ip: IpAddr = target.host.parse().expect("the parser of URLs knows the form");
            let address = SocketAddr::new(ip, 80);
            assert!(Reach::default().check(&target, &[address]).is_err(), "{url}");
        }
        // A name is judged by its addresses, however it is written.
        let listing = Reach::default().listing("127.0.0.1");
        for url in ["http://localhost./", "http://LOCALHOST.:80/", "http://127.0.0.1.example.test/"] {
            assert!(check(&Reach::default(), url, &["127.0.0.1"]).is_err(), "{url}");
        }
        assert!(check(&listing, "http://127.0.0.1.example.test/", &["127.0.0.1"]).is_err());
    }

    #[test]
    fn loopback_is_allowed_once_the_operator_wrote_a_loopback_host() {
        let listing = Reach::default().listing_host_of(&"http://[::1]:9000/".parse().expect("a URL"));
        assert_eq!(check(&listing, "http://localhost:9001/", &["::1", "127.0.0.1"]), Ok(()));
        assert_eq!(check(&listing, "http://127.0.0.1/", &["127.0.0.1"]), Ok(()));
        assert!(check(&listing, "http://localhost/", &["10.0.0.1"]).is_err());
        assert!(check(&listing, "http://10.0.0.1/", &["10.0.0.1"]).is_err());
        assert!(check(&Reach::default(), "http://localhost/", &["127.0.0.1"]).is_err());
    }

    #[test]
    fn a_resolving_proxy_gets_listed_hosts_alone() {
        let reach = Reach::default().listing("ID.example.test.").listing("10.0.0.1").listing("8.8.8.8");
        let listed = |url: &str| {
            let target = Target::of(&url.parse().expect("a URL")).expect("a host");
            reach.check_listed(&target, "the proxy").is_ok()
        };
        assert!(listed("https://id.example.test/") && listed("https://id.example.test.:8443/"));
        assert!(!listed("https://example.test/") && !listed("https://a.id.example.test/"));
        assert!(listed("https://8.8.8.8/") && !listed("https://10.0.0.1/"));
    }
}
