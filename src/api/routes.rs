//! The routes, and the answer to each request.

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use tokio::sync::watch;

use super::{
    problem::Problem,
    request::{bearer, challenges, min_ttl, rejected_token},
    shares::ConnectionShare,
};
use crate::{
    agent::{Capabilities, Holder},
    broker::{Broker, Entitlement, Lease, TokenJson, WorkerTokens},
    ids::ProviderId,
};

#[derive(Clone)]
struct Api {
    broker: Broker,
    capabilities: Arc<Capabilities>,
    tokens: WorkerTokens,
    bot: Option<watch::Receiver<bool>>,
    /// Whether workers get tokens by the injecting proxy alone.
    inject_only: bool,
}

/// Builds all routes. `bot` is whether the bot is connected to Discord, if there is one.
pub(super) fn router(
    broker: Broker,
    capabilities: Arc<Capabilities>,
    tokens: WorkerTokens,
    bot: Option<watch::Receiver<bool>>,
    inject_only: bool,
) -> Router {
    Router::new()
        .route("/v1/token/{provider}", get(token).fallback(|| async { Problem::method_not_allowed("GET") }))
        .route(
            "/v1/token/{provider}/rejected",
            post(rejected).fallback(|| async { Problem::method_not_allowed("POST") }),
        )
        .route(
            "/v1/token/{provider}/insufficient_scope",
            post(insufficient_scope).fallback(|| async { Problem::method_not_allowed("POST") }),
        )
        .route("/healthz", get(healthy).fallback(|| async { Problem::method_not_allowed("GET") }))
        .route("/readyz", get(ready).fallback(|| async { Problem::method_not_allowed("GET") }))
        .fallback(|| async { Problem::not_found() })
        .layer(from_fn(never_stored))
        .with_state(Api { broker, capabilities, tokens, bot, inject_only })
}

async fn healthy() -> &'static str {
    "ok\n"
}

/// The process is ready if the store can be read and every token from a provider is saved. Tokens need
/// no Discord, so a bot that is not connected is ready too, and the second line of the answer names
/// that.
async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.broker.status(&[]).await.map_err(|error| Problem::from(&error))?;
    match api.broker.unsaved().len() {
        0 if api.bot.is_some_and(|is_connected| !*is_connected.borrow()) => {
            Ok("ready\ndiscord: not connected, trying again\n")
        }
        0 => Ok("ready\n"),
        waiting => Err(Problem::unsaved(waiting)),
    }
}

async fn token(
    State(api): State<Api>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let holder = api.token_holder(&headers)?;
    let answer = async {
        let entitlement = api.entitlement(&holder, &provider).await?;
        let min_ttl = min_ttl(query.as_deref().unwrap_or_default())?;
        api.answer(&headers, &entitlement.token(min_ttl).await?)
    };
    share.run_request(holder.conversation.id, answer).await
}

async fn rejected(
    State(api): State<Api>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let holder = api.token_holder(&headers)?;
    let answer = async {
        let entitlement = api.entitlement(&holder, &provider).await?;
        let token = rejected_token(body).await?;
        api.answer(&headers, &entitlement.rejected(&token).await?)
    };
    share.run_request(holder.conversation.id, answer).await
}

/// Takes the challenge of a resource that demands more scopes. The answer names the scopes of the next
/// sign-in, or none if the challenge changes nothing.
async fn insufficient_scope(
    State(api): State<Api>,
    Extension(share): Extension<Arc<ConnectionShare>>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let holder = api.holder(&headers)?;
    let answer = async {
        let entitlement = api.entitlement(&holder, &provider).await?;
        let scopes = entitlement.insufficient_scope(&challenges(body).await?).await?;
        Ok(axum::Json(serde_json::json!({"sign_in": scopes.is_some(), "scopes": scopes.unwrap_or_default()}))
            .into_response())
    };
    share.run_request(holder.conversation.id, answer).await
}

impl Api {
    /// Returns the holder of the capability that the request presents.
    fn holder(&self, headers: &HeaderMap) -> Result<Holder, Problem> {
        let presented = bearer(headers).ok_or_else(Problem::unauthorized)?;
        self.capabilities.holder(presented).ok_or_else(Problem::unauthorized)
    }

    /// Returns the holder of the capability if its worker may hold access tokens.
    fn token_holder(&self, headers: &HeaderMap) -> Result<Holder, Problem> {
        let holder = self.holder(headers)?;
        if self.inject_only { Err(Problem::raw_tokens_disabled()) } else { Ok(holder) }
    }

    async fn entitlement(&self, holder: &Holder, provider: &str) -> Result<Entitlement<'_>, Problem> {
        let provider: ProviderId = provider.parse().map_err(|_| Problem::provider_not_allowed())?;
        Ok(self.tokens.entitlement(holder, &provider).await?)
    }

    /// Answers with the token if the capability is still live. A refresh takes a while, and the
    /// worker may have ended meanwhile.
    fn answer(&self, headers: &HeaderMap, lease: &Lease) -> Result<Response, Problem> {
        let holder = self.holder(headers)?;
        let (conversation, tenant) = (holder.conversation.id, &lease.tenant);
        tracing::debug!(%conversation, %tenant, generation = lease.generation, "a worker was given a token");
        Ok(axum::Json(TokenJson::from(lease)).into_response())
    }
}

async fn never_stored(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
