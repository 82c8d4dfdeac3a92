//! The token API: HTTP/1.1 over a Unix socket, with the capability as bearer token (RFC 6750 §2.1).
//!
//! The root package has the same exchange in `agent::token_client`, on purpose: this library must build
//! without the bot, and the bot's secrets are known to its scrubber.
//!
//! A connection serves one request. A caller that drops the future gives up only its wait: threadkey
//! finishes a refresh that it has started.

use std::{io, path::PathBuf, time::Duration};

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use crate::{AccessToken, Capability, Error, Token, error::Code};

/// The longest answer that is read, in bytes.
const MAX_BODY: usize = 256 * 1024;
/// The pause before another attempt at a socket with a full queue. The system sends no notice when
/// there is room again.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) socket: PathBuf,
    pub(crate) capability: Capability,
    /// How long a request for a token waits for a sign-in.
    pub(crate) wait: Duration,
    /// Whether a token is tried at the provider first.
    pub(crate) is_probed: bool,
}

/// The answer to a report of missing scopes.
#[derive(Deserialize)]
struct NextSignIn {
    sign_in: bool,
    scopes: Vec<String>,
}

/// The members of an RFC 9457 problem that this library reads.
#[derive(Deserialize)]
struct Problem {
    code: String,
    title: Option<String>,
    detail: Option<String>,
}

impl Api {
    pub(crate) async fn token(&self, provider: &str, min_ttl: Option<Duration>) -> Result<Token, Error> {
        let wait = Some(self.wait).filter(|wait| !wait.is_zero());
        let seconds = |time: Duration| time.as_secs();
        let probe = self.is_probed.then_some(1);
        let parts = [("min_ttl", min_ttl.map(seconds)), ("wait", wait.map(seconds)), ("probe", probe)];
        let parts = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?)));
        let query = parts.collect::<Vec<_>>().join("&");
        let query = if query.is_empty() { query } else { format!("?{query}") };
        self.ask(Method::GET, &format!("/v1/token/{provider}{query}"), Bytes::new()).await
    }

    pub(crate) async fn rejected(&self, provider: &str, token: &AccessToken) -> Result<Token, Error> {
        let body = serde_json::json!({ "access_token": token.expose() }).to_string();
        self.ask(Method::POST, &format!("/v1/token/{provider}/rejected"), body.into()).await
    }

    pub(crate) async fn insufficient_scope(
        &self,
        provider: &str,
        challenges: &[&str],
    ) -> Result<Option<Vec<String>>, Error> {
        let body = serde_json::json!({ "www_authenticate": challenges }).to_string();
        let path = format!("/v1/token/{provider}/insufficient_scope");
        let answer = self.successful(Method::POST, &path, body.into()).await?;
        let next: NextSignIn = serde_json::from_slice(&answer)
            .map_err(|_| Error::Unknown("this is no answer to a report of missing scopes".into()))?;
        Ok(next.sign_in.then_some(next.scopes))
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Token, Error> {
        Token::read(&self.successful(method, path, body).await?)
    }

    /// Returns the body of a successful answer.
    async fn successful(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Error> {
        let (status, retry_after, body) = self.exchange(method, path, body).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let problem: Problem =
            serde_json::from_slice(&body).map_err(|_| Error::Unknown(format!("HTTP {status}")))?;
        let detail = problem.detail.or(problem.title).unwrap_or_else(|| status.to_string());
        Err(Error::Refused { code: Code::from(&*problem.code), detail, retry_after })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Option<Duration>, Bytes), Error> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let bearer = format!("Bearer {}", self.capability.expose());
        let mut bearer = header::HeaderValue::try_from(bearer).map_err(|_| Error::BadCapability)?;
        bearer.set_sensitive(true);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(broken)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let retry_after = response.headers().get(header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(broken)?;
            Ok((status, retry_after.map(Duration::from_secs), body.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection ends after the answer. Before that, only a failure ends it.
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(broken(error)),
            },
        }
    }

    /// Connects to the socket. Waits while its queue is full; the caller's limit covers this wait.
    async fn connect(&self) -> Result<UnixStream, Error> {
        loop {
            match UnixStream::connect(&self.socket).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(QUEUE_PAUSE).await;
                }
                Err(source) => return Err(Error::Unreachable { socket: self.socket.clone(), source }),
                Ok(stream) => return Ok(stream),
            }
        }
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Broken(error.into())
}
