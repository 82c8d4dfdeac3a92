//! Builds each module's settings from the sections of the file.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ConfigError, Variables, agent,
    discord::{self, UnreadToken},
    exchange,
    file::File,
    hooks, inject, mcp, operators,
    provider::{self, Configured},
    public,
    secret::SecretReader,
    source::{self, Source},
    variables::xdg_folder,
};
use crate::{
    agent::Agents,
    api::{ApiSettings, ListenTransport, Transport},
    cli::{LogFormat, UnknownLogFormat},
    discord::DiscordSettings,
    hooks::HookSettings,
    oauth::{DiscoveryCache, Providers},
    store::FileStoreOptions,
    sys::{sandbox, socket},
};

/// The time after its end at which a session is removed, if the configuration names none.
const SWEEP_AFTER: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The shortest such time: its user must be able to read which session ended.
const SHORTEST_SWEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// A valid configuration. The Discord token alone may be missing: most commands do not need it.
#[derive(Debug)]
pub struct Config {
    /// The absolute path of the configuration file.
    pub file: PathBuf,
    /// A `threadkey.toml` in the current folder that is not used.
    pub unused: Option<PathBuf>,
    /// The path of the store's file.
    pub store: PathBuf,
    /// The options of the store.
    pub store_options: FileStoreOptions,
    /// The time after its end at which a session is removed.
    pub sweep_after: Duration,
    /// The providers.
    pub providers: Providers,
    /// The settings of the token API.
    pub api: ApiSettings,
    /// The form of the log, if the configuration names one.
    pub log_format: Option<LogFormat>,
    /// The agents, if there are any.
    pub agents: Option<Agents>,
    /// The commands that run after events.
    pub hooks: HookSettings,
    /// The files that hold secrets, whether or not they exist.
    pub secret_files: Vec<PathBuf>,
    discord: Result<UnreadToken, String>,
}

impl Config {
    /// Returns the settings of the Discord bot. Runs the command that prints its token, if there is
    /// one.
    ///
    /// # Errors
    /// When the configuration names no token, or its variable, file or command has none.
    pub async fn discord(&self) -> Result<DiscordSettings, ConfigError> {
        let read = match &self.discord {
            Ok(unread) => unread.read().await,
            Err(missing) => Err(missing.clone()),
        };
        read.map_err(|missing| ConfigError::NoDiscordToken { missing })
    }
}

