//! The headers of forwarded requests and answers.
//!
//! Many servers read `_` in a header's name as `-`: by CGI and its descendants, both are one variable.
//! So a header that a caller may not set is removed in both spellings.

use std::{borrow::Cow, sync::Arc};

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
const OVERRIDES: [&str; 13] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-rewrite-url",
    "forwarded",
    "x-host",
    "x-original-host",
    "x-http-host-override",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
];

/// Headers of a message that the client sets itself, and cookies.
const MESSAGE: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::COOKIE];

/// The headers that a route sets itself, with `-` for `_`. Cheap to clone.
#[derive(Clone)]
pub(super) struct OwnHeaders(Arc<[String]>);

impl OwnHeaders {
    /// Takes the place of the token, the fixed headers and the claims. A default header is the caller's.
    pub(super) fn of(route: &InjectRoute) -> Self {
        let credential = match &route.credential {
            Credential::Header(name) => Some(name),
            Credential::Bearer | Credential::Basic(_) => None,
        };
        let fixed = route.headers.fixed.iter().map(|(name, _)| name);
        let claims = route.headers.claims.iter().map(|(name, _)| name);
        Self(fixed.chain(claims).chain(credential).map(|name| with_dashes(name).into_owned()).collect())
    }
}

#[cfg(test)]
impl OwnHeaders {
    pub(super) fn none() -> Self {
        Self([].into())
    }
}

/// Returns a name with `-` for `_`.
fn with_dashes(name: &HeaderName) -> Cow<'_, str> {
    let name = name.as_str();
    if name.contains('_') { name.replace('_', "-").into() } else { name.into() }
}

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

/// Removes the headers that are unwanted. A message has fewer headers than there are unwanted names, so
/// these are not looked up one by one.
fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Removes the trailers of a request that would be no headers of it (RFC 9110 §6.5.1).
pub(super) fn prepare_trailers(trailers: &mut HeaderMap, own: &OwnHeaders) {
    remove_hop_by_hop(trailers);
    remove_reserved(trailers, own);
}

/// Removes the headers that no caller sets: its credentials and cookies, those of the connection and of
/// the frame, those that give a request another method, path or origin, and those of the route.
fn remove_reserved(headers: &mut HeaderMap, own: &OwnHeaders) {
    remove(headers, |name| {
        let name = with_dashes(name);
        CREDENTIALS.iter().chain(&HOP_BY_HOP).chain(&MESSAGE).any(|one| one.as_str() == name)
            || OVERRIDES.contains(&&*name)
            || name.starts_with("x-forwarded")
            || own.0.iter().any(|one| *one == name)
    });
}

/// Prepares a request's headers: those that no caller sets are removed, and those of the route are set.
/// The client adds host and length.
pub(super) fn prepare(headers: &mut HeaderMap, route: &RouteHeaders, own: &OwnHeaders) {
    let takes_trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.split(',').any(|part| part.trim() == "trailers"))
    });
    remove_hop_by_hop(headers);
    remove_reserved(headers, own);
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
    unite_lengths(headers);
    headers.remove(header::SET_COOKIE);
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    let led = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let led = led.and_then(|text| target::location(route, base, sent, text));
    if let Some(value) = led.and_then(|text| HeaderValue::from_str(&text).ok()) {
        headers.insert(header::LOCATION, value);
    }
}

/// Makes one length of equal ones, which are valid in an answer, and removes different ones. The client
/// has refused these where the answer has a body (RFC 9112 §6.3).
fn unite_lengths(headers: &mut HeaderMap) {
    let Entry::Occupied(mut lengths) = headers.entry(header::CONTENT_LENGTH) else { return };
    let mut values = lengths.iter();
    if let (Some(one), None) = (values.next(), values.next())
        && one.as_bytes().iter().all(u8::is_ascii_digit)
    {
        return;
    }
    let all: Vec<String> = lengths
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|length| length.trim().to_owned())
        .collect();
    match HeaderValue::from_str(&all[0]) {
        Ok(length) if all.iter().all(|other| *other == all[0]) => {
            lengths.insert(length);
        }
        _ => {
            lengths.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Trust;

    fn name(text: &str) -> HeaderName {
        text.parse().expect("a name")
    }

    /// A route with a header of each kind.
    fn route() -> InjectRoute {
        let pair = |name: &'static str| (HeaderName::from_static(name), HeaderValue::from_static("ours"));
        InjectRoute {
            name: "acme".parse().expect("a name"),
            provider: "acme".parse().expect("a name"),
            upstream: "https://api.example".parse().expect("a URL"),
            trust: Trust::default(),
            credential: Credential::Header(name("x-token")),
            headers: RouteHeaders {
                fixed: vec![pair("x-fixed"), pair("odd_fixed")],
                default: vec![pair("x-default")],
                appended: vec![pair("x-appended")],
                claims: vec![(name("x-claim"), vec!["sub".to_owned()])],
            },
            methods: Vec::new(),
            path_prefixes: Vec::new(),
        }
    }

    #[test]
    fn a_caller_takes_no_place_of_the_routes_headers_in_either_spelling() {
        let (route, own) = (route(), OwnHeaders::of(&route()));
        let theirs = [
            "X-Token",
            "x_token",
            "X-Fixed",
            "x_fixed",
            "odd-fixed",
            "odd_fixed",
            "x_claim",
            "X-Claim",
            "x_api_key",
            "private_token",
            "content_length",
            "transfer_encoding",
            "proxy_authorization",
            "x_forwarded_for",
        ];
        let all: HeaderMap =
            theirs.iter().map(|text| (name(text), HeaderValue::from_static("theirs"))).collect();
        let mut trailers = all.clone();
        prepare_trailers(&mut trailers, &own);
        assert!(trailers.is_empty(), "{trailers:?}");
        let mut headers = all;
        for text in ["x-default", "x-appended", "session_id"] {
            headers.insert(name(text), HeaderValue::from_static("mine"));
        }
        prepare(&mut headers, &route.headers, &own);
        assert!(put_in(&mut headers, &route, &AccessToken::new("live")));
        let left: std::collections::BTreeMap<&str, &str> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
        let expected = [
            ("odd_fixed", "ours"),
            ("session_id", "mine"),
            ("x-appended", "mine,ours"),
            ("x-default", "mine"),
            ("x-fixed", "ours"),
            ("x-token", "live"),
        ];
        assert_eq!(left, expected.into());
    }
}
