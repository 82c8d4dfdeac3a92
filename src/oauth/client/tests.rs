use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{
    net::Proxies,
    oauth::{
        ProviderSettings,
        provider::tests::{provider, settings},
        request::tests::credentials,
    },
    secret::{AccessToken, RefreshToken, Secret},
    session::Locked,
    session::test_session,
};

mod reach;

const NOW: i64 = 1_795_358_672;

pub(in crate::oauth) fn client() -> Client {
    Client::new(Clock::fixed(NOW)).expect("TLS is there")
}

pub(in crate::oauth) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("it is bound"));
    (listener, base)
}

/// Returns an address that refuses every connection.
async fn address_without_a_listener() -> String {
    listen().await.1
}

/// Returns the proof that a refresh was recorded.
pub(in crate::oauth) fn intended() -> Intended {
    Intended::for_tests()
}

pub(in crate::oauth) fn refresh_at(base: &str) -> TokenRequest {
    let mut settings = settings();
    settings.token_endpoint = format!("{base}/token?query=s3cr3t");
    settings.client_secret = Some(Secret::new("s3cr3t").into());
    let provider = provider(settings);
    let mut session = test_session(NOW, 3600);
    session.binding = provider.binding();
    session.refresh_token = Some(RefreshToken::new("s3cr3t"));
    let credentials = credentials(&provider);
    provider.refresh(&Locked::for_tests(session), &credentials).expect("bound").expect("has a token")
}

/// Reads one request, headers and body.
pub(in crate::oauth) async fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        let read = stream.read_buf(&mut text).await.expect("the client sends");
        let seen = String::from_utf8_lossy(&text).to_lowercase();
        let Some((head, body)) = seen.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) || read == 0 {
            return String::from_utf8(text).expect("ASCII");
        }
    }
}

/// Serves one connection: reads the request, sends `answer` and hangs up. Returns the request, and
/// the number of connections that wait by then.
fn serve(listener: TcpListener, answer: Vec<u8>) -> JoinHandle<(String, usize)> {
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        let seen = request(&mut stream).await;
        // A client that has read enough may hang up first.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        let mut more = 0;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        while let Ok(Ok(_)) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
            more += 1;
        }
        (seen, more)
    })
}

pub(in crate::oauth) fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

pub(in crate::oauth) async fn sent(answer: Vec<u8>) -> (Attempt, String) {
    let (listener, base) = listen().await;
    let server = serve(listener, answer);
    let sent = client().send(refresh_at(&base), intended()).await;
    let (seen, more) = server.await.expect("the server ends");
    assert_eq!(more, 0, "one connection, one attempt");
    (sent, seen)
}

#[tokio::test]
async fn an_answer_is_returned_whole_and_unread() {
    let body = r#"{"error":"slow_down"}"#;
    let (sent, seen) = sent(http("429 Too Many Requests", "retry-after: 17\r\n", body)).await;
    let Attempt::Answered(answer) = &sent else { panic!("{sent:?}") };
    let answer = answer.for_tests();
    assert_eq!((answer.status, answer.at), (429, NOW));
    assert_eq!(answer.retry_after.as_deref(), Some("17"));
    assert_eq!(answer.body.as_slice(), body.as_bytes());
    assert!(seen.starts_with("POST /token?query=s3cr3t HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(concat!("user-agent: threadkey/", env!("CARGO_PKG_VERSION"), "\r\n")), "{seen}");
    assert!(seen.ends_with("grant_type=refresh_token&refresh_token=s3cr3t"), "{seen}");
}

#[tokio::test]
async fn no_redirect_is_followed() {
    // A client that follows the redirect finds this address closed.
    let target = address_without_a_listener().await;
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let (sent, _) = sent(http(status, &format!("location: {target}/token\r\n"), "")).await;
        let Attempt::Answered(answer) = &sent else { panic!("{sent:?}") };
        let answer = answer.for_tests();
        assert_eq!(answer.status.to_string(), status[..3]);
    }
}

#[tokio::test]
async fn each_request_has_a_connection_of_its_own() {
    let (listener, base) = listen().await;
    let server = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.expect("the client connects");
        request(&mut first).await;
        first.write_all(&http("200 OK", "", "{}")).await.expect("the client reads");
        // This side does not hang up.
        let mut byte = [0; 1];
        assert!(matches!(first.read(&mut byte).await, Ok(0) | Err(_)), "a second request on the connection");
        let (mut second, _) = listener.accept().await.expect("the client connects anew");
        request(&mut second).await;
        second.write_all(&http("200 OK", "", "{}")).await.expect("the client reads");
    });
    let client = client();
    for _ in 0..2 {
        let sent = client.send(refresh_at(&base), intended()).await;
        assert!(matches!(sent, Attempt::Answered(_)), "{sent:?}");
    }
    server.await.expect("each request came on a connection of its own");
}

