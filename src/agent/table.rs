//! The table of workers: which conversation has one, and what its state is.
//!
//! A conversation has one entry from the moment its worker is being started until its process is reaped and its capability
//! void; whoever comes in between waits for the end and then starts afresh. Nothing here waits: the lock of the table is
//! never held across an await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Capabilities, Conversation, PromptError, connection::Host, turn::Prompt};
use crate::ids::ConversationId;

/// See the module.
pub(super) struct Table {
    rows: Mutex<Rows>,
    max_workers: usize,
    capabilities: Arc<Capabilities>,
    /// Counts the times that a worker came or went.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Rows {
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

/// What became of a prompt.
pub(super) enum Admission {
    /// The conversation's worker has it.
    Given,
    /// There was no worker. There is an entry for one now, whose task is to be started with this.
    Vacant(Vacancy),
    /// Its worker is at its end: to be tried again once that has come.
    After(CancellationToken, Prompt),
}

/// A new entry, and what its worker's task and whoever waits for it need.
pub(super) struct Vacancy {
    pub(super) seat: Seat,
    /// The prompt is in it already.
    pub(super) prompts: mpsc::Receiver<Prompt>,
    /// Asks the worker's task to end it.
    pub(super) stop: CancellationToken,
    /// How the start went.
    pub(super) started: oneshot::Receiver<Result<(), PromptError>>,
}

/// Tells whoever waits for a start how it went.
type Ready = oneshot::Sender<Result<(), PromptError>>;

/// One worker's place in the table, for its task.
#[derive(Clone)]
pub(super) struct Seat {
    table: Arc<Table>,
    id: ConversationId,
    ready: Arc<Mutex<Option<Ready>>>,
}

impl Table {
    /// Nobody is in it yet, and never more than `max_workers`.
    pub(super) fn new(capabilities: Arc<Capabilities>, max_workers: usize) -> Self {
        let (rows, changed) = (Mutex::default(), watch::Sender::new(0));
        Self { rows, max_workers, capabilities, changed }
    }

    /// Gives the prompt to the conversation's worker, or makes an entry for one.
    ///
    /// # Errors
    /// [`PromptError`], with a sentence for the person; the table is as it was.
    pub(super) fn admit(
        self: &Arc<Self>,
        conversation: &Conversation,
        prompt: Prompt,
    ) -> Result<Admission, PromptError> {
        let mut rows = self.rows();
        if rows.closed {
            return Err(PromptError::ShuttingDown);
        }
        if let Some(entry) = rows.entries.get_mut(&conversation.id) {
            if entry.state == State::Ending {
                return Ok(Admission::After(entry.ended.clone(), prompt));
            }
            if entry.conversation != *conversation {
                // Another owner, or other rights: the worker that has the old ones' capability must not serve them.
                return Ok(Admission::After(self.stop_entry(entry), prompt));
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
        if rows.entries.len() >= self.max_workers {
            return Err(PromptError::TooMany(self.max_workers));
        }
        Ok(Admission::Vacant(self.enter(&mut rows, conversation, prompt)))
    }

    fn enter(self: &Arc<Self>, rows: &mut Rows, conversation: &Conversation, prompt: Prompt) -> Vacancy {
        let (prompts, to_worker) = mpsc::channel(1);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let turn = Some(prompt.cancel.clone());
        let sent = prompts.try_send(prompt).is_ok();
        debug_assert!(sent, "a new channel has room for one");
        rows.entries.insert(
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
        self.tell();
        let (ready, started) = oneshot::channel();
        let seat =
            Seat { table: Arc::clone(self), id: conversation.id, ready: Arc::new(Mutex::new(Some(ready))) };
        Vacancy { seat, prompts: to_worker, stop, started }
    }

    /// Cancels the turn under way, if there is one. Says whether there was.
    pub(super) fn cancel(&self, conversation: ConversationId) -> bool {
        let rows = self.rows();
        let turn = rows.entries.get(&conversation).and_then(|entry| entry.turn.as_ref());
        turn.inspect(|turn| turn.cancel()).is_some()
    }

    /// Asks the conversation's worker to end, its capability void at once. What is given fires when it has.
    pub(super) fn stop(&self, conversation: ConversationId) -> Option<CancellationToken> {
        self.rows().entries.get_mut(&conversation).map(|entry| self.stop_entry(entry))
    }

    /// Takes no more prompts, and asks all workers to end, as [`Table::stop`] does.
    pub(super) fn close(&self) -> Vec<CancellationToken> {
        let mut rows = self.rows();
        rows.closed = true;
        rows.entries.values_mut().map(|entry| self.stop_entry(entry)).collect()
    }

    /// The conversations that have a live worker.
    pub(super) fn live(&self) -> Vec<Conversation> {
        let rows = self.rows();
        let running = rows.entries.values().filter(|entry| entry.state == State::Running);
        running.map(|entry| entry.conversation.clone()).collect()
    }

    /// Tells whenever [`Table::live`] may give others.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn stop_entry(&self, entry: &mut Entry) -> CancellationToken {
        entry.state = State::Ending;
        self.tell();
        self.capabilities.revoke(entry.conversation.id);
        entry.stop.cancel();
        entry.ended.clone()
    }
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
        if let Some(entry) = self.table.rows().entries.get_mut(&self.id) {
            entry.state = State::Ending;
            self.table.tell();
        }
        self.table.capabilities.revoke(self.id);
    }

    /// The process is gone: the next prompt may start another.
    pub(super) fn clear(&self) {
        self.leave();
        if let Some(entry) = self.table.rows().entries.remove(&self.id) {
            entry.ended.cancel();
        }
    }
}

impl Host for Seat {
    fn ready(&self) {
        self.tell_start(Ok(()));
    }

    fn turn_over(&self) {
        if let Some(entry) = self.table.rows().entries.get_mut(&self.id) {
            entry.turn = None;
        }
    }

    fn may_retire(&self) -> bool {
        let mut rows = self.table.rows();
        match rows.entries.get_mut(&self.id) {
            Some(entry) if entry.turn.is_some() => false,
            Some(entry) => {
                self.table.stop_entry(entry);
                true
            }
            None => true,
        }
    }
}
