//! The certificate of a server of ours.

use x509_parser::{extensions::GeneralName, prelude::FromDer as _, prelude::X509Certificate};

use super::{Finding, Verdict};
use crate::{api::CertificateFiles, sys::clock::UnixTime};

/// A certificate that ends so soon should have been renewed.
const RENEW_BEFORE: UnixTime = 7 * 24 * 3600;

/// Checks a certificate: its files, its time, and that it has the name `host`.
pub(super) fn check(name: &str, files: &CertificateFiles, host: Option<&str>, now: UnixTime) -> Finding {
    let path = files.certificate.display();
    let fail = |text: String| Finding::new(name, Verdict::Fail, text);
    let identity = match files.read() {
        Ok(identity) => identity,
        Err(error) => return fail(error.to_string()),
    };
    let parsed = X509Certificate::from_der(identity.certificate()).ok();
    let Some((_, certificate)) = parsed else { return fail(format!("{path} holds no certificate of X.509")) };
    let validity = certificate.validity();
    if validity.not_after.timestamp() < now {
        return fail(format!("the certificate {path} expired on {}: renew it", validity.not_after));
    }
    if validity.not_before.timestamp() > now {
        return fail(format!(
            "the certificate {path} is not valid before {}: check the clock",
            validity.not_before
        ));
    }
    if let Some(host) = host.filter(|host| !covers(&certificate, host)) {
        return fail(format!("the certificate {path} is not for {host}: browsers refuse it"));
    }
    if validity.not_after.timestamp() < now.saturating_add(RENEW_BEFORE) {
        let text =
            format!("the certificate {path} expires on {}: check that its renewal works", validity.not_after);
        return Finding::new(name, Verdict::Warn, text);
    }
    Finding::new(name, Verdict::Ok, format!("the certificate {path} is valid until {}", validity.not_after))
}

/// Whether the certificate has this name (RFC 6125 §6.4), as browsers compare it.
fn covers(certificate: &X509Certificate<'_>, host: &str) -> bool {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().ok();
    names.iter().any(|name| match (name, address) {
        (GeneralName::DNSName(name), None) => match name.strip_prefix("*.") {
            Some(rest) => host.split_once('.').is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(rest)),
            None => name.eq_ignore_ascii_case(host),
        },
        (GeneralName::IPAddress(bytes), Some(std::net::IpAddr::V4(address))) => *bytes == address.octets(),
        (GeneralName::IPAddress(bytes), Some(std::net::IpAddr::V6(address))) => *bytes == address.octets(),
        _ => false,
    })
}
