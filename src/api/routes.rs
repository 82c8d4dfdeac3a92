//! The routes.
//!
//! Each route is declared by the attribute above its handler, from which the OpenAPI document has it
//! too (`openapi`).

use std::sync::{Arc, LazyLock};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    callers::Identity,
    health,
    openapi::{Anyone, NextSignIn, ReportProblems, ScopeProblems, TokenProblems, base},
    problem::Problem,
    request::{Parameters, challenges, rejected_token},
    scrape, sessions,
    shares::ConnectionShare,
    state::Api,
};
use crate::{
    agent::Holder,
    broker::{Entitlement, TokenJson},
    ids::ProviderId,
};

/// The path of the most frequent request.
pub(super) const TOKEN_ROUTE: &str = "/v1/token/{provider}";

/// The documented routes.
fn documented() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(base())
        .routes(routes!(token))
        .routes(routes!(rejected))
        .routes(routes!(insufficient_scope))
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::log_out))
        .routes(routes!(health::healthy))
        .routes(routes!(health::ready))
        .routes(routes!(scrape::scrape))
        .routes(routes!(openapi))
}

/// Returns the OpenAPI document, made anew.
pub fn document() -> OpenApi {
    documented().into_openapi()
}

/// Builds all routes.
pub(super) fn router(api: Arc<Api>) -> Router {
    Router::from(documented())
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .with_state(api)
}

/// Describes the token API: this document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "health",
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = Object), Anyone)
)]
async fn openapi() -> Response {
    // Few processes are ever asked for it.
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&document()).unwrap_or_default().into());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

/// Hands out an access token that lives for at least `min_ttl`, after a refresh where one is needed, and
/// with `wait` after the owner's sign-in.
#[utoipa::path(
    get, path = "/v1/token/{provider}", tag = "tokens", security(("capability" = []), ("operator_key" = [])),
    params(
        ("provider" = String, Path, description = "The provider.", example = "gitlab", pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$"),
        ("min_ttl" = Option<u32>, Query, description = "The remaining life that the token should have, in seconds; 60 without it.", minimum = 0, maximum = 4294967295u32),
        ("wait" = Option<u32>, Query, description = "How long to wait for the owner's sign-in without a session, in seconds; 0 without it. The owner is asked in the thread, once for all waiting calls. It changes nothing for an operator key, which has no owner to ask.", minimum = 0, maximum = 300),
        ("probe" = Option<u8>, Query, description = "1: try the token at the provider first, for at most 1.5 s. If the provider answers 401, the call counts as a report, and returns another token. Every other answer, and none, changes nothing. For programs that cannot report a rejected token; 0 without it.", minimum = 0, maximum = 1),
        ("principal" = Option<String>, Query, description = "Whose token, for an operator key; it may be left out if the key covers one principal alone. A capability has one principal, and sends none.", example = "user:80351110224678912", pattern = "^(local|(user|guild):[0-9]{1,19})$"),
    ),
    responses((status = 200, description = "The token.", body = TokenJson), TokenProblems)
)]
async fn token(
    State(api): State<Arc<Api>>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.token(&share, api.token_request(&provider, query.as_deref(), &headers)?).await
}

/// Takes the report that a resource rejected a token before its expiry, and hands out another one: the
/// stored one, or that of one refresh for all reporters.
#[utoipa::path(
    post, path = "/v1/token/{provider}/rejected", tag = "tokens", security(("capability" = []), ("operator_key" = [])),
    params(
        ("provider" = String, Path, description = "The provider.", example = "gitlab", pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$"),
        ("principal" = Option<String>, Query, description = "As for `GET /v1/token/{provider}`.", example = "user:80351110224678912", pattern = "^(local|(user|guild):[0-9]{1,19})$"),
    ),
    request_body = super::request::Rejected,
    responses((status = 200, description = "Another token.", body = TokenJson), ReportProblems)
)]
async fn rejected(
    State(api): State<Arc<Api>>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = api.caller(&headers)?;
    api.refuse_raw_tokens(&caller)?;
    let answer = async {
        match &caller.identity {
            Identity::Worker(holder) => {
                let entitlement = api.entitlement(holder, &provider).await?;
                Parameters::of(query.as_deref(), &[])?;
                let token = rejected_token(body).await?;
                api.to_worker(&caller.secret, entitlement.rejected(&token).await?)
            }
            Identity::Operator(operator) => {
                let mut query = Parameters::of(query.as_deref(), &["principal"])?;
                let tenant = api.token_tenant(operator, &provider, &mut query)?;
                let token = rejected_token(body).await?;
                let lease = api.tokens.rejected_by_operator(&operator.name, &tenant, &token).await?;
                api.to_operator(&caller.secret, lease)
            }
        }
    };
    share.run_request(caller.holding(), Box::pin(answer)).await
}

/// Takes the challenge of a resource that demands more scopes (RFC 6750 §3.1). The answer names the
/// scopes of the next sign-in, or none if the challenge changes nothing.
#[utoipa::path(
    post, path = "/v1/token/{provider}/insufficient_scope", tag = "tokens", security(("capability" = []), ("operator_key" = [])),
    params(
        ("provider" = String, Path, description = "The provider.", example = "gitlab", pattern = "^[a-z0-9][a-z0-9_.-]{0,63}$"),
        ("principal" = Option<String>, Query, description = "As for `GET /v1/token/{provider}`.", example = "user:80351110224678912", pattern = "^(local|(user|guild):[0-9]{1,19})$"),
    ),
    request_body = super::request::InsufficientScope,
    responses((status = 200, description = "The scopes of the next sign-in.", body = NextSignIn), ScopeProblems)
)]
async fn insufficient_scope(
    State(api): State<Arc<Api>>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let caller = api.caller(&headers)?;
    let answer = async {
        let scopes = match &caller.identity {
            Identity::Worker(holder) => {
                let entitlement = api.entitlement(holder, &provider).await?;
                Parameters::of(query.as_deref(), &[])?;
                entitlement.insufficient_scope(&challenges(body).await?).await?
            }
            Identity::Operator(operator) => {
                let mut query = Parameters::of(query.as_deref(), &["principal"])?;
                let tenant = api.token_tenant(operator, &provider, &mut query)?;
                api.broker.insufficient_scope(&tenant, &challenges(body).await?).await?
            }
        };
        Ok(axum::Json(NextSignIn { sign_in: scopes.is_some(), scopes: scopes.unwrap_or_default() })
            .into_response())
    };
    share.run_request(caller.holding(), Box::pin(answer)).await
}

impl Api {
    async fn entitlement(&self, holder: &Holder, provider: &str) -> Result<Entitlement<'_>, Problem> {
        let provider: ProviderId = provider.parse().map_err(|_| Problem::provider_not_allowed())?;
        Ok(self.tokens.entitlement(holder, &provider).await?)
    }
}
