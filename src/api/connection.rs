//! A connection of the token API: its requests, one after the other, within its limits.
//!
//! A connection is kept between requests, and closed after ten seconds without one. A peer that does
//! not read its answer holds this connection and its place among the arrivals, which others take when
//! they need it ([`super::shares`]).

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, response::Response};
use futures_util::FutureExt as _;
use hyper::{
    Request,
    body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    dispatch::Dispatch,
    shares::{ARRIVALS, ConnectionShare, REQUESTS, WAITS},
    stream::ProblemStream,
};

/// How many connections are served at once: one for each place, and some that have just lost theirs
/// and are being closed. Further ones wait in the socket's backlog.
pub(super) const MAX_CONNECTIONS: usize = ARRIVALS + REQUESTS + WAITS + 64;
/// The pause after a failed accept, which mostly means a lack of resources.
pub(super) const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// The longest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The most headers that a request may have.
const MAX_HEADERS: usize = 64;
/// How long a request head may take to arrive, from the answer before it on.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Serves the requests of a connection until its peer leaves, its place is lost, or `shutdown`. Then it
/// finishes the request in progress.
pub(super) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    dispatch: Arc<Dispatch>,
    share: ConnectionShare,
    shutdown: CancellationToken,
) {
    let (share, answering) = (Arc::new(share), Arc::new(AtomicBool::new(false)));
    let stream = ProblemStream::new(stream, answering.clone());
    let routes = Routes { dispatch, share: share.clone(), answering };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // All answers are short: one write of a copy costs the kernel less than one of two parts.
        .writev(false)
        .serve_connection(TokioIo::new(stream), routes);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        // An answer that is ready is written before the connection is closed for others.
        biased;
        ended = served.as_mut() => ended,
        () = share.dismissed.cancelled() => return,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the token API ended early");
    }
}

/// The routes, for one connection.
struct Routes {
    dispatch: Arc<Dispatch>,
    share: Arc<ConnectionShare>,
    answering: Arc<AtomicBool>,
}

impl Service<Request<Incoming>> for Routes {
    type Response = Response<Answer>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.answering.store(true, Ordering::Relaxed);
        let answering = self.answering.clone();
        let answered = self.dispatch.clone().answer(request, self.share.clone());
        Box::pin(answered.map(|response| Ok(response.map(|body| Answer { body, answering }))))
    }
}

/// The body of an answer from the routes. Hyper drops it at its end, and reads the next head then.
struct Answer {
    body: Body,
    answering: Arc<AtomicBool>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.answering.store(false, Ordering::Relaxed);
    }
}
