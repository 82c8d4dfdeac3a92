//! Device authorization (RFC 8628): the user enters a short code at the provider's page, and threadkey
//! polls for the tokens.

use super::{
    contract::{KnownUser, TokenAcquirer, View},
    opening::{self, Opened, OpeningError},
};
use crate::{
    oauth::{Credentials, OpeningRequest, Provider, TokenRequest, Withheld},
    session::{GrantKind, Locked, Pending, Polling, journal::Answer},
};

/// The grant type of a poll (RFC 8628 §3.4).
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The grant.
#[derive(Debug)]
pub(super) struct Device;

impl TokenAcquirer for Device {
    fn opening(
        &self,
        provider: &Provider,
        _user: &KnownUser,
        credentials: &Credentials,
    ) -> Result<Option<OpeningRequest>, OpeningError> {
        let endpoint = provider.device_authorization_endpoint.as_ref();
        let endpoint = endpoint.ok_or(OpeningError::Unusable("device_authorization_endpoint"))?;
        let mut params = scope(provider);
        params.extend(provider.resource.clone().map(|resource| ("resource".to_owned(), resource)));
        Ok(Some(OpeningRequest(provider.opening_request(endpoint, params, credentials))))
    }

    fn opened(&self, _: &Provider, _: &KnownUser, answer: &Answer) -> Result<Polling, OpeningError> {
        let content = opening::content(answer)?;
        let opened = Opened::read(&content, answer)?;
        // Google's page has the name of an early draft.
        let page = opened.page(&["verification_uri", "verification_url"]);
        let complete = opened.page(&["verification_uri_complete", "verification_url_complete"]);
        Ok(Polling {
            grant: GrantKind::Device,
            code: opened.code("device_code")?,
            user_code: Some(opened.user_code(&["user_code"])?),
            // Kimi may leave the first one empty.
            verification_uri: Some(
                page.or_else(|| complete.clone()).ok_or(OpeningError::Unusable("verification_uri"))?,
            ),
            verification_uri_complete: complete,
            binding_message: None,
            expires_at: opened.expires_at(),
            interval: opened.interval(),
            not_before: None,
            ended: None,
        })
    }

    fn view(&self, provider: &Provider, pending: &Pending) -> View {
        view(provider, pending)
    }

    fn poll(
        &self,
        provider: &Provider,
        pending: &Locked<Pending>,
        polling: &Polling,
        credentials: &Credentials,
    ) -> Result<TokenRequest, Withheld> {
        let mut params = vec![
            ("grant_type".to_owned(), GRANT_TYPE.to_owned()),
            ("device_code".to_owned(), polling.code.expose().to_owned()),
        ];
        // Twitch wants its own parameter with both requests.
        if provider.device_form.scope_parameter.is_some() {
            params.extend(scope(provider));
        }
        provider.poll_request(&pending.binding, params, credentials)
    }
}

/// Returns the requested scopes as a parameter.
fn scope(provider: &Provider) -> Vec<(String, String)> {
    let name = provider.device_form.scope_parameter.as_deref().unwrap_or("scope");
    let scopes = provider.scopes.join(&provider.form.scope_separator);
    if scopes.is_empty() { Vec::new() } else { vec![(name.to_owned(), scopes)] }
}

/// Returns the view of a sign-in with a code for the user. A record that lost its page in the store
/// shows the page of the provider.
pub(super) fn view(provider: &Provider, pending: &Pending) -> View {
    let polling = pending.polling.as_ref();
    let page = |of: fn(&Polling) -> &Option<String>| polling.and_then(|p| of(p).as_deref()?.parse().ok());
    View::DeviceCode {
        user_code: polling.and_then(|polling| polling.user_code.clone()).unwrap_or_default(),
        verification_uri: page(|polling| &polling.verification_uri)
            .unwrap_or_else(|| provider.token_endpoint().clone()),
        verification_uri_complete: page(|polling| &polling.verification_uri_complete),
    }
}
