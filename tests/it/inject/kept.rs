//! Upstreams that break the rules of a kept connection, and callers that leave it in the middle: no
//! answer reaches another request.

use super::{
    upstream::{accept, answer, read_head},
    *,
};
use tokio::net::TcpListener;

/// Starts a proxy to an upstream that the test itself answers for.
async fn start() -> (Rig, InjectAccess, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let rig = Rig::with(|_| vec![route(&format!("http://{address}"))]).await;
    let access = rig.open().await;
    (rig, access, listener)
}

/// Waits until the other side has closed a connection.
async fn wait_for_close(stream: &mut TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while !matches!(timeout(WAIT, stream.read(&mut bytes)).await.expect("it ends"), Ok(0) | Err(_)) {}
}

/// The next answer on the same connection, which no request has asked for.
const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

#[tokio::test]
async fn no_byte_after_an_answer_reaches_the_next_request() {
    let with_body = |head: &str| format!("HTTP/1.1 {head}\r\n\r\npoison");
    for (line, first, expected) in [
        ("GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{POISON}"), "ok"),
        ("GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{}", "x".repeat(100_000)), "ok"),
        (
            "GET",
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{POISON}"
            ),
            "2\r\nok\r\n0\r\n\r\n",
        ),
        ("GET", format!("HTTP/1.1 204 No Content\r\n\r\n{POISON}"), ""),
        ("GET", with_body("204 No Content\r\nContent-Length: 6"), ""),
        ("GET", with_body("304 Not Modified\r\nContent-Length: 6"), ""),
        ("HEAD", with_body("200 OK\r\nContent-Length: 6"), ""),
        ("HEAD", with_body("200 OK\r\nTransfer-Encoding: chunked"), ""),
        ("GET", format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{POISON}"), ""),
    ] {
        let (_rig, access, listener) = start().await;
        let upstream = async {
            let mut stream = accept(&listener).await;
            read_head(&mut stream).await;
            stream.write_all(first.as_bytes()).await.expect("it reads");
            stream
        };
        let line = format!("{line} /inject/acme/v1");
        let (one, mut stream) = tokio::join!(ask(&access, &line, ""), upstream);
        let (_, body) = one.split_once("\r\n\r\n").expect("an answer");
        assert_eq!(body, expected, "{first:.100}");
        let second = async {
            let mut new = accept(&listener).await;
            read_head(&mut new).await;
            answer(&mut new).await;
        };
        let (two, ()) = tokio::join!(ask(&access, "GET /inject/acme/v2", ""), second);
        assert!(two.ends_with("\r\n\r\nok"), "{first:.100}: {two}");
        wait_for_close(&mut stream).await;
    }
}

#[tokio::test]
async fn informational_answers_are_skipped_and_the_connection_is_kept() {
    let (_rig, access, listener) = start().await;
    let upstream = async {
        let mut stream = accept(&listener).await;
        for _ in 0..2 {
            assert!(!read_head(&mut stream).await.is_empty());
            let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
            stream.write_all(early.as_bytes()).await.expect("it reads");
            answer(&mut stream).await;
        }
    };
    let both = async {
        for _ in 0..2 {
            let answer = ask(&access, "GET /inject/acme/v1", "").await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
            assert!(!answer.contains("103"), "{answer}");
        }
    };
    tokio::join!(both, upstream);
}

#[tokio::test]
async fn an_answer_with_a_wrong_length_is_refused_or_looks_broken() {
    for first in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZ\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Long",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "",
    ] {
        let (_rig, access, listener) = start().await;
        let upstream = async {
            let mut stream = accept(&listener).await;
            read_head(&mut stream).await;
            stream.write_all(first.as_bytes()).await.expect("it reads");
        };
        let (answer, ()) = tokio::join!(ask(&access, "GET /inject/acme/v1", ""), upstream);
        if !answer.starts_with("HTTP/1.1 200 ") {
            assert_problem(&answer, 502, "upstream_unavailable");
            continue;
        }
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let has_part = first.contains("ok") && !first.contains('Z');
        assert_eq!(body.contains("ok"), has_part, "all that arrived before the break: {first:?}: {answer}");
        let head = head.to_lowercase();
        let is_short = head.contains("content-length: 99") && body.len() < 99;
        assert!(is_short || head.contains("chunked") && !body.ends_with("0\r\n\r\n"), "{first:?}: {answer}");
    }
}

