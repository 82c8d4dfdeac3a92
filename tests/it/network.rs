//! Ways out that are not straight: a company's own CA, and proxies. The servers and the proxies are
//! on loopback; the proxies alone know the names.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

mod causes;
mod gateway;

use std::net::SocketAddr;

use crate::{
    support::{
        authserver::{self, AuthServer, Lifetimes},
        browser,
        network::{Authority, Identity, Proxy, ProxyOptions, with_tls},
        program::{Ended, Home},
    },
    team::AN_HOUR,
};

/// The name of the provider, which only the proxies resolve.
const NAME: &str = "id.example.test";

/// The place of the provider's token endpoint.
const PLACE: &str = "id.example.test:443";

/// A provider on loopback with TLS in front of its token endpoint, and a program that knows its
/// name.
struct Office {
    authority: Authority,
    server: AuthServer,
    /// The address behind the name.
    tls: SocketAddr,
    home: Home,
}

impl Office {
    async fn new() -> Self {
        Self::with(NAME, |authority| authority.issue(&[NAME])).await
    }

    /// The provider has this host and this certificate.
    async fn with(host: &str, identity: impl FnOnce(&Authority) -> Identity) -> Self {
        let authority = Authority::new();
        let server = AuthServer::start(authserver::Options::default()).await;
        server.set_lifetimes(Lifetimes {
            access_token: std::time::Duration::from_secs(3600),
            ..Lifetimes::default()
        });
        let plain = address(&server.token_endpoint());
        let tls = with_tls(identity(&authority), plain).await;
        let https = server.token_endpoint().replace(&format!("http://{plain}"), &format!("https://{host}"));
        let config = server.config_toml("acme").replace(&server.token_endpoint(), &https);
        let home = Home::new(&format!("{config}ca_file = \"ca.pem\"\n"));
        std::fs::write(home.path().join("ca.pem"), authority.pem()).expect("a file");
        Self { authority, server, tls, home }
    }

    /// Starts a proxy that leads to the provider.
    async fn proxy(&self, options: ProxyOptions) -> Proxy {
        Proxy::start(options, &[(PLACE, self.tls), ("192.0.2.7:443", self.tls)]).await
    }

    /// Runs the program with these variables.
    async fn run(&self, arguments: &[&str], input: &str, variables: &[(&str, &str)]) -> Ended {
        self.home.run_in(arguments, input, variables).await
    }

    async fn sign_in(&self, variables: &[(&str, &str)]) {
        let started = self.run(&["auth", "start", "acme", "--json"], "", variables).await;
        let started: serde_json::Value = serde_json::from_str(&started.stdout).expect("JSON");
        let callback = browser::sign_in(started["authorize_url"].as_str().expect("a link"), "alice").await;
        let done = self.run(&["auth", "code", "acme"], &callback.url, variables).await;
        assert_eq!(done.code, 0, "{done:?}");
    }

    fn stored(&self) -> String {
        std::fs::read_to_string(self.home.store()).expect("a store")
    }
}

/// The socket address in a URL.
fn address(url: &str) -> SocketAddr {
    let place = url.split("//").nth(1).and_then(|rest| rest.split('/').next()).expect("a URL");
    place.parse().expect("an address")
}

/// Signs in and refreshes with this proxy, and asserts that both went through it.
async fn assert_a_session_lives_through(office: &Office, proxy: &Proxy, variable: (&str, &str), place: &str) {
    office.sign_in(&[variable]).await;
    let first = office.run(&["token", "acme"], "", &[variable]).await;
    office.home.set_offset(AN_HOUR);
    let second = office.run(&["token", "acme"], "", &[variable]).await;
    assert_eq!((first.code, second.code), (0, 0), "{first:?} {second:?}");
    assert_ne!(first.stdout, second.stdout, "it was refreshed");
    assert_eq!(proxy.seen(), [place, place], "the exchange and the refresh");
    assert_eq!(office.server.count(), 2);
}

#[tokio::test]
async fn sign_in_and_refresh_go_through_an_http_proxy_with_credentials_to_an_own_ca() {
    let office = Office::new().await;
    let options = ProxyOptions { credentials: Some(("alice", "s3:cret")), ..ProxyOptions::default() };
    let proxy = office.proxy(options).await;
    let variable = format!("http://alice:s3%3Acret@{}", proxy.address());
    assert_a_session_lives_through(&office, &proxy, ("HTTPS_PROXY", &variable), PLACE).await;
}

#[tokio::test]
async fn sign_in_and_refresh_go_through_a_proxy_behind_tls() {
    let office = Office::new().await;
    let identity = Some(office.authority.issue(&["127.0.0.1"]));
    let proxy = office.proxy(ProxyOptions { identity, ..ProxyOptions::default() }).await;
    let variable = format!("https://{}", proxy.address());
    assert_a_session_lives_through(&office, &proxy, ("https_proxy", &variable), PLACE).await;
}

