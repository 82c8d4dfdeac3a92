//! The reader of a successful answer (RFC 6749 §5.1). It is lenient, so that no token is lost
//! because of a provider's irregular answer.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    AnswerRules, Mismatch,
    content::{Content, Object, Text},
    lifetime::{Circumstances, jwt_claims, lifetime, refresh_expiry},
    scheme::authentication_scheme,
};
use crate::{
    secret::{AccessToken, Nonce, RefreshToken, Scrubber},
    session::{Grant, journal::Answer},
    sys::clock::UnixTime,
};

/// The longest account name, in characters.
const MAX_ACCOUNT: usize = 200;

/// The claims that name the account (OpenID Connect Core §5.1), in order of preference.
const ACCOUNT_CLAIMS: [&str; 4] = ["email", "preferred_username", "name", "sub"];

/// The claims of an id token, as the text of a JSON object. It is empty if they cannot be read.
pub(super) type Claims = Zeroizing<String>;

/// Takes the grant from an answer that arrived at `at`, and the claims of its id token. Returns
/// `None` if the answer reports an error, or if one of its tokens is missing or damaged.
///
/// Of a damaged pair nothing is used: a new access token would hide that the refresh token is lost.
pub(super) fn take(
    answer: &Object<'_>,
    rules: &AnswerRules,
    at: UnixTime,
    is_refresh: bool,
) -> Option<(Grant, Option<Claims>)> {
    let tokens = tokens(answer, rules)?;
    if answer.reports_error() || tokens.reports_error() {
        return None;
    }
    let access_token = AccessToken::new(tokens.token("access_token").whole()?);
    let refresh_token = match tokens.token("refresh_token") {
        Text::Whole(token) => Some(RefreshToken::new(token)),
        Text::Absent => None,
        Text::Damaged => return None,
    };
    let claims = tokens.text("id_token").whole().map(Zeroizing::new);
    let secrets = [
        Some(access_token.expose()),
        refresh_token.as_ref().map(RefreshToken::expose),
        claims.as_deref().map(String::as_str),
    ];
    secrets.into_iter().flatten().for_each(|secret| Scrubber::of_process().note(secret));
    let claims = claims.map(|token| jwt_claims(&token).unwrap_or_default());
    let circumstances = Circumstances {
        at,
        is_refreshable: is_refresh || refresh_token.is_some(),
        longest: rules.max_lifetime,
    };
    let token_type = tokens.text("token_type").whole().unwrap_or_default();
    let grant = Grant {
        token_type: authentication_scheme(&token_type).to_owned(),
        scope: scope(tokens.value("scope")),
        expires_in: lifetime(&tokens, access_token.expose(), &circumstances),
        account: claims.as_deref().and_then(|claims| account_of(&Object::parse(claims)?)),
        refresh_expires_at: refresh_expiry(&tokens, at),
        access_token,
        refresh_token,
    };
    Some((grant, claims))
}

/// Returns the object with the tokens: at the place in the provider's setting, or at the top of an
/// answer that has nothing there. Providers that nest the tokens of a sign-in may leave those of a
/// refresh at the top.
fn tokens<'a>(answer: &Object<'a>, rules: &AnswerRules) -> Option<Object<'a>> {
    let Some((first, rest)) = rules.token_path.split_first().filter(|(first, _)| answer.has(first)) else {
        return Some(answer.clone());
    };
    rest.iter().try_fold(answer.object(first)?, |object, name| object.object(name))
}

/// Returns the account that a userinfo answer names (OpenID Connect Core §5.3.2).
pub(super) fn account(answer: &Answer) -> Option<String> {
    account_of(&Content::of(answer)?.object()?)
}

/// Returns the scope in the form of RFC 6749 §3.3. Some providers answer with a list.
fn scope(value: Value) -> Option<String> {
    let scope = match value {
        Value::String(scope) => scope,
        Value::Array(scopes) => scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => return None,
    };
    (!scope.trim().is_empty()).then_some(scope)
}

/// Checks the audience and the nonce of an id token (OpenID Connect Core §3.1.3.7, items 3 and 11).
/// Its signature is not checked, because it comes directly from the token endpoint over TLS (item
/// 6).
///
/// Some providers put no nonce into the id token. Where PKCE binds the code to its sign-in, another
/// sign-in's code gives no tokens, so the nonce adds nothing.
pub(super) fn check(claims: &Claims, rules: &AnswerRules, nonce: &Nonce) -> Result<(), Mismatch> {
    let claims = Object::parse(claims).unwrap_or_default();
    if claims.has("nonce") {
        let is_right = claims.text("nonce").whole().is_some_and(|there| there == nonce.expose());
        is_right.then_some(()).ok_or(Mismatch::Nonce)?;
    } else if !rules.pkce_binds_code {
        return Err(Mismatch::NoNonce);
    }
    let is_ours = match claims.value("aud") {
        Value::String(audience) => audience == rules.client_id,
        Value::Array(audiences) => audiences.iter().any(|audience| *audience == rules.client_id),
        _ => false,
    };
    is_ours.then_some(()).ok_or(Mismatch::Audience)
}

fn account_of(claims: &Object<'_>) -> Option<String> {
    ACCOUNT_CLAIMS.iter().find_map(|claim| printable(&claims.text(claim).whole()?, MAX_ACCOUNT))
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
