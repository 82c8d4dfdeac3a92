//! A worker's environment. Of the bot's own one it inherits only `PATH`, `LANG` and `TERM`.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
};

use async_trait::async_trait;

use super::{
    AgentSettings, Holder, InjectAccess, Isolation, PromptError, file_text, folders::Folders,
    placeholder_name::check_name, tool_settings::ToolVariables, worker_secrets::WorkerSecrets,
};
use crate::{
    ids::{ProviderId, RouteName, UnixTime},
    secret::{Capability, InjectSecret, Secret},
    tools::{TokenValues, next_placeholder},
};

/// The `PATH` of a worker if the bot has none.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable with the path of the token API's socket. `threadkey token` inside a worker reads it
/// as well.
pub const SOCKET_VARIABLE: &str = "THREADKEY_SOCKET";
/// The variable with the capability to present there.
pub const CAPABILITY_VARIABLE: &str = "THREADKEY_CAPABILITY";

/// The source of the tokens for `{token:PROVIDER}` and for the files of tools. The broker, on a higher
/// floor, implements it.
#[async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// Returns an access token for a worker of this holder. The implementation decides whether the
    /// holder may use the provider.
    ///
    /// # Errors
    /// The reason, to show to the owner.
    async fn token(&self, holder: &Holder, provider: &ProviderId) -> Result<TokenValues, TokenRefusal>;

    /// Subscribes to changes after which [`TokenSource::token`] may return something else.
    fn changes(&self) -> Box<dyn TokenChanges>;

    /// Returns the time, in Unix seconds.
    fn now(&self) -> UnixTime;
}

/// A subscription to changes of tokens.
#[async_trait]
pub trait TokenChanges: Send + Sync {
    /// Returns after the next change. Dropping the future loses nothing.
    async fn next(&mut self);
}

/// The reason why a worker gets no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRefusal {
    /// The reason, for the owner.
    pub reason: String,
    /// Whether the worker has no right to a token now. Otherwise the reason passes by itself, and an
    /// earlier token may still work.
    pub is_final: bool,
}

/// The names that placeholders may have as their argument.
#[derive(Clone, Copy, Debug)]
pub struct Placeholders<'a> {
    /// The providers whose tokens workers may use.
    pub providers: &'a [ProviderId],
    /// The routes of the injecting proxy.
    pub routes: &'a [RouteName],
    /// Whether workers may hold access tokens.
    pub raw_tokens: bool,
}

/// Checks the placeholders of a variable's text, before any worker exists.
///
/// # Errors
/// A sentence about the first wrong placeholder.
pub fn check_placeholders(text: &str, known: &Placeholders<'_>) -> Result<(), String> {
    all_placeholders(text).try_for_each(|text| match Placeholder::parse(text)? {
        Placeholder::Token(_) if !known.raw_tokens => Err(format!(
            "{{{text}}} is not filled in with agent.tokens = \"inject\": agents hold no token. Give the program {{inject:ROUTE}} as its address and {{inject_secret}} as its key"
        )),
        Placeholder::Token(name) => {
            let names = known.providers.iter().map(ProviderId::as_str);
            check_name(text, name, names, "no provider of agent.providers")
        }
        Placeholder::Inject(name) | Placeholder::InjectSocket(name) | Placeholder::InjectSecret(Some(name)) => {
            check_name(text, name, known.routes.iter().map(RouteName::as_str), "no table [inject.NAME]")
        }
        Placeholder::InjectSecret(None) if known.routes.is_empty() => {
            Err(format!("{{{text}}} opens nothing: add a table [inject.NAME]"))
        }
        _ => Ok(()),
    })
}

/// Returns the providers of all `{token:PROVIDER}`, each once.
pub(super) fn required_providers(settings: &AgentSettings) -> Vec<ProviderId> {
    let mut found: Vec<ProviderId> = Vec::new();
    for text in settings.env.values().flat_map(|text| all_placeholders(text)) {
        if let Ok(Placeholder::Token(name)) = Placeholder::parse(text) {
            found.extend(name.parse().ok().filter(|provider| !found.contains(provider)));
        }
    }
    found
}

