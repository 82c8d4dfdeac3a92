//! The interface to all workers: a prompt starts a worker if its conversation has none, and each
//! one is ended in order.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    AgentSettings, Capabilities, Conversation, Holder, PromptError, TokenSource, Update,
    table::{Admission, NewWorker, Table},
    turn::Prompt,
    worker::{self, WorkerDeps},
};
use crate::ids::ConversationId;

/// How many updates may wait for their reader.
const MAX_UPDATES: usize = 64;
/// How long [`Workers::shutdown`] takes at most: longer than one worker's end.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

/// All workers. Cheap to clone; clones share their state.
#[derive(Clone)]
pub struct Workers {
    deps: Arc<WorkerDeps>,
    table: Arc<Table>,
}

impl Workers {
    /// Takes the settings, and starts nothing. [`AgentSettings::check`] tests whether they are
    /// safe.
    pub fn new(
        settings: AgentSettings,
        capabilities: Arc<Capabilities>,
        tokens: Arc<dyn TokenSource>,
    ) -> Self {
        let table = Arc::new(Table::new(Arc::clone(&capabilities), settings.max_workers));
        Self { deps: Arc::new(WorkerDeps { settings, capabilities, tokens }), table }
    }

    /// Returns the agent's name for people: that of its program.
    pub fn agent_name(&self) -> String {
        let program = self.deps.settings.command.first().map(String::as_str).unwrap_or_default();
        let name = std::path::Path::new(program).file_stem().map(|name| name.to_string_lossy());
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
        let name: String = name.unwrap_or_default().chars().filter(is_plain).take(32).collect();
        if name.trim().is_empty() { "worker".to_owned() } else { name.trim().to_owned() }
    }

    /// Starts a worker for the conversation if it has none, and gives it a prompt.
    ///
    /// The returned channel yields the updates of the turn. It is bounded, so a slow reader slows
    /// the worker. Dropping it does not end the turn.
    ///
    /// # Errors
    /// [`PromptError`], to show to the user. No turn has begun then.
    pub async fn prompt(
        &self,
        conversation: &Conversation,
        text: String,
    ) -> Result<mpsc::Receiver<Update>, PromptError> {
        let (updates, receiver) = mpsc::channel(MAX_UPDATES);
        let mut prompt = Prompt { text, updates, cancel: CancellationToken::new() };
        loop {
            match self.table.admit(conversation, prompt)? {
                Admission::Delivered => return Ok(receiver),
                Admission::Start(NewWorker { entry, prompts, stop, started }) => {
                    let deps = Arc::clone(&self.deps);
                    tokio::spawn(worker::run(deps, entry, conversation.clone(), prompts, stop));
                    return started.await.unwrap_or(Err(PromptError::Stopped)).map(|()| receiver);
                }
                Admission::RetryAfter(ended, returned) => {
                    ended.cancelled().await;
                    prompt = returned;
                }
            }
        }
    }

    /// Cancels the turn in progress (ACP `session/cancel`). Returns whether there was one.
    pub async fn cancel(&self, conversation: ConversationId) -> bool {
        self.table.cancel(conversation)
    }

    /// Ends the worker: its capability is void at once, and its process group gets TERM and then
    /// KILL. Returns whether there was a worker.
    pub async fn end(&self, conversation: ConversationId) -> bool {
        match self.table.stop(conversation) {
            Some(ended) => {
                ended.cancelled().await;
                true
            }
            None => false,
        }
    }

    /// Returns the conversations with a live worker.
    pub fn live(&self) -> Vec<Conversation> {
        self.table.live()
    }

    /// Returns the holders of the live workers' capabilities.
    pub fn holders(&self) -> Vec<Holder> {
        self.live().into_iter().map(|conversation| self.deps.holder(conversation)).collect()
    }

    /// Subscribes to changes of [`Workers::live`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.table.changes()
    }

    /// Refuses later prompts and ends all workers, within at most 10 s.
    pub async fn shutdown(&self) {
        let all = self.table.close();
        let ended = async {
            for ended in all {
                ended.cancelled().await;
            }
        };
        if timeout(SHUTDOWN_WITHIN, ended).await.is_err() {
            tracing::error!("some agents did not end in time and are left to die with this process");
        }
    }
}
