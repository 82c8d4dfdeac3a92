//! The settings and services that every worker needs.

use std::sync::{Arc, OnceLock};

use super::{
    AgentSettings, Agents, Capabilities, Conversation, Holder, InjectPorts, PromptError, TokenSource,
    folders::WorkerFolders,
};
use crate::sys::cgroup::Cgroups;

/// The settings and services that every worker needs.
pub(super) struct WorkerDeps {
    pub(super) agents: Agents,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) tokens: Arc<dyn TokenSource>,
    pub(super) folders: Arc<WorkerFolders>,
    /// The opener of the workers' ports of the injecting proxy, if there is one.
    pub(super) ports: OnceLock<Arc<dyn InjectPorts>>,
    /// The cgroup for the workers' groups, if there is one.
    pub(super) cgroups: OnceLock<Cgroups>,
}

impl WorkerDeps {
    /// Returns the settings of the conversation's agent.
    pub(super) fn settings(&self, conversation: &Conversation) -> Result<&AgentSettings, PromptError> {
        match (self.agents.of(conversation), &conversation.agent) {
            (Some(settings), _) => Ok(settings),
            (None, Some(name)) => Err(PromptError::UnknownAgent(name.clone())),
            (None, None) => Err(PromptError::NotConfigured),
        }
    }

    /// Returns the holder of the worker's ports of the injecting proxy: its providers, and those of its
    /// MCP servers.
    pub(super) fn holder(&self, conversation: Conversation) -> Holder {
        let mut holder = self.capability_holder(conversation);
        let mcp = self.agents.of(&holder.conversation).map(|agent| agent.mcp.as_slice()).unwrap_or_default();
        for server in mcp {
            if !holder.providers.contains(&server.provider) {
                holder.providers.push(server.provider.clone());
            }
        }
        holder
    }

    /// Returns the holder of the worker's capability. It gets no token of a provider that only an MCP
    /// server uses.
    pub(super) fn capability_holder(&self, conversation: Conversation) -> Holder {
        let providers = self.agents.of(&conversation).map(|agent| agent.providers.clone());
        Holder { conversation, providers: providers.unwrap_or_default() }
    }
}
