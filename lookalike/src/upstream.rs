//! An API that takes only live access tokens, as the upstream of a proxy.
//!
//! It reads a request to its end before it looks at the token, except under `/early`. It
//! refuses every token under `/closed`. A test decides
//! about each part of the answer under `/stream`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use tokio::sync::{mpsc, watch};

/// A request as it came in.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path with the query.
    pub target: String,
    /// The headers, with names in lower case. Of a doubled one this is the last.
    pub headers: BTreeMap<String, String>,
    /// The number of the body's bytes that have arrived.
    pub body: usize,
    /// Whether the token was live.
    pub is_live: bool,
}

/// A part of the answer under `/stream`.
pub enum Part {
    /// These bytes.
    Bytes(&'static str),
    /// The connection breaks.
    Break,
}

/// A running upstream. It stops when this is dropped.
pub struct Upstream {
    base: String,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

struct Shared {
    is_live: Box<dyn Fn(&str) -> bool + Send + Sync>,
    seen: Mutex<Vec<Seen>>,
    changes: watch::Sender<u64>,
    /// How many streams have ended or lost their client.
    ended: watch::Sender<usize>,
    parts: Mutex<Option<mpsc::UnboundedReceiver<Part>>>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Upstream {
    /// Starts listening on a free port of loopback.
    pub async fn start(is_live: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let base = format!("http://{}", listener.local_addr().expect("a bound socket has one"));
        let shared = Arc::new(Shared {
            is_live: Box::new(is_live),
            seen: Mutex::default(),
            changes: watch::Sender::new(0),
            ended: watch::Sender::new(0),
            parts: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves until it is stopped");
        });
        Self { base, shared, serving }
    }

    /// The address, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }

    /// Decides about the answer to the next request under `/stream`: the sent parts are its body, which
    /// ends when the sender is dropped.
    pub fn stream(&self) -> mpsc::UnboundedSender<Part> {
        let (sender, parts) = mpsc::unbounded_channel();
        *self.shared.parts.lock().unwrap_or_else(PoisonError::into_inner) = Some(parts);
        sender
    }

    /// Waits until a condition on the requests holds.
    pub async fn wait_until(&self, holds: impl Fn(&[Seen]) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        while !holds(&self.shared.seen()) {
            changes.changed().await.expect("the sender is alive");
        }
    }

    /// Waits until this many streams have ended or lost their client.
    pub async fn wait_for_ended(&self, count: usize) {
        let mut ended = self.shared.ended.subscribe();
        ended.wait_for(|ended| *ended >= count).await.expect("the sender is alive");
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen()[index]);
        self.changes.send_modify(|count| *count += 1);
    }
}

/// Returns the token that a request presents, in any of the places in which APIs take one.
fn presented(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    if let Some(key) = text("x-api-key") {
        return Some(key);
    }
    let authorization = text("authorization")?;
    if let Some(pair) = authorization.strip_prefix("Basic ") {
        let pair = String::from_utf8(STANDARD.decode(pair).ok()?).ok()?;
        return pair.split_once(':').map(|(_, password)| password.to_owned());
    }
    authorization.strip_prefix("Bearer ").map(str::to_owned)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<_, _> =
        parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
    let path = parts.uri.path().to_owned();
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: headers.clone(),
        ..Seen::default()
    };
    let index = {
        let mut all = shared.seen();
        all.push(seen);
        all.len() - 1
    };
    let is_live = presented(&parts.headers).is_some_and(|token| (shared.is_live)(&token));
    shared.change(index, |seen| seen.is_live = is_live);
    let refused = || {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
        (StatusCode::UNAUTHORIZED, challenge, "the token is dead").into_response()
    };
    if !is_live && path.ends_with("/early") {
        return refused();
    }
    let mut content = Vec::new();
    let mut body = body.into_data_stream();
    while let Some(part) = body.next().await {
        let Ok(part) = part else { return StatusCode::BAD_REQUEST.into_response() };
        content.extend_from_slice(&part);
        shared.change(index, |seen| seen.body = content.len());
    }
    if !is_live || path.ends_with("/closed") {
        return refused();
    }
    match path.rsplit('/').next().unwrap_or_default() {
        "stream" => stream(&shared),
        "echo" => content.into_response(),
        "move" => {
            let to = headers.get("x-to").cloned().unwrap_or_default();
            (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
        }
        "cookie" => {
            let set = [("set-cookie", "session=s3cret"), ("connection", "x-private"), ("x-private", "1")];
            (set, "with a cookie").into_response()
        }
        "scope" => {
            let challenge = "Bearer error=\"insufficient_scope\", scope=\"more\"";
            (StatusCode::FORBIDDEN, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
        }
        _ => axum::Json(json!({"target": parts.uri.to_string(), "headers": headers})).into_response(),
    }
}

/// Counts a stream's end on drop.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.ended.send_modify(|ended| *ended += 1);
    }
}

fn stream(shared: &Arc<Shared>) -> Response {
    let Some(parts) = shared.parts.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return StatusCode::CONFLICT.into_response();
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    (headers, Body::from_stream(of_parts(parts, Counted(shared.clone())))).into_response()
}

fn of_parts(
    parts: mpsc::UnboundedReceiver<Part>,
    counted: Counted,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    futures_util::stream::unfold((parts, counted), |(mut parts, counted)| async move {
        let part = match parts.recv().await? {
            Part::Bytes(text) => Ok(Bytes::from_static(text.as_bytes())),
            Part::Break => Err(std::io::Error::other("scripted to break off")),
        };
        Some((part, (parts, counted)))
    })
}
