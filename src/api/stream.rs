//! A connection's bytes, with the answers that hyper makes up by itself put into the API's form.
//!
//! What is no HTTP, or has too long a head, never reaches the routes: hyper answers it with a bare status, and has no way to say more.
//! A connection has one answer here. So if bytes are to be written and no request has reached the routes, they are such an answer:
//! its status is read out of it, and the problem (RFC 9457) of that status is written in its place.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};

use super::problem::Problem;

/// A connection of which each error answer is a problem.
pub(super) struct ProblemStream {
    stream: UnixStream,
    /// A request has reached the routes.
    reached: Arc<AtomicBool>,
    /// What is written in the place of hyper's answer, and how much of it has been.
    own: Option<(Vec<u8>, usize)>,
}

impl ProblemStream {
    /// `reached` is set as soon as a request reaches the routes.
    pub(super) fn new(stream: UnixStream, reached: Arc<AtomicBool>) -> Self {
        Self { stream, reached, own: None }
    }

    fn poll_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((bytes, written)) = &mut self.own else { return Poll::Ready(Ok(())) };
        while *written < bytes.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ProblemStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ProblemStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.reached.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        if self.own.is_none() {
            self.own = Some((Problem::of_head(status(bytes)).message(), 0));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The status of a message that begins with `HTTP/1.1 431 …`.
fn status(message: &[u8]) -> u16 {
    let digits = message.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(400)
}
