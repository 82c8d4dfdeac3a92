//! What the API says and takes, as JSON.

use serde::{Deserialize, Serialize};

use crate::{broker::Lease, secret::AccessToken};

/// A token, for the worker that asked.
#[derive(Serialize)]
pub(super) struct TokenAnswer<'a> {
    access_token: &'a str,
    token_type: &'a str,
    /// Unix seconds.
    expires_at: i64,
    /// Seconds.
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    provider: &'a str,
    principal: String,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
}

impl<'a> From<&'a Lease> for TokenAnswer<'a> {
    fn from(lease: &'a Lease) -> Self {
        Self {
            access_token: lease.access_token.expose(),
            token_type: &lease.token_type,
            expires_at: lease.expires_at,
            expires_in: lease.expires_in.as_secs(),
            scope: lease.scope.as_deref(),
            provider: lease.tenant.provider.as_str(),
            principal: lease.tenant.principal.to_string(),
            generation: lease.generation,
            account: lease.account.as_deref(),
        }
    }
}

/// The body of `POST /v1/token/{provider}/rejected`.
#[derive(Deserialize)]
struct Rejected {
    access_token: String,
}

/// The token that a resource refused. An error names no part of the body.
pub(super) fn rejected_token(body: &[u8]) -> Result<AccessToken, &'static str> {
    let parsed: Rejected =
        serde_json::from_slice(body).map_err(|_| "the body has to be {\"access_token\": \"…\"}")?;
    let token = AccessToken::new(parsed.access_token);
    if token.expose().is_empty() { Err("access_token is empty") } else { Ok(token) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_is_told_in_these_words() {
        let lease = Lease {
            tenant: "acme/user:803".parse().expect("a tenant"),
            access_token: AccessToken::new("access-7"),
            token_type: "Bearer".into(),
            expires_at: 1_795_362_272,
            expires_in: Duration::from_secs(3600),
            scope: Some("read".into()),
            account: None,
            generation: 7,
        };
        assert_eq!(
            serde_json::to_string(&TokenAnswer::from(&lease)).expect("is JSON"),
            r#"{"access_token":"access-7","token_type":"Bearer","expires_at":1795362272,"expires_in":3600,"scope":"read","provider":"acme","principal":"user:803","generation":7}"#
        );
    }

    #[test]
    fn a_body_that_names_no_token_is_refused_without_being_repeated() {
        assert_eq!(rejected_token(br#"{"access_token":"a"}"#).map(|t| t.expose().to_owned()), Ok("a".into()));
        for bad in
            [&b"canary"[..], br#"{"access_token":5}"#, br#"{"access_token":""}"#, br#"{"token":"canary"}"#]
        {
            let error = rejected_token(bad).expect_err("is no token");
            assert!(!error.contains("canary"));
        }
    }
}
