//! TLS of our own server: a certificate and its key, which can be replaced while connections arrive.

use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A certificate with its chain, and its key.
#[derive(Clone)]
pub struct ServerIdentity(Arc<CertifiedKey>);

/// The reason why two texts are no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The first text has no certificate.
    #[error("it has no certificate in PEM form")]
    NoCertificate,
    /// The second text has no key.
    #[error("it has no private key in PEM form")]
    NoKey,
    /// They do not fit, or have a form that is not supported.
    #[error(
        "the certificate and the key cannot be used together: {0}. Name the two files of one certificate"
    )]
    Unusable(String),
}

/// Accepts TLS connections with the identity of the moment. Clones share it.
#[derive(Clone)]
pub struct ServerTls {
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

struct Current(RwLock<Arc<CertifiedKey>>);

impl ServerIdentity {
    /// Reads a certificate with its chain, and its key.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(IdentityError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::NoKey)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider());
        certified.map(|one| Self(Arc::new(one))).map_err(|error| IdentityError::Unusable(error.to_string()))
    }

    /// The certificate itself, in DER.
    pub fn certificate(&self) -> &[u8] {
        self.0.cert.first().map_or(&[], |first| first.as_ref())
    }
}

impl ServerTls {
    /// Serves with this identity.
    ///
    /// # Errors
    /// When TLS cannot be set up, a defect of the build.
    pub fn new(identity: ServerIdentity) -> Result<Self, super::TlsError> {
        let current = Arc::new(Current(RwLock::new(identity.0)));
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(super::TlsError)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { current, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Serves new connections with this identity. Returns whether it is another certificate.
    pub fn replace(&self, identity: ServerIdentity) -> bool {
        let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = current.cert != identity.0.cert;
        *current = identity.0;
        is_other
    }

    /// Completes the handshake of a connection.
    ///
    /// # Errors
    /// The peer's, or the system's.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        self.acceptor.accept(stream).await
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current(…)")
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(…)")
    }
}
