//! A server whose answers are written out. It is an MCP server and its authorization server.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use threadkey::{
    broker::Broker,
    ids::{Principal, Snowflake, Tenant},
    net::Reach,
    oauth::{Client, Pasted, ProviderSettings, Providers, Publisher, RECOMMENDED_REDIRECT_URI, Undiscovered},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};
use tokio::{net::TcpListener, sync::Barrier};
use url::Url;

use super::home;
use crate::support::program::Home;

pub(super) const NOW: i64 = 1_795_358_672;
pub(super) const RESOURCE_AT: &str = "/.well-known/oauth-protected-resource/mcp";
pub(super) const ISSUER_AT: &str = "/.well-known/oauth-authorization-server";

/// A path, a status, a header, and a body. The header is the challenge, or begins with `location: `.
pub(super) type Answer<'a> = (&'a str, u16, &'a str, Value);

pub(super) struct Scripted {
    pub(super) base: String,
    served: Arc<Served>,
}

#[derive(Default)]
struct Served {
    base: String,
    answers: Mutex<BTreeMap<String, (u16, String, String)>>,
    asked: Mutex<Vec<Asked>>,
    gathering: Mutex<BTreeMap<String, Arc<Barrier>>>,
}

#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) line: String,
    pub(super) body: String,
}

