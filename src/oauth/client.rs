//! The HTTP client for providers: one connection, one attempt, every size and time bounded.
//!
//! Invariant: [`Attempt::NotSent`] means that not one byte of the request can have left this
//! machine. Everything less certain is [`Attempt::Unanswered`], because the refresh token may be
//! spent.

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

#[cfg(feature = "test-util")]
use futures_util::future::BoxFuture;
use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, HeaderValue, USER_AGENT},
};
use http_body_util::Full;
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::{
    ExchangeRequest, Provider, ProviderError, TokenRequest, UserinfoAccount,
    content::has_whole_object,
    grant,
    receive::{LAST_LOOK, receive},
    request::{OpeningRequest, RevocationRequest, UserinfoRequest},
    wire::{Wire, pause_after_the_frame},
};
use crate::{
    net::{Outward, Reach, Trust, Unreachable, while_driven},
    session::journal::{Answer, Answered, Intended, Unread},
    sys::clock::{Clock, UnixTime},
};

/// The longest time for a whole request: connecting, then 180 s for the answer. Hanging up on a
/// refresh throws a token away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5 + 180);

/// The same for the userinfo endpoint, where giving up loses nothing.
const USERINFO_TIMEOUT: Duration = Duration::from_secs(10);

/// How many header lines an answer may have. The library's own limit is 100.
const MAX_HEADERS: usize = 1000;

/// The result of sending a request, with an answer of type `A`: [`Unread`] from [`Client::send`],
/// [`Answered`] once it is durable.
#[derive(Debug)]
pub enum Attempt<A = Unread> {
    /// An answer arrived, whole or cut. A redirect is an answer and is not followed.
    Answered(A),
    /// The request never left. The word is a stable code: `dns`, `connect`, `tls`, `proxy`, or
    /// `request` if HTTP cannot express it.
    NotSent(&'static str),
    /// The request left, and not even a status line arrived: `timeout`, `reset`, or `no_answer` for
    /// the request of a process that died.
    Unanswered(&'static str),
}

/// The result of asking a userinfo endpoint about an access token.
#[derive(Debug)]
pub enum Userinfo {
    /// The account of the token.
    Account(UserinfoAccount),
    /// The endpoint refuses the token: 401 (RFC 6750 §3.1).
    Refused,
    /// There was no answer within 10 s, or one that names no account.
    Unknown,
}

/// The HTTP client for providers. It connects within 5 s, reads for up to 180 s, follows no
/// redirect, repeats nothing, opens a connection for each request, and keeps whatever arrives, at
/// most [`MAX_BODY`](crate::session::journal::MAX_BODY) bytes. [`Outward`] decides about
/// certificates and proxies.
#[derive(Clone)]
pub struct Client {
    outward: Outward,
    /// The newest failure to connect for each host and port, until a connection succeeds. The hosts
    /// are those of the configuration, so there are few.
    troubles: Arc<Mutex<BTreeMap<String, Unreachable>>>,
    clock: Clock,
    #[cfg(feature = "test-util")]
    provider: Option<ScriptedProvider>,
}

/// The replacement for all providers in a test: takes a request's body and returns the result.
#[cfg(feature = "test-util")]
pub type ScriptedProvider =
    std::sync::Arc<dyn Fn(&[u8]) -> BoxFuture<'static, Attempt<Answer>> + Send + Sync>;

impl<A> Attempt<A> {
    /// Replaces the answer.
    pub fn map<B>(self, answer: impl FnOnce(A) -> B) -> Attempt<B> {
        match self {
            Self::Answered(given) => Attempt::Answered(answer(given)),
            Self::NotSent(code) => Attempt::NotSent(code),
            Self::Unanswered(code) => Attempt::Unanswered(code),
        }
    }
}

impl Attempt<Answered> {
    /// Time since the answer arrived; zero without one.
    pub fn age(&self, now: UnixTime) -> Duration {
        match self {
            Self::Answered(answered) => answered.answer().age(now),
            Self::NotSent(_) | Self::Unanswered(_) => Duration::ZERO,
        }
    }
}

// === impl Client ===

impl Client {
    /// Builds the client with the proxies of the environment. `clock` dates the answers.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(clock: Clock) -> Result<Self, ProviderError> {
        let outward = Outward::from_environment().map_err(|error| ProviderError::Tls(error.to_string()))?;
        Ok(Self::through(outward, clock))
    }

    /// Builds the client with this way out.
    pub fn through(outward: Outward, clock: Clock) -> Self {
        Self {
            outward,
            troubles: Arc::default(),
            clock,
            #[cfg(feature = "test-util")]
            provider: None,
        }
    }

    /// Returns the way out.
    pub(super) fn outward(&self) -> &Outward {
        &self.outward
    }

    /// Returns the reason why the newest connection to the provider's token endpoint could not be
    /// made, if no later one succeeded.
    pub fn trouble(&self, provider: &Provider) -> Option<Unreachable> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.get(&place(&provider.token_endpoint)).cloned()
    }

