//! The outcome table, from the wire to the store. For each shape of a provider's answer to a
//! refresh: the number of requests, the results of callers in two processes, and the record
//! afterwards.

mod attribution;
mod in_progress;
mod journalled_answers;

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use threadkey::{
    broker::{RefreshState, TokenError},
    session::RetryKind,
};

use crate::{
    broker::{ALICE, MINUTE, Rig, tenant},
    support::{authserver::Reply, program::Home},
};

/// Signs in and lets the access token expire.
async fn expired(grace: Duration) -> Rig {
    let rig = Rig::with(grace).await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig
}

/// Requests a token from two processes at expiry. Returns both errors, and the number of requests.
async fn errors_of_two_processes(rig: &Rig) -> ([TokenError; 2], u64) {
    let before = rig.server.count();
    let first = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    let second = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    ([first, second], rig.server.count() - before)
}

/// Asserts that this answer ends the session with this code: one request, and none after it by any
/// process, until a new sign-in.
async fn expect_end(reply: Reply, expected: &str) {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([reply]);
    let (errors, requests) = errors_of_two_processes(&rig).await;
    for error in &errors {
        assert!(matches!(error, TokenError::Ended { code, .. } if code == expected), "{expected}: {error}");
    }
    assert_eq!(requests, 1, "{expected}");
    let kept = rig.session(ALICE).await;
    assert_eq!(kept.refresh_token, before.refresh_token, "{expected}: nothing is deleted");
    let ended = kept.ended.unwrap();
    assert_eq!((ended.code.as_str(), ended.at), (expected, rig.clock.now()));
    assert!(ended.fingerprint.matches(&before.refresh_token.unwrap().fingerprint()), "{expected}");
    rig.clock.advance(86_400);
    assert_eq!(errors_of_two_processes(&rig).await.1, 0, "{expected}: a verdict causes no further request");
    rig.sign_in(ALICE, "alice").await;
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.session(ALICE).await.ended, None, "{expected}: a sign-in clears it");
}

/// Asserts that this answer holds all callers back for this time, with this code: one request until
/// then, and a successful one after it.
async fn expect_hold_back(
    reply: impl FnOnce(i64) -> Reply,
    expected: &str,
    seconds: std::ops::RangeInclusive<i64>,
) {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([reply(rig.clock.now())]);
    let (errors, requests) = errors_of_two_processes(&rig).await;
    for error in &errors {
        assert!(
            matches!(error, TokenError::Unavailable { code, .. } if code == expected),
            "{expected}: {error}"
        );
    }
    assert_eq!(requests, 1, "{expected}: it holds for all processes");
    let kept = rig.session(ALICE).await;
    let retry = kept.retry.unwrap();
    assert_eq!((retry.kind(), retry.attempts), (RetryKind::Unspent, 1), "{expected}");
    let pause = retry.not_before - rig.clock.now();
    assert!(seconds.contains(&pause), "{expected}: {pause} s");
    assert_eq!(
        (kept.refresh_token, kept.generation, kept.ended),
        (before.refresh_token, 1, None),
        "{expected}"
    );
    rig.clock.set(retry.not_before - 1);
    assert_eq!(errors_of_two_processes(&rig).await.1, 0, "{expected}: not a second too early");
    rig.clock.set(retry.not_before);
    let before = rig.server.count();
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.server.count() - before, 1, "{expected}");
    assert_eq!(rig.session(ALICE).await.retry, None, "{expected}");
    assert_eq!(rig.server.events().total.reuses, 0, "{expected}");
}

/// The result of the one further request, after the access token has expired.
#[derive(Clone, Copy, Debug, PartialEq)]
enum FinalResult {
    /// The provider had not processed the first request.
    Refreshed,
    /// The provider had rotated, and treats the second request as theft.
    Ended,
}

/// Asserts that this answer leaves it open whether the refresh token was spent: recorded with this
/// code, shown in the status, and one request only while the access token works.
async fn expect_uncertain(reply: Reply, expected: &str, then: FinalResult) {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let before = rig.session(ALICE).await;
    rig.clock.advance(2700);
    rig.server.script([reply]);
    let sent = rig.server.count();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.broker.drained().await;
    for age in [2700, 3000, 3599] {
        rig.clock.set(before.issued_at + age);
        let other = rig.another();
        let lease = other.token(&tenant(ALICE), MINUTE).await.unwrap();
        other.drained().await;
        assert_eq!(lease.access_token, before.access_token, "{expected}");
    }
    assert_eq!(rig.server.count(), sent + 1, "{expected}: no blind replay");
    let kept = rig.session(ALICE).await;
    assert_eq!(
        (&kept.refresh_token, kept.generation, &kept.ended),
        (&before.refresh_token, 1, &None),
        "{expected}"
    );
    let status = rig.another().status(&[ALICE]).await.unwrap().remove(0);
    assert_eq!(status.refresh, RefreshState::Uncertain(expected.into()));
    rig.clock.set(before.issued_at + 3600);
    let last = rig.another().token(&tenant(ALICE), MINUTE).await;
    assert_eq!(rig.server.count(), sent + 2, "{expected}: only now there is no other way");
    match then {
        FinalResult::Refreshed => assert_eq!(last.unwrap().generation, 2, "{expected}"),
        FinalResult::Ended => {
            let error = last.unwrap_err();
            assert!(matches!(&error, TokenError::Ended { code, .. } if code == "invalid_grant"), "{error}");
        }
    }
}

