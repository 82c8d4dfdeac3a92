//! The meaning of an answer: the one table.
//!
//! Two questions decide, in this order: has the provider answered, and if not, can the token be
//! spent? The status counts before the body, because a gateway before the provider can have written
//! the body. Only a 2xx or a 4xx is the provider's own word, and only such a word ends a session.
//! The codes in an [`Outcome`] are words of this file: no part of a body gets into one.
//!
//! | result | outcome |
//! | --- | --- |
//! | the request never left | unspent |
//! | it left, no whole answer | ambiguous |
//! | 2xx with an `access_token` | granted, or a mismatch of its id token |
//! | 2xx or 4xx with a known error code (RFC 6749 §5.2, or a vendor's) | as the code defines |
//! | 2xx with anything else | ambiguous: the provider did something |
//! | 408, 425, 429, 503 | unspent, whatever the body: refused before the provider looked at it |
//! | other 4xx | unspent: refused, and no verdict |
//! | 307, 308 | unspent: "repeat it elsewhere" (RFC 9110 §15.4.8) means that nothing was done here |
//! | other 3xx | ambiguous: gateways redirect to an error page, after a time-out too |
//! | other 5xx, whatever the body | ambiguous: the provider failed, perhaps half-way |

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::{AnswerRules, Attempt, grant};
use crate::{
    secret::Nonce,
    session::{
        Grant, MAX_BACKOFF,
        journal::{Answer, Answered},
        seconds,
    },
    sys::clock::UnixTime,
};

/// The meaning of a request's result.
#[derive(Debug)]
pub enum Outcome {
    /// New tokens.
    Granted(Box<Grant>),
    /// The secret is not spent: try again later.
    Unspent {
        /// A stable word: `connect`, `http_503`, …
        code: String,
        /// The pause that `Retry-After` asked for, counted from the answer's arrival: more than
        /// zero, at most [`MAX_BACKOFF`].
        retry_after: Option<Duration>,
    },
    /// The secret may be spent. `code` begins with `ambiguous_`.
    Ambiguous {
        /// A stable word: `ambiguous_timeout`, `ambiguous_http_500`, …
        code: String,
    },
    /// The provider itself refused the request, and gave no known verdict: a 400, 401 or 403 with a
    /// whole JSON or form body. The secret is not spent.
    Refused {
        /// A stable word: `http_400`, `http_401` or `http_403`.
        code: String,
    },
    /// The provider's verdict: the grant has ended.
    Ended {
        /// `invalid_grant`, …
        code: String,
    },
    /// The operator must correct the configuration.
    Misconfigured {
        /// `invalid_client`, …
        code: String,
    },
}

/// The reason why the tokens of a sign-in are refused: its id token may belong to another sign-in
/// (OpenID Connect Core §3.1.3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The `nonce` is that of another sign-in.
    Nonce,
    /// There is no `nonce`, and PKCE does not bind the code to the sign-in.
    NoNonce,
    /// The `aud` names other clients.
    Audience,
}

/// Reads the result of a refresh.
///
/// Only a durable answer can be read:
///
/// ```compile_fail
/// # use threadkey::{oauth::{Attempt, outcome}, session::journal::Unread};
/// fn an_answer_is_not_read_before_it_is_durable(unread: Unread) {
///     let _ = outcome(&Attempt::Answered(unread), &Default::default());
/// }
/// ```
pub fn outcome(attempt: &Attempt<Answered>, rules: &AnswerRules) -> Outcome {
    read(attempt, rules).0
}

/// Reads the result of the exchange of a code. With `nonce`, an id token in the answer must belong
/// to the sign-in with this nonce.
///
/// # Errors
/// [`Mismatch`] if the id token may belong to another sign-in. The tokens must not be used.
pub fn sign_in_outcome(
    attempt: &Attempt<Answered>,
    rules: &AnswerRules,
    nonce: Option<&Nonce>,
) -> Result<Outcome, Mismatch> {
    let (outcome, claims) = read(attempt, rules);
    if let (Outcome::Granted(_), Some(claims), Some(nonce)) = (&outcome, &claims, nonce) {
        grant::check(claims, rules, nonce)?;
    }
    Ok(outcome)
}

/// Reads a result, and the claims of the id token if the answer has one.
fn read(attempt: &Attempt<Answered>, rules: &AnswerRules) -> (Outcome, Option<Map<String, Value>>) {
    let outcome = match attempt {
        Attempt::Answered(answered) => return of_answer(answered.answer(), rules),
        Attempt::NotSent(step) => Outcome::Unspent { code: (*step).to_owned(), retry_after: None },
        Attempt::Unanswered(how) => Outcome::Ambiguous { code: format!("ambiguous_{how}") },
    };
    (outcome, None)
}

