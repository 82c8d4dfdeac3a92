//! The token API on its socket: the rights of each capability, and the problems of refused
//! requests.

mod exchange;
mod owner_wait;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use serde_json::{Value, json};
use threadkey::{
    agent::{Capabilities, Conversation, Holder, TokenSource as _},
    api::{self, ApiSettings, ListenSettings, OperatorKeySettings, OperatorKeys},
    broker::{Broker, OwnerQuestions, WithoutBot, WorkerTokens},
    ids::{ConversationId, Principal, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers},
    secret::{Capability, Scrubber},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::support::{
    authserver::{self, AuthServer, Lifetimes, Reply},
    browser,
    upstream::Upstream,
};

const NOW: i64 = 1_795_358_672;
pub(super) const ALICE: Snowflake = Snowflake(803);
pub(super) const BOB: Snowflake = Snowflake(804);
const GUILD: Snowflake = Snowflake(9);

pub(super) struct Rig {
    pub(super) server: AuthServer,
    /// The API whose answers are the probes.
    probed: Upstream,
    pub(super) clock: Clock,
    pub(super) broker: Broker,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) operators: OperatorKeys,
    /// The address of the TCP listener, if there is one.
    pub(super) address: Option<SocketAddr>,
    pub(super) socket: PathBuf,
    pub(super) shutdown: CancellationToken,
    pub(super) served: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// The parts of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Value,
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::serving(Vec::new(), None).await
    }

    /// Starts it with the bot's part of questions to owners.
    pub(super) async fn asking(questions: impl OwnerQuestions) -> Self {
        Self::with(Vec::new(), None, questions).await
    }

    /// Starts it with these operator keys, and on TCP if `listen` has the settings.
    pub(super) async fn serving(keys: Vec<OperatorKeySettings>, listen: Option<ListenSettings>) -> Self {
        Self::with(keys, listen, WithoutBot).await
    }

    async fn with(
        keys: Vec<OperatorKeySettings>,
        listen: Option<ListenSettings>,
        questions: impl OwnerQuestions,
    ) -> Self {
        let server = AuthServer::start(authserver::Options::default()).await;
        let issuer = server.clone();
        let probed = Upstream::start(move |token| issuer.is_live(token)).await;
        let folder = tempfile::Builder::new().prefix("tk").tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let store =
            FileStore::open(&folder.path().join("auth.json"), clock.clone(), FileStoreOptions::default());
        let settings = ProviderSettings {
            authorization_endpoint: server.authorization_endpoint(),
            token_endpoint: server.token_endpoint(),
            probe_endpoint: Some(format!("{}/me", probed.base())),
            client_id: authserver::CLIENT_ID.into(),
            redirect_uri: authserver::PASTE_REDIRECT_URI.into(),
            scopes: vec!["openid".into(), "offline_access".into()],
            ..ProviderSettings::default()
        };
        let acme = Provider::new("acme".parse().unwrap(), settings).unwrap();
        let providers = Providers::with_exchanges([acme], [], [exchange::docs()]);
        let client = Client::new(clock.clone()).unwrap();
        let broker = Broker::new(Arc::new(store.unwrap()), providers, client, clock.clone());
        let socket = folder.path().join("run/threadkey.sock");
        let bound = api::bind(&ApiSettings { socket: socket.clone(), ..ApiSettings::default() }).unwrap();
        let operators = OperatorKeys::load(keys).await.unwrap();
        let tcp = match listen {
            Some(listen) => Some(api::bind_tcp(listen).await.unwrap()),
            None => None,
        };
        let address = tcp.as_ref().map(|tcp| tcp.local_addr().unwrap());
        let bound = bound.with_operators(operators.clone()).with_tcp(tcp);
        let (capabilities, shutdown) = (Arc::new(Capabilities::new()), CancellationToken::new());
        let tokens = WorkerTokens::new(broker.clone(), Arc::new(WithoutBot)).asking(Arc::new(questions));
        let served = api::serve(bound, broker.clone(), capabilities.clone(), tokens, shutdown.clone());
        let served = tokio::spawn(served);
        Self {
            server,
            probed,
            clock,
            broker,
            capabilities,
            operators,
            address,
            socket,
            shutdown,
            served,
            _folder: folder,
        }
    }

    pub(super) async fn sign_in(&self, principal: Principal, account: &str) {
        let tenant = Tenant::new("acme".parse().unwrap(), principal);
        let started = self.broker.start(&tenant, principal).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), account).await;
        self.broker.finish(principal, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    }

    /// Issues a capability for a worker of this owner, in a conversation of its own.
    pub(super) fn worker(&self, id: u64, owner: Snowflake, shared_guild: Option<Snowflake>) -> Capability {
        let conversation =
            Conversation { id: ConversationId(Snowflake(id)), owner, shared_guild, agent: None };
        let providers = ["acme", "removed", "docs"].map(|name| name.parse().unwrap()).to_vec();
        self.capabilities.issue(Holder { conversation, providers })
    }

    pub(super) async fn get(&self, path: &str, capability: Option<&Capability>) -> Answer {
        self.ask("GET", path, capability.map(Capability::expose), "").await
    }

    pub(super) async fn ask(&self, method: &str, path: &str, bearer: Option<&str>, body: &str) -> Answer {
        let bearer = bearer.map(|b| format!("Authorization: Bearer {b}\r\n")).unwrap_or_default();
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{bearer}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    pub(super) async fn raw(&self, request: &str) -> Answer {
        Answer::read(UnixStream::connect(&self.socket).await.unwrap(), request).await
    }
}

