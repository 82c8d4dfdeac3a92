//! The certificate of the sign-in pages, read again whenever its files change.
//!
//! Renewal replaces two files one after the other, in place, by rename, or by a symlink. So every
//! event in their folders leads to a new look. A pair that does not fit leaves the earlier
//! certificate in use: the event of the second file completes it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::sys::{files, folder_watch::FolderWatch};

/// The pause before a folder that cannot be watched is tried again.
const WATCH_AGAIN: Duration = Duration::from_secs(60);

/// The files of a certificate and its key, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, and the intermediate ones after it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The reason why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}. Correct the path, or let threadkey's user read the file", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file has no certificate or key.
    #[error("{path} has no {what} in PEM form", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// Certificate and key do not fit, or have a form that is not supported.
    #[error(
        "the certificate and the key cannot be used together: {0}. Name the two files of one certificate"
    )]
    Unusable(rustls::Error),
    /// TLS cannot be set up. This is a defect of the build.
    #[error(transparent)]
    Tls(rustls::Error),
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn read(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        self.certified().map(|certified| certified.cert.clone())
    }

    fn certified(&self) -> Result<CertifiedKey, CertificateError> {
        let bytes = |path: &Path| {
            files::read_bytes(path)
                .map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source })
        };
        let empty = |path: &Path, what| CertificateError::Empty { path: path.to_owned(), what };
        let chain = CertificateDer::pem_slice_iter(&bytes(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| empty(&self.certificate, "certificate"))?;
        if chain.is_empty() {
            return Err(empty(&self.certificate, "certificate"));
        }
        let key = zeroize::Zeroizing::new(bytes(&self.key)?);
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| empty(&self.key, "private key"))?;
        CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(CertificateError::Unusable)
    }

    fn folders(&self) -> Vec<PathBuf> {
        let folder = |file: &Path| match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        let mut folders = vec![folder(&self.certificate), folder(&self.key)];
        folders.dedup();
        folders
    }
}

/// The certificate in use.
pub(super) struct Certificate {
    files: CertificateFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    pub(super) fn load(files: CertificateFiles) -> Result<Self, CertificateError> {
        let current = RwLock::new(Arc::new(files.certified()?));
        Ok(Self { files, current })
    }

    /// Returns the TLS settings, which follow the certificate.
    pub(super) fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, CertificateError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(CertificateError::Tls)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Reads the files again after each change. Does not return.
    pub(super) async fn follow(self: Arc<Self>) {
        let folders = self.files.folders();
        loop {
            let watches: Result<Vec<_>, _> =
                folders.iter().map(|folder| FolderWatch::of_folder(folder)).collect();
            match watches {
                Ok(mut watches) => {
                    // A change from before the watch has no event.
                    self.reload();
                    while changed(&mut watches).await {
                        self.reload();
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        %error, certificate = %self.files.certificate.display(),
                        "the folder of the certificate cannot be watched; a new certificate is found within a minute"
                    );
                    self.reload();
                }
            }
            tokio::time::sleep(WATCH_AGAIN).await;
        }
    }

    fn reload(&self) {
        match self.files.certified() {
            Ok(new) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                if current.cert != new.cert {
                    tracing::info!(certificate = %self.files.certificate.display(), "the sign-in pages have a new certificate");
                }
                *current = Arc::new(new);
            }
            Err(error) => {
                tracing::warn!(%error, "the changed certificate is not used; the earlier one stays in use");
            }
        }
    }
}

/// Waits for a change in one of the folders. Returns `false` if that is no longer possible.
async fn changed(watches: &mut [FolderWatch]) -> bool {
    match watches {
        [one] => one.changed().await.is_ok(),
        [one, other, ..] => tokio::select! {
            changed = one.changed() => changed.is_ok(),
            changed = other.changed() => changed.is_ok(),
        },
        [] => false,
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}
