//! Hostile requests: other workers' secrets, paths, headers, frames, and connections.

use super::*;

#[tokio::test]
async fn only_the_live_secret_of_the_worker_opens_its_port() {
    let rig = Rig::start().await;
    let (mine, others) = (rig.open().await, rig.open_for(2, ALICE).await);
    let with = |secret: &str| {
        format!("GET /inject/acme/v1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{secret}\r\n")
    };
    let bearer = |secret: &str| with(&format!("Authorization: Bearer {secret}\r\n"));
    for request in [with(""), bearer("guess"), bearer(others.secret.expose()), bearer("")] {
        let answer = exchange(&mine, &request).await;
        assert_problem(&answer, 401, "unauthorized");
        assert!(answer.to_lowercase().contains("www-authenticate: basic"), "git needs it: {answer}");
    }
    let capability = rig.api.worker(3, ALICE, None);
    assert_problem(&exchange(&mine, &bearer(capability.expose())).await, 401, "unauthorized");
    // The secret of one route opens that route, and its port alone.
    let narrow = &mine.routes[&name("acme")];
    assert!(exchange(&mine, &bearer(narrow.expose())).await.starts_with("HTTP/1.1 200 "));
    assert_problem(&exchange(&others, &bearer(narrow.expose())).await, 401, "unauthorized");
    let other_route = bearer(narrow.expose()).replace("/inject/acme/", "/inject/other/");
    assert_problem(&exchange(&mine, &other_route).await, 401, "unauthorized");
    let unknown = ask(&mine, "GET /inject/other/v1", "").await;
    assert_problem(&unknown, 404, "not_found");
    assert_problem(&ask(&mine, "GET /v1/token/acme", "").await, 404, "not_found");
    assert_eq!(rig.upstream.seen().len(), 1);
}

#[tokio::test]
async fn the_end_of_a_worker_cuts_its_streams_and_closes_its_port() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let (_parts, mut wire) = rig.streaming(&access).await;
    rig.end(1);
    let _ = wire.read_whole().await;
    assert!(!wire.text.ends_with("0\r\n\r\n"), "{}", wire.text);
    timeout(WAIT, rig.upstream.wait_for_ended(1)).await.expect("the upstream's stream ends");
    while TcpStream::connect(("127.0.0.1", access.port)).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn workers_share_no_connection_and_the_end_of_one_closes_its_own() {
    async fn answer_one(upstream: &tokio::net::TcpListener) -> TcpStream {
        let (mut stream, _) =
            timeout(WAIT, upstream.accept()).await.expect("it connects").expect("it is open");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the head comes whole"));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.expect("it is open");
        stream
    }
    let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", upstream.local_addr().expect("it is bound"));
    let rig = Rig::with(|_| vec![route(&base)]).await;
    let (one, two) = (rig.open_for(1, ALICE).await, rig.open_for(2, ALICE).await);
    let (answer, mut first) = tokio::join!(ask(&one, "GET /inject/acme/v1", ""), answer_one(&upstream));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (answer, _second) = tokio::join!(ask(&two, "GET /inject/acme/v1", ""), answer_one(&upstream));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    rig.end(1);
    let ended = timeout(WAIT, first.read_u8()).await.expect("the idle connection ends");
    assert!(ended.is_err());
}

