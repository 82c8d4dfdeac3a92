//! git's own HTTP server, for live tokens alone.
#![expect(clippy::disallowed_methods, reason = "the tests' own processes are not the program's")]

use std::{path::PathBuf, process::Stdio, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::authserver::AuthServer;

/// A server of the repositories in a folder, for live tokens alone. It stops when this is dropped.
pub struct GitServer(tokio::task::JoinHandle<()>);

impl GitServer {
    /// Starts it on loopback, and returns its host and port.
    pub async fn serve(folder: PathBuf, tokens: AuthServer) -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let repositories = Repositories::new(folder, move |token| tokens.is_live(token));
        let app = Router::new().fallback(backend).with_state(Arc::new(repositories));
        let serving = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("it serves until it is stopped");
        });
        (Self(serving), address)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The repositories in a folder. A live token is the password.
pub struct Repositories {
    folder: PathBuf,
    is_live: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Repositories {
    /// Serves the repositories in this folder.
    pub fn new(folder: PathBuf, is_live: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { folder, is_live: Box::new(is_live) }
    }
}

/// Returns the password of one of the user names that hosts document for tokens.
pub fn password(headers: &HeaderMap) -> Option<String> {
    let pair = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(pair).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    ["x-access-token", "oauth2"].contains(&user).then(|| password.to_owned())
}

/// Runs `git http-backend` for a request (RFC 3875).
pub async fn backend(State(server): State<Arc<Repositories>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: header::HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    if !password(&parts.headers).is_some_and(|token| (server.is_live)(&token)) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"git\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    }
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_PROJECT_ROOT", &server.folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REMOTE_USER", "alice")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header(header::CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", header(header::CONTENT_ENCODING))
        .env("GIT_PROTOCOL", header(header::HeaderName::from_static("git-protocol")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("git runs");
    let body = axum::body::to_bytes(body, 64 << 20).await.expect("a whole body");
    let mut input = child.stdin.take().expect("piped");
    let writing = async move {
        let _ = input.write_all(&body).await;
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), writing);
    let output = output.expect("it ends").stdout;
    let end = output.windows(4).position(|part| part == b"\r\n\r\n").expect("a head");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().expect("a status")),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).expect("a response")
}
