//! Tokens by exchange on the token API: the callers that get one, and the memory of this process.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use threadkey::{
    broker::Revocation,
    ids::{Principal, Tenant},
    oauth::Exchange,
    secret::Capability,
};

use super::{ALICE, Answer, BOB, Rig, assert_problem};
use crate::{
    fixtures,
    support::{
        authserver::{Lifetimes, Reply},
        program::Home,
    },
};

const PATH: &str = "/v1/token/docs";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A provider whose tokens come from `acme`.
pub(super) fn docs() -> Exchange {
    fixtures::exchange("docs", "acme")
}

/// An answer to an exchange, which lives 600 s and brings a refresh token that is not wanted.
fn answer(token: &str) -> Reply {
    Reply::Json(
        200,
        json!({
            "access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 600,
            "refresh_token": "canary-refresh",
        }),
    )
}

/// A rig on which alice is signed in, and her worker.
async fn signed_in() -> (Rig, Capability) {
    let rig = Rig::start().await;
    // A refresh during a test would take an answer of its script.
    let access_token = Duration::from_secs(86_400);
    rig.server.set_lifetimes(Lifetimes { access_token, ..Lifetimes::default() });
    rig.sign_in(Principal::User(ALICE), "alice").await;
    let worker = rig.worker(1, ALICE, None);
    (rig, worker)
}

fn alice() -> Tenant {
    Tenant::new("acme".parse().unwrap(), Principal::User(ALICE))
}

async fn rejects(rig: &Rig, worker: &Capability, token: &str) -> Answer {
    let body = json!({ "access_token": token }).to_string();
    rig.ask("POST", "/v1/token/docs/rejected", Some(worker.expose()), &body).await
}

#[track_caller]
fn assert_token(answer: &Answer, token: &str) {
    assert_eq!((answer.status, answer.body["access_token"].as_str()), (200, Some(token)), "{answer:?}");
    assert_eq!(answer.body["source"], "exchange");
}

/// Asserts that the reporter waits, because the newest token is the one that it reported.
#[track_caller]
fn assert_paused(answer: &Answer) {
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    assert!(answer.status == 503 && detail.contains("(rejected_again)"), "{answer:?}");
}

#[tokio::test]
async fn many_workers_of_one_owner_share_one_exchange_and_its_cache() {
    let (rig, worker) = signed_in().await;
    let before = rig.server.count();
    rig.server.script([answer("docs-1")]);
    rig.server.hold();
    let workers: Vec<_> = (2..=21).map(|id| rig.worker(id, ALICE, None)).collect();
    let asking = join_all(workers.iter().map(|worker| rig.get(PATH, Some(worker))));
    let release = async {
        rig.server.wait_for_held(1).await;
        rig.server.release();
    };
    let (answers, ()) = tokio::join!(asking, release);
    answers.iter().for_each(|answer| assert_token(answer, "docs-1"));
    // The command in a worker takes it from the socket, and has no configuration.
    let home = Home::new("");
    let socket = rig.socket.to_str().unwrap();
    let environment = [("THREADKEY_SOCKET", socket), ("THREADKEY_CAPABILITY", worker.expose())];
    let token = home.run_in(&["token", "docs", "--format", "json"], "", &environment).await;
    let printed: serde_json::Value = serde_json::from_str(&token.stdout).unwrap_or_default();
    assert_eq!(
        (&printed["access_token"], &printed["source"]),
        (&json!("docs-1"), &json!("exchange")),
        "{token:?}"
    );
    assert_eq!(rig.server.count(), before + 1, "one exchange serves all");
    let stored = rig.broker.session(&alice()).await.unwrap().unwrap();
    assert!(stored.refresh_token.is_some_and(|token| token.expose() != "canary-refresh"));
    let store = rig.socket.parent().unwrap().parent().unwrap().join("auth.json");
    #[expect(clippy::disallowed_methods, reason = "the test's own read of the file is not the program's")]
    let store = std::fs::read_to_string(store).unwrap();
    assert!(!store.contains("docs-1") && !store.contains("canary-refresh"), "nothing of it is stored");
}

