//! The file as it is written. Everything is optional here; what is needed is asked for when the settings are built.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use crate::{
    cli::parse_duration,
    ids::{ProviderId, Snowflake},
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) store: StoreSection,
    pub(super) discord: Option<DiscordSection>,
    pub(super) api: ApiSection,
    pub(super) providers: BTreeMap<ProviderName, ProviderSection>,
    pub(super) agent: Option<AgentSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StoreSection {
    #[serde(deserialize_with = "path")]
    pub(super) path: Option<PathBuf>,
    pub(super) trust_filesystem: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DiscordSection {
    pub(super) token_env: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(super) token_file: Option<PathBuf>,
    pub(super) allowed_guilds: Vec<Id>,
    pub(super) allowed_channels: Vec<Id>,
    pub(super) allowed_roles: Vec<Id>,
    pub(super) allowed_users: Vec<Id>,
    pub(super) api_base: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ApiSection {
    #[serde(deserialize_with = "path")]
    pub(super) socket: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProviderSection {
    pub(super) issuer: Option<String>,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
    pub(super) userinfo_endpoint: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret_env: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) redirect_uri: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) authorize_params: BTreeMap<String, String>,
    pub(super) resource: Option<String>,
    pub(super) reuse_grace: Option<Span>,
    pub(super) refresh_revokes_access: bool,
    pub(super) enforces_pkce: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AgentSection {
    pub(super) command: Vec<String>,
    pub(super) providers: Option<Vec<String>>,
    pub(super) isolation: Option<String>,
    pub(super) env: BTreeMap<String, String>,
    #[serde(deserialize_with = "path")]
    pub(super) root: Option<PathBuf>,
    #[serde(deserialize_with = "paths")]
    pub(super) read: Vec<PathBuf>,
    pub(super) max_workers: Option<usize>,
    pub(super) idle: Option<Span>,
    pub(super) start_within: Option<Span>,
    pub(super) shared: bool,
}

/// A provider's name, checked where it is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProviderName(pub(super) ProviderId);

/// A duration: seconds as a number, or `"90s"`, `"5m"`, `"2h"`, `"1d"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span(pub(super) Duration);

/// A Discord id, as a number or in quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(pub(super) Snowflake);

fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    whole(PathBuf::deserialize(from)?).map(Some)
}

fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    Vec::<PathBuf>::deserialize(from)?.into_iter().map(whole).collect()
}

/// A path as it is, but none that is meant for a shell: it would lead to a folder of that name.
fn whole<E: de::Error>(path: PathBuf) -> Result<PathBuf, E> {
    if path.as_os_str().as_encoded_bytes().first() == Some(&b'~') {
        return Err(E::custom("only shells know what `~` stands for: write the whole path"));
    }
    Ok(path)
}

impl<'de> Deserialize<'de> for ProviderName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let what = "a duration: seconds as a number, or \"90s\", \"5m\", \"2h\", \"1d\"";
        from.deserialize_any(NumberOrText { what, parse: |text: &str| parse_duration(text).ok().map(Self) })
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let what = "a Discord id: a number of up to 20 digits, in quotes or without";
        from.deserialize_any(NumberOrText { what, parse: |text: &str| text.parse().ok().map(Self) })
    }
}

struct NumberOrText<P> {
    what: &'static str,
    parse: P,
}

impl<T, P: Fn(&str) -> Option<T>> NumberOrText<P> {
    /// The value is not repeated: it may be a secret that stands on the wrong line.
    fn read<E: de::Error>(&self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::custom(format_args!("expected {}", self.what)))
    }
}

impl<T, P: Fn(&str) -> Option<T>> Visitor<'_> for NumberOrText<P> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        self.read(text)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.read(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.read(&number.to_string())
    }
}
