//! A provider: one OAuth client at one authorization server, checked once, when it is built.
//!
//! Invariants: every endpoint is https, or http on loopback (RFC 6749 §3.1.2.1 and §3.2, RFC 8252
//! §8.3). No endpoint has user info or a fragment (RFC 6749 §3.1). The configuration's additions to
//! the authorization request cannot replace a parameter of the protocol. The module `settings`
//! checks each setting, and `request` builds the requests.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use oauth2::RedirectUrl;
use url::Url;

use super::{
    Discovered,
    client_auth::ClientAuth,
    environment::EnvironmentToken,
    request_form::{DeviceForm, RequestForm},
    settings::{
        ProviderError, ProviderSettings, RECOMMENDED_REDIRECT_URI, Wrong, account_id_claim,
        check_authorize_params, client_id, device_form, ended_errors, endpoint, grants, id_token_issuer,
        is_reserved, issuer, login_hints, login_limits, max_lifetime, redirect_uri, request_form, resource,
        scopes, token_path,
    },
};
use crate::{
    ids::{Principal, ProviderId},
    net::{Reach, Trust},
    session::{Binding, GrantKind, LoginLimits, Pending},
    sys::secret_source::NoSecret,
};

/// A usable provider: every URL is parsed, and is https or on loopback.
#[derive(Clone)]
pub struct Provider {
    pub(super) id: ProviderId,
    preset: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) authorization_endpoint: Option<Url>,
    pub(super) token_endpoint: Url,
    pub(super) revocation_endpoint: Option<Url>,
    pub(super) userinfo_endpoint: Option<Url>,
    pub(super) account_id_claim: Option<Vec<String>>,
    pub(super) probe_endpoint: Option<Url>,
    pub(super) jwks_uri: Option<Url>,
    pub(super) id_token_issuer: Option<String>,
    pub(super) device_authorization_endpoint: Option<Url>,
    pub(super) backchannel_authentication_endpoint: Option<Url>,
    pub(super) grants: Vec<GrantKind>,
    pub(super) device_form: DeviceForm,
    login_hints: BTreeMap<String, String>,
    pub(super) client_id: String,
    registers_client: bool,
    pub(super) client_auth: ClientAuth,
    pub(super) form: RequestForm,
    pub(super) redirect_uri: RedirectUrl,
    paste_only: bool,
    redirect_any_port: bool,
    environment: Option<EnvironmentToken>,
    pub(super) scopes: Vec<String>,
    pub(super) authorize_params: BTreeMap<String, String>,
    pub(super) resource: Option<String>,
    pub(super) token_path: Vec<String>,
    pub(super) ended_errors: Vec<String>,
    pub(super) max_lifetime: Option<Duration>,
    reuse_grace: Duration,
    refresh_revokes_access: bool,
    login_limits: LoginLimits,
    keepalive: Option<Duration>,
    pub(super) enforces_pkce: bool,
    pub(super) formerly: Vec<Url>,
    pub(super) trust: Trust,
    pub(super) reach: Option<Reach>,
    discovered: Option<Arc<Discovered>>,
    /// The token endpoints that the same issuer published earlier.
    pub(super) published_earlier: Vec<Url>,
}

