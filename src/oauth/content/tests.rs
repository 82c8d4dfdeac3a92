use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use super::*;

pub(in crate::oauth) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("a vector can be written");
    encoder.finish().expect("a vector can be written")
}

fn answer(content_type: &str, cut: bool, body: &[u8]) -> Answer {
    Answer { content_type: Some(content_type.into()), cut, body: body.to_vec().into(), ..Answer::default() }
}

/// Returns the access token of a body.
fn token(answer: &Answer) -> Option<String> {
    Content::of(answer)?.object()?.text("access_token").whole()
}

#[test]
fn a_whole_object_is_read_under_any_content_type_and_in_any_frame() {
    let body = br#" {"access_token":"at"}"#;
    for content_type in ["application/json", "text/html", "text/plain", FORM, ""] {
        for cut in [false, true] {
            assert_eq!(token(&answer(content_type, cut, body)).as_deref(), Some("at"), "{content_type}");
        }
    }
    assert_eq!(
        token(&answer("", false, "\u{feff}{\"access_token\":\"at\"}".as_bytes())).as_deref(),
        Some("at")
    );
}

#[test]
fn the_first_whole_object_counts_and_the_bytes_after_it_do_not() {
    for rest in ["\n", "}", "<html>", "\u{0}", r#"{"access_token":"other"}"#, "\n0\r\n\r\n"] {
        let body = format!(r#"{{"access_token":"at"}}{rest}"#);
        assert_eq!(token(&answer("", false, body.as_bytes())).as_deref(), Some("at"), "{rest:?}");
    }
    let latin = [br#"{"access_token":"at"}"#.as_slice(), b"\xff\xfe"].concat();
    assert_eq!(token(&answer("", false, &latin)).as_deref(), Some("at"));
}

#[test]
fn an_object_without_its_last_brace_and_a_page_give_nothing() {
    for body in [
        r#"{"access_token":"at""#,
        r#"{"access_token":"at","refresh_token":"r"#,
        r#""{\"access_token\":\"at\"}""#,
        r#"<html>{"access_token":"at"}</html>"#,
        r#"access_token=at"#,
        "",
    ] {
        assert_eq!(token(&answer("application/json", false, body.as_bytes())), None, "{body}");
    }
}

#[test]
fn a_form_is_read_with_its_content_type_and_a_whole_frame_only() {
    let form = b"access_token=a%2Bt&scope=repo+user&token_type=bearer\r\n";
    for content_type in [FORM, "Application/X-WWW-Form-Urlencoded; charset=utf-8"] {
        assert_eq!(token(&answer(content_type, false, form)).as_deref(), Some("a+t"), "{content_type}");
        assert_eq!(token(&answer(content_type, true, form)), None, "a cut token must not replace a good one");
    }
    for content_type in ["application/json", "text/plain", "text/html", ""] {
        assert_eq!(token(&answer(content_type, false, form)), None, "{content_type}");
    }
    assert_eq!(token(&answer(FORM, false, b"<a href='?access_token=at&x'>")), None, "a page");
    assert!(Content::of(&answer(FORM, false, b"")).is_none(), "an empty body is no form");
}

#[test]
fn gzip_is_undone_whether_it_is_announced_or_not() {
    let body = gzip(br#"{"access_token":"at"}"#);
    assert_eq!(token(&answer("application/json", false, &body)).as_deref(), Some("at"));
    let form = gzip(b"access_token=at");
    assert_eq!(token(&answer(FORM, false, &form)).as_deref(), Some("at"));
    assert_eq!(token(&answer(FORM, true, &form)), None);
    let and_more = [body.clone(), gzip(b"garbage"), b"more".to_vec()].concat();
    assert_eq!(token(&answer("", false, &and_more)).as_deref(), Some("at"), "the first member counts");
}

#[test]
fn gzip_without_a_right_checksum_and_length_gives_nothing() {
    let body = gzip(br#"{"access_token":"at"}"#);
    for end in 0..body.len() {
        assert_eq!(token(&answer("", true, &body[..end])), None, "{end} of {} bytes", body.len());
    }
    for at in body.len() - 8..body.len() {
        let mut wrong = body.clone();
        wrong[at] ^= 1;
        assert_eq!(token(&answer("", false, &wrong)), None, "byte {at} of the trailer");
    }
}

#[test]
fn the_content_has_a_bound_after_gzip_too() {
    let padded = |length: usize| {
        let mut body = br#"{"access_token":"at"}"#.to_vec();
        body.resize(length, b' ');
        gzip(&body)
    };
    assert_eq!(token(&answer("", false, &padded(MAX_BODY))).as_deref(), Some("at"));
    assert_eq!(token(&answer("", false, &padded(MAX_BODY + 1))), None);
    assert_eq!(token(&answer("", false, &padded(100 * MAX_BODY))), None, "a bomb is not unpacked");
}

#[test]
fn an_array_is_content_and_has_no_members() {
    let content = Content::of(&answer("", false, br#"[{"errorCode":"x"},7]"#)).expect("it is JSON");
    assert!(content.object().is_none());
    assert_eq!(content.array().map(|values| values.len()), Some(2));
    for scalar in ["7", "true", "\"text\"", "null"] {
        assert!(Content::of(&answer("", false, scalar.as_bytes())).is_none(), "{scalar}");
    }
}

#[test]
fn an_error_that_says_nothing_is_none() {
    let reports = |body: &str| Object::parse(body).expect("an object").reports_error();
    for silent in [r#"{"error":null}"#, r#"{"error":""}"#, r#"{"error":false}"#, r#"{"ok":true}"#, "{}"] {
        assert!(!reports(silent), "{silent}");
    }
    for error in [
        r#"{"error":"x"}"#,
        r#"{"error":{"code":"x"}}"#,
        r#"{"error":true}"#,
        r#"{"error":"\ud83d"}"#,
        r#"{"ok":false}"#,
    ] {
        assert!(reports(error), "{error}");
    }
}

#[test]
fn a_whole_object_is_noticed_before_its_frame_ends() {
    assert!(has_whole_object(br#"{"access_token":"at"}"#));
    assert!(has_whole_object(&gzip(br#"{"access_token":"at"}"#)));
    for body in [&b"{\"access_token\":\"at\""[..], b"[]", b"access_token=at", b"<html>", b""] {
        assert!(!has_whole_object(body), "{}", String::from_utf8_lossy(body));
    }
}
