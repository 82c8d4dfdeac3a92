//! The refusal of requests that come from pages in a browser.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::problem::Problem;

/// The check of the requests on TCP, which pages of a browser can reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct BrowserGuard {
    /// Whether the host must be a name of loopback.
    pub(super) is_local: bool,
}

impl BrowserGuard {
    /// Returns the reason to refuse a request with these headers, if there is one.
    pub(super) fn refusal(self, headers: &HeaderMap) -> Option<Problem> {
        if headers.contains_key(header::ORIGIN) {
            return Some(Problem::from_a_browser());
        }
        (self.is_local && !names_loopback(headers)).then(Problem::misdirected)
    }
}

/// Whether the one `Host` is a name of this machine's loopback, on any port.
pub(super) fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().expect("a value"));
        }
        names_loopback(&headers)
    }

    #[test]
    fn only_one_host_that_names_loopback_is_local() {
        for host in ["127.0.0.1:7420", "127.0.0.1", "localhost:7420", "LOCALHOST", "[::1]:7420", "[::1]"] {
            assert!(is_local(&[host]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7420",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "::1",
            "0.0.0.0",
        ] {
            assert!(!is_local(&[host]), "{host}");
        }
        assert!(!is_local(&[]) && !is_local(&["localhost", "localhost"]));
    }
}
