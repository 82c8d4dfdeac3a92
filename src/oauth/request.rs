//! The requests to a provider: authorization (RFC 6749 §4.1.1 with RFC 7636), the exchange of a
//! code (§4.1.3), refresh (§6) and revocation (RFC 7009 §2.1).
//!
//! The `oauth2` crate builds each request, and [`hook`] takes it from the crate before anything
//! is sent. Invariant: a request contains a token or code only if it goes to the endpoint and
//! client that issued them.

use std::{borrow::Cow, fmt};

use oauth2::{
    AuthType, AuthUrl, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet, ErrorResponse,
    HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    RevocationUrl, Scope, StandardRevocableToken, TokenUrl, basic::BasicClient,
};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{Credentials, Endpoint, Provider, Withheld, client_auth::Kind, request_form::RequestKind};
use crate::{
    ids::{Lineage, Principal, hex},
    net::{Reach, Trust},
    secret::{AccessToken, AuthorizationCode, CodeVerifier, Nonce, Scrubber, Secret, State},
    session::{Binding, Locked, Pending, Session},
    sys::{clock::UnixTime, random, secret_source::NoSecret},
};

/// A complete request to a token endpoint, which spends a secret. `Debug` and `Display` show
/// the method and the URL without its query, never a header or the body.
pub struct TokenRequest(pub(super) HttpRequest);

/// A complete request to a revocation endpoint (RFC 7009 §2.1).
#[derive(Debug)]
pub struct RevocationRequest(pub(super) TokenRequest);

/// A request that begins a sign-in (RFC 8628 §3.1, CIBA Core §7.1). It spends nothing.
#[derive(Debug)]
pub struct OpeningRequest(pub(super) TokenRequest);

/// A request to a userinfo endpoint (OpenID Connect Core §5.3).
#[derive(Debug)]
pub struct UserinfoRequest {
    pub(super) endpoint: Url,
    pub(super) token: AccessToken,
    pub(super) account_id_claim: Option<Vec<String>>,
    pub(super) trust: Trust,
    pub(super) reach: Option<Reach>,
}

impl fmt::Display for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.0.uri();
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        write!(f, "{} {scheme}://{authority}{}", self.0.method(), uri.path())
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenRequest({self})")
    }
}

impl Provider {
    /// Begins a sign-in: makes a verifier, a state and, with the scope `openid`, a nonce. Each is
    /// random and independent of the others.
    pub fn begin(&self, started_by: Principal, lineage_seen: Option<Lineage>, now: UnixTime) -> Pending {
        let openid = self.scopes.iter().any(|scope| scope == "openid");
        let verifier = CodeVerifier::new(random::token());
        Scrubber::of_process().note(verifier.expose());
        Pending {
            verifier,
            state: State::new(random::token()),
            nonce: openid.then(|| Nonce::new(random::token())),
            redirect_uri: self.redirect_uri.as_str().to_owned(),
            created_at: now,
            started_by,
            lineage_seen,
            binding: self.binding(),
            scopes: self.scopes.clone(),
            wrong_codes: None,
            browser: None,
            polling: None,
        }
    }

    /// Returns the authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3) of a pending sign-in.
    /// Every call returns the same URL.
    pub fn authorize_url(&self, pending: &Pending) -> Url {
        let client = BasicClient::new(ClientId::new(pending.binding.client_id.clone()))
            .set_auth_uri(AuthUrl::from_url(self.authorization_page().clone()));
        let state = CsrfToken::new(pending.state.expose().to_owned());
        let mut request =
            client.authorize_url(|| state).set_redirect_uri(Cow::Owned(self.redirect_of(pending)));
        if self.form.pkce {
            request = request.set_pkce_challenge(challenge(&pending.verifier));
        }
        let scopes = pending.scopes.join(&self.form.scope_separator);
        if !scopes.is_empty() {
            request = request.add_extra_param(self.form.scope_parameter.clone(), scopes);
        }
        if let Some(nonce) = &pending.nonce {
            request = request.add_extra_param("nonce", nonce.expose().to_owned());
        }
        if let Some(resource) = &pending.binding.resource {
            request = request.add_extra_param("resource", resource.clone());
        }
        for (name, value) in &self.authorize_params {
            request = request.add_extra_param(name.clone(), value.clone());
        }
        request.url().0
    }

    /// Returns the page of the authorization request. A provider without one offers no such sign-in.
    fn authorization_page(&self) -> &Url {
        self.authorization_endpoint.as_ref().unwrap_or(&self.token_endpoint)
    }

