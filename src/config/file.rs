//! The sections and keys of `threadkey.toml`.
//!
//! Every key is optional here. The builders of the settings report a missing one. An unknown key is
//! an error, and its suggestions come from the fields below, so a new key needs nothing else here.

use std::{collections::BTreeMap, fmt, marker::PhantomData, path::PathBuf, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use crate::{
    cli::parse_duration,
    ids::{AgentName, ProviderId, Snowflake},
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) store: StoreSection,
    pub(super) discord: Option<DiscordSection>,
    pub(super) api: ApiSection,
    pub(super) providers: BTreeMap<ProviderName, ProviderSection>,
    pub(super) agent: Option<AgentSection>,
    pub(super) agents: BTreeMap<AgentKey, NamedAgentSection>,
    pub(super) inject: BTreeMap<String, InjectSection>,
    pub(super) log: LogSection,
    pub(super) hooks: HooksSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HooksSection {
    pub(super) ended: Option<Vec<String>>,
    pub(super) stuck: Option<Vec<String>>,
    pub(super) recovered: Option<Vec<String>>,
    pub(super) signed_in: Option<Vec<String>>,
    pub(super) shared_login_changed: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogSection {
    pub(super) format: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StoreSection {
    #[serde(deserialize_with = "path")]
    pub(super) path: Option<PathBuf>,
    pub(super) trust_filesystem: bool,
    pub(super) sweep_after: Option<ConfigDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DiscordSection {
    pub(super) token_env: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(super) token_file: Option<PathBuf>,
    pub(super) token_command: Vec<String>,
    pub(super) allowed_guilds: Vec<DiscordId>,
    pub(super) allowed_channels: Vec<DiscordId>,
    pub(super) allowed_roles: Vec<DiscordId>,
    pub(super) allowed_users: Vec<DiscordId>,
    pub(super) allow_everyone: bool,
    pub(super) log_channel: Option<DiscordId>,
    pub(super) api_base: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ApiSection {
    #[serde(deserialize_with = "path")]
    pub(super) socket: Option<PathBuf>,
    pub(super) public_url: Option<String>,
    pub(super) public_listen: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(super) public_cert_file: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub(super) public_key_file: Option<PathBuf>,
    pub(super) behind_proxy: bool,
    pub(super) proxy_peers: Vec<String>,
    pub(super) listen: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(super) cert_file: Option<PathBuf>,
    #[serde(deserialize_with = "path")]
    pub(super) key_file: Option<PathBuf>,
    pub(super) operator_keys: BTreeMap<String, OperatorKeySection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OperatorKeySection {
    pub(super) key_env: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(super) key_file: Option<PathBuf>,
    pub(super) key_command: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub(super) principals: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub(super) providers: Vec<String>,
    #[serde(deserialize_with = "some_words")]
    pub(super) rights: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ProviderSection {
    pub(super) preset: Option<String>,
    pub(super) accept_terms_risk: bool,
    pub(super) host: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) mcp: Option<String>,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
    pub(super) userinfo_endpoint: Option<String>,
    pub(super) account_id_claim: Option<String>,
    pub(super) probe_endpoint: Option<String>,
    pub(super) device_authorization_endpoint: Option<String>,
    pub(super) backchannel_authentication_endpoint: Option<String>,
    #[serde(deserialize_with = "words")]
    pub(super) grants: Vec<String>,
    pub(super) device_flow: Option<String>,
    pub(super) device_scope_parameter: Option<String>,
    pub(super) login_hints: BTreeMap<String, String>,
    pub(super) jwks_uri: Option<String>,
    pub(super) id_token_issuer: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_auth: Option<String>,
    pub(super) client_secret_env: Option<String>,
    #[serde(deserialize_with = "path")]
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) client_secret_command: Vec<String>,
    #[serde(deserialize_with = "path")]
    pub(super) client_key_file: Option<PathBuf>,
    pub(super) client_key_id: Option<String>,
    pub(super) redirect_uri: Option<String>,
    pub(super) paste_only: bool,
    pub(super) redirect_any_port: bool,
    #[serde(deserialize_with = "words")]
    pub(super) token_env: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub(super) token_env_for: Vec<String>,
    pub(super) exchange_from: Option<String>,
    #[serde(deserialize_with = "words")]
    pub(super) audience: Vec<String>,
    pub(super) requested_token_type: Option<String>,
    pub(super) requested_issuer: Option<String>,
    #[serde(deserialize_with = "words")]
    pub(super) scopes: Vec<String>,
    pub(super) scope_separator: Option<String>,
    pub(super) scope_parameter: Option<String>,
    pub(super) authorize_params: BTreeMap<String, String>,
    pub(super) token_params: BTreeMap<String, String>,
    pub(super) token_headers: BTreeMap<String, String>,
    pub(super) token_request: Body,
    pub(super) refresh_request: Option<Body>,
    pub(super) revocation_request: Body,
    pub(super) refresh_endpoint: Option<String>,
    pub(super) state_in_exchange: bool,
    pub(super) scope_in_refresh: bool,
    pub(super) pkce: Option<bool>,
    pub(super) resource: Option<String>,
    pub(super) token_path: Option<String>,
    pub(super) ended_errors: Vec<String>,
    pub(super) max_lifetime: Option<ConfigDuration>,
    pub(super) reuse_grace: Option<ConfigDuration>,
    pub(super) refresh_revokes_access: bool,
    pub(super) login_ends: Option<ConfigDuration>,
    pub(super) idle_ends: Option<ConfigDuration>,
    pub(super) keepalive: Option<ConfigDuration>,
    pub(super) enforces_pkce: bool,
    pub(super) formerly: Vec<String>,
    pub(super) allow_private: bool,
    pub(super) discovery_hosts: Vec<String>,
    #[serde(deserialize_with = "path")]
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InjectSection {
    pub(super) preset: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) auth: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) default_headers: BTreeMap<String, String>,
    pub(super) append_headers: BTreeMap<String, String>,
    pub(super) claim_headers: BTreeMap<String, Vec<String>>,
    #[serde(deserialize_with = "words")]
    pub(super) methods: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub(super) path_prefixes: Vec<String>,
    #[serde(deserialize_with = "path")]
    pub(super) ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AgentSection {
    pub(super) command: Vec<String>,
    pub(super) providers: Option<Vec<String>>,
    pub(super) isolation: Option<String>,
    pub(super) tokens: Option<String>,
    pub(super) env: BTreeMap<String, String>,
    #[serde(deserialize_with = "path")]
    pub(super) root: Option<PathBuf>,
    #[serde(deserialize_with = "paths")]
    pub(super) read: Vec<PathBuf>,
    pub(super) max_workers: Option<usize>,
    pub(super) max_workers_per_user: Option<usize>,
    pub(super) max_file_size: Option<ByteSize>,
    pub(super) max_open_files: Option<u64>,
    pub(super) max_memory: Option<ByteSize>,
    pub(super) max_processes: Option<u64>,
    pub(super) idle: Option<ConfigDuration>,
    pub(super) keep_files: Option<ConfigDuration>,
    pub(super) start_within: Option<ConfigDuration>,
    pub(super) max_turn: Option<ConfigDuration>,
    pub(super) max_silence: Option<ConfigDuration>,
    pub(super) shared: bool,
    pub(super) default: Option<String>,
    pub(super) mcp: Option<Vec<String>>,
    pub(super) mcp_transport: Option<String>,
    #[serde(deserialize_with = "tools")]
    pub(super) tools: Option<BTreeMap<String, ToolSection>>,
    pub(super) files: BTreeMap<String, FileEntry>,
}

/// A table `[agents.NAME]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NamedAgentSection {
    pub(super) command: Vec<String>,
    pub(super) providers: Option<Vec<String>>,
    pub(super) env: BTreeMap<String, String>,
    #[serde(deserialize_with = "paths")]
    pub(super) read: Vec<PathBuf>,
    pub(super) mcp: Option<Vec<String>>,
    pub(super) mcp_transport: Option<String>,
    #[serde(deserialize_with = "tools")]
    pub(super) tools: Option<BTreeMap<String, ToolSection>>,
    pub(super) files: BTreeMap<String, FileEntry>,
}

/// A tool of an agent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ToolSection {
    pub(super) provider: Option<String>,
    pub(super) way: Option<String>,
    pub(super) route: Option<String>,
    pub(super) base_url: Option<String>,
    pub(super) model: Option<String>,
}

/// A file of an agent.
#[derive(Clone, Debug)]
pub(super) enum FileEntry {
    /// Its text.
    Text(String),
    /// A built-in template.
    Template(FileSection),
}

/// A file of an agent with a built-in template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileSection {
    pub(super) template: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) base_url: Option<String>,
    pub(super) read_once: bool,
}

/// The encoding of a request's parameters.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Body {
    #[default]
    Form,
    Json,
}

