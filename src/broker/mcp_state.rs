//! The things that this process has learned about MCP servers.

use std::{collections::BTreeMap, sync::Arc};

use dashmap::DashMap;
use tokio::{sync::Mutex, time::Instant};

use crate::{ids::ProviderId, oauth::DiscoveryError};

/// The state of this process about MCP servers.
#[derive(Default)]
pub(super) struct McpState {
    /// The newest discovery of each provider. Its lock is held during the discovery.
    pub(super) servers: DashMap<ProviderId, Arc<Mutex<Server>>>,
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) discovered_at: Option<Instant>,
    pub(super) registrations: BTreeMap<String, Vec<Instant>>,
    pub(super) refused: BTreeMap<String, (Instant, DiscoveryError)>,
}