/// Returns the routes of all `{inject_socket:ROUTE}` and of the tools that use a socket, each once.
pub(super) fn named_sockets(settings: &AgentSettings) -> BTreeSet<RouteName> {
    let of_tools = settings.tools.iter().filter(|tool| tool.means.uses_socket());
    let of_tools = of_tools.filter_map(|tool| tool.route.clone());
    let of_files = settings.files.iter().flat_map(|file| file_text::named_sockets(&file.text));
    let texts = settings.env.values().flat_map(|text| all_placeholders(text));
    let named = texts.filter_map(|text| match Placeholder::parse(text) {
        Ok(Placeholder::InjectSocket(name)) => name.parse().ok(),
        _ => None,
    });
    named.chain(of_tools).chain(of_files).collect()
}

/// A placeholder, with its argument.
enum Placeholder<'a> {
    Capability,
    Conversation,
    User,
    Token(&'a str),
    Inject(&'a str),
    InjectSocket(&'a str),
    /// The secret of all routes, or of one.
    InjectSecret(Option<&'a str>),
}

/// The placeholders as they are written.
const FORMS: [&str; 7] = [
    "capability",
    "conversation",
    "user",
    "token:PROVIDER",
    "inject:ROUTE",
    "inject_secret",
    "inject_socket:ROUTE",
];

impl<'a> Placeholder<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            None if text == "capability" => Self::Capability,
            None if text == "conversation" => Self::Conversation,
            None if text == "user" => Self::User,
            None if text == "inject_secret" => Self::InjectSecret(None),
            Some(("token", name)) => Self::Token(name),
            Some(("inject", name)) => Self::Inject(name),
            Some(("inject_secret", name)) => Self::InjectSecret(Some(name)),
            Some(("inject_socket", name)) => Self::InjectSocket(name),
            _ => return Err(not_a_placeholder(text)),
        })
    }
}

fn not_a_placeholder(text: &str) -> String {
    let name_of = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
    let score = |form: &&str| strsim::jaro_winkler(&name_of(text), &name_of(form));
    let best = FORMS.into_iter().max_by(|a, b| score(a).total_cmp(&score(b)));
    let hint = match best.filter(|form| score(form) > 0.8) {
        Some(form) => format!("did you mean {{{form}}}?"),
        None => format!("use {{{}}}", FORMS.join("}, {")),
    };
    format!("{{{text}}} is no placeholder: {hint}")
}

/// The bot's own value of a variable, or the default.
pub(super) fn inherited(name: &str, default: &str) -> OsString {
    std::env::var_os(name).filter(|value| !value.is_empty()).unwrap_or_else(|| default.into())
}

/// The parts of one worker that its environment is built from.
pub(super) struct Given<'a> {
    pub(super) holder: &'a Holder,
    pub(super) capability: &'a Capability,
    /// The worker's access to the injecting proxy, if there is one.
    pub(super) inject: Option<&'a InjectAccess>,
}

