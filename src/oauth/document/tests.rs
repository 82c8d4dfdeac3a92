use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, pause},
};

use super::*;
use crate::{
    net::{Outward, Proxies},
    oauth::{
        ProviderSettings, Publisher, ServerMetadata, Undiscovered,
        client::tests::{client, http, listen, request},
    },
    sys::clock::Clock,
};

/// Answers each connection with the next answer, and returns the requests.
fn serve(listener: TcpListener, answers: Vec<Vec<u8>>) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut seen = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("the client connects");
            seen.push(request(&mut stream).await);
            // A client that refuses the answer hangs up first.
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
        seen
    })
}

fn own(base: &str) -> Reach {
    Reach::default().listing_host_of(&base.parse().expect("a URL"))
}

async fn get(base: &str, path: &str) -> Result<Document, DocumentError> {
    let url = format!("{base}{path}").parse().expect("a URL");
    client().document(DocumentRequest::get(url, Trust::default(), own(base))).await
}

#[tokio::test]
async fn a_document_comes_with_its_challenges_its_age_and_its_address() {
    let (listener, base) = listen().await;
    let headers = "www-authenticate: Bearer a=\"b\"\r\nwww-authenticate: DPoP\r\ncache-control: public, Max-Age=600\r\ncontent-type: text/html\r\n";
    let found = http("302 Found", "location: /real?x=1#y\r\n", "");
    let served = serve(listener, vec![found, http("401 Unauthorized", headers, "{\"a\": 1}")]);
    let document = get(&base, "/probe").await.expect("an answer");
    assert_eq!(document.status, 401);
    assert_eq!(document.www_authenticate, ["Bearer a=\"b\"", "DPoP"]);
    assert_eq!(document.max_age, Some(Duration::from_secs(600)));
    assert_eq!(document.url.as_str(), format!("{base}/real?x=1"));
    assert_eq!(document.json().expect("JSON")["a"], 1);
    let refused = document.successful_json().expect_err("401 is no success");
    assert!(refused.to_string().starts_with(&format!("{base}/real answers 401")), "{refused}");
    let requests = served.await.expect("it serves");
    assert!(requests[0].starts_with("GET /probe HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[1].starts_with("GET /real?x=1 HTTP/1.1\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn a_post_sends_json_and_follows_no_redirect() {
    let (listener, base) = listen().await;
    let answers = vec![http("201 Created", "", "{}"), http("307 Temporary", "location: /b\r\n", "")];
    let served = serve(listener, answers);
    let url: Url = format!("{base}/register").parse().expect("a URL");
    let post = DocumentRequest::post(url, Trust::default(), own(&base), b"{\"x\":1}".to_vec());
    assert_eq!(client().document(post.clone()).await.expect("an answer").status, 201);
    let refused = client().document(post).await.expect_err("a POST is not repeated elsewhere");
    assert!(matches!(refused, DocumentError::Redirect { .. }), "{refused:?}");
    let first = &served.await.expect("it serves")[0];
    assert!(first.contains("content-type: application/json\r\n"), "{first}");
    assert!(first.ends_with("\r\n\r\n{\"x\":1}"), "{first}");
}

#[tokio::test]
async fn a_redirect_in_a_loop_or_too_often_or_to_nowhere_is_an_error() {
    let to = |path: &str| http("301 Moved", &format!("location: {path}\r\n"), "");
    for (answers, problem) in [
        (vec![to("/b"), to("/a")], "in a loop"),
        (vec![to("/a")], "in a loop"),
        (vec![to("/b"), to("/c"), to("/d"), to("/e")], "more than three times"),
        (vec![http("302 Found", "", "")], "to no URL"),
    ] {
        let (listener, base) = listen().await;
        let count = answers.len();
        let served = serve(listener, answers);
        let error = get(&base, "/a").await.expect_err(problem).to_string();
        let host = base.trim_start_matches("http://");
        assert!(error.starts_with(&format!("{host} redirects {problem}. ")), "{error}");
        assert_eq!(served.await.expect("it serves").len(), count);
    }
}

#[tokio::test]
async fn a_redirect_leads_to_no_http_and_to_no_private_address() {
    for target in
        ["http://example.test/", "https://10.0.0.1/", "https://[::ffff:a00:1]/", "file:///etc/passwd"]
    {
        let (listener, base) = listen().await;
        serve(listener, vec![http("302 Found", &format!("location: {target}\r\n"), "")]);
        let error = get(&base, "/a").await.expect_err(target);
        let is_private = matches!(error, DocumentError::Unreachable(Unreachable::Private { .. }));
        let is_refused = matches!(error, DocumentError::Refused { .. });
        assert!(if target.contains("https") { is_private } else { is_refused }, "{error:?}");
    }
}

#[tokio::test]
async fn a_document_of_ten_megabytes_is_cut_off_at_one() {
    let (listener, base) = listen().await;
    let sent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n").await;
        let mut sent = 0;
        while sent < 10_000_000 && stream.write_all(&[b' '; 10_000]).await.is_ok() {
            sent += 10_000;
        }
        sent
    });
    let error = get(&base, "/a").await.expect_err("too large");
    assert!(matches!(error, DocumentError::TooLarge { .. }), "{error:?}");
    // Bytes in the sockets' buffers do not count.
    assert!(sent.await.expect("it sends") < 10_000_000);
}

#[tokio::test]
async fn a_document_of_one_mebibyte_is_read_whole() {
    let (listener, base) = listen().await;
    let body = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_DOCUMENT - 9));
    assert_eq!(body.len(), MAX_DOCUMENT);
    serve(listener, vec![http("200 OK", "", &body)]);
    assert_eq!(get(&base, "/a").await.expect("it fits").body.len(), MAX_DOCUMENT);
}

