//! Our side of one worker's Agent Client Protocol connection, version 1: the handshake, the turns,
//! the agent's requests.
//!
//! We offer the agent no file system and no terminal, because it has its own.

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
            PromptRequest, SessionId, SessionNotification, StopReason, TextContent,
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
    mcp::McpOffers,
    question::AskedPermission,
    turn::{Activity, CurrentTurn, MAX_QUESTIONS, Prompt, Turn, forward_question, forward_update},
    worker_secrets::WorkerSecrets,
};

/// How long a turn may last after `session/cancel` before the agent is ended.
const CANCEL_WITHIN: Duration = Duration::from_secs(10);

/// The reason why the connection to an agent ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EndReason {
    /// The agent did not answer the handshake in time.
    Silent,
    /// The agent answered the handshake with this error.
    Refused(String),
    /// The agent closed or broke the connection, or we closed it because of this fault.
    Closed(Option<String>),
    /// The agent ignored `session/cancel`.
    Unresponsive,
    /// No prompt arrived for the idle time.
    Idle,
    /// The bot ended it.
    Stopped,
}

/// The owner of a connection: it is notified of progress, and decides when an idle connection ends.
pub(super) trait ConnectionOwner: Send + Sync + 'static {
    /// Called after the handshake.
    fn handshake_done(&self);
    /// Called after a turn, when the next prompt may come.
    fn turn_done(&self);
    /// Called after the idle time without a prompt. If this returns true, no further prompt is
    /// admitted and the worker ends.
    fn retires_when_idle(&self) -> bool;
}

/// The settings of one connection.
pub(super) struct ConnectionSettings {
    /// The worker's working folder.
    pub(super) work: PathBuf,
    /// The MCP servers to hand to it.
    pub(super) mcp: McpOffers,
    /// How long the handshake may take.
    pub(super) start_within: Duration,
    /// How long the worker may be without a prompt.
    pub(super) idle: Duration,
    /// How long a turn may last, and how long the agent may be silent in it.
    pub(super) max_turn: Duration,
    pub(super) max_silence: Duration,
    /// The secrets to remove from the agent's texts.
    pub(super) secrets: WorkerSecrets,
}

/// The request whose answer shows that every earlier line was handled: see [`lines`].
#[derive(Clone, Debug, Serialize, Deserialize, JsonRpcRequest)]
#[request(method = "_threadkey/drained", response = Drained)]
struct DrainedRequest {}

#[derive(Clone, Debug, Serialize, Deserialize, JsonRpcResponse)]
struct Drained {}

/// Runs the connection until either side ends it.
pub(super) async fn converse(
    (stdin, stdout): (ChildStdin, ChildStdout),
    settings: ConnectionSettings,
    prompts: &mut mpsc::Receiver<Prompt>,
    current: &CurrentTurn,
    owner: &impl ConnectionOwner,
) -> EndReason {
    let gate = Gate::new();
    let transport = Lines::new(
        Box::pin(lines::outgoing(stdin, Arc::clone(&gate))),
        Box::pin(lines::incoming(stdout, Arc::clone(&gate))),
    );
    let (ended, end) = oneshot::channel();
    let secrets = settings.secrets.clone();
    let open_questions = Arc::new(Semaphore::new(MAX_QUESTIONS));
    let (turn_of_update, turn_of_question) = (Arc::clone(current), Arc::clone(current));
    let connection = Client
        .v1()
        .name("threadkey")
        .on_receive_notification(
            async move |notification: SessionNotification, _cx: ConnectionTo<_>| {
                forward_update(&turn_of_update, &secrets, notification).await;
                Ok(())
            },
            on_receive_notification!(),
        )
        .on_receive_request(
            async move |request: AskedPermission, responder: Responder<_, V1>, cx: ConnectionTo<_>| {
                forward_question(&turn_of_question, &open_questions, request, responder, &cx).await
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
            let _ = ended.send(serve_prompts(&cx, settings, prompts, current, owner).await);
            Ok(())
        });
    tokio::select! {
        biased;
        Ok(end) = end => end,
        _ = connection => EndReason::Closed(gate.fault().map(str::to_owned)),
    }
}

