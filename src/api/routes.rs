//! Which request is answered how.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::{
    answer::{TokenAnswer, rejected_token},
    problem::Problem,
    shares::Visit,
};
use crate::{
    agent::{Capabilities, Holder},
    broker::{Broker, DEFAULT_MIN_TTL, Lease},
    ids::{ProviderId, Tenant},
};

/// The longest body that a request may have, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Api {
    broker: Broker,
    capabilities: Arc<Capabilities>,
}

/// All routes.
pub(super) fn router(broker: Broker, capabilities: Arc<Capabilities>) -> Router {
    Router::new()
        .route("/v1/token/{provider}", get(token).fallback(|| async { Problem::method_not_allowed("GET") }))
        .route(
            "/v1/token/{provider}/rejected",
            post(rejected).fallback(|| async { Problem::method_not_allowed("POST") }),
        )
        .route("/healthz", get(healthy).fallback(|| async { Problem::method_not_allowed("GET") }))
        .route("/readyz", get(ready).fallback(|| async { Problem::method_not_allowed("GET") }))
        .fallback(|| async { Problem::not_found() })
        .layer(from_fn(never_stored))
        .with_state(Api { broker, capabilities })
}

async fn healthy() -> &'static str {
    "ok\n"
}

/// Ready means: the store can be read, and everything that a provider gave out is saved.
async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.broker.status(&[]).await.map_err(|error| Problem::from(&error))?;
    match api.broker.unsaved().len() {
        0 => Ok("ready\n"),
        waiting => Err(Problem::unsaved(waiting)),
    }
}

async fn token(
    State(api): State<Api>,
    Extension(visit): Extension<Arc<Visit>>,
    Path(provider): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let holder = api.holder(&headers)?;
    let given = async {
        let tenant = api.tenant(&holder, &provider).await?;
        let min_ttl = min_ttl(query.as_deref().unwrap_or_default())?;
        let lease = api.broker.token(&tenant, min_ttl).await?;
        api.hand_out(&headers, &lease)
    };
    visit.of(holder.conversation.id, given).await
}

async fn rejected(
    State(api): State<Api>,
    Extension(visit): Extension<Arc<Visit>>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let holder = api.holder(&headers)?;
    let given = async {
        let tenant = api.tenant(&holder, &provider).await?;
        let token = rejected_token(&whole(body).await?).map_err(Problem::invalid_request)?;
        let lease = api.broker.rejected(&tenant, &token).await?;
        api.hand_out(&headers, &lease)
    };
    visit.of(holder.conversation.id, given).await
}

impl Api {
    fn holder(&self, headers: &HeaderMap) -> Result<Holder, Problem> {
        bearer(headers).and_then(|shown| self.capabilities.holder(shown)).ok_or_else(Problem::unauthorized)
    }

    /// The tenant behind the provider that a worker names.
    async fn tenant(&self, holder: &Holder, provider: &str) -> Result<Tenant, Problem> {
        let provider: ProviderId = provider.parse().map_err(|_| Problem::provider_not_allowed())?;
        if !holder.providers.contains(&provider) {
            return Err(Problem::provider_not_allowed());
        }
        if self.broker.providers().get(&provider).is_none() {
            return Err(Problem::unknown_provider(&provider));
        }
        let conversation = &holder.conversation;
        let resolved = self.broker.resolve(&provider, conversation.owner, conversation.shared_guild).await;
        resolved.map_err(|error| Problem::from(&error))
    }

    /// To whoever still has the capability: a refresh takes a while, and the worker may have been ended meanwhile.
    fn hand_out(&self, headers: &HeaderMap, lease: &Lease) -> Result<Response, Problem> {
        let holder = self.holder(headers)?;
        self.capabilities.note_given(lease.access_token.fingerprint());
        let (conversation, tenant) = (holder.conversation.id, &lease.tenant);
        tracing::debug!(%conversation, %tenant, generation = lease.generation, "a worker was given a token");
        Ok(axum::Json(TokenAnswer::from(lease)).into_response())
    }
}

/// The credentials of RFC 6750 §2.1; one header, not several.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, None) = (all.next()?, all.next()) else { return None };
    let (scheme, credentials) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

/// `min_ttl` in whole seconds. What is not understood is refused rather than passed over.
fn min_ttl(query: &str) -> Result<Duration, Problem> {
    let mut found = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "min_ttl" if found.is_some() => {
                return Err(Problem::invalid_request("min_ttl is there twice"));
            }
            "min_ttl" => {
                let bad = || Problem::invalid_request("min_ttl has to be a whole number of seconds");
                found = Some(Duration::from_secs(value.parse::<u32>().map_err(|_| bad())?.into()));
            }
            "wait" if value == "0" => {}
            "wait" => {
                return Err(Problem::invalid_request(
                    "this version cannot wait for a sign-in: leave wait out",
                ));
            }
            _ => return Err(Problem::invalid_request("the only parameter is min_ttl")),
        }
    }
    Ok(found.unwrap_or(DEFAULT_MIN_TTL))
}

async fn whole(body: Body) -> Result<Bytes, Problem> {
    let read = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_WITHIN, read).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::content_too_large(MAX_BODY)),
        Ok(Err(_)) => Err(Problem::invalid_request("the body did not come whole")),
        Err(_) => Err(Problem::request_timeout()),
    }
}

async fn never_stored(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn one_bearer_header_counts_and_anything_else_is_none() {
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])), Some("abc"));
        for bad in [&[][..], &["Basic abc"], &["Bearer"], &["Bearer abc", "Bearer abc"]] {
            assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn min_ttl_is_whole_seconds_once_and_nothing_else_is_taken() {
        assert_eq!(min_ttl(""), Ok(DEFAULT_MIN_TTL));
        assert_eq!(min_ttl("min_ttl=90&wait=0"), Ok(Duration::from_secs(90)));
        for bad in ["min_ttl=", "min_ttl=-1", "min_ttl=1m", "min_ttl=1&min_ttl=2", "wait=5", "min_tl=5"] {
            assert!(min_ttl(bad).is_err(), "{bad}");
        }
    }
}