#[tokio::test]
async fn a_server_that_sends_too_slowly_is_given_up_after_ten_seconds() {
    let (listener, base) = listen().await;
    let asking = tokio::spawn(async move { get(&base, "/a").await });
    let (mut stream, _) = listener.accept().await.expect("the client connects");
    request(&mut stream).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await.expect("it sends");
    // From here only timers can run, and a paused clock jumps to the next one.
    pause();
    let since = Instant::now();
    let error = asking.await.expect("it ends").expect_err("too slow").to_string();
    assert!(since.elapsed() < DOCUMENT_TIMEOUT + Duration::from_secs(1));
    assert!(error.contains("did not send the document within 10 s"), "{error}");
}

#[tokio::test]
async fn a_body_that_is_no_json_object_is_an_error_that_names_the_document() {
    let deep = "[".repeat(100_000);
    let nested = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    for body in ["", "<html>", "[]", "\"text\"", "{\"a\": 1", "{} {}", deep.as_str(), nested.as_str()] {
        let (listener, base) = listen().await;
        serve(listener, vec![http("200 OK", "content-type: application/json\r\n", body)]);
        let error = get(&base, "/a?secret=1").await.expect("an answer").json().expect_err("no JSON object");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{base}/a is no JSON object (")), "{text}");
    }
    let (listener, base) = listen().await;
    serve(listener, vec![http("200 OK", "", "\u{feff}{\"issuer\": \"a\"}")]);
    assert_eq!(get(&base, "/a").await.expect("an answer").json().expect("JSON")["issuer"], "a");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}", "", "SSH-2.0-x\r\n\r\n"] {
        let (listener, base) = listen().await;
        serve(listener, vec![answer.as_bytes().to_vec()]);
        let error = get(&base, "/a").await.expect_err("it is not whole");
        assert!(matches!(error, DocumentError::Broken { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_url_without_https_or_with_a_password_is_refused_before_a_look_up() {
    for url in
        ["http://id.example.test/", "ftp://127.0.0.1/", "https://user@id.example.test/", "http://localhost./"]
    {
        let request = DocumentRequest::get(url.parse().expect("a URL"), Trust::default(), Reach::default());
        let error = client().document(request).await.expect_err(url);
        assert!(matches!(error, DocumentError::Refused { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn loopback_is_refused_where_the_operator_did_not_write_it() {
    let (_listener, base) = listen().await;
    let url = base.parse().expect("a URL");
    let request = DocumentRequest::get(url, Trust::default(), Reach::default().listing("id.example.test"));
    let error = client().document(request).await.expect_err("loopback is private");
    assert!(matches!(error, DocumentError::Unreachable(Unreachable::Private { .. })), "{error:?}");
}

/// A resolver whose answer for a name changes with each look-up.
fn changing(answers: Vec<SocketAddr>) -> (Client, Arc<AtomicUsize>) {
    let looked_up = Arc::new(AtomicUsize::new(0));
    let count = looked_up.clone();
    let outward =
        Outward::new(Proxies::new(|_| None)).expect("TLS is there").resolving_by(Arc::new(move |_, _| {
            let at = count.fetch_add(1, Ordering::SeqCst);
            vec![answers[at.min(answers.len() - 1)]]
        }));
    (Client::through(outward, Clock::fixed(0)), looked_up)
}

#[tokio::test]
async fn a_name_that_changes_between_look_up_and_use_is_used_as_it_was_checked() {
    let (checked, base) = listen().await;
    let (changed, _) = listen().await;
    let addresses = [&checked, &changed].map(|listener| listener.local_addr().expect("it is bound"));
    let (client, looked_up) = changing(addresses.to_vec());
    let accepted = tokio::spawn(async move {
        tokio::select! { _ = checked.accept() => "checked", _ = changed.accept() => "changed" }
    });
    // The name is not loopback, so only https may reach it: the TLS handshake fails, at the server
    // whose address was checked.
    let url: Url = base.replace("http://127.0.0.1", "https://changes.test").parse().expect("a URL");
    let reach = Reach::default().with_private(true);
    let _ = client.document(DocumentRequest::get(url, Trust::default(), reach)).await;
    assert_eq!(accepted.await.expect("it accepts"), "checked");
    assert_eq!(looked_up.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_that_turns_private_is_never_connected_to() {
    let (listener, _) = listen().await;
    let private = listener.local_addr().expect("it is bound");
    let (client, looked_up) = changing(vec![private]);
    let url: Url = format!("https://turns.test:{}/", private.port()).parse().expect("a URL");
    let error = client.document(DocumentRequest::get(url, Trust::default(), Reach::default())).await;
    let error = error.expect_err("the address is private").to_string();
    assert!(error.starts_with("the name turns.test has the private address 127.0.0.1"), "{error}");
    assert_eq!(looked_up.load(Ordering::SeqCst), 1);
    assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err(), "nothing connected");
}

#[tokio::test]
async fn an_mcp_server_and_its_registration_are_not_reached_at_a_name_that_turns_private() {
    let (listener, _) = listen().await;
    let private = listener.local_addr().expect("it is bound");
    let (client, looked_up) = changing(vec![private]);
    let url: Url = format!("https://turns.test:{}/mcp", private.port()).parse().expect("a URL");
    let settings = ProviderSettings {
        registers_client: true,
        reach: Some(Reach::default().listing_host_of(&url)),
        ..ProviderSettings::default()
    };
    let id = "linear".parse().expect("a name");
    let undiscovered = Undiscovered { id, settings, publisher: Publisher::Mcp(url.clone()) };
    let discovered = client.discover_mcp(&undiscovered, &url, None, 0).await.map(drop);
    let metadata = ServerMetadata::default();
    let redirect_uri = "http://127.0.0.1:1/callback";
    let registered = client.register(&undiscovered, &metadata, url, redirect_uri, &[]).await.map(drop);
    for result in [discovered, registered] {
        let error = result.expect_err("the address is private").to_string();
        assert!(error.starts_with("the name turns.test has the private address 127.0.0.1"), "{error}");
    }
    assert_eq!(looked_up.load(Ordering::SeqCst), 2, "each connection resolves once");
    assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err(), "nothing connected");
}

#[tokio::test]
async fn a_resolving_proxy_gets_only_listed_hosts() {
    for scheme in ["http", "socks5h"] {
        let (listener, base) = listen().await;
        let proxy = base.replace("http", scheme);
        let proxies = Proxies::new(|name| (name == "ALL_PROXY").then(|| proxy.clone()));
        let client = Client::through(Outward::new(proxies).expect("TLS is there"), Clock::fixed(0));
        let url: Url = "https://inner.example.test/".parse().expect("a URL");
        let request = DocumentRequest::get(url.clone(), Trust::default(), Reach::default());
        let error = client.document(request).await.expect_err("the proxy would resolve it");
        assert!(matches!(error, DocumentError::Unreachable(Unreachable::Unlisted { .. })), "{error:?}");
        assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err(), "{scheme}");
        let listed = Reach::default().listing("inner.example.test");
        let sent = tokio::spawn(async move {
            let request = DocumentRequest::get(url, Trust::default(), listed);
            client.document(request).await.map(drop)
        });
        drop(listener.accept().await.expect("a listed host goes to the proxy"));
        assert!(sent.await.expect("it ends").is_err());
    }
}
