//! The operator keys, and the TCP listener that takes them.

use std::{io, net::SocketAddr, path::Path};

use tokio::net::TcpListener;

use super::{Finding, Verdict, certificate, sockets::accepts_connections};
use crate::{
    api::{ApiSettings, KeySource, ListenTransport, OperatorKeyError, OperatorKeySettings, OperatorKeys},
    sys::clock::Clock,
};

const LISTENER: &str = "operator listener";

/// Checks all keys, and the listener if there is one.
pub(super) async fn check(api: &ApiSettings, clock: &Clock) -> Vec<Finding> {
    let mut findings = check_keys(&api.operator_keys).await;
    let Some(listen) = &api.listen else { return findings };
    findings.push(check_port(LISTENER, "api.listen", listen.listen, &api.socket).await);
    if let ListenTransport::Tls(files) = &listen.transport {
        findings.push(certificate::check(LISTENER, files, None, clock.now()));
    }
    findings
}

/// Reads all keys. Commands are run.
pub(super) async fn check_keys(keys: &[OperatorKeySettings]) -> Vec<Finding> {
    const NAME: &str = "operator keys";
    let (_, problems) = OperatorKeys::read(keys.to_vec()).await;
    if problems.is_empty() && !keys.is_empty() {
        let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        return vec![Finding::new(NAME, Verdict::Ok, names.join(", "))];
    }
    // A terminal may not have the variables of the service.
    let is_missing =
        |name: &str| keys.iter().any(|key| key.name == name && matches!(key.source, KeySource::Missing(_)));
    let finding = |problem: &OperatorKeyError| {
        let verdict = if is_missing(&problem.name) { Verdict::Warn } else { Verdict::Fail };
        Finding::new(NAME, verdict, problem.to_string())
    };
    problems.iter().map(finding).collect()
}

/// Checks that an address can be bound. A threadkey that runs has it already.
pub(super) async fn check_port(name: &str, key: &str, address: SocketAddr, socket: &Path) -> Finding {
    match TcpListener::bind(address).await {
        Ok(_) => Finding::new(name, Verdict::Ok, format!("{address} can be listened on")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && accepts_connections(socket).await => {
            Finding::new(name, Verdict::Ok, format!("{address} is taken, as by the running threadkey"))
        }
        Err(error) => {
            let text = format!(
                "{address} cannot be listened on: {error}. Correct {key}, or end the program that has the port"
            );
            Finding::new(name, Verdict::Fail, text)
        }
    }
}
