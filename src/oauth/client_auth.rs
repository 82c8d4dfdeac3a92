//! How a client authenticates at the token and revocation endpoints (RFC 6749 §2.3, RFC 7523 §2.2).
//!
//! [`Credentials`] are made just before a request, and a request cannot be built without them. A
//! fresh token needs none, so a command that prints the client's secret does not run for it.

use std::sync::Arc;

use super::{client_key::ClientKey, settings::Wrong};
use crate::{
    secret::Secret,
    session::RegisteredClient,
    sys::{
        clock::UnixTime,
        secret_source::{NoSecret, SecretSource},
    },
};

/// The setting: the method, and the secrets that it needs.
#[derive(Clone, Debug)]
pub(super) enum ClientAuth {
    /// A public client: its `client_id` stands in the body (RFC 6749 §3.2.1).
    Public,
    /// `client_secret_basic`.
    Basic(SecretSource),
    /// `client_secret_post`.
    Post(SecretSource),
    /// `private_key_jwt`.
    Assertion(Arc<ClientKey>),
}

/// The credentials of one request.
pub struct Credentials(pub(super) Kind);

pub(super) enum Kind {
    Public,
    Basic(Secret),
    Post(Secret),
    /// A signed assertion (RFC 7523 §3).
    Assertion(Secret),
}

// === impl Credentials ===

impl Credentials {
    /// The credentials of a registered client: its secret, by the method of its registration.
    pub fn registered(client: Option<&RegisteredClient>) -> Self {
        let secret = client.and_then(|client| client.client_secret.as_ref());
        let method = client.and_then(|client| client.auth_method.as_deref());
        Self(match secret.map(|secret| Secret::new(secret.expose())) {
            None => Kind::Public,
            Some(secret) if method == Some("client_secret_post") => Kind::Post(secret),
            Some(secret) => Kind::Basic(secret),
        })
    }
}

// === impl ClientAuth ===

impl ClientAuth {
    /// Combines the setting `client_auth` with the client's secret or key. Without the setting, a
    /// secret goes into HTTP Basic, which every server must support (RFC 6749 §2.3.1).
    pub(super) fn new(
        method: Option<&str>,
        secret: Option<SecretSource>,
        key: Option<Arc<ClientKey>>,
    ) -> Result<Self, Wrong> {
        let wrong = |key, what: &str| Err(Wrong { key, what: what.to_owned() });
        if matches!(&secret, Some(SecretSource::Known(secret)) if secret.is_empty()) {
            return wrong(
                "client_secret",
                "it is empty: set it to the secret, or remove the key for a public client",
            );
        }
        match (method, secret, key) {
            (_, Some(_), Some(_)) => wrong(
                "client_key_file",
                "a client has a secret or a key: remove client_key_file or client_secret_…",
            ),
            (None | Some("private_key_jwt"), None, Some(key)) => Ok(Self::Assertion(key)),
            (None | Some("basic"), Some(secret), None) => Ok(Self::Basic(secret)),
            (Some("post"), Some(secret), None) => Ok(Self::Post(secret)),
            (None | Some("none"), None, None) => Ok(Self::Public),
            (Some("private_key_jwt"), None, None) => {
                wrong("client_auth", "private_key_jwt needs the client's key: set client_key_file")
            }
            (Some("basic" | "post"), None, _) => wrong(
                "client_auth",
                "it needs the client's secret: set client_secret_env, client_secret_file or client_secret_command",
            ),
            (Some("none"), _, _) => {
                wrong("client_auth", "none means a public client: remove its secret and its key")
            }
            (Some("private_key_jwt"), Some(_), None) => {
                wrong("client_auth", "private_key_jwt uses a key: remove the client's secret")
            }
            (Some(_), _, _) => {
                wrong("client_auth", "it must be \"basic\", \"post\", \"private_key_jwt\" or \"none\"")
            }
        }
    }

    /// Whether the client is confidential (RFC 6749 §2.1).
    pub(super) fn is_confidential(&self) -> bool {
        !matches!(self, Self::Public)
    }

    /// Reads the secret, and runs the command that prints it.
    pub(super) async fn check_secret(&self) -> Result<(), NoSecret> {
        match self {
            Self::Public | Self::Assertion(_) => Ok(()),
            Self::Basic(secret) | Self::Post(secret) => secret.read().await.map(drop),
        }
    }

    /// Makes the credentials of one request. A client assertion lives for a minute from `now`.
    pub(super) async fn credentials(
        &self,
        client_id: &str,
        audience: &str,
        now: UnixTime,
    ) -> Result<Credentials, NoSecret> {
        Ok(Credentials(match self {
            Self::Public => Kind::Public,
            Self::Basic(secret) => Kind::Basic(secret.read().await?),
            Self::Post(secret) => Kind::Post(secret.read().await?),
            Self::Assertion(key) => Kind::Assertion(key.assertion(client_id, audience, now)),
        }))
    }
}