fn raw(status: u16, content_type: &str, body: &str) -> Reply {
    let headers = vec![("content-type".into(), content_type.into())];
    Reply::Raw { status, headers, body: body.into() }
}

// === ended ===

#[tokio::test]
async fn an_rfc_6749_invalid_grant_ends_the_session() {
    let body = json!({"error": "invalid_grant", "error_description": "Token is not active"});
    expect_end(Reply::Json(400, body), "invalid_grant").await;
}

#[tokio::test]
async fn a_nested_refresh_token_reused_code_ends_the_session() {
    let error =
        json!({"message": "already used", "type": "invalid_request_error", "code": "refresh_token_reused"});
    expect_end(Reply::Json(401, json!({"error": error})), "refresh_token_reused").await;
}

#[tokio::test]
async fn a_verdict_in_a_nested_type_ends_the_session() {
    let body = json!({"type": "error", "error": {"type": "invalid_grant", "message": "gone"}});
    expect_end(Reply::Json(400, body), "invalid_grant").await;
}

#[tokio::test]
async fn an_error_in_an_answer_of_200_ends_the_session() {
    expect_end(Reply::Json(200, json!({"error": "bad_refresh_token"})), "bad_refresh_token").await;
}

#[tokio::test]
async fn a_401_with_token_expired_ends_the_session() {
    expect_end(Reply::Json(401, json!({"error": {"code": "token_expired"}})), "token_expired").await;
}

// === unspent ===

#[tokio::test]
async fn a_429_holds_all_callers_back_for_the_seconds_that_it_names() {
    expect_hold_back(|_| Reply::Status(429).retry_after(90), "http_429", 90..=90).await;
}

#[tokio::test]
async fn a_429_holds_all_callers_back_until_the_date_that_it_names() {
    let until = |now: i64| {
        let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(now + 90).unwrap());
        let headers = vec![("retry-after".to_owned(), httpdate::fmt_http_date(date))];
        Reply::Raw { status: 429, headers, body: Vec::new() }
    };
    expect_hold_back(until, "http_429", 90..=90).await;
}

#[tokio::test]
async fn a_503_with_an_html_page_holds_all_callers_back_for_a_moment() {
    expect_hold_back(|_| Reply::Html503, "http_503", 1..=2).await;
}

#[tokio::test]
async fn a_4xx_that_is_no_verdict_holds_all_callers_back_and_ends_no_session() {
    expect_hold_back(|_| raw(403, "text/html", "<h1>blocked</h1>"), "http_403", 1..=2).await;
}

#[tokio::test]
async fn a_503_holds_back_the_command_line_too() {
    let server = crate::team::authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    sign_in(&home).await;
    home.set_offset(3600);
    server.script([Reply::Status(503).retry_after(600)]);
    let before = server.count();
    for _ in 0..3 {
        let ended = home.run(&["token", "acme"]).await;
        assert_eq!(ended.code, 5, "{ended:?}");
        assert!(ended.stderr.contains("http_503"), "{ended:?}");
    }
    assert_eq!(server.count() - before, 1, "Retry-After holds for all processes");
    home.set_offset(3600 + 601);
    assert_eq!(home.run(&["token", "acme"]).await.code, 0);
    assert_eq!(server.count() - before, 2);
}

async fn sign_in(home: &Home) {
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let link = started["authorize_url"].as_str().unwrap();
    let callback = crate::support::browser::sign_in(link, "alice").await;
    assert_eq!(home.run_with(&["auth", "code", "acme"], &callback.url).await.code, 0);
}

// === misconfigured ===

#[tokio::test]
async fn a_misconfigured_client_is_reported_as_such_and_retried_slowly() {
    for (status, code) in [(401, "invalid_client"), (400, "unauthorized_client"), (400, "invalid_scope")] {
        let rig = expired(Duration::ZERO).await;
        rig.server.script([Reply::Json(status, json!({"error": code}))]);
        let (errors, requests) = errors_of_two_processes(&rig).await;
        for error in &errors {
            assert!(
                matches!(error, TokenError::Misconfigured { code: reported, .. } if reported == code),
                "{error}"
            );
        }
        assert_eq!(requests, 1, "{code}");
        let retry = rig.session(ALICE).await.retry.unwrap();
        assert!((210..=390).contains(&(retry.not_before - rig.clock.now())), "{code}: {retry:?}");
        rig.clock.set(retry.not_before);
        rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    }
}

