//! Verdicts in the words of vendors, and refusals that are none.

use threadkey::broker::TokenError;

use super::Rig;
use crate::{
    broker::{ALICE, NOW, tenant},
    support::raw::{Ending, framed, json},
};

/// Asserts that this answer ends the session with this code, and that nothing is sent after it.
async fn expect_end(rig: Rig, bytes: Vec<u8>, expected: &str) {
    rig.server.answer(bytes, Ending::Close);
    for _ in 0..2 {
        let error = rig.token().await.unwrap_err();
        assert!(matches!(&error, TokenError::Ended { code, .. } if code == expected), "{expected}: {error}");
        rig.clock.advance(86_400);
    }
    assert_eq!(rig.server.count(), 1, "{expected}");
    assert_eq!(rig.session().await.ended.unwrap().code, expected);
}

/// Asserts that this answer holds the session back with this code, and that the next one refreshes
/// it.
async fn expect_hold_back(bytes: Vec<u8>, expected: &str) {
    let rig = Rig::start().await;
    rig.server.answer(bytes, Ending::Close);
    let error = rig.token().await.unwrap_err();
    let is_expected = match &error {
        TokenError::Unavailable { code, .. } | TokenError::Misconfigured { code, .. } => code == expected,
        _ => false,
    };
    assert!(is_expected, "{expected}: {error}");
    let session = rig.session().await;
    assert_eq!((session.ended, session.generation), (None, 1), "{expected}");
    assert_eq!(session.refresh_token.unwrap().expose(), "rt-1", "{expected}");
}

#[tokio::test]
async fn a_verdict_in_a_vendors_own_words_ends_the_session() {
    for (status, body, code) in [
        (
            400,
            r#"{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid"}],"success":false}"#,
            "invalid_grant",
        ),
        (
            400,
            r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}"#,
            "bad_refresh_token",
        ),
        (
            403,
            r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
            "unauthorized_client",
        ),
        (
            400,
            r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#,
            "invalid_refresh_token",
        ),
        (
            400,
            r#"{"__type":"NotAuthorizedException","message":"Refresh Token has expired"}"#,
            "invalid_refresh_token",
        ),
        (
            401,
            r#"{"fault":{"faultstring":"…","detail":{"errorcode":"keymanagement.service.refresh_token_expired"}}}"#,
            "refresh_token_expired",
        ),
        (400, r#"{"data":{"error":"invalid_grant"}}"#, "invalid_grant"),
        (400, r#"{"status":400,"message":"Invalid refresh token"}"#, "invalid_refresh_token"),
    ] {
        expect_end(Rig::start().await, json(status, body), code).await;
    }
}

#[tokio::test]
async fn a_verdict_in_a_form_ends_the_session() {
    let form = b"error=bad_refresh_token&error_description=The+refresh+token+is+incorrect+or+expired.";
    let headers = "content-type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    expect_end(Rig::start().await, framed(200, headers, form), "bad_refresh_token").await;
}

#[tokio::test]
async fn a_code_in_the_providers_section_ends_the_session_there() {
    let denied = r#"{"error":"access_denied","error_description":"Unauthorized"}"#;
    let rig = Rig::with(|settings| settings.ended_errors = vec!["ACCESS_denied".into()]).await;
    expect_end(rig, json(403, denied), "access_denied").await;
    expect_hold_back(json(403, denied), "http_403").await;
}

#[tokio::test]
async fn a_refusal_in_other_words_ends_no_session() {
    for (status, body, code) in [
        (403, r#"{"message":"Forbidden"}"#, "http_403"),
        (401, r#"{"message":"Unauthorized"}"#, "http_401"),
        (403, r#"{"status":403,"message":"Invalid refresh token"}"#, "http_403"),
        (400, r#"{"status":400,"message":"Invalid refresh token format"}"#, "http_400"),
        (400, r#"{"__type":"NotAuthorizedException","message":"Unable to verify secret hash"}"#, "http_400"),
        (
            403,
            r#"{"error":"unauthorized_client","error_description":"Grant type 'refresh_token' not allowed"}"#,
            "unauthorized_client",
        ),
        (404, r#"{"error":"invalid_grant"}"#, "http_404"),
        (407, r#"{"error":"invalid_token"}"#, "http_407"),
        (451, r#"{"code":"invalid_token"}"#, "http_451"),
        (429, r#"{"error":"invalid_grant"}"#, "http_429"),
        (503, r#"{"error":"invalid_grant"}"#, "http_503"),
    ] {
        expect_hold_back(json(status, body), code).await;
    }
    expect_hold_back(framed(403, "content-type: text/html\r\n", b"<h1>invalid_grant</h1>"), "http_403").await;
}

#[tokio::test]
async fn a_single_users_refusals_are_counted_in_the_status_and_named_in_the_error() {
    let rig = Rig::start().await;
    for times in 1..=3 {
        rig.server.answer(json(400, r#"{"error":"something_new"}"#), Ending::Close);
        rig.server.forget();
        let error = rig.token().await.unwrap_err().to_string();
        assert!(error.contains("If it lasts") && error.contains("sign in again with"), "{error}");
        let status = &rig.another().status(&[tenant(ALICE).principal]).await.unwrap()[0];
        let refusals = status.refusals.as_ref().unwrap();
        assert_eq!((refusals.times, refusals.code.as_str()), (times, "http_400"));
        assert_eq!(refusals.since, NOW + 3600);
        rig.clock.advance(3600);
    }
}

#[tokio::test]
async fn the_shortest_pause_lasts_a_whole_second_whatever_part_of_this_one_is_over() {
    for headers in ["", "retry-after: 1\r\n"] {
        for _ in 0..4 {
            let rig = Rig::start().await;
            rig.server.answer(framed(503, headers, b""), Ending::Close);
            rig.token().await.unwrap_err();
            let retry = rig.session().await.retry.unwrap();
            assert_eq!(retry.not_before - retry.set_at, 2, "{headers:?}");
        }
    }
}
