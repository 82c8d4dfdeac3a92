//! `threadkey agent`: an ACP agent on stdin and stdout that shows whose token it has, for trying things out.
//!
//! At a prompt it asks the token API for its token, and a configured resource, such as a provider's `userinfo_endpoint`
//! (OpenID Connect Core §5.3), for whose it is. Three prompts do something else: `permission` asks its owner first,
//! `slow` goes on until it is cancelled, `crash` ends the process.

mod login;
mod settings;
mod voice;

pub use settings::{BuiltinError, BuiltinSettings, PROVIDER_VARIABLE, USERINFO_VARIABLE};

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
use login::Login;
use voice::Voice;

const MAX_SESSIONS: usize = 16;
/// How often `slow` says something, and how many times at most.
const SLOW_STEP: Duration = Duration::from_millis(500);
const SLOW_STEPS: u32 = 1200;

/// The sessions, each with the turn under way.
type Sessions = Arc<Mutex<HashMap<SessionId, CancellationToken>>>;

/// Serves one client on stdin and stdout until it closes them.
///
/// # Errors
/// When the connection breaks in another way.
pub async fn run(settings: BuiltinSettings) -> Result<(), BuiltinError> {
    let login = Login::new(settings)?;
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
                let voice = Voice { cx: cx.clone(), session: request.session_id };
                let turn = Turn { voice, cancel, login: login.clone() };
                cx.spawn(async move {
                    match turn.take(&words(request.prompt)).await {
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
            format!("this agent has {MAX_SESSIONS} sessions, which is its limit"),
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

fn words(prompt: Vec<ContentBlock>) -> String {
    let texts = prompt.into_iter().filter_map(|block| match block {
        ContentBlock::Text(text) => Some(text.text),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(" ").trim().to_lowercase()
}

/// One prompt's work.
struct Turn {
    voice: Voice,
    cancel: CancellationToken,
    login: Login,
}

impl Turn {
    async fn take(&self, words: &str) -> Result<StopReason, AcpError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Ok(StopReason::Cancelled),
            done = self.work(words) => done,
        }
    }

    async fn work(&self, words: &str) -> Result<StopReason, AcpError> {
        match words {
            "crash" => {
                let _ = writeln!(std::io::stderr(), "threadkey agent: told to crash");
                std::process::exit(1);
            }
            "slow" => self.slow().await?,
            "permission" => {
                if !self.voice.permitted().await? {
                    self.voice.say("I was not allowed to look whose login I hold.")?;
                    return Ok(StopReason::EndTurn);
                }
                self.login.show(&self.voice).await?;
            }
            _ => self.login.show(&self.voice).await?,
        }
        Ok(StopReason::EndTurn)
    }

    async fn slow(&self) -> Result<(), AcpError> {
        for step in 1..=SLOW_STEPS {
            self.voice.say(&format!("{step} … "))?;
            sleep(SLOW_STEP).await;
        }
        Ok(())
    }
}
