//! The way of every request to its route, with the work that is common to all routes.
//!
//! This work stands around the router and not in layers of it: each layer costs each request several
//! allocations, and the future of the route one more copy. Requests for a token, which are almost all of
//! them, do not pass through the router at all: its handlers are called with copies of the request's parts.
//!
//! A request is counted by its route, never by its path, which may name anything.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    http::{HeaderValue, Method, header},
    response::{IntoResponse as _, Response},
};
use hyper::{Request, body::Incoming};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;
use tower_service::Service as _;

use super::{
    browsers::BrowserGuard,
    metrics::RouteFigures,
    problem::Problem,
    routes::{TOKEN_ROUTE, document, router},
    shares::ConnectionShare,
    state::Api,
};

/// The routes of one way to the token API. Its connections share it.
pub(super) struct Dispatch {
    router: Router,
    api: Arc<Api>,
    /// The paths of the routes, with their figures.
    figures: Vec<(Template, RouteFigures)>,
    /// The figures of requests without a route.
    none: RouteFigures,
    guard: Option<BrowserGuard>,
}

/// A route's path, such as `/v1/token/{provider}`, by its segments.
struct Template(Vec<Option<String>>);

impl Template {
    fn new(path: &str) -> Self {
        let segment = |text: &str| (!text.starts_with('{')).then(|| text.to_owned());
        Self(path.split('/').map(segment).collect())
    }

    /// Whether the router gives a request with this path to the route.
    fn matches(&self, path: &str) -> bool {
        let mut segments = path.split('/');
        let fits = |wanted: &Option<String>| {
            let segment = segments.next();
            match wanted {
                Some(wanted) => segment == Some(wanted.as_str()),
                None => segment.is_some_and(|segment| !segment.is_empty()),
            }
        };
        self.0.iter().all(fits) && segments.next().is_none()
    }
}

impl Dispatch {
    /// Builds all routes. The guard is that of a way on which pages of a browser arrive.
    pub(super) fn new(api: Api, guard: Option<BrowserGuard>) -> Self {
        let api = Arc::new(api);
        let mut paths: Vec<String> = document().paths.paths.into_keys().collect();
        // The most frequent one is found first.
        paths.sort_by_key(|path| path != TOKEN_ROUTE);
        let figures = paths.iter().map(|path| (Template::new(path), RouteFigures::new(path)));
        Self {
            figures: figures.collect(),
            none: RouteFigures::new("none"),
            router: router(api.clone()),
            api,
            guard,
        }
    }

    /// Answers a request. Many requests may wait at once, so its future is small: an `async fn` would have
    /// room for its arguments twice.
    pub(super) fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        share: Arc<ConnectionShare>,
    ) -> impl Future<Output = Response> + Send {
        let started = Instant::now();
        async move {
            let figures = self.figures_of(request.uri().path());
            let refused = self.guard.and_then(|guard| guard.refusal(request.headers()));
            let mut response = if let Some(problem) = refused {
                problem.into_response()
            } else if let Some(provider) = provider_of(&request) {
                let wanted = self.api.token_request(provider, request.uri().query(), request.headers());
                // The caller may wait from here on.
                drop(request);
                match wanted {
                    Ok(wanted) => self.api.token(&share, wanted).await.into_response(),
                    Err(problem) => problem.into_response(),
                }
            } else {
                Box::pin(self.routed(request, share)).await
            };
            self.api.metrics.count_request(figures, response.status(), started.elapsed());
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
    }

    async fn routed(&self, mut request: Request<Incoming>, share: Arc<ConnectionShare>) -> Response {
        // The router's own refusal of such a path is no problem.
        if percent_decode_str(request.uri().path()).decode_utf8().is_err() {
            return Problem::invalid_request("the path is not UTF-8 after its percent-decoding")
                .into_response();
        }
        request.extensions_mut().insert(share);
        let answered: Result<_, Infallible> = self.router.clone().call(request).await;
        answered.unwrap_or_else(|never| match never {})
    }

    fn figures_of(&self, path: &str) -> &RouteFigures {
        let found = self.figures.iter().find(|(template, _)| template.matches(path));
        found.map_or(&self.none, |(_, figures)| figures)
    }
}

/// Returns the provider of a request for a token. The router takes the requests with a percent-encoded one.
fn provider_of<B>(request: &Request<B>) -> Option<&str> {
    let provider = request.uri().path().strip_prefix("/v1/token/")?;
    let is_plain = !provider.is_empty() && !provider.contains(['/', '%']);
    (is_plain && request.method() == Method::GET).then_some(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_counted_under_the_route_that_the_router_gives_it_to() {
        let template = Template::new("/v1/token/{provider}");
        for path in ["/v1/token/acme", "/v1/token/%2e", "/v1/token/{provider}"] {
            assert!(template.matches(path), "{path}");
        }
        for path in ["", "/", "/v1/token", "/v1/token/", "/v1/token/a/b", "/v1/token/a/", "v1/token/a"] {
            assert!(!template.matches(path), "{path}");
        }
    }

    #[test]
    fn only_a_plain_request_for_a_token_passes_by_the_router() {
        let provider = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).expect("a request");
            provider_of(&request).map(str::to_owned)
        };
        assert_eq!(provider(Method::GET, "/v1/token/acme?wait=1"), Some("acme".to_owned()));
        for path in ["/v1/token/", "/v1/token/acme/rejected", "/v1/token/%61cme", "/v1/sessions"] {
            assert_eq!(provider(Method::GET, path), None, "{path}");
        }
        assert_eq!(provider(Method::HEAD, "/v1/token/acme"), None);
    }
}
