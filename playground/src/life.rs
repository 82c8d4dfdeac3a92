//! The panel beside the chat: every refresh token's life, live, and two buttons that cause a
//! refresh.

use std::convert::Infallible;

use axum::{
    Json, Router,
    extract::State,
    http::header,
    response::sse::{Event, KeepAlive, Sse},
    routing::{get, post},
};
use futures_util::{Stream, stream};
use serde_json::{Value, json};

use threadkey_lookalike::{
    authserver::{Life, LifeState},
    discord::page::Panel,
};

use crate::{
    ask_all::ask_all,
    stage::{ACCESS_TOKEN, Scene},
};

const HTML: &str = include_str!("life.html");
const CSS: &str = include_str!("life.css");
const SCRIPT: &str = include_str!("life.js");

/// The number of tokens that are drawn for a sign-in, newest first.
const DRAWN: usize = 24;

/// The panel; its endpoints are below `/life`.
pub(crate) fn panel(scene: Scene) -> Panel {
    let text = |kind: &'static str, body: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], body) })
    };
    let routes = Router::new()
        .route("/life/life.css", text("text/css; charset=utf-8", CSS))
        .route("/life/life.js", text("text/javascript; charset=utf-8", SCRIPT))
        .route("/life/events", get(events))
        .route("/life/expire", post(expire))
        .route("/life/ask", post(ask))
        .with_state(scene);
    Panel { html: HTML, routes }
}

async fn events(State(scene): State<Scene>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = scene.server.changes();
    let pictures = stream::unfold((scene, changes, true), async |(scene, mut changes, first)| {
        if !first && changes.changed().await.is_err() {
            return None;
        }
        changes.borrow_and_update();
        let event = Event::default().data(picture(&scene).to_string());
        Some((Ok(event), (scene, changes, false)))
    });
    Sse::new(pictures).keep_alive(KeepAlive::default())
}

/// The counters, and each sign-in with its tokens; the newest sign-in first.
fn picture(scene: &Scene) -> Value {
    let total = scene.server.events().total;
    let mut families: Vec<Value> =
        scene.server.lives().chunk_by(|a, b| a.family == b.family).map(family).collect();
    families.reverse();
    json!({
        "now_ms": scene.server.now_ms(),
        "sign_ins": total.sign_ins,
        "refreshes": total.refreshes,
        "reuses": total.reuses,
        "families": families,
    })
}

fn family(lives: &[Life]) -> Value {
    let (first, newest) = (&lives[0], &lives[lives.len() - 1]);
    let drawn = &lives[lives.len().saturating_sub(DRAWN)..];
    json!({
        "family": newest.family,
        "account": newest.account,
        "refreshes": newest.position,
        "earlier": drawn[0].position,
        "since_ms": first.born_ms,
        // An access token comes with each refresh token, and lives for so long.
        "access_from_ms": newest.born_ms,
        "access_until_ms": newest.born_ms.saturating_add(lifetime_ms()),
        "usable": newest.state == LifeState::Live,
        "tokens": drawn,
    })
}

fn lifetime_ms() -> i64 {
    i64::try_from(ACCESS_TOKEN.as_millis()).unwrap_or(i64::MAX)
}

/// Moves time forward until every access token has expired. The body must be JSON, because a page
/// of another site cannot send that without permission.
async fn expire(State(scene): State<Scene>, Json(_): Json<Value>) -> Json<Value> {
    let lives = scene.server.lives();
    let logins = lives.iter().filter(|life| life.state == LifeState::Live).count();
    match scene.advance(ACCESS_TOKEN) {
        Ok(()) => Json(json!({"seconds": ACCESS_TOKEN.as_secs(), "logins": logins})),
        Err(why) => Json(json!({"error": why})),
    }
}

/// Lets all users ask, and waits for the answers.
async fn ask(State(scene): State<Scene>, Json(_): Json<Value>) -> Json<Value> {
    match tokio::spawn(async move { ask_all(&scene).await }).await {
        Ok(Ok(counts)) => Json(counts),
        Ok(Err(why)) => Json(json!({"error": why})),
        Err(_) => Json(json!({"error": "an expected event did not come; the terminal shows more"})),
    }
}
