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
    /// The end of the newest discovery, if that failed.
    pub(super) failed: Option<(Instant, DiscoveryError)>,
    /// The registrations of the last hour. The server chooses its issuers, so they count together.
    pub(super) registrations: Vec<Instant>,
    pub(super) refused: BTreeMap<String, (Instant, DiscoveryError)>,
}
