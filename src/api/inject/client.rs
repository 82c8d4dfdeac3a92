//! The connections to an upstream: opened as all others that leave this machine, and kept for later
//! requests.
//!
//! Each connection runs in a task of its own, which ends with its [`SendRequest`]. A request has it alone
//! until its answer ends. A request or an answer that is dropped before ends the connection, so that the
//! upstream stops. A body that still leaves after its answer has ended has [`END_WITHIN`], and a
//! connection that nothing holds any more has [`CLOSE_WITHIN`] to close: an upstream that reads nothing
//! would hold both for ever.
//!
//! A connection reads no more than [`MAX_BUFFER`] ahead of its reader.
//!
//! A server may close a kept connection at the moment at which a request leaves on it. The request then
//! fails without a byte of an answer, which [`Failed::was_closed_before`] notes. It can be sent again on
//! a new connection if its method allows it (RFC 9112 §9.3.1, RFC 9110 §9.2.2).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::http::{HeaderValue, Request, Response, Uri, header};
use hyper::{
    body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use super::{body::Attempt, headers::OwnHeaders, route::InjectRoute};
use crate::net::{Outward, Trust, Unreachable};

/// How long an idle connection is kept. Most servers keep theirs a little longer.
const IDLE: Duration = Duration::from_secs(50);
/// How often the connections that are idle for too long are closed.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How many idle connections to one upstream are kept.
const MAX_IDLE: usize = 64;
/// How long a request may still leave after its answer has ended.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection that nothing holds may take to close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// How much a connection reads ahead, in bytes. The head of an answer is shorter.
const MAX_BUFFER: usize = 64 << 10;

/// A route, with the connections to its upstream.
pub(super) struct Upstream {
    pub(super) route: InjectRoute,
    /// The headers that the route sets itself.
    pub(super) own: OwnHeaders,
    connector: Connector,
    idle: Arc<Idle>,
}

/// The opening of connections to one upstream.
struct Connector {
    outward: Outward,
    upstream: Url,
    trust: Trust,
    host: HeaderValue,
}

/// The idle connections to one upstream.
#[derive(Default)]
struct Idle(Mutex<IdleList>);

#[derive(Default)]
struct IdleList {
    /// The newest stands last.
    connections: Vec<(Kept, Instant)>,
    is_swept: bool,
}

/// A connection that is kept between its requests.
struct Kept {
    sender: SendRequest<Attempt>,
    usage: Usage,
    /// Ends the connection's task.
    _held: DropGuard,
}

/// The body of an answer. After it the connection is idle again.
pub(super) struct Answer {
    body: Incoming,
    connection: Option<Kept>,
    idle: Weak<Idle>,
}

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
#[error("the upstream gave no answer")]
pub(super) struct Failed {
    #[source]
    cause: Cause,
    /// Whether the connection had served another request before, and was closed before any byte of this
    /// answer.
    pub(super) was_closed_before: bool,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

// === impl Upstream ===

impl Upstream {
    /// Takes a route, and connects to nothing yet.
    pub(super) fn new(route: &InjectRoute, outward: &Outward) -> Self {
        let (upstream, trust) = (route.upstream.clone(), route.trust.clone());
        let host = &upstream[url::Position::BeforeHost..url::Position::AfterPort];
        // A URL's host has no character that a header cannot have.
        let host = HeaderValue::from_str(host).unwrap_or(HeaderValue::from_static(""));
        let connector = Connector { outward: outward.clone(), upstream, trust, host };
        Self { route: route.clone(), own: OwnHeaders::of(route), connector, idle: Arc::default() }
    }

    /// Sends a request on an idle connection, or on a new one without one.
    pub(super) async fn send(&self, mut request: Request<Attempt>) -> Result<Response<Answer>, Failed> {
        while let Some(mut kept) = self.idle.take() {
            kept.usage.begin();
            match kept.sender.try_send_request(self.addressed(request)).await {
                Ok(answer) => return Ok(self.answer(answer, kept)),
                Err(mut error) => match error.take_message() {
                    // It was closed before anything left.
                    Some(unsent) => request = unsent,
                    None => {
                        let was_closed_before = !kept.usage.has_arrived();
                        return Err(Failed { cause: error.into_error().into(), was_closed_before });
                    }
                },
            }
        }
        self.send_anew(request).await
    }

    /// Sends a request on a new connection.
    pub(super) async fn send_anew(&self, request: Request<Attempt>) -> Result<Response<Answer>, Failed> {
        let failed = |cause| Failed { cause, was_closed_before: false };
        let mut opened = self.connector.open().await.map_err(failed)?;
        let answer = opened.sender.send_request(self.addressed(request)).await;
        Ok(self.answer(answer.map_err(|error| failed(error.into()))?, opened))
    }

    /// Gives a request the host and the form of target that an origin server takes (RFC 9112 §3.2.1).
    fn addressed(&self, mut request: Request<Attempt>) -> Request<Attempt> {
        if let Some(target) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(target);
        }
        request.headers_mut().insert(header::HOST, self.connector.host.clone());
        request
    }

    fn answer(&self, answer: Response<Incoming>, connection: Kept) -> Response<Answer> {
        let (connection, idle) = (Some(connection), Arc::downgrade(&self.idle));
        answer.map(|body| Answer { body, connection, idle })
    }
}

// === impl Connector ===

impl Connector {
    async fn open(&self) -> Result<Kept, Cause> {
        let stream = self.outward.open(&self.upstream, &self.trust).await?;
        Ok(Kept::over(stream).await?)
    }
}

// === impl Kept ===

impl Kept {
    /// Speaks HTTP/1.1 on a new connection.
    async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, hyper::Error> {
        let usage = Usage::default();
        let stream = UpstreamStream { stream, usage: usage.clone() };
        let handshake = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await?;
        let dropped = CancellationToken::new();
        let mut kept = Self { sender, usage, _held: dropped.clone().drop_guard() };
        tokio::spawn(async move {
            let is_late = async {
                dropped.cancelled().await;
                sleep(CLOSE_WITHIN).await;
            };
            tokio::select! {
                // The request that meets the error reports it.
                _ = connection => {}
                () = is_late => {}
            }
        });
        kept.sender.ready().await?;
        Ok(kept)
    }
}

// === impl Idle ===

impl Idle {
    /// Takes the newest connection that is open.
    fn take(&self) -> Option<Kept> {
        let mut list = self.lock();
        while let Some((kept, since)) = list.connections.pop() {
            if kept.sender.is_ready() && since.elapsed() < IDLE {
                return Some(kept);
            }
        }
        None
    }

    fn put(self: &Arc<Self>, kept: Kept) {
        let mut list = self.lock();
        if list.connections.len() >= MAX_IDLE {
            list.connections.remove(0);
        }
        list.connections.push((kept, Instant::now()));
        if !list.is_swept {
            list.is_swept = true;
            tokio::spawn(Self::sweep(Arc::downgrade(self)));
        }
    }

    /// Closes the connections that are idle for too long, while there are idle ones.
    async fn sweep(idle: Weak<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let Some(idle) = idle.upgrade() else { return };
            let mut list = idle.lock();
            list.connections.retain(|(kept, since)| !kept.sender.is_closed() && since.elapsed() < IDLE);
            if list.connections.is_empty() {
                list.is_swept = false;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, IdleList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Answer ===

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
        let Some(mut kept) = self.connection.take() else { return };
        if kept.sender.is_ready() {
            if let Some(idle) = self.idle.upgrade() {
                idle.put(kept);
            }
        } else if !kept.sender.is_closed()
            && let Ok(runtime) = Handle::try_current()
        {
            // Its task finds the end of the answer, or the lack of a reader, which closes it.
            let idle = self.idle.clone();
            runtime.spawn(async move {
                if let Ok(Ok(())) = timeout(END_WITHIN, kept.sender.ready()).await
                    && let Some(idle) = idle.upgrade()
                {
                    idle.put(kept);
                }
            });
        }
    }
}

/// Whether a byte has arrived since the last request began. Clones share it.
#[derive(Clone, Default)]
struct Usage(Arc<AtomicBool>);

impl Usage {
    fn begin(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn read(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn has_arrived(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection to an upstream.
struct UpstreamStream<S> {
    stream: S,
    usage: Usage,
}

impl<S: AsyncRead + Unpin> AsyncRead for UpstreamStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.usage.read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for UpstreamStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::{StreamExt as _, stream};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::api::inject::{
        body::{Budget, RequestBody},
        presented::Secrets,
    };

    /// Returns an idle connection, and its other end, between which this many bytes can wait.
    async fn connection_with(room: usize) -> (Kept, DuplexStream) {
        let (ours, theirs) = duplex(room);
        (Kept::over(ours).await.expect("it is open"), theirs)
    }

    async fn connection() -> (Kept, DuplexStream) {
        connection_with(1024).await
    }

    /// Begins a request with this body. Returns its answer, which begins with `head`.
    async fn answered(mut kept: Kept, theirs: &mut DuplexStream, body: Body, head: &str) -> Answer {
        let body = RequestBody::new(body, Budget::new(), OwnHeaders::none(), Secrets::new([]));
        let mut request = Request::new(body.first());
        *request.method_mut() = axum::http::Method::POST;
        let answer = kept.sender.send_request(request);
        let upstream = async {
            theirs.read_u8().await.expect("the request begins");
            theirs.write_all(head.as_bytes()).await.expect("it reads");
        };
        let (answer, ()) = tokio::join!(answer, upstream);
        let idle = Weak::new();
        Answer { body: answer.expect("an answer").into_body(), connection: Some(kept), idle }
    }

    async fn next(answer: &mut Answer) -> usize {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *answer).poll_frame(cx)).await;
        frame.expect("a frame").expect("no error").into_data().expect("data").len()
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_reads_no_body_after_its_answer_holds_no_connection() {
        let (kept, mut theirs) = connection().await;
        let part = Ok::<_, Infallible>(vec![b'x'; 1 << 20]);
        let body = Body::from_stream(stream::iter([part]).chain(stream::pending()));
        let head = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nok";
        let mut answer = answered(kept, &mut theirs, body, head).await;
        assert_eq!(next(&mut answer).await, 2);
        let ended = Instant::now();
        drop(answer);
        // It is closed without a read, which would let the body leave.
        while theirs.write_all(b"x").await.is_ok() {
            assert!(ended.elapsed() < 2 * END_WITHIN, "it stays");
            sleep(Duration::from_millis(100)).await;
        }
        assert!(ended.elapsed() >= END_WITHIN, "the body has some time to leave");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_reads_little_ahead_of_a_reader_that_stops() {
        const ROOM: usize = 1 << 20;
        let (kept, mut theirs) = connection_with(ROOM).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 * ROOM);
        let mut answer = answered(kept, &mut theirs, Body::empty(), &head).await;
        let (part, mut sent, mut read) = ([b'x'; 4096], 0, 0);
        // The buffers grow with each read that fills them.
        while read < 8 * ROOM {
            while sent < read + ROOM {
                theirs.write_all(&part).await.expect("it reads");
                sent += part.len();
            }
            read += next(&mut answer).await;
        }
        while timeout(Duration::from_secs(1), theirs.write_all(&part)).await.is_ok() {
            sent += part.len();
        }
        let ahead = sent - read - ROOM;
        assert!(ahead <= 2 * MAX_BUFFER, "{ahead}");
    }

    async fn is_closed(theirs: &mut DuplexStream) -> bool {
        theirs.read(&mut [0]).await.expect("no error") == 0
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_idle_for_too_long_is_closed() {
        let (kept, mut theirs) = connection().await;
        let idle = Arc::new(Idle::default());
        idle.put(kept);
        let before = Instant::now();
        assert!(is_closed(&mut theirs).await);
        assert!((IDLE..=IDLE + SWEEP_EVERY).contains(&before.elapsed()));
        assert!(idle.take().is_none() && !idle.lock().is_swept);
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_idle_connection_is_used_and_the_oldest_one_goes_first() {
        let idle = Arc::new(Idle::default());
        let (kept, mut oldest) = connection().await;
        idle.put(kept);
        let mut others = Vec::new();
        for _ in 0..MAX_IDLE {
            let (kept, theirs) = connection().await;
            idle.put(kept);
            others.push(theirs);
        }
        assert!(is_closed(&mut oldest).await);
        drop(others.pop());
        tokio::task::yield_now().await;
        assert!(idle.take().is_some(), "the one before the closed one");
        assert_eq!(idle.lock().connections.len(), MAX_IDLE - 2);
    }
}
