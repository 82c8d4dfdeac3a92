//! The reader of a successful answer (RFC 6749 §5.1). It is lenient, so that no token is lost
//! because of a provider's irregular answer.

use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    AnswerRules,
    content::{Content, Object, Text},
    id_token::{MAX_SUBJECT, Received},
    lifetime::{Circumstances, lifetime, refresh_expiry},
    scheme::authentication_scheme,
};
use crate::{
    secret::{AccessToken, RefreshToken, Scrubber},
    session::{Grant, journal::Answer},
    sys::clock::UnixTime,
};

/// The longest account name, in characters.
const MAX_ACCOUNT: usize = 200;

/// The claims that name the account (OpenID Connect Core §5.1), in order of preference. The first
/// counts only if the provider has verified it. `login` and `username` are the names of vendors without
/// OpenID Connect.
const ACCOUNT_CLAIMS: [&str; 6] = ["email", "preferred_username", "name", "login", "username", "sub"];

/// The account that a userinfo answer names (OpenID Connect Core §5.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserinfoAccount {
    /// The account's identifier, if there is one: the provider's
    /// [`account_id_claim`](super::ProviderSettings::account_id_claim), or `sub`.
    pub subject: Option<String>,
    /// The name: a verified `email`, `preferred_username`, `name` or another one, the first that is
    /// present.
    pub name: String,
    /// The `sub`, if there is one.
    sub: Option<String>,
}

/// Takes the grant from an answer that arrived at `at`, and its id token. Returns `None` if the answer reports an error, or if one of its tokens is missing or damaged.
///
/// Of a damaged pair nothing is used: a new access token would hide that the refresh token is lost.
pub(super) fn take(
    answer: &Object<'_>,
    rules: &AnswerRules,
    at: UnixTime,
    is_refresh: bool,
) -> Option<(Grant, Option<Received>)> {
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
    let id_token = tokens.text("id_token").whole().map(Zeroizing::new);
    let secrets = [
        Some(access_token.expose()),
        refresh_token.as_ref().map(RefreshToken::expose),
        id_token.as_deref().map(String::as_str),
    ];
    secrets.into_iter().flatten().for_each(|secret| Scrubber::of_process().note(secret));
    let id_token = id_token.map(|token| Received::new(&token));
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
        account: id_token.as_ref().and_then(|id_token| account_of(&id_token.claims())),
        refresh_expires_at: refresh_expiry(&tokens, at),
        identity: id_token.as_ref().and_then(Received::identity),
        access_token,
        refresh_token,
    };
    Some((grant, id_token))
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

/// Returns the account that a userinfo answer names. The names of `claim` lead to its identifier; without
/// them that is `sub`.
pub(super) fn account(answer: &Answer, claim: Option<&[String]>) -> Option<UserinfoAccount> {
    let content = Content::of(answer)?;
    let claims = content.object().filter(|claims| !claims.reports_error())?;
    let subject =
        |claims: &Object<'_>, name| claims.identifier(name).filter(|subject| subject.len() <= MAX_SUBJECT);
    let sub = subject(&claims, "sub");
    let subject = match claim.and_then(<[String]>::split_last) {
        Some((last, path)) => {
            let holder = path.iter().try_fold(claims.clone(), |object, name| object.object(name));
            holder.and_then(|holder| subject(&holder, last))
        }
        None => sub.clone(),
    };
    let name = account_of(&claims).or_else(|| printable(subject.as_deref()?, MAX_ACCOUNT))?;
    Some(UserinfoAccount { subject, name, sub })
}

impl UserinfoAccount {
    /// Whether the answer may be about the account with this `sub` of an id token (OpenID Connect Core
    /// §5.3.2). An endpoint with an identifier of its own need not repeat the `sub`.
    pub fn is_of(&self, sub: &str) -> bool {
        self.sub.as_ref().map_or(self.subject.is_some(), |own| own == sub)
    }
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

fn account_of(claims: &Object<'_>) -> Option<String> {
    // Some providers write the boolean as a text. Any user may claim an address that is not verified.
    let is_verified = claims.value("email_verified") == true || claims.value("email_verified") == "true";
    let counts = |claim: &&&str| **claim != "email" || is_verified;
    let claims_that_count = ACCOUNT_CLAIMS.iter().filter(counts);
    claims_that_count.into_iter().find_map(|claim| printable(&claims.text(claim).whole()?, MAX_ACCOUNT))
}

/// Makes a foreign text safe to show to users: removes control characters, invisible characters and
/// direction changes, trims white space, and keeps at most `max` characters. Returns `None` if no
/// text remains.
pub fn printable(text: &str, max: usize) -> Option<String> {
    let shown: String = text.chars().filter(|&c| !c.is_control() && !is_invisible(c)).collect();
    let shown: String = shown.trim().chars().take(max).collect();
    (!shown.is_empty()).then_some(shown)
}

/// Whether a character is a zero-width or bidirectional format character, a line or paragraph
/// separator, the soft hyphen or the byte order mark.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