/// A provider's name. It is parsed here so that its error has the name's line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProviderName(pub(super) ProviderId);

/// An agent's name, with the line of a wrong one in its error.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AgentKey(pub(super) AgentName);

/// A duration: seconds as a number, or `"90s"`, `"5m"`, `"2h"`, `"1d"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConfigDuration(pub(super) Duration);

/// A number of bytes: `"512MiB"`, `"4GiB"`, or a plain number.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteSize(pub(super) u64);

/// A Discord id, a number with or without quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiscordId(pub(super) Snowflake);

fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    without_tilde(PathBuf::deserialize(from)?).map(Some)
}

fn paths<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    Vec::<PathBuf>::deserialize(from)?.into_iter().map(without_tilde).collect()
}

/// Reads a list of texts, or one text with blanks between its words, as OAuth writes scopes (RFC 6749
/// §3.3).
fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a list as in [\"read\", \"write\"], or one text as in \"read write\""
    )]
    enum Words {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Words::deserialize(from)? {
        Words::List(list) => list,
        Words::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
    })
}

fn some_words<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    words(from).map(Some)
}

/// Refuses a path that starts with `~`: without a shell it would create a folder of that name.
fn without_tilde<E: de::Error>(path: PathBuf) -> Result<PathBuf, E> {
    if path.as_os_str().as_encoded_bytes().first() == Some(&b'~') {
        return Err(E::custom("`~` has a meaning only in a shell: write the whole path"));
    }
    Ok(path)
}

