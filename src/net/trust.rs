//! The trusted certificate authorities: the system's, and those of a configured file in addition.
//!
//! The system's store is that of the operating system. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace
//! it, as for other programs. The program contains no list of its own: such a list is as old as
//! the program, and ignores the authorities that an administrator adds or removes.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// The trusted certificate authorities. Clones share their certificates.
#[derive(Clone, Default)]
pub struct Trust(Arc<Authorities>);

#[derive(Default)]
struct Authorities {
    /// Besides the system's.
    additional: Vec<CertificateDer<'static>>,
    /// Made at the first connection that needs it.
    config: OnceLock<Result<Arc<ClientConfig>, NoAuthorities>>,
}

/// A file does not hold certificates of authorities. The text continues the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaFileError {
    /// It has no certificate.
    #[error(
        "contains no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----. `openssl x509 -inform der` converts a binary one"
    )]
    None,
    /// A certificate is damaged.
    #[error("is damaged: its certificate number {number} cannot be read. Copy the file again")]
    Damaged {
        /// From 1.
        number: usize,
    },
}

/// No certificate is trusted at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAuthorities {
    /// The system has none.
    #[error(
        "this system has no certificate store{}. Install the package ca-certificates, or name a file with SSL_CERT_FILE or ca_file",
        because(problem)
    )]
    System {
        /// The errors of reading it, if there were any.
        problem: String,
    },
    /// The variables name none.
    #[error(
        "{variable} names no usable certificate{}. Correct the variable, or remove it to use the system's store",
        because(problem)
    )]
    Variable {
        /// `SSL_CERT_FILE` or `SSL_CERT_DIR`.
        variable: &'static str,
        /// The errors of reading it, if there were any.
        problem: String,
    },
}

fn because(problem: &str) -> String {
    if problem.is_empty() { String::new() } else { format!(" ({problem})") }
}

/// The system's store, or its replacement by variables.
struct SystemStore {
    certificates: Vec<CertificateDer<'static>>,
    problem: String,
}

/// Reads the system's store, once in the life of the process.
fn system_store() -> &'static SystemStore {
    static STORE: OnceLock<SystemStore> = OnceLock::new();
    STORE.get_or_init(|| {
        let loaded = rustls_native_certs::load_native_certs();
        let problem = loaded.errors.first().map(ToString::to_string).unwrap_or_default();
        SystemStore { certificates: loaded.certs, problem }
    })
}

impl Trust {
    /// Trusts the system's authorities, and those of a PEM text.
    ///
    /// # Errors
    /// When the text has no certificate, or a damaged one.
    pub fn with_pem(pem: &[u8]) -> Result<Self, CaFileError> {
        let mut additional = Vec::new();
        let mut check = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let damaged = CaFileError::Damaged { number: additional.len() + 1 };
            let certificate = certificate.map_err(|_| damaged.clone())?;
            check.add(certificate.clone()).map_err(|_| damaged)?;
            additional.push(certificate);
        }
        if additional.is_empty() {
            return Err(CaFileError::None);
        }
        Ok(Self(Arc::new(Authorities { additional, config: OnceLock::new() })))
    }

    /// Whether a file adds authorities to those of the system.
    pub fn has_file(&self) -> bool {
        !self.0.additional.is_empty()
    }

    /// Returns the number of trusted authorities.
    ///
    /// # Errors
    /// When there are none.
    pub fn count(&self) -> Result<usize, NoAuthorities> {
        let roots = self.roots();
        if roots.is_empty() { Err(no_authorities()) } else { Ok(roots.len()) }
    }

    /// Returns the TLS settings with these authorities.
    pub(super) fn config(
        &self,
        builder: &ConfigBuilder<ClientConfig, WantsVerifier>,
    ) -> Result<Arc<ClientConfig>, NoAuthorities> {
        let build = || {
            let roots = self.roots();
            if roots.is_empty() {
                return Err(no_authorities());
            }
            Ok(Arc::new(builder.clone().with_root_certificates(roots).with_no_client_auth()))
        };
        self.0.config.get_or_init(build).clone()
    }

    /// Returns the TLS settings. Without an authority they refuse every certificate.
    pub(super) fn config_or_empty(
        &self,
        builder: &ConfigBuilder<ClientConfig, WantsVerifier>,
    ) -> Arc<ClientConfig> {
        self.config(builder).unwrap_or_else(|_| {
            let nothing = RootCertStore::empty();
            Arc::new(builder.clone().with_root_certificates(nothing).with_no_client_auth())
        })
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let all = self.0.additional.iter().chain(&system_store().certificates);
        // A certificate of the system that cannot be used must not disable the others.
        roots.add_parsable_certificates(all.cloned());
        roots
    }
}

/// Returns the reason why there are none.
fn no_authorities() -> NoAuthorities {
    let problem = system_store().problem.clone();
    let variable =
        ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| std::env::var_os(name).is_some());
    match variable {
        Some(variable) => NoAuthorities::Variable { variable, problem },
        None => NoAuthorities::System { problem },
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("additional", &self.0.additional.len()).finish_non_exhaustive()
    }
}