impl Answer {
    /// Sends a request whose answer ends the connection.
    pub(super) async fn read(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Self {
        // The server may refuse a request before it has read all of it.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self {
            status,
            head: head.to_lowercase(),
            body: serde_json::from_str(body).unwrap_or(Value::String(body.into())),
        }
    }
}

#[track_caller]
pub(super) fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{answer:?}");
    assert_eq!(answer.body["status"], status);
    assert!(answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{answer:?}");
    assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
    assert!(answer.head.contains("cache-control: no-store"), "{answer:?}");
}

#[tokio::test]
async fn a_capability_revoked_during_a_refresh_gets_no_token() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    rig.clock.advance(86_400);
    let worker = rig.worker(1, ALICE, None);
    rig.server.hold();
    let asked = async {
        tokio::join!(rig.get("/v1/token/acme", Some(&worker)), async {
            rig.server.wait_for_held(1).await;
            rig.capabilities.revoke(ConversationId(Snowflake(1)));
            rig.server.release();
        })
    };
    let (answer, ()) = asked.await;
    assert_problem(&answer, 401, "unauthorized");
    let next = rig.worker(1, ALICE, None);
    assert_eq!(rig.get("/v1/token/acme", Some(&next)).await.status, 200);
    assert_eq!(rig.server.events().of("alice").refreshes, 1, "the new token is kept");
}

#[tokio::test]
async fn a_capability_opens_only_its_own_principal_and_providers() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    rig.sign_in(Principal::User(BOB), "bob").await;
    let (alice, bob) = (rig.worker(1, ALICE, None), rig.worker(2, BOB, None));
    let hers = rig.get("/v1/token/acme", Some(&alice)).await;
    let his = rig.get("/v1/token/acme", Some(&bob)).await;
    assert_eq!((hers.status, his.status), (200, 200));
    assert_eq!((&hers.body["principal"], &his.body["principal"]), (&json!("user:803"), &json!("user:804")));
    assert_ne!(hers.body["access_token"], his.body["access_token"]);
    assert_eq!(hers.body["account"], "alice@example.com");
    assert!(hers.head.contains("cache-control: no-store"), "{hers:?}");
    assert!(hers.body.get("refresh_token").is_none());
    assert_problem(&rig.get("/v1/token/other", Some(&alice)).await, 403, "provider_not_allowed");
}

#[tokio::test]
async fn a_token_request_without_a_live_capability_is_unauthorized() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let old = rig.worker(1, ALICE, None);
    let new = rig.worker(1, ALICE, None);
    assert_problem(&rig.get("/v1/token/acme", None).await, 401, "unauthorized");
    assert_problem(&rig.ask("GET", "/v1/token/acme", Some("guess"), "").await, 401, "unauthorized");
    assert_problem(&rig.get("/v1/token/acme", Some(&old)).await, 401, "unauthorized");
    assert_eq!(rig.get("/v1/token/acme", Some(&new)).await.status, 200);
    rig.capabilities.revoke(ConversationId(Snowflake(1)));
    let voided = rig.get("/v1/token/acme", Some(&new)).await;
    assert_problem(&voided, 401, "unauthorized");
    assert!(voided.head.contains("www-authenticate: bearer"), "{voided:?}");
    let probe = rig.get("/v1/token/other", None).await;
    assert_problem(&probe, 401, "unauthorized");
}

