//! The meaning of an answer: the one table.
//!
//! Two questions decide, in this order: has the provider answered, and if not, can the token be
//! spent? The status counts before the body, because a gateway before the provider can have written
//! the body. Only a 2xx or a 4xx is the provider's own word, and only such a word ends a session.
//! The codes in an [`Outcome`] are words of this file: no part of a body gets into one.
//!
//! A pair of tokens without a success is ambiguous under any status, except beside a verdict: the
//! token is spent, and the pair may be the only copy ([`may_hold_tokens`]).
//!
//! | result | outcome |
//! | --- | --- |
//! | the request never left | unspent |
//! | it left, no status line arrived | ambiguous |
//! | 2xx with an `access_token` and no error | granted, or a mismatch of its id token |
//! | the same for a refresh, with an id token of another account or client | foreign |
//! | 2xx or 4xx with a known error code (RFC 6749 §5.2, or a vendor's) | as the code defines; an end of the grant only with 2xx, 400, 401 or 403 |
//! | 400 or 401 with a sentence about the end of the refresh token alone | ended |
//! | 2xx with anything else | ambiguous: the provider did something |
//! | 407, 408, 425, 429, 503 | unspent, whatever the body: refused before the provider looked at it |
//! | other 400, 401, 403 with a whole JSON or form body | refused by the provider, without a verdict |
//! | other 4xx | unspent: a proxy or a firewall can have written it |
//! | 307, 308 | unspent: "repeat it elsewhere" (RFC 9110 §15.4.8) means that nothing was done here |
//! | other 3xx | ambiguous: gateways redirect to an error page, after a time-out too |
//! | other 5xx, whatever the body | ambiguous: the provider failed, perhaps half-way |

use std::time::{Duration, UNIX_EPOCH};

use super::{
    AnswerRules, Attempt, Mismatch,
    content::{Content, names_token},
    grant,
    id_token::Received,
    verdict::{Family, verdict},
};
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
    /// The tokens of a refresh are those of another account or client, as their id token shows
    /// (OpenID Connect Core §12.2). The secret is spent, and the tokens must not be used.
    Foreign {
        /// The claim that differs: `sub`, `iss` or `aud`.
        claim: &'static str,
    },
    /// The operator must correct the configuration.
    Misconfigured {
        /// `invalid_client`, …
        code: String,
    },
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
    let (mut outcome, id_token) = read(attempt, rules, true);
    if let (Outcome::Granted(grant), Some(id_token)) = (&mut outcome, id_token) {
        if let Some(claim) = id_token.foreign_claim(rules) {
            return Outcome::Foreign { claim };
        }
        if let Err(fault) = id_token.check(rules, arrived_at(attempt)) {
            tracing::warn!(%fault, "the id token of a refresh is ignored");
            grant.identity = None;
        }
    }
    outcome
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
    let (mut outcome, id_token) = read(attempt, rules, false);
    if let (Outcome::Granted(grant), Some(id_token)) = (&mut outcome, id_token) {
        let at = arrived_at(attempt);
        match nonce {
            Some(nonce) => id_token.check_sign_in(rules, nonce, at)?,
            // The sign-in did not ask for it, so it costs no tokens.
            None => {
                if let Err(fault) = id_token.check(rules, at) {
                    tracing::warn!(%fault, "an id token that was not asked for is ignored");
                    grant.identity = None;
                }
            }
        }
    }
    Ok(outcome)
}

/// Reads the answer that begins a sign-in, which is not a success.
pub(super) fn of_opening(answer: &Answer) -> Outcome {
    by_table(answer, &AnswerRules::default(), false).0
}

/// Returns the time of an answer's arrival. An answer from a journal may be old.
fn arrived_at(attempt: &Attempt<Answered>) -> UnixTime {
    match attempt {
        Attempt::Answered(answered) => answered.answer().at,
        Attempt::NotSent(_) | Attempt::Unanswered(_) => 0,
    }
}

