//! A provider: one OAuth client at one authorization server, checked once, when it is built.
//!
//! Invariants: every endpoint is https, or http on loopback (RFC 6749 §3.1.2.1 and §3.2, RFC 8252 §8.3), without user info and
//! without a fragment (RFC 6749 §3.1); what the configuration adds to the authorization request cannot replace a
//! parameter of the protocol. What is checked of each setting is in `settings`, what the provider says to whom in `request`.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use oauth2::RedirectUrl;
use url::Url;

use super::settings::{
    ProviderError, ProviderSettings, Wrong, check_authorize_params, client_id, endpoint, is_reserved, issuer,
    redirect_uri, resource, scopes,
};
use crate::{
    ids::ProviderId,
    secret::Secret,
    session::{Binding, Pending},
};

/// A provider that can be used: every URL is parsed, and https or on loopback.
#[derive(Clone)]
pub struct Provider {
    pub(super) id: ProviderId,
    pub(super) issuer: Option<String>,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) userinfo_endpoint: Option<Url>,
    pub(super) client_id: String,
    pub(super) client_secret: Option<Secret>,
    pub(super) redirect_uri: RedirectUrl,
    pub(super) scopes: Vec<String>,
    pub(super) authorize_params: BTreeMap<String, String>,
    pub(super) resource: Option<String>,
    reuse_grace: Duration,
    refresh_revokes_access: bool,
    pub(super) enforces_pkce: bool,
}

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
    ///
    /// # Errors
    /// [`ProviderError::Setting`] for the first key that is wrong, with what would be right.
    pub fn new(id: ProviderId, settings: ProviderSettings) -> Result<Self, ProviderError> {
        let name = id.clone();
        Self::checked(id, settings).map_err(|Wrong { key, what }| ProviderError::Setting {
            provider: name,
            key,
            what,
        })
    }

    fn checked(id: ProviderId, settings: ProviderSettings) -> Result<Self, Wrong> {
        let optional = |key, text: Option<String>| text.map(|text| endpoint(key, &text)).transpose();
        let authorization_endpoint = endpoint("authorization_endpoint", &settings.authorization_endpoint)?;
        if let Some((name, _)) = authorization_endpoint.query_pairs().find(|(name, _)| is_reserved(name)) {
            let what = format!("its query sets {name}, which threadkey sets itself: leave that out");
            return Err(Wrong { key: "authorization_endpoint", what });
        }
        if settings.client_secret.as_ref().is_some_and(Secret::is_empty) {
            let what = "it is empty: give the secret, or leave the key out for a public client".to_owned();
            return Err(Wrong { key: "client_secret", what });
        }
        check_authorize_params(&settings.authorize_params)?;
        Ok(Self {
            id,
            issuer: settings.issuer.map(issuer).transpose()?,
            authorization_endpoint,
            token_endpoint: endpoint("token_endpoint", &settings.token_endpoint)?,
            revocation_endpoint: optional("revocation_endpoint", settings.revocation_endpoint)?,
            userinfo_endpoint: optional("userinfo_endpoint", settings.userinfo_endpoint)?,
            client_id: client_id(settings.client_id)?,
            client_secret: settings.client_secret,
            redirect_uri: redirect_uri(settings.redirect_uri)?,
            scopes: scopes(settings.scopes)?,
            authorize_params: settings.authorize_params,
            resource: settings.resource.map(resource).transpose()?,
            reuse_grace: settings.reuse_grace,
            refresh_revokes_access: settings.refresh_revokes_access,
            enforces_pkce: settings.enforces_pkce,
        })
    }

    /// Its name.
    pub fn id(&self) -> &ProviderId {
        &self.id
    }

    /// Its issuer (RFC 8414 §2), as configured; the callback's `iss` (RFC 9207) has to be the same text.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// See [`ProviderSettings::reuse_grace`].
    pub fn reuse_grace(&self) -> Duration {
        self.reuse_grace
    }

    /// See [`ProviderSettings::refresh_revokes_access`].
    pub fn refresh_revokes_access(&self) -> bool {
        self.refresh_revokes_access
    }

    /// See [`ProviderSettings::enforces_pkce`].
    pub fn enforces_pkce(&self) -> bool {
        self.enforces_pkce
    }

    /// Whether a sign-in that was started earlier can still be finished here: same endpoints, client and redirect URI.
    pub fn takes(&self, pending: &Pending) -> bool {
        pending.binding == self.binding() && pending.redirect_uri == self.redirect_uri.as_str()
    }

    /// Where its refresh tokens may go.
    pub fn binding(&self) -> Binding {
        Binding {
            issuer: self.issuer.clone(),
            token_endpoint: self.token_endpoint.to_string(),
            client_id: self.client_id.clone(),
            resource: self.resource.clone(),
        }
    }

    /// The token endpoint, for messages.
    pub fn token_endpoint(&self) -> &Url {
        &self.token_endpoint
    }

    /// Where the browser comes back to, exactly as configured: providers compare it as text (RFC 6749 §3.1.2.3).
    pub fn redirect_uri(&self) -> &str {
        self.redirect_uri.as_str()
    }

    /// Whether it can revoke (RFC 7009).
    pub fn can_revoke(&self) -> bool {
        self.revocation_endpoint.is_some()
    }

    /// Whether it can tell whose login an access token is (OpenID Connect Core §5.3).
    pub fn has_userinfo(&self) -> bool {
        self.userinfo_endpoint.is_some()
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("id", &self.id)
            .field("token_endpoint", &self.token_endpoint.as_str())
            .field("client_id", &self.client_id)
            .field("confidential", &self.client_secret.is_some())
            .finish_non_exhaustive()
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

#[cfg(test)]
pub(super) mod tests;
