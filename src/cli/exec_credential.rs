//! The answer of a credential plugin of Kubernetes: an `ExecCredential` of `client.authentication.k8s.io`.
//!
//! The client demands the version that its configuration names, and passes it in `KUBERNETES_EXEC_INFO`.
//! It keeps the token until `expirationTimestamp` or a 401, and runs the plugin again then.

use std::env;

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Exit, Failure, json_line};
use crate::broker::Lease;

const INFO_VARIABLE: &str = "KUBERNETES_EXEC_INFO";

/// The versions whose answers have these members, the newest one first.
const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    api_version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential<'a> {
    api_version: &'a str,
    kind: &'static str,
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_timestamp: Option<String>,
    token: &'a str,
}

/// Formats a lease for the client that started this process.
pub(super) fn format(lease: &Lease) -> Result<String, Failure> {
    let info = env::var(INFO_VARIABLE).ok().filter(|info| !info.is_empty());
    of_version(lease, version(info.as_deref())?)
}

/// Returns the version that the client demands, or the newest one.
fn version(info: Option<&str>) -> Result<&'static str, Failure> {
    let Some(info) = info else { return Ok(VERSIONS[0]) };
    let refused = |problem: &str| Failure::new(Exit::Usage, format!("{INFO_VARIABLE} {problem}"));
    let info: Info = serde_json::from_str(info)
        .map_err(|_| refused("is not the JSON that a Kubernetes client sets: remove the variable"))?;
    VERSIONS.into_iter().find(|version| *version == info.api_version).ok_or_else(|| {
        let known = VERSIONS.join(" and ");
        refused(&format!(
            "asks for an unknown version; known are {known}: change apiVersion in the kubeconfig"
        ))
    })
}

fn of_version(lease: &Lease, api_version: &str) -> Result<String, Failure> {
    let expiry =
        OffsetDateTime::from_unix_timestamp(lease.expires_at).ok().filter(|_| lease.has_known_expiry());
    let expiration_timestamp = expiry.and_then(|expiry| expiry.format(&Rfc3339).ok());
    let status = Status { expiration_timestamp, token: lease.access_token.expose() };
    json_line(&ExecCredential { api_version, kind: "ExecCredential", status })
}

#[cfg(test)]
mod tests;