/// Reads a result, and the id token if the answer has one.
fn read(attempt: &Attempt<Answered>, rules: &AnswerRules, is_refresh: bool) -> (Outcome, Option<Received>) {
    let outcome = match attempt {
        Attempt::Answered(answered) => return of_answer(answered.answer(), rules, is_refresh),
        Attempt::NotSent(step) => Outcome::Unspent { code: (*step).to_owned(), retry_after: None },
        Attempt::Unanswered(how) => Outcome::Ambiguous { code: format!("ambiguous_{how}") },
    };
    (outcome, None)
}

/// Reads the result of a token exchange (RFC 8693 §2.2), which spends nothing and is in no journal.
pub fn exchange_outcome(attempt: &Attempt<Answer>, rules: &AnswerRules) -> Outcome {
    match attempt {
        Attempt::Answered(answer) => of_answer(answer, rules, false).0,
        Attempt::NotSent(step) => Outcome::Unspent { code: (*step).to_owned(), retry_after: None },
        Attempt::Unanswered(how) => Outcome::Ambiguous { code: format!("ambiguous_{how}") },
    }
}

/// Whether an answer may be the only copy of a token although none could be read: its status is a
/// success, or its body names a refresh token under another status.
pub fn may_hold_tokens(answer: &Answer) -> bool {
    (200..300).contains(&answer.status) || names_token(&answer.body, "refreshtoken")
}

fn of_answer(answer: &Answer, rules: &AnswerRules, is_refresh: bool) -> (Outcome, Option<Received>) {
    let (outcome, id_token) = by_table(answer, rules, is_refresh);
    let is_without_tokens = || !["accesstoken", "refreshtoken"].iter().all(|n| names_token(&answer.body, n));
    match outcome {
        Outcome::Granted(_) | Outcome::Ended { .. } | Outcome::Ambiguous { .. } => (outcome, id_token),
        outcome if is_without_tokens() => (outcome, id_token),
        _ => (Outcome::Ambiguous { code: format!("ambiguous_http_{}", answer.status) }, None),
    }
}

fn by_table(answer: &Answer, rules: &AnswerRules, is_refresh: bool) -> (Outcome, Option<Received>) {
    let status = answer.status;
    let unspent = |code: String| Outcome::Unspent {
        code,
        retry_after: retry_after(answer.retry_after.as_deref(), answer.at),
    };
    let by_status = || format!("http_{status}");
    let ambiguous = |code: &str| Outcome::Ambiguous { code: format!("ambiguous_{code}") };
    let by_code = |content: &Content| {
        let (family, code) = verdict(content, rules, status)?;
        // Elsewhere a gateway can have written it: the address of the endpoint may be wrong.
        if matches!(family, Family::Ended) && !matches!(status, 200..=299 | 400 | 401 | 403) {
            return None;
        }
        Some(match family {
            Family::Ended => Outcome::Ended { code },
            Family::Misconfigured => Outcome::Misconfigured { code },
            Family::Unspent => unspent(code),
            Family::Ambiguous => ambiguous(&code),
        })
    };
    let content = match status {
        407 | 408 | 425 | 429 | 503 | 307 | 308 => return (unspent(by_status()), None),
        200..=299 | 400..=499 => Content::of(answer),
        _ => return (ambiguous(&by_status()), None),
    };
    let is_success = status < 300;
    if is_success
        && let Some(object) = content.as_ref().and_then(Content::object)
        && let Some((grant, id_token)) = grant::take(&object, rules, answer.at, is_refresh)
    {
        return (Outcome::Granted(Box::new(grant)), id_token);
    }
    let outcome = content.as_ref().and_then(by_code).unwrap_or_else(|| match status {
        200..=299 => ambiguous(&by_status()),
        400 | 401 | 403 if content.is_some() => Outcome::Refused { code: by_status() },
        _ => unspent(by_status()),
    });
    (outcome, None)
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
