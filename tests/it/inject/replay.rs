//! The replay after the upstream has rejected the token.

use threadkey::ids::Tenant;

use super::*;
use crate::support::authserver::Reply;

/// The longest body that is kept for a replay.
const MAX_KEPT: usize = 8 << 20;

/// Sends a body of this length, and returns the answer.
async fn post(access: &InjectAccess, path: &str, length: usize) -> String {
    let head = head(access, &format!("POST /inject/acme{path}"), &format!("Content-Length: {length}\r\n"));
    let mut wire = Wire::open(access).await;
    wire.send(head.as_bytes()).await;
    let mut left = length;
    let block = vec![b'x'; 256 * 1024];
    while left > 0 {
        let now = left.min(block.len());
        if wire.stream.write_all(&block[..now]).await.is_err() {
            break;
        }
        left -= now;
    }
    let _ = wire.read_whole().await;
    wire.text
}

#[tokio::test]
async fn a_request_with_a_dead_token_is_replayed_once_with_the_next_one() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    rig.kill_token();
    let answer = post(&access, "/v1", MAX_KEPT).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = rig.upstream.seen();
    let shown: Vec<_> = seen.iter().map(|seen| (seen.is_live, seen.body)).collect();
    assert_eq!(shown, [(false, MAX_KEPT), (true, MAX_KEPT)]);
    assert_eq!(seen[1].headers["content-length"], MAX_KEPT.to_string());
    assert_eq!(rig.refreshes(), 1);
}

#[tokio::test]
async fn a_chunked_body_and_one_that_is_refused_early_are_replayed_whole() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    rig.kill_token();
    let mut wire = Wire::open(&access).await;
    let head = head(&access, "POST /inject/acme/early", "Transfer-Encoding: chunked\r\n");
    wire.send(head.as_bytes()).await;
    wire.send(b"5\r\nfirst\r\n").await;
    // The upstream refuses before the body has ended, and the rest goes to the second attempt.
    let replayed = rig.upstream.wait_until(|seen| seen.len() == 2 && seen[1].body == 5);
    timeout(WAIT, replayed).await.expect("the second attempt begins");
    wire.send(b"6\r\nsecond\r\n0\r\n\r\n").await;
    let answer = wire.read_whole().await.expect("whole");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = rig.last();
    assert_eq!((seen.is_live, seen.body), (true, 11));
}

#[tokio::test]
async fn a_body_that_is_too_long_to_keep_gets_the_401_and_its_token_is_reported() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    rig.kill_token();
    let answer = post(&access, "/v1", MAX_KEPT + 1).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.ends_with("the token is dead"), "{answer}");
    assert_eq!(rig.upstream.seen().len(), 1);
    while rig.refreshes() == 0 {
        tokio::task::yield_now().await;
    }
    let answer = post(&access, "/v1", MAX_KEPT + 1).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "the next request has the next token: {answer}");
}

#[tokio::test]
async fn a_token_that_is_rejected_twice_in_a_minute_gets_the_upstreams_own_401() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    rig.kill_token();
    assert!(ask(&access, "GET /inject/acme/v1", "").await.starts_with("HTTP/1.1 200 "));
    rig.kill_token();
    let answer = ask(&access, "GET /inject/acme/v1", "").await;
    assert_own_401(&answer);
    assert_eq!(rig.refreshes(), 1);
}

#[tokio::test]
async fn an_endpoint_that_refuses_every_token_takes_the_login_from_no_other_one() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    for _ in 0..3 {
        assert_own_401(&ask(&access, "GET /inject/acme/closed", "").await);
        let other = ask(&access, "GET /inject/acme/v1", "").await;
        assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    }
    assert_eq!(rig.refreshes(), 1, "one conversation forces one refresh in ten minutes");
}

#[tokio::test]
async fn a_token_that_its_refresh_brings_back_serves_the_next_request() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    let tenant = Tenant::new("acme".parse().expect("a name"), Principal::User(ALICE));
    let session = rig.api.broker.session(&tenant).await.expect("it is readable").expect("it is there");
    let same = serde_json::json!({
        "access_token": session.access_token.expose(), "refresh_token": "rotated", "expires_in": 3600,
    });
    rig.api.server.script([Reply::Json(200, same)]);
    assert_own_401(&ask(&access, "GET /inject/acme/closed", "").await);
    let other = ask(&access, "GET /inject/acme/v1", "").await;
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
}

#[tokio::test]
async fn a_401_ends_no_login_without_a_refresh_token() {
    let rig = Rig::with_first_answer(Reply::Edit(|body| {
        body.as_object_mut().expect("an object").remove("refresh_token");
    }))
    .await;
    let access = rig.open().await;
    for _ in 0..2 {
        assert_own_401(&ask(&access, "GET /inject/acme/closed", "").await);
        let other = ask(&access, "GET /inject/acme/v1", "").await;
        assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    }
}

/// The answer is that of the upstream, with its challenge and its body.
#[track_caller]
fn assert_own_401(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("invalid_token") && answer.ends_with("the token is dead"), "{answer}");
}

#[tokio::test]
async fn many_requests_with_one_dead_token_share_one_refresh() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    rig.kill_token();
    let all = (0..16).map(|_| ask(&access, "GET /inject/acme/v1", ""));
    for answer in futures_util::future::join_all(all).await {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(rig.refreshes(), 1);
}

#[tokio::test]
async fn a_session_that_the_provider_has_ended_is_a_problem() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    rig.kill_token();
    let ended = Reply::Json(400, serde_json::json!({"error": "invalid_grant"}));
    rig.api.server.script([ended]);
    let answer = ask(&access, "GET /inject/acme/v1", "").await;
    assert_problem(&answer, 410, "session_ended");
}

#[tokio::test]
async fn a_caller_that_leaves_during_its_report_costs_its_worker_no_token() {
    let rig = Rig::start().await;
    let access = rig.open().await;
    rig.kill_token();
    rig.api.server.hold();
    let mut wire = Wire::open(&access).await;
    wire.send(head(&access, "GET /inject/acme/v1", "").as_bytes()).await;
    timeout(WAIT, rig.api.server.wait_for_held(1)).await.expect("the refresh begins");
    drop(wire);
    let next = ask(&access, "GET /inject/acme/v1", "");
    let (answer, ()) = tokio::join!(next, async { rig.api.server.release() });
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(rig.refreshes(), 1);
}
