//! The public sign-in pages: `/start/…`, `/oauth/callback`, `/oauth/callback/…` and
//! `/oauth/client.json`, and nothing else. The token API is never served here.
//!
//! Invariants:
//!
//! - Each browser request is over TLS, or comes from a listed proxy. No forwarded header is read:
//!   every address in a page comes from the configuration.
//! - A connection has one request, a bounded head, no body that is read, and a bounded time. A
//!   newcomer always finds a place: the address with the most connections loses its oldest one
//!   ([`super::shares`]). A callback that its cookie admits keeps its place until it is answered.
//! - No answer is stored, framed, or named in a `Referer`. No page needs a script.
//! - No request is logged, because its address may hold a code.

mod answers;
mod arrival;
mod certificate;
mod pages;
mod serve;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::net::TcpListener;

pub(super) use certificate::Certificate;
pub use certificate::{CertificateError, CertificateFiles};
pub use serve::serve_pages;

use crate::broker::PublicUrl;

/// The settings of the sign-in pages.
#[derive(Clone, Debug)]
pub struct PublicSettings {
    /// Their address for browsers.
    pub url: PublicUrl,
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The protection of the connections.
    pub transport: Transport,
    /// The client id metadata document; `/oauth/client.json` is not found without one.
    pub client_document: Option<Arc<serde_json::Value>>,
}

/// The protection of a connection.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TLS with this certificate.
    Tls(CertificateFiles),
    /// Plain HTTP from the proxies at these addresses, which serve TLS to browsers.
    Proxy(Vec<IpAddr>),
}

/// The reason why the sign-in pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// The address could not be bound.
    #[error(
        "the sign-in pages cannot be served on {listen}: {source}. Correct api.public_listen, or end the program that has the port"
    )]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The certificate cannot be used.
    #[error("the sign-in pages cannot be served: {0}")]
    Certificate(#[from] CertificateError),
}

/// The listening socket of the pages. Requests are answered by [`serve_pages`].
#[derive(Debug)]
pub struct BoundPages {
    listener: TcpListener,
    settings: PublicSettings,
    certificate: Option<Arc<certificate::Certificate>>,
}

impl BoundPages {
    /// The address that is listened on, with its real port.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Binds the socket, and reads the certificate.
///
/// # Errors
/// If the address is taken or not of this machine, or the certificate cannot be used.
pub async fn bind_pages(settings: PublicSettings) -> Result<BoundPages, PagesError> {
    let certificate = match &settings.transport {
        Transport::Tls(files) => Some(Arc::new(certificate::Certificate::load(files.clone())?)),
        Transport::Proxy(_) => None,
    };
    let listener = TcpListener::bind(settings.listen)
        .await
        .map_err(|source| PagesError::Listen { listen: settings.listen, source })?;
    match &settings.transport {
        Transport::Tls(files) => {
            tracing::info!(listen = %settings.listen, url = %settings.url.as_url(), certificate = %files.certificate.display(), "the sign-in pages are served over TLS");
        }
        Transport::Proxy(peers) => {
            let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
            tracing::info!(
                listen = %settings.listen, url = %settings.url.as_url(),
                "the sign-in pages are served in plain HTTP to the proxies at {} alone. threadkey trusts them to serve https to browsers; it reads no forwarded header",
                peers.join(", ")
            );
        }
    }
    Ok(BoundPages { listener, settings, certificate })
}
