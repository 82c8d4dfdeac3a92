//! Error codes: their places in an answer, and their meanings.
//!
//! Only a code is a verdict, never a sentence, with one exception: see [`names_refresh_token`].

use serde_json::Value;

use super::{
    AnswerRules,
    content::{Content, Object},
};

/// The meaning of an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// The grant has ended.
    Ended,
    /// The operator must correct the configuration.
    Misconfigured,
    /// The provider did not process the request.
    Unspent,
    /// The provider failed, perhaps half-way.
    Ambiguous,
}

use Family::{Ambiguous, Ended, Misconfigured, Unspent};

/// Every known error code, its meaning, and the word that is stored for it. A vendor's word for a
/// mistake in the configuration is stored as the word of RFC 6749 §5.2. To add a provider's code,
/// add a row here and its line to the table test. A code that only one provider uses in this
/// meaning belongs into its `ended_errors`.
pub(super) const CODES: [(&str, Family, &str); 59] = [
    // RFC 6749 §5.2, RFC 8707 §2.
    ("invalid_grant", Ended, "invalid_grant"),
    ("invalid_client", Misconfigured, "invalid_client"),
    ("unauthorized_client", Misconfigured, "unauthorized_client"),
    ("invalid_scope", Misconfigured, "invalid_scope"),
    ("invalid_request", Misconfigured, "invalid_request"),
    ("unsupported_grant_type", Misconfigured, "unsupported_grant_type"),
    ("invalid_target", Misconfigured, "invalid_target"),
    // OpenID Connect Core §3.1.2.6, which Microsoft's token endpoint uses too: the user must sign
    // in.
    ("interaction_required", Ended, "interaction_required"),
    ("login_required", Ended, "login_required"),
    ("consent_required", Ended, "consent_required"),
    ("account_selection_required", Ended, "account_selection_required"),
    // RFC 6749 §4.1.2.1, and RFC 8628 §3.5, which token endpoints use too.
    ("temporarily_unavailable", Unspent, "temporarily_unavailable"),
    ("slow_down", Unspent, "slow_down"),
    ("server_error", Ambiguous, "server_error"),
    ("expired_token", Ended, "expired_token"),
    // RFC 6750 §3.1, which Fitbit and Spring answer for a refresh token.
    ("invalid_token", Ended, "invalid_token"),
    // OpenAI.
    ("refresh_token_reused", Ended, "refresh_token_reused"),
    ("refresh_token_expired", Ended, "refresh_token_expired"),
    ("refresh_token_invalidated", Ended, "refresh_token_invalidated"),
    ("token_expired", Ended, "token_expired"),
    // GitHub.
    ("bad_refresh_token", Ended, "bad_refresh_token"),
    ("bad_verification_code", Ended, "bad_verification_code"),
    ("incorrect_client_credentials", Misconfigured, "invalid_client"),
    ("redirect_uri_mismatch", Misconfigured, "invalid_request"),
    // Slack.
    ("invalid_refresh_token", Ended, "invalid_refresh_token"),
    ("token_revoked", Ended, "token_revoked"),
    ("account_inactive", Ended, "account_inactive"),
    ("invalid_code", Ended, "invalid_code"),
    ("code_already_used", Ended, "code_already_used"),
    ("invalid_client_id", Misconfigured, "invalid_client"),
    ("bad_client_secret", Misconfigured, "invalid_client"),
    ("bad_redirect_uri", Misconfigured, "invalid_request"),
    ("invalid_grant_type", Misconfigured, "unsupported_grant_type"),
    ("ratelimited", Unspent, "ratelimited"),
    ("internal_error", Ambiguous, "internal_error"),
    ("fatal_error", Ambiguous, "fatal_error"),
    // HubSpot, in capitals. It has BAD_REFRESH_TOKEN, BAD_CLIENT_SECRET and BAD_REDIRECT_URI too.
    ("bad_auth_code", Ended, "bad_auth_code"),
    ("bad_client_id", Misconfigured, "invalid_client"),
    ("bad_grant_type", Misconfigured, "unsupported_grant_type"),
    ("mismatch_redirect_uri_auth_code", Misconfigured, "invalid_request"),
    // Strava, which names a field and writes "invalid": see `Places::add`.
    ("expired_refresh_token", Ended, "expired_refresh_token"),
    ("revoked_refresh_token", Ended, "revoked_refresh_token"),
    ("invalid_client_secret", Misconfigured, "invalid_client"),
    ("invalid_redirect_uri", Misconfigured, "invalid_request"),
    // Auth0.
    ("mfa_required", Ended, "mfa_required"),
    ("too_many_requests", Unspent, "too_many_requests"),
    // Salesforce.
    ("inactive_user", Ended, "inactive_user"),
    ("inactive_org", Ended, "inactive_org"),
    ("invalid_client_credentials", Misconfigured, "invalid_client"),
    ("rate_limit_exceeded", Unspent, "rate_limit_exceeded"),
    // Coinbase.
    ("revoked_token", Ended, "revoked_token"),
    // Google.
    ("deleted_client", Misconfigured, "invalid_client"),
    ("disabled_client", Misconfigured, "invalid_client"),
    // Supabase.
    ("refresh_token_not_found", Ended, "refresh_token_not_found"),
    ("refresh_token_already_used", Ended, "refresh_token_already_used"),
    ("session_expired", Ended, "session_expired"),
    ("session_not_found", Ended, "session_not_found"),
    ("user_banned", Ended, "user_banned"),
    ("over_request_rate_limit", Unspent, "over_request_rate_limit"),
];

