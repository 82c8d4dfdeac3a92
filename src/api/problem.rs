//! Errors as the API tells them: RFC 9457.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{broker::TokenError, ids::ProviderId, store::StoreError};

/// How long to wait before asking again where nothing better is known.
const SOON: Duration = Duration::from_secs(1);
/// The same for a store that somebody has to mend.
const STORE: Duration = Duration::from_secs(30);

/// RFC 9457 §3.
const CONTENT_TYPE: &str = "application/problem+json";

/// One error. `detail` is for people and holds no secret; `code` is for programs and stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
}

#[derive(Serialize)]
struct Wire<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, allow: None }
    }

    fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub(super) fn unauthorized() -> Self {
        let detail =
            "this needs Authorization: Bearer with the live capability of a worker (THREADKEY_CAPABILITY)";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// The same whether the configuration has such a provider or not, so that a worker learns of none but its own.
    pub(super) fn provider_not_allowed() -> Self {
        let detail = "this worker may not use that provider: see agent.providers";
        Self::new(StatusCode::FORBIDDEN, "provider_not_allowed", detail)
    }

    pub(super) fn unknown_provider(provider: &ProviderId) -> Self {
        let detail = TokenError::UnknownProvider(provider.clone()).to_string();
        Self::new(StatusCode::NOT_FOUND, "unknown_provider", detail)
    }

    pub(super) fn invalid_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    pub(super) fn content_too_large(limit: usize) -> Self {
        let detail = format!("the body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "content_too_large", detail)
    }

    pub(super) fn unsaved(waiting: usize) -> Self {
        let detail =
            format!("new tokens of {waiting} sessions cannot be saved yet; threadkey's log says why");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail).retry_after(STORE)
    }

    pub(super) fn request_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "the body did not come in time")
    }

    /// Others need the place that this request has: see [`super::shares`].
    pub(super) fn too_many_requests() -> Self {
        let detail =
            "this worker has more requests under way than its share, and others wait: ask again in a moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_requests", detail).retry_after(SOON)
    }

    /// A request whose head was refused with this status before it was one.
    pub(super) fn of_head(status: u16) -> Self {
        match StatusCode::from_u16(status) {
            Ok(status @ StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => {
                Self::new(status, "head_too_large", "the request's head is too long, or has too many headers")
            }
            Ok(status @ StatusCode::URI_TOO_LONG) => {
                Self::new(status, "head_too_large", "the request's target is too long")
            }
            _ => Self::invalid_request("this is no HTTP/1.1 request"),
        }
    }

    pub(super) fn not_found() -> Self {
        let detail = "there is GET /v1/token/{provider}, POST /v1/token/{provider}/rejected, GET /healthz and GET /readyz";
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this takes {allow}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        Self { allow: Some(allow), ..problem }
    }
}

/// Nothing of the store's place is told: a worker has no business with it, and the log has it.
impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        tracing::error!(%error, "the store cannot be used");
        let detail = "threadkey's store cannot be used just now; its log says why";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail).retry_after(STORE)
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let told = |status, code| Self::new(status, code, error.to_string());
        match &error {
            TokenError::UnknownProvider(provider) => Self::unknown_provider(provider),
            TokenError::NoSession(_) => told(StatusCode::NOT_FOUND, "no_session"),
            TokenError::Ended { .. } => told(StatusCode::GONE, "session_ended"),
            TokenError::Unavailable { retry_after, .. } => {
                told(StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable").retry_after(*retry_after)
            }
            TokenError::InProgress(_) => {
                told(StatusCode::SERVICE_UNAVAILABLE, "refresh_in_progress").retry_after(SOON)
            }
            TokenError::Misconfigured { .. } => {
                told(StatusCode::INTERNAL_SERVER_ERROR, "provider_misconfigured")
            }
            TokenError::Store(error) => Self::from(error.as_ref()),
            TokenError::Internal(_) => told(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl Problem {
    fn body(&self) -> Vec<u8> {
        let wire = Wire {
            r#type: "about:blank",
            title: self.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// The whole answer as it stands on the wire, for a connection that then ends.
    pub(super) fn message(&self) -> Vec<u8> {
        let body = self.body();
        let mut message = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {CONTENT_TYPE}\r\ncache-control: no-store\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.status.as_u16(),
            self.title(),
            body.len()
        )
        .into_bytes();
        message.extend(body);
        message
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2 wants it; the scheme is RFC 6750's.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Tenant;

    fn tenant() -> Tenant {
        "acme/user:803".parse().expect("a tenant")
    }

    async fn shown(problem: Problem) -> String {
        let response = problem.into_response();
        let (parts, body) = response.into_parts();
        let retry = parts.headers.get(header::RETRY_AFTER).map(|v| v.to_str().expect("text").to_owned());
        let body = axum::body::to_bytes(body, 64 * 1024).await.expect("is whole");
        let body = String::from_utf8(body.to_vec()).expect("is text");
        format!("{} {}", retry.unwrap_or_else(|| "-".into()), body)
    }

    #[tokio::test]
    async fn every_token_error_has_its_status_code_and_sentence() {
        let wait = Duration::from_secs(7);
        let store = StoreError::Newer { path: "/secret/place/auth.json".into(), version: 9 };
        let cases = [
            (
                TokenError::UnknownProvider("acme".parse().expect("a name")),
                r#"- {"type":"about:blank","title":"Not Found","status":404,"detail":"there is no provider acme in the configuration; `threadkey providers` lists them","code":"unknown_provider"}"#,
            ),
            (
                TokenError::NoSession(tenant()),
                r#"- {"type":"about:blank","title":"Not Found","status":404,"detail":"nobody is signed in for acme/user:803: sign in with `/auth start` on Discord, or `threadkey auth start acme --as user:803` in a terminal","code":"no_session"}"#,
            ),
            (
                TokenError::Ended { tenant: tenant(), code: "invalid_grant".into() },
                r#"- {"type":"about:blank","title":"Gone","status":410,"detail":"the session acme/user:803 has ended (invalid_grant): sign in again with `/auth start` on Discord, or `threadkey auth start acme --as user:803` in a terminal","code":"session_ended"}"#,
            ),
            (
                TokenError::Unavailable { tenant: tenant(), code: "http_503".into(), retry_after: wait },
                r#"7 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"acme cannot renew acme/user:803 just now (http_503); it is kept. Try again in 7 s","code":"provider_unavailable"}"#,
            ),
            (
                TokenError::InProgress(tenant()),
                r#"1 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the refresh of acme/user:803 is still under way: ask again in a moment","code":"refresh_in_progress"}"#,
            ),
            (
                TokenError::Misconfigured { tenant: tenant(), code: "invalid_client".into() },
                r#"- {"type":"about:blank","title":"Internal Server Error","status":500,"detail":"acme refuses threadkey's client (invalid_client) for acme/user:803; the session is kept. The operator has to check client_id, secret, scopes and endpoints of providers.acme","code":"provider_misconfigured"}"#,
            ),
            (
                TokenError::from(store),
                r#"30 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"threadkey's store cannot be used just now; its log says why","code":"store_unavailable"}"#,
            ),
            (
                TokenError::Internal(tenant()),
                r#"- {"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the refresh of acme/user:803 ended without a result; this is a defect. The journal keeps what was under way: ask again","code":"internal"}"#,
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(shown(error.into()).await, expected);
        }
    }

    #[tokio::test]
    async fn who_shows_no_capability_is_told_the_scheme() {
        let response = Problem::unauthorized().into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
