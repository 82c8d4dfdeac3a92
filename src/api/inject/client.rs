//! The connections to an upstream: opened as all others that leave this machine, and kept for later
//! requests.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use hyper::{
    Uri,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tower_service::Service;
use url::Url;

use super::{body::Attempt, route::InjectRoute};
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
    pub(super) client: UpstreamClient,
}

/// Returns a client without connections.
pub(super) fn client(outward: &Outward, upstream: &Url, trust: &Trust) -> UpstreamClient {
    let connector =
        Connector { outward: outward.clone(), upstream: Arc::new(upstream.clone()), trust: trust.clone() };
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .build(connector)
}

/// Connects to one upstream, whatever the request's URI.
#[derive(Clone)]
pub(super) struct Connector {
    outward: Outward,
    upstream: Arc<Url>,
    trust: Trust,
}

impl Service<Uri> for Connector {
    type Response = UpstreamStream;
    type Error = Unreachable;
    type Future = BoxFuture<'static, Result<UpstreamStream, Unreachable>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreachable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { outward, upstream, trust } = self.clone();
        Box::pin(async move {
            let stream = outward.open(&upstream, &trust).await?;
            Ok(UpstreamStream(TokioIo::new(stream)))
        })
    }
}

/// A connection to an upstream.
pub(super) struct UpstreamStream(TokioIo<Stream>);

impl Connection for UpstreamStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for UpstreamStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }
}
