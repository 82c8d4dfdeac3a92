//! The headers of forwarded requests and answers.

use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{self, Entry},
};
use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    route::{CREDENTIALS, Credential, HOP_BY_HOP, InjectRoute, RouteHeaders},
    target,
};
use crate::secret::AccessToken;

/// Keeps a reverse proxy before us from buffering the answer.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Headers by which frameworks and gateways take another method, path or origin than the request's own.
const OVERRIDES: [&str; 7] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-rewrite-url",
    "forwarded",
];

/// Removes the headers of one connection: the known ones, and those that `Connection` names (RFC 9110
/// §7.6.1).
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    remove(headers, |name| HOP_BY_HOP.contains(name) || named.contains(name));
}

/// Removes the headers that `is_unwanted`. A message has fewer headers than there are unwanted names, so
/// they are not looked up one by one.
fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Removes the headers or trailers of a request that reach no upstream: those of the connection, its
/// credentials, its host and length, its cookies and its overrides (RFC 9110 §6.5.1).
pub(super) fn remove_unforwarded(headers: &mut HeaderMap) {
    const OWN: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::COOKIE];
    remove_hop_by_hop(headers);
    remove(headers, |name| CREDENTIALS.contains(name) || OWN.contains(name) || is_override(name));
}

/// Whether a header gives a request another method, path or origin. A gateway joins names with `_` and
/// names with `-`.
fn is_override(name: &HeaderName) -> bool {
    let joined;
    let name = match name.as_str() {
        name if name.contains('_') => {
            joined = name.replace('_', "-");
            &*joined
        }
        name => name,
    };
    OVERRIDES.contains(&name) || name.starts_with("x-forwarded")
}

/// Prepares a request's headers: those of the caller's connection, its credentials, its cookies, its
/// overrides and its length are removed, and those of the route are set. The client adds host and
/// length.
pub(super) fn prepare(headers: &mut HeaderMap, route: &RouteHeaders) {
    let takes_trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim() == "trailers"))
    });
    remove_unforwarded(headers);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    for (name, value) in &route.fixed {
        headers.insert(name, value.clone());
    }
    for (name, value) in &route.default {
        if let Entry::Vacant(entry) = headers.entry(name) {
            entry.insert(value.clone());
        }
    }
    for (name, value) in &route.appended {
        append(headers, name, value);
    }
    // The caller cannot take the place of a claim.
    for (name, _) in &route.claims {
        headers.remove(name);
    }
}

/// Adds the elements of a list that a header does not have.
fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let present = headers.get_all(name).iter().map(text).collect::<Vec<_>>().join(",");
    let elements = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
    let mut all = elements(&present);
    all.retain(|element| !element.is_empty());
    for element in elements(&text(value)) {
        if !all.contains(&element) {
            all.push(element);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&all.join(",")) {
        headers.insert(name, value);
    }
}

/// Puts the token into a request's headers. Returns false if it cannot stand in one.
pub(super) fn put_in(headers: &mut HeaderMap, route: &InjectRoute, token: &AccessToken) -> bool {
    let (name, text) = match &route.credential {
        Credential::Bearer => (&header::AUTHORIZATION, format!("Bearer {}", token.expose())),
        Credential::Basic(user) => (
            &header::AUTHORIZATION,
            format!("Basic {}", STANDARD.encode(format!("{user}:{}", token.expose()))),
        ),
        Credential::Header(name) => (name, token.expose().to_owned()),
    };
    let Ok(mut value) = HeaderValue::from_str(&text) else { return false };
    value.set_sensitive(true);
    headers.insert(name, value);
    for (name, path) in &route.headers.claims {
        if let Some(value) = claim(token, path).and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
    true
}

/// Returns a claim of a token that is a JWT. Its signature does not count: the claim goes to the same
/// server as the token.
fn claim(token: &AccessToken, path: &[String]) -> Option<String> {
    let payload = URL_SAFE_NO_PAD.decode(token.expose().split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
    match path.iter().try_fold(&claims, |value, name| value.get(name))? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Prepares an answer's headers. Cookies are removed: one that stands for the login would outlive the
/// worker's secret.
pub(super) fn prepare_answer(headers: &mut HeaderMap, route: &InjectRoute, base: &str, sent: &Uri) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    headers.remove(header::SET_COOKIE);
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    let led = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let led = led.and_then(|text| target::location(route, base, sent, text));
    if let Some(value) = led.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::LOCATION, value);
    }
}