/// Makes the handshake, and then runs one turn for each prompt.
async fn serve_prompts(
    cx: &ConnectionTo<Agent>,
    settings: ConnectionSettings,
    prompts: &mut mpsc::Receiver<Prompt>,
    current: &CurrentTurn,
    owner: &impl ConnectionOwner,
) -> EndReason {
    let session = match timeout(settings.start_within, handshake(cx, &settings)).await {
        Err(_) => return EndReason::Silent,
        Ok(Err(error)) if is_incoming_transport_closed(&error) => return EndReason::Closed(None),
        Ok(Err(error)) => return EndReason::Refused(settings.secrets.scrub(&error.message)),
        Ok(Ok(session)) => session,
    };
    owner.handshake_done();
    loop {
        let prompt = tokio::select! {
            prompt = prompts.recv() => match prompt {
                Some(prompt) => prompt,
                None => return EndReason::Stopped,
            },
            () = cx.incoming_closed() => return EndReason::Closed(None),
            () = sleep(settings.idle) => {
                if owner.retires_when_idle() {
                    return EndReason::Idle;
                }
                continue;
            }
        };
        if prompt.updates.is_closed() {
            // The caller gave up while the agent was starting.
            owner.turn_done();
            continue;
        }
        let updates = prompt.updates.clone();
        let reason = match turn(cx, &session, prompt, current, &settings).await {
            Ok(reason) => reason,
            Err(end_reason) => return end_reason,
        };
        *current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        owner.turn_done();
        let _ = updates.send(Update::Done(reason)).await;
    }
}

async fn handshake(cx: &ConnectionTo<Agent>, settings: &ConnectionSettings) -> Result<SessionId, AcpError> {
    let client = Implementation::new("threadkey", env!("CARGO_PKG_VERSION"));
    let initialize = InitializeRequest::new(ProtocolVersion::V1).client_info(client);
    let agent = cx.send_request(initialize).block_task().await?.agent_capabilities;
    let servers = settings.mcp.servers(agent.mcp_capabilities.http);
    let new_session = NewSessionRequest::new(settings.work.clone()).mcp_servers(servers);
    Ok(cx.send_request(new_session).block_task().await?.session_id)
}

/// Runs one turn. Returns its stop reason, or the reason why the connection has to end. In the
/// latter case the turn stays the current one.
async fn turn(
    cx: &ConnectionTo<Agent>,
    session: &SessionId,
    prompt: Prompt,
    current: &CurrentTurn,
    settings: &ConnectionSettings,
) -> Result<String, EndReason> {
    let questions_void = CancellationToken::new();
    let _void_at_end = questions_void.clone().drop_guard();
    let updates = prompt.updates.clone();
    let activity = Activity::new();
    *current.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Turn::new(prompt.updates, questions_void.clone(), activity.clone()));
    let content = vec![ContentBlock::Text(TextContent::new(prompt.text))];
    let mut answer =
        std::pin::pin!(cx.send_request(PromptRequest::new(session.clone(), content)).block_task());
    let cancelled = tokio::select! {
        answer = &mut answer => Err(answer),
        () = prompt.cancel.cancelled() => Ok(None),
        () = sleep(settings.max_turn) => Ok(Some(("it took longer than", settings.max_turn, "max_turn"))),
        () = activity.silent_for(settings.max_silence) => {
            Ok(Some(("the agent was silent for", settings.max_silence, "max_silence")))
        }
    };
    let answer = match cancelled {
        Err(answer) => answer,
        Ok(limit) => {
            questions_void.cancel();
            let _ = cx.send_notification(CancelNotification::new(session.clone()));
            if let Some((reason, limit, key)) = limit {
                let text = format!("{reason} {} (agent.{key})", in_words(limit));
                // A reader that takes nothing does not delay the end.
                let _ = timeout(CANCEL_WITHIN, updates.send(Update::LimitReached(text))).await;
            }
            timeout(CANCEL_WITHIN, answer).await.map_err(|_| EndReason::Unresponsive)?
        }
    };
    match answer {
        Ok(answer) => Ok(stop_reason(answer.stop_reason).to_owned()),
        Err(error) if is_incoming_transport_closed(&error) => Err(EndReason::Closed(None)),
        Err(error) => {
            let _ = updates.send(Update::Failed(settings.secrets.scrub(&error.message))).await;
            Ok("failed".to_owned())
        }
    }
}

/// Writes a limit in its largest whole unit.
fn in_words(limit: Duration) -> String {
    match limit.as_secs() {
        hours if hours > 0 && hours % 3600 == 0 => format!("{} h", hours / 3600),
        minutes if minutes > 0 && minutes % 60 == 0 => format!("{} min", minutes / 60),
        seconds => format!("{seconds} s"),
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
