//! The log of a provider's token endpoint, in the form of both test servers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The event log of an authorization server since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Counts by account; an account appears with its first event.
    pub accounts: BTreeMap<String, Counts>,
    /// Counts over all, requests with tokens of no known account included.
    pub total: Counts,
    /// Every token request, in the order of arrival.
    pub requests: Vec<TokenRequest>,
}

impl Events {
    /// The counts of `account`; all zero where nothing happened.
    pub fn of(&self, account: &str) -> Counts {
        self.accounts.get(account).copied().unwrap_or_default()
    }
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Codes exchanged for tokens.
    pub sign_ins: u32,
    /// Refresh tokens exchanged for new ones.
    pub refreshes: u32,
    /// Spent codes or refresh tokens that were presented again.
    pub reuses: u32,
    /// Grants revoked, by reuse or by the client.
    pub revoked: u32,
    /// Token requests refused for any other reason.
    pub failed: u32,
}

/// One request to the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRequest {
    /// From 1, in the order of arrival.
    pub seq: u64,
    /// As sent; empty if it was absent.
    pub grant_type: String,
    /// The account of the grant. `None` if the presented token was never issued.
    pub account: Option<String>,
    /// [`fingerprint`] of the code or refresh token that was presented.
    pub presented: Option<String>,
    /// [`fingerprint`] of the refresh token in the answer.
    pub issued: Option<String>,
    /// The result.
    pub outcome: Outcome,
    /// The HTTP status that the server decided on; `None` while it is pending.
    pub status: Option<u16>,
    /// The RFC 6749 §5.2 error code.
    pub error: Option<String>,
}

/// The result of a token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Arrived, nothing decided yet.
    Pending,
    /// A code was exchanged.
    SignedIn,
    /// A refresh token was exchanged.
    Refreshed,
    /// An access token was exchanged (RFC 8693).
    Exchanged,
    /// A spent code or refresh token was presented.
    Reused,
    /// Refused, or answered by a script.
    Failed,
}

/// The first 12 hex digits of SHA-256: enough to distinguish tokens, and useless to an attacker.
pub fn fingerprint(secret: &str) -> String {
    Sha256::digest(secret).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
