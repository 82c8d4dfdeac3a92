//! Whose login the agent holds: the token API says what it has, the resource says whose it is.

use std::time::Duration;

use agent_client_protocol::Error as AcpError;
use http::StatusCode;
use serde_json::Value;
use url::Url;

use super::{
    settings::{BuiltinError, BuiltinSettings},
    voice::Voice,
};
use crate::{
    agent::token_client::{TokenAnswer, TokenClientError, TokenQuery},
    ids::ProviderId,
};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The longest answer of the resource that is read, in bytes.
const MAX_BODY: usize = 64 * 1024;

#[derive(Clone)]
pub(super) struct Login {
    settings: BuiltinSettings,
    client: reqwest::Client,
}

/// What the resource made of a token.
enum Seen {
    /// Its owner, as the resource calls them.
    As(String),
    /// 401.
    Rejected,
    /// Something else, in words.
    Not(String),
}

impl Login {
    pub(super) fn new(settings: BuiltinSettings) -> Result<Self, BuiltinError> {
        // Without redirects: a token goes to the address that was configured and to no other.
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("threadkey-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| BuiltinError::Connection(error.to_string()))?;
        Ok(Self { settings, client })
    }

    /// Says it, with the steps as tool calls.
    pub(super) async fn show(&self, voice: &Voice) -> Result<(), AcpError> {
        let sentence = match self.find_out(voice).await? {
            Ok(sentence) | Err(sentence) => sentence,
        };
        voice.say(&sentence)
    }

    /// Who it is, or why that cannot be said. The outer error is the connection's to the bot.
    async fn find_out(&self, voice: &Voice) -> Result<Result<String, String>, AcpError> {
        let provider = &self.settings.provider;
        let title = format!("Ask threadkey for a token of {provider}");
        let asked = self.settings.tokens.token(provider, TokenQuery::default());
        let mut token = match voice.step("token", title, asked).await? {
            Ok(token) => token,
            Err(error) => return Ok(Err(no_token(provider, &error))),
        };
        let Some(address) = &self.settings.userinfo else {
            let account = token.account.clone().unwrap_or_else(|| token.principal.clone());
            return Ok(Ok(sentence(&account, &token)));
        };
        let title = format!("Ask {provider} whose login it is");
        let seen = self.look(address, &token);
        let mut seen = voice.step("userinfo", title, async { seen.await.into_result() }).await?;
        if let Err(Seen::Rejected) = seen {
            let title = format!("Tell threadkey that {provider} refused the token");
            let rejected = self.settings.tokens.rejected(provider, &token.access_token);
            token = match voice.step("rejected", title, rejected).await? {
                Ok(token) => token,
                Err(error) => return Ok(Err(no_token(provider, &error))),
            };
            let title = format!("Ask {provider} again");
            let again = self.look(address, &token);
            seen = voice.step("userinfo-again", title, async { again.await.into_result() }).await?;
        }
        Ok(match seen {
            Ok(account) => Ok(sentence(&account, &token)),
            Err(Seen::Not(why)) => Err(why),
            Err(_) => Err(format!("**{provider}** refuses the token that I hold, also a new one (401).")),
        })
    }

    async fn look(&self, address: &Url, token: &TokenAnswer) -> Seen {
        let provider = &self.settings.provider;
        let asked = self.client.get(address.clone()).bearer_auth(token.access_token.expose());
        let response = match asked.header("accept", "application/json").send().await {
            Ok(response) => response,
            Err(error) => return Seen::Not(format!("**{provider}** cannot be reached: {error}")),
        };
        match response.status() {
            StatusCode::UNAUTHORIZED => Seen::Rejected,
            status if status.is_success() => match body(response).await {
                Ok(body) => account(&body).map_or_else(
                    || Seen::Not(format!("**{provider}** does not say whose login it is.")),
                    Seen::As,
                ),
                Err(why) => Seen::Not(format!("**{provider}** cannot be understood: {why}")),
            },
            status => Seen::Not(format!("**{provider}** answers {status}.")),
        }
    }
}

impl Seen {
    fn into_result(self) -> Result<String, Self> {
        match self {
            Self::As(account) => Ok(account),
            other => Err(other),
        }
    }
}

fn sentence(account: &str, token: &TokenAnswer) -> String {
    let TokenAnswer { provider, generation, expires_in, .. } = token;
    format!(
        "I hold **{account}**'s login at **{provider}** (generation {generation}, token ends in {expires_in} s)."
    )
}

fn no_token(provider: &ProviderId, error: &TokenClientError) -> String {
    match error {
        // Whoever reads this is on Discord: what to do there, and no tenant's name.
        TokenClientError::Refused { code, .. } if code == "no_session" => format!(
            "threadkey gives me no token: nobody is signed in to **{provider}** for you. Type `/auth start {provider}`, and then ask me again."
        ),
        TokenClientError::Refused { code, detail, .. } => {
            format!("threadkey gives me no token: {detail} (`{code}`)")
        }
        other => format!("threadkey gives me no token: {other}"),
    }
}

async fn body(mut response: reqwest::Response) -> Result<Value, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(format!("its answer is longer than {} KiB", MAX_BODY / 1024));
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// OpenID Connect Core §5.1, from what people know themselves by to what only the provider knows.
fn account(userinfo: &Value) -> Option<String> {
    ["preferred_username", "name", "login", "email", "sub"]
        .iter()
        .find_map(|claim| userinfo.get(claim)?.as_str().filter(|text| !text.is_empty()))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_called_as_people_know_it() {
        assert_eq!(
            account(&serde_json::json!({"sub": "8f", "name": "alice", "email": "a@x"})).as_deref(),
            Some("alice")
        );
        assert_eq!(account(&serde_json::json!({"sub": "8f", "name": ""})).as_deref(), Some("8f"));
        assert_eq!(account(&serde_json::json!({"name": 7})), None);
    }
}