pub(super) fn build(path: PathBuf, text: String, variables: &Variables) -> Result<Config, ConfigError> {
    let (file, source) = source::read(path, text, variables)?;
    let File { store, discord, api, providers, agent, agents, inject, log, hooks } = file;
    let sweep_after = store.sweep_after.map_or(SWEEP_AFTER, |after| after.0);
    if sweep_after < SHORTEST_SWEEP {
        let problem = "store.sweep_after must be at least one day, as in \"90d\"".to_owned();
        return Err(source.error_at(&["store", "sweep_after"], problem));
    }
    let log_format = match log.format.as_deref().filter(|format| !format.is_empty()) {
        None => None,
        Some(name) => Some(name.parse().map_err(|problem: UnknownLogFormat| {
            source.error_at(&["log", "format"], format!("log.format: {problem}"))
        })?),
    };
    let store_path = store_path(&source, store.path)?;
    let mut secrets = SecretReader::new(&source);
    let (mut known, mut published, mut exchanges) = (Vec::new(), Vec::new(), Vec::new());
    let parts = providers.iter().map(|(name, section)| (name.0.clone(), inject::ProviderPart::of(section)));
    let parts = parts.collect();
    for (name, section) in providers {
        if section.exchange_from.as_ref().is_some_and(|from| !from.is_empty()) {
            exchanges.push(exchange::settings(&source, &mut secrets, &name.0, section)?);
            continue;
        }
        match provider::settings(&source, &mut secrets, name.0, section)? {
            Configured::Known(provider) => known.push(provider),
            Configured::Published(undiscovered) => published.push(undiscovered),
        }
    }
    let with_sign_in =
        known.iter().map(crate::oauth::Provider::id).chain(published.iter().map(|one| &one.id));
    exchange::check_sources(&source, &exchanges, &with_sign_in.cloned().collect())?;
    let providers = Providers::with_exchanges(known, published, exchanges);
    let providers = providers.cached_in(DiscoveryCache::beside(&store_path));
    let shared = agent.as_ref().is_some_and(|agent| agent.shared);
    let discord = discord::settings(&source, &mut secrets, discord, shared, &store_path)?;
    let public =
        public::settings(&source, &api)?.map(|public| public::with_client_document(public, &providers));
    let mut routes = inject::settings(&source, inject, &providers, &parts)?;
    let mcp = mcp::servers(&source, (agent.as_ref(), &agents), &providers, &parts, &mut routes)?;
    let inject_only = agent::is_inject_only(&source, agent.as_ref())?;
    let api = ApiSettings {
        inject: routes,
        inject_only,
        operator_keys: operators::keys(&source, &mut secrets, &api, &providers)?,
        listen: operators::listen(&source, &api)?,
        socket: socket(&source, api.socket, &store_path)?,
        public,
    };
    let secret_files = [secrets.into_files(), key_files(&api)].concat();
    let mut deny = secret_files.clone();
    deny.extend(store_folders(&store_path));
    let agents = agent::agents(&source, agent, agents, (&providers, &mcp), &api, deny)?;
    Ok(Config {
        store: store_path,
        sweep_after,
        store_options: FileStoreOptions { trust_filesystem: store.trust_filesystem },
        providers,
        api,
        log_format,
        agents,
        hooks: hooks::settings(&source, hooks)?,
        secret_files,
        discord,
        file: source.path,
        unused: None,
    })
}

/// Returns the files of the private keys of TLS servers.
fn key_files(api: &ApiSettings) -> Vec<PathBuf> {
    let listen = api.listen.as_ref().and_then(|listen| match &listen.transport {
        ListenTransport::Tls(files) => Some(files.key.clone()),
        ListenTransport::Local | ListenTransport::Proxy(_) => None,
    });
    let public = api.public.as_ref().and_then(|public| match &public.transport {
        Transport::Tls(files) => Some(files.key.clone()),
        Transport::Proxy(_) => None,
    });
    listen.into_iter().chain(public).collect()
}

/// Returns the folder of the store's path. If the path is a symlink, the folder of the file itself
/// and its locks follows.
fn store_folders(store: &Path) -> impl Iterator<Item = PathBuf> {
    let resolved = sandbox::resolve(store).ok();
    let folders = [store.parent(), resolved.as_deref().and_then(Path::parent)];
    folders.map(|folder| folder.map(Path::to_owned)).into_iter().flatten()
}

fn store_path(source: &Source<'_>, path: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let given = path.filter(|path| !path.as_os_str().is_empty()).map(|path| source.absolute(&path));
    let default = || {
        xdg_folder(source.variables, "XDG_DATA_HOME", ".local/share").map(|d| d.join("threadkey/auth.json"))
    };
    given.or_else(default).ok_or_else(|| {
        source.error_at(&["store", "path"], "store.path is required, because HOME is not set either")
    })
}

/// Returns the socket's path. The default is in the runtime folder, which is emptied at boot, or
/// else beside the store. Only a path that is written out is refused for its length: most commands
/// need no socket.
fn socket(source: &Source<'_>, path: Option<PathBuf>, store: &Path) -> Result<PathBuf, ConfigError> {
    if let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) {
        let path = source.absolute(&path);
        return match socket::check_length(&path) {
            Ok(()) => Ok(path),
            Err(error) => Err(source.error_at(&["api", "socket"], error.to_string())),
        };
    }
    let runtime = source.variables.get(OsStr::new("XDG_RUNTIME_DIR")).map(PathBuf::from);
    Ok(match runtime.filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("threadkey/threadkey.sock"),
        None => store.with_file_name("threadkey.sock"),
    })
}