    /// Returns the same client, except that `provider` answers each [`Client::send`] and nothing
    /// touches the network.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn answered_by(&self, provider: ScriptedProvider) -> Self {
        Self { provider: Some(provider), ..self.clone() }
    }

    /// Sends a request that spends a secret, once. It needs a durable intent, which it consumes:
    ///
    /// ```compile_fail
    /// # use threadkey::oauth::{Client, TokenRequest};
    /// async fn a_request_needs_a_durable_intent(client: &Client, request: TokenRequest) {
    ///     let _ = client.send(request).await;
    /// }
    /// ```
    ///
    /// Dropping the future hangs up, but bytes that have left stay sent.
    pub async fn send(&self, request: TokenRequest, intended: Intended) -> Attempt {
        self.attempt(request).await.map(|answer| intended.answered(answer))
    }

    /// Asks the provider for a token exchange, once. The request spends nothing and is in no journal.
    pub async fn exchange_token(&self, request: ExchangeRequest) -> Attempt<Answer> {
        self.attempt(request.0).await
    }

    /// Asks the provider to begin a sign-in, once. The answer spends nothing and is in no journal.
    pub async fn open(&self, request: OpeningRequest) -> Attempt<Answer> {
        self.attempt(request.0).await
    }

    /// Asks the provider to revoke a token, once. Returns the HTTP status.
    ///
    /// # Errors
    /// The stable code of the failure, if there was no answer.
    pub async fn revoke(&self, request: RevocationRequest) -> Result<u16, &'static str> {
        match self.attempt(request.0).await {
            Attempt::Answered(answer) => Ok(answer.status),
            Attempt::NotSent(code) | Attempt::Unanswered(code) => Err(code),
        }
    }

    /// Asks the userinfo endpoint for the account of an access token (OpenID Connect Core §5.3).
    pub async fn userinfo(&self, mut request: UserinfoRequest) -> Userinfo {
        let claim = request.account_id_claim.take();
        match self.userinfo_answer(request).await {
            Some(answer) if answer.status == 401 => Userinfo::Refused,
            Some(answer) if (200..300).contains(&answer.status) => {
                grant::account(&answer, claim.as_deref()).map_or(Userinfo::Unknown, Userinfo::Account)
            }
            _ => Userinfo::Unknown,
        }
    }

    async fn userinfo_answer(&self, request: UserinfoRequest) -> Option<Answer> {
        let UserinfoRequest { endpoint, token, trust, reach, .. } = request;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
        bearer.set_sensitive(true);
        let mut request = Request::get(endpoint.as_str())
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, "application/json")
            .extension(trust)
            .body(Vec::new())
            .ok()?;
        if let Some(reach) = reach {
            request.extensions_mut().insert(reach);
        }
        let deadline = Instant::now() + USERINFO_TIMEOUT;
        match timeout_at(deadline, self.exchange(request, deadline)).await.ok()? {
            Attempt::Answered(answer) => Some(answer),
            Attempt::NotSent(_) | Attempt::Unanswered(_) => None,
        }
    }

    /// Sends one request of [`Client::try_token`], and returns the status of its answer. Reads no
    /// body.
    pub(super) async fn status_of(&self, mut request: Request<Vec<u8>>) -> Option<StatusCode> {
        let reach = request.extensions_mut().remove::<Reach>();
        let (url, trust, request) = prepared(request)?;
        let opened = match &reach {
            Some(reach) => self.outward.open_within(&url, &trust, reach).await,
            None => self.outward.open(&url, &trust).await,
        };
        let stream = opened.inspect_err(|cause| tracing::debug!(%cause, "a token was not probed")).ok()?;
        let (mut sender, connection) = http1_connection().handshake(TokioIo::new(stream)).await.ok()?;
        let response = while_driven(sender.send_request(request), connection).await.ok()?;
        Some(response.status())
    }

    async fn attempt(&self, request: TokenRequest) -> Attempt<Answer> {
        #[cfg(feature = "test-util")]
        if let Some(provider) = &self.provider {
            return provider(request.0.body()).await;
        }
        self.exchange(request.0, Instant::now() + ANSWER_TIMEOUT).await
    }

    /// Connects, and only then passes the request on: a failure before that has sent nothing.
    ///
    /// `deadline` bounds the wait for the answer. Bytes that have arrived by then are still read.
    async fn exchange(&self, mut request: Request<Vec<u8>>, deadline: Instant) -> Attempt<Answer> {
        let reach = request.extensions_mut().remove::<Reach>();
        let Some((url, trust, request)) = prepared(request) else { return Attempt::NotSent("request") };
        let opened = match &reach {
            Some(reach) => self.outward.open_within(&url, &trust, reach).await,
            None => self.outward.open(&url, &trust).await,
        };
        self.note(&url, opened.as_ref().err());
        let stream = match opened {
            Ok(stream) => stream,
            Err(cause) => {
                tracing::warn!(%cause, "a request to a provider was not sent");
                return Attempt::NotSent(cause.step());
            }
        };
        let wire = Wire::new(stream);
        // This prepares the connection and sends nothing.
        let Ok((mut sender, connection)) = http1_connection().handshake(TokioIo::new(wire.clone())).await
        else {
            return Attempt::NotSent("connect");
        };
        let is_tls = url.scheme() == "https";
        let answered = async {
            let mut sending = pin!(sender.send_request(request));
            let sent = match timeout_at(deadline, sending.as_mut()).await {
                Ok(sent) => Ok(sent),
                Err(_) => timeout(LAST_LOOK, sending).await,
            };
            match sent {
                Ok(Ok(response)) => Attempt::Answered(receive(response, is_tls, deadline, &self.clock).await),
                Ok(Err(_)) => Attempt::Unanswered("reset"),
                Err(_) => Attempt::Unanswered("timeout"),
            }
        };
        match while_driven(answered, connection).await {
            Attempt::Answered(answer) => Attempt::Answered(self.with_the_rest(answer, wire).await),
            Attempt::Unanswered(how) => match wire.read_again(deadline).await {
                Some(answer) => Attempt::Answered(Answer { at: self.clock.now(), ..answer }),
                None => Attempt::Unanswered(how),
            },
            not_sent @ Attempt::NotSent(_) => not_sent,
        }
    }

    /// Adds the bytes after the frame to an answer without a whole JSON object: the frame may have
    /// ended too early, and then they hold the rest of the tokens or of the verdict.
    async fn with_the_rest(&self, answer: Answer, wire: Wire) -> Answer {
        if !matches!(answer.status, 200..=299 | 400..=499) || has_whole_object(&answer.body) {
            return answer;
        }
        let until = Instant::now() + pause_after_the_frame(answer.status);
        match wire.read_again(until).await {
            // Some servers write a line break after the body.
            Some(more) if more.body.trim_ascii_end().len() > answer.body.trim_ascii_end().len() => {
                Answer { at: self.clock.now(), ..more }
            }
            _ => answer,
        }
    }

    /// Remembers or forgets the reason why a host cannot be reached.
    fn note(&self, url: &Url, cause: Option<&Unreachable>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match cause {
            Some(cause) => drop(troubles.insert(place(url), cause.clone())),
            None => drop(troubles.remove(&place(url))),
        }
    }
}

