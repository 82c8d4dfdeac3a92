//! The public sign-in pages: the certificate, the address, and the redirect URI at the providers.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};

use super::{
    certificate,
    finding::{Finding, Verdict},
};
use crate::{
    api::{PublicSettings, Transport},
    oauth::Providers,
    sys::clock::Clock,
};

const NAME: &str = "sign-in pages";
/// How long a connection to the public address may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn check(public: &PublicSettings, providers: &Providers, clock: &Clock) -> Vec<Finding> {
    let mut findings = vec![match &public.transport {
        Transport::Tls(files) => certificate::check(NAME, files, public.url.as_url().host_str(), clock.now()),
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
