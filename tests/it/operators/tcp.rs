//! The token API on TCP.

use std::{net::Ipv4Addr, time::Duration};

use rcgen::{CertificateParams, KeyPair};
use reqwest::{Certificate, StatusCode, header};
use serde_json::Value;
use threadkey::{
    api::{self, CertificateFiles, ListenError, ListenSettings, ListenTransport},
    sys::files::replace_private,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{ALL, rig};
use crate::api::{ALICE, Answer, Rig, assert_problem};

const PATH: &str = "/v1/token/acme?principal=user:804";

fn local(transport: ListenTransport) -> Option<ListenSettings> {
    Some(ListenSettings { listen: (Ipv4Addr::LOCALHOST, 0).into(), transport })
}

fn request(host: &str, more: &str, bearer: &str) -> String {
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\n{more}Authorization: Bearer {bearer}\r\nConnection: close\r\n\r\n"
    )
}

async fn connect(rig: &Rig) -> TcpStream {
    TcpStream::connect(rig.address.unwrap()).await.unwrap()
}

async fn ask(rig: &Rig, request: &str) -> Answer {
    Answer::read(connect(rig).await, request).await
}

#[tokio::test]
async fn a_key_is_taken_over_tcp_and_a_capability_is_not() {
    let rig = rig(local(ListenTransport::Local)).await;
    let answer = ask(&rig, &request("127.0.0.1:7420", "", ALL)).await;
    assert_eq!((answer.status, answer.body["principal"].as_str()), (200, Some("user:804")), "{answer:?}");
    let worker = rig.worker(1, ALICE, None);
    let path = "/v1/token/acme";
    assert_eq!(rig.get(path, Some(&worker)).await.status, 200, "it is live");
    for bearer in [worker.expose(), "guess"] {
        let refused = ask(&rig, &request("localhost", "", bearer).replace(PATH, path)).await;
        assert_problem(&refused, 401, "unauthorized");
        assert!(!refused.body.to_string().contains("capability"), "{refused:?}");
    }
}

