//! `[discord]`: how to be on Discord.

use std::path::Path;

use url::Url;

use super::{
    ConfigError,
    file::{DiscordSection, Id},
    secret,
    source::Source,
};
use crate::{discord::DiscordSettings, ids::Snowflake};

/// What the section asks for. The inner error is a sentence without its end, about a token that is missing: most commands do
/// without it.
pub(super) fn settings(
    source: &Source<'_>,
    section: Option<DiscordSection>,
    shared: bool,
    store: &Path,
) -> Result<Result<DiscordSettings, String>, ConfigError> {
    let section = section.unwrap_or_default();
    let token = secret::named(
        source,
        section.token_env.as_deref(),
        section.token_file.as_deref(),
        &["discord"],
        "token",
    )?;
    let api_base = section.api_base.filter(|base| !base.is_empty());
    let api_base = api_base.map(|base| checked_base(source, &base)).transpose()?;
    let ids = |ids: Vec<Id>| -> Vec<Snowflake> { ids.into_iter().map(|id| id.0).collect() };
    let unset = || {
        "discord.token_env is not set: name there the environment variable that holds the bot's token, for example \
         token_env = \"DISCORD_TOKEN\" under [discord]"
            .to_owned()
    };
    let token = match token {
        Some(Ok(token)) => token,
        Some(Err(what)) => return Ok(Err(what)),
        None => return Ok(Err(unset())),
    };
    Ok(Ok(DiscordSettings {
        token,
        api_base,
        allowed_guilds: ids(section.allowed_guilds),
        allowed_channels: ids(section.allowed_channels),
        allowed_roles: ids(section.allowed_roles),
        allowed_users: ids(section.allowed_users),
        guild_sessions: shared,
        conversations: store.with_file_name("conversations.json"),
    }))
}

/// The bot token goes there, so it is https, or this machine.
fn checked_base(source: &Source<'_>, text: &str) -> Result<Url, ConfigError> {
    let about = |what: &str| source.about(&["discord", "api_base"], format!("discord.api_base {what}"));
    let url = Url::parse(text).map_err(|_| about("is no URL: write for example http://127.0.0.1:8080"))?;
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err(about("has to be https; http is only for this machine (127.0.0.1, ::1, localhost)")),
    }
}
