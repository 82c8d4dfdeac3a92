//! A worker's environment. Of the bot's own one it inherits only `PATH`, `LANG` and `TERM`.

use std::{collections::BTreeMap, ffi::OsString};

use async_trait::async_trait;

use super::{AgentSettings, Holder, PromptError, folders::Folders, worker_secrets::WorkerSecrets};
use crate::{
    ids::ProviderId,
    secret::{AccessToken, Capability, Secret},
};

/// The `PATH` of a worker if the bot has none.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable with the path of the token API's socket. `threadkey token` inside a worker reads it
/// as well.
pub const SOCKET_VARIABLE: &str = "THREADKEY_SOCKET";
/// The variable with the capability to present there.
pub const CAPABILITY_VARIABLE: &str = "THREADKEY_CAPABILITY";

/// The source of the tokens for `{token:PROVIDER}`. The broker, on a higher floor, implements it.
#[async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// Returns an access token for a worker of this holder, or an error to show to its owner. The
    /// implementation decides whether the holder may use the provider.
    async fn token(&self, holder: &Holder, provider: &ProviderId) -> Result<AccessToken, String>;
}

/// Checks the placeholders of a variable's text, before any worker exists. `providers` are those
/// whose tokens workers may use.
///
/// # Errors
/// A sentence about the first wrong placeholder.
pub fn check_placeholders(text: &str, providers: &[ProviderId]) -> Result<(), String> {
    let mut rest = text;
    while let Some((_, placeholder, after)) = next_placeholder(rest) {
        match placeholder.split_once(':') {
            None if NAMES.contains(&placeholder) => {}
            Some(("token", name)) if providers.iter().any(|id| id.as_str() == name) => {}
            Some(("token", name)) => {
                let known: Vec<_> = providers.iter().map(ProviderId::as_str).collect();
                return Err(format!(
                    "{{token:{name}}} names no provider of agent.providers, which are: {}",
                    known.join(", ")
                ));
            }
            _ => return Err(not_a_placeholder(placeholder)),
        }
        rest = after;
    }
    Ok(())
}

/// Returns the providers of all `{token:PROVIDER}`, each once.
pub(super) fn required_providers(settings: &AgentSettings) -> Vec<ProviderId> {
    let mut found: Vec<ProviderId> = Vec::new();
    for text in settings.env.values() {
        let mut rest = text.as_str();
        while let Some((_, placeholder, after)) = next_placeholder(rest) {
            let provider = placeholder.strip_prefix("token:").and_then(|name| name.parse().ok());
            found.extend(provider.filter(|provider| !found.contains(provider)));
            rest = after;
        }
    }
    found
}

/// The placeholders without an argument.
const NAMES: [&str; 3] = ["capability", "conversation", "user"];

fn not_a_placeholder(text: &str) -> String {
    let name = text.split(':').next().unwrap_or_default();
    let known = NAMES.into_iter().chain(["token"]).map(|known| (strsim::jaro_winkler(name, known), known));
    let hint = match known.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.8) {
        Some((_, "token")) => "did you mean {token:PROVIDER}?".to_owned(),
        Some((_, known)) => format!("did you mean {{{known}}}?"),
        None => "use {capability}, {conversation}, {user} or {token:PROVIDER}".to_owned(),
    };
    format!("{{{text}}} is no placeholder: {hint}")
}

/// The bot's own value of a variable, or the default.
pub(super) fn inherited(name: &str, default: &str) -> OsString {
    std::env::var_os(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.into())
}

/// Builds the environment, and lists the secrets in it.
pub(super) async fn build(
    settings: &AgentSettings,
    folders: &Folders,
    holder: &Holder,
    capability: &Capability,
    tokens: &dyn TokenSource,
) -> Result<(Vec<(OsString, OsString)>, WorkerSecrets), PromptError> {
    let mut secrets = vec![Secret::new(capability.expose())];
    let mut all: BTreeMap<OsString, OsString> = BTreeMap::new();
    all.insert("PATH".into(), inherited("PATH", DEFAULT_PATH));
    all.insert("LANG".into(), inherited("LANG", "C.UTF-8"));
    all.insert("TERM".into(), inherited("TERM", "dumb"));
    all.insert("HOME".into(), folders.home.clone().into());
    all.insert("TMPDIR".into(), folders.tmp.clone().into());
    let mut expansion = Expansion { holder, capability, tokens, secrets: &mut secrets };
    for (variable, text) in &settings.env {
        let value = expansion
            .expand(text)
            .await
            .and_then(|value| {
                if value.contains('\0') {
                    Err("its value contains a NUL character".into())
                } else {
                    Ok(value)
                }
            })
            .map_err(|detail| PromptError::Environment { variable: variable.clone(), detail })?;
        all.insert(variable.into(), value.into());
    }
    all.insert(SOCKET_VARIABLE.into(), settings.socket.clone().into());
    all.insert(CAPABILITY_VARIABLE.into(), capability.expose().into());
    Ok((all.into_iter().collect(), WorkerSecrets::new(secrets)))
}

