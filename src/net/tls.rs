//! The TLS handshake, and the sentences about a refused certificate.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, Error, WantsVerifier, crypto::ring, pki_types::ServerName,
};
use tokio_rustls::TlsConnector;

use super::Stream;

/// Returns the settings without the trusted certificates.
pub(super) fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    let provider = Arc::new(ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

/// Completes the handshake with a host. The error is a sentence.
pub(super) async fn handshake(
    stream: Stream,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<Stream, String> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host} cannot have a certificate: it is not a valid host name"))?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Stream::new(stream)),
        Err(error) => Err(sentence(host, &error)),
    }
}

/// Describes a failed handshake: the host, the fault, and its remedy.
fn sentence(host: &str, error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return format!(
            "{host} broke off the TLS handshake ({error}). Check that the port serves TLS, and that no firewall intervenes"
        );
    };
    match tls {
        Error::InvalidCertificate(problem) => certificate(host, problem),
        Error::InvalidMessage(_) => format!(
            "{host} does not answer in TLS. Check the port in the configuration, and that no firewall intervenes"
        ),
        other => format!("TLS with {host} failed: {other}. Its operator can correct the server's settings"),
    }
}

fn certificate(host: &str, problem: &CertificateError) -> String {
    match problem {
        // A CA that was renewed has the name of the old one, whose key does not match.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {host} has an unknown issuer. If it comes from a company's own CA or a proxy that inspects TLS, name that CA's certificate with ca_file or SSL_CERT_FILE. Otherwise another server may pose as {host}"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate of {host} has expired. Its operator must renew it; if other programs accept it, correct the clock of this machine"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
            "the certificate of {host} is not valid yet. Correct the clock of this machine, or ask the operator of {host}"
        ),
        CertificateError::NotValidForName => wrong_name(host, ""),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().take(4).map(|name| plain_name(name)).collect();
            wrong_name(
                host,
                &if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) },
            )
        }
        CertificateError::Revoked => {
            format!("the certificate of {host} is revoked. Its operator must replace it")
        }
        other => format!(
            "the certificate of {host} is not accepted: {other}. Its operator must replace it; check ca_file if it names another CA"
        ),
    }
}

fn wrong_name(host: &str, names: &str) -> String {
    format!(
        "the certificate of {host} is for another name{names}. Check the host in the configuration, or ask its operator for a certificate with this name"
    )
}

/// Returns the name in a text such as `DnsName("other.example")`.
fn plain_name(shown: &str) -> &str {
    shown.split('"').nth(1).unwrap_or(shown)
}
