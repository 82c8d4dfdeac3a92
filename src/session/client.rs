//! A client of threadkey that an authorization server registered (RFC 7591 §3.2.1).

use std::time::Duration;

use super::seconds;
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
    /// When it was registered, by our own clock.
    pub registered_at: Option<UnixTime>,
}

impl RegisteredClient {
    /// The key of a client in the store.
    pub fn key(issuer: &str, redirect_uri: &str) -> String {
        format!("{issuer} {redirect_uri}")
    }

    /// The key of this client after its server no longer knows it: no sign-in finds it there, and the
    /// sessions that are bound to it do. `None` if `key` is such a key already.
    pub fn retired_key(&self, key: &str) -> Option<String> {
        let is_retired = key.splitn(3, ' ').count() == 3;
        (!is_retired).then(|| format!("{key} {}", self.client_id))
    }

    /// When it may be removed, if no session and no sign-in is bound to it. One without a date is from
    /// an earlier version, and is old enough.
    pub fn due_at(&self, after: Duration) -> UnixTime {
        self.registered_at.map_or(UnixTime::MIN, |at| at.saturating_add(seconds(after)))
    }

    /// Whether both are one registration, whatever else is recorded about it.
    pub fn is_same(&self, other: &Self) -> bool {
        self.client_id == other.client_id && self.client_secret == other.client_secret
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
            registered_at: None,
        };
        assert!(!client.is_expired(10_000 - MARGIN - 1));
        assert!(client.is_expired(10_000 - MARGIN));
        client.secret_expires_at = None;
        assert!(!client.is_expired(10_000));
    }

    #[test]
    fn a_retired_key_has_the_client_in_it_and_is_retired_once() {
        let client = RegisteredClient {
            // A word at the end of the redirect URI makes no key a retired one.
            client_id: "callback".into(),
            client_secret: None,
            secret_expires_at: None,
            auth_method: None,
            registered_at: None,
        };
        let key = RegisteredClient::key("https://id.example", "http://127.0.0.1:1/callback");
        let retired = client.retired_key(&key).expect("it is in use");
        assert_eq!(retired, "https://id.example http://127.0.0.1:1/callback callback");
        assert_eq!(client.retired_key(&retired), None);
    }
}
