//! From what is written to each module's own settings.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{
    ConfigError, Variables,
    file::{AgentSection, DiscordSection, File, Id, ProviderName, ProviderSection},
    source::{self, Source, closest},
    xdg,
};
use crate::{
    agent::{AgentSettings, Isolation},
    api::ApiSettings,
    discord::DiscordSettings,
    ids::{ProviderId, Snowflake},
    oauth::{Provider, ProviderError, ProviderSettings, Providers},
    secret::Secret,
    store::FileStoreOptions,
    sys::{files, sandbox},
};

/// The most workers that can be asked for.
const MAX_WORKERS: usize = 128;
const DEFAULT_WORKERS: usize = 24;
const DEFAULT_IDLE: Duration = Duration::from_secs(30 * 60);
const DEFAULT_START_WITHIN: Duration = Duration::from_secs(30);
const MAX_START_WITHIN: Duration = Duration::from_secs(600);

/// A configuration that was found sound. Only the Discord token may still be missing: most commands do without it.
#[derive(Debug)]
pub struct Config {
    /// Where it was found, an absolute path.
    pub file: PathBuf,
    /// The store's file.
    pub store: PathBuf,
    /// How the store is opened.
    pub store_options: FileStoreOptions,
    /// The providers.
    pub providers: Providers,
    /// The token API.
    pub api: ApiSettings,
    /// The workers, where there is an agent.
    pub agent: Option<AgentSettings>,
    discord: Result<DiscordSettings, String>,
}

impl Config {
    /// How to be on Discord.
    ///
    /// # Errors
    /// When the configuration names no token, or it is not where it should be.
    pub fn discord(&self) -> Result<DiscordSettings, ConfigError> {
        self.discord.clone().map_err(|what| ConfigError::NoDiscordToken { what })
    }
}

pub(super) fn build(path: PathBuf, text: String, variables: &Variables) -> Result<Config, ConfigError> {
    let (file, source) = source::read(path, text, variables)?;
    let File { store, discord, api, providers, agent } = file;
    let build = Build { source: &source, variables };
    let store_path = build.store(store.path)?;
    let secret_files = providers.values().filter_map(|provider| provider.client_secret_file.as_deref());
    let secret_files = secret_files
        .chain(discord.as_ref().and_then(|discord| discord.token_file.as_deref()))
        .map(|file| build.path(file));
    let mut secrets: Vec<PathBuf> = secret_files.collect();
    secrets.extend(store_folders(&store_path));
    let api = ApiSettings { socket: build.socket(api.socket, &store_path) };
    let providers = build.providers(providers)?;
    let shared = agent.as_ref().is_some_and(|agent| agent.shared);
    let agent = agent.map(|agent| build.agent(agent, &providers, &api, secrets)).transpose()?;
    Ok(Config {
        discord: build.discord(discord, shared, &store_path)?,
        store_options: FileStoreOptions { trust_filesystem: store.trust_filesystem },
        store: store_path,
        providers,
        api,
        agent,
        file: source.path,
    })
}

/// The folder that the store is named in and, where that is a symlink, the one in which the file and its locks really are.
fn store_folders(store: &Path) -> impl Iterator<Item = PathBuf> {
    let real = sandbox::resolve(store).ok();
    let folders = [store.parent(), real.as_deref().and_then(Path::parent)];
    folders.map(|folder| folder.map(Path::to_owned)).into_iter().flatten()
}

struct Build<'a> {
    source: &'a Source,
    variables: &'a Variables,
}

