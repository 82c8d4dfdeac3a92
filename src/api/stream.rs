//! A connection's stream, which replaces hyper's own error answers by problems (RFC 9457).
//!
//! A request that is not HTTP, or has too long a head, never reaches the routes. Hyper answers it
//! with a bare status, and offers no way to add a body. So a message that hyper begins while no answer
//! of the routes is in progress is such an answer. This stream reads the status from it, and writes
//! the problem of that status in its place. Hyper closes the connection after it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::problem::Problem;

/// A connection whose error answers are all problems.
pub(super) struct ProblemStream<S> {
    stream: S,
    /// Whether an answer of the routes is in progress.
    answering: Arc<AtomicBool>,
    /// The answer that replaces hyper's, and the number of its bytes that are written.
    replacement: Option<(Vec<u8>, usize)>,
}

impl<S: AsyncWrite + Unpin> ProblemStream<S> {
    /// Wraps a connection. `answering` is set from a request's arrival at the routes to the end of
    /// its answer's body.
    pub(super) fn new(stream: S, answering: Arc<AtomicBool>) -> Self {
        Self { stream, answering, replacement: None }
    }

    fn poll_replacement(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((bytes, written)) = &mut self.replacement else { return Poll::Ready(Ok(())) };
        while *written < bytes.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ProblemStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProblemStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.replacement.is_none() {
            // The end of an answer is still written after its body has ended.
            if self.answering.load(Ordering::Relaxed) || !is_refusal(bytes) {
                return Pin::new(&mut self.stream).poll_write(cx, bytes);
            }
            self.replacement = Some((Problem::of_head(status(bytes)).message(), 0));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        // Hyper drops the body of a short answer before it writes the answer. Head and body then still
        // leave in one write: two of them are two packets, and wake the caller twice.
        let is_answer = self.answering.load(Ordering::Relaxed) || !is_refusal(first);
        if self.replacement.is_none() && is_answer {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether hyper writes an answer of its own: an error without a body, and nothing else. A refusal that
/// waits after an answer to a slow reader is a part of its write, and stays bare.
fn is_refusal(message: &[u8]) -> bool {
    message.starts_with(b"HTTP/1.1 4")
        && message.windows(4).position(|end| end == b"\r\n\r\n") == message.len().checked_sub(4)
        && message.windows(19).any(|line| line == b"content-length: 0\r\n")
}

/// Reads the status of a message that begins with `HTTP/1.1 431 …`.
fn status(message: &[u8]) -> u16 {
    let digits = message.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(400)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    /// Keeps each write apart.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.0.push(bytes);
            Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }
    }

    /// Writes these slices once, after the body of the answer has ended, and flushes.
    fn written(slices: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut stream = ProblemStream::new(Writes::default(), Arc::default());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let slices: Vec<IoSlice<'_>> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        assert!(Pin::new(&mut stream).poll_write_vectored(&mut context, &slices).is_ready());
        assert!(Pin::new(&mut stream).poll_flush(&mut context).is_ready());
        stream.stream.0
    }

    #[test]
    fn the_head_and_the_body_of_a_short_answer_leave_in_one_write() {
        let (head, body) = (&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"[..], &b"{}"[..]);
        assert_eq!(written(&[head, body]), [[head, body].concat()]);
        assert_eq!(written(&[b"", head, body]), [[head, body].concat()]);
    }

    #[test]
    fn an_answer_that_is_written_with_a_refusal_after_it_is_not_replaced() {
        let answer = &b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}"[..];
        let refusal = &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..];
        let both = [answer, refusal].concat();
        assert_eq!(written(&[&both]), std::slice::from_ref(&both));
    }

    #[test]
    fn a_bare_refusal_of_hyper_becomes_a_problem_in_a_vectored_write_too() {
        let writes = written(&[b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n"]);
        let text = String::from_utf8(writes.concat()).expect("text");
        assert!(text.starts_with("HTTP/1.1 431 ") && text.contains("application/problem+json"), "{text}");
    }
}
