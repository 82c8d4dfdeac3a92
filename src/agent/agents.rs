//! The agents that a conversation may choose from.
//!
//! Every agent has a whole [`AgentSettings`]; the values of `[agent]` that hold for all workers, such
//! as the limits and the folder, are equal in all of them.

use std::{collections::BTreeMap, path::Path};

use super::{AgentSettings, Conversation};
use crate::ids::AgentName;

/// The longest title of an agent, in characters.
const MAX_TITLE: usize = 32;

/// The configured agents, of which one is the default.
#[derive(Clone, Debug)]
pub struct Agents {
    /// The settings of conversations without an agent of their own, and the values of all workers.
    default: AgentSettings,
    default_name: Option<AgentName>,
    named: BTreeMap<AgentName, AgentSettings>,
}

impl Agents {
    /// Takes the agents of all tables `[agents.NAME]`. Returns `None` if the default is not among
    /// them.
    pub fn named(named: BTreeMap<AgentName, AgentSettings>, default: AgentName) -> Option<Self> {
        let settings = named.get(&default)?.clone();
        Some(Self { default: settings, default_name: Some(default), named })
    }

    /// Returns the settings of the default agent. Their limits, folders and sockets are those of all
    /// workers.
    pub fn default_agent(&self) -> &AgentSettings {
        &self.default
    }

    /// Returns the settings of a conversation's agent, or `None` if that agent is no longer
    /// configured.
    pub fn of(&self, conversation: &Conversation) -> Option<&AgentSettings> {
        match &conversation.agent {
            None => Some(&self.default),
            Some(name) => self.named.get(name),
        }
    }

    /// Returns the name of the default agent, if the agents have names.
    pub fn default_name(&self) -> Option<&AgentName> {
        self.default_name.as_ref()
    }

    /// Returns the names that users may choose from: none if there is a single agent without a name.
    pub fn names(&self) -> impl Iterator<Item = &AgentName> + Clone {
        self.named.keys()
    }

    /// Returns the settings of all agents, each once.
    pub fn all(&self) -> Vec<&AgentSettings> {
        if self.named.is_empty() { vec![&self.default] } else { self.named.values().collect() }
    }
}

/// A single agent, which has no name.
impl From<AgentSettings> for Agents {
    fn from(settings: AgentSettings) -> Self {
        Self { default: settings, default_name: None, named: BTreeMap::new() }
    }
}

/// Returns the title of an agent without a name: its program's.
pub fn title_of(command: &[String]) -> String {
    let program = command.first().map(String::as_str).unwrap_or_default();
    let name = Path::new(program).file_stem().map(|name| name.to_string_lossy());
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
    let name: String = name.unwrap_or_default().chars().filter(is_plain).take(MAX_TITLE).collect();
    if name.trim().is_empty() { "worker".to_owned() } else { name.trim().to_owned() }
}