impl Provider {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`ProviderError::Setting`] for the first wrong key, with advice how to correct it.
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
        let grants = grants(&settings)?;
        let has_code = grants.contains(&GrantKind::Code);
        let authorization_endpoint = (has_code || !settings.authorization_endpoint.is_empty())
            .then(|| endpoint("authorization_endpoint", &settings.authorization_endpoint))
            .transpose()?;
        let reserved = authorization_endpoint.as_ref().and_then(|url| {
            url.query_pairs().map(|(name, _)| name.into_owned()).find(|name| is_reserved(name))
        });
        if let Some(name) = reserved {
            let what =
                format!("its query sets {name}, which threadkey sets itself: remove it from the query");
            return Err(Wrong { key: "authorization_endpoint", what });
        }
        let client_auth =
            ClientAuth::new(settings.client_auth.as_deref(), settings.client_secret, settings.client_key)?;
        let token_endpoint = endpoint("token_endpoint", &settings.token_endpoint)?;
        request_form(&settings.request_form, &token_endpoint, client_auth.is_confidential())?;
        check_authorize_params(&settings.authorize_params)?;
        login_limits(&settings.login_limits, settings.keepalive)?;
        let device_authorization_endpoint =
            optional("device_authorization_endpoint", settings.device_authorization_endpoint)?;
        let device_form =
            device_form(settings.device_form, device_authorization_endpoint.as_ref(), &token_endpoint)?;
        // Without the authorization code no answer comes to it.
        let redirect_uri_text = if has_code || !settings.redirect_uri.is_empty() {
            settings.redirect_uri
        } else {
            RECOMMENDED_REDIRECT_URI.to_owned()
        };
        Ok(Self {
            id,
            preset: settings.preset,
            issuer: settings.issuer.map(issuer).transpose()?,
            authorization_endpoint,
            token_endpoint,
            revocation_endpoint: optional("revocation_endpoint", settings.revocation_endpoint)?,
            userinfo_endpoint: optional("userinfo_endpoint", settings.userinfo_endpoint)?,
            account_id_claim: settings.account_id_claim.as_deref().map(account_id_claim).transpose()?,
            probe_endpoint: optional("probe_endpoint", settings.probe_endpoint)?,
            jwks_uri: optional("jwks_uri", settings.jwks_uri)?,
            id_token_issuer: settings.id_token_issuer.map(id_token_issuer).transpose()?,
            device_authorization_endpoint,
            backchannel_authentication_endpoint: optional(
                "backchannel_authentication_endpoint",
                settings.backchannel_authentication_endpoint,
            )?,
            grants,
            device_form,
            login_hints: login_hints(settings.login_hints)?,
            registers_client: settings.registers_client && settings.client_id.is_empty(),
            client_id: match settings.client_id {
                // Such a server registers the client, and each session is bound to its own.
                empty if empty.is_empty() && settings.registers_client => empty,
                given => client_id(given)?,
            },
            client_auth,
            form: settings.request_form,
            redirect_uri: redirect_uri(redirect_uri_text)?,
            paste_only: settings.paste_only,
            redirect_any_port: settings.redirect_any_port,
            environment: settings.environment,
            scopes: scopes(settings.scopes)?,
            authorize_params: settings.authorize_params,
            resource: settings.resource.map(resource).transpose()?,
            token_path: settings.token_path.as_deref().map(token_path).transpose()?.unwrap_or_default(),
            ended_errors: ended_errors(settings.ended_errors)?,
            max_lifetime: settings.max_lifetime.map(max_lifetime).transpose()?,
            reuse_grace: settings.reuse_grace,
            refresh_revokes_access: settings.refresh_revokes_access,
            login_limits: settings.login_limits,
            keepalive: settings.keepalive,
            enforces_pkce: settings.enforces_pkce,
            formerly: settings
                .formerly
                .iter()
                .map(|text| endpoint("formerly", text))
                .collect::<Result<_, _>>()?,
            trust: settings.trust,
            reach: settings.reach,
            // One that a server published and that meets the rules no longer is of no use.
            published_earlier: settings
                .discovered
                .iter()
                .flat_map(|discovered| &discovered.earlier_token_endpoints)
                .filter_map(|text| endpoint("earlier_token_endpoints", text).ok())
                .collect(),
            discovered: settings.discovered,
        })
    }

    /// Returns the provider's name.
    pub fn id(&self) -> &ProviderId {
        &self.id
    }

    /// Returns the preset that the settings come from.
    pub fn preset(&self) -> Option<&str> {
        self.preset.as_deref()
    }

    /// Returns the configured issuer (RFC 8414 §2). The callback's `iss` (RFC 9207) must be the
    /// same text.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// See [`ProviderSettings::jwks_uri`].
    pub fn jwks_uri(&self) -> Option<&Url> {
        self.jwks_uri.as_ref()
    }

    /// Returns the addresses that the fetch of the keys at this URL may reach. Keys whose address the
    /// operator wrote may stand on a private one.
    pub fn jwks_reach(&self, url: &Url) -> Reach {
        let written = || Reach::default().with_private(true).listing_host_of(url);
        self.reach.clone().unwrap_or_else(written)
    }

    /// Returns the published metadata, and the time of its fetch. `None` if the operator wrote the
    /// endpoints.
    pub fn discovered(&self) -> Option<&Discovered> {
        self.discovered.as_deref()
    }

    /// Whether each authorization response names its issuer (RFC 9207 §3). Then one without an `iss`
    /// comes from another server.
    pub fn requires_iss(&self) -> bool {
        let published = self.discovered.as_ref();
        published.is_some_and(|found| found.metadata.authorization_response_iss_parameter_supported)
    }

    /// Whether the server registers the client. Then each sign-in and session is bound to a client of
    /// its own, and the provider has none but in [`Provider::with_client`].
    pub fn registers_client(&self) -> bool {
        self.registers_client
    }

    /// Returns the same provider for the sign-ins of one client, with these scopes.
    #[must_use]
    pub fn with_client(&self, client_id: String, scopes: Vec<String>) -> Self {
        Self { client_id, scopes, ..self.clone() }
    }

    /// See [`ProviderSettings::reuse_grace`].
    pub fn reuse_grace(&self) -> Duration {
        self.reuse_grace
    }

    /// See [`ProviderSettings::refresh_revokes_access`].
    pub fn refresh_revokes_access(&self) -> bool {
        self.refresh_revokes_access
    }

    /// See [`ProviderSettings::login_limits`].
    pub fn login_limits(&self) -> &LoginLimits {
        &self.login_limits
    }

    /// See [`ProviderSettings::keepalive`].
    pub fn keepalive(&self) -> Option<Duration> {
        self.keepalive
    }

    /// See [`ProviderSettings::enforces_pkce`].
    pub fn enforces_pkce(&self) -> bool {
        self.enforces_pkce
    }

    /// Whether an earlier sign-in can still be finished: the binding is the same. Earlier versions of
    /// threadkey bound no revocation and no userinfo endpoint.
    pub fn takes(&self, pending: &Pending) -> bool {
        let (was, mut now) = (&pending.binding, self.binding());
        now.revocation_endpoint.take_if(|_| was.revocation_endpoint.is_none());
        now.userinfo_endpoint.take_if(|_| was.userinfo_endpoint.is_none());
        if self.client_id.is_empty() {
            now.client_id.clone_from(&was.client_id);
        }
        *was == now
    }

    /// Returns the client and the endpoints that a sign-in binds: the only ones that may receive
    /// its secrets.
    pub fn binding(&self) -> Binding {
        Binding {
            issuer: self.issuer.clone(),
            token_endpoint: self.token_endpoint.to_string(),
            revocation_endpoint: self.revocation_endpoint.as_ref().map(Url::to_string),
            userinfo_endpoint: self.userinfo_endpoint.as_ref().map(Url::to_string),
            client_id: self.client_id.clone(),
            resource: self.resource.clone(),
        }
    }

    /// Returns the id under which threadkey is registered at the provider.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns the scopes that a sign-in requests.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Returns the token endpoint, for messages.
    pub fn token_endpoint(&self) -> &Url {
        &self.token_endpoint
    }

    /// Returns the endpoint that issues device codes (RFC 8628 §3.1).
    pub fn device_authorization_endpoint(&self) -> Option<&Url> {
        self.device_authorization_endpoint.as_ref()
    }

    /// Returns the endpoint for refreshes.
    pub fn refresh_endpoint(&self) -> &str {
        self.form.refresh_endpoint.as_deref().unwrap_or(self.token_endpoint.as_str())
    }

    /// Returns the endpoints that receive requests from threadkey itself.
    pub fn endpoints(&self) -> impl Iterator<Item = &Url> {
        let optional = [
            &self.revocation_endpoint,
            &self.userinfo_endpoint,
            &self.jwks_uri,
            &self.device_authorization_endpoint,
            &self.backchannel_authentication_endpoint,
        ];
        std::iter::once(&self.token_endpoint).chain(optional.into_iter().flatten())
    }

    /// Returns the address that answers 401 to a GET with a dead access token: the configured one, else
    /// the userinfo endpoint (OpenID Connect Core §5.3.3, RFC 6750 §3.1).
    pub fn probe_endpoint(&self) -> Option<&Url> {
        self.probe_endpoint.as_ref().or(self.userinfo_endpoint.as_ref())
    }

    /// Returns the parameter and the separator of the scopes in an authorization request.
    pub fn scope_form(&self) -> (&str, &str) {
        (&self.form.scope_parameter, &self.form.scope_separator)
    }

    /// See [`ProviderSettings::trust`].
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Returns the host of the page on which users sign in. There they also find their account.
    pub fn site(&self) -> String {
        let url = self.authorization_endpoint.as_ref().unwrap_or(&self.token_endpoint);
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Returns the redirect URI, exactly as configured, because providers compare it as text (RFC
    /// 6749 §3.1.2.3).
    pub fn redirect_uri(&self) -> &str {
        self.redirect_uri.as_str()
    }

    /// Whether a sign-in may come back to our public pages. See [`ProviderSettings::paste_only`].
    pub fn may_return_to_us(&self) -> bool {
        !self.paste_only
    }

    /// Returns the operator's name of a user at the provider. See
    /// [`ProviderSettings::login_hints`].
    pub fn login_hint(&self, user: Principal) -> Option<&str> {
        let key = match user {
            Principal::User(id) => id.to_string(),
            Principal::Local => "local".to_owned(),
            Principal::Guild(_) => return None,
        };
        self.login_hints.get(&key).map(String::as_str)
    }

    /// Returns the token of the environment, and the principals that get it.
    pub fn environment(&self) -> Option<&EnvironmentToken> {
        self.environment.as_ref()
    }

    /// See [`ProviderSettings::redirect_any_port`].
    pub fn redirect_any_port(&self) -> bool {
        self.redirect_any_port
    }

    /// Reads the client's secret, and runs the command that prints it.
    ///
    /// # Errors
    /// The failure of the command.
    pub async fn check_secret(&self) -> Result<(), NoSecret> {
        self.client_auth.check_secret().await
    }

    /// Whether the provider can revoke a grant (RFC 7009).
    pub fn can_revoke(&self) -> bool {
        self.revocation_endpoint.is_some()
    }

    /// Whether the provider can name the account of an access token (OpenID Connect Core §5.3).
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
            .field("confidential", &self.client_auth.is_confidential())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests;
