//! Answers that may hold a token which cannot be read: the old refresh token stays, and is not sent
//! again while the access token works.

use threadkey::broker::TokenError;
use threadkey::session::{
    RetryKind,
    journal::{Answer, MAX_BODY},
};

use super::{
    PAIR, Rig,
    frames::{die_with, gzip},
};
use crate::{
    broker::{ALICE, MINUTE, tenant},
    support::raw::{Ending, framed, with_headers},
};

/// Asserts that this answer leaves the refresh token in doubt: one request only while the access
/// token works, and the answer is kept for the operator.
async fn expect_unread(what: &str, bytes: Vec<u8>) {
    expect_unread_as(what, bytes, "ambiguous_http_200").await;
}

async fn expect_unread_as(what: &str, bytes: Vec<u8>, code: &str) {
    let rig = Rig::start().await;
    // Three quarters of the lifetime: the refresh runs in the background.
    rig.clock.advance(-900);
    rig.server.answer(bytes, Ending::Close);
    for _ in 0..3 {
        let broker = rig.another();
        assert_eq!(
            broker.token(&tenant(ALICE), MINUTE).await.unwrap().access_token.expose(),
            "at-1",
            "{what}"
        );
        broker.drained().await;
        rig.clock.advance(200);
    }
    assert_eq!(rig.sent(), ["rt-1"], "{what}: no second use while the access token works");
    let session = rig.session().await;
    assert_eq!(session.refresh_token.as_ref().unwrap().expose(), "rt-1", "{what}");
    let retry = session.retry.unwrap();
    assert_eq!((retry.kind(), retry.code.as_str()), (RetryKind::Ambiguous, code), "{what}");
    assert!(rig.unread().exists(), "{what}: the answer is kept");
}

#[tokio::test]
async fn json_that_is_cut_off_replaces_no_token_and_is_kept() {
    for end in [1, 20, PAIR.len() - 1] {
        let headers = format!("content-length: {}\r\n", PAIR.len());
        let bytes = with_headers(200, &headers, &PAIR.as_bytes()[..end]);
        expect_unread(&format!("{end} bytes"), bytes).await;
    }
}

#[tokio::test]
async fn a_form_that_may_be_cut_off_replaces_no_token_and_is_kept() {
    let form = b"access_token=at-2&refresh_token=rt-";
    let content_type = "content-type: application/x-www-form-urlencoded\r\n";
    expect_unread("no frame", with_headers(200, content_type, form)).await;
    let headers = format!("{content_type}content-length: {}\r\n", form.len() + 1);
    expect_unread("a frame that breaks off", with_headers(200, &headers, form)).await;
    let late = b"access_token=at-2&refresh_token=rt-";
    let headers = format!("{content_type}transfer-encoding: chunked\r\n");
    let chunks = [format!("{:x}\r\n", late.len()).as_bytes(), late, b"\r\n0\r\n\r\n2"].concat();
    expect_unread("bytes after the last chunk", with_headers(200, &headers, &chunks)).await;
    expect_unread("no content type", framed(200, "", b"access_token=at-2&refresh_token=rt-2")).await;
}