impl<'de> Deserialize<'de> for ProviderName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for AgentKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = "a duration: seconds as a number, or \"90s\", \"5m\", \"2h\", \"1d\"";
        from.deserialize_any(NumberOrText {
            expected,
            parse: |text: &str| parse_duration(text).ok().map(Self),
        })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = "a size: bytes as a number, or \"512MiB\", \"4GiB\"";
        from.deserialize_any(NumberOrText { expected, parse: |text: &str| bytes(text).map(Self) })
    }
}

fn bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    let unit = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

impl<'de> Deserialize<'de> for DiscordId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = "a Discord id: a number of up to 20 digits, with or without quotes";
        from.deserialize_any(NumberOrText { expected, parse: |text: &str| text.parse().ok().map(Self) })
    }
}

/// Reads tools. Each one is the name of a provider, or a table with it.
fn tools<'de, D: Deserializer<'de>>(from: D) -> Result<Option<BTreeMap<String, ToolSection>>, D::Error> {
    struct Entry(ToolSection);
    impl<'de> Deserialize<'de> for Entry {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let expected = "a provider, or a table as in { provider = \"codex\", way = \"file\" }";
            Ok(Self(match from.deserialize_any(VisitTextOrTable::new(expected))? {
                TextOrTable::Text(provider) => ToolSection { provider: Some(provider), ..Default::default() },
                TextOrTable::Table(section) => section,
            }))
        }
    }
    let entries = BTreeMap::<String, Entry>::deserialize(from)?;
    Ok(Some(entries.into_iter().map(|(name, Entry(section))| (name, section)).collect()))
}

impl<'de> Deserialize<'de> for FileEntry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let expected = "a text, or a table as in { template = \"codex-auth\", provider = \"codex\" }";
        Ok(match from.deserialize_any(VisitTextOrTable::new(expected))? {
            TextOrTable::Text(text) => Self::Text(text),
            TextOrTable::Table(section) => Self::Template(section),
        })
    }
}

/// A text or a table.
enum TextOrTable<T> {
    Text(String),
    Table(T),
}

/// Visits a text or a table.
struct VisitTextOrTable<T> {
    expected: &'static str,
    table: PhantomData<T>,
}

impl<T> VisitTextOrTable<T> {
    fn new(expected: &'static str) -> Self {
        Self { expected, table: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for VisitTextOrTable<T> {
    type Value = TextOrTable<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(TextOrTable::Text(text.to_owned()))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(TextOrTable::Table)
    }
}

/// Visits a number or a text, and parses both as text.
struct NumberOrText<P> {
    expected: &'static str,
    parse: P,
}

impl<T, P: Fn(&str) -> Option<T>> NumberOrText<P> {
    /// Parses the text. The error does not repeat it, because it may be a secret on the wrong line.
    fn value<E: de::Error>(&self, text: &str) -> Result<T, E> {
        (self.parse)(text).ok_or_else(|| E::custom(format_args!("expected {}", self.expected)))
    }
}

impl<T, P: Fn(&str) -> Option<T>> Visitor<'_> for NumberOrText<P> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        self.value(text)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.value(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.value(&number.to_string())
    }
}
