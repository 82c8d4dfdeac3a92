//! The built-in agent as a worker in its sandbox, with stand-ins for the token API and for a
//! resource on loopback.

use std::{path::PathBuf, sync::Mutex};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde_json::{Value, json};
use threadkey::{
    agent::{
        builtin::{PROVIDER_VARIABLE, USERINFO_VARIABLE},
        token_client::{TokenClient, TokenClientError, TokenQuery},
    },
    secret::{AccessToken as Token, Capability},
};

use super::*;
use crate::support::program;

/// The settings of the stand-ins, and the requests that they received.
#[derive(Default)]
struct StandIns {
    /// The reported tokens. The API hands out `stale`, which the resource refuses, until a token
    /// was reported.
    rejected: Vec<String>,
    authorizations: Vec<String>,
    refuse: bool,
}

type Shared = Arc<Mutex<StandIns>>;

struct Scene {
    rig: WorkerRig,
    stand_ins: Shared,
}

fn token(generation: u64) -> Value {
    json!({"access_token": if generation == 1 { "stale" } else { "fresh" }, "token_type": "Bearer", "expires_at": 1_795_358_730,
        "expires_in": 58, "scope": "openid", "provider": "acme", "principal": "user:100", "generation": generation})
}

async fn hand_out(State(stand_ins): State<Shared>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let mut stand_ins = stand_ins.lock().expect("no test panicked with it");
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    stand_ins.authorizations.push(shown.to_owned());
    if stand_ins.refuse {
        let problem = json!({"type": "about:blank", "title": "No session", "status": 404,
            "detail": "nobody has signed in to acme: use /auth start", "code": "no_session"});
        return (StatusCode::NOT_FOUND, Json(problem));
    }
    (StatusCode::OK, Json(token(1 + stand_ins.rejected.len() as u64)))
}

async fn rejected(State(stand_ins): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    let mut stand_ins = stand_ins.lock().expect("no test panicked with it");
    stand_ins.rejected.push(body["access_token"].as_str().unwrap_or_default().to_owned());
    Json(token(1 + stand_ins.rejected.len() as u64))
}

async fn userinfo(headers: HeaderMap) -> (StatusCode, Json<Value>) {
    match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some("Bearer fresh") => (StatusCode::OK, Json(json!({"sub": "8f2c", "name": "alice"}))),
        _ => (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_token"}))),
    }
}

fn serve_tokens(socket: PathBuf, stand_ins: Shared) {
    let listener = tokio::net::UnixListener::bind(socket).expect("the socket can be bound");
    let router = Router::new()
        .route("/v1/token/acme", get(hand_out))
        .route("/v1/token/acme/rejected", post(rejected))
        .with_state(stand_ins);
    tokio::spawn(async move { axum::serve(listener, router).await });
}

impl Scene {
    async fn new() -> Self {
        let resource = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback can be bound");
        let address = resource.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(resource, Router::new().route("/me", get(userinfo))).await });
        let stand_ins = Shared::default();
        let rig = WorkerRig::new(&[&program::path().to_string_lossy(), "agent"], |settings| {
            settings.env.insert(PROVIDER_VARIABLE.into(), "acme".into());
            settings.env.insert(USERINFO_VARIABLE.into(), format!("http://{address}/me"));
        });
        serve_tokens(rig.folder.path().join("socket"), Arc::clone(&stand_ins));
        Self { rig, stand_ins }
    }
}

#[tokio::test]
async fn the_built_in_agent_names_its_account_and_reports_a_refused_token_once() {
    let scene = Scene::new().await;
    let turn = scene.rig.turn(1, "which account is it?").await;
    assert_eq!(turn.text, "I hold **alice**'s login at **acme** (generation 2, the token expires in 58 s).");
    assert_eq!(turn.done.as_deref(), Some("end_turn"));
    let steps: Vec<_> = turn.tools.iter().map(|(title, status)| format!("{title}: {status}")).collect();
    assert_eq!(
        steps,
        [
            "Ask threadkey for a token of acme: in_progress",
            "Ask threadkey for a token of acme: completed",
            "Ask acme for the account: in_progress",
            "Ask acme for the account: failed",
            "Report to threadkey that acme refused the token: in_progress",
            "Report to threadkey that acme refused the token: completed",
            "Ask acme again: in_progress",
            "Ask acme again: completed",
        ]
    );
    let stand_ins = scene.stand_ins.lock().expect("no handler panicked with it");
    assert_eq!(stand_ins.rejected, ["stale"]);
    let capability = stand_ins.authorizations[0].strip_prefix("Bearer ").expect("a bearer token");
    assert_eq!(
        scene.rig.capabilities.holder(capability).map(|holder| holder.conversation),
        Some(conversation(1))
    );
}

