use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

use super::*;
use crate::oauth::{
    Attempt,
    client::tests::{client, http, intended, listen, refresh_at, request, sent},
    content::tests::gzip,
};

const PAIR: &str = r#"{"access_token":"at","refresh_token":"rt"}"#;

/// Returns the answer that arrived.
fn answer(attempt: Attempt) -> Answer {
    let Attempt::Answered(unread) = attempt else { panic!("{attempt:?}") };
    unread.for_tests().clone()
}

/// Returns the answer to a server that sends these bytes and hangs up.
async fn answer_to(bytes: impl Into<Vec<u8>>) -> Answer {
    answer(sent(bytes.into()).await.0)
}

/// Returns the answer to a server that goes on as `then` after its first bytes. Also returns how
/// long the client waited for the rest.
async fn answer_while<F: Future<Output = ()> + Send>(
    bytes: impl Into<Vec<u8>>,
    then: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (Answer, Duration) {
    let (listener, base) = listen().await;
    let bytes = bytes.into();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the client connects");
        request(&mut stream).await;
        stream.write_all(&bytes).await.expect("the client reads");
        // From here only timers can run, and a paused clock jumps to the next one.
        tokio::time::pause();
        let since = Instant::now();
        then(stream).await;
        let waited = since.elapsed();
        tokio::time::resume();
        waited
    });
    let sent = client().send(refresh_at(&base), intended()).await;
    (answer(sent), server.await.expect("the server ends"))
}

/// Waits until the client hangs up.
async fn until_hung_up(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 1]).await;
}

