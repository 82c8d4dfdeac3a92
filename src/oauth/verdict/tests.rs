use serde_json::json;

use super::*;
use crate::session::{Retry, RetryKind, journal::Answer};

fn with(body: &str, ended_errors: &[&str]) -> Option<(Family, String)> {
    under(403, body, ended_errors)
}

/// Reads an answer with this status.
fn under(status: u16, body: &str, ended_errors: &[&str]) -> Option<(Family, String)> {
    let answer = Answer { body: body.as_bytes().to_vec().into(), ..Answer::default() };
    let ended_errors = ended_errors.iter().map(|code| (*code).to_owned()).collect();
    verdict(&Content::of(&answer)?, &AnswerRules { ended_errors, ..AnswerRules::default() }, status)
}

fn of(body: &str) -> Option<(Family, String)> {
    with(body, &[])
}

#[test]
fn a_code_is_found_wherever_vendors_put_it() {
    for body in [
        r#"{"error":"invalid_grant"}"#,
        r#"{"error":{"code":"invalid_grant"}}"#,
        r#"{"error":{"type":"invalid_grant"}}"#,
        r#"{"error":{"code":400,"status":"INVALID_GRANT"}}"#,
        r#"{"error":{"error":"invalid_grant"}}"#,
        r#"{"error":{"errors":[{"reason":"invalid_grant"}]}}"#,
        r#"{"error":true,"code":"invalid_grant"}"#,
        r#"{"errors":["invalid_grant"]}"#,
        r#"{"errors":[{"message":"…"},{"code":"invalid_grant"}]}"#,
        r#"{"errors":[{"error":"invalid_grant"}]}"#,
        r#"{"errors":[{"errorType":"invalid_grant","message":"…"}],"success":false}"#,
        r#"{"errors":[{"id":"invalid_grant"}]}"#,
        r#"{"errors":{"code":"invalid_grant"}}"#,
        r#"{"code":"invalid_grant"}"#,
        r#"{"status":"INVALID_GRANT","correlationId":"…"}"#,
        r#"{"status":400,"error_code":"invalid_grant"}"#,
        r#"{"errorCode":"invalid_grant"}"#,
        r#"{"error_type":"invalid_grant"}"#,
        r#"{"type":"invalid_grant"}"#,
        r#"{"error":{".tag":"invalid_grant"}}"#,
        r#"{"name":"invalid_grant"}"#,
        r#"[{"errorCode":"INVALID_GRANT"}]"#,
        r#"["invalid_grant"]"#,
        r#"{"Error":"invalid_grant"}"#,
        r#"{"ERROR_CODE":"Invalid_Grant"}"#,
        r#"{"ErrorCode":"InvalidGrant"}"#,
        r#"{"Code":"invalid-grant"}"#,
        r#"{"__type":"InvalidGrantException"}"#,
        r#"{"__type":"com.amazonaws.oidc#InvalidGrantException"}"#,
        r#"{"type":"https://id.example/errors/invalid_grant","title":"Bad Request"}"#,
        r#"{"data":{"error":"invalid_grant"}}"#,
        r#"{"response":{"error":"invalid_grant"}}"#,
        r#"{"result":{"body":{"error":"invalid_grant"}}}"#,
        r#"{"message":"error","data":{"error_code":"invalid_grant"}}"#,
        r#"{"error":"Bad Request","details":[{"reason":"invalid_grant"}]}"#,
        r#"{"fault":{"faultstring":"…","detail":{"errorcode":"oauth.v2.invalid_grant"}}}"#,
    ] {
        assert_eq!(under(400, body, &[]), Some((Ended, "invalid_grant".into())), "{body}");
    }
}