#[tokio::test]
async fn a_probed_token_that_the_provider_refuses_is_replaced_for_a_worker() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    let first = rig.get("/v1/token/acme?probe=1", Some(&worker)).await;
    assert_eq!(first.status, 200, "{first:?}");
    rig.server.advance(std::time::Duration::from_secs(100 * 3600));
    rig.clock.advance(3);
    let token = |answer: &Answer| answer.body["access_token"].clone();
    assert_eq!(token(&rig.get("/v1/token/acme?probe=0", Some(&worker)).await), token(&first));
    let probes = (0..8).map(|_| rig.get("/v1/token/acme?min_ttl=60&probe=1", Some(&worker)));
    for answer in futures_util::future::join_all(probes).await {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_ne!(token(&answer), token(&first));
    }
    assert_eq!(rig.server.events().of("alice").refreshes, 1);
    assert_problem(&rig.get("/v1/token/acme?probe=yes", Some(&worker)).await, 400, "invalid_request");
}

#[tokio::test]
async fn a_report_of_an_older_token_leaves_its_worker_the_report_of_the_next_one() {
    let rig = Rig::start().await;
    let hour = std::time::Duration::from_secs(3600);
    rig.server.set_lifetimes(Lifetimes { access_token: hour, ..Lifetimes::default() });
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let [one, other] = [1, 2].map(|id| rig.worker(id, ALICE, None));
    let report = async |worker: &Capability, token: &Value| {
        let body = json!({ "access_token": token }).to_string();
        let answer = rig.ask("POST", "/v1/token/acme/rejected", Some(worker.expose()), &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["access_token"].clone()
    };
    let first = rig.get("/v1/token/acme", Some(&one)).await.body["access_token"].clone();
    let second = report(&one, &first).await;
    assert_eq!(report(&other, &first).await, second, "it is replaced already");
    rig.clock.advance(61);
    assert_ne!(report(&other, &second).await, second);
    assert_eq!(rig.server.events().of("alice").refreshes, 2);
}

#[tokio::test]
async fn many_probes_of_a_token_at_once_cause_one_request() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    let probes = (0..8).map(|_| rig.get("/v1/token/acme?probe=1", Some(&worker)));
    for answer in futures_util::future::join_all(probes).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(rig.probed.seen().len(), 1);
}

#[tokio::test]
async fn a_probe_does_not_return_a_token_to_the_worker_that_has_reported_it() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    let first = rig.get("/v1/token/acme", Some(&worker)).await.body["access_token"].clone();
    rig.server.script([Reply::Status(503)]);
    let body = json!({ "access_token": first }).to_string();
    let reported = rig.ask("POST", "/v1/token/acme/rejected", Some(worker.expose()), &body).await;
    assert_problem(&reported, 503, "provider_unavailable");
    let probed = rig.get("/v1/token/acme?probe=1", Some(&worker)).await;
    assert_problem(&probed, 503, "provider_unavailable");
    let other = rig.worker(2, ALICE, None);
    let others = rig.get("/v1/token/acme?probe=1", Some(&other)).await;
    assert_eq!((others.status, &others.body["access_token"]), (200, &first), "{others:?}");
}

#[tokio::test]
async fn a_disallowed_provider_looks_the_same_as_a_missing_one() {
    let rig = Rig::start().await;
    let worker = rig.worker(1, ALICE, None);
    for name in ["other", "Not-A-Name", "%2e%2e"] {
        let path = format!("/v1/token/{name}");
        assert_problem(&rig.get(&path, Some(&worker)).await, 403, "provider_not_allowed");
    }
    assert_problem(&rig.get("/v1/token/removed", Some(&worker)).await, 404, "unknown_provider");
    assert_problem(&rig.get("/v1/token/acme", Some(&worker)).await, 404, "no_session");
}

#[tokio::test]
async fn a_servers_session_serves_only_members_without_a_session_of_their_own() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::Guild(GUILD), "team").await;
    let (member, stranger) = (rig.worker(1, ALICE, Some(GUILD)), rig.worker(2, BOB, None));
    assert_eq!(rig.get("/v1/token/acme", Some(&member)).await.body["principal"], "guild:9");
    assert_problem(&rig.get("/v1/token/acme", Some(&stranger)).await, 404, "no_session");
    rig.sign_in(Principal::User(ALICE), "alice").await;
    assert_eq!(rig.get("/v1/token/acme", Some(&member)).await.body["principal"], "user:803");
}

#[tokio::test]
async fn a_token_for_a_worker_counts_as_a_secret_before_the_worker_has_it() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let is_secret = |answer: &Answer| {
        Scrubber::of_process().clean(answer.body["access_token"].as_str().unwrap()) == "[secret removed]"
    };
    let worker = rig.worker(1, ALICE, None);
    let first = rig.get("/v1/token/acme", Some(&worker)).await;
    assert!(is_secret(&first));
    let body = json!({ "access_token": first.body["access_token"] }).to_string();
    let second = rig.ask("POST", "/v1/token/acme/rejected", Some(worker.expose()), &body).await;
    assert_ne!(second.body["access_token"], first.body["access_token"]);
    assert!(is_secret(&second));
}

