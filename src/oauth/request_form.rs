//! The form in which one provider wants its requests: parameters, body and headers beyond RFC 6749.
//!
//! Everything here is data of the provider's settings. The `oauth2` crate builds each request by the
//! standard, and [`RequestForm::shape`] changes the captured request.

use std::collections::BTreeMap;

use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use oauth2::HttpRequest;
use url::{Url, form_urlencoded};

use super::settings::Wrong;

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
            scope_separator: " ".to_owned(),
            scope_parameter: "scope".to_owned(),
            pkce: true,
        }
    }
}

/// The kinds of requests that carry a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Exchange,
    Refresh,
    Revocation,
}

/// The parameters of the token and revocation requests that only threadkey sets (RFC 6749 §4.1.3
/// and §6, RFC 7009 §2.1, RFC 7521 §4.2, RFC 7636 §4.5, RFC 8707 §2).
const RESERVED: [&str; 14] = [
    "grant_type",
    "code",
    "code_verifier",
    "redirect_uri",
    "refresh_token",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "token",
    "token_type_hint",
    "state",
    "scope",
    "resource",
];

impl RequestForm {
    /// Checks each setting by itself.
    pub(super) fn check(&self, token_endpoint: &Url, is_confidential: bool) -> Result<(), Wrong> {
        let wrong = |key, what: String| Err(Wrong { key, what });
        if let Some(name) = self.token_params.keys().find(|name| RESERVED.contains(&name.as_str())) {
            return wrong("token_params", format!("threadkey sets {name} itself: remove it"));
        }
        for (name, value) in &self.token_headers {
            let Ok(header) = HeaderName::try_from(name) else {
                return wrong("token_headers", format!("{name:?} is no name of a header (RFC 9110 §5.1)"));
            };
            if [AUTHORIZATION, CONTENT_TYPE, HOST].contains(&header) || header == "content-length" {
                return wrong("token_headers", format!("threadkey sets {name} itself: remove it"));
            }
            if HeaderValue::try_from(value).is_err() {
                return wrong("token_headers", format!("the value of {name} cannot stand in a header"));
            }
        }
        if !matches!(self.scope_separator.as_str(), " " | ",") {
            return wrong("scope_separator", "it must be a space or a comma".to_owned());
        }
        if !matches!(self.scope_parameter.as_str(), "scope" | "user_scope") {
            return wrong("scope_parameter", "it must be \"scope\" or \"user_scope\"".to_owned());
        }
        if !self.pkce && !is_confidential {
            let what = "without PKCE a code is bound to nothing but the client's secret: set pkce = true, or a client secret";
            return wrong("pkce", what.to_owned());
        }
        if let Some(endpoint) = &self.refresh_endpoint {
            let url = super::settings::endpoint("refresh_endpoint", endpoint)?;
            if url.origin() != token_endpoint.origin() {
                let what = "it must have the origin of token_endpoint, to which the session is bound";
                return wrong("refresh_endpoint", what.to_owned());
            }
        }
        Ok(())
    }

    /// Gives a captured request its final form.
    pub(super) fn shape(&self, kind: RequestKind, request: &mut HttpRequest) {
        let body = match kind {
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
            for (name, value) in &self.token_headers {
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                    request.headers_mut().insert(name, value);
                }
            }
        }
        if kind == RequestKind::Refresh
            && let Some(uri) = self.refresh_endpoint.as_ref().and_then(|endpoint| endpoint.parse().ok())
        {
            *request.uri_mut() = uri;
        }
    }
}