#[tokio::test]
async fn a_misconfigured_client_is_retried_slowly_while_the_token_is_uncertain_too() {
    let rig = expired(Duration::ZERO).await;
    rig.server.script([Reply::Status(500), Reply::Json(401, json!({"error": "invalid_client"}))]);
    let (errors, _) = errors_of_two_processes(&rig).await;
    assert!(matches!(errors[1], TokenError::Unavailable { .. }), "{}", errors[1]);
    rig.clock.set(rig.session(ALICE).await.retry.unwrap().not_before);
    let (errors, requests) = errors_of_two_processes(&rig).await;
    for error in &errors {
        assert!(matches!(error, TokenError::Misconfigured { .. }), "{error}");
    }
    assert_eq!(requests, 1);
    let retry = rig.session(ALICE).await.retry.unwrap();
    assert_eq!(retry.kind(), RetryKind::Ambiguous, "an uncertain refresh token stays uncertain");
    let pause = retry.not_before - rig.clock.now();
    assert!((420..=780).contains(&pause), "the second failure in a row: {pause} s");
}

// === ambiguous ===

#[tokio::test]
async fn a_500_after_a_rotation_is_uncertain_and_only_the_provider_ends_the_session() {
    expect_uncertain(Reply::RotateThenStatus(500), "ambiguous_http_500", FinalResult::Ended).await;
}

#[tokio::test]
async fn a_connection_closed_after_a_rotation_is_uncertain() {
    expect_uncertain(Reply::RotateThenDrop, "ambiguous_reset", FinalResult::Ended).await;
}

#[tokio::test]
async fn half_a_body_and_then_a_reset_is_uncertain() {
    expect_uncertain(Reply::HalfBody, "ambiguous_http_200", FinalResult::Ended).await;
}

#[tokio::test]
async fn an_empty_body_of_200_is_uncertain() {
    expect_uncertain(Reply::Status(200), "ambiguous_http_200", FinalResult::Refreshed).await;
}

#[tokio::test]
async fn json_that_is_cut_off_in_an_answer_of_200_is_uncertain() {
    let cut = raw(200, "application/json", r#"{"access_token":"cut of"#);
    expect_uncertain(cut, "ambiguous_http_200", FinalResult::Refreshed).await;
}

#[tokio::test]
async fn a_504_of_a_gateway_is_uncertain() {
    expect_uncertain(
        raw(504, "text/html", "<h1>gateway time-out</h1>"),
        "ambiguous_http_504",
        FinalResult::Refreshed,
    )
    .await;
}

#[tokio::test]
async fn an_uncertain_refresh_at_expiry_waits_and_is_repeated_once() {
    let rig = expired(Duration::ZERO).await;
    rig.server.script([Reply::Drop]);
    let (errors, requests) = errors_of_two_processes(&rig).await;
    for error in &errors {
        let expected = |code: &str| code.starts_with("ambiguous_");
        assert!(matches!(error, TokenError::Unavailable { code, .. } if expected(code)), "{error}");
    }
    assert_eq!(requests, 1);
    rig.clock.set(rig.session(ALICE).await.retry.unwrap().not_before);
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.session(ALICE).await.retry, None);
}

#[tokio::test]
async fn within_the_grace_a_lost_refresh_is_repeated_at_once_and_a_verdict_then_counts() {
    let lost = [Reply::Drop, Reply::Status(502), raw(200, "application/json", "{")];
    for reply in lost {
        let rig = expired(Duration::from_secs(30)).await;
        rig.server.script([reply]);
        let before = rig.server.count();
        rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_eq!(rig.server.count() - before, 2);
        assert_eq!(rig.session(ALICE).await.retry, None);
    }
    // This provider breaks the grace that the configuration promises.
    let rig = expired(Duration::from_secs(30)).await;
    rig.server.script([Reply::RotateThenDrop]);
    let (errors, requests) = errors_of_two_processes(&rig).await;
    assert!(matches!(&errors[1], TokenError::Ended { code, .. } if code == "invalid_grant"), "{errors:?}");
    assert_eq!(requests, 2);
}

#[tokio::test]
async fn an_uncertain_refresh_that_is_given_up_after_the_grace_is_not_repeated_at_once() {
    let rig = expired(Duration::from_secs(30)).await;
    rig.server.script([Reply::RotateThenDrop]);
    rig.server.hold_before();
    let before = rig.server.count();
    let asking = rig.spawn_token_call(ALICE);
    rig.server.wait_for_held(1).await;
    rig.clock.advance(31);
    rig.server.release();
    let error = asking.await.unwrap().unwrap_err();
    assert!(matches!(&error, TokenError::Unavailable { code, .. } if code == "ambiguous_reset"), "{error}");
    assert_eq!(rig.server.count() - before, 1);
    assert_eq!(rig.server.events().total.reuses, 0, "the provider takes it for theft by now");
}
