//! The things that this process has learned about MCP servers.

use std::{collections::BTreeMap, sync::Arc};

use dashmap::DashMap;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    ids::{ProviderId, Tenant},
    oauth::DiscoveryError,
};

/// The state of this process about MCP servers.
#[derive(Default)]
pub(super) struct McpState {
    /// The newest discovery of each provider. Its lock is held during the discovery.
    pub(super) servers: DashMap<ProviderId, Arc<Mutex<Server>>>,
    /// The scopes that a resource demanded of a tenant since its sign-in.
    pub(super) demanded: DashMap<Tenant, Demanded>,
}

#[derive(Default)]
pub(super) struct Server {
    pub(super) discovered_at: Option<Instant>,
    pub(super) registrations: BTreeMap<String, Vec<Instant>>,
    pub(super) refused: BTreeMap<String, (Instant, DiscoveryError)>,
}

#[derive(Default)]
pub(super) struct Demanded {
    pub(super) scopes: Vec<String>,
    pub(super) at: Vec<Instant>,
}
