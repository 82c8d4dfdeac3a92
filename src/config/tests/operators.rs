//! Operator keys, the TCP listener, and the form of the log.

use super::{Config, ConfigError, load};
use crate::{
    api::{KeyScope, KeySource, ListenTransport, Right},
    cli::LogFormat,
};

const ONE: &str = "0123456789abcdef0123456789abcdef";
const PROVIDER: &str = "[providers.acme]
authorization_endpoint = 'https://id.acme.example/authorize'
token_endpoint = 'https://id.acme.example/token'
client_id = 'threadkey'
redirect_uri = 'http://127.0.0.1:1/callback'
";

/// Loads a configuration with the lines of a key, whose variable is set.
fn key(lines: &str) -> Result<Config, ConfigError> {
    load(&format!("{PROVIDER}[api.operator_keys.ci]\n{lines}\n"), &[("CI_KEY", ONE)])
}

fn scope(lines: &str) -> KeyScope {
    let config = key(lines).unwrap_or_else(|error| panic!("{lines}: {error}"));
    config.api.operator_keys[0].scope.clone()
}

#[test]
fn a_key_names_its_source_and_its_scope() {
    let config = key("key_env = 'CI_KEY'\nprincipals = ['user:803', 'guild:*']\nproviders = ['acme']")
        .expect("is valid");
    let [settings] = &config.api.operator_keys[..] else { panic!("{:?}", config.api) };
    assert_eq!(settings.name, "ci");
    assert!(matches!(&settings.source, KeySource::Variable(text) if text.expose() == ONE));
    assert!(settings.scope.covers(&"acme/user:803".parse().expect("a tenant")));
    assert!(!settings.scope.covers(&"acme/user:804".parse().expect("a tenant")));
    assert_eq!(settings.scope.rights, Right::usual());
    assert!(!format!("{config:?}").contains(ONE));
    let closed = scope("key_env = 'CI_KEY'");
    assert!(!closed.covers(&"acme/user:803".parse().expect("a tenant")), "closed by default");
    let metrics = scope("key_env = 'CI_KEY'\nrights = ['metrics']").rights;
    assert!(metrics.into_iter().eq([Right::Metrics]));
    let file = key("key_file = 'ci.key'").expect("another user may be unable to read it");
    let KeySource::File(path) = &file.api.operator_keys[0].source else { panic!("{:?}", file.api) };
    assert_eq!(path, std::path::Path::new("/etc/ci.key"), "relative to the configuration");
    let missing =
        load("[api.operator_keys.ci]\nkey_env = 'CI_KEY'\n", &[]).expect("other commands need no key");
    assert!(matches!(missing.api.operator_keys[0].source, KeySource::Missing(_)));
}

#[test]
fn a_key_that_cannot_be_meant_is_refused_with_its_line() {
    for (lines, line, problem) in [
        ("", 6, "it needs key_env"),
        ("key = 'x'", 7, "must not contain a secret: instead of `key` use key_env"),
        ("key_env = 'CI_KEY'\nprincipals = ['alice']", 8, "\"alice\" is not a principal"),
        (
            "key_env = 'CI_KEY'\nproviders = ['acne']",
            8,
            "there is no provider acne in the configuration; did you mean acme?",
        ),
        ("key_env = 'CI_KEY'\nrights = ['token']", 8, "did you mean `tokens`?"),
        ("key_env = 'CI_KEY'\nkey_file = 'x'", 8, "has both key_env and key_file"),
        ("key_env = 'CI_KEY'\nright = ['tokens']", 8, "did you mean `rights`?"),
    ] {
        let error = key(lines).map(drop).expect_err(lines).to_string();
        assert!(error.contains(problem) && error.contains(&format!("line {line}, ")), "{lines}: {error}");
    }
    let short = &ONE[1..];
    let loaded = load("[api.operator_keys.ci]\nkey_env = 'CI_KEY'\n", &[("CI_KEY", short)]);
    let loaded = loaded.expect("only a command that serves the API needs a good key");
    assert!(!format!("{loaded:?}").contains(short));
    let name = load("[api.operator_keys.'a b']\nkey_env = 'CI_KEY'\n", &[("CI_KEY", ONE)]);
    assert!(name.map(drop).expect_err("logs show it").to_string().contains("up to 64 letters"));
}

#[test]
fn tcp_is_plain_on_loopback_alone_and_needs_a_key() {
    let listen = |lines: &str| {
        let text = format!("[api]\n{lines}\n[api.operator_keys.ci]\nkey_env = 'CI_KEY'\n");
        load(&text, &[("CI_KEY", ONE)]).map(|config| config.api.listen)
    };
    let transport = |lines: &str| listen(lines).expect(lines).expect("it listens").transport;
    assert!(listen("").expect("is valid").is_none());
    for local in ["127.0.0.1:7420", "[::1]:7420"] {
        assert!(matches!(transport(&format!("listen = '{local}'")), ListenTransport::Local), "{local}");
    }
    let files = "cert_file = 'c.pem'\nkey_file = 'k.pem'";
    assert!(matches!(transport(&format!("listen = '0.0.0.0:7420'\n{files}")), ListenTransport::Tls(_)));
    let proxy = transport("listen = '0.0.0.0:7420'\nbehind_proxy = true\nproxy_peers = ['10.0.0.5']");
    assert!(
        matches!(proxy, ListenTransport::Proxy(peers) if peers == [std::net::IpAddr::from([10, 0, 0, 5])])
    );
    for (lines, line, problem) in [
        ("listen = '0.0.0.0:7420'", 2, "api.listen: tokens cross a network only over TLS"),
        ("listen = '7420'", 2, "api.listen: expected an address and a port"),
        ("listen = '0.0.0.0:1'\ncert_file = 'c'", 3, "api.cert_file: key_file is missing"),
        ("listen = '0.0.0.0:1'\nkey_file = 'k'", 3, "api.key_file: cert_file is missing"),
        ("key_file = 'k'", 2, "api.key_file: it needs api.listen"),
    ] {
        let error = listen(lines).map(drop).expect_err(lines).to_string();
        assert!(error.contains(problem) && error.contains(&format!("line {line}, ")), "{lines}: {error}");
    }
    let error = load("[api]\nlisten = '127.0.0.1:7420'\n", &[]).map(drop).expect_err("nobody could use it");
    assert!(error.to_string().contains("only operator keys are taken there"), "{error}");
}

#[test]
fn the_log_is_text_or_json() {
    let format =
        |text: &str, variables: &[(&str, &str)]| load(text, variables).map(|config| config.log_format);
    assert_eq!(format("", &[]).expect("is valid"), None);
    assert_eq!(format("[log]\nformat = 'json'\n", &[]).expect("is valid"), Some(LogFormat::Json));
    let variable = format("", &[("THREADKEY_LOG__FORMAT", "text")]);
    assert_eq!(variable.expect("is valid"), Some(LogFormat::Text));
    let error = format("[log]\nformat = 'xml'\n", &[]).expect_err("it is none").to_string();
    assert!(error.contains("line 2, ") && error.contains("log.format: write text or json"), "{error}");
}
