//! The parts of a request: credentials, parameters and body.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;

use super::problem::Problem;
use crate::{broker::DEFAULT_MIN_TTL, secret::AccessToken};

/// The longest body that a request may have, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The body of `POST /v1/token/{provider}/rejected`.
#[derive(Deserialize)]
struct Rejected {
    access_token: String,
}

/// The body of `POST /v1/token/{provider}/insufficient_scope`.
#[derive(Deserialize)]
struct InsufficientScope {
    www_authenticate: Vec<String>,
}

/// Returns the credentials of RFC 6750 §2.1. A request with two such headers has none.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, None) = (all.next()?, all.next()) else { return None };
    let (scheme, credentials) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credentials.trim())
}

/// Returns `min_ttl`, which is in whole seconds. An unknown parameter is an error, because ignoring
/// it could hide a mistake.
pub(super) fn min_ttl(query: &str) -> Result<Duration, Problem> {
    let mut found = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "min_ttl" if found.is_some() => {
                return Err(Problem::invalid_request("min_ttl occurs twice: send it once"));
            }
            "min_ttl" => {
                let bad = || Problem::invalid_request("min_ttl must be a whole number of seconds");
                found = Some(Duration::from_secs(value.parse::<u32>().map_err(|_| bad())?.into()));
            }
            "wait" if value == "0" => {}
            "wait" => {
                return Err(Problem::invalid_request(
                    "this version cannot wait for a sign-in: send the request without wait",
                ));
            }
            _ => return Err(Problem::invalid_request("the only parameter is min_ttl")),
        }
    }
    Ok(found.unwrap_or(DEFAULT_MIN_TTL))
}

/// Reads the token that a resource rejected from a request's body.
pub(super) async fn rejected_token(body: Body) -> Result<AccessToken, Problem> {
    parse_rejected(&whole(body).await?).map_err(Problem::invalid_request)
}

/// Reads the challenges of a resource from a request's body.
pub(super) async fn challenges(body: Body) -> Result<Vec<String>, Problem> {
    let parsed = serde_json::from_slice(&whole(body).await?);
    let parsed: InsufficientScope = parsed
        .map_err(|_| Problem::invalid_request("the body must be {\"www_authenticate\": [\"Bearer …\"]}"))?;
    Ok(parsed.www_authenticate)
}

/// Parses the body. An error repeats no part of it, because it may hold a token.
fn parse_rejected(body: &[u8]) -> Result<AccessToken, &'static str> {
    let parsed: Rejected =
        serde_json::from_slice(body).map_err(|_| "the body must be {\"access_token\": \"…\"}")?;
    let token = AccessToken::new(parsed.access_token);
    if token.expose().is_empty() { Err("access_token is empty") } else { Ok(token) }
}

async fn whole(body: Body) -> Result<Bytes, Problem> {
    let read = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_WITHIN, read).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::content_too_large(MAX_BODY)),
        Ok(Err(_)) => Err(Problem::invalid_request("the body ended too early")),
        Err(_) => Err(Problem::request_timeout(BODY_WITHIN)),
    }
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
    fn only_a_single_bearer_header_is_accepted() {
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer abc"])), Some("abc"));
        for bad in [&[][..], &["Basic abc"], &["Bearer"], &["Bearer abc", "Bearer abc"]] {
            assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn min_ttl_is_accepted_once_in_whole_seconds_without_other_parameters() {
        assert_eq!(min_ttl(""), Ok(DEFAULT_MIN_TTL));
        assert_eq!(min_ttl("min_ttl=90&wait=0"), Ok(Duration::from_secs(90)));
        for bad in ["min_ttl=", "min_ttl=-1", "min_ttl=1m", "min_ttl=1&min_ttl=2", "wait=5", "min_tl=5"] {
            assert!(min_ttl(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rejected_report_without_a_token_is_refused_without_repeating_it() {
        assert_eq!(parse_rejected(br#"{"access_token":"a"}"#).map(|t| t.expose().to_owned()), Ok("a".into()));
        for bad in
            [&b"canary"[..], br#"{"access_token":5}"#, br#"{"access_token":""}"#, br#"{"token":"canary"}"#]
        {
            let error = parse_rejected(bad).expect_err("it has no token");
            assert!(!error.contains("canary"));
        }
    }
}
