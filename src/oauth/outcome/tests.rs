use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::*;
use crate::secret::RefreshToken;

/// Sun, 22 Nov 2026 16:04:32 GMT.
const NOW: UnixTime = 1_795_363_472;

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: Zeroizing::new(body.as_bytes().to_vec()), at: NOW, ..Answer::default() }
}

fn rules() -> AnswerRules {
    AnswerRules { client_id: "threadkey".into(), ..AnswerRules::default() }
}

fn outcome_of(answer: &Answer) -> Outcome {
    outcome(&Attempt::Answered(Answered::for_tests(answer.clone())), &rules())
}

fn read(status: u16, body: &str) -> Outcome {
    outcome_of(&answer(status, body))
}

/// Returns the family and the code in one line.
fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Granted(_) => "granted".into(),
        Outcome::Unspent { code, .. } => format!("unspent {code}"),
        Outcome::Ambiguous { code } => format!("ambiguous {code}"),
        Outcome::Ended { code } => format!("ended {code}"),
        Outcome::Misconfigured { code } => format!("misconfigured {code}"),
        Outcome::Refused { code } => format!("refused {code}"),
        Outcome::Foreign { claim } => format!("foreign {claim}"),
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
        assert_eq!(summary(&outcome(&Attempt::NotSent(step), &rules())), format!("unspent {step}"));
    }
    for how in ["timeout", "reset", "too_large"] {
        let expected = format!("ambiguous ambiguous_{how}");
        assert_eq!(summary(&outcome(&Attempt::Unanswered(how), &rules())), expected);
    }
}