#[tokio::test]
async fn no_secret_of_the_worker_reaches_an_upstream_in_another_form_or_place() {
    let rig = Rig::start().await;
    let (access, capability) = rig.open_with_capability(1, ALICE).await;
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let narrow = access.routes[&name("acme")].expose();
    for secret in [access.secret.expose(), narrow, capability.expose()] {
        let once = encoded(secret);
        for (target, more) in [
            (format!("/inject/acme/{once}"), String::new()),
            (format!("/inject/acme/v1?a={}", encoded(&once)), String::new()),
            (format!("/inject/acme/v1?a={secret}"), String::new()),
            ("/inject/acme/v1".to_owned(), format!("X-Other: a={once}\r\n")),
            ("/inject/acme/v1".to_owned(), format!("X-Other: Bearer {secret}\r\n")),
            ("/inject/acme/v1".to_owned(), format!("Content-Type: text/plain; a={secret}\r\n")),
        ] {
            let answer = ask(&access, &format!("GET {target}"), &more).await;
            assert_problem(&answer, 400, "invalid_request");
        }
        // A name of a header is lower case on its way, which hides few of its bits.
        let answer = ask(&access, "GET /inject/acme/v1", &format!("X-{secret}: a\r\n")).await;
        assert_problem(&answer, 400, "invalid_request");
        let answer = ask(&access, &format!("{secret} /inject/acme/v1"), "").await;
        assert_problem(&answer, 400, "invalid_request");
    }
    assert!(rig.upstream.seen().is_empty());
    let more = "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n";
    let with = |trailer: &str| {
        format!("{}3\r\nabc\r\n0\r\n{trailer}\r\n\r\n", head(&access, "POST /inject/acme/echo", more))
    };
    for secret in [narrow, capability.expose()] {
        let answer = exchange(&access, &with(&format!("X-Sum: {secret}"))).await;
        assert_problem(&answer, 400, "invalid_request");
        assert!(answer.contains("trailer"), "{answer}");
        let answer = exchange(&access, &with(&format!("{secret}: a"))).await;
        assert_problem(&answer, 400, "invalid_request");
    }
    // A place in which tools put a key is emptied, whatever it holds.
    let key = format!("x-api-key: {}\r\n", capability.expose());
    let answer = ask(&access, "GET /inject/acme/v1", &key).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!format!("{:?}", rig.last()).contains(capability.expose()), "{:?}", rig.last());
    let answer = exchange(&access, &with("X-Sum: 5")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_header_that_overrides_method_path_or_origin_is_not_forwarded() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let names = [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "x_http_method_override",
        "X-Original-Method",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Prefix",
        "X-Host",
        "X-Original-Host",
        "X-HTTP-Host-Override",
        "X-Real-IP",
        "x_client_ip",
        "True-Client-IP",
    ];
    let more: String = names.iter().map(|name| format!("{name}: DELETE\r\n")).collect();
    let answer = ask(&access, "GET /inject/acme/v1", &more).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = rig.last().headers;
    assert!(!seen.values().any(|value| value == "DELETE"), "{seen:?}");
}

#[tokio::test]
async fn only_an_upstream_that_echoes_its_request_shows_the_token_to_the_worker() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let echoed = ask(&access, "GET /inject/acme/v1", "").await;
    let token = rig.last().headers["authorization"].clone();
    let token = token.strip_prefix("Bearer ").expect("a token");
    assert!(echoed.contains(token), "this upstream echoes the headers: {echoed}");
    let answer = ask(&access, "POST /inject/acme/echo", "Content-Length: 0\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains(token), "{answer}");
}

#[tokio::test]
async fn a_path_that_could_leave_the_upstream_is_refused() {
    let rig = Rig::with(|upstream| {
        vec![InjectRoute { path_prefixes: vec!["/v1".to_owned()], ..route(&format!("{upstream}/api")) }]
    })
    .await;
    let access = rig.open().await;
    for path in [
        "/v1/../admin",
        "/v1/..",
        "/v1/.",
        "/v1/%2e%2e/admin",
        "/v1/.%2E/admin",
        "/v1/..%2fadmin",
        "/v1%2f..%2fadmin",
        "/v1/%252e%252e/admin",
        "/v1/%25252e%25252e/admin",
        "/v1/%2525252525252e",
        "/v1/..;a=b/admin",
        "/v1/%2e%2e%3ba/admin",
        "/v1/..%5cadmin",
        "/v1/..\\admin",
        "//evil.example/v1",
        "/%2fevil.example",
        "/\\evil.example",
        "/v1/%00",
        "/v1/%0d%0aX-Evil:%201",
        "/v1/%250a",
        "v1",
    ] {
        let answer = ask(&access, &format!("GET /inject/acme{path}"), "").await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["400", "404", "401"].contains(&status), "{path}: {answer}");
        assert!(answer.contains("application/problem+json"), "{path}: {answer}");
    }
    for line in [
        "GET http://evil.example/inject/acme/v1",
        "GET http://127.0.0.1/inject/acme/v1",
        "OPTIONS *",
        "CONNECT evil.example:443",
        "GET /inject/acme@evil.example/v1",
        "GET /inject/../inject/acme/v1",
        "GET /inject//acme/v1",
        "GET /INJECT/acme/v1",
        "TRACE /inject/acme/v1",
    ] {
        let answer = ask(&access, line, "").await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{line}: {answer}");
        assert!(answer.contains("application/problem+json"), "{line}: {answer}");
    }
    assert!(rig.upstream.seen().is_empty(), "{:?}", rig.upstream.seen());
    for (path, forwarded) in [
        ("/v1", "/api/v1"),
        ("/v1/", "/api/v1/"),
        ("/v1/group%2Fproject", "/api/v1/group%2Fproject"),
        ("/v1/a//b", "/api/v1/a//b"),
        ("/v1/...", "/api/v1/..."),
        ("/v1/a.b:c@d", "/api/v1/a.b:c@d"),
        ("/v1?a=/../b", "/api/v1?a=/../b"),
    ] {
        let answer = ask(&access, &format!("GET /inject/acme{path}"), "").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        assert_eq!(rig.last().target, forwarded);
    }
}

