//! Look-alikes of the vendors' APIs: one server, which takes only the live access token.
//!
//! Each is as strict as the vendor's public description: the place of the token, the required headers,
//! the form of a request. The model behind them follows the marker words of a prompt (`Turn`).

mod anthropic;
mod gemini;
mod github;
mod openai;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{any, get, post},
};
use serde_json::{Value, json};

use crate::support::{
    git_server::{self, Repositories},
    network::{Authority, with_tls_at},
};

/// The prompt with this word makes the model ask for a shell call, and with that its token dies.
pub(crate) const ASKS_FOR_A_SHELL_CALL: &str = "SHELLCALL";
/// The command of the shell call, and its output.
pub(crate) const COMMAND: &str = "printf 'shell-%d' 42";
/// The model's answer to the output of the shell call.
pub(crate) const SHELL_ANSWER: &str = "The shell printed shell-42.";
/// The model's answer to any other prompt.
pub(crate) const PLAIN_ANSWER: &str = "A plain answer.";

/// A request that came in.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The method and the path.
    pub(crate) line: String,
    pub(crate) status: u16,
    /// The count that the official SDKs put into a request that they repeat.
    pub(crate) retries: String,
    /// The presented token.
    pub(crate) token: Option<String>,
}

/// The life of the access tokens.
pub(crate) trait Tokens: Send + Sync {
    /// Whether the vendor takes the token.
    fn is_live(&self, token: &str) -> bool;
    /// The vendor ends the live tokens early.
    fn end_early(&self);
    /// The live tokens reach the end of their life.
    fn expire(&self);
}

/// A running server.
pub(crate) struct Vendors {
    base: String,
    /// The same by TLS, on a well-known port.
    pub(crate) https: String,
    /// The certificate of its authority.
    pub(crate) ca_file: PathBuf,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

struct Shared {
    tokens: Arc<dyn Tokens>,
    seen: Mutex<Vec<Seen>>,
    answers: AtomicUsize,
}

impl Drop for Vendors {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Vendors {
    /// Starts it. The folder gets the certificate, and has the repositories of the git server.
    pub(crate) async fn start(tokens: Arc<dyn Tokens>, folder: &Path) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has one");
        let base = format!("http://{address}");
        // Each server has the port of another loopback address.
        static HOSTS: AtomicUsize = AtomicUsize::new(2);
        let host = format!("127.0.0.{}", HOSTS.fetch_add(1, Ordering::Relaxed));
        let authority = Authority::new();
        with_tls_at(&format!("{host}:443"), authority.issue(&[&host]), address).await;
        let ca_file = folder.join("ca/ca.pem");
        std::fs::create_dir_all(folder.join("ca")).expect("a folder");
        std::fs::write(&ca_file, authority.pem()).expect("the certificate can be written");
        let repositories = folder.join("repositories");
        let live = tokens.clone();
        let git = Arc::new(Repositories::new(repositories, move |token| live.is_live(token)));
        let shared = Arc::new(Shared { tokens, seen: Mutex::default(), answers: AtomicUsize::default() });
        let router = Router::new()
            .route("/openai/v1/responses", post(openai::responses))
            .route("/openai/v1/models", get(openai::models))
            .route("/anthropic/v1/messages", post(anthropic::messages))
            .route("/anthropic/v1/messages/count_tokens", post(anthropic::count_tokens))
            .route("/gemini/v1beta/models/{call}", post(gemini::call))
            .route("/github/{*path}", any(github::answer))
            // The address of GitHub Enterprise.
            .route("/api/v3/{*path}", any(github::answer))
            .with_state(shared.clone())
            .nest_service("/git", Router::new().fallback(git_server::backend).with_state(git))
            .layer(axum::middleware::from_fn_with_state(shared.clone(), record))
            .merge(Router::new().route("/control/{step}", post(control)).with_state(shared.clone()));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves until it is stopped");
        });
        Self { base, https: format!("https://{host}"), ca_file, shared, serving }
    }

    /// The address of a vendor.
    pub(crate) fn url(&self, vendor: &str) -> String {
        format!("{}/{vendor}", self.base)
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A step of a script, and nothing of a vendor's.
async fn control(
    State(shared): State<Arc<Shared>>,
    axum::extract::Path(step): axum::extract::Path<String>,
) -> StatusCode {
    match step.as_str() {
        "end-early" => shared.tokens.end_early(),
        "expire" => shared.tokens.expire(),
        _ => return StatusCode::NOT_FOUND,
    }
    StatusCode::NO_CONTENT
}

async fn record(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    let headers = request.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut seen = Seen {
        line: format!("{} {}", request.method(), request.uri().path()),
        status: 0,
        retries: text("x-stainless-retry-count").to_owned(),
        token: git_server::password(headers).or_else(|| bearer(headers).map(str::to_owned)),
    };
    let response = next.run(request).await;
    seen.status = response.status().as_u16();
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    response
}

/// Returns the token in the header `Authorization`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("token "))
}

impl Shared {
    /// Whether the request presents the live token, and no other key. Claude Code sends that of a hook twice.
    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let Some(token) = bearer(headers) else { return false };
        let key = headers.get("x-api-key");
        let is_alone = key.is_none_or(|key| key == token) && !headers.contains_key("x-goog-api-key");
        is_alone && self.tokens.is_live(token)
    }

    /// Returns a new id for a part of an answer. Tools join parts with the same id.
    fn new_id(&self, kind: &str) -> String {
        format!("{kind}_{}", self.answers.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the model's reaction to the end of a conversation.
    fn react(&self, turn: &Turn, has_tools: bool) -> Reaction {
        match turn {
            Turn::Output(output) if output.contains("shell-42") => Reaction::Say(SHELL_ANSWER.to_owned()),
            Turn::Output(output) => Reaction::Say(format!("The shell call failed: {output}")),
            Turn::Prompt(text) if has_tools && text.contains(ASKS_FOR_A_SHELL_CALL) => {
                self.tokens.end_early();
                Reaction::Call
            }
            Turn::Prompt(_) => Reaction::Say(PLAIN_ANSWER.to_owned()),
        }
    }
}

/// The last part of a conversation.
enum Turn {
    /// The user's text.
    Prompt(String),
    /// The output of the shell call.
    Output(String),
}

/// The model's reaction.
enum Reaction {
    Say(String),
    /// The shell runs [`COMMAND`].
    Call,
}

/// Returns all texts within a value, in one.
fn texts(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(texts).collect::<Vec<_>>().join("\n"),
        Value::Object(members) => members.values().map(texts).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// Reads a request's JSON. Compressed and unlabelled bodies are refused.
fn read(headers: &HeaderMap, body: &Bytes) -> Result<Value, String> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(format!("the content type is {kind:?}"));
    }
    if let Some(coding) = headers.get(header::CONTENT_ENCODING) {
        return Err(format!("the body is compressed: {coding:?}"));
    }
    serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))
}

/// An answer of server-sent events, with or without names.
fn events<'a>(events: impl IntoIterator<Item = (&'a str, Value)>) -> Response {
    let line = |(name, data): (&str, Value)| {
        let name = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
        format!("{name}data: {data}\n\n")
    };
    let text: String = events.into_iter().map(line).collect();
    ([(header::CONTENT_TYPE, "text/event-stream")], text).into_response()
}
