//! Connections: bounded in number, size and time, and only from the own user.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{ApiSettings, ServeError, routes::router};
use crate::{
    agent::Capabilities,
    broker::Broker,
    sys::socket::{PrivateSocket, bind_private, own_uid},
};

/// How many connections are served at once; the next ones wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 512;
/// The longest request head, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// The most headers that a request may have.
const MAX_HEADERS: usize = 64;
/// How long a request head may take, an idle connection's next one too.
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
    let connections = TaskTracker::new();
    let accepting = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Some(stream) = accepted(listener.accept().await.map(|(stream, _)| stream)).await else {
                continue;
            };
            let served = connection(stream, router.clone(), shutdown.clone());
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

/// The connection, if it is from the own user. The socket's mode says so already; this holds where a mode does not.
async fn accepted(result: io::Result<UnixStream>) -> Option<UnixStream> {
    let stream = match result {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "a connection to the token API could not be taken");
            tokio::time::sleep(BREATHE).await;
            return None;
        }
    };
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == own_uid() => Some(stream),
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

async fn connection(stream: UnixStream, router: Router, shutdown: CancellationToken) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the token API ended early");
    }
}
