//! A client of threadkey that an authorization server registered (RFC 7591 §3.2.1).

use std::time::Duration;

use super::seconds;
use crate::{ids::UnixTime, secret::ClientSecret};

/// The time for which a client must be unused before it is removed, in seconds. A grant of its last
/// session may still have to be revoked.
const UNUSED_FOR: UnixTime = 24 * 60 * 60;

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
    /// When a sweep first saw that no record is bound to it. A sweep takes it away if one is again.
    pub unused_since: Option<UnixTime>,
}

/// The next step of the sweep with a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientSweep {
    /// The client is kept, with another mark in it.
    Mark(RegisteredClient),
    /// The client is removed.
    Remove,
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

    /// When the sweep has something to do with it; `None` if never. `is_used` states that a session or
    /// a sign-in is bound to it. A client without a date is from an earlier version, and is old enough.
    pub fn sweep_at(&self, is_used: bool, after: Duration) -> Option<UnixTime> {
        if is_used {
            return self.unused_since.map(|_| UnixTime::MIN);
        }
        let old_at = self.registered_at.map_or(UnixTime::MIN, |at| at.saturating_add(seconds(after)));
        Some(self.unused_since.map_or(old_at, |since| old_at.max(since.saturating_add(UNUSED_FOR))))
    }

    /// Returns the step of a sweep with it at `now`, if there is one.
    pub fn sweep(&self, is_used: bool, after: Duration, now: UnixTime) -> Option<ClientSweep> {
        self.sweep_at(is_used, after).filter(|at| *at <= now)?;
        let mark = |unused_since| Some(ClientSweep::Mark(Self { unused_since, ..self.clone() }));
        match self.unused_since {
            _ if is_used => mark(None),
            None => mark(Some(now)),
            Some(_) => Some(ClientSweep::Remove),
        }
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
            unused_since: None,
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
            unused_since: None,
        };
        let key = RegisteredClient::key("https://id.example", "http://127.0.0.1:1/callback");
        let retired = client.retired_key(&key).expect("it is in use");
        assert_eq!(retired, "https://id.example http://127.0.0.1:1/callback callback");
        assert_eq!(client.retired_key(&retired), None);
    }
}
