//! The settings of the built-in agent, from the environment of its worker process.

use std::path::Path;

use url::Url;

use crate::{
    agent::token_client::{TokenClient, TokenClientError},
    ids::ProviderId,
    net::is_loopback,
};

/// The variable with the provider whose token is requested.
pub const PROVIDER_VARIABLE: &str = "THREADKEY_AGENT_PROVIDER";
/// The variable with the address that returns the account of a token.
pub const USERINFO_VARIABLE: &str = "THREADKEY_AGENT_USERINFO";

/// The settings of the built-in agent.
#[derive(Clone, Debug)]
pub struct BuiltinSettings {
    /// The source of its token.
    pub tokens: TokenClient,
    /// The provider of its token.
    pub provider: ProviderId,
    /// The address that returns the account of a token (https, or http on loopback). Without it,
    /// the agent shows the account that the token API names.
    pub userinfo: Option<Url>,
}

/// The reason why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BuiltinError {
    /// The process was not started as a worker.
    #[error("the bot starts `threadkey agent` as its agent.command, and it does not run in a terminal ({0})")]
    NotInWorker(#[from] TokenClientError),
    /// A variable is missing or wrong.
    #[error("{variable}: {detail}. Set it in the table agent.env of threadkey.toml")]
    Variable {
        /// The variable's name.
        variable: &'static str,
        /// The problem.
        detail: String,
    },
    /// The connection on stdin and stdout broke.
    #[error("the connection to the bot failed: {0}")]
    Connection(String),
}

impl BuiltinSettings {
    /// Reads the settings from the environment of this worker process.
    ///
    /// # Errors
    /// If a variable is missing or wrong.
    pub fn from_env() -> Result<Self, BuiltinError> {
        let tokens = TokenClient::from_env()?;
        let wrong = |variable| move |detail| BuiltinError::Variable { variable, detail };
        let provider = std::env::var(PROVIDER_VARIABLE).map_err(|error| error.to_string());
        let provider =
            provider.and_then(|name| name.parse::<ProviderId>().map_err(|error| error.to_string()));
        let userinfo = std::env::var(USERINFO_VARIABLE).ok().filter(|text| !text.is_empty());
        let userinfo = userinfo.map(|text| resource_address(&text)).transpose();
        Ok(Self {
            tokens,
            provider: provider.map_err(wrong(PROVIDER_VARIABLE))?,
            userinfo: userinfo.map_err(wrong(USERINFO_VARIABLE))?,
        })
    }
}

/// Whether a command of the configuration starts the built-in agent.
pub fn is_builtin(command: &[String]) -> bool {
    let [program, first, ..] = command else { return false };
    Path::new(program).file_name().is_some_and(|name| name == "threadkey") && first == "agent"
}

/// Parses an address to which a token may go.
///
/// # Errors
/// A sentence about the text, if it is not such an address.
pub fn resource_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is not an address: {error}"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(format!("{text:?}: a token goes only to https, or to http on loopback")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_only_to_https_or_loopback() {
        for good in [
            "https://id.example/userinfo",
            "http://127.0.0.1:8080/me",
            "http://[::1]/me",
            "http://localhost/me",
        ] {
            assert!(resource_address(good).is_ok(), "{good}");
        }
        for bad in
            ["http://id.example/me", "http://127.0.0.1.example/me", "ftp://localhost/me", "me", "data:x"]
        {
            assert!(resource_address(bad).is_err(), "{bad}");
        }
    }
}
