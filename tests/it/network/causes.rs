//! Each cause of a failed connection is named, and nothing is spent.

use super::{NAME, Office, PLACE};
use crate::{
    support::network::{Proxy, ProxyOptions},
    team::AN_HOUR,
};

/// An office with a session whose access token has expired. It signed in through a good proxy.
async fn expired() -> Office {
    let office = Office::new().await;
    let proxy = office.proxy(ProxyOptions::default()).await;
    office.sign_in(&[("HTTPS_PROXY", &format!("http://{}", proxy.address()))]).await;
    // The clock stands still, so that the pause after a failure is not over at the next call.
    office.home.set_time(now() + AN_HOUR);
    office
}

/// Returns the time in Unix seconds.
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    since.as_secs().try_into().expect("a time of this age")
}

/// Asserts that `token` and `doctor` name the cause, that the status has its word, and that the
/// session is unchanged.
async fn assert_named(office: &Office, variables: &[(&str, &str)], step: &str, cause: &str) {
    assert_named_with(5, office, variables, step, cause).await;
}

/// As [`assert_named`], with this exit code.
async fn assert_named_with(exit: i32, office: &Office, variables: &[(&str, &str)], step: &str, cause: &str) {
    let (sent, session) = (office.server.count(), session(office));
    let traced: Vec<_> = variables.iter().copied().chain([("THREADKEY_LOG", "trace")]).collect();
    let failed = office.run(&["token", "acme"], "", &traced).await;
    assert_eq!(failed.code, exit, "{failed:?}");
    assert!(failed.stderr.contains(&format!("({step}); the session is kept")), "{failed:?}");
    assert!(failed.stderr.lines().last().is_some_and(|last| last.contains(cause)), "{cause} in {failed:?}");
    let again = office.run(&["token", "acme"], "", &traced).await;
    assert!(again.stderr.contains(&format!("({step})")), "{again:?}");
    assert_eq!(again.code, exit, "{again:?}");
    assert!(again.stderr.contains("`threadkey doctor`"), "{again:?}");
    let doctor = office.run(&["doctor"], "", &traced).await;
    assert!(doctor.stdout.contains(cause), "{cause} in {doctor:?}");
    let all = format!("{failed:?}{again:?}{doctor:?}");
    assert!(!all.contains("s3cret"), "{all}");
    assert_eq!((office.server.count(), self::session(office)), (sent, session), "nothing is spent");
}

/// Returns the stored session without the record of its failures.
fn session(office: &Office) -> serde_json::Value {
    let stored: serde_json::Value = serde_json::from_str(&office.stored()).expect("JSON");
    let mut session = stored["sessions"]["acme/local"].clone();
    session.as_object_mut().expect("a session").remove("retry");
    session
}

/// Leads the provider's name to a server with another certificate.
async fn assert_certificate_named(identity: crate::support::network::Identity, office: &Office, cause: &str) {
    let server = super::address(&office.server.token_endpoint());
    let tls = crate::support::network::with_tls(identity, server).await;
    let proxy = Proxy::start(ProxyOptions::default(), &[(PLACE, tls)]).await;
    let variable = format!("http://{}", proxy.address());
    assert_named(office, &[("HTTPS_PROXY", &variable)], "tls", cause).await;
}

