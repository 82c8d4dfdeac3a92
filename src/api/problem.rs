//! The API's errors in the format of RFC 9457.

use std::{borrow::Cow, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{operators::Right, via::Via};

use crate::{
    broker::{LogoutError, OwnerRefusal, OwnerWaitError, TokenError, WorkerTokenError},
    ids::ProviderId,
    store::StoreError,
};

/// The usual time to wait before another request.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// The pause before the endpoints of a provider are looked for again.
const RETRY_DISCOVERY: Duration = Duration::from_secs(30);
/// The time to wait if the operator has to mend the store.
const RETRY_AFTER_STORE_ERROR: Duration = Duration::from_secs(30);

/// The time to wait if another process holds the store's lock.
const RETRY_AFTER_BUSY_STORE: Duration = Duration::from_secs(5);

/// The media type of RFC 9457 §3.
const CONTENT_TYPE: &str = "application/problem+json";

/// A code of error answers, as it is documented.
pub(super) struct Code {
    pub(super) code: &'static str,
    pub(super) status: u16,
    pub(super) meaning: &'static str,
}

const fn code(status: u16, code: &'static str, meaning: &'static str) -> Code {
    Code { code, status, meaning }
}

/// All codes. A test in `openapi` compares them with those of this file's functions.
pub(super) const CODES: &[Code] = &[
    code(400, "invalid_request", "the request is malformed; `detail` names the part"),
    code(401, "unauthorized", "the request presents no live capability or operator key"),
    code(403, "provider_not_allowed", "the capability or key does not cover the provider"),
    code(
        403,
        "not_entitled",
        "the key does not cover the principal or lacks the right, or the owner of the conversation may no longer use the bot",
    ),
    code(
        403,
        "authorization_denied",
        "the owner has declined to sign in, here or at the provider, and is not asked again for an hour",
    ),
    code(403, "raw_tokens_disabled", "agents get tokens by the injecting proxy alone (`agent.tokens`)"),
    code(403, "origin_refused", "the request comes from a page in a browser (TCP alone)"),
    code(404, "not_found", "there is no such route"),
    code(404, "unknown_provider", "the configuration does not have the provider"),
    code(404, "no_session", "the principal is not signed in"),
    code(405, "method_not_allowed", "the route does not take the method"),
    code(
        408,
        "authorization_timeout",
        "the owner has not signed in within `wait`; the question stays, and another call joins it",
    ),
    code(408, "request_timeout", "the body did not arrive in time"),
    code(409, "account_in_use", "another session has the same account: choose with `grant`"),
    code(410, "session_ended", "the provider has ended the session: sign in again"),
    code(413, "content_too_large", "the body is too long"),
    code(414, "head_too_large", "the request's target is too long"),
    code(421, "misdirected_request", "the Host header does not name loopback (plain TCP alone)"),
    code(431, "head_too_large", "the request's head is too long or has too many headers"),
    code(
        500,
        "provider_misconfigured",
        "the operator must mend the provider's settings; the session is kept",
    ),
    code(500, "internal", "a defect of threadkey; nothing is lost"),
    code(503, "rejected_again", "the provider's next token was rejected too: wait for `Retry-After`"),
    code(503, "provider_unavailable", "the provider cannot refresh the token now; the session is kept"),
    code(503, "refresh_in_progress", "the refresh takes longer than a caller waits, and goes on"),
    code(503, "rights_unknown", "Discord has not confirmed the owner's rights for too long"),
    code(503, "store_unavailable", "the store cannot be used at the moment"),
    code(
        503,
        "too_many_requests",
        "the caller has more requests in progress than its share, or its agent has asked for too many sign-ins",
    ),
];

/// The codes that the injecting proxy alone answers. The document does not have its route.
pub(super) const PROXY_CODES: &[Code] = &[
    code(403, "not_this_host", "the Host header does not name loopback (the injecting proxy)"),
    code(403, "path_not_allowed", "the route of the injecting proxy does not forward the path"),
    code(426, "upgrade_refused", "the injecting proxy forwards no upgrades"),
    code(502, "upstream_unavailable", "the upstream of the injecting proxy cannot be reached"),
];

/// An error answer. `detail` is for users and holds no secret. `code` is for programs and never
/// changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after: Option<Duration>,
    allow: Option<Cow<'static, str>>,
}

