//! The worker's side of the token API: HTTP/1.1 over the Unix socket, with the capability as bearer token (RFC 6750 §2.1).
//!
//! For the built-in agent, and for `threadkey token` inside a worker. A connection serves one request.

use std::{fmt::Write as _, io, path::PathBuf, time::Duration};

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::UnixStream, time::timeout};

use super::environment::{CAPABILITY_VARIABLE, SOCKET_VARIABLE};
use crate::{
    ids::ProviderId,
    secret::{AccessToken, Capability},
};

/// The longest answer that is read, in bytes.
const MAX_BODY: usize = 256 * 1024;
/// How long an answer may take, besides what was asked for with `wait`: longer than the API's own bound on a caller.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The pause before another attempt at a socket whose queue is full. Nothing tells when it is no longer.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// What a token is asked for with.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenQuery {
    /// How much life the token must have left; the API's default where there is none. Whole seconds.
    pub min_ttl: Option<Duration>,
    /// How long to wait for the owner to sign in, where there is no session. Whole seconds.
    pub wait: Option<Duration>,
}

/// A token, and what is told with it.
#[derive(Clone, Debug)]
pub struct TokenAnswer {
    /// The token.
    pub access_token: AccessToken,
    /// How to show it; `Bearer` mostly.
    pub token_type: String,
    /// When it ends, in Unix seconds.
    pub expires_at: i64,
    /// The same from now, in seconds.
    pub expires_in: i64,
    /// What it is good for, where the provider said so.
    pub scope: Option<String>,
    /// Whose client it was issued to.
    pub provider: String,
    /// On whose behalf.
    pub principal: String,
    /// How many commits its session has seen.
    pub generation: u64,
    /// The account that signed in, where it is known.
    pub account: Option<String>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenClientError {
    /// This process is no worker.
    #[error(
        "{0} is not set: only a worker that threadkey has started can ask its token API. Is the bot's agent.command what started this?"
    )]
    NotInWorker(&'static str),
    /// Nobody answers at the socket.
    #[error("threadkey's token API at {socket} cannot be reached: {source}. Is the bot running?", socket = socket.display())]
    Unreachable {
        /// The socket's path.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("threadkey's token API at {socket} broke off: {source}. Try again", socket = socket.display())]
    Broken {
        /// The socket's path.
        socket: PathBuf,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("threadkey's token API at {socket} did not answer within {} s. Try again", within.as_secs(), socket = socket.display())]
    Silent {
        /// The socket's path.
        socket: PathBuf,
        /// The bound.
        within: Duration,
    },
    /// The API says no (RFC 9457).
    #[error("{detail} ({code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// A sentence.
        detail: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// An answer of another form than the API's.
    #[error("threadkey's token API answered {status} in an unknown form. Is this program as old as the bot?")]
    Unknown {
        /// The HTTP status.
        status: u16,
    },
}

/// Asks the token API.
#[derive(Clone, Debug)]
pub struct TokenClient {
    socket: PathBuf,
    capability: Capability,
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: String,
    token_type: String,
    expires_at: i64,
    expires_in: i64,
    scope: Option<String>,
    provider: String,
    principal: String,
    generation: u64,
    account: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    title: Option<String>,
    detail: Option<String>,
}

impl TokenClient {
    /// A client that shows this capability.
    pub fn new(socket: PathBuf, capability: Capability) -> Self {
        Self { socket, capability }
    }

    /// The client of the worker that this process is, by its environment.
    ///
    /// # Errors
    /// [`TokenClientError::NotInWorker`].
    pub fn from_env() -> Result<Self, TokenClientError> {
        let variable = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.ok_or(TokenClientError::NotInWorker(name))
        };
        let socket = variable(SOCKET_VARIABLE)?.into();
        let capability = variable(CAPABILITY_VARIABLE)?.into_string();
        let capability = capability.map_err(|_| TokenClientError::NotInWorker(CAPABILITY_VARIABLE))?;
        Ok(Self::new(socket, Capability::new(capability)))
    }

    /// `GET /v1/token/{provider}`.
    ///
    /// # Errors
    /// With a sentence; of [`TokenClientError::Refused`] the code is stable.
    pub async fn token(
        &self,
        provider: &ProviderId,
        query: TokenQuery,
    ) -> Result<TokenAnswer, TokenClientError> {
        let mut path = format!("/v1/token/{provider}");
        let parts = [("min_ttl", query.min_ttl), ("wait", query.wait)];
        for (at, (name, value)) in parts.iter().filter_map(|(name, v)| v.map(|v| (name, v))).enumerate() {
            let separator = if at == 0 { '?' } else { '&' };
            let _ = write!(path, "{separator}{name}={}", value.as_secs());
        }
        let within = ANSWER_WITHIN + query.wait.unwrap_or_default();
        self.ask(Method::GET, &path, Bytes::new(), within).await
    }

    /// `POST /v1/token/{provider}/rejected`: the resource answered 401 to this token. Gives a newer one.
    ///
    /// # Errors
    /// As [`TokenClient::token`].
    pub async fn rejected(
        &self,
        provider: &ProviderId,
        token: &AccessToken,
    ) -> Result<TokenAnswer, TokenClientError> {
        let body = serde_json::json!({ "access_token": token.expose() }).to_string();
        self.ask(Method::POST, &format!("/v1/token/{provider}/rejected"), body.into(), ANSWER_WITHIN).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<TokenAnswer, TokenClientError> {
        let exchange = self.exchange(method, path, body);
        let silent = |_| TokenClientError::Silent { socket: self.socket.clone(), within };
        let (status, retry_after, body) = timeout(within, exchange).await.map_err(silent)??;
        let unknown = |_| TokenClientError::Unknown { status: status.as_u16() };
        if status != StatusCode::OK {
            let problem: Problem = serde_json::from_slice(&body).map_err(unknown)?;
            let detail = problem.detail.or(problem.title).unwrap_or_else(|| status.to_string());
            return Err(TokenClientError::Refused {
                status: status.as_u16(),
                code: problem.code,
                detail,
                retry_after,
            });
        }
        let body: TokenBody = serde_json::from_slice(&body).map_err(unknown)?;
        Ok(TokenAnswer {
            access_token: AccessToken::new(body.access_token),
            token_type: body.token_type,
            expires_at: body.expires_at,
            expires_in: body.expires_in,
            scope: body.scope,
            provider: body.provider,
            principal: body.principal,
            generation: body.generation,
            account: body.account,
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Option<Duration>, Bytes), TokenClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(e))?;
        let mut authorization = header::HeaderValue::try_from(format!("Bearer {}", self.capability.expose()))
            .map_err(|_| TokenClientError::NotInWorker(CAPABILITY_VARIABLE))?;
        authorization.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| self.broken(e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| self.broken(e))?;
            let retry_after =
                response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|value| value.parse().ok()).map(Duration::from_secs);
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
            Ok((status, retry_after, body.map_err(|e| self.broken(e))?.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection is over when the answer is there; until then only a failure ends it.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(self.broken(error)),
            },
        }
    }

    /// Waits in front of a queue that is full; the caller's bound holds for that too.
    async fn connect(&self) -> Result<UnixStream, TokenClientError> {
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(QUEUE_PAUSE).await;
                }
                Err(source) => {
                    return Err(TokenClientError::Unreachable { socket: self.socket.clone(), source });
                }
                Ok(stream) => return Ok(stream),
            }
        }
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TokenClientError {
        TokenClientError::Broken { socket: self.socket.clone(), source: source.into() }
    }
}
