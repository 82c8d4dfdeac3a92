//! All workers, for those who talk to them: a prompt starts one where there is none, and each is ended in order.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    AgentSettings, Capabilities, Conversation, PromptError, TokenSource, Update,
    table::{Admission, Table, Vacancy},
    turn::Prompt,
    worker::{self, Means},
};
use crate::ids::ConversationId;

/// How many updates may wait for their reader.
const MAX_UPDATES: usize = 64;
/// How long [`Workers::shutdown`] takes at most: longer than one worker's end.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

/// All workers. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Workers {
    means: Arc<Means>,
    table: Arc<Table>,
}

impl Workers {
    /// Nothing is started yet. Whether the settings are sound is for [`AgentSettings::check`].
    pub fn new(
        settings: AgentSettings,
        capabilities: Arc<Capabilities>,
        tokens: Arc<dyn TokenSource>,
    ) -> Self {
        let table = Arc::new(Table::new(Arc::clone(&capabilities), settings.max_workers));
        Self { means: Arc::new(Means { settings, capabilities, tokens }), table }
    }

    /// Starts a worker for the conversation if it has none, and gives it a prompt. The updates of the turn come by the
    /// channel (bounded; a slow reader slows the worker). Dropping the channel does not end the turn.
    ///
    /// # Errors
    /// [`PromptError`], with a sentence for the person; no turn was begun then.
    pub async fn prompt(
        &self,
        conversation: &Conversation,
        text: String,
    ) -> Result<mpsc::Receiver<Update>, PromptError> {
        let (updates, receiver) = mpsc::channel(MAX_UPDATES);
        let mut prompt = Prompt { text, updates, cancel: CancellationToken::new() };
        loop {
            match self.table.admit(conversation, prompt)? {
                Admission::Given => return Ok(receiver),
                Admission::Vacant(Vacancy { seat, prompts, stop, started }) => {
                    let means = Arc::clone(&self.means);
                    tokio::spawn(worker::run(means, seat, conversation.clone(), prompts, stop));
                    return started.await.unwrap_or(Err(PromptError::Stopped)).map(|()| receiver);
                }
                Admission::After(ended, back) => {
                    ended.cancelled().await;
                    prompt = back;
                }
            }
        }
    }

    /// Ends the turn under way, if there is one (ACP `session/cancel`). Says whether there was.
    pub async fn cancel(&self, conversation: ConversationId) -> bool {
        self.table.cancel(conversation)
    }

    /// Ends the worker: TERM to its process group, then KILL. Its capability is void at once. Says whether there was one.
    pub async fn end(&self, conversation: ConversationId) -> bool {
        match self.table.stop(conversation) {
            Some(ended) => {
                ended.cancelled().await;
                true
            }
            None => false,
        }
    }

    /// The conversations that have a live worker.
    pub fn live(&self) -> Vec<Conversation> {
        self.table.live()
    }

    /// Tells whenever [`Workers::live`] may give others.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.table.changes()
    }

    /// Ends all of them, for an orderly end; later prompts are refused. Bounded: 10 s.
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