#[test]
fn a_success_carries_the_whole_grant() {
    let grant = granted(
        r#"{"access_token":"at","refresh_token":"rt","token_type":"bearer","expires_in":864000,"scope":"openid email"}"#,
    );
    assert_eq!(grant.access_token.expose(), "at");
    assert_eq!(grant.refresh_token.expect("it rotated").expose(), "rt");
    assert_eq!((grant.token_type.as_str(), grant.scope.as_deref()), ("Bearer", Some("openid email")));
    assert_eq!(grant.expires_in, Some(Duration::from_secs(864_000)));
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
        (201, r#"{"access_token":"at","error":null}"#, "granted"),
        (200, r#"{"access_token":"at","error":"","error_description":""}"#, "granted"),
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
fn an_answer_with_a_token_and_an_error_is_no_success() {
    assert_rows(&[
        (200, r#"{"access_token":"at","error":"invalid_grant"}"#, "ended invalid_grant"),
        (200, r#"{"access_token":"at","error":"something_new"}"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"access_token":"at","error":{"code":"something_new"}}"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"access_token":"at","error":"half a \ud83d"}"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"ok":false,"access_token":"at"}"#, "ambiguous ambiguous_http_200"),
    ]);
}

#[test]
fn of_a_pair_with_a_damaged_token_nothing_is_used() {
    for pair in [
        r#"{"access_token":"at","refresh_token":"half a \ud83d"}"#,
        r#"{"access_token":"half a \ud83d","refresh_token":"rt"}"#,
    ] {
        assert_eq!(summary(&read(200, pair)), "ambiguous ambiguous_http_200", "{pair}");
    }
    let latin = b"{\"access_token\":\"at\",\"refresh_token\":\"r\xe9t\"}".to_vec().into();
    assert_eq!(
        summary(&outcome_of(&Answer { body: latin, ..answer(200, "") })),
        "ambiguous ambiguous_http_200"
    );
}

#[test]
fn tokens_are_read_where_the_setting_says() {
    let at = |path: &[&str], body: &str| {
        let rules =
            AnswerRules { token_path: path.iter().map(|name| (*name).to_owned()).collect(), ..rules() };
        match outcome(&Attempt::Answered(Answered::for_tests(answer(200, body))), &rules) {
            Outcome::Granted(grant) => {
                let refresh_token = grant.refresh_token.as_ref().map(RefreshToken::expose);
                format!(
                    "{} {} {:?}",
                    grant.access_token.expose(),
                    refresh_token.unwrap_or("-"),
                    grant.expires_in
                )
            }
            other => summary(&other),
        }
    };
    let slack = r#"{"ok":true,"access_token":"bot","refresh_token":"bot-rt","expires_in":1,"authed_user":{"access_token":"at","refresh_token":"rt","expires_in":60}}"#;
    assert_eq!(at(&["authed_user"], slack), "at rt Some(60s)");
    assert_eq!(at(&[], slack), "bot bot-rt Some(1s)");
    let deep = r#"{"code":0,"data":{"tokens":{"access_token":"at","refresh_token":"rt"}}}"#;
    assert_eq!(at(&["data", "tokens"], deep), "at rt None");
    for elsewhere in [&["data"][..], &["data", "other"], &["code"], &[]] {
        assert_eq!(at(elsewhere, deep), "ambiguous ambiguous_http_200", "{elsewhere:?}");
    }
    let flat = r#"{"access_token":"at","refresh_token":"rt"}"#;
    assert_eq!(at(&["authed_user"], flat), "at rt None", "a refresh may answer flat");
    let only_a_bot = r#"{"ok":true,"access_token":"bot","authed_user":{"id":"U1"}}"#;
    assert_eq!(
        at(&["authed_user"], only_a_bot),
        "ambiguous ambiguous_http_200",
        "the bot's token is another"
    );
    let refused = r#"{"data":{"access_token":"at","error":"invalid_grant"}}"#;
    assert_eq!(at(&["data"], refused), "ended invalid_grant", "as at the top");
}

#[test]
fn a_form_that_was_escaped_for_html_keeps_its_tokens() {
    for form in [
        "access_token=at&amp;refresh_token=rt&amp;expires_in=60",
        "access_token=at&amp;amp;refresh_token=rt",
        "access_token=at&refresh_token=rt&refresh_token=",
    ] {
        let content_type = Some("application/x-www-form-urlencoded".to_owned());
        let Outcome::Granted(grant) = outcome_of(&Answer { content_type, ..answer(200, form) }) else {
            panic!("{form}");
        };
        assert_eq!(grant.access_token.expose(), "at", "{form}");
        assert_eq!(grant.refresh_token.expect("it rotated").expose(), "rt", "{form}");
    }
}

#[test]
fn an_error_in_a_form_is_read() {
    let of_form = |status, body: &str, cut| {
        let content_type = Some("application/x-www-form-urlencoded".into());
        summary(&outcome_of(&Answer { content_type, cut, ..answer(status, body) }))
    };
    let bad = "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired.";
    assert_eq!(of_form(200, bad, false), "ended bad_refresh_token");
    assert_eq!(of_form(200, bad, true), "ambiguous ambiguous_http_200");
    assert_eq!(of_form(400, "error=invalid_client", false), "misconfigured invalid_client");
    assert_eq!(of_form(403, "error=something_new", false), "refused http_403");
    assert_eq!(of_form(403, "error=something_new", true), "unspent http_403");
    assert_eq!(of_form(200, "access_token=at&error=bad_refresh_token", false), "ended bad_refresh_token");
    assert_eq!(of_form(200, "access_token=at&error=&scope=", false), "granted");
}

#[test]
fn a_cut_answer_is_read_as_far_as_it_is_whole() {
    let of_cut = |status, body: &str| summary(&outcome_of(&Answer { cut: true, ..answer(status, body) }));
    assert_eq!(of_cut(200, r#"{"access_token":"at"}"#), "granted");
    assert_eq!(of_cut(200, r#"{"access_token":"at""#), "ambiguous ambiguous_http_200");
    assert_eq!(of_cut(400, r#"{"error":"invalid_grant"}"#), "ended invalid_grant");
    assert_eq!(of_cut(400, r#"{"error":"invalid_grant""#), "unspent http_400");
    assert_eq!(of_cut(500, r#"{"access_token":"at"}"#), "ambiguous ambiguous_http_500");
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
        (200, r#"{"ok":false,"error":"fatal_error"}"#, "ambiguous ambiguous_fatal_error"),
        (200, r#"{"ok":false,"error":"something_new"}"#, "ambiguous ambiguous_http_200"),
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
    use crate::session::RetryKind;
    let kind = |code: String| RetryKind::of(&code);
    for (code, ..) in crate::oauth::verdict::CODES {
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
fn a_pair_of_tokens_makes_any_status_ambiguous_but_that_of_a_verdict() {
    let pair = r#""access_token":"at-2","refresh_token":"rt-2""#;
    let escaped = r#"{"status":200,"body":"{\"access_token\": \"at-2\", \"refresh_token\": \"rt-2\"}"}"#;
    for status in [307, 308, 400, 401, 403, 404, 407, 408, 422, 425, 429, 451, 503] {
        let expected = format!("ambiguous ambiguous_http_{status}");
        for body in [
            format!("{{{pair}}}"),
            format!("{{{pair}"),
            format!(r#"{{"error":"slow_down",{pair}}}"#),
            format!(r#"{{"error":"invalid_client",{pair}}}"#),
            format!(r#"{{"data":{{{pair}}}}}"#),
            "access_token=at-2&refresh_token=rt-2".to_owned(),
            r#"{"accessToken":"at-2","refreshToken":"rt-2"}"#.to_owned(),
            escaped.to_owned(),
        ] {
            assert_eq!(summary(&read(status, &body)), expected, "{body}");
        }
        let zipped = crate::oauth::content::tests::gzip(format!("{{{pair}}}").as_bytes());
        assert_eq!(summary(&outcome_of(&Answer { body: zipped.into(), ..answer(status, "") })), expected);
        // The request that is repeated in an error has no access token.
        let echo = r#"{"error":"slow_down","request":{"grant_type":"refresh_token","refresh_token":"rt-1"}}"#;
        let page = format!("<html><pre>{{{pair}}}</pre></html>");
        for body in [echo, &page, r#"{"access_token":"","refresh_token":""}"#] {
            assert!(!summary(&read(status, body)).starts_with("ambiguous"), "{status} {body}");
        }
    }
    assert_rows(&[(
        400,
        r#"{"error":"invalid_grant","access_token":"a","refresh_token":"r"}"#,
        "ended invalid_grant",
    )]);
}

#[test]
fn white_space_around_a_token_and_its_names_style_do_not_matter() {
    for body in [
        r#"{"access_token":"at\n","refresh_token":" rt\r\n"}"#,
        r#"{"access_token":"\tat ","refresh_token":"rt"}"#,
        r#"{"accessToken":"at","refreshToken":"rt"}"#,
        r#"{"Access-Token":"at","refresh_token":null,"refreshToken":"rt"}"#,
        r#"{"access_token":"at","refresh_token":"rt","refresh_token":null}"#,
        r#"{"access_token":"at","refresh_token":"rt","refresh_token":""}"#,
        r#"{"access_token":"at","refresh_token":"rt","refresh_token":false,"access_token":null}"#,
    ] {
        let grant = granted(body);
        assert_eq!(grant.access_token.expose(), "at", "{body}");
        assert_eq!(grant.refresh_token.expect("it rotated").expose(), "rt", "{body}");
    }
    assert_rows(&[
        (200, r#"{"access_token":"a\nt","refresh_token":"rt"}"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"access_token":"at","refresh_token":"r\u0000t"}"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"access_token":" \n","refresh_token":"rt"}"#, "ambiguous ambiguous_http_200"),
        (200, r#"{"ok":true,"access_token":"at","ok":false}"#, "ambiguous ambiguous_http_200"),
    ]);
}

#[test]
fn any_other_4xx_is_no_verdict() {
    assert_rows(&[
        (400, "", "unspent http_400"),
        (400, r#"{"error":"something_new"}"#, "refused http_400"),
        (400, r#"{"error":{"type":"invalid_request_error"}}"#, "refused http_400"),
        (400, r#"{"error":null,"code":17}"#, "refused http_400"),
        (401, r#"{"message":"Forbidden"}"#, "refused http_401"),
        (403, r#"{"error":"access_denied"}"#, "refused http_403"),
        (404, r#"{"error":"something_new"}"#, "unspent http_404"),
        (401, "<html>", "unspent http_401"),
        (403, "blocked by a firewall", "unspent http_403"),
        (403, r#""blocked by a firewall""#, "unspent http_403"),
        (403, r#"["blocked"]"#, "refused http_403"),
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
        match outcome_of(&answer) {
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

fn with_id_token(id_token: &str, nonce: Option<&str>, rules: &AnswerRules) -> Result<Outcome, Mismatch> {
    let body = format!(r#"{{"access_token":"at","id_token":"{id_token}"}}"#);
    let attempt = Attempt::Answered(Answered::for_tests(answer(200, &body)));
    sign_in_outcome(&attempt, rules, nonce.map(Nonce::new).as_ref())
}

#[test]
fn the_id_token_names_the_account() {
    let account = |claims: &str| match with_id_token(&jwt(claims), None, &rules()) {
        Ok(Outcome::Granted(grant)) => grant.account,
        other => panic!("{claims}: {other:?}"),
    };
    let all = r#"{"sub":"17","name":"Alice","preferred_username":"alice","email":"alice@example.com","email_verified":true}"#;
    assert_eq!(account(all).as_deref(), Some("alice@example.com"));
    assert_eq!(account(&all.replace("true", "\"true\"")).as_deref(), Some("alice@example.com"));
    for unverified in ["false", "\"false\"", "null", "1", "\"TRUE\""] {
        assert_eq!(account(&all.replace("true", unverified)).as_deref(), Some("alice"), "{unverified}");
    }
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
    let refused = |claims: &str, pkce_binds_code| {
        let rules = AnswerRules { pkce_binds_code, ..rules() };
        with_id_token(&jwt(claims), Some("n"), &rules).err()
    };
    for pkce_binds_code in [false, true] {
        for (claims, expected) in [
            (r#"{"nonce":"n","aud":"threadkey","email":"alice@example.com"}"#, None),
            (r#"{"nonce":"n","aud":["other","threadkey"]}"#, None),
            (r#"{"nonce":"m","aud":"threadkey"}"#, Some(Mismatch::Nonce)),
            (r#"{"nonce":"","aud":"threadkey"}"#, Some(Mismatch::Nonce)),
            (r#"{"nonce":7,"aud":"threadkey"}"#, Some(Mismatch::Nonce)),
            (r#"{"nonce":"n","aud":"other"}"#, Some(Mismatch::Audience)),
            (r#"{"nonce":"n","aud":["other"]}"#, Some(Mismatch::Audience)),
            (r#"{"nonce":"n"}"#, Some(Mismatch::Audience)),
        ] {
            assert_eq!(refused(claims, pkce_binds_code), expected, "{claims}");
        }
    }
    let refresh = with_id_token(&jwt(r#"{"aud":"other"}"#), None, &rules());
    assert!(matches!(refresh, Ok(Outcome::Granted(_))), "a sign-in without `openid` has no nonce");
}

#[test]
fn an_id_token_without_a_nonce_is_taken_only_where_pkce_binds_the_code() {
    let result = |id_token: &str, pkce_binds_code| {
        let rules = AnswerRules { pkce_binds_code, ..rules() };
        with_id_token(id_token, Some("n"), &rules).map(|_| ())
    };
    for claims in [r#"{"aud":"threadkey"}"#, r#"{"aud":"threadkey","nonce":null}"#] {
        assert_eq!(result(&jwt(claims), false), Err(Mismatch::NoNonce), "{claims}");
        assert_eq!(result(&jwt(claims), true), Ok(()), "{claims}");
    }
    assert_eq!(result(&jwt(r#"{"aud":"other"}"#), true), Err(Mismatch::Audience));
    for unreadable in ["no jwt", "a.b", "a.!!.c", "a.e30.c.d.e"] {
        assert_eq!(result(unreadable, false), Err(Mismatch::NoNonce), "{unreadable}");
        assert_eq!(result(unreadable, true), Err(Mismatch::Audience), "{unreadable}");
    }
    assert_eq!(result("", false), Ok(()), "an empty text is no id token");
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
            let shown = format!("{answer:?} {:?}", outcome_of(&answer));
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
    let summary = summary(&outcome_of(&Answer { body, ..answer(200, "") }));
    assert_eq!(summary, "granted");
}

#[test]
fn of_a_doubled_name_the_last_value_counts_and_an_unreadable_first_one_does_no_harm() {
    let body =
        r#"{"access_token":"\ud83d","access_token":"at","refresh_token":"\ud83d","refresh_token":"rt"}"#;
    let grant = granted(body);
    assert_eq!(grant.access_token.expose(), "at");
    assert_eq!(grant.refresh_token.map(|token| token.expose().to_owned()), Some("rt".into()));
}