#[tokio::test]
async fn without_a_whole_head_a_request_is_unanswered() {
    for half in [&b"HTTP/1.1 200"[..], b"HTTP/1.1 200 OK\r\ncontent-len", b"this is not HTTP\r\n\r\n", b""] {
        let (sent, _) = sent(half.to_vec()).await;
        let shown = String::from_utf8_lossy(half);
        assert!(matches!(sent, Attempt::Unanswered("reset")), "{sent:?} for {shown:?}");
    }
}

#[tokio::test]
async fn a_reset_after_the_request_is_unanswered() {
    let (listener, base) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        request(&mut stream).await;
        // Zero linger: closing sends RST instead of FIN.
        reset_on_close(&stream);
    });
    let sent = client().send(refresh_at(&base), intended()).await;
    server.await.expect("the server ends");
    assert!(matches!(sent, Attempt::Unanswered("reset")), "{sent:?}");
}

#[expect(deprecated, reason = "with a linger of zero closing does not block")]
fn reset_on_close(stream: &TcpStream) {
    stream.set_linger(Some(Duration::ZERO)).expect("an option of every TCP socket");
}

#[tokio::test]
async fn a_request_without_an_answer_ends_after_three_minutes_as_unanswered() {
    let (listener, base) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        request(&mut stream).await;
        // From here only timers can run, and a paused clock jumps to the next one.
        tokio::time::pause();
        let since = tokio::time::Instant::now();
        let _ = stream.read(&mut [0; 1]).await;
        since.elapsed()
    });
    let sent = client().send(refresh_at(&base), intended()).await;
    assert!(matches!(sent, Attempt::Unanswered("timeout")), "{sent:?}");
    assert!(server.await.expect("the server ends") >= Duration::from_secs(180));
}

#[tokio::test]
async fn an_answer_after_170_seconds_is_still_accepted() {
    let (listener, base) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        request(&mut stream).await;
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(170)).await;
        tokio::time::resume();
        stream.write_all(&http("200 OK", "", "{}")).await.expect("the client reads");
    });
    let sent = client().send(refresh_at(&base), intended()).await;
    assert!(matches!(sent, Attempt::Answered(_)), "{sent:?}");
    server.await.expect("the server ends");
}

#[tokio::test]
async fn a_refused_connection_has_sent_nothing() {
    let sent = client().send(refresh_at(&address_without_a_listener().await), intended()).await;
    assert!(matches!(sent, Attempt::NotSent("connect")), "{sent:?}");
}

#[tokio::test]
async fn a_failed_tls_handshake_has_sent_nothing() {
    let (listener, base) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        let mut hello = [0; 16];
        let read = stream.read(&mut hello).await.expect("the client says hello");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        hello[..read].to_vec()
    });
    let sent = client().send(refresh_at(&base.replace("http:", "https:")), intended()).await;
    assert!(matches!(sent, Attempt::NotSent("tls")), "{sent:?}");
    assert_eq!(server.await.expect("the server ends")[0], 22, "a TLS handshake record, not a request");
}

