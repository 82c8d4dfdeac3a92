use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::*;
use crate::session::{Retry, RetryKind};

/// Sun, 22 Nov 2026 16:04:32 GMT.
const NOW: UnixTime = 1_795_363_472;

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: Zeroizing::new(body.as_bytes().to_vec()), at: NOW, ..Answer::default() }
}

fn outcome_of(answer: &Answer, client_id: &str, nonce: Option<&Nonce>) -> Outcome {
    outcome(&Attempt::Answered(Answered::for_tests(answer.clone())), client_id, nonce)
}

fn read(status: u16, body: &str) -> Outcome {
    outcome_of(&answer(status, body), "threadkey", None)
}

/// Returns the family and the code in one line.
fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Granted(_) => "granted".into(),
        Outcome::Unspent { code, .. } => format!("unspent {code}"),
        Outcome::Ambiguous { code } => format!("ambiguous {code}"),
        Outcome::Ended { code } => format!("ended {code}"),
        Outcome::Misconfigured { code } => format!("misconfigured {code}"),
        Outcome::Mismatch { claim } => format!("mismatch {claim}"),
    }
}

fn assert_rows(rows: &[(u16, &str, &str)]) {
    for (status, body, expected) in rows {
        assert_eq!(summary(&read(*status, body)), *expected, "{status} {body}");
    }
}

