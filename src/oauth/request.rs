//! The requests to a provider: authorization (RFC 6749 §4.1.1 with RFC 7636), the exchange of a code (§4.1.3), refresh (§6) and
//! revocation (RFC 7009 §2.1).
//!
//! The `oauth2` crate builds each of them; [`captured`] takes it out of the crate's hands before anything is sent. Invariant: a
//! token or code is put into a request only for the endpoint and client that it belongs to.

use std::{borrow::Cow, fmt};

use oauth2::{
    AuthUrl, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet, ErrorResponse, HttpRequest,
    HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, RevocationUrl, Scope,
    StandardRevocableToken, TokenUrl, basic::BasicClient,
};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{BindingChanged, Provider};
use crate::{
    ids::{Lineage, Principal, hex},
    secret::{AuthorizationCode, CodeVerifier, Nonce, Secret, State},
    session::{Binding, Locked, Pending, Session},
    sys::{clock::UnixTime, random},
};

/// A request to a token endpoint that spends a secret, ready to be sent. `Debug` and `Display` show
/// the method and the URL without its query, never a header or the body.
pub struct TokenRequest(pub(super) HttpRequest);

/// A request to a revocation endpoint (RFC 7009 §2.1), ready to be sent.
#[derive(Debug)]
pub struct RevocationRequest(pub(super) TokenRequest);

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
    /// Begins a sign-in: mints verifier, state and, with the scope `openid`, a nonce; each from randomness of its own.
    pub fn begin(&self, started_by: Principal, lineage_seen: Option<Lineage>, now: UnixTime) -> Pending {
        let openid = self.scopes.iter().any(|scope| scope == "openid");
        Pending {
            verifier: CodeVerifier::new(random::token()),
            state: State::new(random::token()),
            nonce: openid.then(|| Nonce::new(random::token())),
            redirect_uri: self.redirect_uri.as_str().to_owned(),
            created_at: now,
            started_by,
            lineage_seen,
            binding: self.binding(),
            scopes: self.scopes.clone(),
        }
    }

    /// The authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3) of a pending sign-in; the same at each call.
    pub fn authorize_url(&self, pending: &Pending) -> Url {
        let client = BasicClient::new(ClientId::new(pending.binding.client_id.clone()))
            .set_auth_uri(AuthUrl::from_url(self.authorization_endpoint.clone()));
        let state = CsrfToken::new(pending.state.expose().to_owned());
        let mut request = client
            .authorize_url(|| state)
            .set_redirect_uri(Cow::Owned(self.redirect_of(pending)))
            .set_pkce_challenge(challenge(&pending.verifier))
            .add_scopes(pending.scopes.iter().cloned().map(Scope::new));
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

    /// The exchange of a code (RFC 6749 §4.1.3).
    ///
    /// # Errors
    /// When the sign-in was started at another endpoint or client than is configured now.
    pub fn exchange(
        &self,
        pending: &Locked<Pending>,
        code: &AuthorizationCode,
    ) -> Result<TokenRequest, BindingChanged> {
        self.check_binding(&pending.binding)?;
        let client = self.client();
        let mut request = client
            .exchange_code(oauth2::AuthorizationCode::new(code.expose().to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(pending.verifier.expose().to_owned()))
            .set_redirect_uri(Cow::Owned(self.redirect_of(pending)));
        if let Some(resource) = &pending.binding.resource {
            request = request.add_extra_param("resource", resource.clone());
        }
        Ok(captured(request.request(&hook)))
    }

    /// The refresh (RFC 6749 §6). `None` without a refresh token. It names no scope: that asks for what was granted.
    ///
    /// # Errors
    /// When the refresh token belongs to another endpoint or client than is configured now.
    pub fn refresh(&self, session: &Locked<Session>) -> Result<Option<TokenRequest>, BindingChanged> {
        let Some(token) = &session.refresh_token else { return Ok(None) };
        self.check_binding(&session.binding)?;
        let client = self.client();
        let token = oauth2::RefreshToken::new(token.expose().to_owned());
        let mut request = client.exchange_refresh_token(&token);
        if let Some(resource) = &session.binding.resource {
            request = request.add_extra_param("resource", resource.clone());
        }
        Ok(Some(captured(request.request(&hook))))
    }

    /// The revocation of the session's refresh token, or of its access token where there is none (RFC 7009 §2.1). `None`
    /// when the provider has no such endpoint, or the token belongs elsewhere.
    pub fn revoke(&self, session: &Session) -> Option<RevocationRequest> {
        let endpoint = self.revocation_endpoint.as_ref()?;
        self.check_binding(&session.binding).ok()?;
        let token = match &session.refresh_token {
            Some(token) => oauth2::RefreshToken::new(token.expose().to_owned()).into(),
            None => StandardRevocableToken::from(oauth2::AccessToken::new(
                session.access_token.expose().to_owned(),
            )),
        };
        // The crate takes nothing but https here. Loopback over http was allowed when the provider was built, so the
        // request is built for https and then gets its real target.
        let mut https = endpoint.clone();
        https.set_scheme("https").ok()?;
        let client = self.client().set_revocation_url(RevocationUrl::from_url(https));
        let mut request = captured(client.revoke_token(token).ok()?.request(&hook));
        *request.0.uri_mut() = endpoint.as_str().parse().ok()?;
        Some(RevocationRequest(request))
    }

    /// The client towards the token endpoint. RFC 6749 §2.3.1: with a secret it authenticates by HTTP Basic, which every
    /// server has to take; without one (§3.2.1) its `client_id` is in the body.
    fn client(
        &self,
    ) -> BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet> {
        let client = BasicClient::new(ClientId::new(self.client_id.clone()))
            .set_token_uri(TokenUrl::from_url(self.token_endpoint.clone()));
        match self.client_secret.as_ref().map(Secret::expose) {
            Some(secret) => client.set_client_secret(ClientSecret::new(secret.to_owned())),
            None => client,
        }
    }

    /// The redirect URI of the authorization request, which the exchange repeats to the letter (RFC 6749 §4.1.3). One that is
    /// no URL any more was damaged in the store; the configured one then makes a request that the provider refuses.
    fn redirect_of(&self, pending: &Pending) -> RedirectUrl {
        RedirectUrl::new(pending.redirect_uri.clone()).unwrap_or_else(|_| self.redirect_uri.clone())
    }

    fn check_binding(&self, was: &Binding) -> Result<(), BindingChanged> {
        let now = self.binding();
        if was.token_endpoint == now.token_endpoint && was.client_id == now.client_id {
            return Ok(());
        }
        let shown =
            |binding: &Binding| format!("{} for client {}", binding.token_endpoint, binding.client_id);
        Err(BindingChanged { was: shown(was), now: shown(&now) })
    }
}

/// The S256 challenge of a verifier (RFC 7636 §4.2). One of a length that §4.1 does not allow was damaged in the store: it gets a
/// challenge that it cannot meet, and the provider refuses the code.
fn challenge(verifier: &CodeVerifier) -> PkceCodeChallenge {
    let text = match verifier.expose() {
        text if (43..=128).contains(&text.len()) => text.to_owned(),
        text => hex(&Sha256::digest(text.as_bytes())),
    };
    PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(text))
}

/// Carries a request out of the crate, as the error of an HTTP client that sends nothing.
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

/// The crate's HTTP hook. Every request to a token or revocation endpoint passes here as plain HTTP, and so it is here
/// that a provider's quirks (a JSON body, say) belong.
fn hook(request: HttpRequest) -> Result<HttpResponse, Captured> {
    Err(Captured(Box::new(request)))
}

/// What [`hook`] caught.
fn captured<T, E: ErrorResponse + 'static>(
    result: Result<T, RequestTokenError<Captured, E>>,
) -> TokenRequest {
    match result {
        Err(RequestTokenError::Request(Captured(request))) => TokenRequest(*request),
        _ => unreachable!(
            "the hook answers every request with itself, and every endpoint was checked to be a request target"
        ),
    }
}

#[cfg(test)]
mod tests;
