//! `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap};

use super::{
    openapi::{Anyone, ReadyProblems},
    problem::Problem,
    state::Api,
    via::Via,
};
use crate::store::StoreError;

/// Answers as soon as the process serves requests.
#[utoipa::path(
    get, path = "/healthz", tag = "health",
    responses((status = 200, description = "The process serves requests.", body = String, content_type = "text/plain"), Anyone)
)]
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// Reports whether tokens can be handed out: `store`, `locks`, `commits` and `gateway`, each on a line
/// after the first. A bot that is not connected to Discord is ready, because tokens need no Discord.
/// On TCP without an operator key the answer has the first line alone.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses(
        (status = 200, description = "Tokens can be handed out. The first line is `ready`; on TCP without an operator key there is no other.", body = String, content_type = "text/plain"),
        ReadyProblems
    )
)]
pub(super) async fn ready(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<String, Problem> {
    let store = api.broker.status(&[]).await.map(drop);
    let locks = match &store {
        Ok(()) => api.broker.check_locks().await,
        Err(_) => Ok(()),
    };
    let unsaved = api.broker.unsaved().len();
    let lines = [
        state("store", &store),
        // Nothing is known about the locks of a store that cannot be reached.
        if store.is_ok() { state("locks", &locks) } else { "locks: unknown".to_owned() },
        match unsaved {
            0 => "commits: ok".to_owned(),
            waiting => format!(
                "commits: new tokens of {waiting} sessions cannot be saved yet: threadkey's log has the reason"
            ),
        },
        match api.bot.as_ref().map(|bot| *bot.borrow()) {
            Some(true) => "gateway: connected".to_owned(),
            Some(false) => "gateway: not connected, trying again".to_owned(),
            None => "gateway: none, because this is `threadkey serve`".to_owned(),
        },
    ];
    // Everyone in the network may ask there, as a load balancer does.
    let shows_parts = api.via == Via::Socket || api.caller(&headers).is_ok();
    let lines = if shows_parts { lines.join("\n") } else { String::new() };
    if store.is_err() || locks.is_err() || unsaved > 0 {
        return Err(Problem::not_ready(&lines));
    }
    Ok(if lines.is_empty() { "ready\n".to_owned() } else { format!("ready\n{lines}\n") })
}

/// The line of a part. It hides the store's path, which the log has: a worker may read it.
fn state(part: &str, checked: &Result<(), StoreError>) -> String {
    match checked {
        Ok(()) => format!("{part}: ok"),
        Err(error) => {
            tracing::error!(%error, part, "threadkey is not ready");
            format!("{part}: cannot be used at the moment: threadkey's log has the reason")
        }
    }
}
