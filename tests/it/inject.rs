//! The injecting proxy: an upstream that takes only the live token, reached with a worker's secret.
//!
//! The order of events is fixed by the test: each side acts only after the other one has shown that the
//! step before it has happened.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests' own files and processes do not belong to the program"
)]

mod git;
mod hostile;
mod kept;
mod replay;
mod rights;
mod upstream;
mod worker;

pub(crate) use git::GitServer;

use std::{collections::BTreeMap, io, time::Duration};

use threadkey::{
    agent::{Conversation, Holder, InjectAccess, InjectPorts as _, InjectWorker, Served},
    api::{Credential, InjectRoute, InjectServer, RouteHeaders},
    broker::{WithoutBot, WorkerTokens},
    ids::{ConversationId, Principal, RouteName, Snowflake},
    net::Trust,
    secret::Capability,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc::UnboundedSender,
    time::timeout,
};

use crate::{
    api::{ALICE, BOB, Rig as ApiRig},
    support::{
        authserver::Reply,
        upstream::{Part, Seen, Upstream},
    },
};

/// The limit of every wait. A test that reaches it fails.
const WAIT: Duration = Duration::from_secs(30);

struct Rig {
    api: ApiRig,
    upstream: Upstream,
    server: InjectServer,
    folder: tempfile::TempDir,
}

fn name(text: &str) -> RouteName {
    text.parse().expect("a name")
}

/// A route with the name `acme`.
fn route(upstream: &str) -> InjectRoute {
    InjectRoute {
        name: name("acme"),
        provider: "acme".parse().expect("a name"),
        upstream: upstream.parse().expect("a URL"),
        trust: Trust::default(),
        credential: Credential::Bearer,
        headers: RouteHeaders::default(),
        methods: Vec::new(),
        path_prefixes: Vec::new(),
    }
}

impl Rig {
    /// Starts the proxy with one route to the upstream, for workers of a user who is signed in.
    async fn start() -> Self {
        Self::with(|upstream| vec![route(upstream)]).await
    }

    async fn with(routes: impl FnOnce(&str) -> Vec<InjectRoute>) -> Self {
        Self::of(ApiRig::start().await, routes).await
    }

    /// Starts it as [`Rig::start`] does. The sign-in gets this answer of the provider.
    async fn with_first_answer(answer: Reply) -> Self {
        let api = ApiRig::start().await;
        api.server.script([answer]);
        Self::of(api, |upstream| vec![route(upstream)]).await
    }

    async fn of(api: ApiRig, routes: impl FnOnce(&str) -> Vec<InjectRoute>) -> Self {
        api.sign_in(Principal::User(ALICE), "alice").await;
        let server = api.server.clone();
        let upstream = Upstream::start(move |token| server.is_live(token)).await;
        let tokens = WorkerTokens::new(api.broker.clone(), std::sync::Arc::new(WithoutBot));
        let server = InjectServer::new(routes(upstream.base()), tokens).expect("TLS is in order");
        let folder = tempfile::Builder::new().prefix("tk").tempdir().expect("a folder");
        Self { api, upstream, server, folder }
    }

    /// Opens the port of a worker of this owner in a conversation of its own.
    async fn open_for(&self, id: u64, owner: Snowflake) -> InjectAccess {
        self.open_with_capability(id, owner).await.0
    }

    /// The same, with the worker's capability.
    async fn open_with_capability(&self, id: u64, owner: Snowflake) -> (InjectAccess, Capability) {
        let conversation =
            Conversation { id: ConversationId(Snowflake(id)), owner, shared_guild: None, agent: None };
        let holder = Holder { conversation, providers: vec!["acme".parse().expect("a name")] };
        let capability = self.api.capabilities.issue(holder.clone());
        let voided = self.api.capabilities.voided(&capability);
        let sockets: BTreeMap<_, _> = [(name("acme"), self.folder.path().join(id.to_string()))].into();
        let worker = InjectWorker {
            serves: Served::Worker(holder),
            capability: Some(capability.clone()),
            voided,
            sockets,
            open: [].into(),
            process: std::sync::Arc::default(),
        };
        (self.server.open(worker).await.expect("it opens"), capability)
    }

    async fn open(&self) -> InjectAccess {
        self.open_for(1, ALICE).await
    }

    /// Ends the worker of a conversation.
    fn end(&self, id: u64) {
        self.api.capabilities.revoke(ConversationId(Snowflake(id)));
    }

    /// Lets the provider end the access token before its time.
    fn kill_token(&self) {
        self.api.server.advance(Duration::from_secs(100 * 3600));
    }

