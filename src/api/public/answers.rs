//! The routes of the sign-in pages.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};

use url::Url;

use super::{PublicSettings, Transport, arrival::Arrival, pages};
use crate::{
    broker::{Broker, OwnerRights, PageError},
    ids::ProviderId,
    session::{PENDING_LIFETIME, failure},
};

/// The longest body of a form. Ours is empty.
const MAX_BODY: u64 = 1024;

/// Titles of several pages.
const NOT_SIGNED_IN: &str = "Not signed in";
const NOT_YET: &str = "Not yet";
const NO_PAGE: &str = "No page here";

#[derive(Clone)]
struct Pages {
    broker: Broker,
    rights: Arc<dyn OwnerRights>,
    settings: Arc<PublicSettings>,
}

pub(super) fn router(broker: Broker, rights: Arc<dyn OwnerRights>, settings: Arc<PublicSettings>) -> Router {
    let pages = Pages { broker, rights, settings };
    let only = |route: MethodRouter<Pages>, allow: &'static str| {
        route.fallback(move || async move { not_allowed(allow) })
    };
    Router::new()
        .route("/start/{id}", only(get(start).post(open), "GET, HEAD, POST"))
        // A HEAD would exchange the code and throw the digits away.
        .route("/oauth/callback", only(get(returned).head(|| async { not_allowed("GET") }), "GET"))
        .route(
            "/oauth/callback/{provider}",
            only(get(returned_to).head(|| async { not_allowed("GET") }), "GET"),
        )
        .route("/oauth/client.json", only(get(client_document), "GET, HEAD"))
        .fallback(|| async { no_such_page() })
        .layer(from_fn_with_state(pages.clone(), guarded))
        .with_state(pages)
}

/// Shows the sign-in of a link. Changes nothing, because programs that preview links come first.
async fn start(State(pages): State<Pages>, Path(id): Path<String>) -> Response {
    match pages.broker.start_page(&id).await {
        Ok(page) => pages::start(&page).into_response(),
        Err(error) => failure(error),
    }
}