#[tokio::test]
async fn equal_lengths_of_an_answer_pass_as_one_and_different_ones_do_not() {
    for lengths in ["Content-Length: 2\r\nContent-Length: 2", "Content-Length: 2, 2"] {
        let (_rig, access, listener) = start().await;
        let upstream = async {
            let mut stream = accept(&listener).await;
            read_head(&mut stream).await;
            let first = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nok");
            stream.write_all(first.as_bytes()).await.expect("it reads");
            stream
        };
        let (answer, _stream) = tokio::join!(ask(&access, "GET /inject/acme/v1", ""), upstream);
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
        let lines = answer.to_lowercase();
        let lines: Vec<_> = lines.lines().filter(|line| line.starts_with("content-length")).collect();
        assert_eq!(lines, ["content-length: 2"], "{answer}");
    }
    // An answer without a body may name any length, and the client does not look at it.
    let (_rig, access, listener) = start().await;
    let upstream = async {
        let mut stream = accept(&listener).await;
        read_head(&mut stream).await;
        let first = "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n";
        stream.write_all(first.as_bytes()).await.expect("it reads");
        stream
    };
    let (answer, _stream) = tokio::join!(ask(&access, "HEAD /inject/acme/v1", ""), upstream);
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("content-length"), "{answer}");
}

#[tokio::test]
async fn a_connection_whose_request_still_leaves_takes_no_other_request() {
    let (_rig, access, listener) = start().await;
    let mut upload = Wire::open(&access).await;
    let line = format!(
        "POST /inject/acme/upload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 6\r\n\r\nabc",
        access.secret.expose()
    );
    upload.send(line.as_bytes()).await;
    let mut first = accept(&listener).await;
    read_head(&mut first).await;
    answer(&mut first).await;
    upload.until("\r\n\r\nok").await;
    let second = async {
        let mut new = accept(&listener).await;
        let head = read_head(&mut new).await;
        answer(&mut new).await;
        head
    };
    let (other, head) = tokio::join!(ask(&access, "GET /inject/acme/v2", ""), second);
    assert!(other.ends_with("\r\n\r\nok") && head.starts_with("GET /v2 "), "{other} {head}");
    upload.send(b"def").await;
    let mut body = [0; 6];
    timeout(WAIT, first.read_exact(&mut body)).await.expect("the upload goes on").expect("it is open");
    assert_eq!(&body, b"abcdef");
}

#[tokio::test]
async fn a_caller_that_leaves_in_the_middle_ends_its_connection_to_the_upstream() {
    // In the middle of its body, of the wait for an answer, and of the answer.
    for (more, first) in [
        ("Content-Length: 6\r\n\r\nabc", ""),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ""),
        ("Content-Length: 0\r\n\r\n", ""),
        ("Content-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
        ("Content-Length: 6\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
        ("Content-Length: 6\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ] {
        let (_rig, access, listener) = start().await;
        let mut leaving = Wire::open(&access).await;
        let start = format!(
            "PUT /inject/acme/v1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{more}",
            access.secret.expose()
        );
        leaving.send(start.as_bytes()).await;
        let mut stream = accept(&listener).await;
        read_head(&mut stream).await;
        if !first.is_empty() {
            stream.write_all(first.as_bytes()).await.expect("it reads");
            leaving.until("\r\n\r\nok").await;
        }
        drop(leaving);
        wait_for_close(&mut stream).await;
        let second = async {
            let mut new = accept(&listener).await;
            read_head(&mut new).await;
            answer(&mut new).await;
        };
        let (other, ()) = tokio::join!(ask(&access, "GET /inject/acme/v2", ""), second);
        assert!(other.ends_with("\r\n\r\nok"), "{other}");
    }
}

#[tokio::test]
async fn a_request_whose_answer_has_begun_is_not_repeated_while_its_body_still_leaves() {
    let (_rig, access, listener) = start().await;
    let first = async {
        let mut stream = accept(&listener).await;
        read_head(&mut stream).await;
        answer(&mut stream).await;
        stream
    };
    let (_, mut kept) = tokio::join!(ask(&access, "GET /inject/acme/v1", ""), first);
    let mut upload = Wire::open(&access).await;
    upload.send((head(&access, "PUT /inject/acme/v1", "Content-Length: 6\r\n") + "abc").as_bytes()).await;
    read_head(&mut kept).await;
    let mut body = [0; 3];
    kept.read_exact(&mut body).await.expect("the first half");
    kept.write_all(b"HTTP/1.1 20").await.expect("it reads");
    upload.send(b"def").await;
    kept.read_exact(&mut body).await.expect("the second half");
    drop(kept);
    let answered = timeout(WAIT, upload.read_whole()).await.expect("it answers").expect("whole");
    assert_problem(&answered, 502, "upstream_unavailable");
}

#[tokio::test]
async fn the_head_of_an_answer_may_have_60_kib_and_is_refused_at_128() {
    let (_rig, access, listener) = start().await;
    for (length, expected) in [(60, 200), (128, 502)] {
        let upstream = async {
            let mut stream = accept(&listener).await;
            read_head(&mut stream).await;
            let long = "x".repeat(length << 10);
            let head = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Long: {long}\r\nContent-Length: 2\r\n\r\nok"
            );
            let _ = stream.write_all(head.as_bytes()).await;
            wait_for_close(&mut stream).await;
        };
        let (answer, ()) = tokio::join!(ask(&access, "GET /inject/acme/v1", ""), upstream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{length}: {:.200}", answer);
    }
}
