//! Workers: one ACP agent process per conversation, what it may know, and what it says.
//!
//! [`Workers`] starts a worker at its conversation's first prompt and ends it when it idles, crashes, or is told to. A
//! worker is a process group of its own with an environment, a home and a sandbox of its own; it shows its
//! [`Capabilities`] entry to the token API, and that entry is void before the process is signalled. The protocol is
//! ACP version 1 over stdin and stdout. Everything that a worker can make us keep is bounded: lines, queued
//! messages, updates, permission requests, its stderr.

pub mod builtin;
mod capability;
mod connection;
mod environment;
mod folders;
mod launch;
mod lines;
mod scrub;
mod settings;
mod stderr;
mod table;
pub mod token_client;
mod turn;
mod updates;
mod worker;
mod workers;

pub use capability::{Capabilities, Holder};
pub use environment::{CAPABILITY_VARIABLE, SOCKET_VARIABLE, TokenSource};
pub use settings::{AgentSettings, Isolation, SettingsError};
pub use workers::Workers;

use std::{path::PathBuf, time::Duration};

use tokio::sync::oneshot;

use crate::{
    ids::{ConversationId, Snowflake},
    sys::sandbox::SandboxError,
};

/// For whom a worker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The thread or DM channel.
    pub id: ConversationId,
    /// Only this person prompts it, and only this person's sessions serve it.
    pub owner: Snowflake,
    /// The server it is in, where the owner may use that server's shared sessions.
    pub shared_guild: Option<Snowflake>,
}

/// What a worker says during a turn, in order; the last is [`Update::Done`] or [`Update::Crashed`].
#[derive(Debug)]
pub enum Update {
    /// More of the answer (Markdown).
    Text(String),
    /// A tool call began or went on.
    Tool {
        /// To tell apart the calls of one turn.
        id: String,
        /// For people.
        title: String,
        /// `pending`, `in_progress`, `completed` or `failed`.
        status: String,
    },
    /// The agent asks its owner for permission. Dropping `answer` refuses.
    Permission(PermissionRequest),
    /// The turn is over: `end_turn`, `cancelled`, `max_tokens`, `max_turn_requests` or `refusal`.
    Done(String),
    /// The process is gone.
    Crashed {
        /// How it ended, and the end of what it wrote to stderr, scrubbed of its secrets.
        detail: String,
    },
}

/// A question to the owner.
#[derive(Debug)]
pub struct PermissionRequest {
    /// What it wants to do.
    pub title: String,
    /// Id and label of the choices.
    pub options: Vec<(String, String)>,
    /// The chosen id.
    pub answer: oneshot::Sender<String>,
}

/// Why a prompt did not reach a worker. The conversation is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// No agent in the configuration.
    #[error("no agent is configured: set agent.command in threadkey.toml")]
    NotConfigured,
    /// The program is not there.
    #[error("the agent program {program:?} cannot be started: {source}. Check agent.command")]
    Spawn {
        /// What was tried.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended before it could be talked to.
    #[error(
        "the agent {program:?} ended before it was ready ({detail}). Check that it speaks ACP on its standard input and output"
    )]
    DiedAtOnce {
        /// What was started.
        program: String,
        /// How it ended, and the end of its stderr.
        detail: String,
    },
    /// No handshake in time.
    #[error("the agent {program:?} did not answer within {} s; it was stopped", within.as_secs())]
    Silent {
        /// What was started.
        program: String,
        /// The bound.
        within: Duration,
    },
    /// It does not speak our protocol version or refused a session.
    #[error("the agent {program:?} refused: {detail}")]
    Refused {
        /// What was started.
        program: String,
        /// Its words.
        detail: String,
    },
    /// It cannot be kept apart here.
    #[error(
        "this machine cannot isolate agents: {0}. Set agent.isolation = \"none\" only if they may read what the bot can read"
    )]
    NoIsolation(String),
    /// Its sandbox could not be made.
    #[error("the agent's sandbox cannot be made: {0}. Check agent.command and agent.read")]
    Sandbox(SandboxError),
    /// The settings contradict what they are for.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The bound on workers is reached.
    #[error("{0} agents are running, which is the limit (agent.max_workers): stop one with /stop, or wait")]
    TooMany(usize),
    /// The worker is still busy with the last prompt.
    #[error("the agent is still working on the last prompt: wait, or /stop it")]
    Busy,
    /// Somebody ended it while it was being started.
    #[error("the agent was stopped while it was starting")]
    Stopped,
    /// The bot is ending.
    #[error("threadkey is shutting down: ask again when it is back")]
    ShuttingDown,
    /// A variable of its environment could not be filled.
    #[error("agent.env.{variable}: {detail}")]
    Environment {
        /// Which one.
        variable: String,
        /// A sentence.
        detail: String,
    },
    /// Its folder could not be made.
    #[error("the agent's folder {path} cannot be made: {source}", path = path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