/// Binds the sign-in to this browser, and goes on to the provider.
async fn open(State(pages): State<Pages>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if !is_from_our_page(&headers, &pages.settings.url.origin()) {
        let text = "This form was not sent from its own page. Open the link from Discord again.";
        return pages::plain(StatusCode::FORBIDDEN, "Nothing was done", text);
    }
    let opened = match pages.broker.open_start(&id, &cookies(&headers), &*pages.rights).await {
        Ok(opened) => opened,
        Err(error) => return failure(error),
    };
    let cookie = format!(
        "{}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}",
        opened.cookie,
        opened.value.expose(),
        PENDING_LIFETIME.as_secs()
    );
    let (Ok(mut cookie), Ok(location)) =
        (HeaderValue::from_str(&cookie), HeaderValue::from_str(opened.location.as_str()))
    else {
        return pages::plain(StatusCode::INTERNAL_SERVER_ERROR, NOT_SIGNED_IN, "The sign-in cannot go on.");
    };
    cookie.set_sensitive(true);
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// Takes the answer of a provider whose client the operator made.
async fn returned(
    State(pages): State<Pages>,
    Extension(arrival): Extension<Arc<Arrival>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    answered(&pages, &pages.settings.url.callback(), &arrival, &headers, query.as_deref()).await
}

/// Takes the answer of a provider whose client threadkey made.
async fn returned_to(
    State(pages): State<Pages>,
    Extension(arrival): Extension<Arc<Arrival>>,
    Path(provider): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let has_callback = |id: &ProviderId| {
        let published = pages.broker.providers().undiscovered(id);
        published.is_some_and(|one| one.makes_client())
    };
    let id = provider.parse::<ProviderId>().ok().filter(has_callback);
    let Some(id) = id else { return no_such_page() };
    let callback = pages.settings.url.callback_of(&id);
    answered(&pages, &callback, &arrival, &headers, query.as_deref()).await
}

/// Takes the provider's answer from the browser. It arrived at `callback`.
async fn answered(
    pages: &Pages,
    callback: &Url,
    arrival: &Arrival,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Response {
    let query = query.unwrap_or_default();
    let (cookies, rights) = (cookies(headers), &*pages.rights);
    match pages.broker.browser_returned(callback, query, &cookies, rights, || arrival.admit()).await {
        Ok(page) => pages::digits(&page).into_response(),
        Err(error) => failure(error),
    }
}

async fn client_document(State(pages): State<Pages>) -> Response {
    match &pages.settings.client_document {
        Some(document) => axum::Json(document.as_ref()).into_response(),
        None => no_such_page(),
    }
}

fn no_such_page() -> Response {
    pages::plain(StatusCode::NOT_FOUND, NO_PAGE, "There is no such page.")
}

fn failure(error: PageError) -> Response {
    let (status, title) = match &error {
        PageError::Unknown => (StatusCode::NOT_FOUND, "This link does not work"),
        PageError::OpenedElsewhere => (StatusCode::FORBIDDEN, "Already opened in another browser"),
        PageError::WrongBrowser => (StatusCode::FORBIDDEN, "Another browser started this"),
        PageError::Denied { .. } => (StatusCode::FORBIDDEN, NOT_SIGNED_IN),
        // The sign-in goes on, so no title may deny it.
        PageError::Used => (StatusCode::GONE, "One step is left"),
        PageError::NoAnswer => (StatusCode::BAD_REQUEST, NO_PAGE),
        // The browser brought the answer of another server, or to another address.
        PageError::Failed { code, .. }
            if [failure::WRONG_ISSUER, failure::WRONG_CALLBACK].contains(&code.as_str()) =>
        {
            (StatusCode::BAD_REQUEST, NOT_SIGNED_IN)
        }
        PageError::Failed { .. } => (StatusCode::BAD_GATEWAY, NOT_SIGNED_IN),
        PageError::NotEntitled => (StatusCode::FORBIDDEN, NOT_SIGNED_IN),
        PageError::TryAgain(_) | PageError::InProgress(_) | PageError::RightsUnknown => {
            (StatusCode::SERVICE_UNAVAILABLE, NOT_YET)
        }
        PageError::Store(cause) => {
            tracing::error!(error = %cause, "a sign-in page cannot use the store");
            (StatusCode::SERVICE_UNAVAILABLE, NOT_YET)
        }
    };
    let mut response = pages::plain(status, title, &error.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
    }
    response
}

fn not_allowed(allow: &'static str) -> Response {
    let mut response =
        pages::plain(StatusCode::METHOD_NOT_ALLOWED, "Not possible", "This page cannot be used in that way.");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// All `Cookie` headers in one text.
fn cookies(headers: &HeaderMap) -> String {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.collect::<Vec<_>>().join("; ")
}

/// Whether a browser sent the form from our own page. Another site's form would skip the page, which
/// names the user.
fn is_from_our_page(headers: &HeaderMap, origin: &str) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => site == "same-origin",
        None => text(header::ORIGIN).is_none_or(|from| from == origin),
    }
}

/// Refuses requests for other hosts and with a large body, and gives each answer its protection.
async fn guarded(State(pages): State<Pages>, request: Request, next: Next) -> Response {
    let head = request.method() == Method::HEAD;
    let response = if !is_our_host(&request, &pages.settings) {
        pages::plain(StatusCode::MISDIRECTED_REQUEST, NO_PAGE, "This server does not have that name.")
    } else if declared_length(&request) > MAX_BODY {
        pages::plain(StatusCode::PAYLOAD_TOO_LARGE, "Not possible", "The request is too large.")
    } else {
        next.run(request).await
    };
    pages::protected(response, head)
}

fn declared_length(request: &Request) -> u64 {
    let length = request.headers().get(header::CONTENT_LENGTH);
    length.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// With TLS of our own, the name must be ours. A proxy may send its own name for this server, and
/// decides itself which names it serves.
fn is_our_host(request: &Request, settings: &PublicSettings) -> bool {
    if matches!(settings.transport, Transport::Proxy(_)) {
        return true;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().unwrap_or_default();
    let ours = settings.url.authority();
    host.eq_ignore_ascii_case(&ours) || host.eq_ignore_ascii_case(&format!("{ours}:443"))
}
