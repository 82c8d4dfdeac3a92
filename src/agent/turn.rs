//! A turn, and what the agent says and asks while it is under way, passed on to whoever prompted. Outside a turn updates are
//! dropped, and questions are answered with "cancelled".

use std::sync::{Arc, Mutex, PoisonError};

use agent_client_protocol::{
    Agent, Error as AcpError, Responder, V1,
    v1::{
        ConnectionTo,
        schema::{
            RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
            SelectedPermissionOutcome, SessionNotification,
        },
    },
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    PermissionRequest, Update,
    scrub::Scrubber,
    updates::{self, Tools},
};

/// How many questions to the owner may be open at once; more are answered with "cancelled".
pub(super) const MAX_QUESTIONS: usize = 8;
/// How many choices of one question are passed on: what fits under one Discord message.
const MAX_OPTIONS: usize = 25;

/// A prompt on its way.
pub(super) struct Prompt {
    pub(super) text: String,
    pub(super) updates: mpsc::Sender<Update>,
    pub(super) cancel: CancellationToken,
}

/// The turn under way. Outlives its connection, so that the last update can be sent when all is cleaned up.
pub(super) type CurrentTurn = Arc<Mutex<Option<Turn>>>;

/// See [`CurrentTurn`].
pub(super) struct Turn {
    pub(super) updates: mpsc::Sender<Update>,
    tools: Tools,
    /// Fires when the turn is cancelled or over, and with it its open questions.
    questions_void: CancellationToken,
}

impl Turn {
    /// A turn that tells `updates`. Its open questions end with `questions_void`.
    pub(super) fn new(updates: mpsc::Sender<Update>, questions_void: CancellationToken) -> Self {
        Self { updates, tools: Tools::default(), questions_void }
    }
}

/// Waits for room with the reader of the turn, and so holds the agent back.
pub(super) async fn forward(current: &CurrentTurn, scrubber: &Scrubber, notification: SessionNotification) {
    let (updates, all) = {
        let mut turn = current.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(turn) = turn.as_mut() else { return };
        (turn.updates.clone(), updates::of(notification.update, &mut turn.tools, scrubber))
    };
    for update in all {
        let _ = updates.send(update).await;
    }
}

/// Passes a question on to the owner, and the answer back, without holding up what the agent says meanwhile.
pub(super) async fn ask(
    current: &CurrentTurn,
    open: &Arc<Semaphore>,
    request: RequestPermissionRequest,
    responder: Responder<RequestPermissionResponse, V1>,
    cx: &ConnectionTo<Agent>,
) -> Result<(), AcpError> {
    let cancelled = || RequestPermissionResponse::new(RequestPermissionOutcome::Cancelled);
    let turn = {
        let mut turn = current.lock().unwrap_or_else(PoisonError::into_inner);
        turn.as_mut().map(|turn| {
            let title = updates::question(&request.tool_call, &turn.tools);
            (turn.updates.clone(), turn.questions_void.clone(), title)
        })
    };
    let permit = Arc::clone(open).try_acquire_owned();
    let (Some((updates, void, title)), Ok(permit)) = (turn, permit) else {
        return responder.respond(cancelled());
    };
    let options: Vec<_> = request
        .options
        .into_iter()
        .take(MAX_OPTIONS)
        .map(|option| (option.option_id.to_string(), option.name))
        .collect();
    let offered: Vec<_> = options.iter().map(|(id, _)| id.clone()).collect();
    let (answer, chosen) = oneshot::channel();
    if updates.send(Update::Permission(PermissionRequest { title, options, answer })).await.is_err() {
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
