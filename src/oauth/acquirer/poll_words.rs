//! The words by which a provider answers a poll without tokens (RFC 8628 §3.5, CIBA Core §11).
//!
//! Vendors put the words into 200, 400, 403, 428 or 429, and into other members than `error`. So the
//! word counts and the status does not, except that a 5xx is never the provider's word.

use super::{opening::whole_seconds, reading::Reading};
use crate::{
    oauth::{
        AnswerRules, Attempt, Mismatch, Outcome,
        content::{Content, names_token},
        sign_in_outcome,
        verdict::words,
    },
    session::{
        Pending,
        journal::{Answer, Answered},
    },
};

/// The words for a user who refused: the last two are those of xAI and Microsoft.
const DENIED: [&str; 3] = ["access_denied", "authorization_denied", "authorization_declined"];

/// Reads the answer to a poll. Tokens count before any word.
pub(super) fn read(
    attempt: &Attempt<Answered>,
    rules: &AnswerRules,
    pending: &Pending,
) -> Result<Reading, Mismatch> {
    let outcome = sign_in_outcome(attempt, rules, pending.nonce.as_ref())?;
    let word = match (attempt, &outcome) {
        (_, Outcome::Granted(_)) => None,
        (Attempt::Answered(answered), _) => word(answered.answer()),
        (Attempt::NotSent(_) | Attempt::Unanswered(_), _) => None,
    };
    Ok(word.unwrap_or(Reading::Outcome(outcome)))
}

fn word(answer: &Answer) -> Option<Reading> {
    // A token beside an error may be the only copy.
    let is_verdict = matches!(answer.status, 200..=299 | 400..=499);
    if !is_verdict || names_token(&answer.body, "accesstoken") {
        return None;
    }
    let content = Content::of(answer)?;
    let words = words(&content);
    let has = |word: &str| words.iter().any(|there| there.eq_ignore_ascii_case(word));
    if DENIED.into_iter().any(has) {
        return Some(Reading::Ended { code: "access_denied" });
    }
    if has("expired_token") {
        return Some(Reading::Ended { code: "expired_token" });
    }
    if has("slow_down") {
        // GitHub names the new interval.
        let interval = content.object().and_then(|object| whole_seconds(object.number("interval")?));
        return Some(Reading::SlowDown { interval });
    }
    has("authorization_pending").then_some(Reading::Pending)
}
