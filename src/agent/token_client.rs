//! The worker's side of the token API: HTTP/1.1 over the Unix socket, with the capability as bearer
//! token (RFC 6750 §2.1).
//!
//! `threadkey-client` has the same exchange for other programs, on purpose. Its secrets are types of its
//! own, because it must build without the bot; the ones here are known to the scrubber. And its tests
//! run this program, so it cannot be a dependency of it without a circle of packages.
//!
//! The built-in agent uses it, and `threadkey token` inside a worker. A connection serves one
//! request.

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
/// How long an answer may take beyond the requested `wait`. The API's own limit on a caller is
/// shorter.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The pause before another attempt at a socket with a full queue. The system sends no notice when
/// there is room again.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// The parameters of a request for a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenQuery {
    /// The remaining life that the token must have, in whole seconds. Without it the API's default
    /// counts.
    pub min_ttl: Option<Duration>,
    /// How long to wait for a sign-in of the owner without a session, in whole seconds.
    pub wait: Option<Duration>,
    /// Whether the provider is asked about the token first, and another one comes if it refuses it.
    pub probe: bool,
}

/// A token, with the other members of the API's answer.
#[derive(Clone, Debug)]
pub struct TokenAnswer {
    /// The token.
    pub access_token: AccessToken,
    /// The authentication scheme to present it with, mostly `Bearer`.
    pub token_type: String,
    /// When it expires, in Unix seconds; 253402300799 if the provider names no end.
    pub expires_at: i64,
    /// Its remaining life, in seconds.
    pub expires_in: i64,
    /// Its scope, if the provider named one.
    pub scope: Option<String>,
    /// The provider that issued it.
    pub provider: String,
    /// The principal that the session belongs to.
    pub principal: String,
    /// The number of commits to its session.
    pub generation: u64,
    /// The account that signed in, if it is known.
    pub account: Option<String>,
    /// `environment` or `exchange`, if the token is not that of a session.
    pub source: Option<String>,
}

/// The reason why the client returns no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenClientError {
    /// This process is not a worker.
    #[error("{0} is not set: only a worker that threadkey has started can ask its token API")]
    NotInWorker(&'static str),
    /// No server listens on the socket.
    #[error("threadkey's token API at {socket} cannot be reached: {source}. Is the bot running?", socket = socket.display())]
    Unreachable {
        /// The socket's path.
        socket: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("the connection to threadkey's token API at {socket} broke: {source}. Try again", socket = socket.display())]
    Broken {
        /// The socket's path.
        socket: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API did not answer in time.
    #[error("threadkey's token API at {socket} did not answer within {} s. Try again", within.as_secs(), socket = socket.display())]
    Silent {
        /// The socket's path.
        socket: PathBuf,
        /// The limit.
        within: Duration,
    },
    /// The API answered with a problem (RFC 9457).
    #[error("{detail} ({code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The stable code.
        code: String,
        /// The reason, and the next step.
        detail: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// The answer is not in the API's format.
    #[error(
        "threadkey's token API answered {status} in an unknown format. Are this program and the bot of the same version?"
    )]
    Unknown {
        /// The HTTP status.
        status: u16,
    },
}

/// A client of the token API, with the capability of one worker.
#[derive(Clone, Debug)]
pub struct TokenClient {
    socket: PathBuf,
    capability: Capability,
}

/// The API's answer as this client reads it.
///
/// This is a second reader of the JSON that the broker's `TokenJson` writes, on purpose. The agent
/// side is on a lower floor and cannot import the broker. A worker may also be older or newer than
/// the bot, so this reader is lenient: it ignores unknown members, and takes `provider` and
/// `principal` as plain text and `expires_in` as a signed number.
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
    source: Option<String>,
    account: Option<String>,
}

/// The members of an RFC 9457 problem that this client reads.
#[derive(Deserialize)]
struct Problem {
    code: String,
    title: Option<String>,
    detail: Option<String>,
}

impl TokenClient {
    /// A client that presents this capability.
    pub fn new(socket: PathBuf, capability: Capability) -> Self {
        Self { socket, capability }
    }

    /// Returns the client of this worker process, with the socket and the capability from its
    /// environment.
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
    /// [`TokenClientError`]. The code of [`TokenClientError::Refused`] is stable.
    pub async fn token(
        &self,
        provider: &ProviderId,
        query: TokenQuery,
    ) -> Result<TokenAnswer, TokenClientError> {
        let mut path = format!("/v1/token/{provider}");
        let whole = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
        let probe = query.probe.then_some(1);
        let parts = [("min_ttl", whole(query.min_ttl)), ("wait", whole(query.wait)), ("probe", probe)];
        for (at, (name, value)) in parts.iter().filter_map(|(name, v)| v.map(|v| (name, v))).enumerate() {
            let separator = if at == 0 { '?' } else { '&' };
            let _ = write!(path, "{separator}{name}={value}");
        }
        let within = ANSWER_WITHIN + query.wait.unwrap_or_default();
        self.ask(Method::GET, &path, Bytes::new(), within).await
    }

    /// `POST /v1/token/{provider}/rejected`: reports that a resource answered 401 to this token.
    /// Returns a newer one.
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
            source: body.source,
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
            // The connection ends after the answer. Before that, only a failure ends it.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(self.broken(error)),
            },
        }
    }

    /// Connects to the socket. Waits while its queue is full; the caller's limit covers this wait.
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
