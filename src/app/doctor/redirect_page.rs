//! The page on which a sign-in ends, as a browser shows it.
//!
//! A program need not listen at a redirect URI on loopback: the user copies the page's address. A
//! browser keeps the address in its bar if it cannot connect. But Chrome, Edge, Firefox and Safari
//! refuse some ports before they connect, with an error that looks like a broken link.

use url::Url;

use crate::{net::is_loopback, oauth::RECOMMENDED_REDIRECT_URI as RECOMMENDED};

/// The ports that browsers refuse: "bad port" of the Fetch standard, and `kRestrictedPorts` of
/// Chromium's `net/base/port_util.cc`.
const BLOCKED: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Returns the problem that users have with the page, and its remedy, if there is one.
pub(super) fn problem(redirect_uri: &str) -> Option<String> {
    let url = Url::parse(redirect_uri).ok()?;
    let port = url.port_or_known_default().filter(|port| BLOCKED.contains(port))?;
    let place = if is_loopback(&url) {
        format!(". Use {RECOMMENDED}, here and in the client at the provider")
    } else {
        ". Use another port".to_owned()
    };
    Some(format!("browsers refuse port {port}, so users see ERR_UNSAFE_PORT or a similar error{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_browsers_refuse_is_reported_and_the_recommended_one_is_none() {
        for refused in ["http://127.0.0.1:1/callback", "http://localhost:6000/", "https://id.example:10080/x"]
        {
            assert!(problem(refused).is_some(), "{refused}");
        }
        for good in [RECOMMENDED, "http://127.0.0.1/callback", "https://id.example/callback"] {
            assert_eq!(problem(good), None, "{good}");
        }
    }

    #[test]
    fn the_documentation_recommends_one_redirect_uri_that_no_system_gives_to_clients() {
        let port = Url::parse(RECOMMENDED).expect("a URL").port().expect("a port");
        // Linux gives 32768 to 60999 to clients, other systems 49152 to 65535.
        assert!((1024..32768).contains(&port));
        for text in [include_str!("../../../README.md"), include_str!("../../../deploy/threadkey.toml")] {
            assert!(text.contains(RECOMMENDED) && !text.contains("127.0.0.1:1/"), "{RECOMMENDED}");
        }
    }
}