#[tokio::test]
async fn a_workers_environment_gets_tokens_by_the_same_rule() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let tokens = WorkerTokens::new(rig.broker.clone(), Arc::new(WithoutBot));
    let holder = |owner, providers: &[&str]| Holder {
        conversation: Conversation {
            id: ConversationId(Snowflake(1)),
            owner,
            shared_guild: None,
            agent: None,
        },
        providers: providers.iter().map(|name| name.parse().unwrap()).collect(),
    };
    let acme = "acme".parse().unwrap();
    let token = tokens.token(&holder(ALICE, &["acme"]), &acme).await.unwrap();
    assert_eq!(Scrubber::of_process().clean(token.access_token.expose()), "[secret removed]");
    assert_eq!(token.expires_at, NOW + 60);
    for (holder, reason) in
        [(holder(ALICE, &["other"]), "agent.providers"), (holder(BOB, &["acme"]), "acme/user:804")]
    {
        let error = tokens.token(&holder, &acme).await.unwrap_err();
        assert!(error.is_final && error.reason.contains(reason), "{error:?}");
    }
}

#[tokio::test]
async fn a_rejected_token_is_replaced_by_one_refresh() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    let first = rig.get("/v1/token/acme", Some(&worker)).await.body["access_token"].clone();
    let body = json!({ "access_token": first }).to_string();
    let path = "/v1/token/acme/rejected";
    let second = rig.ask("POST", path, Some(worker.expose()), &body).await;
    assert_eq!(second.status, 200, "{second:?}");
    assert_ne!(second.body["access_token"], first);
    let again = rig.ask("POST", path, Some(worker.expose()), &body).await;
    assert_eq!(again.body["access_token"], second.body["access_token"]);
    assert_eq!(rig.server.events().total.refreshes, 1);
    let canary = r#"{"token": "canary"}"#;
    let refused = rig.ask("POST", path, Some(worker.expose()), canary).await;
    assert_problem(&refused, 400, "invalid_request");
    assert!(!refused.body.to_string().contains("canary"));
}

#[tokio::test]
async fn a_caller_that_hangs_up_in_mid_refresh_cancels_nothing() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    rig.clock.advance(86_400);
    rig.server.hold();
    let mut caller = UnixStream::connect(&rig.socket).await.unwrap();
    let request = format!(
        "GET /v1/token/acme HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        worker.expose()
    );
    caller.write_all(request.as_bytes()).await.unwrap();
    rig.server.wait_for_held(1).await;
    drop(caller);
    rig.server.release();
    let answer = rig.get("/v1/token/acme", Some(&worker)).await;
    assert_eq!((answer.status, &answer.body["generation"]), (200, &json!(2)), "{answer:?}");
    assert_eq!(rig.server.events().total.refreshes, 1);
}

#[tokio::test]
async fn invalid_and_oversized_requests_are_answered_with_problems() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    let bearer = Some(worker.expose());
    assert_problem(&rig.get("/", None).await, 404, "not_found");
    assert_problem(&rig.get("/v1/sessions", Some(&worker)).await, 403, "not_entitled");
    assert_problem(&rig.get("/v1/nothing", Some(&worker)).await, 404, "not_found");
    let wrong = rig.ask("DELETE", "/v1/token/acme", bearer, "").await;
    assert_problem(&wrong, 405, "method_not_allowed");
    assert!(wrong.head.contains("allow: get"), "{wrong:?}");
    assert_problem(&rig.get("/v1/token/acme?min_ttl=soon", Some(&worker)).await, 400, "invalid_request");
    assert_problem(&rig.get("/v1/token/acme?min_til=5", Some(&worker)).await, 400, "invalid_request");
    let long = "x".repeat(17 * 1024);
    let path = "/v1/token/acme/rejected";
    assert_problem(&rig.ask("POST", path, bearer, &long).await, 413, "content_too_large");
    let head = rig.raw(&format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n")).await;
    assert_problem(&head, 431, "head_too_large");
    let many = "X: y\r\n".repeat(65);
    let head = rig.raw(&format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).await;
    assert_problem(&head, 431, "head_too_large");
    assert_problem(&rig.raw("canary\r\n\r\n").await, 400, "invalid_request");
    assert_eq!(rig.get("/healthz", None).await.status, 200);
}

