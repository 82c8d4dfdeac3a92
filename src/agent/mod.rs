//! Workers: one ACP agent process per conversation, its secrets, and its output.
//!
//! [`Workers`] starts a worker at its conversation's first prompt. A worker ends if it is idle for
//! long, crashes, or is stopped. The protocol is ACP version 1 over stdin and stdout.
//!
//! Invariants:
//!
//! - A worker has a process group, an environment, a home and a sandbox of its own.
//! - It presents a capability to the token API ([`Capabilities`]), which is void before the process
//!   is signalled.
//! - Everything that a worker can make us keep is bounded: lines, queued messages, updates,
//!   permission requests, stderr.

mod agents;
pub mod builtin;
mod capability;
mod connection;
mod environment;
mod file_text;
mod folder_upkeep;
mod folders;
mod inject;
mod launch;
mod lines;
mod mcp;
mod placeholder_name;
mod program_files;
mod question;
mod settings;
mod stderr;
mod table;
pub mod token_client;
mod tool_files;
mod tool_settings;
mod turn;
mod updates;
mod worker;
mod worker_deps;
mod worker_secrets;
mod workers;

pub use agents::{Agents, title_of};
pub use capability::{Capabilities, Holder};
pub use environment::{
    CAPABILITY_VARIABLE, Placeholders, SOCKET_VARIABLE, TokenChanges, TokenRefusal, TokenSource,
    check_placeholders,
};
pub use file_text::{FileNames, check_file_text};
pub use folders::{FolderNames, example_socket, is_folder_name, missing_limits};
pub use inject::{InjectAccess, InjectPorts, InjectWorker, Served};
pub use lines::{BoundedLines, Line};
pub use mcp::{MCP_PATH_VARIABLE, MCP_SOCKET_VARIABLE};
pub use settings::{AgentSettings, Isolation, McpServer, SettingsError, WorkerLimits};
pub use tool_settings::{AgentFile, AgentTool, FileText};
pub use workers::Workers;

use std::{path::PathBuf, time::Duration};

use tokio::sync::oneshot;

use crate::{
    ids::{AgentName, ConversationId, Snowflake},
    sys::sandbox::SandboxError,
};

/// The conversation that a worker serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The thread or DM channel.
    pub id: ConversationId,
    /// The only user that may prompt the worker, and the one whose sessions serve it.
    pub owner: Snowflake,
    /// The server of this conversation, if the owner may use that server's shared sessions.
    pub shared_guild: Option<Snowflake>,
    /// The agent that the owner has chosen, or `None` for the default one.
    pub agent: Option<AgentName>,
}

/// A piece of a worker's output during a turn. The last one is [`Update::Done`] or
/// [`Update::Crashed`].
#[derive(Debug)]
pub enum Update {
    /// More of the answer (Markdown).
    Text(String),
    /// A tool call began or changed.
    Tool {
        /// Identifies the call within its turn.
        id: String,
        /// The title to show.
        title: String,
        /// `pending`, `in_progress`, `completed` or `failed`.
        status: String,
    },
    /// The agent asks its owner for permission. Dropping `answer` refuses.
    Permission(PermissionRequest),
    /// The agent answered the prompt with this error, in its own words.
    Failed(String),
    /// The turn is being ended, because it has reached this limit of the operator, in our words.
    LimitReached(String),
    /// The turn has ended with this stop reason: `end_turn`, `cancelled`, `max_tokens`,
    /// `max_turn_requests`, `refusal`, or `failed` after [`Update::Failed`].
    Done(String),
    /// The process has ended by itself.
    Crashed(Ending),
}

/// How an agent ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it ended, in our own words.
    pub how: String,
    /// The last lines of its stderr, without secrets. They are the agent's words.
    pub wrote: String,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.wrote.as_str() {
            "" => f.write_str(&self.how),
            wrote => write!(f, "{}; the agent wrote: {wrote:?}", self.how),
        }
    }
}

/// A question to the owner.
#[derive(Debug)]
pub struct PermissionRequest {
    /// The action to permit, in the agent's words, with all its lines.
    pub title: String,
    /// All other parts of the request.
    pub parts: Vec<RequestPart>,
    /// Whether title and parts are all of the request. If not, it must not be allowed.
    pub is_whole: bool,
    /// The choices that the agent offers. There may be none.
    pub options: Vec<PermissionOption>,
    /// Takes the id of the choice.
    pub answer: oneshot::Sender<String>,
}