/// Builds the environment, and lists the secrets in it.
pub(super) async fn build(
    settings: &AgentSettings,
    folders: &Folders,
    given: &Given<'_>,
    tokens: &dyn TokenSource,
    tool_variables: ToolVariables,
) -> Result<(Vec<(OsString, OsString)>, WorkerSecrets), PromptError> {
    let capability = given.capability;
    let mut secrets = vec![Secret::new(capability.expose())];
    // Those of MCP servers reach the worker by the handshake.
    let routes = given.inject.map(|inject| &inject.routes);
    secrets.extend(settings.mcp.iter().filter_map(|server| {
        let secret = routes?.get(&server.route)?;
        Some(Secret::new(secret.expose()))
    }));
    // A secret of a tool's route may be in its variables and files.
    secrets.extend(settings.tools.iter().filter_map(|tool| {
        let secret = routes?.get(tool.route.as_ref()?)?;
        Some(Secret::new(secret.expose()))
    }));
    let mut all: BTreeMap<OsString, OsString> = BTreeMap::new();
    all.insert("PATH".into(), inherited("PATH", DEFAULT_PATH));
    all.insert("LANG".into(), inherited("LANG", "C.UTF-8"));
    all.insert("TERM".into(), inherited("TERM", "dumb"));
    all.insert("HOME".into(), folders.home.clone().into());
    all.insert("TMPDIR".into(), folders.tmp.clone().into());
    if settings.isolation != Isolation::None {
        let of_tools = settings.tools.iter().flat_map(|tool| &tool.means.sandbox_variables);
        all.extend(of_tools.map(|(name, value)| (name.into(), value.into())));
    }
    all.extend(tool_variables.iter().map(|(name, value)| (name.into(), value.expose().into())));
    let mut expansion = Expansion { given, tokens, secrets: &mut secrets };
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
    given: &'a Given<'a>,
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
        let Given { holder, capability, inject } = self.given;
        let no_route = || format!("{{{placeholder}}} names no table [inject.NAME]");
        let inject = || inject.ok_or_else(no_route);
        match Placeholder::parse(placeholder)? {
            Placeholder::Capability => Ok(capability.expose().to_owned()),
            Placeholder::Conversation => Ok(holder.conversation.id.0.to_string()),
            Placeholder::User => Ok(holder.conversation.owner.to_string()),
            Placeholder::Token(provider) => self.token(provider).await,
            Placeholder::Inject(name) => {
                let (inject, name) = (inject()?, name.parse().map_err(|_| no_route())?);
                inject.routes.get(&name).map(|_| inject.base_url(&name)).ok_or_else(no_route)
            }
            Placeholder::InjectSocket(name) => {
                let path = name.parse().ok().and_then(|name| inject().ok()?.sockets.get(&name));
                path.map(|path| path.to_string_lossy().into_owned()).ok_or_else(no_route)
            }
            Placeholder::InjectSecret(None) => Ok(self.put_in(&inject()?.secret)),
            Placeholder::InjectSecret(Some(name)) => {
                let secret = name.parse().ok().and_then(|name| inject().ok()?.routes.get(&name));
                secret.map(|secret| self.put_in(secret)).ok_or_else(no_route)
            }
        }
    }

    fn put_in(&mut self, secret: &InjectSecret) -> String {
        self.secrets.push(Secret::new(secret.expose()));
        secret.expose().to_owned()
    }

    async fn token(&mut self, provider: &str) -> Result<String, String> {
        let provider: ProviderId =
            provider.parse().map_err(|error| format!("{{token:{provider}}}: {error}"))?;
        let token =
            self.tokens.token(self.given.holder, &provider).await.map_err(|refusal| refusal.reason)?;
        if token.has_end() {
            return Err(goes_stale(&provider));
        }
        let token = token.access_token.expose();
        self.secrets.push(Secret::new(token));
        Ok(token.to_owned())
    }
}

/// Refuses a token in a variable. An agent may run for any time, and a variable cannot change.
fn goes_stale(provider: &ProviderId) -> String {
    format!(
        "{{token:{provider}}} is for tokens without an end. That of {provider} ends, and the agent may run for longer. \
         The operator should give it to the tool by agent.tools, in a file by agent.files, or by {{inject:ROUTE}} and {{inject_secret:ROUTE}}: these stay fresh"
    )
}

