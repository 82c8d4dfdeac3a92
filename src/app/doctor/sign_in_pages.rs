//! The public sign-in pages: the certificate, the address, and the redirect URI at the providers.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _, prelude::X509Certificate};

use super::finding::{Finding, Verdict};
use crate::{
    api::{CertificateFiles, PublicSettings, Transport},
    oauth::Providers,
    sys::clock::{Clock, UnixTime},
};

const NAME: &str = "sign-in pages";
/// How long a connection to the public address may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A certificate that ends so soon should have been renewed.
const RENEW_BEFORE: UnixTime = 7 * 24 * 3600;

pub(super) async fn check(public: &PublicSettings, providers: &Providers, clock: &Clock) -> Vec<Finding> {
    let mut findings = vec![match &public.transport {
        Transport::Tls(files) => certificate(files, public, clock.now()),
        Transport::Proxy(peers) => {
            let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
            let text = format!(
                "plain HTTP on {} from {} alone; that proxy must serve https",
                public.listen,
                peers.join(", ")
            );
            Finding::new(NAME, Verdict::Ok, text)
        }
    }];
    findings.push(reach(public).await);
    let register: Vec<_> = providers
        .usable()
        // The client that threadkey makes itself has it.
        .filter(|provider| provider.may_return_to_us() && !provider.registers_client())
        .map(|provider| provider.id().to_string())
        .collect();
    if !register.is_empty() {
        let text = format!(
            "the clients of {} must have {} among their redirect URIs at the provider, which cannot be checked from here. A client that cannot have it needs paste_only = true",
            register.join(", "),
            public.url.callback()
        );
        findings.push(Finding::new("redirect uri", Verdict::Ok, text));
    }
    findings
}

fn certificate(files: &CertificateFiles, public: &PublicSettings, now: UnixTime) -> Finding {
    let path = files.certificate.display();
    let fail = |text: String| Finding::new(NAME, Verdict::Fail, text);
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
    let host = public.url.as_url().host_str().unwrap_or_default();
    if !covers(&certificate, host) {
        return fail(format!("the certificate {path} is not for {host}: browsers refuse it"));
    }
    if validity.not_after.timestamp() < now.saturating_add(RENEW_BEFORE) {
        let text =
            format!("the certificate {path} expires on {}: check that its renewal works", validity.not_after);
        return Finding::new(NAME, Verdict::Warn, text);
    }
    Finding::new(NAME, Verdict::Ok, format!("the certificate {path} is valid until {}", validity.not_after))
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

/// Connects to the public address. A firewall may let browsers in and this machine not, so a failure
/// is a warning.
async fn reach(public: &PublicSettings) -> Finding {
    let url = public.url.as_url();
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let (verdict, text) = match timeout(CONNECT_WITHIN, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => (Verdict::Ok, format!("{url} accepts connections")),
        Ok(Err(error)) => (
            Verdict::Warn,
            format!(
                "{url} cannot be reached from here: {error}. Check its name, the firewall, and that threadkey runs"
            ),
        ),
        Err(_) => (
            Verdict::Warn,
            format!(
                "{url} did not answer within {} s. Check its name and the firewall",
                CONNECT_WITHIN.as_secs()
            ),
        ),
    };
    Finding::new("public address", verdict, text)
}
