//! The table of workers: at most one for each conversation, with its state.
//!
//! A conversation has an entry from the start of its worker until the process is reaped and the
//! capability is void. A prompt for an ending worker waits for its end, and then starts a new
//! worker. Nothing here waits: the lock of the table is never held across an await.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Capabilities, Conversation, PromptError, connection::ConnectionOwner, turn::Prompt};
use crate::ids::ConversationId;

/// The numbers of workers that may exist at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) all: usize,
    pub(super) of_one_owner: usize,
}

/// All workers of this process.
pub(super) struct Table {
    rows: Mutex<Rows>,
    places: Places,
    capabilities: Arc<Capabilities>,
    /// Counts the changes of [`Table::live`].
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Rows {
    /// No further prompt is admitted.
    closed: bool,
    entries: HashMap<ConversationId, WorkerState>,
    /// Counts the turns that have ended, as the clock of [`WorkerState::idle_since`].
    turns: u64,
}

/// The state of one conversation's worker.
struct WorkerState {
    conversation: Conversation,
    phase: Phase,
    prompts: mpsc::Sender<Prompt>,
    /// Cancels the turn in progress.
    turn: Option<CancellationToken>,
    /// The number of the last turn's end among all turns' ends.
    idle_since: u64,
    /// Asks the worker's task to end the worker.
    stop: CancellationToken,
    /// Fires when the entry has been removed.
    ended: CancellationToken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Ending,
}

/// The result of [`Table::admit`].
pub(super) enum Admission {
    /// The conversation's worker has the prompt.
    Delivered,
    /// The conversation had no worker. It has an entry now, and the caller must start the worker's
    /// task.
    Start(NewWorker),
    /// The conversation's worker is ending. The caller tries again after the token has fired.
    RetryAfter(CancellationToken, Prompt),
}

/// A new entry, with the channels of the worker's task and of the caller that waits for the start.
pub(super) struct NewWorker {
    pub(super) entry: TableEntry,
    /// The worker's prompts. The first one is already in it.
    pub(super) prompts: mpsc::Receiver<Prompt>,
    /// Asks the worker's task to end the worker.
    pub(super) stop: CancellationToken,
    /// The result of the start.
    pub(super) started: oneshot::Receiver<Result<(), PromptError>>,
}

/// Takes the result of a start.
type StartReport = oneshot::Sender<Result<(), PromptError>>;

/// A handle to one worker's entry in the table, for the worker's task.
#[derive(Clone)]
pub(super) struct TableEntry {
    table: Arc<Table>,
    id: ConversationId,
    start_report: Arc<Mutex<Option<StartReport>>>,
}

impl Table {
    /// An empty table with this many places.
    pub(super) fn new(capabilities: Arc<Capabilities>, places: Places) -> Self {
        let (rows, changed) = (Mutex::default(), watch::Sender::new(0));
        Self { rows, places, capabilities, changed }
    }