#[tokio::test]
async fn a_target_that_no_route_can_read_is_a_problem() {
    let rig = Rig::start().await;
    let worker = rig.worker(1, ALICE, None);
    for (method, path) in [
        ("GET", "/v1/token/%ff"),
        ("HEAD", "/v1/token/%ff"),
        ("HEAD", "/v1/token/acme"),
        ("HEAD", "/v1/token/acme/rejected"),
        ("HEAD", "/"),
        ("POST", "/v1/token/%c3%28/rejected"),
        ("POST", "/v1/token/%ff/insufficient_scope"),
        ("DELETE", "/v1/sessions/acme/%ff"),
        ("GET", "/v1/token/%"),
        ("GET", "/v1/token/%zz"),
        ("OPTIONS", "*"),
        ("CONNECT", "acme:443"),
        ("GET", "//v1/token/acme"),
        ("GET", "/v1//token/acme"),
        ("GET", "/v1/token/acme/"),
        ("GET", "/v1/token/../token/acme"),
        ("GET", "/v1/token/acme%2frejected"),
    ] {
        for secret in [None, Some(worker.expose())] {
            let answer = rig.ask(method, path, secret, "").await;
            assert!((400..500).contains(&answer.status), "{method} {path}: {answer:?}");
            assert!(
                answer.head.contains("content-type: application/problem+json"),
                "{method} {path}: {answer:?}"
            );
            assert!(answer.head.contains("cache-control: no-store"), "{method} {path}: {answer:?}");
            assert!(method != "HEAD" || answer.body == "", "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_token_request_gets_the_same_answer_by_the_router_and_past_it() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    for query in [
        "",
        "?",
        "?min_ttl=5",
        "?min_ttl=x",
        "?min_ttl=1&min_ttl=1",
        "?a=b",
        "?wait=0&probe=0",
        "?probe=2",
        "?%6din_ttl=5",
        "?min_ttl=%35",
    ] {
        for secret in [None, Some("guess"), Some(worker.expose())] {
            let [past, routed, absolute] = [
                format!("/v1/token/acme{query}"),
                format!("/v1/token/%61cme{query}"),
                format!("http://localhost/v1/token/acme{query}"),
            ]
            .map(|target| async { rig.ask("GET", &{ target }, secret, "").await });
            let (past, routed, absolute) = (past.await, routed.await, absolute.await);
            for other in [routed, absolute] {
                assert_eq!(past.status, other.status, "{query}: {past:?} {other:?}");
                for member in ["code", "detail", "access_token"] {
                    assert_eq!(past.body[member], other.body[member], "{query}: {past:?} {other:?}");
                }
            }
        }
    }
    for provider in ["ACME", "other", "acme ", "\u{e9}", "acme;a=b", "{provider}"] {
        let [past, routed] =
            [provider.to_owned(), provider.bytes().map(|byte| format!("%{byte:02x}")).collect()];
        let past = rig.get(&format!("/v1/token/{past}"), Some(&worker)).await;
        let routed = rig.get(&format!("/v1/token/{routed}"), Some(&worker)).await;
        if provider != "acme " {
            assert_eq!(
                (past.status, &past.body["code"]),
                (routed.status, &routed.body["code"]),
                "{provider}"
            );
        }
        assert!(past.status >= 400 && routed.status >= 400, "{provider}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_and_its_every_error_is_a_problem() {
    let rig = Rig::start().await;
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut stream = UnixStream::connect(&rig.socket).await.unwrap();
    for _ in 0..3 {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it is kept");
        }
    }
    let malformed = Answer::read(stream, "canary\r\n\r\n").await;
    assert_problem(&malformed, 400, "invalid_request");
    assert!(malformed.head.contains("connection: close"), "{malformed:?}");
    let pipelined = rig.raw(&format!("{request}{request}canary\r\n\r\n")).await.body;
    let pipelined = pipelined.as_str().unwrap();
    assert_eq!(pipelined.matches("HTTP/1.1 200 OK").count(), 1, "{pipelined}");
    assert!(pipelined.contains("HTTP/1.1 400") && pipelined.contains("invalid_request"), "{pipelined}");
}

#[tokio::test]
async fn a_shutdown_finishes_requests_in_progress_and_removes_the_socket() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    rig.clock.advance(86_400);
    rig.server.hold();
    let asked = rig.get("/v1/token/acme", Some(&worker));
    let ending = async {
        rig.server.wait_for_held(1).await;
        rig.shutdown.cancel();
        rig.server.release();
    };
    let (answer, ()) = tokio::join!(asked, ending);
    assert_eq!(answer.status, 200, "{answer:?}");
    rig.served.await.unwrap();
    assert!(UnixStream::connect(&rig.socket).await.is_err());
    assert!(!rig.socket.exists());
}