#[tokio::test]
async fn readiness_shows_its_parts_on_tcp_only_to_a_key() {
    let rig = rig(local(ListenTransport::Local)).await;
    let ready = async |bearer: &str| {
        let mut stream = connect(&rig).await;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for stranger in ["", "Authorization: Bearer guess\r\n"] {
        let answer = ready(stranger).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nready\n"), "{answer}");
    }
    let answer = ready(&format!("Authorization: Bearer {ALL}\r\n")).await;
    assert!(answer.contains("store: ok") && answer.contains("gateway: none"), "{answer}");
}

#[tokio::test]
async fn a_page_in_a_browser_reaches_nothing_on_tcp() {
    let rig = rig(local(ListenTransport::Local)).await;
    let rebound = ask(&rig, &request("evil.example:7420", "", ALL)).await;
    assert_problem(&rebound, 421, "misdirected_request");
    for origin in ["https://evil.example", "null", "http://127.0.0.1:7420"] {
        let page = ask(&rig, &request("127.0.0.1", &format!("Origin: {origin}\r\n"), ALL)).await;
        assert_problem(&page, 403, "origin_refused");
    }
    let none = request("x", "", ALL).replace("Host: x\r\n", "");
    assert_problem(&ask(&rig, &none).await, 421, "misdirected_request");
}

#[tokio::test]
async fn with_a_certificate_the_api_speaks_tls_alone() {
    let folder = tempfile::tempdir().unwrap();
    let files =
        CertificateFiles { certificate: folder.path().join("c.pem"), key: folder.path().join("k.pem") };
    let settings = || local(ListenTransport::Tls(files.clone())).unwrap();
    let missing = api::bind_tcp(settings()).await.unwrap_err();
    assert!(matches!(&missing, ListenError::Certificate(_)), "{missing}");
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    replace_private(&files.certificate, certificate.pem().as_bytes()).unwrap();
    replace_private(&files.key, key.serialize_pem().as_bytes()).unwrap();
    let rig = rig(Some(settings())).await;
    let trusted = Certificate::from_der(certificate.der()).unwrap();
    let client = reqwest::Client::builder().no_proxy().add_root_certificate(trusted).build().unwrap();
    let url = format!("https://localhost:{}{PATH}", rig.address.unwrap().port());
    let asked = client.get(&url).header(header::AUTHORIZATION, format!("Bearer {ALL}"));
    let answer = asked.try_clone().unwrap().send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let page = asked.header(header::ORIGIN, "https://evil.example").send().await.unwrap();
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    let mut plain = connect(&rig).await;
    plain.write_all(request("localhost", "", ALL).as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(!String::from_utf8_lossy(&bytes).contains("HTTP/1"), "plain HTTP gets no answer");
}

#[tokio::test]
async fn behind_a_proxy_only_its_address_is_served() {
    let listed = rig(local(ListenTransport::Proxy(vec![Ipv4Addr::LOCALHOST.into()]))).await;
    let answer = ask(&listed, &request("api.example", "", ALL)).await;
    assert_eq!(answer.status, 200, "the proxy decides which names it serves: {answer:?}");
    let other = rig(local(ListenTransport::Proxy(vec![[192, 0, 2, 1].into()]))).await;
    let mut refused = connect(&other).await;
    let _ = refused.write_all(request("api.example", "", ALL).as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = refused.read_to_end(&mut bytes).await;
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
}

/// Sends a request on a kept connection, and returns its answer's status.
async fn kept(stream: &mut TcpStream) -> u16 {
    let request = request("localhost", "", ALL).replace("Connection: close\r\n", "");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && serde_json::from_str::<Value>(body).is_ok()
        {
            return head.split(' ').nth(1).unwrap().parse().unwrap();
        }
    }
}

#[tokio::test]
async fn strangers_on_tcp_keep_no_program_of_the_operator_out() {
    let rig = rig(local(ListenTransport::Local)).await;
    let mut honest = connect(&rig).await;
    assert_eq!(kept(&mut honest).await, 200);
    let endless = "POST /v1/token/acme/rejected?principal=user:803 HTTP/1.1\r\nHost: localhost\r\n";
    let endless = format!("{endless}Authorization: Bearer {ALL}\r\nContent-Length: 16000\r\n\r\nx");
    let attacks = ["", "GET /v1/tok", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", "\0\0\0", &endless];
    let mut held = Vec::new();
    for number in 0..700 {
        let mut stranger = connect(&rig).await;
        let _ = stranger.write_all(attacks[number % attacks.len()].as_bytes()).await;
        held.push(stranger);
        if number % 100 == 0 {
            assert_eq!(kept(&mut honest).await, 200, "a kept connection outlives {number} others");
            let new = timeout(Duration::from_secs(30), ask(&rig, &request("localhost", "", ALL))).await;
            assert_eq!(new.expect("it is served").status, 200);
        }
    }
    assert_eq!(rig.get("/healthz", None).await.status, 200, "the socket has places of its own");
    drop(held);
}

#[tokio::test]
async fn ten_thousand_connections_in_a_row_leave_nothing() {
    let rig = rig(local(ListenTransport::Local)).await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let before = descriptors();
    for number in 0..10_000 {
        let mut stranger = connect(&rig).await;
        if number % 2 == 0 {
            let _ = stranger.write_all(b"GET / HTTP/1.1\r\n").await;
        }
        drop(stranger);
    }
    let answer = ask(&rig, &request("localhost", "", ALL)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Other tests of this process have descriptors too.
    assert!(descriptors() < before + 2_000, "{before} to {}", descriptors());
}

#[tokio::test]
async fn a_shutdown_finishes_requests_on_tcp_and_refuses_new_connections() {
    let rig = rig(local(ListenTransport::Local)).await;
    rig.clock.advance(86_400);
    rig.server.hold();
    let request = request("localhost", "", ALL);
    let asked = ask(&rig, &request);
    let ending = async {
        rig.server.wait_for_held(1).await;
        rig.shutdown.cancel();
        rig.server.release();
    };
    let mut idle = connect(&rig).await;
    assert_eq!(ask_idle(&mut idle).await, 200);
    let (answer, ()) = tokio::join!(asked, ending);
    assert_eq!(answer.status, 200, "{answer:?}");
    let address = rig.address.unwrap();
    rig.served.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0, "a kept connection is closed");
}

async fn ask_idle(stream: &mut TcpStream) -> u16 {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
    }
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
}
