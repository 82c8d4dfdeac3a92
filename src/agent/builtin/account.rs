//! Finds the account of the agent's token: the token API gives the token, and the resource names
//! its account.

use std::time::Duration;

use agent_client_protocol::Error as AcpError;
use http::StatusCode;
use serde_json::Value;
use url::Url;

use super::{
    reply::Reply,
    settings::{BuiltinError, BuiltinSettings},
};
use crate::{
    agent::token_client::{TokenAnswer, TokenClientError, TokenQuery},
    ids::ProviderId,
    net::{Outward, Trust},
    session::is_known_expiry,
};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long the agent waits for its owner's sign-in: the longest time that the token API takes.
const OWNER_WAIT: Duration = Duration::from_secs(300);
/// How many bytes of the resource's answer are read at most.
const MAX_BODY: usize = 64 * 1024;

/// Reports the account of the agent's token.
#[derive(Clone)]
pub(super) struct AccountReport {
    settings: BuiltinSettings,
    client: reqwest::Client,
}

/// The reason why the resource named no account.
enum NoAccount {
    /// The resource answered 401.
    TokenRejected,
    /// Another reason, to show to the owner.
    Other(String),
}

impl AccountReport {
    pub(super) fn new(settings: BuiltinSettings) -> Result<Self, BuiltinError> {
        // No redirects: a token goes to the configured address and to no other.
        let outward =
            Outward::from_environment().map_err(|error| BuiltinError::Connection(error.to_string()))?;
        let client = outward
            .http_client(&Trust::default())
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("threadkey-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| BuiltinError::Connection(error.to_string()))?;
        Ok(Self { settings, client })
    }

    /// Sends the account or the reason why it is unknown. Each step is shown as a tool call.
    pub(super) async fn send(&self, reply: &Reply) -> Result<(), AcpError> {
        let sentence = match self.look_up(reply).await? {
            Ok(sentence) | Err(sentence) => sentence,
        };
        reply.send(&sentence)
    }

    /// Returns a sentence with the account, or with the reason why it is unknown. The outer error
    /// is the connection's to the bot.
    async fn look_up(&self, reply: &Reply) -> Result<Result<String, String>, AcpError> {
        let provider = &self.settings.provider;
        let title = format!("Ask threadkey for a token of {provider}");
        // The owner is asked to sign in, and the answer goes on after that.
        let query = TokenQuery { wait: Some(OWNER_WAIT), ..TokenQuery::default() };
        let requested = self.settings.tokens.token(provider, query);
        let mut token = match reply.tool_call("token", title, requested).await? {
            Ok(token) => token,
            Err(error) => return Ok(Err(no_token(provider, &error))),
        };
        let Some(address) = &self.settings.userinfo else {
            let account = token.account.clone().unwrap_or_else(|| token.principal.clone());
            return Ok(Ok(sentence(&account, &token)));
        };
        let title = format!("Ask {provider} for the account");
        let mut found = reply.tool_call("userinfo", title, self.ask_userinfo(address, &token)).await?;
        if let Err(NoAccount::TokenRejected) = found {
            let title = format!("Report to threadkey that {provider} refused the token");
            let rejected = self.settings.tokens.rejected(provider, &token.access_token);
            token = match reply.tool_call("rejected", title, rejected).await? {
                Ok(token) => token,
                Err(error) => return Ok(Err(no_token(provider, &error))),
            };
            let title = format!("Ask {provider} again");
            found = reply.tool_call("userinfo-again", title, self.ask_userinfo(address, &token)).await?;
        }
        Ok(match found {
            Ok(account) => Ok(sentence(&account, &token)),
            Err(NoAccount::Other(reason)) => Err(reason),
            Err(NoAccount::TokenRejected) => Err(format!(
                "**{provider}** refuses the token that I hold, and a new one as well (401). Sign in again with `/auth start {provider}`."
            )),
        })
    }

    /// Asks the resource for the token's account.
    async fn ask_userinfo(&self, address: &Url, token: &TokenAnswer) -> Result<String, NoAccount> {
        let provider = &self.settings.provider;
        let request = self.client.get(address.clone()).bearer_auth(token.access_token.expose());
        let sent = request.header("accept", "application/json").send().await;
        let response =
            sent.map_err(|error| NoAccount::Other(format!("**{provider}** cannot be reached: {error}")))?;
        match response.status() {
            StatusCode::UNAUTHORIZED => Err(NoAccount::TokenRejected),
            status if status.is_success() => {
                let body = body(response).await.map_err(|reason| {
                    NoAccount::Other(format!("The answer of **{provider}** cannot be read: {reason}"))
                })?;
                account(&body).ok_or_else(|| {
                    NoAccount::Other(format!("The answer of **{provider}** names no account."))
                })
            }
            status => Err(NoAccount::Other(format!("**{provider}** answers {status}."))),
        }
    }
}

fn sentence(account: &str, token: &TokenAnswer) -> String {
    let TokenAnswer { provider, generation, expires_in, .. } = token;
    let end = match is_known_expiry(token.expires_at) {
        true => format!("expires in {expires_in} s"),
        false => format!("works until **{provider}** ends it"),
    };
    format!("I hold **{account}**'s login at **{provider}** (generation {generation}, the token {end}).")
}

fn no_token(provider: &ProviderId, error: &TokenClientError) -> String {
    match error {
        // The reader is a Discord user: this names the command to type, and no tenant.
        TokenClientError::Refused { code, .. } if code == "no_session" => format!(
            "threadkey gives me no token: you are not signed in to **{provider}**. Type `/auth start {provider}`, and then ask me again."
        ),
        TokenClientError::Refused { code, .. } if code == "authorization_denied" => format!(
            "threadkey gives me no token of **{provider}**: the sign-in was declined. Type `/auth start {provider}` to sign in, and then ask me again."
        ),
        TokenClientError::Refused { code, .. } if code == "authorization_timeout" => format!(
            "I have waited for your sign-in to **{provider}**. Press **Sign in** above or type `/auth start {provider}`, and then ask me again."
        ),
        TokenClientError::Refused { code, detail, .. } => {
            format!("threadkey gives me no token: {detail} (`{code}`)")
        }
        other => format!("threadkey gives me no token: {other}"),
    }
}

/// Reads a JSON body of limited length.
async fn body(mut response: reqwest::Response) -> Result<Value, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        if bytes.len() + chunk.len() > MAX_BODY {
            return Err(format!("it is longer than {} KiB", MAX_BODY / 1024));
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Returns the account from OpenID Connect claims (Core §5.1). Names that users know come before
/// the provider's own id.
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
    fn an_account_has_the_name_that_users_know_before_the_providers_id() {
        assert_eq!(
            account(&serde_json::json!({"sub": "8f", "name": "alice", "email": "a@x"})).as_deref(),
            Some("alice")
        );
        assert_eq!(account(&serde_json::json!({"sub": "8f", "name": ""})).as_deref(), Some("8f"));
        assert_eq!(account(&serde_json::json!({"name": 7})), None);
    }
}
