//! Workers: one ACP agent process per conversation, what it may know, and what it says.

mod capability;

pub use capability::{Capabilities, Holder};

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::{
    ids::{ConversationId, ProviderId, Snowflake},
    secret::AccessToken,
};

/// How a worker is kept from what is not its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The strongest that this machine offers; refuses to spawn where there is none.
    #[default]
    Auto,
    /// Landlock (Linux 5.13, signals and abstract sockets from 6.12); refuses to spawn where it is missing.
    Landlock,
    /// Nothing. A worker can then read what the bot can read.
    None,
}

/// How workers are run.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Which providers' tokens a worker may ask for.
    pub providers: Vec<ProviderId>,
    /// How it is kept apart.
    pub isolation: Isolation,
    /// More variables for its environment; `{capability}`, `{conversation}`, `{user}` and `{token:PROVIDER}` expand.
    pub env: BTreeMap<String, String>,
    /// Where each worker gets a folder of its own, with HOME, TMPDIR and its working folder in it.
    pub root: PathBuf,
    /// The token API's socket.
    pub socket: PathBuf,
    /// Folders that workers may read besides the system's.
    pub read: Vec<PathBuf>,
    /// How many may run at once.
    pub max_workers: usize,
    /// How long one may idle before it is ended.
    pub idle: Duration,
    /// How long one gets to answer the ACP handshake.
    pub start_within: Duration,
}

/// Where `{token:PROVIDER}` comes from. Implemented with the broker, above.
#[async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// An access token for a worker of this holder, or a sentence for its owner.
    async fn token(&self, holder: &Holder, provider: &ProviderId) -> Result<AccessToken, String>;
}

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
    /// The bound on workers is reached.
    #[error("{0} agents are running, which is the limit (agent.max_workers): stop one with /stop, or wait")]
    TooMany(usize),
    /// The worker is still busy with the last prompt.
    #[error("the agent is still working on the last prompt: wait, or /stop it")]
    Busy,
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

/// All workers. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Workers {
    inner: Arc<()>,
}

impl Workers {
    /// Nothing is started yet.
    pub fn new(
        settings: AgentSettings,
        capabilities: Arc<Capabilities>,
        tokens: Arc<dyn TokenSource>,
    ) -> Self {
        let _ = (settings, capabilities, tokens);
        unimplemented!()
    }

    /// Starts a worker for the conversation if it has none, and gives it a prompt. The updates of the turn come by the
    /// channel (bounded; a slow reader slows the worker).
    pub async fn prompt(
        &self,
        conversation: &Conversation,
        text: String,
    ) -> Result<mpsc::Receiver<Update>, PromptError> {
        let _ = (&self.inner, conversation, text);
        unimplemented!()
    }

    /// Ends the turn under way, if there is one (ACP `session/cancel`). Says whether there was.
    pub async fn cancel(&self, conversation: ConversationId) -> bool {
        let _ = conversation;
        unimplemented!()
    }

    /// Ends the worker: TERM to its process group, then KILL. Its capability is void at once. Says whether there was one.
    pub async fn end(&self, conversation: ConversationId) -> bool {
        let _ = conversation;
        unimplemented!()
    }

    /// The conversations that have a live worker.
    pub fn live(&self) -> Vec<Conversation> {
        unimplemented!()
    }

    /// Ends all of them, for an orderly end.
    pub async fn shutdown(&self) {
        unimplemented!()
    }
}
