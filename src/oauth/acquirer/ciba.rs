//! Client-initiated backchannel authentication (OpenID Connect CIBA Core 1.0) in poll mode: the
//! provider asks the user on another screen, and threadkey polls for the tokens.
//!
//! The request names the user by a `login_hint`. The hint is never typed: it comes from the operator's
//! map, or it is the subject of an earlier sign-in. Otherwise any user could have the provider ask a
//! stranger.

use super::{
    contract::{KnownUser, TokenAcquirer, View},
    opening::{self, Opened, OpeningError},
};
use crate::{
    oauth::{Credentials, OpeningRequest, Provider, TokenRequest, Withheld},
    session::{GrantKind, Locked, Pending, Polling, journal::Answer},
};

/// The grant type of a poll (CIBA Core §10.1).
const GRANT_TYPE: &str = "urn:openid:params:grant-type:ciba";

/// The longest name of a user in a binding message, in characters. The message must be short (§7.1).
const MAX_NAME: usize = 32;

/// The grant.
#[derive(Debug)]
pub(super) struct Ciba;

impl TokenAcquirer for Ciba {
    fn opening(
        &self,
        provider: &Provider,
        user: &KnownUser,
        credentials: &Credentials,
    ) -> Result<Option<OpeningRequest>, OpeningError> {
        let endpoint = provider.backchannel_authentication_endpoint.as_ref();
        let endpoint = endpoint.ok_or(OpeningError::Unusable("backchannel_authentication_endpoint"))?;
        let hint = user.login_hint.clone().ok_or(OpeningError::NoLoginHint)?;
        // §7.1: the scope must contain openid.
        let mut scopes = provider.scopes.clone();
        if !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        let mut params = vec![
            ("scope".to_owned(), scopes.join(&provider.form.scope_separator)),
            ("login_hint".to_owned(), hint),
            ("binding_message".to_owned(), binding_message(user)),
        ];
        params.extend(provider.resource.clone().map(|resource| ("resource".to_owned(), resource)));
        Ok(Some(OpeningRequest(provider.opening_request(endpoint, params, credentials))))
    }

    fn opened(&self, _: &Provider, user: &KnownUser, answer: &Answer) -> Result<Polling, OpeningError> {
        let content = opening::content(answer)?;
        let opened = Opened::read(&content, answer)?;
        Ok(Polling {
            grant: GrantKind::Ciba,
            code: opened.code("auth_req_id")?,
            user_code: None,
            verification_uri: None,
            verification_uri_complete: None,
            binding_message: Some(binding_message(user)),
            expires_at: opened.expires_at(),
            interval: opened.interval(),
            not_before: None,
            ended: None,
        })
    }

    fn view(&self, _: &Provider, pending: &Pending) -> View {
        let message = pending.polling.as_ref().and_then(|polling| polling.binding_message.clone());
        View::Elsewhere { binding_message: message.unwrap_or_default() }
    }

    fn poll(
        &self,
        provider: &Provider,
        pending: &Locked<Pending>,
        polling: &Polling,
        credentials: &Credentials,
    ) -> Result<TokenRequest, Withheld> {
        let params = vec![
            ("grant_type".to_owned(), GRANT_TYPE.to_owned()),
            ("auth_req_id".to_owned(), polling.code.expose().to_owned()),
        ];
        provider.poll_request(&pending.binding, params, credentials)
    }
}

/// Returns the message that the user compares on both screens: letters, digits and few other
/// characters, because providers refuse others (§13, `invalid_binding_message`).
fn binding_message(user: &KnownUser) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-:@ ".contains(*c);
    let name: String = user.name.chars().filter(is_plain).take(MAX_NAME).collect();
    format!("threadkey for {}", name.trim())
}
