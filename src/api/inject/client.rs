//! The connections to an upstream: opened as all others that leave this machine, and kept for later
//! requests.
//!
//! A server may close a kept connection at the moment at which a request leaves on it. The request then
//! fails without a byte of an answer, and [`was_closed_before`] recognises that. It can be sent again on
//! a new connection if its method allows it (RFC 9112 §9.3.1, RFC 9110 §9.2.2).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::http::Extensions;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;
use url::Url;

use super::{body::Attempt, headers::OwnHeaders, route::InjectRoute};
use crate::net::{Outward, Stream, Trust, Unreachable};

/// How long an idle connection is kept. Most servers keep theirs a little longer.
const IDLE: Duration = Duration::from_secs(50);
/// How many idle connections to one upstream are kept.
const MAX_IDLE: usize = 64;

/// The client of one upstream. It follows no redirect.
pub(super) type UpstreamClient = Client<Connector, Attempt>;

/// A route, with the connections to its upstream.
pub(super) struct Upstream {
    pub(super) route: InjectRoute,
    /// The headers that the route sets itself.
    pub(super) own: OwnHeaders,
    pub(super) client: UpstreamClient,
    /// Opens a new connection for each request.
    pub(super) fresh: UpstreamClient,
}

impl Upstream {
    /// Takes a route, and connects to nothing yet.
    pub(super) fn new(route: &InjectRoute, outward: &Outward) -> Self {
        let client = |max_idle| client(outward, &route.upstream, &route.trust, max_idle);
        Self { route: route.clone(), own: OwnHeaders::of(route), client: client(MAX_IDLE), fresh: client(0) }
    }
}

/// Returns a client without connections, which keeps this many idle ones.
fn client(outward: &Outward, upstream: &Url, trust: &Trust, max_idle: usize) -> UpstreamClient {
    let connector =
        Connector { outward: outward.clone(), upstream: Arc::new(upstream.clone()), trust: trust.clone() };
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(max_idle)
        .build(connector)
}

/// Whether a request failed because its connection, which had served another one before, was closed
/// before any byte of an answer.
pub(super) fn was_closed_before(error: &hyper_util::client::legacy::Error) -> bool {
    let mut extras = Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extras);
    }
    extras.get::<Usage>().is_some_and(Usage::is_between_answers)
}

/// The bytes that have arrived on a connection. Clones share it.
#[derive(Clone, Default)]
struct Usage(Arc<Arrived>);

#[derive(Default)]
struct Arrived {
    ever: AtomicBool,
    since_the_last_write: AtomicBool,
}

impl Usage {
    fn wrote(&self) {
        self.0.since_the_last_write.store(false, Ordering::Relaxed);
    }

    fn read(&self) {
        self.0.ever.store(true, Ordering::Relaxed);
        self.0.since_the_last_write.store(true, Ordering::Relaxed);
    }

    fn is_between_answers(&self) -> bool {
        self.0.ever.load(Ordering::Relaxed) && !self.0.since_the_last_write.load(Ordering::Relaxed)
    }
}

/// Connects to one upstream, whatever the request's URI.
#[derive(Clone)]
pub(super) struct Connector {
    outward: Outward,
    upstream: Arc<Url>,
    trust: Trust,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<UpstreamStream>;
    type Error = Unreachable;
    type Future = BoxFuture<'static, Result<TokioIo<UpstreamStream>, Unreachable>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreachable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { outward, upstream, trust } = self.clone();
        Box::pin(async move {
            let stream = outward.open(&upstream, &trust).await?;
            Ok(TokioIo::new(UpstreamStream { stream, usage: Usage::default() }))
        })
    }
}

/// A connection to an upstream.
pub(super) struct UpstreamStream {
    stream: Stream,
    usage: Usage,
}

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.usage.clone())
    }
}

impl AsyncRead for UpstreamStream {
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

impl AsyncWrite for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.usage.wrote();
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
        self.usage.wrote();
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
