//! The keys of the sign-in pages.

use std::path::Path;

use super::{ConfigError, load};
use crate::api::{PublicSettings, Transport};

const URL: &str = "public_url = 'https://tk.example'\n";
const LISTEN: &str = "public_listen = '0.0.0.0:8443'\n";
const FILES: &str = "public_cert_file = 'cert.pem'\npublic_key_file = '/keys/key.pem'\n";

fn public(keys: &str) -> Result<Option<PublicSettings>, ConfigError> {
    load(&format!("[api]\n{keys}\n"), &[]).map(|config| config.api.public)
}

#[test]
fn the_pages_have_a_certificate_or_a_proxy_and_no_pages_are_served_without_keys() {
    assert!(public("").expect("is valid").is_none());
    let tls = public(&format!("{URL}{LISTEN}{FILES}")).expect("is valid").expect("pages");
    let Transport::Tls(files) = &tls.transport else { panic!("{tls:?}") };
    assert_eq!(files.certificate, Path::new("/etc/cert.pem"), "relative to the configuration");
    assert_eq!(files.key, Path::new("/keys/key.pem"));
    let peers = |keys: &str| {
        let proxied = public(&format!("{URL}{LISTEN}behind_proxy = true\n{keys}"));
        match proxied.expect("is valid").expect("pages").transport {
            Transport::Proxy(peers) => peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            Transport::Tls(files) => panic!("{files:?}"),
        }
    };
    assert_eq!(peers(""), ["127.0.0.1", "::1"]);
    assert_eq!(peers("proxy_peers = ['10.0.0.5', '::ffff:10.0.0.6']"), ["10.0.0.5", "10.0.0.6"]);
}

#[test]
fn half_configured_pages_are_refused_with_the_line_and_the_remedy() {
    for (keys, line, problem) in [
        (URL.to_owned(), 2, "api.public_url: the sign-in pages need public_listen too"),
        (LISTEN.to_owned(), 2, "api.public_listen: the sign-in pages need public_url too"),
        (FILES.to_owned(), 2, "api.public_cert_file: the sign-in pages need public_url too"),
        ("proxy_peers = ['::1']".to_owned(), 2, "api.proxy_peers: the sign-in pages need public_url"),
        ("behind_proxy = true".to_owned(), 2, "api.behind_proxy: the sign-in pages need public_url"),
        (format!("{URL}{LISTEN}"), 3, "api.public_listen: browsers need https"),
        (format!("{URL}public_listen = '8443'"), 3, "api.public_listen: expected an address and a port"),
        (
            format!("{URL}{LISTEN}public_cert_file = 'a'"),
            4,
            "api.public_cert_file: public_key_file is missing",
        ),
        (
            format!("{URL}{LISTEN}public_key_file = 'a'"),
            4,
            "api.public_key_file: public_cert_file is missing",
        ),
        (
            format!("{URL}{LISTEN}{FILES}behind_proxy = true"),
            6,
            "api.behind_proxy: a proxy has the certificate",
        ),
        (format!("{URL}{LISTEN}{FILES}proxy_peers = ['::1']"), 6, "api.proxy_peers: it needs behind_proxy"),
        (
            format!("{URL}{LISTEN}behind_proxy = true\nproxy_peers = ['proxy.lan']"),
            5,
            "api.proxy_peers: expected addresses such as",
        ),
        (
            format!("public_url = 'http://localhost'\n{LISTEN}{FILES}"),
            2,
            "api.public_url: it must begin with https",
        ),
        (
            format!("public_url = 'http://tk.example'\n{LISTEN}behind_proxy = true"),
            2,
            "api.public_url: expected https",
        ),
        (
            format!("public_url = 'https://tk.example/bot'\n{LISTEN}{FILES}"),
            2,
            "api.public_url: expected scheme, host and port alone",
        ),
        (format!("{URL}{LISTEN}behind_proxi = true"), 4, "did you mean `behind_proxy`?"),
    ] {
        let error = public(&keys).map(drop).expect_err(&keys).to_string();
        let place = format!("/etc/threadkey.toml, line {line}, column 1: ");
        assert!(error.starts_with(&place) && error.contains(problem), "{keys}: {error}");
    }
}