impl Scripted {
    /// Answers each path as written. In a header and a body, `{base}` stands for its own origin, and
    /// `{n}` for the number of requests to this path.
    pub(super) async fn start(answers: &[Answer<'_>]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::new(Served { base: base.clone(), ..Served::default() });
        let app = Router::new().fallback(answer).with_state(served.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let scripted = Self { base, served };
        answers.iter().for_each(|answer| scripted.set(answer.clone()));
        scripted
    }

    /// A whole server: its clients have secrets, and its tokens are numbered.
    pub(super) async fn confidential() -> Self {
        let mut metadata = issuer();
        metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
        Self::start(&[
            (RESOURCE_AT, 200, "", resource()),
            (ISSUER_AT, 200, "", metadata),
            ("/register", 201, "", registered_with_secret()),
            ("/token", 200, "", tokens("a b")),
            ("/revoke", 200, "", json!({})),
        ])
        .await
    }

    pub(super) fn set(&self, (path, status, header, body): Answer<'_>) {
        let answer = (status, header.to_owned(), body.to_string());
        self.served.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    /// Holds the requests to a path back until so many have come.
    pub(super) fn gather(&self, path: &str, count: usize) {
        self.served.gathering.lock().unwrap().insert(path.to_owned(), Arc::new(Barrier::new(count)));
    }

    pub(super) fn home(&self) -> Home {
        home(&self.mcp(), "")
    }

    pub(super) fn mcp(&self) -> String {
        format!("{}/mcp", self.base)
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.served.asked.lock().unwrap().iter().map(|asked| asked.line.clone()).collect()
    }

    /// The requests with this method and path.
    pub(super) fn requests(&self, line: &str) -> Vec<Asked> {
        self.served.asked.lock().unwrap().iter().filter(|asked| asked.line == line).cloned().collect()
    }

    /// All that it was sent, for a search.
    pub(super) fn everything(&self) -> String {
        format!("{:?}", self.served.asked.lock().unwrap())
    }

    /// The provider `linear` with this server, and nothing else in its section.
    pub(super) fn undiscovered(&self) -> Undiscovered {
        undiscovered(&self.mcp())
    }

    /// Starts a process on the store in this folder.
    pub(super) fn process(&self, folder: &Path, clock: &Clock) -> Broker {
        process(Providers::with_undiscovered([], [self.undiscovered()]), folder, clock)
    }
}

/// The provider `linear` with this MCP server, and nothing else in its section.
pub(super) fn undiscovered(url: &str) -> Undiscovered {
    let url: Url = url.parse().unwrap();
    let settings = ProviderSettings {
        registers_client: true,
        redirect_uri: RECOMMENDED_REDIRECT_URI.to_owned(),
        reach: Some(Reach::default().listing_host_of(&url)),
        ..ProviderSettings::default()
    };
    Undiscovered { id: "linear".parse().unwrap(), settings, publisher: Publisher::Mcp(url) }
}

async fn answer(State(served): State<Arc<Served>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let line = format!("{} {path}", request.method());
    let authorization = request.headers().get(header::AUTHORIZATION).cloned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let count = {
        let mut asked = served.asked.lock().unwrap();
        assert_eq!(authorization, None, "no test has a client with HTTP Basic, and no probe has a token");
        asked.push(Asked { line: line.clone(), body });
        asked.iter().filter(|asked| asked.line == line).count()
    };
    let barrier = served.gathering.lock().unwrap().get(&path).cloned();
    if let Some(barrier) = barrier {
        barrier.wait().await;
    }
    let Some((status, head, body)) = served.answers.lock().unwrap().get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let filled = |text: &str| text.replace("{base}", &served.base).replace("{n}", &count.to_string());
    let mut response = (StatusCode::from_u16(status).unwrap(), filled(&body)).into_response();
    let head = filled(&head);
    match head.strip_prefix("location: ") {
        Some(to) => drop(response.headers_mut().insert(header::LOCATION, to.parse().unwrap())),
        None if head.is_empty() => {}
        None => drop(response.headers_mut().insert(header::WWW_AUTHENTICATE, head.parse().unwrap())),
    }
    response
}

pub(super) fn resource() -> Value {
    json!({"resource": "{base}/mcp", "authorization_servers": ["{base}"], "scopes_supported": ["a", "b"]})
}

pub(super) fn issuer() -> Value {
    json!({
        "issuer": "{base}", "authorization_endpoint": "{base}/authorize", "token_endpoint": "{base}/token",
        "registration_endpoint": "{base}/register", "revocation_endpoint": "{base}/revoke",
        "code_challenge_methods_supported": ["S256"], "token_endpoint_auth_methods_supported": ["none"],
        "scopes_supported": ["a", "b", "offline_access"],
    })
}

pub(super) fn registered() -> Value {
    json!({"client_id": "c-1", "token_endpoint_auth_method": "none"})
}

fn registered_with_secret() -> Value {
    json!({
        "client_id": "c-{n}", "client_secret": "secret-of-c-{n}", "client_secret_expires_at": 0,
        "token_endpoint_auth_method": "client_secret_post",
    })
}

pub(super) fn tokens(scope: &str) -> Value {
    json!({
        "access_token": "access-{n}", "refresh_token": "refresh-{n}", "token_type": "Bearer",
        "expires_in": 3600, "scope": scope,
    })
}

// === processes ===

pub(super) fn process(providers: Providers, folder: &Path, clock: &Clock) -> Broker {
    let path = folder.join("store/auth.json");
    let store = FileStore::open(&path, clock.clone(), FileStoreOptions::default()).unwrap();
    Broker::new(Arc::new(store), providers, Client::new(clock.clone()).unwrap(), clock.clone())
}

pub(super) fn user(id: u64) -> Principal {
    Principal::User(Snowflake(id))
}

pub(super) fn tenant(id: u64) -> Tenant {
    Tenant::new("linear".parse().unwrap(), user(id))
}

/// Starts a user's sign-in and returns the parameters of its link.
pub(super) async fn begin(broker: &Broker, id: u64) -> BTreeMap<String, String> {
    let started = broker.start(&tenant(id), user(id)).await.unwrap();
    started.link().unwrap().query_pairs().into_owned().collect()
}

/// Finishes the sign-in with this link by a paste.
pub(super) async fn finish(
    broker: &Broker,
    id: u64,
    link: &BTreeMap<String, String>,
) -> Result<(), threadkey::broker::FinishError> {
    let paste = format!("{}?code=code-{id}&state={}", link["redirect_uri"], link["state"]);
    broker.finish(user(id), None, Pasted::parse(&paste).unwrap()).await.map(drop)
}

pub(super) async fn sign_in(broker: &Broker, id: u64) -> BTreeMap<String, String> {
    let link = begin(broker, id).await;
    finish(broker, id, &link).await.unwrap();
    link
}