#[tokio::test]
async fn a_request_to_loopback_uses_no_proxy() {
    let proxy = address_without_a_listener().await;
    let proxies = Proxies::new(|name| (name == "ALL_PROXY").then(|| proxy.clone()));
    let client = Client::through(Outward::new(proxies).expect("TLS is there"), Clock::fixed(NOW));
    for host in ["127.0.0.1", "localhost"] {
        let (listener, base) = listen().await;
        let server = serve(listener, http("200 OK", "", "{}"));
        let sent = client.send(refresh_at(&base.replace("127.0.0.1", host)), intended()).await;
        assert!(matches!(sent, Attempt::Answered(_)), "{host}: {sent:?}");
        server.await.expect("the server ends");
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_has_sent_nothing() {
    // The resolver itself refuses a label of 64 letters, without a query to the network. The URL is
    // http, because TLS would refuse the name first.
    let url = format!("http://{}.invalid/token", "x".repeat(64));
    let request = http::Request::post(url).body(Vec::new()).expect("a request");
    let outward = Outward::new(Proxies::new(|_| None)).expect("TLS is there");
    let client = Client::through(outward, Clock::fixed(NOW));
    let sent = client.send(TokenRequest(request), intended()).await;
    assert!(matches!(sent, Attempt::NotSent("dns")), "{sent:?}");
}

async fn account(status: &str, body: &str) -> (Option<String>, String) {
    let (listener, base) = listen().await;
    let server = serve(listener, http(status, "", body));
    let mut settings = settings();
    settings.userinfo_endpoint = Some(format!("{base}/userinfo"));
    let answer = client().userinfo(userinfo(settings, "the-token")).await;
    let name = match answer {
        Userinfo::Account(account) => Some(account.name),
        Userinfo::Refused | Userinfo::Unknown => None,
    };
    (name, server.await.expect("the server ends").0)
}

#[tokio::test]
async fn a_vendors_identifier_is_a_text_or_a_whole_number_at_its_place() {
    let long = format!(r#"{{"id":"{}","name":"x"}}"#, "9".repeat(256));
    for (claim, body, subject, name) in [
        (None, r#"{"sub":"17","name":"Alice"}"#, Some("17"), "Alice"),
        (None, r#"{"id":5,"name":"Alice"}"#, None, "Alice"),
        (Some("id"), r#"{"id":583231,"login":"octocat","name":null}"#, Some("583231"), "octocat"),
        (Some("id"), r#"{"id":12345678901234567890,"name":"x"}"#, Some("12345678901234567890"), "x"),
        (Some("id"), r#"{"id":"803","username":"alice"}"#, Some("803"), "alice"),
        (Some("data.id"), r#"{"data":{"id":"7"},"sub":"8"}"#, Some("7"), "8"),
        (Some("id"), r#"{"id":"803"}"#, Some("803"), "803"),
        (Some("id"), r#"{"id":1.5,"name":"x"}"#, None, "x"),
        (Some("id"), r#"{"id":0,"name":"x"}"#, None, "x"),
        (Some("id"), r#"{"id":{"a":1},"sub":"x"}"#, None, "x"),
        (Some("id"), &long, None, "x"),
    ] {
        let (listener, base) = listen().await;
        let server = serve(listener, http("200 OK", "", body));
        let settings = ProviderSettings {
            userinfo_endpoint: Some(base),
            account_id_claim: claim.map(str::to_owned),
            ..settings()
        };
        let answer = client().userinfo(userinfo(settings, "x")).await;
        let Userinfo::Account(account) = answer else { panic!("{body}: {answer:?}") };
        assert_eq!((account.subject.as_deref(), account.name.as_str()), (subject, name), "{claim:?} {body}");
        server.await.expect("the server ends");
    }
}

#[tokio::test]
async fn the_userinfo_endpoint_names_the_account() {
    let (told, seen) =
        account("200 OK", r#"{"sub":"17","email":"alice@example.com","email_verified":true}"#).await;
    assert_eq!(told.as_deref(), Some("alice@example.com"));
    assert!(seen.starts_with("GET /userinfo HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("authorization: Bearer the-token\r\n"), "{seen}");
    let unverified = account("200 OK", r#"{"sub":"17","email":"alice@example.com"}"#).await.0;
    assert_eq!(unverified.as_deref(), Some("17"), "any user may claim an address");
    for (status, body) in [
        ("401 Unauthorized", r#"{"sub":"17"}"#),
        ("200 OK", "no json"),
        ("200 OK", "{}"),
        ("302 Found", ""),
        ("200 OK", r#"{"ok":false,"error":"invalid_auth","name":"x"}"#),
    ] {
        assert_eq!(account(status, body).await.0, None, "{status} {body}");
    }
}

/// The request for the account of a token that was issued under these settings.
fn userinfo(settings: ProviderSettings, token: &str) -> UserinfoRequest {
    let provider = provider(settings);
    provider.userinfo(&provider.binding(), &AccessToken::new(token)).expect("it is bound")
}

#[tokio::test]
async fn a_userinfo_request_without_an_answer_ends_after_ten_seconds() {
    let (listener, base) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        request(&mut stream).await;
        tokio::time::pause();
        let since = tokio::time::Instant::now();
        let _ = stream.read(&mut [0; 1]).await;
        since.elapsed()
    });
    let mut settings = settings();
    settings.userinfo_endpoint = Some(base);
    assert!(matches!(client().userinfo(userinfo(settings, "x")).await, Userinfo::Unknown));
    let waited = server.await.expect("the server ends");
    assert!(waited < Duration::from_secs(11), "{waited:?}");
}

#[tokio::test]
async fn debug_of_a_request_and_its_result_shows_no_secret() {
    let (listener, base) = listen().await;
    let shown = format!("{:?} {:?}", refresh_at(&base), client());
    let server = serve(listener, http("200 OK", "", r#"{"access_token":"s3cr3t"}"#));
    let shown = format!("{shown} {:?}", client().send(refresh_at(&base), intended()).await);
    server.await.expect("the server ends");
    assert!(!shown.contains("s3cr3t"), "{shown}");
}

#[tokio::test]
async fn an_answer_that_arrived_during_any_suspension_is_accepted() {
    let (listener, base) = listen().await;
    let sending = tokio::spawn(async move { client().send(refresh_at(&base), intended()).await });
    let (mut stream, _) = listener.accept().await.expect("the client connects");
    request(&mut stream).await;
    // The client does not run from here until the clock has moved.
    tokio::time::pause();
    stream.write_all(&http("200 OK", "", "{}")).await.expect("the client listens");
    tokio::time::advance(2 * ANSWER_TIMEOUT).await;
    tokio::time::resume();
    let sent = sending.await.expect("it ends");
    assert!(matches!(&sent, Attempt::Answered(answer) if answer.for_tests().status == 200), "{sent:?}");
}
