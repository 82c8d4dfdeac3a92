//! The other endpoints: userinfo, revocation, metadata.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::script::{Decided, json as json_response};
use super::shared::Shared;
use super::token::strict_form;
use super::watch::Moment;

/// OpenID Connect Core §5.3, with the errors of RFC 6750 §3.
pub(super) async fn userinfo(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let challenge = |value: &'static str| {
        let header = [(header::WWW_AUTHENTICATE, value)];
        (StatusCode::UNAUTHORIZED, header).into_response()
    };
    let Some(access_token) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
    else {
        return challenge("Bearer");
    };
    let now_ms = shared.now_ms();
    let Some(account) = shared.lock().ledger.userinfo(access_token, now_ms) else {
        return challenge("Bearer error=\"invalid_token\"");
    };
    json_response(Decided {
        status: 200,
        body: json!({
            "sub": account,
            "name": account,
            "email": format!("{account}@example.com"),
            "email_verified": true,
        }),
    })
}

/// RFC 7009: whatever the token was, afterwards it does not work, and the answer is 200.
pub(super) async fn revoke(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let form = match strict_form(&headers, &body) {
        Ok(form) => form,
        Err(refused) => return json_response(refused),
    };
    let Some(token) = form.get("token") else {
        return json_response(Decided {
            status: 400,
            body: json!({"error": "invalid_request", "error_description": "token is missing"}),
        });
    };
    {
        let mut inner = shared.lock();
        if let Some(account) = inner.ledger.revoke(token) {
            inner.log.revoked(&account);
        }
    }
    shared.changed();
    shared.watch.tell(Moment::Revoked { token });
    StatusCode::OK.into_response()
}

/// RFC 8414 §2.
pub(super) async fn metadata(State(shared): State<Arc<Shared>>) -> Response {
    let issuer = &shared.issuer;
    json_response(Decided {
        status: 200,
        body: json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{issuer}/authorize"),
            "token_endpoint": format!("{issuer}/token"),
            "revocation_endpoint": format!("{issuer}/revoke"),
            "userinfo_endpoint": format!("{issuer}/userinfo"),
            "scopes_supported": super::authorize::SCOPES,
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "authorization_response_iss_parameter_supported": true,
        }),
    })
}