fn granted(body: &str) -> Grant {
    match read(200, body) {
        Outcome::Granted(grant) => *grant,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn a_request_that_never_left_is_unspent_and_one_without_an_answer_is_ambiguous() {
    for step in ["dns", "connect", "tls", "proxy"] {
        assert_eq!(summary(&outcome(&Attempt::NotSent(step), "threadkey", None)), format!("unspent {step}"));
    }
    for how in ["timeout", "reset", "too_large"] {
        let expected = format!("ambiguous ambiguous_{how}");
        assert_eq!(summary(&outcome(&Attempt::Unanswered(how), "threadkey", None)), expected);
    }
}

#[test]
fn a_success_carries_the_whole_grant() {
    let grant = granted(
        r#"{"access_token":"at","refresh_token":"rt","token_type":"bearer","expires_in":864000,"scope":"openid email"}"#,
    );
    assert_eq!(grant.access_token.expose(), "at");
    assert_eq!(grant.refresh_token.expect("it rotated").expose(), "rt");
    assert_eq!((grant.token_type.as_str(), grant.scope.as_deref()), ("bearer", Some("openid email")));
    assert_eq!(grant.expires_in, Duration::from_secs(864_000));
    assert_eq!(grant.account, None);
}

#[test]
fn an_access_token_after_a_byte_order_mark_is_read() {
    assert_eq!(granted("\u{feff}{\"access_token\":\"at\"}").access_token.expose(), "at");
}

#[test]
fn an_answer_with_an_access_token_is_a_success_despite_other_members() {
    assert_rows(&[
        (200, r#"{"access_token":"at"}"#, "granted"),
        (201, r#"{"access_token":"at","error":"invalid_grant"}"#, "granted"),
        (200, r#"{"ok":true,"access_token":"at","expires_in":null,"scope":7,"token_type":[]}"#, "granted"),
        (200, r#"{"access_token":"at","id_token":"not a jwt"}"#, "granted"),
    ]);
    let bare = granted(r#"{"access_token":"at","refresh_token":"","token_type":"a b","scope":" "}"#);
    assert!(bare.refresh_token.is_none(), "an empty refresh token is none: the old one stays");
    assert_eq!((bare.token_type.as_str(), bare.scope), ("Bearer", None));
    let listed = granted(r#"{"access_token":"at","scope":["read","write"]}"#);
    assert_eq!(listed.scope.as_deref(), Some("read write"));
}

#[test]
fn a_lifetime_is_read_from_a_number_or_a_text_and_is_an_hour_otherwise() {
    let ten_years = 315_360_000;
    for (json, expected) in [
        ("3599", 3599),
        ("3599.9", 3599),
        ("0.5", 1),
        (r#""28800""#, 28_800),
        (r#"" 60.0 ""#, 60),
        ("0", 3600),
        ("-5", 3600),
        (r#""soon""#, 3600),
        (r#""NaN""#, 3600),
        ("null", 3600),
        ("315360001", ten_years),
        ("1e300", ten_years),
        (r#""inf""#, ten_years),
        ("18446744073709551615", ten_years),
    ] {
        let grant = granted(&format!(r#"{{"access_token":"at","expires_in":{json}}}"#));
        assert_eq!(grant.expires_in, Duration::from_secs(expected), "{json}");
    }
    assert_eq!(granted(r#"{"access_token":"at"}"#).expires_in, Duration::from_secs(3600));
}

#[test]
fn a_2xx_without_a_token_is_ambiguous() {
    assert_rows(&[
        (200, "", "ambiguous ambiguous_http_200"),
        (200, "<html>captive portal</html>", "ambiguous ambiguous_http_200"),
        (200, "[]", "ambiguous ambiguous_http_200"),
        (200, r#"{"access_token":""}"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"access_token":{"a":1}}"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"access_token":"cut off"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"ok":false,"error":"fatal_error"}"#, "ambiguous ambiguous_http_200"),
        (204, "", "ambiguous ambiguous_http_204"),
    ]);
}

#[test]
fn a_verdict_in_any_providers_form_ends_the_session() {
    assert_rows(&[
        // RFC 6749 §5.2.
        (400, r#"{"error":"invalid_grant","error_description":"grant not found"}"#, "ended invalid_grant"),
        (401, r#"{"error":"invalid_grant"}"#, "ended invalid_grant"),
        (403, r#"{"error":"invalid_grant"}"#, "ended invalid_grant"),
        // OpenAI.
        (
            401,
            r#"{"error":{"message":"Your refresh token has already been used.","type":"invalid_request_error","param":null,"code":"refresh_token_reused"}}"#,
            "ended refresh_token_reused",
        ),
        (401, r#"{"error":{"code":"token_expired","message":"…"},"status":401}"#, "ended token_expired"),
        (401, r#"{"error":{"code":"refresh_token_expired"}}"#, "ended refresh_token_expired"),
        (401, r#"{"error":{"code":"refresh_token_invalidated"}}"#, "ended refresh_token_invalidated"),
        (400, r#"{"code":"refresh_token_reused"}"#, "ended refresh_token_reused"),
        // Microsoft.
        (400, r#"{"error":"interaction_required","error_codes":[50076]}"#, "ended interaction_required"),
        // Nested, with a type.
        (400, r#"{"type":"error","error":{"type":"invalid_grant","message":"…"}}"#, "ended invalid_grant"),
        // GitHub and Slack: 200.
        (
            200,
            r#"{"error":"bad_refresh_token","error_uri":"https://docs.example"}"#,
            "ended bad_refresh_token",
        ),
        (200, r#"{"error":"bad_verification_code"}"#, "ended bad_verification_code"),
        (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#, "ended invalid_refresh_token"),
        (200, r#"{"error":"invalid_grant"}"#, "ended invalid_grant"),
    ]);
}

#[test]
fn an_error_code_about_the_configuration_is_misconfigured() {
    for code in [
        "invalid_client",
        "unauthorized_client",
        "invalid_scope",
        "invalid_request",
        "unsupported_grant_type",
        "invalid_target",
    ] {
        for status in [200, 400, 401] {
            let expected = format!("misconfigured {code}");
            assert_eq!(summary(&read(status, &format!(r#"{{"error":"{code}"}}"#))), expected, "{status}");
        }
    }
    assert_rows(&[
        (200, r#"{"error":"incorrect_client_credentials"}"#, "misconfigured invalid_client"),
        (200, r#"{"error":"redirect_uri_mismatch"}"#, "misconfigured invalid_request"),
        (200, r#"{"ok":false,"error":"bad_client_secret"}"#, "misconfigured invalid_client"),
    ]);
}

#[test]
fn a_stored_retry_is_read_as_the_family_of_its_code() {
    use crate::session::{Retry, RetryKind};
    let kind = |code: String| Retry { set_at: NOW, not_before: NOW, attempts: 1, code }.kind();
    for (code, ..) in CODES {
        match read(400, &format!(r#"{{"error":"{code}"}}"#)) {
            Outcome::Misconfigured { code } => {
                assert_eq!(kind(code.clone()), RetryKind::Misconfigured, "{code}")
            }
            Outcome::Ambiguous { code } => assert_eq!(kind(code.clone()), RetryKind::Ambiguous, "{code}"),
            Outcome::Unspent { code, .. } => assert_eq!(kind(code.clone()), RetryKind::Unspent, "{code}"),
            Outcome::Ended { .. } => {}
            other => panic!("{code}: {other:?}"),
        }
    }
}

#[test]
fn a_provider_that_asks_for_a_pause_has_spent_nothing() {
    assert_rows(&[
        (408, "", "unspent http_408"),
        (425, "", "unspent http_425"),
        (429, "slow down", "unspent http_429"),
        (503, "<html>", "unspent http_503"),
        (400, r#"{"error":"slow_down"}"#, "unspent slow_down"),
        (400, r#"{"error":"temporarily_unavailable"}"#, "unspent temporarily_unavailable"),
        // This status means that the provider did not process the request, whatever the body
        // contains.
        (429, r#"{"error":"invalid_grant"}"#, "unspent http_429"),
        (503, r#"{"error":"invalid_grant"}"#, "unspent http_503"),
        (503, r#"{"access_token":"at"}"#, "unspent http_503"),
    ]);
}

#[test]
fn any_other_4xx_is_no_verdict() {
    assert_rows(&[
        (400, "", "unspent http_400"),
        (400, r#"{"error":"something_new"}"#, "unspent http_400"),
        (400, r#"{"error":{"type":"invalid_request_error"}}"#, "unspent http_400"),
        (400, r#"{"error":null,"code":17}"#, "unspent http_400"),
        (401, "<html>", "unspent http_401"),
        (403, "blocked by a firewall", "unspent http_403"),
        (404, "invalid_grant", "unspent http_404"),
        (413, "", "unspent http_413"),
    ]);
}

#[test]
fn a_failing_provider_may_have_spent_the_token_and_gives_no_verdict() {
    assert_rows(&[
        (500, "", "ambiguous ambiguous_http_500"),
        (500, r#"{"error":"invalid_grant"}"#, "ambiguous ambiguous_http_500"),
        (500, r#"{"error":"server_error"}"#, "ambiguous ambiguous_http_500"),
        (400, r#"{"error":"server_error"}"#, "ambiguous ambiguous_server_error"),
        (502, "<html>", "ambiguous ambiguous_http_502"),
        (504, "", "ambiguous ambiguous_http_504"),
        (520, "", "ambiguous ambiguous_http_520"),
        (599, "", "ambiguous ambiguous_http_599"),
        (999, "", "ambiguous ambiguous_http_999"),
    ]);
}

#[test]
fn a_redirect_is_unspent_only_if_its_status_means_that_nothing_was_done() {
    assert_rows(&[
        (301, "", "ambiguous ambiguous_http_301"),
        (302, "", "ambiguous ambiguous_http_302"),
        (303, "", "ambiguous ambiguous_http_303"),
        (304, "", "ambiguous ambiguous_http_304"),
        (307, "", "unspent http_307"),
        (308, "", "unspent http_308"),
    ]);
}

#[test]
fn retry_after_is_read_as_seconds_or_a_date_and_is_at_most_an_hour() {
    let waits = |status, header: &str| {
        let mut answer = answer(status, r#"{"error":"slow_down"}"#);
        answer.retry_after = Some(header.to_owned());
        match outcome_of(&answer, "threadkey", None) {
            Outcome::Unspent { retry_after, .. } => retry_after.map(|wait| wait.as_secs()),
            other => panic!("{header}: {other:?}"),
        }
    };
    for status in [400, 408, 425, 429, 503] {
        assert_eq!(waits(status, "120"), Some(120), "{status}");
    }
    for (header, expected) in [
        (" 7 ", Some(7)),
        ("86400", Some(3600)),
        ("99999999999999999999999999", Some(3600)),
        ("Sun, 22 Nov 2026 16:05:02 GMT", Some(30)),
        ("Sun, 22 Nov 2099 16:05:02 GMT", Some(3600)),
        ("Sun, 22 Nov 2026 16:04:02 GMT", None),
        ("0", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
    ] {
        assert_eq!(waits(429, header), expected, "{header:?}");
    }
    assert!(matches!(read(429, ""), Outcome::Unspent { retry_after: None, .. }));
}

fn jwt(claims: &str) -> String {
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.c2ln", encoded(r#"{"alg":"RS256"}"#), encoded(claims))
}

fn with_id_token(id_token: &str, nonce: Option<&str>) -> Outcome {
    let body = format!(r#"{{"access_token":"at","id_token":"{id_token}"}}"#);
    outcome_of(&answer(200, &body), "threadkey", nonce.map(Nonce::new).as_ref())
}

#[test]
fn the_id_token_names_the_account() {
    let account = |claims: &str| match with_id_token(&jwt(claims), None) {
        Outcome::Granted(grant) => grant.account,
        other => panic!("{claims}: {other:?}"),
    };
    let all = r#"{"sub":"17","name":"Alice","preferred_username":"alice","email":"alice@example.com"}"#;
    assert_eq!(account(all).as_deref(), Some("alice@example.com"));
    assert_eq!(account(r#"{"sub":"17","name":"Al","preferred_username":"alice"}"#).as_deref(), Some("alice"));
    assert_eq!(account(r#"{"sub":"17","email":"","name":"Alice"}"#).as_deref(), Some("Alice"));
    assert_eq!(account(r#"{"sub":"17","email":{}}"#).as_deref(), Some("17"));
    assert_eq!(account(r#"{"sub":" a\u0007\u202eb\n "}"#).as_deref(), Some("ab"));
    assert_eq!(account("{}"), None);
    let long = account(&format!(r#"{{"sub":"{}"}}"#, "ä".repeat(5000))).expect("it has one");
    assert_eq!(long.chars().count(), 200);
}

#[test]
fn an_id_token_must_contain_the_nonce_and_this_client() {
    let mine = r#"{"nonce":"n","aud":"threadkey","email":"alice@example.com"}"#;
    for (claims, expected) in [
        (mine, "granted"),
        (r#"{"nonce":"n","aud":["other","threadkey"]}"#, "granted"),
        (r#"{"nonce":"m","aud":"threadkey"}"#, "mismatch nonce"),
        (r#"{"aud":"threadkey"}"#, "mismatch nonce"),
        (r#"{"nonce":"n","aud":"other"}"#, "mismatch aud"),
        (r#"{"nonce":"n","aud":["other"]}"#, "mismatch aud"),
        (r#"{"nonce":"n"}"#, "mismatch aud"),
    ] {
        assert_eq!(summary(&with_id_token(&jwt(claims), Some("n"))), expected, "{claims}");
    }
    for unreadable in ["no jwt", "a.b", "a.!!.c", "a.e30.c.d.e", ""] {
        let expected = if unreadable.is_empty() { "granted" } else { "mismatch nonce" };
        assert_eq!(summary(&with_id_token(unreadable, Some("n"))), expected, "{unreadable}");
    }
    assert_eq!(
        summary(&with_id_token(&jwt(r#"{"aud":"other"}"#), None)),
        "granted",
        "a refresh has no nonce"
    );
}

#[test]
fn no_part_of_a_body_gets_into_an_outcome() {
    let bodies = [
        r#"{"access_token":"s3cr3t","refresh_token":"s3cr3t"}"#,
        r#"{"error":"s3cr3t","error_description":"s3cr3t"}"#,
        r#"{"error":{"code":"s3cr3t","type":"s3cr3t"},"code":"s3cr3t"}"#,
        "s3cr3t",
    ];
    for status in [200, 302, 400, 429, 500, 503] {
        for body in bodies {
            let answer = answer(status, body);
            let shown = format!("{answer:?} {:?}", outcome_of(&answer, "threadkey", None));
            assert!(!shown.contains("s3cr3t"), "{shown}");
        }
    }
}

#[test]
fn no_token_is_lost_because_of_another_member() {
    let deep = "[".repeat(500) + &"]".repeat(500);
    for beside in [
        r#""user":"half a \ud83d""#,
        r#""user":{"name":["\udc00"]}"#,
        r#""number":1e999"#,
        r#""expires_in":1e999"#,
        r#""scope":"half a \ud83d""#,
        &format!(r#""deep":{deep}"#),
    ] {
        for body in [
            format!(r#"{{"access_token":"at","refresh_token":"rt",{beside}}}"#),
            format!(r#"{{{beside},"access_token":"at","refresh_token":"rt"}}"#),
        ] {
            let grant = granted(&body);
            assert_eq!(grant.access_token.expose(), "at", "{beside}");
            assert_eq!(grant.refresh_token.expect("it rotated").expose(), "rt", "{beside}");
        }
    }
    let latin = b"{\"access_token\":\"at\",\"user\":\"Ren\xe9\",\"refresh_token\":\"rt\"}";
    let body = Zeroizing::new(latin.to_vec());
    let summary = summary(&outcome_of(&Answer { body, ..answer(200, "") }, "threadkey", None));
    assert_eq!(summary, "granted");
}

#[test]
fn every_misconfigured_word_of_the_table_holds_back_as_a_misconfiguration() {
    for (_, family, word) in CODES {
        let retry = Retry { set_at: NOW, not_before: NOW, attempts: 1, code: word.into() };
        let is_misconfigured = retry.kind() == RetryKind::Misconfigured;
        assert_eq!(is_misconfigured, matches!(family, Family::Misconfigured), "{word}");
    }
}

#[test]
fn of_a_doubled_name_the_last_value_counts_and_an_unreadable_first_one_does_no_harm() {
    let body =
        r#"{"access_token":"\ud83d","access_token":"at","refresh_token":"\ud83d","refresh_token":"rt"}"#;
    let grant = granted(body);
    assert_eq!(grant.access_token.expose(), "at");
    assert_eq!(grant.refresh_token.map(|token| token.expose().to_owned()), Some("rt".into()));
}
