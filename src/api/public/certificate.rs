//! The certificate of the sign-in pages or of the token API, read again whenever its files change.
//!
//! Renewal replaces two files one after the other. A pair that does not fit leaves the earlier
//! certificate in use: the event of the second file completes it.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use zeroize::Zeroizing;

use crate::{
    api::operators::{folder_of, follow_folders},
    net::{IdentityError, ServerIdentity, ServerTls, TlsError},
    sys::files,
};

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
        vec![folder_of(&self.certificate), folder_of(&self.key)]
    }
}

/// The certificate in use.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: CertificateFiles,
    tls: ServerTls,
    /// The last logged problem of the files. They are read often, and it is logged once.
    problem: Mutex<Option<String>>,
}

impl Certificate {
    pub(crate) fn load(files: CertificateFiles) -> Result<Self, CertificateError> {
        Ok(Self { tls: ServerTls::new(files.read()?)?, files, problem: Mutex::new(None) })
    }

    /// Returns the acceptor, which follows the certificate.
    pub(crate) fn tls(&self) -> ServerTls {
        self.tls.clone()
    }

    /// Reads the files again after each change and every ten seconds. Does not return.
    pub(crate) async fn follow(self: Arc<Self>) {
        follow_folders(self.files.folders(), "the certificate", || self.reload()).await;
    }

    fn reload(&self) {
        let read = self.files.read();
        let problem = read.as_ref().err().map(ToString::to_string);
        let mut logged = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *logged != problem;
        *logged = problem;
        match read {
            Ok(new) if self.tls.replace(new.clone()) => {
                tracing::info!(certificate = %self.files.certificate.display(), "a new certificate is in use");
            }
            Ok(_) => {}
            Err(error) if is_new => {
                tracing::warn!(%error, "the changed certificate is not used; the earlier one stays in use");
            }
            Err(_) => {}
        }
    }
}