    /// Makes the credentials of one request.
    ///
    /// # Errors
    /// The reason why the client's secret cannot be read.
    pub async fn credentials(&self, now: UnixTime) -> Result<Credentials, NoSecret> {
        let audience = self.issuer.as_deref().unwrap_or(self.token_endpoint.as_str());
        self.client_auth.credentials(&self.client_id, audience, now).await
    }

    /// Builds the request that exchanges a code (RFC 6749 §4.1.3).
    ///
    /// # Errors
    /// Returns an error if the sign-in was started at another endpoint or client than the
    /// configured one. See [`Provider::destination`].
    pub fn exchange(
        &self,
        pending: &Locked<Pending>,
        code: &AuthorizationCode,
        credentials: &Credentials,
    ) -> Result<TokenRequest, Withheld> {
        let endpoint = self.destination(&pending.binding, Endpoint::Token)?;
        let client = self.client(&pending.binding, endpoint, credentials);
        let mut request = client
            .exchange_code(oauth2::AuthorizationCode::new(code.expose().to_owned()))
            .set_redirect_uri(Cow::Owned(self.redirect_of(pending)));
        if self.form.pkce {
            request = request.set_pkce_verifier(PkceCodeVerifier::new(pending.verifier.expose().to_owned()));
        }
        if self.form.state_in_exchange {
            request = request.add_extra_param("state", pending.state.expose().to_owned());
        }
        if let Some(resource) = &pending.binding.resource {
            request = request.add_extra_param("resource", resource.clone());
        }
        for (name, value) in self.token_params(credentials) {
            request = request.add_extra_param(name, value);
        }
        Ok(self.captured(RequestKind::Exchange, request.request(&hook)))
    }

    /// Builds the refresh request (RFC 6749 §6), or returns `None` if there is no refresh token.
    /// The request names no scope, so it asks for the granted scopes. With `scope_in_refresh` it names
    /// them, or the configured ones if the provider's answers named none.
    ///
    /// # Errors
    /// Returns an error if the refresh token belongs to another endpoint or client than the
    /// configured one. See [`Provider::destination`].
    pub fn refresh(
        &self,
        session: &Locked<Session>,
        credentials: &Credentials,
    ) -> Result<Option<TokenRequest>, Withheld> {
        let Some(token) = &session.refresh_token else { return Ok(None) };
        let endpoint = self.destination(&session.binding, Endpoint::Token)?;
        let client = self.client(&session.binding, endpoint, credentials);
        let token = oauth2::RefreshToken::new(token.expose().to_owned());
        let mut request = client.exchange_refresh_token(&token);
        if self.form.scope_in_refresh {
            let configured = || self.scopes.join(" ");
            request = request.add_scope(Scope::new(session.scope.clone().unwrap_or_else(configured)));
        }
        if let Some(resource) = &session.binding.resource {
            request = request.add_extra_param("resource", resource.clone());
        }
        for (name, value) in self.token_params(credentials) {
            request = request.add_extra_param(name, value);
        }
        Ok(Some(self.captured(RequestKind::Refresh, request.request(&hook))))
    }

    /// Builds the request that revokes the session's refresh token, or its access token if there is
    /// no refresh token (RFC 7009 §2.1).
    ///
    /// # Errors
    /// Returns an error if the provider has no such endpoint, or if the session is bound to another
    /// one or to another client. See [`Provider::destination`].
    pub fn revoke(
        &self,
        session: &Session,
        credentials: &Credentials,
    ) -> Result<RevocationRequest, Withheld> {
        let endpoint = self.destination(&session.binding, Endpoint::Revocation)?;
        let token = match &session.refresh_token {
            Some(token) => oauth2::RefreshToken::new(token.expose().to_owned()).into(),
            None => StandardRevocableToken::from(oauth2::AccessToken::new(
                session.access_token.expose().to_owned(),
            )),
        };
        // The crate accepts only https here, but a provider on loopback can use http. So the
        // request is built for https and then gets its real target.
        let mut https = endpoint.clone();
        let (Ok(()), Ok(target)) = (https.set_scheme("https"), endpoint.as_str().parse()) else {
            unreachable!("every endpoint was checked to be a request target over http or https")
        };
        let client = self.client(&session.binding, &self.token_endpoint, credentials);
        let client = client.set_revocation_url(RevocationUrl::from_url(https));
        let Ok(mut revocation) = client.revoke_token(token) else {
            unreachable!("the crate refuses a revocation only if its target is not https")
        };
        for (name, value) in assertion_params(credentials) {
            revocation = revocation.add_extra_param(name, value);
        }
        let mut request = self.captured(RequestKind::Revocation, revocation.request(&hook));
        *request.0.uri_mut() = target;
        Ok(RevocationRequest(request))
    }

