//! The turn in progress: passes the agent's updates and questions on to the reader of the turn.
//! Outside a turn updates are dropped, and questions are answered with "cancelled".

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_client_protocol::{
    Agent, Error as AcpError, Responder, V1,
    v1::{
        ConnectionTo,
        schema::{
            RequestPermissionOutcome, RequestPermissionResponse, SelectedPermissionOutcome,
            SessionNotification,
        },
    },
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    PermissionRequest, Update,
    question::{AskedPermission, Question},
    updates::{ToolCalls, in_pieces, updates_of},
    worker_secrets::WorkerSecrets,
};

/// How many questions to the owner may be open at once. Further ones are answered with "cancelled".
pub(super) const MAX_QUESTIONS: usize = 8;

/// A prompt on its way to the worker.
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) cancel: CancellationToken,
}

/// The turn in progress. It outlives its connection, so that the last update can be sent after all
/// is cleaned up.
pub(super) type CurrentTurn = Arc<Mutex<Option<Turn>>>;

/// See [`CurrentTurn`].
pub(super) struct Turn {
    pub(super) updates: mpsc::Sender<Update>,
    tool_calls: ToolCalls,
    /// Fires when the turn is cancelled or has ended, and ends its open questions.
    questions_void: CancellationToken,
    activity: Activity,
}

impl Turn {
    /// A turn whose output goes to `updates`. Its open questions end when `questions_void` fires.
    pub(super) fn new(
        updates: mpsc::Sender<Update>,
        questions_void: CancellationToken,
        activity: Activity,
    ) -> Self {
        Self { updates, tool_calls: ToolCalls::default(), questions_void, activity }
    }
}

/// The signs of life of a turn. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<watch::Sender<usize>>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Records that the agent has sent something.
    fn note(&self) {
        self.0.send_modify(|_| {});
    }

    /// Records that a question to the owner is open, until the result is dropped.
    fn question(&self) -> OpenQuestion {
        self.0.send_modify(|open| *open += 1);
        OpenQuestion(self.clone())
    }

    /// Waits until the agent has sent nothing for this time and no question to its owner was open.
    pub(super) async fn silent_for(&self, longest: Duration) {
        let mut changes = self.0.subscribe();
        loop {
            // The sender lives as long as `self`.
            if *changes.borrow_and_update() > 0 {
                let _ = changes.changed().await;
            } else if timeout(longest, changes.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// See [`Activity::question`].
struct OpenQuestion(Activity);

impl Drop for OpenQuestion {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// Passes an update on to the reader of the turn. A slow reader slows the agent down.
pub(super) async fn forward_update(
    current: &CurrentTurn,
    secrets: &WorkerSecrets,
    notification: SessionNotification,
) {
    let (updates, all) = {
        let mut turn = current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(turn) = turn.as_mut() else { return };
        turn.activity.note();
        (turn.updates.clone(), updates_of(notification.update, &mut turn.tool_calls, secrets))
    };
    for update in all.into_iter().flat_map(in_pieces) {
        let _ = updates.send(update).await;
    }
}

/// Passes a question on to the owner, and the answer back. The agent's updates go on meanwhile.
pub(super) async fn forward_question(
    current: &CurrentTurn,
    open: &Arc<Semaphore>,
    request: AskedPermission,
    responder: Responder<RequestPermissionResponse, V1>,
    cx: &ConnectionTo<Agent>,
) -> Result<(), AcpError> {
    let cancelled = || RequestPermissionResponse::new(RequestPermissionOutcome::Cancelled);
    let turn = {
        let mut turn = current.lock().unwrap_or_else(PoisonError::into_inner);
        turn.as_mut().map(|turn| {
            let question = Question::read(request, &turn.tool_calls.details);
            (turn.updates.clone(), turn.questions_void.clone(), question, turn.activity.question())
        })
    };
    let permit = Arc::clone(open).try_acquire_owned();
    let (Some((updates, void, question, open_question)), Ok(permit)) = (turn, permit) else {
        return responder.respond(cancelled());
    };
    let Question { title, parts, is_whole, options } = question;
    let offered: Vec<_> = options.iter().map(|option| option.id.clone()).collect();
    let (answer, chosen) = oneshot::channel();
    let request = PermissionRequest { title, parts, is_whole, options, answer };
    if updates.send(Update::Permission(request)).await.is_err() {
        return responder.respond(cancelled());
    }
    cx.spawn(async move {
        let (_permit, _open_question) = (permit, open_question);
        let outcome = tokio::select! {
            biased;
            () = void.cancelled() => RequestPermissionOutcome::Cancelled,
            chosen = chosen => match chosen {
                Ok(id) if offered.contains(&id) => {
                    RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(id))
                }
                _ => RequestPermissionOutcome::Cancelled,
            },
        };
        responder.respond(RequestPermissionResponse::new(outcome))
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn output_and_an_open_question_to_the_owner_are_no_silence() {
        let activity = Activity::new();
        let longest = Duration::from_secs(60);
        let started = Instant::now();
        let silent = tokio::spawn({
            let activity = activity.clone();
            async move {
                activity.silent_for(longest).await;
                Instant::now()
            }
        });
        tokio::time::sleep(Duration::from_secs(50)).await;
        activity.note();
        tokio::time::sleep(Duration::from_secs(50)).await;
        let question = activity.question();
        tokio::time::sleep(Duration::from_secs(1000)).await;
        assert!(!silent.is_finished(), "the owner has not answered");
        drop(question);
        assert_eq!((silent.await.expect("it ends") - started).as_secs(), 1100 + 60);
    }
}