#[tokio::test]
async fn an_expired_certificate_is_named_and_nothing_is_spent() {
    let office = expired().await;
    let cause = "the certificate of id.example.test has expired. Its operator must renew it";
    assert_certificate_named(office.authority.issue_expired(&[NAME]), &office, cause).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_named_and_nothing_is_spent() {
    let office = expired().await;
    let cause = "the certificate of id.example.test is for another name (other.example.test)";
    assert_certificate_named(office.authority.issue(&["other.example.test"]), &office, cause).await;
}

#[tokio::test]
async fn a_certificate_with_an_unknown_issuer_is_named_and_nothing_is_spent() {
    let office = expired().await;
    let another = crate::support::network::Authority::new();
    let cause =
        "the certificate of id.example.test has an unknown issuer. If it comes from a company's own CA";
    assert_certificate_named(another.issue(&[NAME]), &office, cause).await;
}

#[tokio::test]
async fn a_host_that_serves_no_tls_is_named_and_nothing_is_spent() {
    let office = expired().await;
    let server = super::address(&office.server.token_endpoint());
    let proxy = Proxy::start(ProxyOptions::default(), &[(PLACE, server)]).await;
    let variable = format!("http://{}", proxy.address());
    let cause = "id.example.test does not answer in TLS";
    assert_named(&office, &[("HTTPS_PROXY", &variable)], "tls", cause).await;
}

#[tokio::test]
async fn a_407_of_the_proxy_is_named_without_its_password_and_nothing_is_spent() {
    let office = expired().await;
    let credentials = Some(("alice", "right"));
    let proxy = office.proxy(ProxyOptions { credentials, ..ProxyOptions::default() }).await;
    let address = proxy.address();
    let wrong = format!("http://alice:s3cret@{address}");
    let cause = format!(
        "the proxy {address} (from HTTPS_PROXY) answered 407: it does not accept the user name and password"
    );
    assert_named(&office, &[("HTTPS_PROXY", &wrong)], "proxy", &cause).await;
    let none = format!("http://{address}");
    let cause = "answered 407: it needs a user name and a password";
    let doctor = office.run(&["doctor"], "", &[("HTTPS_PROXY", &none)]).await;
    assert!(doctor.stdout.contains(cause), "{doctor:?}");
}

#[tokio::test]
async fn a_refusal_of_the_proxy_is_named_by_its_status_and_nothing_is_spent() {
    let office = expired().await;
    let proxy = office.proxy(ProxyOptions { refusal: Some(403), ..ProxyOptions::default() }).await;
    let variable = format!("http://{}", proxy.address());
    let cause = format!(
        "the proxy {} (from ALL_PROXY) answered 403: it refuses a connection to id.example.test:443",
        proxy.address()
    );
    assert_named(&office, &[("ALL_PROXY", &variable)], "proxy", &cause).await;
}

#[tokio::test]
async fn refused_credentials_of_a_socks_proxy_are_named_and_nothing_is_spent() {
    let office = expired().await;
    let credentials = Some(("alice", "right"));
    let proxy = office.proxy(ProxyOptions { socks: true, credentials, ..ProxyOptions::default() }).await;
    let address = proxy.address();
    let wrong = format!("socks5h://alice:s3cret@{address}");
    let cause = format!("the proxy {address} (from ALL_PROXY) does not accept the user name and password");
    assert_named(&office, &[("ALL_PROXY", &wrong)], "proxy", &cause).await;
    let doctor = office.run(&["doctor"], "", &[("ALL_PROXY", &format!("socks5h://{address}"))]).await;
    assert!(doctor.stdout.contains("needs a user name and a password"), "{doctor:?}");
}

#[tokio::test]
async fn a_socks_proxy_that_cannot_reach_the_host_is_named_and_nothing_is_spent() {
    let office = expired().await;
    let proxy = Proxy::start(ProxyOptions { socks: true, ..ProxyOptions::default() }, &[]).await;
    let address = proxy.address();
    let cause = format!("the proxy {address} (from ALL_PROXY) cannot reach id.example.test:443");
    assert_named(&office, &[("ALL_PROXY", &format!("socks5h://{address}"))], "proxy", &cause).await;
}

#[tokio::test]
async fn a_proxy_that_is_down_is_named_and_nothing_is_spent() {
    let office = expired().await;
    let cause = "the proxy 127.0.0.1:1 (from HTTPS_PROXY) cannot be reached: Connection refused";
    assert_named(&office, &[("HTTPS_PROXY", "http://alice:s3cret@127.0.0.1:1")], "proxy", cause).await;
}

#[tokio::test]
async fn a_sign_in_that_cannot_reach_its_provider_names_the_cause_and_stays_open() {
    let office = Office::new().await;
    for (proxy, exit, cause) in [
        ("http://alice:s3cret@127.0.0.1:1", 5, "the proxy 127.0.0.1:1 (from HTTPS_PROXY) cannot be reached"),
        ("ftp://alice:s3cret@p:1", 2, "HTTPS_PROXY is not the address of a proxy: its scheme is unknown"),
    ] {
        let variables = [("HTTPS_PROXY", proxy)];
        let started = office.run(&["auth", "start", "acme"], "", &variables).await;
        let url: url::Url = started.stdout.trim().parse().expect("a link");
        let (_, state) = url.query_pairs().find(|(name, _)| name == "state").expect("a state");
        let failed = office.run(&["auth", "code", "acme"], &format!("code#{state}"), &variables).await;
        assert_eq!(failed.code, exit, "{failed:?}");
        assert!(failed.stderr.lines().last().is_some_and(|last| last.contains(cause)), "{failed:?}");
        assert!(failed.stderr.contains("the sign-in is still open"), "{failed:?}");
        assert!(!format!("{failed:?}").contains("s3cret"), "{failed:?}");
    }
    assert_eq!(office.server.count(), 0, "nothing is spent");
}

#[tokio::test]
async fn a_server_that_is_no_proxy_is_named_and_nothing_is_spent() {
    let office = expired().await;
    // The TLS server hangs up on a request in plain text.
    let variable = format!("http://{}", office.tls);
    let cause = format!("the proxy {} (from HTTPS_PROXY) does not answer as an HTTP proxy does", office.tls);
    assert_named(&office, &[("HTTPS_PROXY", &variable)], "proxy", &cause).await;
}

#[tokio::test]
async fn a_variable_that_names_no_proxy_is_reported_and_nothing_is_spent() {
    let office = expired().await;
    let cause = "HTTPS_PROXY is not the address of a proxy: threadkey speaks version 5 of SOCKS alone";
    // Only the operator can mend it.
    assert_named_with(2, &office, &[("HTTPS_PROXY", "socks4://alice:s3cret@p:1")], "proxy", cause).await;
    let doctor = office.run(&["doctor"], "", &[("HTTPS_PROXY", "socks4://p:1")]).await;
    assert_eq!(doctor.code, 2, "only the operator can mend it: {doctor:?}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named_and_nothing_is_spent() {
    let office = expired().await;
    // A SOCKS proxy of the first kind leaves the name to this machine.
    let proxy = office.proxy(ProxyOptions { socks: true, ..ProxyOptions::default() }).await;
    let cause = "the name id.example.test cannot be resolved (";
    assert_named(&office, &[("ALL_PROXY", &format!("socks5://{}", proxy.address()))], "dns", cause).await;
    assert_eq!(proxy.seen(), [""; 0]);
}

#[tokio::test]
async fn a_system_without_certificates_is_reported_and_a_ca_file_suffices() {
    let office = expired().await;
    let proxy = office.proxy(ProxyOptions::default()).await;
    let variable = format!("http://{}", proxy.address());
    let nothing = [("HTTPS_PROXY", variable.as_str()), ("SSL_CERT_FILE", "/nonexistent/ca.pem")];
    let with_ca_file = office.run(&["token", "acme"], "", &nothing).await;
    assert_eq!(with_ca_file.code, 0, "{with_ca_file:?}");
    office.home.set_time(now() + 3 * AN_HOUR);
    let config = std::fs::read_to_string(office.home.path().join("threadkey.toml")).expect("there");
    office.home.configure(&config.replace("ca_file = \"ca.pem\"\n", ""));
    let cause = "the certificate of id.example.test cannot be checked, because SSL_CERT_FILE names no usable certificate (";
    assert_named(&office, &nothing, "tls", cause).await;
    let doctor = office.run(&["doctor"], "", &nothing).await;
    assert_eq!(doctor.code, 2, "{doctor:?}");
}