/// The body of every error answer (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemJson<'a> {
    /// Always `about:blank`: `code` is the type.
    r#type: &'static str,
    /// The phrase of the status.
    title: &'a str,
    /// The status.
    status: u16,
    /// The reason, for users.
    detail: &'a str,
    /// The reason, for programs: it never changes.
    code: &'a str,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retry_after: None, allow: None }
    }

    fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub(super) fn unauthorized(via: Via) -> Self {
        let detail = match via {
            Via::Socket => {
                "send the header Authorization: Bearer with the live capability of a worker (THREADKEY_CAPABILITY), or an operator key (api.operator_keys)"
            }
            Via::Tcp => "send the header Authorization: Bearer with an operator key (api.operator_keys)",
        };
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(super) fn needs_operator_key() -> Self {
        let detail =
            "this route takes operator keys alone (api.operator_keys), and no capability of a worker";
        Self::new(StatusCode::FORBIDDEN, "not_entitled", detail)
    }

    pub(super) fn no_right(key: &str, right: Right) -> Self {
        let detail = format!(
            "the operator key {key} does not have the right `{right}`: the operator adds it to api.operator_keys.{key}.rights"
        );
        Self::new(StatusCode::FORBIDDEN, "not_entitled", detail)
    }

    /// The same answer whether or not the configuration has the provider.
    pub(super) fn providers_of_key(key: &str) -> Self {
        let detail = format!(
            "the operator key {key} does not cover this provider: the operator lists the covered ones in api.operator_keys.{key}.providers"
        );
        Self::new(StatusCode::FORBIDDEN, "provider_not_allowed", detail)
    }

    /// The same answer whether or not the principal has a session.
    pub(super) fn principals_of_key(key: &str) -> Self {
        let detail = format!(
            "the operator key {key} does not cover this principal: the operator lists the covered ones in api.operator_keys.{key}.principals"
        );
        Self::new(StatusCode::FORBIDDEN, "not_entitled", detail)
    }

    pub(super) fn from_a_browser() -> Self {
        let detail = "the token API is not for pages in a browser: this request has an Origin header";
        Self::new(StatusCode::FORBIDDEN, "origin_refused", detail)
    }

    pub(super) fn misdirected() -> Self {
        let detail =
            "the Host header must name this machine's loopback, as in 127.0.0.1:7420 or localhost:7420";
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected_request", detail)
    }

    /// The same answer whether or not the configuration has the provider, so that a worker learns
    /// about its own ones only.
    pub(super) fn provider_not_allowed() -> Self {
        let detail =
            "this worker may not use this provider: the operator lists the allowed ones in agent.providers";
        Self::new(StatusCode::FORBIDDEN, "provider_not_allowed", detail)
    }

    /// The answer of the injecting proxy to a request without a live secret.
    pub(super) fn no_inject_secret() -> Self {
        let detail = "send the live secret of this worker's injecting proxy as Authorization: Bearer, as the password of Authorization: Basic, or as the key that the API takes";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    pub(super) fn raw_tokens_disabled() -> Self {
        let detail = "agents hold no token here (agent.tokens = \"inject\"): send the request to a route of the injecting proxy, whose address the operator puts into a variable with {inject:ROUTE}";
        Self::new(StatusCode::FORBIDDEN, "raw_tokens_disabled", detail)
    }

    pub(super) fn authorization_timeout(provider: &ProviderId, wait: Duration) -> Self {
        let detail = format!(
            "the owner has not signed in at {provider} within {} s; the question in the thread stays, and another call joins it",
            wait.as_secs()
        );
        Self::new(StatusCode::REQUEST_TIMEOUT, "authorization_timeout", detail)
    }

    /// The problem of a wait for an owner that ended so. `unserved` is the error of the last attempt,
    /// which answers where the owner cannot be asked.
    pub(super) fn of_owner_wait(end: OwnerWaitError, unserved: WorkerTokenError) -> Self {
        let detail = end.to_string();
        match end {
            OwnerWaitError::Refused { refusal, .. } => match refusal {
                OwnerRefusal::Declined | OwnerRefusal::DeniedByProvider => {
                    Self::new(StatusCode::FORBIDDEN, "authorization_denied", detail)
                }
                OwnerRefusal::TooMany { retry_after } => {
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_requests", detail)
                        .retry_after(retry_after)
                }
                OwnerRefusal::Unreachable | OwnerRefusal::NoBot => {
                    let problem = Self::from(unserved);
                    Self { detail: format!("{}; {refusal}", problem.detail), ..problem }
                }
            },
            OwnerWaitError::Ending => Self::new(StatusCode::REQUEST_TIMEOUT, "authorization_timeout", detail),
            OwnerWaitError::Store(error) => Self::from(&error),
        }
    }

    pub(super) fn not_this_host() -> Self {
        let detail = "the injecting proxy answers to 127.0.0.1 and localhost alone, and to no web page: send one Host header of that name and no Origin";
        Self::new(StatusCode::FORBIDDEN, "not_this_host", detail)
    }

    pub(super) fn unknown_route(known: &[&str]) -> Self {
        let detail =
            format!("there is no such route: the routes are /inject/NAME/… with {}", known.join(", "));
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn path_not_allowed(route: &str, prefixes: &[String]) -> Self {
        let detail = format!(
            "the route {route} forwards only paths under {}: the operator lists them in inject.{route}.path_prefixes",
            prefixes.join(", ")
        );
        Self::new(StatusCode::FORBIDDEN, "path_not_allowed", detail)
    }

    pub(super) fn method_not_forwarded(route: &str, allowed: &str) -> Self {
        let detail = format!(
            "the route {route} does not forward this method: the operator lists the allowed ones in inject.{route}.methods"
        );
        let allow = (!allowed.is_empty()).then(|| allowed.to_owned().into());
        Self { allow, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail) }
    }

    pub(super) fn no_upgrade() -> Self {
        let detail = "the injecting proxy forwards no websocket: send an ordinary HTTP/1.1 request";
        Self::new(StatusCode::UPGRADE_REQUIRED, "upgrade_refused", detail)
    }

    pub(super) fn upstream_unavailable(route: &str) -> Self {
        let detail = format!(
            "the upstream of the route {route} cannot be reached or gave no answer: try again; threadkey's log has the reason"
        );
        Self::new(StatusCode::BAD_GATEWAY, "upstream_unavailable", detail)
    }

    pub(super) fn invalid_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    pub(super) fn content_too_large(limit: usize) -> Self {
        let detail = format!("the body is longer than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "content_too_large", detail)
    }

    /// `lines` has the state of each part, or nothing for a caller who may not see it.
    pub(super) fn not_ready(lines: &str) -> Self {
        let lines = if lines.is_empty() { "not ready" } else { lines };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", lines)
            .retry_after(RETRY_AFTER_STORE_ERROR)
    }

    pub(super) fn request_timeout(limit: Duration) -> Self {
        let detail = format!("the body did not arrive within {} s", limit.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
    }

    /// The request has lost its place to another caller: see [`super::shares`].
    pub(super) fn too_many_requests() -> Self {
        let detail = "this caller has more requests in progress than its share, and others wait: ask again in a moment";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_requests", detail).retry_after(RETRY_SOON)
    }

    /// The problem of a request whose head hyper refused with this status.
    pub(super) fn of_head(status: u16) -> Self {
        match StatusCode::from_u16(status) {
            Ok(status @ StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE) => {
                Self::new(status, "head_too_large", "the request's head is too long or has too many headers")
            }
            Ok(status @ StatusCode::URI_TOO_LONG) => {
                Self::new(status, "head_too_large", "the request's target is too long")
            }
            _ => Self::invalid_request("this is not an HTTP/1.1 request"),
        }
    }

    pub(super) fn not_found() -> Self {
        let detail = "there is no such route: GET /openapi.json describes the token API";
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The router adds the Allow header.
    pub(super) fn method_not_allowed() -> Self {
        let detail = "this route does not take this method: the Allow header names the methods that it takes";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }
}

/// The answer hides the store's path, because a worker must not learn it. The log has it.
impl From<&StoreError> for Problem {
    fn from(error: &StoreError) -> Self {
        tracing::error!(%error, "the token API cannot use the store");
        let detail = "threadkey's store cannot be used at the moment: its log has the reason";
        let wait = match error {
            StoreError::Busy { .. } => RETRY_AFTER_BUSY_STORE,
            _ => RETRY_AFTER_STORE_ERROR,
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail).retry_after(wait)
    }
}

impl From<WorkerTokenError> for Problem {
    fn from(error: WorkerTokenError) -> Self {
        let detail = error.to_string();
        match error {
            WorkerTokenError::ProviderNotAllowed(_) => Self::provider_not_allowed(),
            WorkerTokenError::NotEntitled => Self::new(StatusCode::FORBIDDEN, "not_entitled", detail),
            WorkerTokenError::RightsUnknown { retry_after } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "rights_unknown", detail).retry_after(retry_after)
            }
            WorkerTokenError::Token(error) => error.into(),
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let problem = |status, code| Self::new(status, code, error.to_string());
        match &error {
            TokenError::UnknownProvider(_) => problem(StatusCode::NOT_FOUND, "unknown_provider"),
            TokenError::NoSession(_) => problem(StatusCode::NOT_FOUND, "no_session"),
            TokenError::Ended { .. } | TokenError::EnvironmentRejected { .. } => {
                problem(StatusCode::GONE, "session_ended")
            }
            TokenError::ExchangeRefused { .. } => {
                problem(StatusCode::INTERNAL_SERVER_ERROR, "provider_misconfigured")
            }
            TokenError::Unavailable { code, retry_after, .. } if code == "rejected_again" => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "rejected_again").retry_after(*retry_after)
            }
            TokenError::Unavailable { retry_after, .. }
            | TokenError::ExchangeUnavailable { retry_after, .. } => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable").retry_after(*retry_after)
            }
            TokenError::InProgress(_) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "refresh_in_progress").retry_after(RETRY_SOON)
            }
            TokenError::Held { tenant, holder } => {
                // The worker learns of no process outside of its sandbox. The log has it.
                tracing::warn!(%tenant, %holder, "a refresh waits for another process");
                Self::from(TokenError::InProgress(tenant.clone()))
            }
            TokenError::Misconfigured { .. } => {
                problem(StatusCode::INTERNAL_SERVER_ERROR, "provider_misconfigured")
            }
            TokenError::NoClientSecret { tenant, problem } => {
                // The worker learns of no program outside of its sandbox. The log has it.
                tracing::error!(%tenant, %problem, "the client's secret cannot be read");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "provider_misconfigured",
                    format!(
                        "the secret of threadkey's client at {} cannot be read: the operator must mend it; the session is kept",
                        tenant.provider
                    ),
                )
            }
            TokenError::Undiscovered { provider, problem } => {
                // The worker learns of no address outside of its sandbox. The log has it.
                tracing::error!(%provider, %problem, "the endpoints of a provider are not known");
                let detail = format!(
                    "the endpoints of {provider} are not known: the operator must look at the log; the session is kept"
                );
                if problem.is_temporary() {
                    Self::new(StatusCode::SERVICE_UNAVAILABLE, "provider_unavailable", detail)
                        .retry_after(RETRY_DISCOVERY)
                } else {
                    Self::new(StatusCode::INTERNAL_SERVER_ERROR, "provider_misconfigured", detail)
                }
            }
            TokenError::Store(error) => Self::from(error.as_ref()),
            TokenError::Internal(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl From<LogoutError> for Problem {
    fn from(error: LogoutError) -> Self {
        match &error {
            LogoutError::NoSession(_) => Self::new(StatusCode::NOT_FOUND, "no_session", error.to_string()),
            LogoutError::Exchanged { .. } | LogoutError::FromEnvironment { .. } => {
                Self::new(StatusCode::NOT_FOUND, "no_session", error.to_string())
            }
            // The answer does not name the other sessions, which the key may not cover.
            LogoutError::Shared { tenant, .. } => {
                let detail = format!(
                    "another session here has the same account at {}, and revoking the grant may end it too: add ?grant=keep to remove this session alone, or ?grant=revoke",
                    tenant.provider
                );
                Self::new(StatusCode::CONFLICT, "account_in_use", detail)
            }
            LogoutError::Store(error) => Self::from(error),
        }
    }
}

impl Problem {
    fn body(&self) -> Vec<u8> {
        let json = ProblemJson {
            r#type: "about:blank",
            title: self.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        serde_json::to_vec(&json).unwrap_or_default()
    }

    fn title(&self) -> &'static str {
        self.status.canonical_reason().unwrap_or("Error")
    }

    /// Returns the whole answer as bytes, for a connection that ends after it.
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
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2 requires the header; the scheme is that of RFC 6750.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 §15.5.22 requires the header.
            headers.insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
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
    async fn every_token_error_has_its_status_code_and_detail() {
        let wait = Duration::from_secs(7);
        let holder = crate::sys::lock_holder::LockHolder { pid: 41, command: None, is_stopped: true };
        let store = StoreError::Newer { path: "/secret/place/auth.json".into(), version: 9 };
        let cases = [
            (
                TokenError::UnknownProvider("acme".parse().expect("a name")),
                r#"- {"type":"about:blank","title":"Not Found","status":404,"detail":"there is no provider acme in the configuration; `threadkey providers` lists them","code":"unknown_provider"}"#,
            ),
            (
                TokenError::NoSession(tenant()),
                r#"- {"type":"about:blank","title":"Not Found","status":404,"detail":"acme/user:803 is not signed in: sign in with `/auth start` on Discord, or `threadkey auth start acme --as user:803` in a terminal","code":"no_session"}"#,
            ),
            (
                TokenError::Ended { tenant: tenant(), code: "invalid_grant".into() },
                r#"- {"type":"about:blank","title":"Gone","status":410,"detail":"the session acme/user:803 has ended (invalid_grant): sign in again with `/auth start` on Discord, or `threadkey auth start acme --as user:803` in a terminal","code":"session_ended"}"#,
            ),
            (
                TokenError::Unavailable { tenant: tenant(), code: "http_503".into(), retry_after: wait },
                r#"7 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"acme cannot refresh acme/user:803 now (http_503); the session is kept. Try again in 7 s","code":"provider_unavailable"}"#,
            ),
            (
                TokenError::InProgress(tenant()),
                r#"1 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the refresh of acme/user:803 is still in progress: try again in a moment","code":"refresh_in_progress"}"#,
            ),
            (
                TokenError::Misconfigured { tenant: tenant(), code: "invalid_client".into() },
                r#"- {"type":"about:blank","title":"Internal Server Error","status":500,"detail":"acme refuses threadkey's client (invalid_client) for acme/user:803; the session is kept. The operator must check client_id and the client secret of providers.acme","code":"provider_misconfigured"}"#,
            ),
            (
                TokenError::from(store),
                r#"30 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"threadkey's store cannot be used at the moment: its log has the reason","code":"store_unavailable"}"#,
            ),
            (
                TokenError::from(StoreError::Busy {
                    path: "/secret/place/auth.json.global.lock".into(),
                    holder: None,
                }),
                r#"5 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"threadkey's store cannot be used at the moment: its log has the reason","code":"store_unavailable"}"#,
            ),
            (
                TokenError::still_in_progress(&tenant(), Some(holder)),
                r#"1 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the refresh of acme/user:803 is still in progress: try again in a moment","code":"refresh_in_progress"}"#,
            ),
            (
                TokenError::Internal(tenant()),
                r#"- {"type":"about:blank","title":"Internal Server Error","status":500,"detail":"the refresh of acme/user:803 ended without a result. This is a defect of threadkey; nothing is lost: try again","code":"internal"}"#,
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(shown(error.into()).await, expected);
        }
    }

    #[tokio::test]
    async fn an_unauthorized_answer_names_the_bearer_scheme() {
        let response = Problem::unauthorized(Via::Socket).into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    }
}
