//! `[discord]`: the settings of the Discord bot.

use std::path::Path;

use url::Url;

use super::{
    ConfigError,
    file::{DiscordId, DiscordSection},
    secret::{SecretKeys, SecretReader},
    source::Source,
    trust,
};
use crate::{
    discord::DiscordSettings, ids::Snowflake, net::is_loopback, secret::Secret,
    sys::secret_source::SecretSource,
};

/// The settings of the bot whose token is not read yet, because a command may print it.
#[derive(Clone, Debug)]
pub(super) struct UnreadToken {
    source: SecretSource,
    settings: DiscordSettings,
}

impl UnreadToken {
    /// Reads the token.
    pub(super) async fn read(&self) -> Result<DiscordSettings, String> {
        match self.source.read().await {
            Ok(token) => Ok(DiscordSettings { token, ..self.settings.clone() }),
            Err(error) => Err(format!("discord.token_command: {error}")),
        }
    }
}

/// Builds the settings of the section.
///
/// The inner error reports a missing token, in a sentence without its end: most commands need none.
pub(super) fn settings(
    source: &Source<'_>,
    secrets: &mut SecretReader<'_>,
    section: Option<DiscordSection>,
    shared: bool,
    store: &Path,
) -> Result<Result<UnreadToken, String>, ConfigError> {
    let section = section.unwrap_or_default();
    let token = secrets.read(&SecretKeys {
        section: &["discord"],
        name: "token",
        env: section.token_env.as_deref(),
        file: section.token_file.as_deref(),
        command: &section.token_command,
    })?;
    let api_base = section.api_base.filter(|base| !base.is_empty());
    let api_base = api_base.map(|base| checked_base(source, &base)).transpose()?;
    let trust = trust::with_file(source, &["discord"], section.ca_file.as_deref())?;
    let ids = |ids: Vec<DiscordId>| -> Vec<Snowflake> { ids.into_iter().map(|id| id.0).collect() };
    let source = match token {
        Some(Ok(source)) => source,
        Some(Err(missing)) => return Ok(Err(missing)),
        None => {
            let missing = "discord.token_env is not set: it must name the environment variable that holds the bot's \
                           token, for example token_env = \"DISCORD_TOKEN\" under [discord]";
            return Ok(Err(missing.to_owned()));
        }
    };
    let settings = DiscordSettings {
        token: Secret::new(""),
        api_base,
        trust,
        allow_everyone: section.allow_everyone,
        allowed_guilds: ids(section.allowed_guilds),
        allowed_channels: ids(section.allowed_channels),
        allowed_roles: ids(section.allowed_roles),
        allowed_users: ids(section.allowed_users),
        // No channel has the id 0.
        log_channel: section.log_channel.map(|id| id.0).filter(|id| id.0 != 0),
        guild_sessions: shared,
        conversations: store.with_file_name("conversations.json"),
    };
    Ok(Ok(UnreadToken { source, settings }))
}

/// Parses `api_base`. The bot token is sent there, so the URL must use https or name this machine.
fn checked_base(source: &Source<'_>, text: &str) -> Result<Url, ConfigError> {
    let error =
        |problem: &str| source.error_at(&["discord", "api_base"], format!("discord.api_base {problem}"));
    let url = Url::parse(text).map_err(|_| error("is not a URL: write for example http://127.0.0.1:8080"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(error("must use https; http is allowed only on this machine (127.0.0.1, ::1, localhost)")),
    }
}