#[tokio::test]
async fn an_owner_without_a_session_is_given_the_command_to_sign_in() {
    let scene = Scene::new().await;
    scene.stand_ins.lock().expect("no handler panicked with it").refuse = true;
    let turn = scene.rig.turn(1, "which account is it?").await;
    assert_eq!(
        turn.text,
        "threadkey gives me no token: you are not signed in to **acme**. Type `/auth start acme`, and then ask me again."
    );
    assert_eq!(turn.tools.last().map(|(_, status)| status.as_str()), Some("failed"));
}

#[tokio::test]
async fn a_dropped_permission_question_counts_as_refused() {
    let scene = Scene::new().await;
    for (choice, expected) in [
        (Some("allow"), "I hold"),
        (Some("refuse"), "not allowed"),
        (None, "not allowed"),
        (Some("forged"), "not allowed"),
    ] {
        let mut updates = scene.rig.prompt(1, "permission").await.expect("it is taken");
        let Some(Update::Permission(question)) = next(&mut updates).await else { panic!("no question") };
        assert_eq!(question.title, "Look up the account of this login");
        assert_eq!(question.options.len(), 2);
        if let Some(choice) = choice {
            question.answer.send(choice.to_owned()).expect("it is waited for");
        } else {
            drop(question);
        }
        let turn = Turn::read(&mut updates).await;
        assert!(turn.text.contains(expected), "{choice:?}: {turn:?}");
    }
}

#[tokio::test]
async fn a_cancel_ends_an_open_question_and_a_slow_answer() {
    let scene = Scene::new().await;
    let id = ConversationId(Snowflake(1));
    let mut updates = scene.rig.prompt(1, "permission").await.expect("it is taken");
    let Some(Update::Permission(question)) = next(&mut updates).await else { panic!("no question") };
    assert!(scene.rig.workers.cancel(id).await);
    assert_eq!(Turn::read(&mut updates).await.done.as_deref(), Some("cancelled"));
    assert!(question.answer.is_closed(), "the question is closed");

    let mut updates = scene.rig.prompt(1, "slow").await.expect("it is taken");
    assert!(matches!(next(&mut updates).await, Some(Update::Text(_))));
    assert!(scene.rig.workers.cancel(id).await);
    assert_eq!(Turn::read(&mut updates).await.done.as_deref(), Some("cancelled"));
}

#[tokio::test]
async fn a_crash_on_request_is_reported() {
    let scene = Scene::new().await;
    let turn = scene.rig.turn(1, "crash").await;
    assert_eq!(
        turn.crashed.as_deref(),
        Some("exit status 1; the agent wrote: \"threadkey agent: crashed on request\"")
    );
}

#[tokio::test]
async fn the_built_in_agent_outside_a_worker_explains_its_purpose() {
    let output = tokio::process::Command::new(program::path())
        .arg("agent")
        .env_clear()
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .expect("the program starts");
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        words.contains("the bot starts `threadkey agent`") && words.contains("THREADKEY_SOCKET is not set"),
        "{words}"
    );
}

#[tokio::test]
async fn the_token_client_distinguishes_an_absent_bot_from_a_refusal() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let socket = folder.path().join("socket");
    let client = TokenClient::new(socket.clone(), Capability::new("c4nary"));
    let acme: ProviderId = "acme".parse().expect("a name");
    let absent = client.token(&acme, TokenQuery::default()).await.expect_err("nobody listens");
    assert!(matches!(absent, TokenClientError::Unreachable { .. }), "{absent}");

    let stand_ins = Shared::default();
    serve_tokens(socket, Arc::clone(&stand_ins));
    let query = TokenQuery {
        min_ttl: Some(Duration::from_secs(60)),
        wait: Some(Duration::ZERO),
        ..TokenQuery::default()
    };
    let answer = client.token(&acme, query).await.expect("it is given");
    assert_eq!((answer.access_token, answer.generation), (Token::new("stale"), 1));
    let newer = client.rejected(&acme, &Token::new("stale")).await.expect("it is given");
    assert_eq!(newer.generation, 2);
    let elsewhere = client.token(&"other".parse().expect("a name"), query).await.expect_err("no such route");
    assert!(matches!(elsewhere, TokenClientError::Unknown { status: 404 }), "{elsewhere}");
    stand_ins.lock().expect("no handler panicked with it").refuse = true;
    match client.token(&acme, query).await {
        Err(TokenClientError::Refused { status: 404, code, .. }) => assert_eq!(code, "no_session"),
        other => panic!("{other:?}"),
    }
}