#[test]
fn a_vendors_name_of_a_code_counts_but_not_that_of_a_proxy() {
    for (body, code) in [
        // Apigee.
        (
            r#"{"fault":{"faultstring":"…","detail":{"errorcode":"keymanagement.service.refresh_token_expired"}}}"#,
            "refresh_token_expired",
        ),
        // AWS.
        (r#"{"__type":"InvalidGrantException"}"#, "invalid_grant"),
        (r#"{"__type":"com.amazonaws.oidc#ExpiredTokenException"}"#, "expired_token"),
    ] {
        for status in [200, 400, 401] {
            assert_eq!(under(status, body, &[]), Some((Ended, code.to_owned())), "{status} {body}");
        }
        assert_eq!(under(403, body, &[]), None, "{body}");
    }
}

#[test]
fn a_sentence_is_no_verdict() {
    for body in [
        r#"{"message":"invalid_grant"}"#,
        r#"{"error":"The refresh token is invalid (invalid_grant)"}"#,
        r#"{"error":"Invalid refresh token"}"#,
        r#"{"error_description":"refresh_token is invalid"}"#,
        r#"{"status":400,"message":"Invalid refresh token"}"#,
        r#"{"message":"Forbidden"}"#,
        r#"{"error":"access_denied","error_description":"refresh token revoked"}"#,
        r#"{"errors":[{"detail":"invalid_grant"}]}"#,
        r#"{"error":"invalid_grants"}"#,
        r#"{"possible":["invalid_grant","invalid_client"]}"#,
        r#"{"a":{"b":{"c":{"error":"invalid_grant"}}}}"#,
        r#"{"error_uri":"https://id.example/invalid_grant"}"#,
        "{}",
        "[]",
    ] {
        assert_eq!(of(body), None, "{body}");
    }
}

#[test]
fn a_sentence_about_the_end_of_the_refresh_token_alone_is_a_verdict() {
    for body in [
        // Amazon Cognito.
        r#"{"__type":"NotAuthorizedException","message":"Refresh Token has expired"}"#,
        r#"{"__type":"NotAuthorizedException","message":"Refresh Token has been revoked"}"#,
        // Apigee.
        r#"{"ErrorCode":"invalid_request","Error":"Refresh Token expired"}"#,
        r#"{"ErrorCode":"invalid_request","Error":"Invalid Refresh Token"}"#,
        // Twitch.
        r#"{"status":400,"message":"Invalid refresh token"}"#,
        r#"{"error":"Bad Request","status":400,"message":"Invalid refresh token"}"#,
        r#"{"error":"Invalid refresh token"}"#,
        r#"{"detail":"The provided refresh token was not found."}"#,
        r#"{"errors":["refresh_token is invalid, expired or revoked"]}"#,
        r#"{"data":{"message":"Unauthorized: unknown refresh-token"}}"#,
        r#"{"message":"Your refresh token is no longer valid. Please log in again."}"#,
        r#"{"message":"The refresh token has already been used!"}"#,
        r#"{"code":"ERR_REFRESH_TOKEN_REVOKED"}"#,
        r#"{"name":"RefreshTokenExpiredError"}"#,
        r#"{"fault":{"faultstring":"Refresh Token expired","detail":{"errorcode":"oauth.v2.Other"}}}"#,
    ] {
        for status in [400, 401] {
            let ended = Some((Ended, "invalid_refresh_token".to_owned()));
            assert_eq!(under(status, body, &[]), ended, "{status} {body}");
        }
        for status in [200, 403] {
            let found = under(status, body, &[]);
            assert!(!matches!(found, Some((Ended, _))), "{status} {body}: {found:?}");
        }
    }
}

#[test]
fn a_sentence_with_another_subject_a_condition_or_a_denial_is_no_verdict() {
    for sentence in [
        "Invalid access token",
        "Invalid token",
        "The token has expired",
        "Invalid client or refresh token",
        "Invalid refresh token or client_id",
        "The refresh token is invalid, expired, revoked, or was issued to another client",
        "missing or invalid refresh token",
        "refresh token is required",
        "No refresh token found",
        "The refresh token is not expired",
        "The refresh token is valid",
        "Is the refresh token expired?",
        "If the refresh token is expired, sign in again",
        "The refresh token may be invalid",
        "Cannot check the refresh token: unknown host",
        "Invalid refresh token format",
        "Grant type refresh_token is invalid",
        "unknown grant_type refresh_token",
        "Invalid request: refresh token",
        "The refresh token service is not found",
        "Refresh token rotation: invalid request",
        "The access token expired; use the refresh token",
        "refresh token",
        "expired",
        "",
    ] {
        for body in [json!({"message": sentence}), json!({"error": sentence}), json!({"errors": [sentence]})]
        {
            assert_eq!(under(400, &body.to_string(), &[]), None, "{body}");
        }
    }
    let said = |code: &str| {
        under(400, &json!({"error": code, "message": "Invalid refresh token"}).to_string(), &[])
            .map(|(family, _)| family)
    };
    assert_eq!(said("invalid_client"), Some(Misconfigured), "the client is the cause");
    assert_eq!(said("temporarily_unavailable"), Some(Unspent));
    assert_eq!(said("access_denied"), None, "only by the provider's section");
    assert_eq!(said("something_new"), Some(Ended));
}

#[test]
fn the_verdicts_of_vendors_end_a_session() {
    for (body, code) in [
        // Fitbit.
        (
            r#"{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid"}],"success":false}"#,
            "invalid_grant",
        ),
        // HubSpot.
        (
            r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid refresh token"}"#,
            "bad_refresh_token",
        ),
        (r#"{"status":"BAD_AUTH_CODE","message":"missing or unknown auth code"}"#, "bad_auth_code"),
        // Atlassian.
        (
            r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
            "unauthorized_client",
        ),
        // Strava.
        (
            r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#,
            "invalid_refresh_token",
        ),
        (
            r#"{"message":"Bad Request","errors":[{"resource":"AuthorizationCode","field":"code","code":"invalid"}]}"#,
            "invalid_code",
        ),
        // Zoom.
        (r#"{"reason":"Invalid Token!","error":"invalid_grant"}"#, "invalid_grant"),
        // Microsoft.
        (
            r#"{"error":"invalid_grant","error_description":"AADSTS700082: …","error_codes":[700082],"suberror":"bad_token"}"#,
            "invalid_grant",
        ),
        // Google.
        (
            r#"{"error":"invalid_grant","error_description":"reauth related error (invalid_rapt)","error_subtype":"invalid_rapt"}"#,
            "invalid_grant",
        ),
        // Auth0, Okta, Salesforce, Spring, Supabase, Coinbase, Slack.
        (
            r#"{"error":"invalid_grant","error_description":"Unknown or invalid refresh token."}"#,
            "invalid_grant",
        ),
        (r#"{"error":"mfa_required","mfa_token":"…"}"#, "mfa_required"),
        (r#"{"error":"inactive_user","error_description":"user is inactive"}"#, "inactive_user"),
        (
            r#"{"error":"invalid_token","error_description":"Invalid refresh token (expired): …"}"#,
            "invalid_token",
        ),
        (
            r#"{"code":400,"error_code":"refresh_token_not_found","msg":"Invalid Refresh Token"}"#,
            "refresh_token_not_found",
        ),
        (r#"{"errors":[{"id":"revoked_token","message":"The access token was revoked"}]}"#, "revoked_token"),
        (r#"{"ok":false,"error":"account_inactive"}"#, "account_inactive"),
    ] {
        assert_eq!(of(body), Some((Ended, code.into())), "{body}");
    }
}

#[test]
fn an_unauthorized_client_ends_a_session_only_if_it_concerns_the_refresh_token() {
    let of_sentence = |name: &str, sentence: &str| {
        of(&format!(r#"{{"error":"unauthorized_client","{name}":"{sentence}"}}"#)).expect("a known code").0
    };
    for name in ["error_description", "message"] {
        for sentence in
            ["refresh_token is invalid", "The Refresh Token has expired.", "refresh-token revoked"]
        {
            assert_eq!(of_sentence(name, sentence), Ended, "{sentence}");
        }
        for sentence in [
            "Grant type 'refresh_token' not allowed for the client.",
            "The client is not authorized to use the grant_type refresh_token",
            "invalid client id",
            "",
        ] {
            assert_eq!(of_sentence(name, sentence), Misconfigured, "{sentence}");
        }
    }
    assert_eq!(of(r#"{"error":"unauthorized_client"}"#), Some((Misconfigured, "unauthorized_client".into())));
}

#[test]
fn a_providers_own_codes_end_a_session_there_alone() {
    let denied = r#"{"error":"access_denied"}"#;
    assert_eq!(of(denied), None);
    assert_eq!(with(denied, &["access_denied"]), Some((Ended, "access_denied".into())));
    assert_eq!(
        with(r#"{"error":"ACCESS_DENIED"}"#, &["access_denied"]),
        Some((Ended, "access_denied".into()))
    );
    let nested = r#"{"errors":[{"code":"x"},{"code":"token_gone"}]}"#;
    assert_eq!(with(nested, &["other", "token_gone"]), Some((Ended, "token_gone".into())));
    let numbered = r#"{"error":"invalid_request","error_codes":[9002313,700082]}"#;
    assert_eq!(of(numbered), Some((Misconfigured, "invalid_request".into())));
    assert_eq!(with(numbered, &["700082"]), Some((Ended, "700082".into())), "before the table");
    assert_eq!(with(r#"{"message":"access_denied"}"#, &["access_denied"]), None);
}

#[test]
fn the_first_known_code_counts() {
    let of = |body: &str| of(body).expect("a known code").1;
    assert_eq!(
        of(r#"{"error":{"type":"invalid_request_error","code":"refresh_token_reused"}}"#),
        "refresh_token_reused"
    );
    assert_eq!(of(r#"{"error":"unknown","code":"token_expired"}"#), "token_expired");
    assert_eq!(of(r#"{"code":"token_expired","error":"invalid_client"}"#), "invalid_client");
}

#[test]
fn codes_that_are_nested_too_deeply_or_unreadable_are_no_verdict() {
    let deep = "[".repeat(500) + r#""invalid_grant""# + &"]".repeat(500);
    assert_eq!(of(&format!(r#"{{"errors":{deep}}}"#)), None);
    assert_eq!(of(r#"{"error":"invalid_grant\ud83d"}"#), None);
    let beside = r#"{"error":"invalid_grant","error_description":"half a \ud83d","code":1e999}"#;
    assert_eq!(of(beside), Some((Ended, "invalid_grant".into())));
}

#[test]
fn every_word_of_the_table_is_short_plain_and_held_back_as_its_family() {
    for (code, family, word) in CODES {
        let is_plain =
            |text: &str| text.len() <= 40 && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(is_plain(code) && is_plain(word), "{code}");
        assert_eq!(of(&format!(r#"{{"error":"{code}"}}"#)), Some((family, word.to_owned())));
        let retry = Retry { set_at: 1, not_before: 1, attempts: 1, code: word.into(), refused: None };
        assert_eq!(retry.kind() == RetryKind::Misconfigured, family == Misconfigured, "{word}");
    }
}
