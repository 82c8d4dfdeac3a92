//! The secret that a request presents, wherever its tool puts a key.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode;

use super::route::CREDENTIALS;
use crate::secret::Secret;

/// Returns the secret that `is_live` accepts. It may be in `Authorization` (Bearer, token or Basic), in
/// the key headers of APIs, or in the parameter `key` of the URL.
pub(super) fn find(headers: &HeaderMap, uri: &Uri, is_live: impl Fn(&str) -> bool) -> Option<Secret> {
    let in_headers = CREDENTIALS.into_iter().flat_map(|name| headers.get_all(name)).flat_map(candidates);
    let in_query = uri.query().unwrap_or_default();
    let in_query = url::form_urlencoded::parse(in_query.as_bytes())
        .filter(|(name, _)| name == "key")
        .map(|(_, value)| Secret::new(value));
    in_headers.chain(in_query).find(|secret| !secret.is_empty() && is_live(secret.expose()))
}

/// Returns the texts of a header that may be the secret.
fn candidates(value: &HeaderValue) -> Vec<Secret> {
    let Ok(text) = value.to_str() else { return Vec::new() };
    let (scheme, rest) = text.split_once(' ').unwrap_or(("", text));
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
            Some(pair) => pair,
            None => return Vec::new(),
        };
        return vec![Secret::new(password), Secret::new(user)];
    }
    match scheme {
        "" => vec![Secret::new(text.trim())],
        _ if scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token") => {
            vec![Secret::new(rest)]
        }
        _ => Vec::new(),
    }
}

/// Returns the query without the parameters `key` that are the secret.
pub(super) fn remaining_query(query: &str, secret: &Secret) -> Option<String> {
    let is_secret = |part: &str| {
        let pair = url::form_urlencoded::parse(part.as_bytes()).next();
        pair.is_some_and(|(name, value)| name == "key" && value == secret.expose())
    };
    let kept: Vec<&str> = query.split('&').filter(|part| !is_secret(part)).collect();
    (!kept.is_empty()).then(|| kept.join("&"))
}

/// How often a text is decoded in the search for a secret.
const MAX_DECODINGS: usize = 3;

/// All secrets of one worker, none of which may reach an upstream: those of its port, and its capability.
/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Secrets(Arc<[Secret]>);

impl Secrets {
    pub(super) fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self(secrets.into_iter().collect())
    }

    /// Whether a secret is in a request that is about to be forwarded, plain or percent-encoded.
    pub(super) fn are_in(&self, method: &Method, headers: &HeaderMap, uri: &Uri) -> bool {
        self.are_in_text(method.as_str().as_bytes())
            || self.are_in_text(uri.path().as_bytes())
            || uri.query().is_some_and(|query| self.are_in_text(query.as_bytes()))
            || self.are_in_headers(headers)
    }

    /// Whether a secret is in headers or trailers that are about to be forwarded.
    pub(super) fn are_in_headers(&self, headers: &HeaderMap) -> bool {
        let is_one = |text: &Secret| self.0.iter().any(|secret| secret.expose() == text.expose());
        headers.keys().any(|name| self.are_in_name(name.as_str().as_bytes()))
            || headers
                .values()
                .any(|value| self.are_in_text(value.as_bytes()) || candidates(value).iter().any(is_one))
    }

    /// Whether a header's name has a secret. It is lower case, from which a secret could be guessed.
    fn are_in_name(&self, name: &[u8]) -> bool {
        self.0.iter().any(|secret| {
            let wanted = secret.expose().as_bytes();
            name.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted))
        })
    }

    fn are_in_text(&self, text: &[u8]) -> bool {
        let holds_one = |text: &[u8]| {
            let holds = |secret: &Secret| {
                let wanted = secret.expose().as_bytes();
                text.windows(wanted.len()).any(|part| part == wanted)
            };
            self.0.iter().any(holds)
        };
        if holds_one(text) {
            return true;
        }
        if !text.contains(&b'%') {
            return false;
        }
        let mut decoded = text.to_vec();
        for _ in 0..MAX_DECODINGS {
            if !decoded.contains(&b'%') {
                return false;
            }
            decoded = percent_decode(&decoded).collect();
            if holds_one(&decoded) {
                return true;
            }
        }
        false
    }
}