#[tokio::test]
async fn the_rest_of_a_token_long_after_its_frame_is_waited_for() {
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let json = r#"{"access_token":"at-2","refresh_token":"rt-"#;
    for (headers, body, rest, is_whole) in [
        (form, "access_token=at-2&refresh_token=rt-", "2", false),
        (form, "access_token=at-2&refresh_token=rt-2", "\r\n", true),
        ("", json, r#"2"}"#, true),
    ] {
        let rig = Rig::start().await;
        rig.server.answer(framed(200, headers, body.as_bytes()), Ending::Late(rest));
        let broker = rig.another();
        let asking = tokio::spawn(async move { broker.token(&tenant(ALICE), MINUTE).await });
        rig.server.answered(1).await;
        tokio::time::pause();
        let lease = asking.await.unwrap();
        tokio::time::resume();
        assert_eq!(lease.is_ok(), is_whole, "{body}: {lease:?}");
        assert_eq!(rig.refresh_token().await, if is_whole { "rt-2" } else { "rt-1" }, "{body}");
        assert_eq!(rig.unread().exists(), !is_whole, "{body}");
    }
}

#[tokio::test]
async fn gzip_that_is_damaged_or_too_long_replaces_no_token_and_is_kept() {
    let body = gzip(PAIR.as_bytes());
    let mut wrong = body.clone();
    let last = wrong.len() - 8;
    wrong[last] ^= 1;
    expect_unread("a wrong checksum", framed(200, "content-encoding: gzip\r\n", &wrong)).await;
    expect_unread("no trailer", framed(200, "content-encoding: gzip\r\n", &body[..last])).await;
    let bomb = gzip(&[PAIR.as_bytes(), &vec![b' '; 4 * MAX_BODY]].concat());
    expect_unread("a bomb", framed(200, "content-encoding: gzip\r\n", &bomb)).await;
}

#[tokio::test]
async fn an_object_beyond_the_limit_and_a_page_replace_no_token_and_are_kept() {
    let long = format!(r#"{{"profile":"{}",{}"#, "x".repeat(MAX_BODY), &PAIR[1..]);
    expect_unread("an object beyond the limit", framed(200, "", long.as_bytes())).await;
    let page = format!("<html><script>{PAIR}</script></html>");
    expect_unread("a page", framed(200, "content-type: text/html\r\n", page.as_bytes())).await;
    let error = r#"{"access_token":"at-2","refresh_token":"rt-2","error":"something_new"}"#;
    expect_unread("an error beside the pair", framed(200, "", error.as_bytes())).await;
}

#[tokio::test]
async fn a_pair_under_a_status_that_is_no_success_is_kept() {
    for status in [302, 308, 400, 404, 429, 500, 502, 503] {
        let bytes = framed(status, "", PAIR.as_bytes());
        expect_unread_as(&format!("{status}"), bytes, &format!("ambiguous_http_{status}")).await;
    }
}

#[tokio::test]
async fn a_pair_under_an_odd_status_in_a_dead_processes_journal_is_kept() {
    for status in [400, 503] {
        let rig = Rig::start().await;
        let body = PAIR.as_bytes().to_vec().into();
        die_with(&rig, Answer { status, body, ..Answer::default() }).await;
        let error = rig.token().await.unwrap_err();
        let code = format!("ambiguous_http_{status}");
        assert!(matches!(&error, TokenError::Unavailable { code: found, .. } if *found == code), "{error}");
        assert!(rig.unread().exists(), "{status}");
        assert_eq!(rig.server.count(), 0, "{status}");
    }
}

#[tokio::test]
async fn a_pair_whose_refresh_token_is_no_text_replaces_no_token_and_is_kept() {
    for token in [r#""rt\n2""#, "22", "true", r#"["rt-2"]"#, r#"{"value":"rt-2"}"#] {
        let body = format!(r#"{{"access_token":"at-2","refresh_token":{token}}}"#);
        expect_unread(token, framed(200, "", body.as_bytes())).await;
    }
}

#[tokio::test]
async fn an_answer_without_a_whole_head_is_in_doubt_and_leaves_nothing_to_keep() {
    let rig = Rig::start().await;
    rig.server.answer("HTTP/1.1 200 OK\r\ncontent-len", Ending::Close);
    let error = rig.token().await.unwrap_err();
    assert!(matches!(&error, TokenError::Unavailable { code, .. } if code == "ambiguous_reset"), "{error}");
    assert!(!rig.unread().exists());
}

#[tokio::test]
async fn a_cut_4xx_has_spent_nothing() {
    let rig = Rig::start().await;
    rig.server
        .answer(with_headers(400, "content-length: 100\r\n", br#"{"error":"invalid_gr"#), Ending::Close);
    let error = rig.token().await.unwrap_err();
    assert!(matches!(&error, TokenError::Unavailable { code, .. } if code == "http_400"), "{error}");
    assert!(!rig.unread().exists());
    assert_eq!(rig.session().await.ended, None);
}
