//! Requests that the `oauth2` crate cannot hand out unsent: those that begin a sign-in, and polls.
//!
//! They have the parameters, the client authentication and the headers of the requests in
//! [`request`](super::request). A poll carries a secret, so it goes only to the token endpoint that the
//! sign-in bound.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderValue, Request,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use url::{Url, form_urlencoded};

use super::{
    Credentials, Endpoint, Provider, TokenRequest, Withheld, client_auth::Kind, request::assertion_params,
    request_form::RequestKind,
};
use crate::{secret::Secret, session::Binding};

impl Provider {
    /// Builds the request that begins a sign-in (RFC 8628 §3.1, CIBA Core §7.1).
    pub(super) fn opening_request(
        &self,
        endpoint: &Url,
        params: Vec<(String, String)>,
        credentials: &Credentials,
    ) -> TokenRequest {
        self.form_request(&self.client_id, RequestKind::Opening, endpoint, params, credentials)
    }

    /// Builds a poll (RFC 8628 §3.4, CIBA Core §10.1).
    ///
    /// # Errors
    /// See [`Provider::destination`].
    pub(super) fn poll_request(
        &self,
        bound: &Binding,
        mut params: Vec<(String, String)>,
        credentials: &Credentials,
    ) -> Result<TokenRequest, Withheld> {
        let endpoint = self.destination(bound, Endpoint::Token)?;
        params.extend(bound.resource.clone().map(|resource| ("resource".to_owned(), resource)));
        params.extend(self.form.token_params.clone());
        Ok(self.form_request(&bound.client_id, RequestKind::Exchange, endpoint, params, credentials))
    }

    /// Checks that the configured client and token endpoint are those of the sign-in.
    ///
    /// # Errors
    /// See [`Provider::destination`].
    pub(super) fn check_bound(&self, bound: &Binding) -> Result<(), Withheld> {
        self.destination(bound, Endpoint::Token).map(drop)
    }

    /// Builds a request with a JSON body and without client authentication.
    pub(super) fn json_request(&self, endpoint: &Url, body: &serde_json::Value) -> TokenRequest {
        let mut request = self.post(endpoint, "application/json", body.to_string().into_bytes());
        self.form.add_headers(&mut request);
        TokenRequest(request)
    }

    /// Builds the request of a token exchange (RFC 8693 §2.1), always as a form: a parameter may stand
    /// there several times.
    pub(super) fn exchange_request(
        &self,
        endpoint: &Url,
        client_id: &str,
        params: Vec<(String, String)>,
        credentials: &Credentials,
    ) -> TokenRequest {
        self.form_request(client_id, RequestKind::Opening, endpoint, params, credentials)
    }

    fn form_request(
        &self,
        client_id: &str,
        kind: RequestKind,
        endpoint: &Url,
        params: Vec<(String, String)>,
        credentials: &Credentials,
    ) -> TokenRequest {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(params);
        // Zoom and GitHub want it beside HTTP Basic too.
        form.append_pair("client_id", client_id);
        let mut basic = None;
        match &credentials.0 {
            Kind::Basic(secret) => basic = Some(basic_auth(client_id, secret)),
            Kind::Post(secret) => {
                form.append_pair("client_secret", secret.expose());
            }
            Kind::Public | Kind::Assertion(_) => {
                form.extend_pairs(assertion_params(credentials));
            }
        }
        let body = form.finish().into_bytes();
        let mut request = self.post(endpoint, "application/x-www-form-urlencoded", body);
        if let Some(basic) = basic {
            request.headers_mut().insert(AUTHORIZATION, basic);
        }
        self.form.shape(kind, &mut request);
        TokenRequest(request)
    }

    fn post(&self, endpoint: &Url, content_type: &'static str, body: Vec<u8>) -> Request<Vec<u8>> {
        let request = Request::post(endpoint.as_str())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, content_type)
            .extension(self.trust.clone())
            .body(body);
        let mut request =
            request.unwrap_or_else(|_| unreachable!("every endpoint was checked to be a request target"));
        if let Some(reach) = &self.reach {
            request.extensions_mut().insert(reach.clone());
        }
        request
    }
}

/// Returns the header of `client_secret_basic`: both parts are encoded first (RFC 6749 §2.3.1).
fn basic_auth(client_id: &str, secret: &Secret) -> HeaderValue {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(client_id), encoded(secret.expose()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)))
        .unwrap_or_else(|_| unreachable!("base64 is ASCII"));
    value.set_sensitive(true);
    value
}
