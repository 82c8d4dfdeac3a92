//! The connections of the pages: certificates, names, proxies, and answers of other servers.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use reqwest::{Certificate, Method, StatusCode, header};
use threadkey::{
    api::{self, CertificateFiles, PagesError, PublicSettings, Transport},
    broker::PublicUrl,
    sys::files::replace_private,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Pages, send};
use crate::{discord_rig::Plan, support::browser};

/// A certificate for localhost, and its key.
struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Pair {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        Self { certificate: params.self_signed(&key).expect("a certificate"), key }
    }

    fn write_certificate(&self, folder: &Path) {
        replace_private(&folder.join("cert.pem"), self.certificate.pem().as_bytes()).expect("a file");
    }

    fn write_key(&self, folder: &Path) {
        replace_private(&folder.join("key.pem"), self.key.serialize_pem().as_bytes()).expect("a file");
    }

    /// A client that trusts this certificate alone.
    fn client(&self) -> reqwest::Client {
        let certificate = Certificate::from_der(self.certificate.der()).expect("a certificate");
        let client = reqwest::Client::builder().no_proxy().add_root_certificate(certificate);
        client.build().expect("a client")
    }

    async fn is_served(&self, url: &str) -> bool {
        self.client().get(url).send().await.is_ok()
    }

    /// Returns once the pages have this certificate.
    async fn comes_into_use(&self, url: &str) {
        let served = async { while !self.is_served(url).await {} };
        tokio::time::timeout(Duration::from_secs(30), served).await.expect("the certificate is in use");
    }
}

fn files(folder: &Path) -> CertificateFiles {
    CertificateFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") }
}

async fn over_tls(folder: &Path) -> (Pages, Pair) {
    let pair = Pair::new();
    pair.write_certificate(folder);
    pair.write_key(folder);
    let pages = Pages::served(Plan::default(), "https://localhost", Transport::Tls(files(folder))).await;
    (pages, pair)
}

#[tokio::test]
async fn a_certificate_that_is_replaced_comes_into_use_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pages, first) = over_tls(folder.path()).await;
    let (_, link) = pages.link().await;
    assert!(first.is_served(&link).await);
    let second = Pair::new();
    second.write_certificate(folder.path());
    assert!(first.is_served(&link).await, "a certificate without its key is not used");
    second.write_key(folder.path());
    second.comes_into_use(&link).await;
    assert!(!first.is_served(&link).await);
    replace_private(&folder.path().join("key.pem"), b"no key").expect("a file");
    let third = Pair::new();
    third.write_certificate(folder.path());
    assert!(second.is_served(&link).await, "a damaged pair takes nothing away");
    third.write_key(folder.path());
    third.comes_into_use(&link).await;
}

#[tokio::test]
async fn an_unusable_certificate_is_reported_with_its_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = async || {
        let settings = PublicSettings {
            url: PublicUrl::parse("https://localhost").expect("an address"),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            transport: Transport::Tls(files(folder.path())),
            client_document: None,
        };
        let error = api::bind_pages(settings).await.expect_err("is unusable");
        assert!(matches!(error, PagesError::Certificate(_)), "{error}");
        error.to_string()
    };
    let missing = error().await;
    assert!(missing.contains("key.pem cannot be read"), "{missing}");
    let (one, other) = (Pair::new(), Pair::new());
    one.write_certificate(folder.path());
    replace_private(&folder.path().join("key.pem"), b"no key").expect("a file");
    let damaged = error().await;
    assert!(damaged.contains("key.pem: "), "{damaged}");
    other.write_key(folder.path());
    let foreign = error().await;
    assert!(foreign.contains("cert.pem: "), "{foreign}");
}

#[tokio::test]
async fn a_request_for_another_host_is_misdirected_and_opens_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pages, pair) = over_tls(folder.path()).await;
    let (_, link) = pages.link().await;
    for method in [Method::GET, Method::POST] {
        for host in ["evil.example", "localhost", "localhost.evil.example:1", ""] {
            let request = pair.client().request(method.clone(), &link).header(header::HOST, host);
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST, "{host:?}");
            assert!(!answer.headers().contains_key("set-cookie"));
        }
    }
    let answer = pair.client().get(&link).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn plain_http_at_the_port_of_tls_gets_no_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pages, _) = over_tls(folder.path()).await;
    let (_, link) = pages.link().await;
    let answer = answer_of(&pages, &link, "").await;
    assert!(!answer.contains("HTTP/1") && !answer.contains("<html"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_is_not_from_a_listed_proxy_is_closed_unanswered() {
    let elsewhere = Transport::Proxy(vec!["192.0.2.1".parse().expect("an address")]);
    let pages = Pages::served(Plan::default(), "http://127.0.0.1", elsewhere).await;
    let (_, link) = pages.link().await;
    for header in ["", "x-forwarded-for: 192.0.2.1\r\n", "forwarded: for=192.0.2.1\r\n"] {
        assert_eq!(answer_of(&pages, &link, header).await, "", "{header}");
    }
}

/// The whole answer to a plain request for this link; empty if there is none.
async fn answer_of(pages: &Pages, link: &str, header: &str) -> String {
    let path = url::Url::parse(link).expect("a link").path().to_owned();
    let mut stream = TcpStream::connect(pages.address).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{header}\r\n", pages.address);
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    // A connection with unread bytes may be reset.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_code_of_another_issuer_is_not_sent_and_ends_the_sign_in() {
    let pages = Pages::start().await;
    let (reply, link) = pages.link().await;
    let (cookie, location) = pages.open(&link).await;
    let callback = browser::sign_in(&location, "alice").await;
    let mut forged = url::Url::parse(&callback.url).expect("an address");
    let pairs: Vec<_> = forged.query_pairs().into_owned().filter(|(name, _)| name != "iss").collect();
    forged.query_pairs_mut().clear().extend_pairs(pairs).append_pair("iss", "https://evil.example");
    let page = send(Method::GET, forged.as_str(), Some(&cookie)).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.text.contains("wrong_issuer") && !page.text.contains("evil.example"), "{}", page.text);
    assert_eq!(pages.rig.server.count(), 0, "no code was sent");
    reply.says("the answer did not come from `acme`").await;
    let late = send(Method::GET, &callback.url, Some(&cookie)).await;
    assert_eq!(late.status, StatusCode::NOT_FOUND, "the sign-in is over");
}
