//! The certificate of the sign-in pages, read again whenever its files change.
//!
//! Renewal replaces two files one after the other, in place, by rename, or by a symlink. So every
//! event in their folders leads to a new look. A pair that does not fit leaves the earlier
//! certificate in use: the event of the second file completes it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use zeroize::Zeroizing;

use crate::{
    net::{IdentityError, ServerIdentity, ServerTls, TlsError},
    sys::{files, folder_watch::FolderWatch},
};

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
    /// The files hold no usable certificate.
    #[error("{path}: {problem}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The reason.
        problem: IdentityError,
    },
    /// TLS cannot be set up. This is a defect of the build.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl CertificateFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub fn read(&self) -> Result<ServerIdentity, CertificateError> {
        let bytes = |path: &Path| {
            files::read_bytes(path)
                .map_err(|source| CertificateError::Unreadable { path: path.to_owned(), source })
        };
        let key = Zeroizing::new(bytes(&self.key)?);
        ServerIdentity::from_pem(&bytes(&self.certificate)?, &key).map_err(|problem| {
            let path = if problem == IdentityError::NoKey { &self.key } else { &self.certificate };
            CertificateError::Unusable { path: path.clone(), problem }
        })
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
#[derive(Debug)]
pub(super) struct Certificate {
    files: CertificateFiles,
    tls: ServerTls,
}

impl Certificate {
    pub(super) fn load(files: CertificateFiles) -> Result<Self, CertificateError> {
        Ok(Self { tls: ServerTls::new(files.read()?)?, files })
    }

    /// Returns the acceptor, which follows the certificate.
    pub(super) fn tls(&self) -> ServerTls {
        self.tls.clone()
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
        match self.files.read() {
            Ok(new) if self.tls.replace(new.clone()) => {
                tracing::info!(certificate = %self.files.certificate.display(), "the sign-in pages have a new certificate");
            }
            Ok(_) => {}
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
