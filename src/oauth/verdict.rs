//! Error codes: their places in an answer, and their meanings.
//!
//! A code is a verdict wherever vendors put it. A sentence is a verdict only if it reports the end of
//! the refresh token and nothing else: see [`is_end_of_refresh_token`].

use serde_json::{Map, Value};

use super::{
    AnswerRules,
    content::{Content, plain_name},
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

/// The members that hold a code, or an object or list with codes, in order of preference. Letter
/// case, `_` and `-` of a name do not matter.
const PLACES: [&str; 13] = [
    "error",
    "errors",
    "code",
    "type",
    "errorcode",
    "errorcodes",
    "errortype",
    "status",
    "reason",
    "name",
    "id",
    ".tag",
    "exception",
];

/// The members that hold a sentence about the error. The places of codes can hold one too.
const SENTENCES: [&str; 9] = [
    "errordescription",
    "description",
    "message",
    "msg",
    "errormessage",
    "errormsg",
    "detail",
    "faultstring",
    "title",
];

/// How deep codes are nested: a list of errors is a level, and so is each error.
const MAX_DEPTH: usize = 4;

/// How many members with other names may stand around the error: `{"fault":{"detail":{…}}}`.
const MAX_WRAPPERS: usize = 2;

/// The subject of a sentence that ends a session.
const SUBJECT: [&str; 2] = ["refresh token", "refreshtoken"];

/// The predicates of a sentence that ends a session.
const ENDS: [&str; 23] = [
    "invalid",
    "invalidated",
    "expired",
    "revoked",
    "unknown",
    "unrecognized",
    "incorrect",
    "inactive",
    "deleted",
    "reused",
    "already been used",
    "already used",
    "no longer valid",
    "no longer active",
    "no longer exists",
    "not valid",
    "not active",
    "not found",
    "not recognized",
    "could not be found",
    "does not exist",
    "doesn t exist",
    "bad",
];

/// The words that change nothing in such a sentence.
const FILLERS: [&str; 38] = [
    "bad request",
    "unauthorized",
    "error",
    "err",
    "exception",
    "oauth",
    "the",
    "your",
    "this",
    "that",
    "a",
    "an",
    "provided",
    "supplied",
    "given",
    "specified",
    "submitted",
    "presented",
    "used",
    "is",
    "are",
    "has",
    "have",
    "was",
    "been",
    "already",
    "or",
    "and",
    "it",
    "please",
    "sign",
    "log",
    "in",
    "login",
    "again",
    "re",
    "authenticate",
    "reauthenticate",
];

/// Returns the meaning of the first known code in an answer with this status, and its stored word.
/// An unknown code is not a verdict.
pub(super) fn verdict(content: &Content, rules: &AnswerRules, status: u16) -> Option<(Family, String)> {
    let texts = Texts::of(content);
    let is = |code: &str| texts.codes.iter().any(|text| text.eq_ignore_ascii_case(code));
    if let Some(own) = rules.ended_errors.iter().find(|code| is(code)) {
        return Some((Ended, own.clone()));
    }
    // A proxy answers 403 too, in words of its own.
    let is_of_proxy = status == 403;
    let row = |text: &String| {
        let text = if is_of_proxy { plain_name(text) } else { bare(text)? };
        CODES.iter().find(|(code, ..)| plain_name(code) == text)
    };
    let known = texts.codes.iter().find_map(row);
    let sentence_counts = match known {
        None => matches!(status, 400 | 401) && !is("access_denied"),
        Some(("invalid_request" | "unauthorized_client", ..)) => matches!(status, 400 | 401),
        Some(_) => false,
    };
    if sentence_counts && texts.all().any(|text| is_end_of_refresh_token(text)) {
        return Some((Ended, "invalid_refresh_token".to_owned()));
    }
    let &(code, family, word) = known?;
    if code == "unauthorized_client" && texts.sentences.iter().any(|text| names_refresh_token(text)) {
        return Some((Ended, word.to_owned()));
    }
    Some((family, word.to_owned()))
}

/// Returns every text of an answer in the place of a code or a sentence.
pub(super) fn words(content: &Content) -> Vec<String> {
    let texts = Texts::of(content);
    texts.codes.into_iter().chain(texts.sentences.into_iter().map(|text| text.trim().to_owned())).collect()
}

/// Returns a code without the namespace before it and the `Exception` after it, in plain form:
/// `keymanagement.service.refresh_token_expired`, `InvalidGrantException`. A sentence has no code.
fn bare(text: &str) -> Option<String> {
    let last = text.rsplit(['.', '#', ':', '/']).next().filter(|_| !text.contains(char::is_whitespace))?;
    let code = plain_name(last);
    Some(code.strip_suffix("exception").unwrap_or(&code).to_owned())
}

fn is_place(name: &str) -> bool {
    let name = plain_name(name);
    PLACES.contains(&name.as_str()) || SENTENCES.contains(&name.as_str()) || name == "field"
}

/// Whether an `unauthorized_client` concerns the refresh token (Atlassian), and not the client's
/// right to a grant type: then its sentence names the refresh token.
fn names_refresh_token(sentence: &str) -> bool {
    // "grant_type", "Grant type" and "grant-type" are the same words here.
    let text = sentence.to_ascii_lowercase().replace(['_', '-'], " ");
    text.contains("refresh token") && !text.contains("grant type")
}

/// Whether a text reports the end of the refresh token, and nothing else: it consists of
/// [`SUBJECT`], [`ENDS`] and [`FILLERS`] alone, and has one of the first two each. So a sentence
/// with a condition, a denial, or a second subject never counts.
fn is_end_of_refresh_token(text: &str) -> bool {
    let (mut spaced, mut before) = (String::new(), ' ');
    for c in text.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            spaced.push(' ');
        }
        before = c;
        spaced.push(if "_-.,:;!'\"()".contains(c) { ' ' } else { c.to_ascii_lowercase() });
    }
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let (mut has_subject, mut has_end) = (false, false);
    while !rest.is_empty() {
        let longest = |phrases: &[&str]| {
            let lengths = phrases.iter().map(|phrase| {
                let phrase: Vec<_> = phrase.split(' ').collect();
                if rest.starts_with(&phrase) { phrase.len() } else { 0 }
            });
            lengths.max().unwrap_or(0)
        };
        let (subject, end, filler) = (longest(&SUBJECT), longest(&ENDS), longest(&FILLERS));
        let taken = subject.max(end).max(filler);
        if taken == 0 {
            return false;
        }
        has_subject |= taken == subject;
        has_end |= taken == end;
        rest = &rest[taken..];
    }
    has_subject && has_end
}

