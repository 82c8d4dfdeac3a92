//! The turn in progress: passes the agent's updates and questions on to the reader of the turn.
//! Outside a turn updates are dropped, and questions are answered with "cancelled".

use std::sync::{Arc, Mutex, PoisonError};

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
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    PermissionRequest, Update,
    question::{AskedPermission, Question},
    updates::{ToolCalls, updates_of},
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
}

impl Turn {
    /// A turn whose output goes to `updates`. Its open questions end when `questions_void` fires.
    pub(super) fn new(updates: mpsc::Sender<Update>, questions_void: CancellationToken) -> Self {
        Self { updates, tool_calls: ToolCalls::default(), questions_void }
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
        (turn.updates.clone(), updates_of(notification.update, &mut turn.tool_calls, secrets))
    };
    for update in all {
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
            (turn.updates.clone(), turn.questions_void.clone(), question)
        })
    };
    let permit = Arc::clone(open).try_acquire_owned();
    let (Some((updates, void, question)), Ok(permit)) = (turn, permit) else {
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
        let _permit = permit;
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