impl fmt::Debug for Client {
    /// Shows nothing of its parts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The settings of a connection. HTTP/1.1 alone: an HTTP/2 server may refuse a stream, and the
/// request would have to be repeated.
pub(super) fn http1_connection() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // A provider's odd header line must not cost the tokens that follow it.
    builder
        .ignore_invalid_headers_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .max_headers(MAX_HEADERS);
    builder
}

/// Returns the target of a request, the authorities that it may use, and the request as HTTP/1.1
/// writes it: the path alone in its first line, and the host in a header (RFC 9112 §3.2.1).
pub(super) fn prepared(request: Request<Vec<u8>>) -> Option<(Url, Trust, Request<Full<Bytes>>)> {
    let url = Url::parse(&request.uri().to_string()).ok()?;
    let (mut parts, body) = request.into_parts();
    let trust = parts.extensions.remove::<Trust>().unwrap_or_default();
    let host = url.host_str()?;
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    parts.uri = parts.uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
    parts.headers.insert(HOST, HeaderValue::try_from(host).ok()?);
    // The peer's close shows that nothing follows the frame.
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    parts
        .headers
        .insert(USER_AGENT, HeaderValue::from_static(concat!("threadkey/", env!("CARGO_PKG_VERSION"))));
    Some((url, trust, Request::from_parts(parts, Full::from(body))))
}

/// Returns host and port of a URL.
fn place(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
pub(super) mod tests;