    fn refreshes(&self) -> u64 {
        self.api.server.events().of("alice").refreshes as u64
    }

    fn last(&self) -> Seen {
        self.upstream.seen().pop().expect("the upstream has a request")
    }

    /// Opens a stream whose first part has arrived. Returns the sender of the next parts.
    async fn streaming(&self, access: &InjectAccess) -> (UnboundedSender<Part>, Wire) {
        let parts = self.upstream.stream();
        let mut wire = Wire::open(access).await;
        wire.send(head(access, "GET /inject/acme/stream", "").as_bytes()).await;
        parts.send(Part::Bytes("data: one\n\n")).expect("it streams");
        wire.until("data: one").await;
        (parts, wire)
    }
}

/// A connection to a port, with the bytes that have arrived.
struct Wire {
    stream: TcpStream,
    text: String,
}

impl Wire {
    async fn open(access: &InjectAccess) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", access.port)).await.expect("it listens");
        Self { stream, text: String::new() }
    }

    async fn send(&mut self, bytes: &[u8]) {
        timeout(WAIT, self.stream.write_all(bytes)).await.expect("it reads").expect("it is open");
    }

    /// Reads until the text so far holds a part.
    async fn until(&mut self, part: &str) {
        while !self.text.contains(part) {
            assert!(self.more().await.unwrap_or_default() > 0, "it ended without {part:?}: {}", self.text);
        }
    }

    /// Reads to the end of the connection.
    async fn read_whole(&mut self) -> io::Result<String> {
        while self.more().await? > 0 {}
        Ok(self.text.clone())
    }

    async fn more(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 * 1024];
        let count = timeout(WAIT, self.stream.read(&mut bytes)).await.expect("it answers or ends")?;
        self.text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        Ok(count)
    }
}

/// Sends a request on a connection of its own, and returns the whole answer. The server may refuse it
/// before it has read all of it.
async fn exchange(access: &InjectAccess, request: &str) -> String {
    let mut wire = Wire::open(access).await;
    let _ = wire.stream.write_all(request.as_bytes()).await;
    let _ = wire.read_whole().await;
    wire.text
}

/// Returns the head of a request with the secret.
fn head(access: &InjectAccess, line: &str, more: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{more}\r\n",
        access.port,
        access.secret.expose()
    )
}

async fn ask(access: &InjectAccess, line: &str, more: &str) -> String {
    exchange(access, &head(access, line, more)).await
}

#[track_caller]
fn assert_problem(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
}

#[tokio::test]
async fn a_secret_is_swapped_for_the_token_wherever_a_tool_puts_it() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let secret = access.secret.expose();
    let basic = |pair: String| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!("Authorization: Basic {}", STANDARD.encode(pair))
    };
    for (query, header) in [
        ("", format!("authorization: bearer {secret}")),
        ("", format!("Authorization: token {secret}")),
        ("", basic(format!("x:{secret}"))),
        ("", basic(format!("{secret}:"))),
        ("", format!("x-api-key: {secret}")),
        ("", format!("x-goog-api-key: {secret}")),
        ("", format!("PRIVATE-TOKEN: {secret}")),
        ("", format!("Authorization: Bearer {secret}\r\nx-api-key: {secret}")),
        ("", format!("Authorization: Bearer placeholder\r\nx-api-key: {secret}")),
        (&format!("?alt=sse&key={secret}"), "X-A: b".to_owned()),
    ] {
        let answer = exchange(
            &access,
            &format!(
                "GET /inject/acme/v1/a%20b{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n\r\n"
            ),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{header}: {answer}");
        let seen = rig.last();
        assert!(seen.is_live, "{header}");
        assert_eq!(seen.target, if query.is_empty() { "/v1/a%20b" } else { "/v1/a%20b?alt=sse" });
        assert!(!format!("{seen:?}").contains(secret), "{header}: {seen:?}");
        assert!(!format!("{seen:?}").contains("placeholder"), "{seen:?}");
        assert_eq!(seen.headers["host"], rig.upstream.base().trim_start_matches("http://"));
    }
    // A tool may use any of the secret's places, and the answer never needs one.
    let answer = ask(&access, "GET /inject/acme/v1", &format!("X-Other: a-{secret}\r\n")).await;
    assert_problem(&answer, 400, "invalid_request");
    let answer = ask(&access, &format!("GET /inject/acme/{secret}"), "").await;
    assert_problem(&answer, 400, "invalid_request");
}

