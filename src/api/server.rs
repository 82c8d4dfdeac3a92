//! Connections: bounded in number, size and time, and only from the own user.
//!
//! A connection has one request and one answer, which fits into the socket's buffer: so nobody can hold it by not reading.

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
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ApiSettings, ServeError,
    routes::router,
    shares::{ARRIVALS, REQUESTS, Shares, Visit},
    stream::ProblemStream,
};
use crate::{
    agent::Capabilities,
    broker::Broker,
    sys::socket::{PrivateSocket, bind_private, own_uid},
};

/// How many connections are served at once: those with a place, and some that have just lost theirs and are being closed. The next
/// ones wait in the socket's backlog.
const MAX_CONNECTIONS: usize = ARRIVALS + REQUESTS + 64;
/// The longest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The most headers that a request may have.
const MAX_HEADERS: usize = 64;
/// How long a request head may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long requests under way get when the server ends: a little longer than a caller waits for a refresh.
const DRAIN: Duration = Duration::from_secs(35);
/// The pause after an accept that failed for want of resources.
const BREATHE: Duration = Duration::from_millis(100);

/// The socket, listening; nothing is answered before [`serve`].
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    socket: PrivateSocket,
}

/// Takes the socket.
///
/// # Errors
/// When another server has it, or it cannot be made.
pub fn bind(settings: &ApiSettings) -> Result<Bound, ServeError> {
    let (listener, socket) = bind_private(&settings.socket)?;
    let listener = UnixListener::from_std(listener)
        .map_err(|source| ServeError::Listen { path: settings.socket.clone(), source })?;
    Ok(Bound { listener, socket })
}

/// Answers until `shutdown`, then ends the requests under way, for at most 35 s, and removes the socket.
pub async fn serve(
    bound: Bound,
    broker: Broker,
    capabilities: Arc<Capabilities>,
    shutdown: CancellationToken,
) {
    let Bound { listener, socket } = bound;
    let router = router(broker, capabilities);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let shares = Shares::new();
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let accepted = accepted(listener.accept().await.map(|(stream, _)| stream)).await;
            let Some((stream, peer)) = accepted else { continue };
            let served = connection(stream, router.clone(), shares.arrive(peer), shutdown.clone());
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
        tracing::warn!("{} token requests were still under way at the end", connections.len());
    }
    drop(socket);
}

/// The connection and the process that made it, if it is from the own user. The socket's mode says so already; this holds where a mode does not.
async fn accepted(result: io::Result<UnixStream>) -> Option<(UnixStream, Option<i32>)> {
    let stream = match result {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a connection to the token API could not be taken");
            tokio::time::sleep(BREATHE).await;
            return None;
        }
    };
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own_uid() => Some((stream, peer.pid())),
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "another user connected to the token API and was refused");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "a connection to the token API does not say whose it is and was refused");
            None
        }
    }
}

async fn connection(stream: UnixStream, router: Router, visit: Visit, shutdown: CancellationToken) {
    let (visit, reached) = (Arc::new(visit), Arc::new(AtomicBool::new(false)));
    let stream = ProblemStream::new(stream, reached.clone());
    let routes = Routes { router: TowerToHyperService::new(router), visit: visit.clone(), reached };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), routes);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        // What has been answered is written before anybody is dismissed.
        biased;
        ended = served.as_mut() => ended,
        () = visit.dismissed.cancelled() => return,
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
    visit: Arc<Visit>,
    reached: Arc<AtomicBool>,
}

impl Service<Request<Incoming>> for Routes {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.reached.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(self.visit.clone());
        self.router.call(request)
    }
}
