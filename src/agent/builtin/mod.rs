//! `threadkey agent`: an ACP agent on stdin and stdout for trials. It shows the account of the
//! token that it gets.
//!
//! At a prompt it requests a token from the token API. It then asks a configured resource, such as
//! a provider's `userinfo_endpoint` (OpenID Connect Core §5.3), for the token's account. Three
//! prompts differ: `permission` asks the owner first, `slow` goes on until it is cancelled, `crash`
//! ends the process.

mod account;
mod reply;
mod settings;

pub use settings::{
    BuiltinError, BuiltinSettings, PROVIDER_VARIABLE, USERINFO_VARIABLE, is_builtin, resource_address,
};

use std::{
    collections::HashMap,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_client_protocol::{
    Agent, ByteStreams, Client, Error as AcpError, Responder, V1, on_receive_notification,
    on_receive_request,
    v1::{
        ConnectionTo,
        schema::{
            AgentCapabilities, CancelNotification, ContentBlock, Implementation, InitializeRequest,
            InitializeResponse, NewSessionRequest, NewSessionResponse, PromptRequest, PromptResponse,
            SessionId, StopReason,
        },
    },
};
use tokio::time::sleep;
use tokio_util::{
    compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _},
    sync::CancellationToken,
};

use crate::sys::random;
use account::AccountReport;
use reply::Reply;

/// How many sessions may be open.
const MAX_SESSIONS: usize = 16;
/// The pause between the texts of `slow`, and their greatest number.
const SLOW_STEP: Duration = Duration::from_millis(500);
const SLOW_STEPS: u32 = 1200;

/// The sessions. The token of each cancels its turn in progress.
type Sessions = Arc<Mutex<HashMap<SessionId, CancellationToken>>>;

/// Serves one client on stdin and stdout until it closes them.
///
/// # Errors
/// If the connection breaks in another way.
pub async fn run(settings: BuiltinSettings) -> Result<(), BuiltinError> {
    let account_report = AccountReport::new(settings)?;
    let sessions = Sessions::default();
    let (opened, prompted, cancelled) = (Arc::clone(&sessions), Arc::clone(&sessions), sessions);
    let streams = ByteStreams::new(tokio::io::stdout().compat_write(), tokio::io::stdin().compat());
    Agent
        .v1()
        .name("threadkey-agent")
        .on_receive_request(
            async move |request: InitializeRequest,
                        responder: Responder<_, V1>,
                        _cx: ConnectionTo<Client>| {
                let about = Implementation::new("threadkey-agent", env!("CARGO_PKG_VERSION"));
                let answer = InitializeResponse::new(request.protocol_version);
                responder.respond(answer.agent_capabilities(AgentCapabilities::new()).agent_info(about))
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |_: NewSessionRequest, responder: Responder<_, V1>, _cx: ConnectionTo<Client>| {
                match open_session(&opened) {
                    Ok(id) => responder.respond(NewSessionResponse::new(id)),
                    Err(error) => responder.respond_with_error(error),
                }
            },
            on_receive_request!(),
        )
        .on_receive_request(
            async move |request: PromptRequest, responder: Responder<_, V1>, cx: ConnectionTo<Client>| {
                let Some(cancel) = begin_turn(&prompted, &request.session_id) else {
                    return responder.respond_with_error(AcpError::invalid_params());
                };
                let reply = Reply { cx: cx.clone(), session: request.session_id };
                let turn = Turn { reply, cancel, account_report: account_report.clone() };
                cx.spawn(async move {
                    match turn.run(&command(request.prompt)).await {
                        Ok(reason) => responder.respond(PromptResponse::new(reason)),
                        Err(error) => responder.respond_with_error(error),
                    }
                })
            },
            on_receive_request!(),
        )
        .on_receive_notification(
            async move |request: CancelNotification, _cx: ConnectionTo<Client>| {
                let sessions = cancelled.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(turn) = sessions.get(&request.session_id) {
                    turn.cancel();
                }
                Ok(())
            },
            on_receive_notification!(),
        )
        .connect_to(streams)
        .await
        .map_err(|error| BuiltinError::Connection(error.message))
}

fn open_session(sessions: &Sessions) -> Result<SessionId, AcpError> {
    let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
    if sessions.len() >= MAX_SESSIONS {
        return Err(AcpError::new(
            -32000,
            format!("this agent has {MAX_SESSIONS} sessions, which is its limit: start another agent"),
        ));
    }
    let id = SessionId::new(crate::ids::hex(&random::bytes::<8>()));
    sessions.insert(id.clone(), CancellationToken::new());
    Ok(id)
}

fn begin_turn(sessions: &Sessions, id: &SessionId) -> Option<CancellationToken> {
    let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
    let turn = sessions.get_mut(id)?;
    *turn = CancellationToken::new();
    Some(turn.clone())
}

/// Returns the texts of a prompt in lower case.
fn command(prompt: Vec<ContentBlock>) -> String {
    let texts = prompt.into_iter().filter_map(|block| match block {
        ContentBlock::Text(text) => Some(text.text),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(" ").trim().to_lowercase()
}

/// The work for one prompt.
struct Turn {
    reply: Reply,
    cancel: CancellationToken,
    account_report: AccountReport,
}

impl Turn {
    async fn run(&self, command: &str) -> Result<StopReason, AcpError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Ok(StopReason::Cancelled),
            done = self.work(command) => done,
        }
    }

    async fn work(&self, command: &str) -> Result<StopReason, AcpError> {
        match command {
            "crash" => {
                let _ = writeln!(std::io::stderr(), "threadkey agent: crashed on request");
                std::process::exit(1);
            }
            "slow" => self.slow().await?,
            "permission" => {
                if !self.reply.ask_permission().await? {
                    self.reply.send("I was not allowed to look up the account of this login.")?;
                    return Ok(StopReason::EndTurn);
                }
                self.account_report.send(&self.reply).await?;
            }
            _ => self.account_report.send(&self.reply).await?,
        }
        Ok(StopReason::EndTurn)
    }

    async fn slow(&self) -> Result<(), AcpError> {
        for step in 1..=SLOW_STEPS {
            self.reply.send(&format!("{step} … "))?;
            sleep(SLOW_STEP).await;
        }
        Ok(())
    }
}
