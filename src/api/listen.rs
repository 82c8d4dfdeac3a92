//! The token API on TCP, for operator keys alone (adr/0051).
//!
//! - Loopback is plain. Then the request's host must be a name of loopback, so that no page of a
//!   browser reaches the API under a name of its own (DNS rebinding).
//! - Any other address has TLS, or listed proxies that serve it.
//! - A request with an `Origin` comes from a page in a browser, and is refused.
//! - Connections are limited as those of the socket, and apart from them: see `shares`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    browsers::BrowserGuard,
    connection::{ACCEPT_RETRY_PAUSE, MAX_CONNECTIONS, serve_connection},
    dispatch::Dispatch,
    public::{Certificate, CertificateError, CertificateFiles},
    shares::{Peer, Shares},
    state::Api,
    via::Via,
};

/// How long the TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// The settings of the TCP listener.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// The address.
    pub listen: SocketAddr,
    /// The protection of its connections.
    pub transport: ListenTransport,
}

/// The protection of a connection to the token API.
#[derive(Clone, Debug)]
pub enum ListenTransport {
    /// Plain HTTP that does not leave this machine.
    Local,
    /// TLS with this certificate.
    Tls(CertificateFiles),
    /// Plain HTTP from the proxies at these addresses, which serve TLS.
    Proxy(Vec<IpAddr>),
}

/// The reason why the API cannot be served on TCP.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address could not be bound.
    #[error(
        "the token API cannot be served on {listen}: {source}. Correct api.listen, or end the program that has the port"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("the token API cannot be served on TCP: {0}")]
    Certificate(#[from] CertificateError),
}

/// The listening TCP socket.
#[derive(Debug)]
pub struct BoundListener {
    listener: TcpListener,
    transport: ListenTransport,
    certificate: Option<Arc<Certificate>>,
}

impl BoundListener {
    /// The address that is listened on, with its real port.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Binds the address, and reads the certificate.
///
/// # Errors
/// See [`ListenError`].
pub async fn bind_tcp(settings: ListenSettings) -> Result<BoundListener, ListenError> {
    let ListenSettings { listen, transport } = settings;
    let certificate = match &transport {
        ListenTransport::Tls(files) => Some(Arc::new(Certificate::load(files.clone())?)),
        ListenTransport::Local | ListenTransport::Proxy(_) => None,
    };
    let listener =
        TcpListener::bind(listen).await.map_err(|source| ListenError::Listen { listen, source })?;
    let over = match &transport {
        ListenTransport::Local => "plain HTTP to this machine",
        ListenTransport::Tls(_) => "TLS",
        ListenTransport::Proxy(_) => "plain HTTP to the listed proxies, which must serve https",
    };
    let listen = listener.local_addr().unwrap_or(listen);
    tracing::info!(%listen, "the token API is served over {over}, to operator keys");
    Ok(BoundListener { listener, transport, certificate })
}

/// Accepts connections until `shutdown`.
pub(super) async fn accept_tcp(
    bound: BoundListener,
    api: &Api,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let BoundListener { listener, transport, certificate } = bound;
    let tls = certificate.as_ref().map(|certificate| certificate.tls());
    let following = async {
        match certificate {
            Some(certificate) => certificate.follow().await,
            None => std::future::pending().await,
        }
    };
    let guard = BrowserGuard { is_local: matches!(transport, ListenTransport::Local) };
    let dispatch = Arc::new(Dispatch::new(Api { via: Via::Tcp, ..api.clone() }, Some(guard)));
    let (slots, shares) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Shares::new());
    let accepting = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Some((stream, peer)) = accept(&listener, &transport).await else { continue };
            let share = shares.arrive(Peer::at(peer));
            let (dispatch, tls, shutdown) = (dispatch.clone(), tls.clone(), shutdown.clone());
            connections.spawn(async move {
                match tls {
                    None => serve_connection(stream, dispatch, share, shutdown).await,
                    Some(tls) => {
                        let accepted = tokio::select! {
                            accepted = timeout(HANDSHAKE_WITHIN, tls.accept(stream)) => accepted,
                            () = share.dismissed.cancelled() => return,
                            () = shutdown.cancelled() => return,
                        };
                        if let Ok(Ok(stream)) = accepted {
                            serve_connection(stream, dispatch, share, shutdown).await;
                        }
                    }
                }
                drop(slot);
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = following => {}
        () = shutdown.cancelled() => {}
    }
}

async fn accept(listener: &TcpListener, transport: &ListenTransport) -> Option<(TcpStream, IpAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            let peer = peer.ip().to_canonical();
            let is_refused = matches!(transport, ListenTransport::Proxy(peers) if !peers.contains(&peer));
            if is_refused {
                tracing::debug!(%peer, "a connection to the token API was refused: it does not come from a listed proxy");
                return None;
            }
            // An answer is one write, and waits for nothing.
            let _ = stream.set_nodelay(true);
            Some((stream, peer))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection to the token API could not be accepted");
            tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
            None
        }
    }
}