fn of_answer(answer: &Answer, _rules: &AnswerRules) -> (Outcome, Option<Map<String, Value>>) {
    let status = answer.status;
    let unspent = |code: String| Outcome::Unspent {
        code,
        retry_after: retry_after(answer.retry_after.as_deref(), answer.at),
    };
    let by_status = || format!("http_{status}");
    let ambiguous = |code: &str| Outcome::Ambiguous { code: format!("ambiguous_{code}") };
    let by_code = |body: &Map<String, Value>| {
        Some(match error_code(body)? {
            (Family::Ended, code) => Outcome::Ended { code: code.to_owned() },
            (Family::Misconfigured, code) => Outcome::Misconfigured { code: code.to_owned() },
            (Family::Unspent, code) => unspent(code.to_owned()),
            (Family::Ambiguous, code) => ambiguous(code),
        })
    };
    let outcome = match status {
        200..=299 => {
            let Some(mut body) = grant::object(&answer.body) else { return (ambiguous(&by_status()), None) };
            match grant::take(&mut body) {
                Some((grant, claims)) => return (Outcome::Granted(Box::new(grant)), claims),
                None => by_code(&body).unwrap_or_else(|| ambiguous(&by_status())),
            }
        }
        408 | 425 | 429 | 503 | 307 | 308 => unspent(by_status()),
        400..=499 => match grant::object(&answer.body) {
            Some(body) => by_code(&body).unwrap_or_else(|| match status {
                400 | 401 | 403 => Outcome::Refused { code: by_status() },
                _ => unspent(by_status()),
            }),
            None => unspent(by_status()),
        },
        _ => ambiguous(&by_status()),
    };
    (outcome, None)
}

/// The meaning of an error code.
#[derive(Clone, Copy)]
enum Family {
    Ended,
    Misconfigured,
    Unspent,
    Ambiguous,
}

/// Every known error code, its meaning, and the word that is stored for it. A vendor's word for a
/// mistake in the configuration is stored as the word of RFC 6749 §5.2. To add a provider's code,
/// add a row here and its line to the table test.
const CODES: [(&str, Family, &str); 26] = [
    // RFC 6749 §5.2, RFC 8707 §2.
    ("invalid_grant", Family::Ended, "invalid_grant"),
    ("invalid_client", Family::Misconfigured, "invalid_client"),
    ("unauthorized_client", Family::Misconfigured, "unauthorized_client"),
    ("invalid_scope", Family::Misconfigured, "invalid_scope"),
    ("invalid_request", Family::Misconfigured, "invalid_request"),
    ("unsupported_grant_type", Family::Misconfigured, "unsupported_grant_type"),
    ("invalid_target", Family::Misconfigured, "invalid_target"),
    // OpenID Connect Core §3.1.2.6, which Microsoft's token endpoint uses too: the user must sign
    // in.
    ("interaction_required", Family::Ended, "interaction_required"),
    ("login_required", Family::Ended, "login_required"),
    ("consent_required", Family::Ended, "consent_required"),
    // RFC 6749 §4.1.2.1 and RFC 8628 §3.5, which token endpoints use too.
    ("temporarily_unavailable", Family::Unspent, "temporarily_unavailable"),
    ("slow_down", Family::Unspent, "slow_down"),
    ("server_error", Family::Ambiguous, "server_error"),
    // OpenAI.
    ("refresh_token_reused", Family::Ended, "refresh_token_reused"),
    ("refresh_token_expired", Family::Ended, "refresh_token_expired"),
    ("refresh_token_invalidated", Family::Ended, "refresh_token_invalidated"),
    ("token_expired", Family::Ended, "token_expired"),
    // GitHub.
    ("bad_refresh_token", Family::Ended, "bad_refresh_token"),
    ("bad_verification_code", Family::Ended, "bad_verification_code"),
    ("incorrect_client_credentials", Family::Misconfigured, "invalid_client"),
    ("redirect_uri_mismatch", Family::Misconfigured, "invalid_request"),
    // Slack.
    ("invalid_refresh_token", Family::Ended, "invalid_refresh_token"),
    ("token_revoked", Family::Ended, "token_revoked"),
    ("invalid_code", Family::Ended, "invalid_code"),
    ("invalid_client_id", Family::Misconfigured, "invalid_client"),
    ("bad_client_secret", Family::Misconfigured, "invalid_client"),
];

/// The known error code in a body: `error` (RFC 6749 §5.2), or `code` or `type` of an `error` that
/// is an object, or a bare `code`. The first known code counts. An unknown code is no verdict.
fn error_code(body: &Map<String, Value>) -> Option<(Family, &'static str)> {
    let error = body.get("error");
    let nested = |key| error.and_then(|error| error.get(key));
    [error, nested("code"), nested("type"), body.get("code")]
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .find_map(|text| CODES.iter().find(|(code, ..)| *code == text))
        .map(|&(_, family, word)| (family, word))
}

/// `Retry-After` (RFC 9110 §10.2.3), seconds or a date. `None` if it is absent, unreadable or in
/// the past; then the usual backoff applies.
fn retry_after(header: Option<&str>, at: UnixTime) -> Option<Duration> {
    let header = header?.trim();
    let asked = if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(header.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(header).ok()?;
        let until = seconds(date.duration_since(UNIX_EPOCH).ok()?);
        Duration::from_secs(until.saturating_sub(at).try_into().ok()?)
    };
    (!asked.is_zero()).then(|| asked.min(MAX_BACKOFF))
}

#[cfg(test)]
mod tests;