#[tokio::test]
async fn an_exchange_serves_its_own_principal_and_only_workers_that_may_use_it() {
    let (rig, _) = signed_in().await;
    let before = rig.server.count();
    assert_problem(&rig.get(PATH, Some(&rig.worker(2, BOB, None))).await, 404, "no_session");
    assert_problem(&rig.get(PATH, None).await, 401, "unauthorized");
    let conversation = threadkey::agent::Conversation {
        id: threadkey::ids::ConversationId(threadkey::ids::Snowflake(3)),
        owner: ALICE,
        shared_guild: None,
        agent: None,
    };
    let holder = threadkey::agent::Holder { conversation, providers: vec!["acme".parse().unwrap()] };
    let without = rig.capabilities.issue(holder);
    assert_problem(&rig.get(PATH, Some(&without)).await, 403, "provider_not_allowed");
    assert_eq!(rig.server.count(), before, "nothing was sent");
}

#[tokio::test]
async fn an_exchanged_token_is_kept_while_it_lives_as_long_as_its_caller_needs() {
    let (rig, worker) = signed_in().await;
    let ask = async |path: &str| rig.get(path, Some(&worker)).await;
    rig.server.script([answer("docs-1"), answer("docs-2"), answer("docs-3")]);
    assert_token(&ask(PATH).await, "docs-1");
    rig.clock.advance(200);
    let kept = ask("/v1/token/docs?min_ttl=300").await;
    assert_token(&kept, "docs-1");
    assert_eq!(kept.body["expires_in"], 400);
    rig.clock.advance(200);
    assert_token(&ask("/v1/token/docs?min_ttl=100").await, "docs-1");
    assert_token(&ask("/v1/token/docs?min_ttl=300").await, "docs-2");
    rig.clock.advance(600);
    assert_token(&ask("/v1/token/docs?min_ttl=0").await, "docs-3");
}

#[tokio::test]
async fn a_reported_token_by_exchange_is_replaced_and_the_session_is_left_alone() {
    let (rig, worker) = signed_in().await;
    let session = rig.broker.session(&alice()).await.unwrap();
    rig.server.script([answer("docs-1"), answer("docs-2"), answer("docs-2")]);
    assert_token(&rig.get(PATH, Some(&worker)).await, "docs-1");
    assert_paused(&rejects(&rig, &worker, "docs-1").await);
    rig.clock.advance(60);
    assert_token(&rejects(&rig, &worker, "docs-1").await, "docs-2");
    assert_token(&rejects(&rig, &worker, "docs-1").await, "docs-2");
    rig.clock.advance(60);
    assert_paused(&rejects(&rig, &worker, "docs-2").await);
    assert_token(&rig.get(PATH, Some(&rig.worker(2, ALICE, None))).await, "docs-2");
    assert_eq!(rig.broker.session(&alice()).await.unwrap(), session, "a report costs no refresh");
}

#[tokio::test]
async fn no_exchanged_token_outlives_the_login_that_it_came_from() {
    let (rig, worker) = signed_in().await;
    rig.server.script([answer("docs-1")]);
    assert_token(&rig.get(PATH, Some(&worker)).await, "docs-1");
    let before = rig.server.count();
    rig.broker.logout(&alice(), Revocation::Keep).await.unwrap();
    assert_problem(&rig.get(PATH, Some(&worker)).await, 404, "no_session");
    assert_eq!(rig.server.count(), before);
    // A new login, as another account, is another right.
    rig.sign_in(Principal::User(ALICE), "mallory").await;
    rig.server.script([answer("docs-2")]);
    assert_token(&rig.get(PATH, Some(&worker)).await, "docs-2");
}

#[tokio::test]
async fn an_exchanged_token_ends_with_the_ended_session_whose_token_is_over() {
    let (rig, worker) = signed_in().await;
    let lives_on =
        Reply::Json(200, json!({"access_token": "docs-1", "token_type": "Bearer", "expires_in": 864_000}));
    rig.server.script([lives_on]);
    assert_token(&rig.get(PATH, Some(&worker)).await, "docs-1");
    rig.clock.advance(86_400);
    rig.server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    rig.broker.token(&alice(), Duration::from_secs(60)).await.unwrap_err();
    let count = rig.server.count();
    assert_problem(&rig.get(PATH, Some(&worker)).await, 410, "session_ended");
    assert_eq!(rig.server.count(), count);
}

#[tokio::test]
async fn a_logout_during_an_exchange_keeps_its_result_from_the_caller() {
    let (rig, worker) = signed_in().await;
    rig.server.script([answer("docs-1")]);
    rig.server.hold();
    let logout = async {
        rig.server.wait_for_held(1).await;
        rig.broker.logout(&alice(), Revocation::Keep).await.unwrap();
        rig.server.release();
    };
    let (answered, ()) = tokio::join!(rig.get(PATH, Some(&worker)), logout);
    assert_problem(&answered, 404, "no_session");
}