#[tokio::test]
async fn each_part_of_an_event_stream_leaves_at_once() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let parts = rig.upstream.stream();
    let mut wire = Wire::open(&access).await;
    wire.send(head(&access, "GET /inject/acme/stream", "").as_bytes()).await;
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        // The next part does not exist before this one has arrived.
        parts.send(Part::Bytes(event)).expect("the upstream streams");
        wire.until(event).await;
    }
    drop(parts);
    let answer = wire.read_whole().await.expect("a whole answer");
    assert!(answer.to_lowercase().contains("x-accel-buffering: no"), "{answer}");
    assert!(answer.contains("content-type: text/event-stream"), "{answer}");
    assert!(answer.ends_with("0\r\n\r\n"), "the end is marked: {answer}");
}

#[tokio::test]
async fn each_part_of_an_upload_arrives_at_once_and_expect_continue_is_answered() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let mut wire = Wire::open(&access).await;
    let more = "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n";
    wire.send(head(&access, "POST /inject/acme/echo", more).as_bytes()).await;
    wire.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    for (part, so_far) in [("5\r\nfirst\r\n", 5), ("6\r\nsecond\r\n", 11)] {
        wire.send(part.as_bytes()).await;
        let arrived = rig.upstream.wait_until(|seen| seen.last().is_some_and(|seen| seen.body == so_far));
        timeout(WAIT, arrived).await.expect("the part arrives before the next one is sent");
    }
    wire.send(b"0\r\n\r\n").await;
    assert!(wire.read_whole().await.expect("whole").ends_with("firstsecond"), "{}", wire.text);
    assert!(!rig.last().headers.contains_key("expect"));
}

#[tokio::test]
async fn a_get_keeps_its_body_whether_its_length_is_known_or_not() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    for (more, body) in
        [("Transfer-Encoding: chunked\r\n", "5\r\nfirst\r\n0\r\n\r\n"), ("Content-Length: 5\r\n", "first")]
    {
        let request = head(&access, "GET /inject/acme/echo", more) + body;
        let answer = exchange(&access, &request).await;
        assert!(answer.ends_with("\r\n\r\nfirst"), "{more}: {answer}");
    }
    assert!(ask(&access, "GET /inject/acme/echo", "").await.starts_with("HTTP/1.1 200 "));
    let seen = rig.last();
    assert!(!seen.headers.contains_key("transfer-encoding"), "a request without a body: {seen:?}");
}

#[tokio::test]
async fn an_upstream_is_stopped_when_its_client_leaves_and_a_client_when_it_breaks() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let (_parts, wire) = rig.streaming(&access).await;
    drop(wire);
    timeout(WAIT, rig.upstream.wait_for_ended(1)).await.expect("the upstream's stream ends");

    let (parts, mut wire) = rig.streaming(&access).await;
    parts.send(Part::Break).expect("it streams");
    let _ = wire.read_whole().await;
    assert!(!wire.text.ends_with("0\r\n\r\n"), "a broken answer must not look whole: {}", wire.text);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_problem_without_its_address() {
    let rig = Rig::with(|_| vec![route("http://127.0.0.1:1")]).await;
    let access = rig.open().await;
    let answer = ask(&access, "GET /inject/acme/v1", "").await;
    assert_problem(&answer, 502, "upstream_unavailable");
    assert!(!answer.contains("127.0.0.1:1"), "{answer}");
}