impl Build<'_> {
    fn path(&self, path: &Path) -> PathBuf {
        self.source.folder().join(path)
    }

    fn store(&self, path: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
        let given = path.filter(|path| !path.as_os_str().is_empty()).map(|path| self.path(&path));
        let default =
            || xdg(self.variables, "XDG_DATA_HOME", ".local/share").map(|d| d.join("threadkey/auth.json"));
        given.or_else(default).ok_or_else(|| {
            self.source.about(&["store", "path"], "store.path is needed, because HOME is not set either")
        })
    }

    /// A socket belongs where sockets are emptied at boot; without such a place, beside the store.
    fn socket(&self, path: Option<PathBuf>, store: &Path) -> PathBuf {
        if let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) {
            return self.path(&path);
        }
        let runtime = self.variables.get(OsStr::new("XDG_RUNTIME_DIR")).map(PathBuf::from);
        match runtime.filter(|path| path.is_absolute()) {
            Some(runtime) => runtime.join("threadkey/threadkey.sock"),
            None => store.with_file_name("threadkey.sock"),
        }
    }

    fn providers(&self, sections: BTreeMap<ProviderName, ProviderSection>) -> Result<Providers, ConfigError> {
        let built = sections.into_iter().map(|(name, section)| self.provider(name.0, section));
        Ok(Providers::new(built.collect::<Result<Vec<_>, _>>()?))
    }

    fn provider(&self, id: ProviderId, section: ProviderSection) -> Result<Provider, ConfigError> {
        let needed = |key: &'static str, value: Option<String>| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| {
                self.source.about(&["providers", id.as_str(), key], format!("providers.{id} needs {key}"))
            })
        };
        let some = |value: Option<String>| value.filter(|value| !value.is_empty());
        let settings = ProviderSettings {
            issuer: some(section.issuer),
            authorization_endpoint: needed("authorization_endpoint", section.authorization_endpoint)?,
            token_endpoint: needed("token_endpoint", section.token_endpoint)?,
            revocation_endpoint: some(section.revocation_endpoint),
            userinfo_endpoint: some(section.userinfo_endpoint),
            client_id: needed("client_id", section.client_id)?,
            client_secret: self
                .secret(
                    section.client_secret_env.as_deref(),
                    section.client_secret_file.as_deref(),
                    &["providers", id.as_str()],
                    "client_secret",
                )?
                .transpose()
                .map_err(|what| self.source.about(&["providers", id.as_str(), "client_secret_env"], what))?,
            redirect_uri: needed("redirect_uri", section.redirect_uri)?,
            scopes: section.scopes,
            authorize_params: section.authorize_params,
            resource: some(section.resource),
            reuse_grace: section.reuse_grace.map_or(Duration::ZERO, |span| span.0),
            refresh_revokes_access: section.refresh_revokes_access,
            enforces_pkce: section.enforces_pkce,
        };
        Provider::new(id.clone(), settings).map_err(|error| match &error {
            ProviderError::Setting { key, .. } => {
                self.source.about(&["providers", id.as_str(), key], error.to_string())
            }
            ProviderError::Tls(_) => self.source.about(&["providers", id.as_str()], error.to_string()),
        })
    }

    /// The secret that `<name>_env` or `<name>_file` leads to. `None` when neither is set; the inner error is a sentence
    /// without its end, because only who needs the secret knows what to do.
    fn secret(
        &self,
        env: Option<&str>,
        file: Option<&Path>,
        section: &[&str],
        name: &str,
    ) -> Result<Option<Result<Secret, String>>, ConfigError> {
        let (env_key, file_key) = (format!("{name}_env"), format!("{name}_file"));
        let at = |key: &str| section.iter().copied().chain([key]).map(str::to_owned).collect::<Vec<_>>();
        let about = |key: &str, what: String| {
            let key = at(key);
            self.source.about(&key.iter().map(String::as_str).collect::<Vec<_>>(), what)
        };
        let dotted = section.join(".");
        let env = env.filter(|env| !env.is_empty());
        let file = file.filter(|file| !file.as_os_str().is_empty());
        match (env, file) {
            (Some(_), Some(_)) => {
                Err(about(&file_key, format!("{dotted} has both {env_key} and {file_key}: keep one")))
            }
            (Some(variable), None) => {
                if !is_variable_name(variable) {
                    // Not repeated: it may be the secret itself.
                    let what = format!(
                        "{dotted}.{env_key} is the name of an environment variable, such as ACME_SECRET, not the secret itself"
                    );
                    return Err(about(&env_key, what));
                }
                let value = self.variables.get(OsStr::new(variable)).and_then(|value| value.to_str());
                let value = value.map(str::trim).filter(|value| !value.is_empty());
                let missing =
                    || format!("the variable {variable}, which {dotted}.{env_key} names, is not set");
                Ok(Some(value.map(Secret::new).ok_or_else(missing)))
            }
            (None, Some(file)) => {
                let path = self.path(file);
                let read = files::read_text(&path).map(zeroize::Zeroizing::new);
                Ok(Some(match read {
                    Ok(text) if text.trim().is_empty() => {
                        Err(format!("the file {}, which {dotted}.{file_key} names, is empty", path.display()))
                    }
                    Ok(text) => Ok(Secret::new(text.trim())),
                    Err(error) => Err(format!(
                        "the file {}, which {dotted}.{file_key} names, cannot be read: {error}",
                        path.display()
                    )),
                }))
            }
            (None, None) => Ok(None),
        }
    }

    fn discord(
        &self,
        section: Option<DiscordSection>,
        shared: bool,
        store: &Path,
    ) -> Result<Result<DiscordSettings, String>, ConfigError> {
        let section = section.unwrap_or_default();
        let token =
            self.secret(section.token_env.as_deref(), section.token_file.as_deref(), &["discord"], "token")?;
        let api_base = section.api_base.filter(|base| !base.is_empty());
        let api_base = api_base.map(|base| self.api_base(&base)).transpose()?;
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
            shared,
            conversations: store.with_file_name("conversations.json"),
        }))
    }

    /// The bot token goes there, so it is https, or this machine.
    fn api_base(&self, text: &str) -> Result<Url, ConfigError> {
        let about =
            |what: &str| self.source.about(&["discord", "api_base"], format!("discord.api_base {what}"));
        let url =
            Url::parse(text).map_err(|_| about("is no URL: write for example http://127.0.0.1:8080"))?;
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

    fn agent(
        &self,
        section: AgentSection,
        providers: &Providers,
        api: &ApiSettings,
        mut deny: Vec<PathBuf>,
    ) -> Result<AgentSettings, ConfigError> {
        let about = |key: &str, what: &str| self.source.about(&["agent", key], format!("agent.{key} {what}"));
        let mut command = section.command;
        match command.first_mut() {
            Some(program) if !program.is_empty() => {
                if program.contains('/') {
                    *program = self.path(Path::new(program)).to_string_lossy().into_owned();
                }
            }
            _ => {
                return Err(about(
                    "command",
                    "is needed: the program and its arguments, for example [\"codex-acp\"]",
                ));
            }
        }
        let named = section.providers.ok_or_else(|| {
            about("providers", "is needed: the providers whose tokens agents may use, for example [\"acme\"]")
        })?;
        let max_workers = section.max_workers.unwrap_or(DEFAULT_WORKERS);
        if !(1..=MAX_WORKERS).contains(&max_workers) {
            return Err(about("max_workers", &format!("is from 1 to {MAX_WORKERS}")));
        }
        let start_within = section.start_within.map_or(DEFAULT_START_WITHIN, |span| span.0);
        if start_within.is_zero() || start_within > MAX_START_WITHIN {
            return Err(about("start_within", "is from 1s to 10m"));
        }
        let idle = section.idle.map_or(DEFAULT_IDLE, |span| span.0);
        if idle.is_zero() {
            return Err(about("idle", "is at least 1s"));
        }
        deny.push(self.source.path.clone());
        let root = section.root.map(|root| self.path(&root));
        let default =
            || xdg(self.variables, "XDG_STATE_HOME", ".local/state").map(|d| d.join("threadkey/workers"));
        Ok(AgentSettings {
            command,
            providers: self.agent_providers(named, providers)?,
            isolation: self.isolation(section.isolation.as_deref())?,
            env: section.env,
            root: root
                .or_else(default)
                .ok_or_else(|| about("root", "is needed, because HOME is not set either"))?,
            socket: api.socket.clone(),
            read: section.read.iter().map(|path| self.path(path)).collect(),
            deny,
            max_workers,
            idle,
            start_within,
        })
    }

    fn agent_providers(
        &self,
        named: Vec<String>,
        providers: &Providers,
    ) -> Result<Vec<ProviderId>, ConfigError> {
        let known = || providers.ids().map(ProviderId::as_str);
        let check = |name: String| match name.parse::<ProviderId>() {
            Ok(id) if providers.get(&id).is_some() => Ok(id),
            _ => {
                let meant = closest(&name, known()).map(|meant| format!("; did you mean {meant:?}?"));
                let what = format!(
                    "agent.providers: there is no provider {name:?}{}",
                    meant.unwrap_or_else(|| format!(
                        "; there are: {}",
                        known().collect::<Vec<_>>().join(", ")
                    ))
                );
                Err(self.source.about(&["agent", "providers"], what))
            }
        };
        named.into_iter().map(check).collect()
    }

    fn isolation(&self, text: Option<&str>) -> Result<Isolation, ConfigError> {
        let about =
            |what: &str| Err(self.source.about(&["agent", "isolation"], format!("agent.isolation {what}")));
        match text {
            None | Some("auto") => Ok(Isolation::Auto),
            Some("landlock") => Ok(Isolation::Landlock),
            Some("none") => Ok(Isolation::None),
            Some(later @ ("uid" | "seatbelt")) => {
                about(&format!("{later:?}: this version of threadkey does not have it yet; use \"auto\""))
            }
            Some(_) => about("is \"auto\", \"landlock\" or \"none\""),
        }
    }
}

/// POSIX.1-2017 §8.1: upper case letters, digits and underscore. Stricter than systems are, so that a secret that was
/// written here by mistake is not taken for a name and shown.
fn is_variable_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    text.len() <= 64 && !text.as_bytes()[0].is_ascii_digit() && text.bytes().all(fits)
}
