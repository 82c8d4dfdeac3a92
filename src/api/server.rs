//! The Unix socket and the TCP listener: their connections are limited in number, size and time. Only
//! the bot's own system user may connect to the socket.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ApiSettings, ServeError,
    connection::{ACCEPT_RETRY_PAUSE, MAX_CONNECTIONS, serve_connection},
    dispatch::Dispatch,
    listen::{BoundListener, accept_tcp},
    metrics::Metrics,
    operators::OperatorKeys,
    shares::{Peer, Shares},
    state::Api,
    via::Via,
};
use crate::{
    agent::Capabilities,
    broker::{Broker, WorkerTokens},
    sys::{
        socket::{PrivateSocket, bind_private},
        user,
    },
};

/// How long requests in progress may take after the shutdown began. It is a little longer than a
/// caller waits for a refresh.
const DRAIN: Duration = Duration::from_secs(35);

/// The listening socket. Requests are answered by [`serve`].
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    socket: PrivateSocket,
    /// Whether the bot is connected to Discord; `None` without a bot.
    bot: Option<watch::Receiver<bool>>,
    /// Whether workers get tokens by the injecting proxy alone.
    inject_only: bool,
    operators: OperatorKeys,
    tcp: Option<BoundListener>,
    /// Ends the TCP listener before the socket, if there is one.
    end_of_tcp: Option<CancellationToken>,
}

impl Bound {
    /// The same socket, with the bot's connection to Discord in the answer of `/readyz`.
    #[must_use]
    pub fn with_bot(self, is_connected: watch::Receiver<bool>) -> Self {
        Self { bot: Some(is_connected), ..self }
    }

    /// The same socket, which takes these operator keys too.
    #[must_use]
    pub fn with_operators(self, operators: OperatorKeys) -> Self {
        Self { operators, ..self }
    }

    /// The same API, on TCP too.
    #[must_use]
    pub fn with_tcp(self, listener: Option<BoundListener>) -> Self {
        Self { tcp: listener, ..self }
    }

    /// The same API, which accepts nothing more on TCP once `end` fires. Workers may still need the
    /// socket then.
    #[must_use]
    pub fn with_end_of_tcp(self, end: CancellationToken) -> Self {
        Self { end_of_tcp: Some(end), ..self }
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
    Ok(Bound {
        listener,
        socket,
        bot: None,
        inject_only: settings.inject_only,
        operators: OperatorKeys::default(),
        tcp: None,
        end_of_tcp: None,
    })
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
    let Bound { listener, socket, bot, inject_only, operators, tcp, end_of_tcp } = bound;
    let end_of_tcp = end_of_tcp.unwrap_or_else(|| shutdown.clone());
    let clock = broker.clock().clone();
    let following = tokio::spawn(operators.clone().follow());
    let metrics = Arc::new(Metrics::new(&broker));
    let waits = tokens.clone();
    let api = Api { broker, capabilities, tokens, operators, bot, inject_only, metrics, via: Via::Socket };
    let connections = TaskTracker::new();
    let accepting = async {
        match tcp {
            None => accept_unix(listener, &api, &connections, &shutdown).await,
            Some(tcp) => {
                tokio::join!(
                    accept_unix(listener, &api, &connections, &shutdown),
                    accept_tcp(tcp, &api, &connections, &end_of_tcp)
                )
                .0
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = shutdown.cancelled() => {}
    }
    following.abort();
    waits.end_owner_waits();
    connections.close();
    if clock.within(DRAIN, connections.wait()).await.is_none() {
        tracing::warn!("{} token requests were cut off by the shutdown", connections.len());
    }
    drop(socket);
}

async fn accept_unix(
    listener: UnixListener,
    api: &Api,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let dispatch = Arc::new(Dispatch::new(api.clone(), None));
    let (slots, shares) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Shares::new());
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        let Some((stream, peer)) = check_peer(accepted).await else { continue };
        let share = shares.arrive(Peer::Process(peer));
        let served = serve_connection(stream, dispatch.clone(), share, shutdown.clone());
        connections.spawn(async move {
            served.await;
            drop(slot);
        });
    }
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
