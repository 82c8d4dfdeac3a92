//! The table of workers: which conversation has one, and what may be asked of it.
//!
//! A conversation has one entry from the moment its worker is being started until its process is reaped and its capability
//! void; whoever comes in between waits for the end and then starts afresh. The lock of the table is never held across an
//! await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    AgentSettings, Capabilities, Conversation, PromptError, TokenSource, Update,
    connection::{Host, Prompt},
    worker,
};
use crate::ids::ConversationId;

/// How many updates may wait for their reader.
const MAX_UPDATES: usize = 64;
/// How long [`Workers::shutdown`] takes at most: longer than one worker's end.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

/// All workers. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Workers {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) settings: AgentSettings,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) tokens: Arc<dyn TokenSource>,
    table: Mutex<Table>,
    /// Counts the times that a worker came or went.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    closed: bool,
    entries: HashMap<ConversationId, Entry>,
}

struct Entry {
    conversation: Conversation,
    state: State,
    prompts: mpsc::Sender<Prompt>,
    /// The turn under way, to cancel it.
    turn: Option<CancellationToken>,
    /// Asks the worker's task to end it.
    stop: CancellationToken,
    /// Fires when the entry is gone.
    ended: CancellationToken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Ending,
}

enum Admission {
    Given,
    Starting(oneshot::Receiver<Result<(), PromptError>>),
    After(CancellationToken, Prompt),
}

