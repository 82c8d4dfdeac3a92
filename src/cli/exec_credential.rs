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
mod tests {
    use super::*;
    use crate::{cli::lease::tests::lease, session::UNKNOWN_EXPIRY};

    #[test]
    fn the_answer_has_the_members_that_a_kubernetes_client_reads() {
        assert_eq!(
            of_version(&lease("a.b-c"), VERSIONS[0]).expect("it is JSON"),
            "{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
             \"status\":{\"expirationTimestamp\":\"2026-11-22T15:44:32Z\",\"token\":\"a.b-c\"}}\n"
        );
        let unknown = Lease { expires_at: UNKNOWN_EXPIRY, ..lease("a.b-c") };
        let answer = of_version(&unknown, VERSIONS[1]).expect("it is JSON");
        assert!(answer.contains("/v1beta1") && !answer.contains("expirationTimestamp"), "{answer}");
    }

    #[test]
    fn the_version_is_that_of_the_client() {
        let of = |text: &str| super::version(Some(text));
        for known in VERSIONS {
            let info = format!("{{\"apiVersion\":\"{known}\",\"spec\":{{\"interactive\":true}}}}");
            assert_eq!(of(&info), Ok(known));
        }
        assert_eq!(super::version(None), Ok(VERSIONS[0]));
        for bad in ["", "{}", "5", "{\"apiVersion\":\"client.authentication.k8s.io/v1alpha1\"}"] {
            assert_eq!(of(bad).expect_err("unknown").exit, Exit::Usage, "{bad}");
        }
    }
}