#[tokio::test]
async fn web_pages_are_refused_before_the_secret_counts() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let secret = access.secret.expose();
    for hosts in [
        "Host: evil.example\r\n",
        "Host: 127.0.0.1.evil.example\r\n",
        "Host: evil.example@127.0.0.1\r\n",
        "Host: 127.0.0.1/@evil.example\r\n",
        "Host: 192.0.2.1\r\n",
        "Host: 127.0.0.1\r\nHost: evil.example\r\n",
        "Host:\r\n",
        "",
        "Host: 127.0.0.1\r\nOrigin: https://evil.example\r\n",
        "Host: 127.0.0.1\r\nOrigin: null\r\n",
    ] {
        let request = format!(
            "GET /inject/acme/v1 HTTP/1.1\r\n{hosts}Authorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
        );
        assert_problem(&exchange(&access, &request).await, 403, "not_this_host");
    }
    assert!(rig.upstream.seen().is_empty());
    for host in ["127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:80", "127.0.0.2"] {
        let request = format!(
            "GET /inject/acme/v1 HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(&access, &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
}

#[tokio::test]
async fn no_frame_smuggles_a_second_request_or_a_header() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let inner = "GET /inject/acme/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for (more, body) in [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "12345"),
        ("Content-Length: +5\r\n", "12345"),
        ("Content-Length: 5, 5x\r\n", "12345"),
        ("Content-Length : 5\r\n", "12345"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"),
        ("X-A: b\r\n X-Folded: c\r\n", ""),
        ("X-A\r\n", ""),
        ("X A: b\r\n", ""),
        ("X-A: b\0c\r\n", ""),
    ] {
        let head = head(&access, "POST /inject/acme/v1", more);
        let before = rig.upstream.seen().len();
        let answer = exchange(&access, &format!("{head}{body}{inner}")).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{more:?}: {answer}");
        assert_eq!(rig.upstream.seen().len(), before, "{more:?}");
    }
    // Both lengths: the chunks count, and the upstream gets one frame.
    let both = head(&access, "POST /inject/acme/echo", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n");
    let answer = exchange(&access, &format!("{both}3\r\nabc\r\n0\r\n\r\n{inner}")).await;
    for seen in rig.upstream.seen() {
        assert!(!seen.target.contains("smuggled"), "{seen:?}");
        let frames = ["content-length", "transfer-encoding"].map(|name| seen.headers.contains_key(name));
        assert_ne!(frames, [true, true], "{seen:?}");
    }
    assert!(answer.starts_with("HTTP/1.1 4") || answer.ends_with("abc"), "{answer}");
    // A header that Connection names is the caller's own, and the token is not.
    let answer = ask(
        &access,
        "GET /inject/acme/v1",
        "Connection: authorization, content-length, host\r\nContent-Length: 0\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(rig.last().is_live);
}

#[tokio::test]
async fn a_head_that_is_no_http_or_too_long_is_a_problem() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    assert_problem(&exchange(&access, "nonsense\r\n\r\n").await, 400, "invalid_request");
    let long = format!("GET /inject/acme/v1 HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(300_000));
    assert_problem(&exchange(&access, &long).await, 431, "head_too_large");
    let many: String = (0..200).map(|i| format!("X-{i}: y\r\n")).collect();
    let many = format!("GET /inject/acme/v1 HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    assert_problem(&exchange(&access, &many).await, 431, "head_too_large");
}

#[tokio::test]
async fn silent_and_slow_connections_keep_nobody_out() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let mut silent = Vec::new();
    for at in 0..400 {
        let mut wire = Wire::open(&access).await;
        if at % 2 == 0 {
            let _ = wire.stream.write_all(b"GET /inject/acme/v1 HTTP/1.1\r\nHost: localhost\r\n").await;
        }
        silent.push(wire);
        if at % 50 == 0 {
            let answer = ask(&access, "GET /inject/acme/v1", "").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{at}: {answer}");
        }
    }
    let answer = ask(&access, "GET /inject/acme/v1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // The oldest of them have lost their places.
    let mut first = silent.swap_remove(0);
    let _ = first.read_whole().await;
}

#[tokio::test]
async fn a_connection_without_the_secret_ends_after_ten_seconds() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let mut wire = Wire::open(&access).await;
    wire.send(b"GET /inject/acme/v1 HTTP/1.1\r\nHost: localhost\r\n").await;
    // From here on the clock advances whenever the runtime is idle.
    tokio::time::pause();
    let mut bytes = [0; 16];
    let ended = wire.stream.read(&mut bytes).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}