impl Workers {
    /// Nothing is started yet. Whether the settings are sound is for [`AgentSettings::check`].
    pub fn new(
        settings: AgentSettings,
        capabilities: Arc<Capabilities>,
        tokens: Arc<dyn TokenSource>,
    ) -> Self {
        let (table, changed) = (Mutex::default(), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { settings, capabilities, tokens, table, changed }) }
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
            match self.admit(conversation, prompt)? {
                Admission::Given => return Ok(receiver),
                Admission::Starting(ready) => {
                    return ready.await.unwrap_or(Err(PromptError::Stopped)).map(|()| receiver);
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
        let table = self.shared.table();
        let turn = table.entries.get(&conversation).and_then(|entry| entry.turn.as_ref());
        turn.inspect(|turn| turn.cancel()).is_some()
    }

    /// Ends the worker: TERM to its process group, then KILL. Its capability is void at once. Says whether there was one.
    pub async fn end(&self, conversation: ConversationId) -> bool {
        let ended = self.shared.table().entries.get_mut(&conversation).map(|entry| self.shared.stop(entry));
        match ended {
            Some(ended) => {
                ended.cancelled().await;
                true
            }
            None => false,
        }
    }

    /// The conversations that have a live worker.
    pub fn live(&self) -> Vec<Conversation> {
        let table = self.shared.table();
        let running = table.entries.values().filter(|entry| entry.state == State::Running);
        running.map(|entry| entry.conversation.clone()).collect()
    }

    /// Tells whenever [`Workers::live`] may give others.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Ends all of them, for an orderly end; later prompts are refused. Bounded: 10 s.
    pub async fn shutdown(&self) {
        let all: Vec<_> = {
            let mut table = self.shared.table();
            table.closed = true;
            table.entries.values_mut().map(|entry| self.shared.stop(entry)).collect()
        };
        let ended = async {
            for ended in all {
                ended.cancelled().await;
            }
        };
        if timeout(SHUTDOWN_WITHIN, ended).await.is_err() {
            tracing::error!("some agents did not end in time and are left to die with this process");
        }
    }

    fn admit(&self, conversation: &Conversation, prompt: Prompt) -> Result<Admission, PromptError> {
        let mut table = self.shared.table();
        if table.closed {
            return Err(PromptError::ShuttingDown);
        }
        if let Some(entry) = table.entries.get_mut(&conversation.id) {
            if entry.state == State::Ending {
                return Ok(Admission::After(entry.ended.clone(), prompt));
            }
            if entry.conversation != *conversation {
                // Another owner, or other rights: the worker that has the old ones' capability must not serve them.
                return Ok(Admission::After(self.shared.stop(entry), prompt));
            }
            if entry.turn.is_some() {
                return Err(PromptError::Busy);
            }
            let turn = prompt.cancel.clone();
            return match entry.prompts.try_send(prompt) {
                Ok(()) => {
                    entry.turn = Some(turn);
                    Ok(Admission::Given)
                }
                // Its task is past taking prompts, and about to say so in this table.
                Err(mpsc::error::TrySendError::Closed(prompt)) => {
                    Ok(Admission::After(entry.ended.clone(), prompt))
                }
                Err(mpsc::error::TrySendError::Full(_)) => Err(PromptError::Busy),
            };
        }
        if table.entries.len() >= self.shared.settings.max_workers {
            return Err(PromptError::TooMany(self.shared.settings.max_workers));
        }
        Ok(Admission::Starting(self.start(&mut table, conversation, prompt)))
    }

    fn start(
        &self,
        table: &mut Table,
        conversation: &Conversation,
        prompt: Prompt,
    ) -> oneshot::Receiver<Result<(), PromptError>> {
        let (prompts, to_worker) = mpsc::channel(1);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let turn = Some(prompt.cancel.clone());
        let sent = prompts.try_send(prompt).is_ok();
        debug_assert!(sent, "a new channel has room for one");
        table.entries.insert(
            conversation.id,
            Entry {
                conversation: conversation.clone(),
                state: State::Running,
                prompts,
                turn,
                stop: stop.clone(),
                ended,
            },
        );
        self.shared.tell();
        let (ready, outcome) = oneshot::channel();
        let seat = Seat {
            shared: Arc::clone(&self.shared),
            id: conversation.id,
            ready: Arc::new(Mutex::new(Some(ready))),
        };
        tokio::spawn(worker::run(seat, conversation.clone(), to_worker, stop));
        outcome
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn stop(&self, entry: &mut Entry) -> CancellationToken {
        entry.state = State::Ending;
        self.tell();
        self.capabilities.revoke(entry.conversation.id);
        entry.stop.cancel();
        entry.ended.clone()
    }
}

/// Tells whoever waits for a start how it went.
type Ready = oneshot::Sender<Result<(), PromptError>>;

/// One worker's place in the table, held by its task. Dropping it clears the place, also when the task panics or its runtime ends.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    id: ConversationId,
    ready: Arc<Mutex<Option<Ready>>>,
}

impl Seat {
    /// Tells whoever waits for the start; `false` if that was done before.
    pub(super) fn tell_start(&self, outcome: Result<(), PromptError>) -> bool {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever gave up waiting has dropped the turn's channel too, which the connection sees.
        ready.map(|ready| ready.send(outcome)).is_some()
    }

    /// No more prompts, and no more tokens.
    pub(super) fn leave(&self) {
        if let Some(entry) = self.shared.table().entries.get_mut(&self.id) {
            entry.state = State::Ending;
            self.shared.tell();
        }
        self.shared.capabilities.revoke(self.id);
    }

    /// The process is gone: the next prompt may start another.
    pub(super) fn clear(&self) {
        self.leave();
        if let Some(entry) = self.shared.table().entries.remove(&self.id) {
            entry.ended.cancel();
        }
    }
}

impl Host for Seat {
    fn ready(&self) {
        self.tell_start(Ok(()));
    }

    fn turn_over(&self) {
        if let Some(entry) = self.shared.table().entries.get_mut(&self.id) {
            entry.turn = None;
        }
    }

    fn may_retire(&self) -> bool {
        let mut table = self.shared.table();
        match table.entries.get_mut(&self.id) {
            Some(entry) if entry.turn.is_some() => false,
            Some(entry) => {
                self.shared.stop(entry);
                true
            }
            None => true,
        }
    }
}
