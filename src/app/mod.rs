//! Wiring: the modules put together, run, watched, and ended in order.
//!
//! Invariants: the end is orderly. No new work, then no workers, then no requests, and the process stays until no refresh is under way,
//! for at most 180 s; a second signal ends it at once, which is safe too, because every refresh is in its journal.

pub mod doctor;
mod error;
mod logs;
mod run;
mod signals;
mod standby;

use std::{path::PathBuf, sync::Arc};

pub use error::AppError;
pub use logs::{guard_panics, log_level, start_logs};
pub use run::{drain, run, serve};

use crate::{
    agent::AgentSettings,
    api::ApiSettings,
    broker::Broker,
    oauth::{Client, ProviderError, Providers},
    store::{FileStore, FileStoreOptions, StoreError},
    sys::clock::Clock,
};

/// What everything is put together from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The configuration file, an absolute path.
    pub config: PathBuf,
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
    /// The time.
    pub clock: Clock,
}

impl Parts {
    /// Opens the store.
    ///
    /// # Errors
    /// When its path is not fit for one.
    pub fn open_store(&self) -> Result<FileStore, StoreError> {
        FileStore::open(&self.store, self.clock.clone(), self.store_options)
    }

    /// Puts a broker on the store.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn broker(&self, store: FileStore) -> Result<Broker, ProviderError> {
        let client = Client::new(self.clock.clone())?;
        Ok(Broker::new(Arc::new(store), self.providers.clone(), client, self.clock.clone()))
    }
}
