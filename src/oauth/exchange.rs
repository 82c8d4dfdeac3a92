//! Token exchange (RFC 8693): a token for another audience, in return for the access token of a sign-in
//! at another provider.
//!
//! Invariant: the access token goes to the token endpoint that its sign-in bound, and nowhere else. So
//! an exchange has no endpoint of its own. It may have a client of its own at the same server.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    ClientKey, Credentials, Endpoint, Provider, ProviderError, TokenRequest, Withheld,
    client_auth::ClientAuth,
    settings::{Wrong, client_id, resource, scopes},
};
use crate::{
    ids::ProviderId,
    session::Session,
    sys::{
        clock::UnixTime,
        secret_source::{NoSecret, SecretSource},
    },
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The parameters that only threadkey sets.
const RESERVED: [&str; 13] = [
    "grant_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
    "audience",
    "resource",
    "scope",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

/// The settings of an exchange, not yet checked.
#[derive(Clone, Debug)]
pub struct ExchangeSettings {
    /// The provider whose sign-in has the token.
    pub from: ProviderId,
    /// The services that the new token is for, by name (RFC 8693 §2.1).
    pub audience: Vec<String>,
    /// The services that the new token is for, by URI.
    pub resource: Vec<String>,
    /// The scopes of the new token. Without them the server decides.
    pub scopes: Vec<String>,
    /// The type of the new token, a URI. Without it an access token.
    pub requested_token_type: Option<String>,
    /// The identity provider whose token Keycloak returns for the account (identity brokering).
    pub requested_issuer: Option<String>,
    /// More parameters.
    pub token_params: BTreeMap<String, String>,
    /// The client that asks for the exchange. Without it the client of the sign-in asks.
    pub client_id: Option<String>,
    /// See [`ProviderSettings::client_auth`](super::ProviderSettings::client_auth).
    pub client_auth: Option<String>,
    /// The secret of `client_id`.
    pub client_secret: Option<SecretSource>,
    /// The key of `client_id`.
    pub client_key: Option<Arc<ClientKey>>,
}

/// A provider whose tokens come from the sign-in at another one.
pub struct Exchange {
    id: ProviderId,
    from: ProviderId,
    params: Vec<(String, String)>,
    client: Option<(String, ClientAuth)>,
}

/// A complete request for an exchange. It shows no token.
#[derive(Debug)]
pub struct ExchangeRequest(pub(super) TokenRequest);

impl Exchange {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`ProviderError::Setting`] for the first wrong key, with advice how to correct it.
    pub fn new(id: ProviderId, settings: ExchangeSettings) -> Result<Self, ProviderError> {
        let name = id.clone();
        Self::checked(id, settings).map_err(|Wrong { key, what }| ProviderError::Setting {
            provider: name,
            key,
            what,
        })
    }

    fn checked(id: ProviderId, settings: ExchangeSettings) -> Result<Self, Wrong> {
        let wrong = |key, what: &str| Err(Wrong { key, what: what.to_owned() });
        let mut params = vec![("grant_type".to_owned(), GRANT_TYPE.to_owned())];
        let mut add = |name: &str, value: String| params.push((name.to_owned(), value));
        for audience in settings.audience {
            if audience.trim().is_empty() {
                return wrong("audience", "it is empty: name the service, or remove the key");
            }
            add("audience", audience);
        }
        for uri in settings.resource {
            add("resource", resource(uri)?);
        }
        let scopes = scopes(settings.scopes)?;
        if !scopes.is_empty() {
            add("scope", scopes.join(" "));
        }
        let requested = settings.requested_token_type.unwrap_or_else(|| ACCESS_TOKEN.to_owned());
        if url::Url::parse(&requested).is_err() {
            let what = "it must be a URI, as in urn:ietf:params:oauth:token-type:access_token (RFC 8693 §3)";
            return wrong("requested_token_type", what);
        }
        add("requested_token_type", requested);
        if let Some(issuer) = settings.requested_issuer {
            add("requested_issuer", issuer);
        }
        for (name, value) in settings.token_params {
            if name.is_empty() || RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
                let what = format!("threadkey sets {name:?} itself: remove it");
                return Err(Wrong { key: "token_params", what });
            }
            add(&name, value);
        }
        let has_secret = settings.client_secret.is_some() || settings.client_key.is_some();
        if settings.client_id.is_none() && (has_secret || settings.client_auth.is_some()) {
            let what =
                "it is missing: a client secret, a key or client_auth here belongs to a client of its own";
            return wrong("client_id", what);
        }
        let auth =
            ClientAuth::new(settings.client_auth.as_deref(), settings.client_secret, settings.client_key)?;
        let client = settings.client_id.map(|id| Ok::<_, Wrong>((client_id(id)?, auth))).transpose()?;
        Ok(Self { id, from: settings.from, params, client })
    }

    /// The name of the provider.
    pub fn id(&self) -> &ProviderId {
        &self.id
    }

    /// The provider whose sign-in has the token.
    pub fn from(&self) -> &ProviderId {
        &self.from
    }

    /// Whether a client of its own asks for the exchange.
    pub fn has_own_client(&self) -> bool {
        self.client.is_some()
    }

    /// Makes the credentials of one request to the server of `source`. `None` if the client of the
    /// sign-in asks for the exchange.
    ///
    /// # Errors
    /// The reason why the client's secret cannot be read.
    pub async fn credentials(
        &self,
        source: &Provider,
        now: UnixTime,
    ) -> Result<Option<Credentials>, NoSecret> {
        let Some((id, auth)) = &self.client else { return Ok(None) };
        let audience = source.issuer().unwrap_or(source.token_endpoint().as_str());
        auth.credentials(id, audience, now).await.map(Some)
    }

    /// Builds the request (RFC 8693 §2.1) with the access token of a session at `source`.
    ///
    /// # Errors
    /// Returns an error if the session belongs to another endpoint or client than the configured one.
    /// See [`Provider::destination`].
    pub fn request(
        &self,
        source: &Provider,
        session: &Session,
        credentials: &Credentials,
    ) -> Result<ExchangeRequest, Withheld> {
        let endpoint = source.destination(&session.binding, Endpoint::Token)?;
        let mut params = self.params.clone();
        params.push(("subject_token".to_owned(), session.access_token.expose().to_owned()));
        params.push(("subject_token_type".to_owned(), ACCESS_TOKEN.to_owned()));
        let client_id = self.client.as_ref().map_or(session.binding.client_id.as_str(), |(id, _)| id);
        Ok(ExchangeRequest(source.exchange_request(endpoint, client_id, params, credentials)))
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({} from {})", self.id, self.from)
    }
}