/// A part of a permission request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPart {
    /// The kind of the part. It may contain a path of the agent.
    pub heading: String,
    /// The part itself, in the agent's words.
    pub text: String,
}

/// A choice of a permission request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionOption {
    /// The agent's id for the choice.
    pub id: String,
    /// The agent's words for the choice.
    pub label: String,
    /// The meaning of the choice.
    pub kind: OptionKind,
}

/// The meaning of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// Allows this action once.
    AllowOnce,
    /// Allows this action, and remembers that.
    AllowAlways,
    /// Rejects this action once.
    RejectOnce,
    /// Rejects this action, and remembers that.
    RejectAlways,
}

impl OptionKind {
    /// Whether the choice allows the action.
    pub fn allows(self) -> bool {
        matches!(self, Self::AllowOnce | Self::AllowAlways)
    }
}

/// The reason why a prompt did not reach a worker. The conversation is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The configuration has no agent.
    #[error("no agent is configured: set agent.command in threadkey.toml")]
    NotConfigured,
    /// The program is missing or cannot be run.
    #[error("the agent program {program:?} cannot be started: {source}. Check agent.command")]
    Spawn {
        /// The configured program.
        program: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The agent ended before it answered the handshake.
    #[error(
        "the agent {program:?} ended before it was ready ({ending}). Check that it speaks ACP on its standard input and output"
    )]
    DiedAtOnce {
        /// The configured program.
        program: String,
        /// How it ended.
        ending: Ending,
    },
    /// The agent did not answer the handshake in time.
    #[error("the agent {program:?} did not answer within {} s and was stopped. Check that it speaks ACP on its standard input and output", within.as_secs())]
    Silent {
        /// The configured program.
        program: String,
        /// The limit.
        within: Duration,
    },
    /// The agent does not speak our protocol version, or refused a session.
    #[error("the agent {program:?} refused to start ({wrote:?}). Check the agent's own configuration")]
    Refused {
        /// The configured program.
        program: String,
        /// The agent's error message.
        wrote: String,
    },
    /// This machine cannot isolate the agent.
    #[error(
        "this machine cannot isolate agents: {0}. Set agent.isolation = \"none\" only if they may read what the bot can read"
    )]
    NoIsolation(String),
    /// The sandbox could not be built.
    #[error("the agent's sandbox cannot be built: {0}. Check agent.command and agent.read")]
    Sandbox(SandboxError),
    /// The worker's cgroup could not be created.
    #[error(
        "the agent's limits cannot be set: {0}. Ask the operator to check the cgroup that threadkey's service delegates"
    )]
    Cgroup(std::io::Error),
    /// The settings would give a worker access to secrets.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The limit on workers is reached.
    #[error(
        "{0} agents are running, which is the limit for all users together (agent.max_workers): wait until one has ended, or ask the operator to raise it"
    )]
    TooMany(usize),
    /// All of the owner's workers are at work.
    #[error(
        "{0} agents are at work for you, which is the limit for one user (agent.max_workers_per_user): wait for one, or stop one with /stop or /new in its conversation"
    )]
    TooManyOfOwner(usize),
    /// The worker is still working on the last prompt.
    #[error("the agent is still working on the last prompt: wait, or stop it with /stop")]
    Busy,
    /// The worker was ended while it was starting.
    #[error("the agent was stopped while it was starting: send your message again")]
    Stopped,
    /// The bot is shutting down.
    #[error("threadkey is shutting down: ask again after it has restarted")]
    ShuttingDown,
    /// The value of an environment variable could not be built.
    #[error("agent.env.{variable}: {detail}")]
    Environment {
        /// The variable's name.
        variable: String,
        /// The problem, for the operator or the owner.
        detail: String,
    },
    /// The settings or the files of a tool could not be made.
    #[error(
        "agent.tools and agent.files: {what}: {detail}. Remove the agent's files if an earlier run has put others there, or ask the operator to check these settings"
    )]
    Tool {
        /// The tool, the file or the folder.
        what: String,
        /// The problem.
        detail: String,
    },
    /// The conversation's agent is not in the configuration any more.
    #[error(
        "this conversation is with the agent {0}, which is no longer configured. Use /ask in a channel to open one with another agent"
    )]
    UnknownAgent(AgentName),
    /// The worker's port or sockets of the injecting proxy could not be opened.
    #[error(
        "the agent's port of the injecting proxy cannot be opened: {0}. Try again, and ask the operator to check threadkey's log"
    )]
    Inject(std::io::Error),
    /// The worker's folder could not be created.
    #[error("the agent's folder {path} cannot be created: {source}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}
