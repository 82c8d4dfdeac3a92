use std::time::Duration;

use tokio::{
    io::AsyncReadExt as _,
    net::TcpListener,
    time::{Instant, pause, resume},
};

use super::*;

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

fn through(proxy: Option<String>) -> Outward {
    Outward::new(Proxies::new(|name| proxy.clone().filter(|_| name == "ALL_PROXY"))).expect("TLS is there")
}

/// A PEM text with one authority, whose key is lost.
const AUTHORITY: &str = include_str!("tests/authority.pem");

/// Connects to a URL while `silent` accepts the connection and never answers. Returns the cause,
/// and asserts that it came after five seconds.
async fn cause_of_silence(outward: Outward, silent: TcpListener, url: &str) -> Unreachable {
    let url: Url = url.parse().expect("a URL");
    let trust = Trust::with_pem(AUTHORITY.as_bytes()).expect("an authority");
    let opening = tokio::spawn(async move { outward.open(&url, &trust).await.map(drop) });
    let (mut stream, _) = silent.accept().await.expect("it connects");
    let _ = stream.read_u8().await.expect("it begins");
    // From here only timers can run, and a paused clock jumps to the next one.
    pause();
    let since = Instant::now();
    let cause = opening.await.expect("it ends").expect_err("there was no answer");
    let elapsed = since.elapsed();
    resume();
    // A timer of tokio may be a millisecond late.
    assert!(elapsed < Duration::from_secs(6), "{elapsed:?}");
    cause
}

#[tokio::test]
async fn a_silent_proxy_is_the_cause_after_five_seconds() {
    for scheme in ["http", "socks5h"] {
        let (silent, address) = listen().await;
        let outward = through(Some(format!("{scheme}://{address}")));
        let cause = cause_of_silence(outward, silent, "https://id.example.test/").await;
        assert_eq!(cause.step(), "proxy");
        let begin = format!(
            "the proxy {address} (from ALL_PROXY) opened no connection to id.example.test:443 within 5 s"
        );
        assert!(cause.to_string().starts_with(&begin), "{cause}");
    }
}

#[tokio::test]
async fn a_silent_tls_server_is_the_cause_after_five_seconds() {
    let (silent, address) = listen().await;
    let cause = cause_of_silence(through(None), silent, &format!("https://{address}/")).await;
    assert_eq!(cause.step(), "tls");
    let begin = format!("{address} did not complete the TLS handshake within 5 s. Check");
    assert!(cause.to_string().starts_with(&begin), "{cause}");
}

#[tokio::test]
async fn a_second_address_is_used_when_the_first_one_refuses() {
    let refusing = listen().await.1.parse().expect("an address");
    let (_listener, address) = listen().await;
    let open = address.parse().expect("an address");
    let stream = connect::first_to_connect(&[refusing, open]).await.expect("the second one answers");
    assert_eq!(stream.peer_addr().expect("it is connected"), open);
    let refused = connect::first_to_connect(&[refusing]).await.expect_err("no other address");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(connect::first_to_connect(&[]).await.is_err());
}

#[test]
fn every_cause_has_one_of_the_stable_words() {
    let text = String::new;
    let proxy = Proxies::new(|_| Some("socks4://p".to_owned())).for_https().expect_err("refused");
    let no_authorities = NoAuthorities::System { problem: text() };
    for cause in [
        Unreachable::Name { host: text(), problem: text() },
        Unreachable::Connect { address: text(), problem: text() },
        Unreachable::Tls { address: text(), problem: text() },
        Unreachable::NoAuthorities { host: text(), cause: no_authorities },
        Unreachable::Proxy { proxy: text(), problem: text() },
        Unreachable::ProxyVariable(proxy),
    ] {
        assert!(Unreachable::STEPS.contains(&cause.step()), "{cause:?}");
    }
}
