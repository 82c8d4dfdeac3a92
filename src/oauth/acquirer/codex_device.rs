//! The device flow of OpenAI's Codex, which is not RFC 8628: JSON requests, a poll that returns an
//! authorization code with its verifier, and then an exchange of that code.
//!
//! Source: <https://github.com/openai/codex> (codex-rs/login/src/device_code_auth.rs).

use url::Url;

use super::{
    contract::{KnownUser, TokenAcquirer, View},
    device,
    opening::{self, Opened, OpeningError},
    reading::{Proof, Reading},
};
use crate::{
    oauth::{
        AnswerRules, Attempt, Credentials, Mismatch, OpeningRequest, Outcome, Provider, TokenRequest,
        Withheld, content::Content, sign_in_outcome,
    },
    secret::{AuthorizationCode, CodeVerifier, Scrubber},
    session::{
        GrantKind, Locked, PENDING_LIFETIME, Pending, Polling,
        journal::{Answer, Answered},
        seconds,
    },
};

/// The path of the page where the user enters the code.
const PAGE: &str = "/codex/device";

/// The path of the redirect URI of the exchange.
const REDIRECT: &str = "/deviceauth/callback";

/// The grant.
#[derive(Debug)]
pub(super) struct CodexDevice;

impl TokenAcquirer for CodexDevice {
    fn opening(
        &self,
        provider: &Provider,
        _user: &KnownUser,
        _credentials: &Credentials,
    ) -> Result<Option<OpeningRequest>, OpeningError> {
        let endpoint = provider.device_authorization_endpoint.as_ref();
        let endpoint = endpoint.ok_or(OpeningError::Unusable("device_authorization_endpoint"))?;
        let body = serde_json::json!({ "client_id": provider.client_id });
        Ok(Some(OpeningRequest(provider.json_request(endpoint, &body))))
    }

    fn opened(
        &self,
        provider: &Provider,
        _user: &KnownUser,
        answer: &Answer,
    ) -> Result<Polling, OpeningError> {
        let content = opening::content(answer)?;
        let opened = Opened::read(&content, answer)?;
        Ok(Polling {
            grant: GrantKind::Device,
            code: opened.code("device_auth_id")?,
            user_code: Some(opened.user_code(&["user_code", "usercode"])?),
            verification_uri: Some(beside(provider, PAGE)),
            verification_uri_complete: None,
            binding_message: None,
            expires_at: answer.at.saturating_add(seconds(PENDING_LIFETIME)),
            interval: opened.interval(),
            not_before: None,
            ended: None,
        })
    }

    fn redirect_uri(&self, provider: &Provider) -> Option<String> {
        Some(beside(provider, REDIRECT))
    }

    fn view(&self, provider: &Provider, pending: &Pending) -> View {
        device::view(provider, pending)
    }

    fn poll(
        &self,
        provider: &Provider,
        pending: &Locked<Pending>,
        polling: &Polling,
        _credentials: &Credentials,
    ) -> Result<TokenRequest, Withheld> {
        provider.check_bound(&pending.binding)?;
        let body = serde_json::json!({
            "device_auth_id": polling.code.expose(),
            "user_code": polling.user_code.as_deref().unwrap_or_default(),
        });
        Ok(provider.json_request(&poll_endpoint(provider), &body))
    }

    fn read(
        &self,
        attempt: &Attempt<Answered>,
        rules: &AnswerRules,
        _pending: &Pending,
        is_poll: bool,
    ) -> Result<Reading, Mismatch> {
        if is_poll && let Attempt::Answered(answered) = attempt {
            return Ok(of_poll(answered.answer()));
        }
        sign_in_outcome(attempt, rules, None).map(Reading::Outcome)
    }
}

/// Reads the answer to a poll. 403 and 404 are no verdict here: the user has not decided yet.
fn of_poll(answer: &Answer) -> Reading {
    let by_status = || format!("http_{}", answer.status);
    match answer.status {
        403 | 404 => Reading::Pending,
        200..=299 => code_of(answer).map_or_else(
            || Reading::Outcome(Outcome::Ambiguous { code: format!("ambiguous_{}", by_status()) }),
            Reading::Exchange,
        ),
        429 | 500..=599 | 300..=399 => {
            Reading::Outcome(Outcome::Unspent { code: by_status(), retry_after: None })
        }
        _ => Reading::Outcome(Outcome::Refused { code: by_status() }),
    }
}

fn code_of(answer: &Answer) -> Option<Proof> {
    let content = Content::of(answer)?;
    let members = content.object()?;
    let (code, verifier) =
        (members.text("authorization_code").whole()?, members.text("code_verifier").whole()?);
    [&code, &verifier].into_iter().for_each(|secret| {
        Scrubber::of_process().note(secret);
    });
    Some(Proof::Code { code: AuthorizationCode::new(code), verifier: Some(CodeVerifier::new(verifier)) })
}

/// Returns the endpoint of the polls: `token` beside the one that issues the codes.
fn poll_endpoint(provider: &Provider) -> Url {
    let opening = provider.device_authorization_endpoint.as_ref();
    opening.and_then(|url| url.join("token").ok()).unwrap_or_else(|| provider.token_endpoint().clone())
}

/// Returns an address of the token endpoint's server.
fn beside(provider: &Provider, path: &str) -> String {
    let url = provider.token_endpoint().join(path);
    url.map_or_else(|_| provider.token_endpoint().to_string(), |url| url.to_string())
}