    /// Delivers the prompt to the conversation's worker, or adds an entry for a new worker.
    ///
    /// # Errors
    /// [`PromptError`], to show to the user. The table is then unchanged.
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
            if entry.phase == Phase::Ending {
                return Ok(Admission::RetryAfter(entry.ended.clone(), prompt));
            }
            if entry.conversation != *conversation {
                // The owner or the rights differ. The worker has the capability of the old ones, so
                // it must not serve the new ones.
                return Ok(Admission::RetryAfter(self.stop_entry(entry), prompt));
            }
            if entry.turn.is_some() {
                return Err(PromptError::Busy);
            }
            let turn = prompt.cancel.clone();
            return match entry.prompts.try_send(prompt) {
                Ok(()) => {
                    entry.turn = Some(turn);
                    Ok(Admission::Delivered)
                }
                // The worker's task takes no more prompts, and is about to mark this entry as
                // ending.
                Err(mpsc::error::TrySendError::Closed(prompt)) => {
                    Ok(Admission::RetryAfter(entry.ended.clone(), prompt))
                }
                Err(mpsc::error::TrySendError::Full(_)) => Err(PromptError::Busy),
            };
        }
        if let Some(ended) = self.make_room(&mut rows, conversation)? {
            return Ok(Admission::RetryAfter(ended, prompt));
        }
        Ok(Admission::Start(self.add_entry(&mut rows, conversation, prompt)))
    }

    /// Finds a place for a new worker. If there is none, the owner's own idle worker that is idle for
    /// the longest time ends, and the caller waits for its end. Other owners' workers are never
    /// touched.
    fn make_room(
        &self,
        rows: &mut Rows,
        conversation: &Conversation,
    ) -> Result<Option<CancellationToken>, PromptError> {
        let own = || rows.entries.values().filter(|entry| entry.conversation.owner == conversation.owner);
        let is_full = rows.entries.len() >= self.places.all;
        let own_count = own().count();
        if !is_full && own_count < self.places.of_one_owner {
            return Ok(None);
        }
        if let Some(ending) = own().find(|entry| entry.phase == Phase::Ending) {
            return Ok(Some(ending.ended.clone()));
        }
        let idle = own().filter(|entry| entry.turn.is_none());
        let oldest = idle.min_by_key(|entry| entry.idle_since).map(|entry| entry.conversation.id);
        match oldest.and_then(|id| rows.entries.get_mut(&id)) {
            Some(entry) => Ok(Some(self.stop_entry(entry))),
            None if own_count >= self.places.of_one_owner => {
                Err(PromptError::TooManyOfOwner(self.places.of_one_owner))
            }
            None => Err(PromptError::TooMany(self.places.all)),
        }
    }

    fn add_entry(
        self: &Arc<Self>,
        rows: &mut Rows,
        conversation: &Conversation,
        prompt: Prompt,
    ) -> NewWorker {
        let (prompts, to_worker) = mpsc::channel(1);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let turn = Some(prompt.cancel.clone());
        let sent = prompts.try_send(prompt).is_ok();
        debug_assert!(sent, "a new channel has room for one prompt");
        rows.entries.insert(
            conversation.id,
            WorkerState {
                conversation: conversation.clone(),
                phase: Phase::Running,
                prompts,
                turn,
                idle_since: 0,
                stop: stop.clone(),
                ended,
            },
        );
        self.notify_change();
        let (report, started) = oneshot::channel();
        let start_report = Arc::new(Mutex::new(Some(report)));
        let entry = TableEntry { table: Arc::clone(self), id: conversation.id, start_report };
        NewWorker { entry, prompts: to_worker, stop, started }
    }

    /// Cancels the turn in progress. Returns whether there was one.
    pub(super) fn cancel(&self, conversation: ConversationId) -> bool {
        let rows = self.rows();
        let turn = rows.entries.get(&conversation).and_then(|entry| entry.turn.as_ref());
        turn.inspect(|turn| turn.cancel()).is_some()
    }

    /// Whether a turn is in progress.
    pub(super) fn is_at_work(&self, conversation: ConversationId) -> bool {
        self.rows().entries.get(&conversation).is_some_and(|entry| entry.turn.is_some())
    }

    /// Voids the capability of the conversation's worker and asks the worker to end. The returned
    /// token fires at its end.
    pub(super) fn stop(&self, conversation: ConversationId) -> Option<CancellationToken> {
        self.rows().entries.get_mut(&conversation).map(|entry| self.stop_entry(entry))
    }

    /// Admits no more prompts.
    pub(super) fn refuse_prompts(&self) {
        self.rows().closed = true;
    }

    /// Admits no more prompts, and asks all workers to end, as [`Table::stop`] does.
    pub(super) fn close(&self) -> Vec<CancellationToken> {
        let mut rows = self.rows();
        rows.closed = true;
        rows.entries.values_mut().map(|entry| self.stop_entry(entry)).collect()
    }

    /// Returns the conversations with a live worker.
    pub(super) fn live(&self) -> Vec<Conversation> {
        let rows = self.rows();
        let running = rows.entries.values().filter(|entry| entry.phase == Phase::Running);
        running.map(|entry| entry.conversation.clone()).collect()
    }

    /// Subscribes to changes of [`Table::live`].
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn stop_entry(&self, entry: &mut WorkerState) -> CancellationToken {
        entry.phase = Phase::Ending;
        self.notify_change();
        self.capabilities.revoke(entry.conversation.id);
        entry.stop.cancel();
        entry.ended.clone()
    }
}

impl TableEntry {
    /// Reports the result of the start to the waiting caller. Returns false if it was reported
    /// before.
    pub(super) fn report_start(&self, result: Result<(), PromptError>) -> bool {
        let report = self.start_report.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A caller that gave up has also dropped the turn's channel, which the connection notices.
        report.map(|report| report.send(result)).is_some()
    }

    /// Marks the worker as ending: it gets no more prompts and no more tokens.
    pub(super) fn mark_ending(&self) {
        if let Some(entry) = self.table.rows().entries.get_mut(&self.id) {
            entry.phase = Phase::Ending;
            self.table.notify_change();
        }
        self.table.capabilities.revoke(self.id);
    }

    /// Removes the entry after the process has ended. The next prompt may start another worker.
    pub(super) fn remove(&self) {
        self.mark_ending();
        if let Some(entry) = self.table.rows().entries.remove(&self.id) {
            entry.ended.cancel();
        }
    }
}

impl ConnectionOwner for TableEntry {
    fn handshake_done(&self) {
        self.report_start(Ok(()));
    }

    fn turn_done(&self) {
        let mut rows = self.table.rows();
        rows.turns += 1;
        let now = rows.turns;
        if let Some(entry) = rows.entries.get_mut(&self.id) {
            entry.turn = None;
            entry.idle_since = now;
        }
    }

    fn retires_when_idle(&self) -> bool {
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