/// Expands the placeholders of one environment, and collects the secrets that it puts in.
struct Expansion<'a> {
    holder: &'a Holder,
    capability: &'a Capability,
    tokens: &'a dyn TokenSource,
    secrets: &'a mut Vec<Secret>,
}

impl Expansion<'_> {
    async fn expand(&mut self, text: &str) -> Result<String, String> {
        let mut value = String::new();
        let mut rest = text;
        while let Some((before, placeholder, after)) = next_placeholder(rest) {
            value.push_str(before);
            value.push_str(&self.fill(placeholder).await?);
            rest = after;
        }
        value.push_str(rest);
        Ok(value)
    }

    async fn fill(&mut self, placeholder: &str) -> Result<String, String> {
        match placeholder.split_once(':') {
            None if placeholder == "capability" => Ok(self.capability.expose().to_owned()),
            None if placeholder == "conversation" => Ok(self.holder.conversation.id.0.to_string()),
            None if placeholder == "user" => Ok(self.holder.conversation.owner.to_string()),
            Some(("token", provider)) => self.token(provider).await,
            _ => Err(not_a_placeholder(placeholder)),
        }
    }

    async fn token(&mut self, provider: &str) -> Result<String, String> {
        let provider: ProviderId =
            provider.parse().map_err(|error| format!("{{token:{provider}}}: {error}"))?;
        let token = self.tokens.token(self.holder, &provider).await?;
        self.secrets.push(Secret::new(token.expose()));
        Ok(token.expose().to_owned())
    }
}

/// Finds the next `{name}` or `{name:argument}`, where the name has lower-case letters only. Other
/// braces, as in JSON, are text.
fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|at| from + at) {
        let inside = &text[open + 1..];
        let name = inside.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(inside.len());
        let close = inside.find(['{', '}', '"']).filter(|at| inside.as_bytes()[*at] == b'}');
        if let Some(close) = close
            && name > 0
            && (name == close || inside.as_bytes()[name] == b':')
        {
            return Some((&text[..open], &inside[..close], &inside[close + 1..]));
        }
        from = open + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::Conversation,
        ids::{ConversationId, Snowflake},
    };

    struct OneToken;

    #[async_trait]
    impl TokenSource for OneToken {
        async fn token(&self, _: &Holder, provider: &ProviderId) -> Result<AccessToken, String> {
            if provider.as_str() == "acme" {
                Ok(AccessToken::new("s3cr3t-token"))
            } else {
                Err(format!("sign in to {provider} first"))
            }
        }
    }

    async fn expand(text: &str) -> Result<String, String> {
        let conversation =
            Conversation { id: ConversationId(Snowflake(7)), owner: Snowflake(8), shared_guild: None };
        let providers = ["acme", "other"].map(|name| name.parse().expect("a name")).to_vec();
        let holder = Holder { conversation, providers };
        let mut secrets = Vec::new();
        let mut expansion = Expansion {
            holder: &holder,
            capability: &Capability::new("s3cr3t-capability"),
            tokens: &OneToken,
            secrets: &mut secrets,
        };
        expansion.expand(text).await
    }

    #[tokio::test]
    async fn placeholders_are_replaced_and_other_braces_stay() {
        assert_eq!(
            expand(r#"{"key":"{token:acme}","u":{"x":"{user}/{conversation}"}} {} {X} {"#).await.as_deref(),
            Ok(r#"{"key":"s3cr3t-token","u":{"x":"8/7"}} {} {X} {"#)
        );
        assert_eq!(expand("{capability}").await.as_deref(), Ok("s3cr3t-capability"));
    }

    #[tokio::test]
    async fn a_placeholder_without_a_value_is_an_error_that_says_why() {
        for (text, part) in [
            ("{tokens:acme}", "no placeholder"),
            ("{home}", "no placeholder"),
            ("{token:other}", "sign in to other first"),
            ("{token:}", "{token:}"),
        ] {
            let error = expand(text).await.expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