#[tokio::test]
async fn sign_in_and_refresh_go_through_a_socks_proxy_that_resolves_the_name() {
    let office = Office::new().await;
    let proxy = office.proxy(ProxyOptions { socks: true, ..ProxyOptions::default() }).await;
    let variable = format!("socks5h://{}", proxy.address());
    assert_a_session_lives_through(&office, &proxy, ("ALL_PROXY", &variable), PLACE).await;
}

#[tokio::test]
async fn sign_in_and_refresh_go_through_a_socks_proxy_with_credentials_and_an_address() {
    let office = Office::with("192.0.2.7", |authority| authority.issue(&["192.0.2.7"])).await;
    let credentials = Some(("alice", "s3cret"));
    let proxy = office.proxy(ProxyOptions { socks: true, credentials, ..ProxyOptions::default() }).await;
    let variable = format!("socks5://alice:s3cret@{}", proxy.address());
    assert_a_session_lives_through(&office, &proxy, ("all_proxy", &variable), "192.0.2.7:443").await;
}

#[tokio::test]
async fn ssl_cert_file_is_the_system_store_also_by_a_relative_path_in_a_detached_refresh() {
    let office = Office::new().await;
    let config = std::fs::read_to_string(office.home.path().join("threadkey.toml")).expect("there");
    office.home.configure(&config.replace("ca_file = \"ca.pem\"\n", ""));
    let proxy = office.proxy(ProxyOptions::default()).await;
    let proxy_variable = ("HTTPS_PROXY", &*format!("http://{}", proxy.address()));
    let trusting = [proxy_variable, ("SSL_CERT_FILE", "ca.pem")];
    office.sign_in(&trusting).await;
    office.home.set_offset(AN_HOUR);
    let unknown = office.run(&["token", "acme"], "", &[proxy_variable]).await;
    assert_eq!(unknown.code, 5, "{unknown:?}");
    assert!(
        unknown.stderr.contains("the certificate of id.example.test has an unknown issuer"),
        "{unknown:?}"
    );
    office.home.set_offset(AN_HOUR + 60);
    let trusted = office.run(&["token", "acme"], "", &trusting).await;
    assert_eq!(trusted.code, 0, "{trusted:?}");
}

#[tokio::test]
async fn a_name_in_no_proxy_is_reached_directly() {
    let office = Office::new().await;
    let proxy = office.proxy(ProxyOptions::default()).await;
    let variable = format!("http://{}", proxy.address());
    let variables = [("HTTPS_PROXY", variable.as_str()), ("NO_PROXY", ".example.test")];
    let doctor = office.run(&["doctor"], "", &variables).await;
    assert!(doctor.stdout.contains("the name id.example.test cannot be resolved"), "{doctor:?}");
    assert_eq!(proxy.seen(), [""; 0]);
}

#[tokio::test]
async fn an_unusable_ca_file_is_an_error_with_its_line_and_a_way_to_mend_it() {
    let office = Office::new().await;
    let path = office.home.path().join("ca.pem");
    let pem = office.authority.pem();
    let damaged = pem.replacen("MII", "AAA", 1);
    let cases: [(Option<&[u8]>, &str); 5] = [
        (None, "cannot be read: No such file or directory (os error 2). Correct the path"),
        (Some(b""), "contains no certificate in PEM form"),
        (Some(b"not a certificate"), "contains no certificate in PEM form"),
        (Some(&office.authority.der()), "openssl x509 -inform der"),
        (Some(damaged.as_bytes()), "is damaged: its certificate number 1 cannot be read"),
    ];
    let config = std::fs::read_to_string(office.home.path().join("threadkey.toml")).expect("there");
    let line = config.lines().position(|line| line.starts_with("ca_file")).expect("it is set") + 1;
    for (content, words) in cases {
        match content {
            Some(content) => std::fs::write(&path, content).expect("a file"),
            None => std::fs::remove_file(&path).expect("it was there"),
        }
        let ended = office.run(&["auth", "status"], "", &[]).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        let place = format!("threadkey.toml, line {line}, column 1: the file {}, which", path.display());
        assert!(ended.stderr.contains(&place), "{place} in {ended:?}");
        assert!(ended.stderr.contains("which providers.acme.ca_file names, "), "{ended:?}");
        assert!(ended.stderr.contains(words), "{words} in {ended:?}");
    }
    office.home.configure("[discord]\ntoken_env = \"T\"\nca_file = \"nowhere.pem\"\n");
    let ended = office.run(&["auth", "status"], "", &[]).await;
    assert!(ended.stderr.contains("line 3, column 1: the file"), "{ended:?}");
    assert!(ended.stderr.contains("which discord.ca_file names, cannot be read"), "{ended:?}");
}