    /// Builds the request that asks for the account of an access token.
    ///
    /// # Errors
    /// Returns an error if the provider has no userinfo endpoint, or if the token is bound to another
    /// one or to another client. See [`Provider::destination`].
    pub fn userinfo(&self, bound: &Binding, token: &AccessToken) -> Result<UserinfoRequest, Withheld> {
        let endpoint = self.destination(bound, Endpoint::Userinfo)?.clone();
        let (trust, reach) = (self.trust.clone(), self.reach.clone());
        let account_id_claim = self.account_id_claim.clone();
        Ok(UserinfoRequest { endpoint, token: token.clone(), account_id_claim, trust, reach })
    }

    /// Returns the OAuth client for the token endpoint, with the credentials of this request.
    fn client(
        &self,
        bound: &Binding,
        token_endpoint: &Url,
        credentials: &Credentials,
    ) -> BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet> {
        let client = BasicClient::new(ClientId::new(bound.client_id.clone()))
            .set_token_uri(TokenUrl::from_url(token_endpoint.clone()));
        let secret = |secret: &Secret| ClientSecret::new(secret.expose().to_owned());
        match &credentials.0 {
            Kind::Public => client,
            Kind::Basic(given) => client.set_client_secret(secret(given)).set_auth_type(AuthType::BasicAuth),
            Kind::Post(given) => client.set_client_secret(secret(given)).set_auth_type(AuthType::RequestBody),
            // The crate writes the `client_id` of a client without a secret into the body.
            Kind::Assertion(_) => client,
        }
    }

    /// Returns the additional parameters of a request to the token endpoint.
    fn token_params(&self, credentials: &Credentials) -> impl Iterator<Item = (String, String)> {
        let configured = self.form.token_params.clone();
        configured.into_iter().chain(assertion_params(credentials))
    }

    /// Returns the redirect URI of the authorization request, which the exchange repeats unchanged
    /// (RFC 6749 §4.1.3). If damage in the store made it an invalid URL, the configured one is
    /// used, and the provider refuses the request.
    fn redirect_of(&self, pending: &Pending) -> RedirectUrl {
        RedirectUrl::new(pending.redirect_uri.clone()).unwrap_or_else(|_| self.redirect_uri.clone())
    }

    /// Returns the request that [`hook`] captured, in the form that the provider wants and with the
    /// authorities that its server may use.
    fn captured<T, E: ErrorResponse + 'static>(
        &self,
        kind: RequestKind,
        result: Result<T, RequestTokenError<Captured, E>>,
    ) -> TokenRequest {
        match result {
            Err(RequestTokenError::Request(Captured(mut request))) => {
                self.form.shape(kind, &mut request);
                request.extensions_mut().insert(self.trust.clone());
                if let Some(reach) = &self.reach {
                    request.extensions_mut().insert(reach.clone());
                }
                TokenRequest(*request)
            }
            _ => unreachable!(
                "the hook answers every request with itself, and every endpoint was checked to be a request target"
            ),
        }
    }
}

/// Returns the parameters of a client assertion (RFC 7521 §4.2).
pub(super) fn assertion_params(credentials: &Credentials) -> impl Iterator<Item = (String, String)> + use<> {
    const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let params = match &credentials.0 {
        Kind::Assertion(assertion) => {
            vec![("client_assertion_type", TYPE), ("client_assertion", assertion.expose())]
        }
        Kind::Public | Kind::Basic(_) | Kind::Post(_) => Vec::new(),
    };
    let owned: Vec<_> = params.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    owned.into_iter()
}

/// Returns the S256 challenge of a verifier (RFC 7636 §4.2). A verifier with a length that §4.1
/// forbids was damaged in the store. It gets a challenge that it cannot meet, and the provider
/// refuses the code.
fn challenge(verifier: &CodeVerifier) -> PkceCodeChallenge {
    let text = match verifier.expose() {
        text if (43..=128).contains(&text.len()) => text.to_owned(),
        text => hex(&Sha256::digest(text.as_bytes())),
    };
    PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(text))
}

/// Moves a request out of the crate, as the error of an HTTP client that sends nothing.
struct Captured(Box<HttpRequest>);

impl fmt::Debug for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Captured(…)")
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was captured")
    }
}

impl std::error::Error for Captured {}

/// The crate's HTTP hook. Every request to a token or revocation endpoint passes through it as
/// plain HTTP, so code for the peculiarities of a provider, for example a JSON body, belongs here.
fn hook(request: HttpRequest) -> Result<HttpResponse, Captured> {
    Err(Captured(Box::new(request)))
}

#[cfg(test)]
pub(super) mod tests;
