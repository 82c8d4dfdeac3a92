//! From what is written to each module's own settings.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::{
    ConfigError, Variables, agent, discord,
    file::File,
    provider,
    source::{self, Source},
    variables::xdg,
};
use crate::{
    agent::AgentSettings, api::ApiSettings, discord::DiscordSettings, oauth::Providers,
    store::FileStoreOptions, sys::sandbox,
};

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
    let store_path = store_path(&source, store.path)?;
    let secret_files = providers.values().filter_map(|provider| provider.client_secret_file.as_deref());
    let secret_files = secret_files
        .chain(discord.as_ref().and_then(|discord| discord.token_file.as_deref()))
        .map(|file| source.absolute(file));
    let mut secrets: Vec<PathBuf> = secret_files.collect();
    secrets.extend(store_folders(&store_path));
    let api = ApiSettings { socket: socket(&source, api.socket, &store_path) };
    let providers = providers.into_iter().map(|(name, section)| provider::settings(&source, name.0, section));
    let providers = Providers::new(providers.collect::<Result<Vec<_>, _>>()?);
    let shared = agent.as_ref().is_some_and(|agent| agent.shared);
    let agent = agent.map(|agent| agent::settings(&source, agent, &providers, &api, secrets)).transpose()?;
    Ok(Config {
        discord: discord::settings(&source, discord, shared, &store_path)?,
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

fn store_path(source: &Source<'_>, path: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let given = path.filter(|path| !path.as_os_str().is_empty()).map(|path| source.absolute(&path));
    let default =
        || xdg(source.variables, "XDG_DATA_HOME", ".local/share").map(|d| d.join("threadkey/auth.json"));
    given.or_else(default).ok_or_else(|| {
        source.about(&["store", "path"], "store.path is needed, because HOME is not set either")
    })
}

/// A socket belongs where sockets are emptied at boot; without such a place, beside the store.
fn socket(source: &Source<'_>, path: Option<PathBuf>, store: &Path) -> PathBuf {
    if let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) {
        return source.absolute(&path);
    }
    let runtime = source.variables.get(OsStr::new("XDG_RUNTIME_DIR")).map(PathBuf::from);
    match runtime.filter(|path| path.is_absolute()) {
        Some(runtime) => runtime.join("threadkey/threadkey.sock"),
        None => store.with_file_name("threadkey.sock"),
    }
}
