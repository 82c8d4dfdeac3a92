//! A provider: one OAuth client at one authorization server.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use url::Url;

use super::TokenRequest;
use crate::{
    ids::{Lineage, Principal, ProviderId},
    secret::{AuthorizationCode, Secret},
    session::{Binding, Pending, Session},
    sys::clock::UnixTime,
};

/// What the configuration says of a provider, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct ProviderSettings {
    /// RFC 8414 `issuer`; compared with the callback's `iss` where both are there.
    pub issuer: Option<String>,
    /// Where people sign in.
    pub authorization_endpoint: String,
    /// Where codes and refresh tokens are exchanged.
    pub token_endpoint: String,
    /// RFC 7009.
    pub revocation_endpoint: Option<String>,
    /// OpenID Connect Core §5.3.
    pub userinfo_endpoint: Option<String>,
    /// The client.
    pub client_id: String,
    /// For confidential clients.
    pub client_secret: Option<Secret>,
    /// Where the provider sends the browser.
    pub redirect_uri: String,
    /// What to ask for.
    pub scopes: Vec<String>,
    /// More parameters for the authorization request.
    pub authorize_params: BTreeMap<String, String>,
    /// RFC 8707.
    pub resource: Option<String>,
    /// How long after its first use the provider takes a refresh token again.
    pub reuse_grace: Duration,
    /// A refresh ends the life of the old access token.
    pub refresh_revokes_access: bool,
    /// The provider refuses an exchange without the right PKCE verifier, so that a code without its `state` may be taken.
    pub enforces_pkce: bool,
}

/// Why a provider is refused, by its name in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// A URL that is not one, or not https.
    #[error("providers.{provider}.{key}: {what}")]
    Setting {
        /// Which provider.
        provider: ProviderId,
        /// Which key.
        key: &'static str,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// No TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// A provider that can be used: every URL is parsed, and https or on loopback.
#[derive(Clone, Debug)]
pub struct Provider {}

/// The refresh token belongs to another endpoint or client than the configuration now names; nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it was issued by {was}, and the configuration now says {now}: sign in again")]
pub struct BindingChanged {
    /// Token endpoint and client id that it came from.
    pub was: String,
    /// Those of the configuration.
    pub now: String,
}

impl Provider {
    /// Checks the settings.
    pub fn new(id: ProviderId, settings: ProviderSettings) -> Result<Self, ProviderError> {
        let _ = (id, settings);
        unimplemented!()
    }

    /// Its name.
    pub fn id(&self) -> &ProviderId {
        unimplemented!()
    }

    /// See [`ProviderSettings::reuse_grace`].
    pub fn reuse_grace(&self) -> Duration {
        unimplemented!()
    }

    /// See [`ProviderSettings::refresh_revokes_access`].
    pub fn refresh_revokes_access(&self) -> bool {
        unimplemented!()
    }

    /// See [`ProviderSettings::enforces_pkce`].
    pub fn enforces_pkce(&self) -> bool {
        unimplemented!()
    }

    /// Whether a sign-in that was started earlier can still be finished here: same endpoints, client and redirect URI.
    pub fn takes(&self, pending: &Pending) -> bool {
        let _ = pending;
        unimplemented!()
    }

    /// Where its refresh tokens may go.
    pub fn binding(&self) -> Binding {
        unimplemented!()
    }

    /// The token endpoint, for messages.
    pub fn token_endpoint(&self) -> &Url {
        unimplemented!()
    }

    /// Whether it can revoke (RFC 7009).
    pub fn can_revoke(&self) -> bool {
        unimplemented!()
    }

    /// Begins a sign-in: mints verifier, state and, with the scope `openid`, a nonce.
    pub fn begin(&self, started_by: Principal, lineage_seen: Option<Lineage>, now: UnixTime) -> Pending {
        let _ = (started_by, lineage_seen, now);
        unimplemented!()
    }

    /// The authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3) of a pending sign-in; the same at each call.
    pub fn authorize_url(&self, pending: &Pending) -> Url {
        let _ = pending;
        unimplemented!()
    }

    /// The exchange of a code (RFC 6749 §4.1.3).
    ///
    /// # Errors
    /// When the sign-in was started at another endpoint or client than is configured now.
    pub fn exchange(
        &self,
        pending: &Pending,
        code: &AuthorizationCode,
    ) -> Result<TokenRequest, BindingChanged> {
        let _ = (pending, code);
        unimplemented!()
    }

    /// The refresh (RFC 6749 §6). `None` without a refresh token.
    ///
    /// # Errors
    /// When the refresh token belongs to another endpoint or client than is configured now.
    pub fn refresh(&self, session: &Session) -> Result<Option<TokenRequest>, BindingChanged> {
        let _ = session;
        unimplemented!()
    }

    /// The revocation of the session's refresh token, or of its access token where there is none (RFC 7009 §2.1). `None`
    /// when the provider has no such endpoint, or the token belongs elsewhere.
    pub fn revoke(&self, session: &Session) -> Option<TokenRequest> {
        let _ = session;
        unimplemented!()
    }
}

/// All configured providers.
#[derive(Clone, Debug, Default)]
pub struct Providers(Arc<BTreeMap<ProviderId, Arc<Provider>>>);

impl Providers {
    /// Gathers them.
    pub fn new(providers: impl IntoIterator<Item = Provider>) -> Self {
        let keyed = providers.into_iter().map(|p| (p.id().clone(), Arc::new(p))).collect();
        Self(Arc::new(keyed))
    }

    /// One of them.
    pub fn get(&self, id: &ProviderId) -> Option<&Arc<Provider>> {
        self.0.get(id)
    }

    /// Their names, in order.
    pub fn ids(&self) -> impl Iterator<Item = &ProviderId> {
        self.0.keys()
    }
}
