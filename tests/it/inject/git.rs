//! git through the proxy, against git's own HTTP server.

use std::{path::Path, process::Stdio, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::process::Command;

use super::*;
use crate::support::authserver::AuthServer;

/// A server of the repositories in a folder, for live tokens alone. It stops when this is dropped.
pub(crate) struct GitServer(tokio::task::JoinHandle<()>);

struct Repositories {
    folder: std::path::PathBuf,
    tokens: AuthServer,
}

impl GitServer {
    /// Starts it on loopback, and returns its host and port.
    pub(crate) async fn serve(folder: std::path::PathBuf, tokens: AuthServer) -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let app = Router::new().fallback(backend).with_state(Arc::new(Repositories { folder, tokens }));
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

/// Runs `git http-backend` for a request (RFC 3875).
async fn backend(State(server): State<Arc<Repositories>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: header::HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let pair = header(header::AUTHORIZATION);
    let pair = pair.strip_prefix("Basic ").and_then(|pair| STANDARD.decode(pair).ok()).unwrap_or_default();
    let pair = String::from_utf8_lossy(&pair).into_owned();
    if !pair.strip_prefix("x-access-token:").is_some_and(|token| server.tokens.is_live(token)) {
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

async fn git(folder: &Path, access: Option<&InjectAccess>, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    let settings = [("user.name", "a".to_owned()), ("user.email", "a@b".to_owned())];
    let mut settings = settings.to_vec();
    let keys = access.map(|access| {
        let base = access.base_url(&name("acme"));
        (format!("url.{base}/.insteadOf"), format!("http.{base}/.extraHeader"), access.secret.expose())
    });
    if let Some((instead, header, secret)) = &keys {
        settings.push((instead, "https://git.example/".to_owned()));
        settings.push((header, format!("Authorization: Bearer {secret}")));
    }
    for (at, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    command
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_COUNT", settings.len().to_string())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("HOME", folder)
        .kill_on_drop(true);
    let output = timeout(WAIT, command.output()).await.expect("in time").expect("git runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn git_clones_fetches_and_pushes_across_an_expiry_without_a_token() {
    let rig = Rig::start().await;
    let folder = rig.folder.path();
    git(folder, None, &["init", "-q", "--bare", "-b", "main", "remote.git"]).await;
    git(&folder.join("remote.git"), None, &["config", "http.receivepack", "true"]).await;
    let (_serving, address) = GitServer::serve(folder.to_owned(), rig.api.server.clone()).await;
    let tokens = WorkerTokens::new(rig.api.broker.clone(), Arc::new(WithoutBot));
    let git_route = InjectRoute {
        credential: Credential::Basic("x-access-token".into()),
        ..route(&format!("http://{address}"))
    };
    let rig = Rig { server: InjectServer::new(vec![git_route], tokens).expect("TLS is in order"), ..rig };
    let access = rig.open().await;
    let folder = rig.folder.path();

    git(folder, Some(&access), &["clone", "-q", "https://git.example/remote.git", "one"]).await;
    let one = folder.join("one");
    // Random content is not compressed, so the push is streamed in chunks (http.postBuffer is 1 MiB).
    let content: Vec<u8> = (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(one.join("file"), content).expect("writes");
    git(&one, None, &["checkout", "-q", "-B", "main"]).await;
    git(&one, None, &["add", "file"]).await;
    git(&one, None, &["commit", "-q", "-m", "first"]).await;
    rig.kill_token();
    git(&one, Some(&access), &["push", "-q", "origin", "main"]).await;
    assert_eq!(rig.refreshes(), 1);
    git(folder, Some(&access), &["clone", "-q", "https://git.example/remote.git", "two"]).await;
    let heads = [
        git(&one, None, &["rev-parse", "HEAD"]).await,
        git(&folder.join("two"), None, &["rev-parse", "HEAD"]).await,
    ];
    assert_eq!(heads[0], heads[1]);
    git(&folder.join("two"), Some(&access), &["fetch", "-q"]).await;
}
