//! The settings and services that every worker needs.

use std::sync::{Arc, OnceLock};

use super::{
    AgentSettings, Capabilities, Conversation, Holder, InjectPorts, TokenSource, folders::WorkerFolders,
};
use crate::sys::cgroup::Cgroups;

/// The settings and services that every worker needs.
pub(super) struct WorkerDeps {
    pub(super) settings: AgentSettings,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) tokens: Arc<dyn TokenSource>,
    pub(super) folders: Arc<WorkerFolders>,
    /// The opener of the workers' ports of the injecting proxy, if there is one.
    pub(super) ports: OnceLock<Arc<dyn InjectPorts>>,
    /// The cgroup for the workers' groups, if there is one.
    pub(super) cgroups: OnceLock<Cgroups>,
}

impl WorkerDeps {
    /// Returns the holder of the capability that this conversation's worker gets.
    pub(super) fn holder(&self, conversation: Conversation) -> Holder {
        Holder { conversation, providers: self.settings.providers.clone() }
    }
}
