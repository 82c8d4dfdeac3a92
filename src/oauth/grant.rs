//! The reader of a successful answer (RFC 6749 §5.1). It is lenient, so that no token is lost
//! because of a provider's irregular answer.

use std::{collections::BTreeMap, fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserializer as _,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use zeroize::Zeroizing;

use crate::{
    oauth::{AnswerRules, Mismatch},
    secret::{AccessToken, Nonce, RefreshToken},
    session::Grant,
};

/// The longest accepted lifetime: ten years.
const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The longest account name, in characters.
const MAX_ACCOUNT: usize = 200;

/// The claims that name the account (OpenID Connect Core §5.1), in order of preference.
const ACCOUNT_CLAIMS: [&str; 4] = ["email", "preferred_username", "name", "sub"];

/// The members of an object that this module and `outcome` read. All others are skipped unread, so
/// that no token is lost because of a text that was cut in the middle of a character, or of a
/// number that is too large.
const READ: [&str; 14] = [
    "access_token",
    "refresh_token",
    "token_type",
    "expires_in",
    "scope",
    "id_token",
    "error",
    "code",
    "email",
    "preferred_username",
    "name",
    "sub",
    "nonce",
    "aud",
];

/// The members that are read if one of [`READ`] cannot be read.
const PRECIOUS: [&str; 2] = ["access_token", "refresh_token"];

/// Returns the members of a JSON object that are in [`READ`], or `None` for any other text. A byte
/// order mark is ignored, as RFC 8259 §8.1 permits.
pub(super) fn object(body: &[u8]) -> Option<Map<String, Value>> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    members(body, &READ).or_else(|_| members(body, &PRECIOUS)).ok()
}

fn members(body: &[u8], names: &[&str]) -> serde_json::Result<Map<String, Value>> {
    let mut from = serde_json::Deserializer::from_slice(body);
    let members = from.deserialize_map(Members(names))?;
    from.end()?;
    members.into_iter().map(|(name, value)| Ok((name, serde_json::from_str(value.get())?))).collect()
}

/// Finds the members of these names. If a name occurs twice, the last member counts, and an
/// unreadable earlier one does no harm.
struct Members<'a>(&'a [&'a str]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = from.next_key::<String>()? {
            if self.0.contains(&name.as_str()) {
                members.insert(name, from.next_value()?);
            } else {
                from.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

/// Takes the grant from an answer, and the claims of its id token. Returns `None` if there is no
/// `access_token`. The secrets are moved, not copied.
pub(super) fn take(answer: &mut Map<String, Value>) -> Option<(Grant, Option<Map<String, Value>>)> {
    let access_token = AccessToken::new(text(answer, "access_token")?);
    let refresh_token = text(answer, "refresh_token").map(RefreshToken::new);
    let id_token = text(answer, "id_token").map(Zeroizing::new);
    let claims = id_token.as_ref().map(|token| claims(token).unwrap_or_default());
    let grant = Grant {
        access_token,
        refresh_token,
        token_type: text(answer, "token_type").filter(|t| is_token(t)).unwrap_or_else(|| "Bearer".into()),
        scope: scope(answer),
        expires_in: lifetime(answer.get("expires_in")),
        account: claims.as_ref().and_then(account_of),
    };
    Some((grant, claims))
}

/// Returns the account that a userinfo answer names (OpenID Connect Core §5.3.2).
pub(super) fn account(body: &[u8]) -> Option<String> {
    account_of(&object(body)?)
}

/// Takes a member if it is a string that is not blank.
fn text(answer: &mut Map<String, Value>, key: &str) -> Option<String> {
    match answer.get_mut(key)?.take() {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

/// Whether the text can be an authentication scheme (RFC 9110 §11.1). A token type becomes part of
/// a header.
fn is_token(text: &str) -> bool {
    text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// Returns the scope in the form of RFC 6749 §3.3. Some providers answer with a list.
fn scope(answer: &mut Map<String, Value>) -> Option<String> {
    let scope = match answer.get_mut("scope")?.take() {
        Value::String(scope) => scope,
        Value::Array(scopes) => scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => return None,
    };
    (!scope.trim().is_empty()).then_some(scope)
}

/// Returns `expires_in`, a number of seconds or the text of a number.
fn lifetime(value: Option<&Value>) -> Option<Duration> {
    let seconds = match value {
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    match seconds {
        // The store counts whole seconds, and no lifetime is rounded down to zero.
        Some(seconds) if seconds > 0.0 => Some(
            Duration::try_from_secs_f64(seconds.floor().max(1.0))
                .map_or(MAX_LIFETIME, |lifetime| lifetime.min(MAX_LIFETIME)),
        ),
        _ => None,
    }
}

/// Returns the payload of an id token. Its signature is not checked, because it comes directly from
/// the token endpoint over TLS (OpenID Connect Core §3.1.3.7, item 6).
fn claims(id_token: &str) -> Option<Map<String, Value>> {
    let mut parts = id_token.trim().split('.');
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    object(&Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?))
}

/// Checks the audience and the nonce (OpenID Connect Core §3.1.3.7, items 3 and 11).
///
/// Some providers put no nonce into the id token. Where PKCE binds the code to its sign-in, another
/// sign-in's code gives no tokens, so the nonce adds nothing.
pub(super) fn check(claims: &Map<String, Value>, rules: &AnswerRules, nonce: &Nonce) -> Result<(), Mismatch> {
    match claims.get("nonce") {
        None | Some(Value::Null) if rules.pkce_binds_code => {}
        None | Some(Value::Null) => return Err(Mismatch::NoNonce),
        Some(there) if there.as_str() == Some(nonce.expose()) => {}
        Some(_) => return Err(Mismatch::Nonce),
    }
    let client_id = rules.client_id.as_str();
    let ours = match claims.get("aud") {
        Some(Value::String(audience)) => audience == client_id,
        Some(Value::Array(audiences)) => audiences.iter().any(|a| a.as_str() == Some(client_id)),
        _ => false,
    };
    if ours { Ok(()) } else { Err(Mismatch::Audience) }
}

fn account_of(claims: &Map<String, Value>) -> Option<String> {
    ACCOUNT_CLAIMS.iter().find_map(|claim| printable(claims.get(*claim)?.as_str()?, MAX_ACCOUNT))
}

/// Makes a foreign text safe to show to users: removes control characters, invisible characters and
/// direction changes, trims white space, and keeps at most `max` characters. Returns `None` if no
/// text remains.
pub(super) fn printable(text: &str, max: usize) -> Option<String> {
    let shown: String = text.chars().filter(|&c| !c.is_control() && !is_invisible(c)).collect();
    let shown: String = shown.trim().chars().take(max).collect();
    (!shown.is_empty()).then_some(shown)
}

/// Whether a character is a zero-width or bidirectional format character, a line or paragraph
/// separator, the soft hyphen or the byte order mark.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
