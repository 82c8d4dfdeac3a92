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

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{ACCEPT_RETRY_PAUSE, MAX_CONNECTIONS, serve_connection},
    problem::Problem,
    public::{Certificate, CertificateError, CertificateFiles},
    routes::router,
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
    let is_local = matches!(transport, ListenTransport::Local);
    let api = Api { via: Via::Tcp, ..api.clone() };
    let router = router(api).layer(from_fn_with_state(is_local, not_for_browsers));
    let (slots, shares) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Shares::new());
    let accepting = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let Some((stream, peer)) = accept(&listener, &transport).await else { continue };
            let share = shares.arrive(Peer::at(peer));
            let (router, tls, shutdown) = (router.clone(), tls.clone(), shutdown.clone());
            connections.spawn(async move {
                match tls {
                    None => serve_connection(stream, router, share, shutdown).await,
                    Some(tls) => {
                        let accepted = tokio::select! {
                            accepted = timeout(HANDSHAKE_WITHIN, tls.accept(stream)) => accepted,
                            () = share.dismissed.cancelled() => return,
                            () = shutdown.cancelled() => return,
                        };
                        if let Ok(Ok(stream)) = accepted {
                            serve_connection(stream, router, share, shutdown).await;
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

/// Refuses the requests of pages in a browser.
async fn not_for_browsers(State(is_local): State<bool>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return Problem::from_a_browser().into_response();
    }
    if is_local && !names_loopback(request.headers()) {
        return Problem::misdirected().into_response();
    }
    next.run(request).await
}

/// Whether the one `Host` is a name of this machine's loopback, on any port.
fn names_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_local(hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, host.parse().expect("a value"));
        }
        names_loopback(&headers)
    }

    #[test]
    fn only_one_host_that_names_loopback_is_local() {
        for host in ["127.0.0.1:7420", "127.0.0.1", "localhost:7420", "LOCALHOST", "[::1]:7420", "[::1]"] {
            assert!(is_local(&[host]), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7420",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "::1",
            "0.0.0.0",
        ] {
            assert!(!is_local(&[host]), "{host}");
        }
        assert!(!is_local(&[]) && !is_local(&["localhost", "localhost"]));
    }
}