/// Returns all placeholders of a text.
fn all_placeholders(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, placeholder, after) = next_placeholder(rest)?;
        rest = after;
        Some(placeholder)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        agent::Conversation,
        ids::{ConversationId, Snowflake},
        secret::AccessToken,
    };

    struct OneToken;

    #[async_trait]
    impl TokenSource for OneToken {
        async fn token(&self, _: &Holder, provider: &ProviderId) -> Result<TokenValues, TokenRefusal> {
            let expires_at = match provider.as_str() {
                "acme" => crate::session::UNKNOWN_EXPIRY,
                "short" => 1_795_362_272,
                _ => {
                    let reason = format!("sign in to {provider} first");
                    return Err(TokenRefusal { reason, is_final: true });
                }
            };
            let access_token = AccessToken::new("s3cr3t-token");
            Ok(TokenValues { access_token, expires_at, account: None, scope: None, id_token: None })
        }

        fn changes(&self) -> Box<dyn TokenChanges> {
            unreachable!("an environment does not change")
        }

        fn now(&self) -> UnixTime {
            1_795_358_672
        }
    }

    async fn expand(text: &str) -> Result<String, String> {
        let conversation = Conversation {
            id: ConversationId(Snowflake(7)),
            owner: Snowflake(8),
            shared_guild: None,
            agent: None,
        };
        let providers = ["acme", "other"].map(|name| name.parse().expect("a name")).to_vec();
        let holder = Holder { conversation, providers };
        let mut secrets = Vec::new();
        let secret = |text: &str| InjectSecret::new(text);
        let name = |text: &str| -> RouteName { text.parse().expect("a name") };
        let inject = InjectAccess {
            port: 4711,
            secret: secret("s3cr3t-of-all"),
            routes: [(name("acme"), secret("s3cr3t-of-one"))].into(),
            sockets: [(name("acme"), "/run/w/acme".into())].into(),
        };
        let capability = Capability::new("s3cr3t-capability");
        let given = Given { holder: &holder, capability: &capability, inject: Some(&inject) };
        let mut expansion = Expansion { given: &given, tokens: &OneToken, secrets: &mut secrets };
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
    async fn the_placeholders_of_the_injecting_proxy_are_replaced() {
        let text = "{inject:acme} {inject_secret} {inject_secret:acme} {inject_socket:acme}";
        assert_eq!(
            expand(text).await.as_deref(),
            Ok("http://127.0.0.1:4711/inject/acme s3cr3t-of-all s3cr3t-of-one /run/w/acme")
        );
    }

    #[test]
    fn a_placeholder_with_a_wrong_name_is_refused_with_a_hint() {
        let (providers, routes) = (["acme".parse().expect("a name")], ["github".parse().expect("a name")]);
        let known = Placeholders { providers: &providers, routes: &routes, raw_tokens: true };
        for right in
            ["{token:acme}", "{inject:github}/v1", "{inject_secret}", "{inject_socket:github}", "{X}"]
        {
            assert_eq!(check_placeholders(right, &known), Ok(()), "{right}");
        }
        for (wrong, part) in [
            (
                "{inject:githb}",
                "{inject:githb} names no table [inject.NAME], which are: github; did you mean {inject:github}?",
            ),
            ("{inject_socket:x}", "names no table [inject.NAME], which are: github"),
            ("{inject_secret:x}", "names no table [inject.NAME], which are: github"),
            ("{token:acm}", "did you mean {token:acme}?"),
            ("{inject}", "did you mean {inject:ROUTE}?"),
            ("{inject_sockets:github}", "did you mean {inject_socket:ROUTE}?"),
            ("{home}", "use {capability}, {conversation}, {user}, {token:PROVIDER}, {inject:ROUTE}"),
        ] {
            let error = check_placeholders(wrong, &known).expect_err(wrong);
            assert!(error.contains(part), "{error}");
        }
        let none = Placeholders { routes: &[], raw_tokens: false, ..known };
        let error = check_placeholders("{token:acme}", &none).expect_err("no token");
        assert!(error.contains("agent.tokens") && error.contains("{inject:ROUTE}"), "{error}");
        assert!(
            check_placeholders("{inject_secret}", &none).expect_err("no route").contains("[inject.NAME]")
        );
    }

    #[tokio::test]
    async fn a_placeholder_without_a_value_is_an_error_that_says_why() {
        for (text, part) in [
            ("{tokens:acme}", "no placeholder"),
            ("{home}", "no placeholder"),
            ("{token:other}", "sign in to other first"),
            ("{inject:other}", "no table [inject.NAME]"),
            ("{inject_socket:other}", "no table [inject.NAME]"),
            ("{token:}", "{token:}"),
            ("{token:short}", "agent.tools, in a file by agent.files, or by {inject:ROUTE}"),
        ] {
            let error = expand(text).await.expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
