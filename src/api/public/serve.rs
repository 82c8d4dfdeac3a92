//! The connections of the sign-in pages: limited in number, size and time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{BoundPages, Transport, answers::router, arrival::Arrival};
use crate::{
    api::shares::{Peer, Pool},
    broker::{Broker, OwnerRights},
    net::ServerTls,
};

/// How many connections have a place at once.
const PLACES: usize = 256;
/// The longest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The most headers that a request may have. Browsers send about twenty.
const MAX_HEADERS: usize = 64;
/// How long the TLS handshake and the request head may each take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a whole connection may take. A provider may answer late: a read takes up to 180 s.
const CONNECTION_WITHIN: Duration = Duration::from_secs(240);
/// How long requests in progress may take after the shutdown began.
const DRAIN: Duration = Duration::from_secs(10);
/// The pause after a failed accept, which mostly means a lack of resources.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `shutdown`. Then it finishes those in progress, for at most 10 s. `rights`
/// decides whether the user who started a sign-in may still finish it.
pub async fn serve_pages(
    bound: BoundPages,
    broker: Broker,
    rights: Arc<dyn OwnerRights>,
    shutdown: CancellationToken,
) {
    let BoundPages { listener, settings, certificate } = bound;
    let tls = certificate.as_ref().map(|certificate| certificate.tls());
    let following = certificate.map(|certificate| tokio::spawn(certificate.follow()));
    let transport = settings.transport.clone();
    let router = router(broker, rights, Arc::new(settings));
    let places = Pool::new(PLACES);
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok((stream, peer)) => (stream, peer.ip().to_canonical()),
                Err(error) => {
                    tracing::warn!(%error, "a connection to the sign-in pages could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                    continue;
                }
            };
            if let Transport::Proxy(peers) = &transport
                && !peers.contains(&peer)
            {
                tracing::debug!(%peer, "a connection to the sign-in pages was refused: it does not come from a listed proxy");
                continue;
            }
            let lost = CancellationToken::new();
            let place = places.enter(Peer::at(peer), lost.clone());
            let arrival = Arc::new(Arrival::at(place));
            let (router, tls, shutdown) = (router.clone(), tls.clone(), shutdown.clone());
            connections.spawn(async move {
                let served = timeout(CONNECTION_WITHIN, connection(stream, tls, router, arrival, shutdown));
                tokio::select! {
                    biased;
                    _ = served => {}
                    () = lost.cancelled() => {}
                }
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown.cancelled() => {}
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("{} requests of sign-in pages were cut off by the shutdown", connections.len());
    }
    if let Some(following) = following {
        following.abort();
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<ServerTls>,
    router: Router,
    arrival: Arc<Arrival>,
    shutdown: CancellationToken,
) {
    match tls {
        None => requests(stream, router, arrival, shutdown).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(HEAD_WITHIN, tls.accept(stream)).await {
                requests(stream, router, arrival, shutdown).await;
            }
        }
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    arrival: Arc<Arrival>,
    shutdown: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(arrival.clone());
        let answered = hyper::service::Service::call(&router, request);
        async move { Ok::<_, Infallible>(answered.await.unwrap_or_else(|never| match never {})) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the sign-in pages ended early");
    }
}
