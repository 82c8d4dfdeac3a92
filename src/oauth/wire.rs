//! The bytes of a connection as they arrived, kept beside the HTTP library.
//!
//! The library rejects whole answers because of one line of their head, such as a length that is no
//! number. It also stops at the end of a frame that is too short. The tokens after that are the only
//! copy, so they are read here once more, without its rules. An answer that is read here is always
//! [`cut`](Answer::cut): nothing shows that it is whole.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::{content::has_whole_object, receive::LOOK_INTERVAL};
use crate::{
    net::Stream,
    session::journal::{Answer, MAX_BODY},
};

/// How many bytes of a connection are kept: a long head and the longest body.
const MAX_WIRE: usize = 2 * MAX_BODY;

/// How long more bytes are awaited after a frame without a whole JSON object. A success must have
/// tokens, and a form does not show where it ends. So the peer's close is awaited, which the request
/// asks for.
pub(super) fn pause_after_the_frame(status: u16) -> Duration {
    if (200..300).contains(&status) { Duration::from_secs(5) } else { Duration::from_millis(300) }
}

/// A connection, and the bytes that have arrived on it. Clones share both.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Kept>>);

struct Kept {
    stream: Stream,
    bytes: Zeroizing<Vec<u8>>,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> Self {
        // Room for everything at once: a vector that grows leaves copies of tokens in memory.
        let bytes = Zeroizing::new(Vec::with_capacity(MAX_WIRE));
        Self(Arc::new(Mutex::new(Kept { stream, bytes })))
    }

    /// Reads on until the peer closes, a whole JSON object has arrived, or the time has expired.
    /// Returns the answer, except for its time; `None` if its head never ended.
    pub(super) async fn read_again(mut self, deadline: Instant) -> Option<Answer> {
        let mut buffer = Zeroizing::new([0; 8192]);
        let has_object = |wire: &Self| answer(&wire.kept().bytes).is_some_and(|a| has_whole_object(&a.body));
        loop {
            let look_at = deadline.min(Instant::now() + LOOK_INTERVAL);
            match timeout_at(look_at, self.read(&mut buffer[..])).await {
                Ok(Ok(read)) if read > 0 && self.kept().bytes.len() < MAX_WIRE => {}
                Err(_) if Instant::now() < deadline && !has_object(&self) => {}
                Ok(_) | Err(_) => break,
            }
        }
        answer(&self.kept().bytes)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut kept = self.kept();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut kept.stream).poll_read(context, buffer);
        let arrived = &buffer.filled()[before..];
        let room = MAX_WIRE - kept.bytes.len();
        kept.bytes.extend_from_slice(&arrived[..arrived.len().min(room)]);
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.kept().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.kept().stream).poll_flush(context)
    }

    /// Leaves the connection open, because more may arrive. It closes with the last clone.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// Reads the final answer of a connection, skipping the interim ones (RFC 9110 §15.2). Returns `None`
/// without a status line or the end of its head.
fn answer(mut wire: &[u8]) -> Option<Answer> {
    loop {
        let mut head = Vec::new();
        loop {
            let end = wire.iter().position(|&byte| byte == b'\n')?;
            let line = String::from_utf8_lossy(&wire[..end]).trim().to_owned();
            wire = &wire[end + 1..];
            match line.is_empty() {
                true if head.is_empty() => {}
                true => break,
                false => head.push(line),
            }
        }
        let mut words = head[0].trim_start_matches('\u{feff}').split_ascii_whitespace();
        words.next().filter(|version| version.to_ascii_uppercase().starts_with("HTTP/"))?;
        let status = words.next()?.parse().ok().filter(|status| (100..1000).contains(status))?;
        if status < 200 {
            continue;
        }
        let header = |name: &str| {
            let lines = head[1..].iter().filter_map(|line| line.split_once(':'));
            let mut values = lines.filter(|(there, _)| there.trim().eq_ignore_ascii_case(name));
            values.next().map(|(_, value)| value.trim().to_owned())
        };
        let is_chunked = header("transfer-encoding")
            .is_some_and(|codings| codings.to_ascii_lowercase().ends_with("chunked"));
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        for part in if is_chunked { without_chunks(wire) } else { vec![wire] } {
            let room = MAX_BODY - body.len();
            body.extend_from_slice(&part[..part.len().min(room)]);
        }
        return Some(Answer {
            status,
            retry_after: header("retry-after"),
            content_type: header("content-type"),
            content_encoding: header("content-encoding"),
            cut: true,
            body,
            ..Answer::default()
        });
    }
}

/// Returns the parts of a body in chunks (RFC 9112 §7.1). From the first error on, the rest is a part.
fn without_chunks(mut wire: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    while let Some(end) = wire.iter().position(|&byte| byte == b'\n') {
        let size = String::from_utf8_lossy(&wire[..end]);
        let size = size.split(';').next().unwrap_or_default().trim().trim_start_matches("0x");
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let data = &wire[end + 1..];
        let (data, rest) = data.split_at(size.min(data.len()));
        parts.push(data);
        if size == 0 {
            wire = without_trailers(rest);
            break;
        }
        wire = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).unwrap_or(rest);
    }
    parts.push(wire);
    parts
}

/// Returns the bytes after the trailers and the empty line that end a body in chunks (RFC 9112
/// §7.1.2). If they do not end like that, all of them follow.
fn without_trailers(wire: &[u8]) -> &[u8] {
    let mut rest = wire;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let line = rest[..end].trim_ascii();
        rest = &rest[end + 1..];
        if line.is_empty() {
            return rest;
        }
        let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if name.len() == line.len() || !name.iter().all(is_of_name) {
            break;
        }
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &str) -> Option<(u16, String)> {
        let answer = answer(wire.as_bytes())?;
        assert!(answer.cut);
        Some((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
    }

    #[test]
    fn the_final_answer_is_read_whatever_its_head_looks_like() {
        for head in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "\u{feff}http/1.1  200\n\n",
            "\r\nHTTP/1.1 200 O\u{1}K\r\nA\0: b\r\nno colon\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.0 200\r\nContent-Length: x\r\n\r\n",
        ] {
            assert_eq!(read(&format!("{head}{{}}")), Some((200, "{}".to_owned())), "{head:?}");
        }
        for wire in ["", "{}", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 20 OK\r\n\r\n{}", "SSH-2.0-a\r\n\r\n"]
        {
            assert_eq!(read(wire), None, "{wire:?}");
        }
    }

    #[test]
    fn chunks_are_joined_up_to_the_first_error_and_the_rest_follows() {
        for (chunks, body) in [
            ("2;a=b\r\n{\"\r\n0X\r\n", "{\"0X\r\n"),
            ("0x1\n{\n1\n}\n0\n\n", "{}"),
            ("1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", "{}"),
            ("1\r\n{}\r\n", "{}\r\n"),
            ("ff\r\n{}", "{}"),
            ("{}", "{}"),
            ("2\r\n{}\r\n0\r\nDigest: a\r\nX-B: c\r\n\r\n", "{}"),
            ("2\r\n{}\r\n0\r\nDigest: a\r\n\r\nmore", "{}more"),
            ("0\r\n{\"a\":1}\r\n\r\n", "{\"a\":1}\r\n\r\n"),
            ("0\r\nrest", "rest"),
        ] {
            let wire = format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert_eq!(read(&wire), Some((200, body.to_owned())), "{chunks:?}");
        }
    }
}
