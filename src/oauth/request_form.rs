//! The form in which one provider wants its requests: parameters, body and headers beyond RFC 6749.
//!
//! Everything here is data of the provider's settings. The `oauth2` crate builds each request by the
//! standard, and [`RequestForm::shape`] changes the captured request.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, header::CONTENT_TYPE};
use oauth2::HttpRequest;
use url::form_urlencoded;

/// The settings of the form. Each has the value of RFC 6749 by default.
#[derive(Clone, Debug)]
pub struct RequestForm {
    /// More parameters of the requests to the token endpoint, such as `audience`.
    pub token_params: BTreeMap<String, String>,
    /// More headers of the requests to the token endpoint.
    pub token_headers: BTreeMap<String, String>,
    /// The body of the exchange and of the refresh.
    pub token_request: BodyForm,
    /// The body of the refresh, if it differs from that of the exchange.
    pub refresh_request: Option<BodyForm>,
    /// The body of the revocation.
    pub revocation_request: BodyForm,
    /// The endpoint for refreshes, if it is not the token endpoint. It has the same origin.
    pub refresh_endpoint: Option<String>,
    /// Whether the exchange repeats the `state`.
    pub state_in_exchange: bool,
    /// Whether the refresh repeats the granted scope (RFC 6749 §6).
    pub scope_in_refresh: bool,
    /// The text between two scopes: a space (RFC 6749 §3.3), or a comma.
    pub scope_separator: String,
    /// The parameter of the authorization request with the scopes.
    pub scope_parameter: String,
    /// Whether requests use PKCE (RFC 7636). Only a confidential client can do without it.
    pub pkce: bool,
}

/// The encoding of a request's parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyForm {
    /// `application/x-www-form-urlencoded` (RFC 6749 appendix B).
    #[default]
    Form,
    /// One JSON object, with a string for each parameter.
    Json,
}

/// The peculiarities of a provider's device grant.
#[derive(Clone, Debug, Default)]
pub struct DeviceForm {
    /// Whether it is the flow of OpenAI's Codex in place of RFC 8628.
    pub is_codex: bool,
    /// The parameter with the scopes, if it is not `scope`. The polls repeat it then.
    pub scope_parameter: Option<String>,
}

impl Default for RequestForm {
    fn default() -> Self {
        Self {
            token_params: BTreeMap::new(),
            token_headers: BTreeMap::new(),
            token_request: BodyForm::Form,
            refresh_request: None,
            revocation_request: BodyForm::Form,
            refresh_endpoint: None,
            state_in_exchange: false,
            scope_in_refresh: false,
            scope_separator: " ".to_owned(),
            scope_parameter: "scope".to_owned(),
            pkce: true,
        }
    }
}

/// The kinds of requests to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    /// The request that begins a sign-in.
    Opening,
    Exchange,
    Refresh,
    Revocation,
}

impl RequestForm {
    /// Adds the configured headers.
    pub(super) fn add_headers(&self, request: &mut HttpRequest) {
        for (name, value) in &self.token_headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                request.headers_mut().insert(name, value);
            }
        }
    }

    /// Gives a captured request its final form.
    pub(super) fn shape(&self, kind: RequestKind, request: &mut HttpRequest) {
        let body = match kind {
            RequestKind::Opening => BodyForm::Form,
            RequestKind::Exchange => self.token_request,
            RequestKind::Refresh => self.refresh_request.unwrap_or(self.token_request),
            RequestKind::Revocation => self.revocation_request,
        };
        if body == BodyForm::Json {
            let parameters: serde_json::Map<String, serde_json::Value> =
                form_urlencoded::parse(request.body())
                    .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
                    .collect();
            *request.body_mut() = serde_json::Value::Object(parameters).to_string().into_bytes();
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if kind != RequestKind::Revocation {
            self.add_headers(request);
        }
        if kind == RequestKind::Refresh
            && let Some(uri) = self.refresh_endpoint.as_ref().and_then(|endpoint| endpoint.parse().ok())
        {
            *request.uri_mut() = uri;
        }
    }
}