fn head(headers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_body_whose_frame_is_whole_is_not_cut() {
    let chunked =
        format!("{}{:x}\r\n{PAIR}\r\n0\r\n\r\n", head("transfer-encoding: chunked\r\n"), PAIR.len());
    for whole in [http("200 OK", "", PAIR), chunked.into_bytes()] {
        let answer = answer_to(whole).await;
        assert_eq!((answer.body.as_slice(), answer.cut), (PAIR.as_bytes(), false));
    }
    assert!(!answer_to(http("204 No Content", "", "")).await.cut);
}

#[tokio::test]
async fn a_frame_that_breaks_off_keeps_the_bytes_before_it() {
    let length = PAIR.len();
    for (headers, body) in [
        (format!("content-length: {}\r\n", length + 10), PAIR.to_owned()),
        ("transfer-encoding: chunked\r\n".into(), format!("{length:x}\r\n{PAIR}\r\n")),
        ("transfer-encoding: chunked\r\n".into(), format!("{length:x}\r\n{PAIR}\r\n5\r\nab")),
        ("transfer-encoding: chunked\r\n".into(), format!("{length:x}\r\n{PAIR}\r\nno number\r\n")),
        ("transfer-encoding: chunked\r\n".into(), format!("{:x}\r\n{PAIR}", length + 10)),
    ] {
        let answer = answer_to(head(&headers) + &body).await;
        assert!(answer.body.starts_with(PAIR.as_bytes()), "{headers}{body}");
        assert!(answer.cut, "{headers}{body}");
    }
    for half in ["content-length: 100\r\n", "transfer-encoding: chunked\r\n"] {
        let answer = answer_to(head(half)).await;
        assert_eq!((answer.status, answer.body.len(), answer.cut), (200, 0, true), "{half}");
    }
}

#[tokio::test]
async fn without_a_frame_and_without_tls_the_end_of_a_body_is_uncertain() {
    for headers in ["connection: close\r\n", "transfer-encoding: identity\r\n"] {
        let answer = answer_to(head(headers) + PAIR).await;
        assert_eq!((answer.body.as_slice(), answer.cut), (PAIR.as_bytes(), true), "{headers}");
    }
}

#[tokio::test]
async fn an_odd_header_line_costs_no_body() {
    for odd in [
        "X-Thing : 1\r\n",
        "X-Thing: 1\r\n folded onto a second line\r\n",
        "no colon in this line\r\n",
        "X Thing: 1\r\n",
        "X-Thing: caf\u{e9}\r\n",
        ": nothing\r\n",
        "X-Thing:\r\n",
        &"X-Thing: 1\r\n".repeat(300),
    ] {
        for headers in [format!("{odd}content-type: a/b\r\n"), format!("content-type: a/b\r\n{odd}")] {
            let answer = answer_to(http("200 OK", &headers, PAIR)).await;
            assert_eq!((answer.body.as_slice(), answer.cut), (PAIR.as_bytes(), false), "{odd}");
            assert_eq!(answer.content_type.as_deref(), Some("a/b"), "{odd}");
        }
    }
}

#[tokio::test]
async fn the_headers_that_matter_and_the_raw_body_are_kept() {
    let body = gzip(PAIR.as_bytes());
    let headers = "content-type: application/json\r\ncontent-encoding: gzip\r\nretry-after: 7\r\n";
    let bytes = [head(&format!("{headers}content-length: {}\r\n", body.len())).into_bytes(), body.clone()];
    let answer = answer_to(bytes.concat()).await;
    assert_eq!(answer.body.as_slice(), body, "not decoded");
    assert_eq!(answer.content_type.as_deref(), Some("application/json"));
    assert_eq!(answer.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(answer.retry_after.as_deref(), Some("7"));
}

#[tokio::test]
async fn of_a_body_beyond_the_limit_the_first_part_is_kept() {
    let longest = "x".repeat(MAX_BODY);
    let fits = answer_to(http("200 OK", "", &longest)).await;
    assert_eq!((fits.body.len(), fits.cut), (MAX_BODY, false));
    let too_long = format!("{longest}y");
    for bytes in [
        http("200 OK", "", &too_long),
        (head("connection: close\r\n") + &too_long).into_bytes(),
        (head("content-length: 99999999999\r\n") + &too_long).into_bytes(),
    ] {
        let answer = answer_to(bytes).await;
        assert_eq!((answer.body.as_slice() == longest.as_bytes(), answer.cut), (true, true));
    }
}

#[tokio::test]
async fn a_length_that_is_too_long_delays_a_whole_object_by_two_seconds_at_most() {
    let zipped = gzip(PAIR.as_bytes());
    for body in [PAIR.as_bytes(), &zipped] {
        let bytes = [head(&format!("content-length: {}\r\n", body.len() + 10)).as_bytes(), body].concat();
        let (answer, waited) = answer_while(bytes, until_hung_up).await;
        assert_eq!((answer.body.as_slice(), answer.cut), (body, true));
        assert!(waited <= Duration::from_secs(3), "{waited:?}");
    }
}

#[tokio::test]
async fn bytes_that_trickle_after_a_whole_object_do_not_delay_it() {
    let bytes = head("content-length: 100000\r\n") + PAIR;
    let (answer, waited) = answer_while(bytes, async |mut stream| {
        while stream.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    assert!(answer.body.starts_with(PAIR.as_bytes()) && answer.cut);
    assert!(waited <= Duration::from_secs(5), "{waited:?}");
}

#[tokio::test]
async fn the_rest_of_an_object_is_waited_for_and_its_frame_ends_the_wait() {
    let (first, rest) = PAIR.split_at(20);
    let bytes = head(&format!("content-length: {}\r\n", PAIR.len())) + first;
    let (answer, waited) = answer_while(bytes, async |mut stream| {
        sleep(Duration::from_secs(150)).await;
        stream.write_all(rest.as_bytes()).await.expect("the client reads");
        until_hung_up(stream).await;
    })
    .await;
    assert_eq!((answer.body.as_slice(), answer.cut), (PAIR.as_bytes(), false));
    assert!(waited < Duration::from_secs(151), "{waited:?}");
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up_after_three_minutes_and_kept() {
    for body in [&PAIR[..20], "access_token=at&refresh_", "<html>", ""] {
        let (answer, waited) = answer_while(head("content-length: 100\r\n") + body, until_hung_up).await;
        assert_eq!((answer.status, answer.body.as_slice(), answer.cut), (200, body.as_bytes(), true));
        assert!(waited >= Duration::from_secs(180) && waited <= Duration::from_secs(200), "{waited:?}");
    }
}