/// The texts of an answer that can have a meaning.
#[derive(Default)]
struct Texts {
    /// The texts in the places of codes.
    codes: Vec<String>,
    /// The other texts about the error.
    sentences: Vec<String>,
}

impl Texts {
    fn of(content: &Content) -> Self {
        let mut texts = Self::default();
        match (content.object(), content.array()) {
            (Some(object), _) => texts.add_members(&object.parsed(is_place), MAX_DEPTH, MAX_WRAPPERS),
            (None, Some(values)) => {
                values.iter().for_each(|value| texts.add(value, MAX_DEPTH, MAX_WRAPPERS));
            }
            (None, None) => {}
        }
        texts
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.codes.iter().chain(&self.sentences)
    }

    /// Adds the texts of a value in the place of a code.
    fn add(&mut self, value: &Value, depth: usize, wrappers: usize) {
        match value {
            Value::String(text) => self.codes.push(text.trim().to_owned()),
            Value::Number(number) => self.codes.push(number.to_string()),
            Value::Array(values) if depth > 0 => {
                values.iter().for_each(|value| self.add(value, depth - 1, wrappers));
            }
            Value::Object(members) if depth > 0 => self.add_members(members, depth - 1, wrappers),
            _ => {}
        }
    }

    /// Adds the texts of an object: of its own members first, and then of the objects in members
    /// with other names.
    fn add_members(&mut self, members: &Map<String, Value>, depth: usize, wrappers: usize) {
        let named = |name: &str| {
            let name = name.to_owned();
            members.iter().filter(move |(there, _)| plain_name(there) == name).map(|(_, value)| value)
        };
        // {"field": "refresh_token", "code": "invalid"} is the code `invalid_refresh_token`.
        for (field, code) in named("field").zip(named("code")) {
            if let (Value::String(field), Value::String(code)) = (field, code) {
                self.codes.push(format!("{code}_{field}"));
            }
        }
        PLACES.iter().flat_map(|name| named(name)).for_each(|value| self.add(value, depth, wrappers));
        let sentences = SENTENCES.iter().flat_map(|name| named(name)).filter_map(Value::as_str);
        self.sentences.extend(sentences.map(str::to_owned));
        if wrappers > 0 {
            // A list of texts under another name has no codes: it can list the possible ones.
            let others = members.iter().filter(|(name, _)| !PLACES.contains(&plain_name(name).as_str()));
            others
                .flat_map(|(_, value)| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice))
                .filter(|value| value.is_object())
                .for_each(|value| self.add(value, depth, wrappers - 1));
        }
    }
}

#[cfg(test)]
mod tests;
