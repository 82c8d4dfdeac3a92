//! The parts of a request: credentials, parameters and body.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, header},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::{
    broker::{DEFAULT_MIN_TTL, LONGEST_OWNER_WAIT},
    secret::{AccessToken, Secret},
};

/// The longest body that a request may have, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// How long a body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(10);

/// A report that a resource rejected this token.
#[derive(Deserialize, ToSchema)]
pub(super) struct Rejected {
    /// The token.
    #[schema(min_length = 1)]
    access_token: String,
}

/// The challenges of a resource that demands more scopes.
#[derive(Deserialize, ToSchema)]
pub(super) struct InsufficientScope {
    /// The values of its `WWW-Authenticate` headers.
    www_authenticate: Vec<String>,
}

/// The parameters of a request. An unknown one is an error, because ignoring it could hide a mistake.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Parses the query of a request that takes parameters with the given names.
    pub(super) fn of(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(Problem::invalid_request(match known {
                    [] => "this request takes no parameters".to_owned(),
                    known => {
                        format!("there is an unknown parameter; the known ones are {}", known.join(", "))
                    }
                }));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(Problem::invalid_request(format!("{name} occurs twice: send it once")));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(found))
    }

    /// Takes the value of a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Returns the credentials of RFC 6750 §2.1. A request with two such headers has none.
pub(super) fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, None) = (all.next()?, all.next()) else { return None };
    let (scheme, credentials) = one.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(credentials.trim()))
}

/// Takes `min_ttl`, which is in whole seconds.
pub(super) fn min_ttl(query: &mut Parameters) -> Result<Duration, Problem> {
    let bad = || Problem::invalid_request("min_ttl must be a whole number of seconds");
    match query.take("min_ttl") {
        None => Ok(DEFAULT_MIN_TTL),
        Some(text) => Ok(Duration::from_secs(text.parse::<u32>().map_err(|_| bad())?.into())),
    }
}

/// Takes `probe`, which is 0 or 1.
pub(super) fn probe(query: &mut Parameters) -> Result<bool, Problem> {
    match query.take("probe").as_deref() {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(_) => Err(Problem::invalid_request("probe must be 0 or 1")),
    }
}

/// Takes `wait`, the seconds for which a request may wait for a sign-in.
pub(super) fn wait(query: &mut Parameters) -> Result<Duration, Problem> {
    let longest = LONGEST_OWNER_WAIT.as_secs();
    let bad =
        || Problem::invalid_request(format!("wait must be a whole number of seconds, at most {longest}"));
    match query.take("wait") {
        None => Ok(Duration::ZERO),
        Some(text) => match text.parse::<u32>() {
            Ok(seconds) if u64::from(seconds) <= longest => Ok(Duration::from_secs(seconds.into())),
            Ok(_) | Err(_) => Err(bad()),
        },
    }
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
        for good in ["Bearer abc", "bearer abc"] {
            assert!(bearer(&headers(&[good])).is_some_and(|secret| secret.expose() == "abc"), "{good}");
        }
        for bad in [&[][..], &["Basic abc"], &["Bearer"], &["Bearer abc", "Bearer abc"]] {
            assert!(bearer(&headers(bad)).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn min_ttl_is_accepted_once_in_whole_seconds_without_other_parameters() {
        let parsed = |query| min_ttl(&mut Parameters::of(Some(query), &["min_ttl", "wait"])?);
        assert_eq!(parsed(""), Ok(DEFAULT_MIN_TTL));
        assert_eq!(parsed("min_ttl=90&wait=0"), Ok(Duration::from_secs(90)));
        for bad in
            ["min_ttl=", "min_ttl=-1", "min_ttl=1m", "min_ttl=1&min_ttl=2", "min_tl=5", "principal=local"]
        {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wait_is_a_whole_number_of_at_most_300_seconds() {
        let parsed = |query| wait(&mut Parameters::of(Some(query), &["wait"])?);
        assert_eq!(parsed(""), Ok(Duration::ZERO));
        assert_eq!(parsed("wait=300"), Ok(Duration::from_secs(300)));
        for bad in ["wait=301", "wait=-1", "wait=", "wait=5m", "wait=1.5", "wait=99999999999999999999"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn probe_is_0_or_1() {
        let parsed = |query| probe(&mut Parameters::of(Some(query), &["probe"])?);
        assert_eq!(parsed(""), Ok(false));
        assert_eq!((parsed("probe=0"), parsed("probe=1")), (Ok(false), Ok(true)));
        for bad in ["probe=", "probe=true", "probe=1&probe=1"] {
            assert!(parsed(bad).is_err(), "{bad}");
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