#[tokio::test]
async fn a_redirect_goes_back_through_the_route_and_is_not_followed() {
    let rig = Rig::with(|upstream| vec![route(&format!("{upstream}/api/v1"))]).await;
    let access = rig.open().await;
    let base = rig.upstream.base().to_owned();
    for (to, expected) in [
        (format!("{base}/api/v1/b?c=d"), "/inject/acme/b?c=d".to_owned()),
        ("/api/v1/b".to_owned(), "/inject/acme/b".to_owned()),
        ("other".to_owned(), "/inject/acme/other".to_owned()),
        ("/login".to_owned(), format!("{base}/login")),
        ("https://elsewhere.example/b".to_owned(), "https://elsewhere.example/b".to_owned()),
    ] {
        let answer = ask(&access, "GET /inject/acme/move", &format!("X-To: {to}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
        assert!(answer.contains(&format!("location: {expected}\r\n")), "{to}: {answer}");
    }
    assert_eq!(rig.upstream.seen().len(), 5, "none was followed");
}

#[tokio::test]
async fn cookies_and_headers_of_one_connection_pass_in_no_direction() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let more = "Cookie: a=b\r\nConnection: X-Secret-Hop\r\nX-Secret-Hop: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers, deflate\r\nProxy-Authorization: Basic eA==\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nX-End: to-end\r\nAccept-Encoding: zstd\r\n";
    let answer = ask(&access, "GET /inject/acme/cookie", more).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let low = answer.to_lowercase();
    assert!(!low.contains("set-cookie") && !low.contains("x-private"), "{answer}");
    let seen = rig.last().headers;
    for gone in ["cookie", "x-secret-hop", "keep-alive", "proxy-authorization", "upgrade", "http2-settings"] {
        assert!(!seen.contains_key(gone), "{gone}: {seen:?}");
    }
    assert_eq!((seen["x-end"].as_str(), seen["te"].as_str()), ("to-end", "trailers"));
    assert_eq!(seen["accept-encoding"], "zstd");
}

#[tokio::test]
async fn the_headers_of_the_model_context_protocol_pass_untouched() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let headers = [
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-session-id", "1868a90c-c1f6"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?w7w=?="),
        ("mcp-param-region", "us-west1"),
        ("last-event-id", "7_9"),
        ("accept", "application/json, text/event-stream"),
    ];
    let text: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    ask(&access, "GET /inject/acme/mcp", &text).await;
    let seen = rig.last();
    for (name, value) in headers {
        assert_eq!(seen.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_route_sets_completes_and_derives_headers_and_limits_methods_and_paths() {
    use http::{HeaderName, HeaderValue, Method};
    let header = |name: &'static str, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let rig = Rig::with(|upstream| {
        vec![InjectRoute {
            credential: Credential::Header(HeaderName::from_static("x-api-key")),
            headers: RouteHeaders {
                fixed: vec![header("x-team", "agents")],
                default: vec![header("x-version", "1"), header("x-other", "1")],
                appended: vec![header("x-beta", "one,two")],
                claims: vec![(HeaderName::from_static("x-account"), vec!["sub".to_owned()])],
            },
            methods: vec![Method::GET],
            path_prefixes: vec!["/v1".to_owned()],
            ..route(upstream)
        }]
    })
    .await;
    let access = rig.open().await;
    let more = "X-Team: forged\r\nX-Version: 2\r\nX-Beta: two, three\r\nX-Account: forged\r\n";
    let spelled = "x_team: forged\r\nX_Account: forged\r\nx_api_key: forged\r\n";
    let answer = ask(&access, "GET /inject/acme/v1/x", &format!("{more}{spelled}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = rig.last();
    assert!(seen.is_live && !seen.headers.contains_key("authorization"), "{seen:?}");
    let shown = |name: &str| seen.headers.get(name).map(String::as_str);
    assert_eq!(
        (shown("x-team"), shown("x-version"), shown("x-other"), shown("x-beta"), shown("x-account")),
        (Some("agents"), Some("2"), Some("1"), Some("two,three,one"), None),
        "the token is no JWT, and the caller may not set its claim"
    );
    assert!(!seen.headers.values().any(|value| value == "forged"), "{seen:?}");
    assert_problem(&ask(&access, "POST /inject/acme/v1/x", "").await, 405, "method_not_allowed");
    assert_problem(&ask(&access, "GET /inject/acme/v11", "").await, 403, "path_not_allowed");
    assert_problem(&ask(&access, "GET /inject/acme", "").await, 403, "path_not_allowed");
    assert_eq!(rig.upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_websocket_is_refused_and_the_connection_serves_on() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let mut wire = Wire::open(&access).await;
    let secret = access.secret.expose();
    wire.send(
        format!(
            "GET /inject/acme/ws HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n"
        )
        .as_bytes(),
    )
    .await;
    wire.until("\"code\":\"upgrade_refused\"").await;
    assert!(wire.text.starts_with("HTTP/1.1 426 "), "{}", wire.text);
    let answer = ask(&access, "GET /inject/acme/v1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(rig.upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_socket_serves_one_route_at_its_root_and_goes_with_its_worker() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let path = access.sockets[&name("acme")].clone();
    let mut stream = tokio::net::UnixStream::connect(&path).await.expect("it listens");
    let request = format!(
        "GET /user?a=b HTTP/1.1\r\nHost: api.github.com\r\nConnection: close\r\nAuthorization: token {}\r\n\r\n",
        access.secret.expose()
    );
    stream.write_all(request.as_bytes()).await.expect("it is open");
    let mut answer = String::new();
    timeout(WAIT, stream.read_to_string(&mut answer)).await.expect("in time").expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(rig.last().target, "/user?a=b");
    rig.end(1);
    while path.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_shutdown_lets_a_stream_finish_and_accepts_nothing_more() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let (parts, mut wire) = rig.streaming(&access).await;
    let finish = async {
        while TcpStream::connect(("127.0.0.1", access.port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        parts.send(Part::Bytes("data: last\n\n")).expect("it still streams");
        drop(parts);
        wire.read_whole().await.expect("a whole answer")
    };
    let ((), answer) = tokio::join!(rig.server.drain(), finish);
    assert!(answer.contains("data: last") && answer.ends_with("0\r\n\r\n"), "{answer}");
    assert!(!access.sockets[&name("acme")].exists(), "no socket file is left");
}

#[tokio::test]
async fn a_shutdown_ends_the_stream_of_an_mcp_servers_own_messages() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let parts = rig.upstream.stream();
    let mut wire = Wire::open(&access).await;
    let head = head(&access, "GET /inject/acme/stream", "mcp-protocol-version: 2025-11-25\r\n");
    wire.send(head.as_bytes()).await;
    parts.send(Part::Bytes("data: one\n\n")).expect("it streams");
    wire.until("data: one").await;
    let ((), answer) = tokio::join!(rig.server.drain(), wire.read_whole());
    let answer = answer.expect("a whole answer");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
    drop(parts);
}

#[tokio::test]
async fn problems_of_the_session_reach_the_caller_with_their_codes() {
    let rig = Rig::start().await;
    let bob = rig.open_for(2, BOB).await;
    assert_problem(&ask(&bob, "GET /inject/acme/v1", "").await, 404, "no_session");
    assert!(rig.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_worker_that_may_hold_no_token_gets_none_from_the_token_calls() {
    use threadkey::api::{self, ApiSettings};
    let rig = Rig::start().await;
    let socket = rig.folder.path().join("inject-only.sock");
    let settings = ApiSettings { socket: socket.clone(), inject_only: true, ..ApiSettings::default() };
    let bound = api::bind(&settings).expect("it is free");
    let tokens = WorkerTokens::new(rig.api.broker.clone(), std::sync::Arc::new(WithoutBot));
    let stop = tokio_util::sync::CancellationToken::new();
    let (broker, capabilities) = (rig.api.broker.clone(), rig.api.capabilities.clone());
    let served = tokio::spawn(api::serve(bound, broker, capabilities, tokens, stop.clone()));
    let capability = rig.api.worker(7, ALICE, None);
    for line in ["GET /v1/token/acme", "GET /v1/token/other", "POST /v1/token/acme/rejected"] {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\nAuthorization: Bearer {}\r\n\r\n",
            capability.expose()
        );
        let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it is open");
        let mut answer = String::new();
        timeout(WAIT, stream.read_to_string(&mut answer)).await.expect("in time").expect("text");
        assert_problem(&answer, 403, "raw_tokens_disabled");
    }
    stop.cancel();
    served.await.expect("it ends");
    let access = rig.open().await;
    assert!(ask(&access, "GET /inject/acme/v1", "").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let rig = Rig::with(|_| vec![route(&format!("http://{address}"))]).await;
    let access = rig.open().await;
    let upstream = async {
        let (mut stream, _) = listener.accept().await.expect("the proxy connects");
        let mut text = String::new();
        while !text.ends_with("x-sum: 5\r\n\r\n") {
            let mut bytes = [0; 4096];
            let count = timeout(WAIT, stream.read(&mut bytes)).await.expect("in time").expect("open");
            assert!(count > 0, "no trailer arrived: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        let answer = "HTTP/1.1 200 OK\r\nTrailer: X-Mark\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Mark: 7\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("open");
    };
    let more = "TE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n";
    let request = format!("{}3\r\nabc\r\n0\r\nX-Sum: 5\r\n\r\n", head(&access, "POST /inject/acme/v1", more));
    let (answer, ()) = tokio::join!(exchange(&access, &request), upstream);
    assert!(answer.to_lowercase().ends_with("0\r\nx-mark: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_head_request_and_an_empty_answer_keep_their_lengths() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let answer = ask(&access, "HEAD /inject/acme/echo", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(rig.last().method, "HEAD");
    let answer = ask(&access, "POST /inject/acme/echo", "Content-Length: 0\r\n").await;
    assert!(answer.contains("content-length: 0\r\n"), "{answer}");
    assert_eq!(rig.last().headers.get("content-length").map(String::as_str), Some("0"));
    let answer = ask(&access, "GET /inject/acme/v1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        !rig.last().headers.contains_key("content-length")
            && !rig.last().headers.contains_key("transfer-encoding")
    );
}
