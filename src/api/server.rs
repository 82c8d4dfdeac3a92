//! The connections: they are limited in number, size and time, and only the bot's own system user
//! may connect.
//!
//! A connection has one request and one answer. The answer fits into the socket's buffer, so a peer
//! that does not read cannot hold a connection.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ApiSettings, ServeError,
    routes::router,
    shares::{ARRIVALS, ConnectionShare, REQUESTS, Shares},
    stream::ProblemStream,
};
use crate::{
    agent::Capabilities,
    broker::{Broker, WorkerTokens},
    sys::{
        socket::{PrivateSocket, bind_private},
        user,
    },
};

/// How many connections are served at once: one for each place, and some that have just lost theirs
/// and are being closed. Further ones wait in the socket's backlog.
const MAX_CONNECTIONS: usize = ARRIVALS + REQUESTS + 64;
/// The longest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The most headers that a request may have.
const MAX_HEADERS: usize = 64;
/// How long a request head may take to arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long requests in progress may take after the shutdown began. It is a little longer than a
/// caller waits for a refresh.
const DRAIN: Duration = Duration::from_secs(35);
/// The pause after a failed accept, which mostly means a lack of resources.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket. Requests are answered by [`serve`].
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    socket: PrivateSocket,
    /// Whether the bot is connected to Discord; `None` without a bot.
    bot: Option<watch::Receiver<bool>>,
    /// Whether workers get tokens by the injecting proxy alone.
    inject_only: bool,
}

impl Bound {
    /// The same socket, with the bot's connection to Discord in the answer of `/readyz`.
    #[must_use]
    pub fn with_bot(self, is_connected: watch::Receiver<bool>) -> Self {
        Self { bot: Some(is_connected), ..self }
    }
}

/// Binds the socket.
///
/// # Errors
/// If another server has it, or it cannot be created.
pub fn bind(settings: &ApiSettings) -> Result<Bound, ServeError> {
    let (listener, socket) = bind_private(&settings.socket)?;
    let listener = UnixListener::from_std(listener)
        .map_err(|source| ServeError::Listen { path: settings.socket.clone(), source })?;
    Ok(Bound { listener, socket, bot: None, inject_only: settings.inject_only })
}

/// Answers requests until `shutdown`. Then it finishes the requests in progress, for at most 35 s,
/// and removes the socket.
pub async fn serve(
    bound: Bound,
    broker: Broker,
    capabilities: Arc<Capabilities>,
    tokens: WorkerTokens,
    shutdown: CancellationToken,
) {
    let Bound { listener, socket, bot, inject_only } = bound;
    let router = router(broker, capabilities, tokens, bot, inject_only);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let shares = Shares::new();
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            let Some((stream, peer)) = check_peer(accepted).await else { continue };
            let served = serve_connection(stream, router.clone(), shares.arrive(peer), shutdown.clone());
            connections.spawn(async move {
                served.await;
                drop(slot);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown.cancelled() => {}
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("{} token requests were cut off by the shutdown", connections.len());
    }
    drop(socket);
}

/// Returns the connection and its process if it comes from the bot's own system user. The socket's
/// mode ensures that as well, but some file systems ignore modes.
async fn check_peer(accepted: io::Result<UnixStream>) -> Option<(UnixStream, Option<i32>)> {
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a connection to the token API could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
            return None;
        }
    };
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == user::effective() => Some((stream, peer.pid())),
        Ok(peer) => {
            tracing::warn!(
                uid = peer.uid(),
                "a connection to the token API was refused: it comes from another user"
            );
            None
        }
        Err(error) => {
            tracing::warn!(%error, "a connection to the token API was refused: its user is unknown");
            None
        }
    }
}

async fn serve_connection(
    stream: UnixStream,
    router: Router,
    share: ConnectionShare,
    shutdown: CancellationToken,
) {
    let (share, reached) = (Arc::new(share), Arc::new(AtomicBool::new(false)));
    let stream = ProblemStream::new(stream, reached.clone());
    let routes = Routes { router: TowerToHyperService::new(router), share: share.clone(), reached };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
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
    router: TowerToHyperService<Router>,
    share: Arc<ConnectionShare>,
    reached: Arc<AtomicBool>,
}

impl Service<Request<Incoming>> for Routes {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.reached.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(self.share.clone());
        self.router.call(request)
    }
}
