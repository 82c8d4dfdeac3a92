//! A readable pair of tokens in an unusual frame.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use threadkey::session::{
    RefreshTarget,
    journal::{Answer, Intent, MAX_BODY, Spending},
};
use threadkey::store::Purpose;

use super::{PAIR, Rig};
use crate::{
    broker::{ALICE, MINUTE, tenant},
    support::raw::{Ending, framed, json, with_headers},
};

pub(super) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Asserts that the second pair is in use and that its refresh token is the one that is spent next.
pub(super) async fn assert_refreshed(rig: &Rig, what: &str) {
    let session = rig.session().await;
    assert_eq!((session.access_token.expose(), session.generation), ("at-2", 2), "{what}");
    assert!(!rig.unread().exists(), "{what}");
    rig.clock.advance(3600);
    rig.server.answer(json(200, r#"{"access_token":"at-3","refresh_token":"rt-3"}"#), Ending::Close);
    assert_eq!(rig.token().await.unwrap().access_token.expose(), "at-3", "{what}");
    assert_eq!(rig.sent(), ["rt-1", "rt-2"], "{what}");
    assert_eq!(rig.server.second_uses(), 0, "{what}");
}

/// Asserts that this answer, and then this ending, refresh the session.
async fn expect_refreshed(what: &str, bytes: Vec<u8>, ending: Ending) {
    let rig = Rig::start().await;
    rig.server.answer(bytes, ending);
    assert_eq!(rig.token().await.unwrap().access_token.expose(), "at-2", "{what}");
    assert_refreshed(&rig, what).await;
}

#[tokio::test]
async fn gzip_that_was_not_asked_for_costs_no_token() {
    let body = gzip(PAIR.as_bytes());
    let json = "content-type: application/json\r\n";
    for headers in [format!("{json}content-encoding: gzip\r\n"), json.to_owned()] {
        expect_refreshed(&headers, framed(200, &headers, &body), Ending::Close).await;
    }
}

#[tokio::test]
async fn an_odd_header_line_costs_no_token() {
    for line in ["X-Thing : 1", "X-Thing: 1\r\n folded", "no colon", "X-Th\u{fc}ng: 1"] {
        let headers = format!("{line}\r\ncontent-type: application/json\r\n");
        expect_refreshed(line, framed(200, &headers, PAIR.as_bytes()), Ending::Close).await;
    }
}

#[tokio::test]
async fn a_frame_that_breaks_off_after_the_pair_costs_no_token() {
    let too_long = format!("content-length: {}\r\n", PAIR.len() + 10);
    let chunk = format!("{:x}\r\n{PAIR}\r\n", PAIR.len());
    for (what, headers, body) in [
        ("too long a length", too_long.as_str(), PAIR.to_owned()),
        ("no last chunk", "transfer-encoding: chunked\r\n", chunk.clone()),
        ("a broken last chunk", "transfer-encoding: chunked\r\n", chunk + "zz\r\n"),
        ("no frame at all", "", PAIR.to_owned()),
    ] {
        expect_refreshed(what, with_headers(200, headers, body.as_bytes()), Ending::Close).await;
    }
}

#[tokio::test]
async fn a_connection_that_stays_open_costs_no_token() {
    let json = |body: &[u8]| with_headers(200, &format!("content-length: {}\r\n", body.len() + 10), body);
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    for bytes in [
        json(PAIR.as_bytes()),
        json(&gzip(PAIR.as_bytes())),
        framed(200, form, b"access_token=at-2&refresh_token=rt-2&expires_in=3600"),
    ] {
        let rig = Rig::start().await;
        rig.server.answer(bytes, Ending::KeepOpen);
        let broker = rig.another();
        let asking = tokio::spawn(async move { broker.token(&tenant(ALICE), MINUTE).await });
        rig.server.answered(1).await;
        tokio::time::pause();
        let lease = asking.await.unwrap().unwrap();
        tokio::time::resume();
        assert_eq!(lease.access_token.expose(), "at-2");
        assert_refreshed(&rig, "a connection that stays open").await;
    }
}

#[tokio::test]
async fn a_head_that_the_http_library_rejects_costs_no_token() {
    let status = "HTTP/1.1 200 OK";
    let length = PAIR.len();
    for head in [
        format!("{status}\r\ncontent-length: {length}\r\ncontent-length: 5"),
        format!("{status}\r\ncontent-length: {length}.0"),
        format!("{status}\r\ncontent-length: -1"),
        format!("{status}\r\nx-thing: a\0b"),
        "HTTP/2 200".to_owned(),
        "HTTP/1.1 200 O\u{1}K".to_owned(),
    ] {
        expect_refreshed(&head, format!("{head}\r\n\r\n{PAIR}").into(), Ending::Close).await;
    }
    let chunk =
        format!("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{PAIR}\r\n0\r\n\r\n");
    expect_refreshed("chunks of HTTP/1.0", chunk.into(), Ending::Close).await;
}

#[tokio::test]
async fn a_frame_that_ends_before_the_pair_does_costs_no_token() {
    for (what, status, headers) in [
        ("a length that is too short", 200, "content-length: 20\r\n"),
        ("no length", 200, "content-length: 0\r\n"),
        ("a status without content", 204, ""),
        ("chunks that are none", 200, "transfer-encoding: chunked\r\n"),
    ] {
        expect_refreshed(what, with_headers(status, headers, PAIR.as_bytes()), Ending::Close).await;
    }
}

#[tokio::test]
async fn a_long_answer_costs_no_token() {
    let padded = |before: usize, after: usize| {
        let pad = |length| " ".repeat(length);
        format!(r#"{}{{"profile":"{}",{}{}"#, pad(0), "x".repeat(before), &PAIR[1..], pad(after)).into_bytes()
    };
    for (what, body) in [
        ("70 KiB", padded(70 * 1024, 0)),
        ("250 KiB", padded(250 * 1024, 0)),
        ("more than the limit after the pair", padded(0, MAX_BODY)),
    ] {
        expect_refreshed(what, framed(200, "content-type: application/json\r\n", &body), Ending::Close).await;
    }
}

#[tokio::test]
async fn a_form_costs_no_token() {
    let form = b"access_token=at-2&refresh_token=rt-2&expires_in=3600&scope=&token_type=bearer";
    let headers = "content-type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    expect_refreshed("a form", framed(200, headers, form), Ending::Close).await;
    let after = [framed(200, headers, form), b"\r\n".to_vec()].concat();
    expect_refreshed("a line break after the form", after, Ending::Close).await;
    let chunks = format!("{:x}\r\n{}\r\n0\r\nDigest: a\r\n\r\n", form.len(), String::from_utf8_lossy(form));
    let headers = format!("{headers}transfer-encoding: chunked\r\ntrailer: digest\r\n");
    expect_refreshed("trailers", with_headers(200, &headers, chunks.as_bytes()), Ending::Close).await;
}

#[tokio::test]
async fn json_costs_no_token_under_any_content_type() {
    for content_type in ["text/html", "text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let headers = format!("content-type: {content_type}\r\n");
        expect_refreshed(content_type, framed(200, &headers, PAIR.as_bytes()), Ending::Close).await;
    }
    expect_refreshed("no content type", framed(201, "", PAIR.as_bytes()), Ending::Close).await;
    expect_refreshed(
        "a byte order mark",
        framed(200, "", format!("\u{feff}{PAIR}").as_bytes()),
        Ending::Close,
    )
    .await;
    expect_refreshed(
        "more bytes",
        framed(200, "", format!("{PAIR}\n<!-- 12 ms -->").as_bytes()),
        Ending::Close,
    )
    .await;
}

#[tokio::test]
async fn tokens_one_level_down_are_found_by_the_providers_setting() {
    for (path, before, after) in [
        ("authed_user", r#"{"ok":true,"access_token":"bot","refresh_token":"bot-rt","authed_user":"#, "}"),
        ("data", r#"{"code":0,"message":"ok","data":"#, "}"),
        ("body", r#"{"status":0,"body":"#, "}"),
        ("result.tokens", r#"{"result":{"tokens":"#, "}}"),
    ] {
        let rig = Rig::with(|settings| settings.token_path = Some(path.into())).await;
        rig.server.answer(json(200, &format!("{before}{PAIR}{after}")), Ending::Close);
        assert_eq!(rig.token().await.unwrap().access_token.expose(), "at-2", "{path}");
        assert_refreshed(&rig, path).await;
    }
}

/// Leaves the journal of a process that died between its answer and the commit.
pub(super) async fn die_with(rig: &Rig, answer: Answer) {
    let at = rig.clock.now();
    let mut lock = rig.store.try_lock(&tenant(ALICE), Purpose::Refresh).await.unwrap().unwrap();
    let target: RefreshTarget = rig.session().await.refresh_target().unwrap();
    let token_endpoint = rig.server.token_endpoint();
    let intent = Intent { spending: Spending::Refresh(target), at, token_endpoint };
    let intended = lock.intend(intent).await.unwrap();
    lock.record(&intended.answered(Answer { at, ..answer })).await.unwrap();
}

#[tokio::test]
async fn an_answer_in_the_journal_is_read_as_one_that_just_arrived() {
    let form = b"access_token=at-2&refresh_token=rt-2&expires_in=7200".to_vec();
    let content_type = Some("application/x-www-form-urlencoded".to_owned());
    let zipped = gzip(PAIR.as_bytes());
    for answer in [
        Answer { body: zipped.into(), content_encoding: Some("gzip".into()), ..Answer::default() },
        Answer { body: PAIR.as_bytes().to_vec().into(), cut: true, ..Answer::default() },
        Answer { body: form.into(), content_type, ..Answer::default() },
    ] {
        let rig = Rig::start().await;
        die_with(&rig, Answer { status: 200, ..answer }).await;
        assert_eq!(rig.token().await.unwrap().access_token.expose(), "at-2");
        assert_eq!((rig.server.count(), rig.refresh_token().await.as_str()), (0, "rt-2"));
    }
}
