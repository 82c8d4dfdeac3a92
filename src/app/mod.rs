//! Wiring: creates the modules from their settings, runs them, supervises them, and ends them in
//! order.
//!
//! Invariant: the end is orderly, in these steps.
//!
//! 1. Nothing more is accepted: no prompt, and no connection to the ports of workers, to TCP and to the
//!    sign-in pages. Requests in progress by the injecting proxy may finish, for at most 30 s. The
//!    workers still reach the token API.
//! 2. The workers end, within 10 s, with all that they have started.
//! 3. The token API finishes its requests, for at most 35 s, and its socket goes.
//! 4. The process stays until no refresh is under way, for at most 180 s, and then for the hooks of the
//!    last events, for at most 30 s.
//!
//! A second signal ends it at once, which is safe too: the journal of every refresh has its state. No
//! way leaves a process of a worker or a socket.

pub mod doctor;
mod error;
mod exec;
mod json_logs;
mod logs;
mod run;
mod signals;
mod standby;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use error::AppError;
pub use exec::exec;
pub use logs::{install_panic_hook, log_level, start_logs};
pub use run::{drain, drain_for_user, run, serve};

use crate::{
    agent::Agents,
    api::{ApiSettings, Credential, InjectRoute},
    broker::Broker,
    cli::git_credential::GitHost,
    hooks::{HookSettings, Hooks},
    ids::ProviderId,
    oauth::{Client, ProviderError, Providers},
    store::{FileStore, FileStoreOptions, StoreError},
    sys::clock::Clock,
};

/// The settings of all modules, and the clock.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// The absolute path of the configuration file.
    pub config: PathBuf,
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
    /// The agents, if there are any.
    pub agents: Option<Agents>,
    /// The commands that run after events.
    pub hooks: HookSettings,
    /// The files that hold secrets, whether or not they exist.
    pub secret_files: Vec<PathBuf>,
    /// The clock.
    pub clock: Clock,
}

impl AppSettings {
    /// Opens the store.
    ///
    /// # Errors
    /// When the store's path cannot be used.
    pub fn open_store(&self) -> Result<FileStore, StoreError> {
        FileStore::open(&self.store, self.clock.clone(), self.store_options)
    }

    /// Runs the hooks of the broker's events from now on. Must be called within a Tokio runtime.
    pub fn start_hooks(&self, broker: &Broker) -> Hooks {
        Hooks::start(self.hooks.clone(), broker)
    }

    /// Returns the hosts that take a provider's tokens as passwords of git: those of its routes, and the one
    /// of its preset.
    pub fn git_hosts(&self, provider: &ProviderId) -> Vec<GitHost> {
        let of_route = |route: &InjectRoute| match &route.credential {
            Credential::Basic(user) if route.provider == *provider => GitHost::of(&route.upstream, user),
            _ => None,
        };
        let of_preset = self.providers.get(provider).and_then(|provider| GitHost::of_provider(&provider));
        self.api.inject.iter().filter_map(of_route).chain(of_preset).collect()
    }

    /// Creates a broker on the store.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn broker(&self, store: FileStore) -> Result<Broker, ProviderError> {
        let client = Client::new(self.clock.clone())?;
        Ok(Broker::new(Arc::new(store), self.providers.clone(), client, self.clock.clone()))
    }
}