/// The members that hold a code, or an object or list with codes, in order of preference.
const PLACES: [&str; 14] = [
    "error",
    "errors",
    "code",
    "type",
    "error_code",
    "errorCode",
    "error_codes",
    "error_type",
    "errorType",
    "status",
    "reason",
    "name",
    "id",
    ".tag",
];

/// The members that hold a sentence about the error.
const SENTENCES: [&str; 3] = ["error_description", "description", "message"];

/// How deep codes are nested: a list of errors is a level, and so is each error.
const MAX_DEPTH: usize = 4;

/// Returns the meaning of the first known code in an answer, and the word to store for it. An
/// unknown code is no verdict.
pub(super) fn verdict(content: &Content, rules: &AnswerRules) -> Option<(Family, String)> {
    let object = content.object();
    let mut places = Places::default();
    match &object {
        Some(object) => places.add_all(|name| object.value(name)),
        None => content.array()?.iter().for_each(|value| places.add(value, MAX_DEPTH)),
    }
    let is = |code: &str| places.0.iter().any(|text| text.eq_ignore_ascii_case(code));
    if let Some(own) = rules.ended_errors.iter().find(|code| is(code)) {
        return Some((Ended, own.clone()));
    }
    let row = |text: &String| CODES.iter().find(|(code, ..)| code.eq_ignore_ascii_case(text));
    let &(code, family, word) = places.0.iter().find_map(row)?;
    if code == "unauthorized_client" && object.as_ref().is_some_and(names_refresh_token) {
        return Some((Ended, word.to_owned()));
    }
    Some((family, word.to_owned()))
}

/// Whether an `unauthorized_client` concerns the refresh token (Atlassian), and not the client's
/// right to a grant type: then its sentence names the refresh token.
fn names_refresh_token(object: &Object<'_>) -> bool {
    let sentences = SENTENCES.iter().filter_map(|name| object.text(name).whole());
    // "grant_type", "Grant type" and "grant-type" are the same words here.
    let plain = |text: String| text.to_ascii_lowercase().replace(['_', '-'], " ");
    sentences.map(plain).any(|text| text.contains("refresh token") && !text.contains("grant type"))
}

/// The texts in the places of codes.
#[derive(Default)]
struct Places(Vec<String>);

impl Places {
    fn add_all(&mut self, member: impl Fn(&str) -> Value) {
        PLACES.iter().for_each(|name| self.add(&member(name), MAX_DEPTH));
    }

    fn add(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(text) => self.0.push(text.trim().to_owned()),
            Value::Number(number) => self.0.push(number.to_string()),
            Value::Array(values) if depth > 0 => values.iter().for_each(|value| self.add(value, depth - 1)),
            Value::Object(members) if depth > 0 => {
                // {"field": "refresh_token", "code": "invalid"} is the code `invalid_refresh_token`.
                if let (Some(Value::String(field)), Some(Value::String(code))) =
                    (members.get("field"), members.get("code"))
                {
                    self.0.push(format!("{code}_{field}"));
                }
                for value in PLACES.iter().filter_map(|name| members.get(*name)) {
                    self.add(value, depth - 1);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
