//! A client of threadkey that an authorization server registered (RFC 7591 §3.2.1).

use crate::{ids::UnixTime, secret::ClientSecret};

/// The time for which a secret must still work when a sign-in begins, in seconds.
const MARGIN: UnixTime = 15 * 60;

/// A registered client. It belongs to one issuer and one redirect URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredClient {
    /// Its id.
    pub client_id: String,
    /// Its secret; a public client has none.
    pub client_secret: Option<ClientSecret>,
    /// When the secret expires; `None` if it does not.
    pub secret_expires_at: Option<UnixTime>,
    /// How it authenticates at the token endpoint; `client_secret_basic` if the server names no way.
    pub auth_method: Option<String>,
}

impl RegisteredClient {
    /// The key of a client in the store.
    pub fn key(issuer: &str, redirect_uri: &str) -> String {
        format!("{issuer} {redirect_uri}")
    }

    /// Whether its secret has expired, or will during a sign-in that begins now.
    pub fn is_expired(&self, now: UnixTime) -> bool {
        let ends = self.secret_expires_at.filter(|_| self.client_secret.is_some());
        ends.is_some_and(|at| at <= now.saturating_add(MARGIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_ends_during_a_sign_in_counts_as_expired() {
        let mut client = RegisteredClient {
            client_id: "c".into(),
            client_secret: Some(ClientSecret::new("s")),
            secret_expires_at: Some(10_000),
            auth_method: None,
        };
        assert!(!client.is_expired(10_000 - MARGIN - 1));
        assert!(client.is_expired(10_000 - MARGIN));
        client.secret_expires_at = None;
        assert!(!client.is_expired(10_000));
    }
}
