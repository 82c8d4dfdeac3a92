//! One worker's end of the Agent Client Protocol, version 1: handshake, turns, what the agent asks of us.
//!
//! We offer the agent no file system and no terminal: it has its own.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::Duration,
};

use agent_client_protocol::{
    Agent, Client, Error as AcpError, JsonRpcRequest, JsonRpcResponse, Lines, Responder, V1,
    is_incoming_transport_closed, on_receive_notification, on_receive_request,
    schema::ProtocolVersion,
    v1::{
        ConnectionTo,
        schema::{
            CancelNotification, ContentBlock, Implementation, InitializeRequest, NewSessionRequest,
            PromptRequest, RequestPermissionRequest, SessionId, SessionNotification, StopReason, TextContent,
        },
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    process::{ChildStdin, ChildStdout},
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Update,
    lines::{self, Gate},
    scrub::Scrubber,
    turn::{CurrentTurn, MAX_QUESTIONS, Prompt, Turn, ask, forward},
};

/// How long an agent may go on after `session/cancel` before it is ended.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);

/// Why the conversation with an agent ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It did not answer the handshake in time.
    Silent,
    /// It answered the handshake with an error; these are its words.
    Refused(String),
    /// It closed its end, or broke the connection; if it was our judgment, this says what for.
    Closed(Option<String>),
    /// It went on after it was told to cancel.
    Unresponsive,
    /// It had nothing to do for long enough.
    Idle,
    /// We ended it.
    Stopped,
}

/// What the owner of a connection decides.
pub(super) trait Host: Send + Sync + 'static {
    /// The handshake is done.
    fn ready(&self);
    /// A turn is over; the next prompt may come.
    fn turn_over(&self);
    /// Nothing was asked for a while: whether to end it now, which forbids further prompts.
    fn may_retire(&self) -> bool;
}

/// What a connection needs to know.
pub(super) struct Terms {
    pub(super) work: PathBuf,
    pub(super) start_within: Duration,
    pub(super) idle: Duration,
    pub(super) scrubber: Scrubber,
}

/// Tells by its answer that everything before it was handled; see [`lines`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonRpcRequest)]
#[request(method = "_threadkey/drained", response = Drained)]
struct DrainedRequest {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonRpcResponse)]
struct Drained {}

/// Talks with the agent until it or we have had enough.
pub(super) async fn converse(
    (stdin, stdout): (ChildStdin, ChildStdout),
    terms: Terms,
    prompts: &mut mpsc::Receiver<Prompt>,
    current: &CurrentTurn,
    host: &impl Host,
) -> End {
    let gate = Gate::new();
    let transport = Lines::new(
        Box::pin(lines::outgoing(stdin, Arc::clone(&gate))),
        Box::pin(lines::incoming(stdout, Arc::clone(&gate))),
    );
    let (ended, end) = oneshot::channel();
    let scrubber = terms.scrubber.clone();
    let open_questions = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let (turn_of_update, turn_of_question) = (Arc::clone(current), Arc::clone(current));
    let connection = Client
        .v1()
        .name("threadkey")
        .on_receive_notification(
            async move |notification: SessionNotification, _cx: ConnectionTo<_>| {
                forward(&turn_of_update, &scrubber, notification).await;
                Ok(())
            },
            on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: RequestPermissionRequest,
                        responder: Responder<_, V1>,
                        cx: ConnectionTo<_>| {
                ask(&turn_of_question, &open_questions, request, responder, &cx).await
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |_: DrainedRequest, responder: Responder<_, V1>, _cx: ConnectionTo<_>| {
                responder.respond(Drained {})
            },
            on_receive_request!(),
        )
        .connect_with(transport, async move |cx| {
            let _ = ended.send(talk(&cx, terms, prompts, current, host).await);
            Ok(())
        });
    tokio::select! {
        biased;
        Ok(end) = end => end,
        _ = connection => End::Closed(gate.fault().map(str::to_owned)),
    }
}

async fn talk(
    cx: &ConnectionTo<Agent>,
    terms: Terms,
    prompts: &mut mpsc::Receiver<Prompt>,
    current: &CurrentTurn,
    host: &impl Host,
) -> End {
    let session = match timeout(terms.start_within, handshake(cx, terms.work)).await {
        Err(_) => return End::Silent,
        Ok(Err(error)) if is_incoming_transport_closed(&error) => return End::Closed(None),
        Ok(Err(error)) => return End::Refused(terms.scrubber.scrub(&error.message)),
        Ok(Ok(session)) => session,
    };
    host.ready();
    loop {
        let prompt = tokio::select! {
            prompt = prompts.recv() => match prompt {
                Some(prompt) => prompt,
                None => return End::Stopped,
            },
            () = cx.incoming_closed() => return End::Closed(None),
            () = sleep(terms.idle) => {
                if host.may_retire() {
                    return End::Idle;
                }
                continue;
            }
        };
        if prompt.updates.is_closed() {
            // Whoever asked gave up while the agent was starting.
            host.turn_over();
            continue;
        }
        let updates = prompt.updates.clone();
        let reason = match turn(cx, &session, prompt, current, &terms.scrubber).await {
            Ok(reason) => reason,
            Err(end) => return end,
        };
        *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        host.turn_over();
        let _ = updates.send(Update::Done(reason)).await;
    }
}

async fn handshake(cx: &ConnectionTo<Agent>, work: PathBuf) -> Result<SessionId, AcpError> {
    let client = Implementation::new("threadkey", env!("CARGO_PKG_VERSION"));
    cx.send_request(InitializeRequest::new(ProtocolVersion::V1).client_info(client)).block_task().await?;
    Ok(cx.send_request(NewSessionRequest::new(work)).block_task().await?.session_id)
}

/// One turn; its stop reason, or why the connection is to end. In the latter case the turn stays the current one.
async fn turn(
    cx: &ConnectionTo<Agent>,
    session: &SessionId,
    prompt: Prompt,
    current: &CurrentTurn,
    scrubber: &Scrubber,
) -> Result<String, End> {
    let questions_void = CancellationToken::new();
    let _void_at_end = questions_void.clone().drop_guard();
    let updates = prompt.updates.clone();
    *current.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Turn::new(prompt.updates, questions_void.clone()));
    let content = vec![ContentBlock::Text(TextContent::new(prompt.text))];
    let mut answer =
        std::pin::pin!(cx.send_request(PromptRequest::new(session.clone(), content)).block_task());
    let answer = tokio::select! {
        answer = &mut answer => answer,
        () = prompt.cancel.cancelled() => {
            questions_void.cancel();
            let _ = cx.send_notification(CancelNotification::new(session.clone()));
            timeout(CANCEL_WITHIN, answer).await.map_err(|_| End::Unresponsive)?
        }
    };
    match answer {
        Ok(answer) => Ok(stop_reason(answer.stop_reason).to_owned()),
        Err(error) if is_incoming_transport_closed(&error) => Err(End::Closed(None)),
        Err(error) => {
            let text = format!("\n**The agent failed:** {}", scrubber.scrub(&error.message));
            let _ = updates.send(Update::Text(text)).await;
            Ok("refusal".to_owned())
        }
    }
}

fn stop_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Cancelled => "cancelled",
        StopReason::MaxTokens => "max_tokens",
        StopReason::MaxTurnRequests => "max_turn_requests",
        StopReason::Refusal => "refusal",
        _ => "end_turn",
    }
}
