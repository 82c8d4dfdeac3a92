//! The HTTP client for providers: one connection, one attempt, every size and time bounded.
//!
//! Invariant: [`Attempt::NotSent`] means that not one byte of the request can have left this
//! machine. Everything less certain is [`Attempt::Unanswered`], because the refresh token may be
//! spent.

use std::{error::Error, fmt, io, pin::pin, time::Duration};

#[cfg(feature = "test-util")]
use futures_util::future::BoxFuture;
use reqwest::{Request, RequestBuilder, header::ACCEPT};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::{
    Provider, ProviderError, TokenRequest, grant,
    receive::{LAST_LOOK, receive},
    request::RevocationRequest,
    settings::is_loopback,
};
use crate::{
    secret::AccessToken,
    session::journal::{Answer, Answered, Intended, Unread},
    sys::clock::{Clock, UnixTime},
};

/// The longest time for name lookup, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time for a whole request: connecting, then 180 s for the answer. Hanging up on a
/// refresh throws a token away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5 + 180);

/// The same for the userinfo endpoint, where giving up loses nothing.
const USERINFO_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of sending a request, with an answer of type `A`: [`Unread`] from [`Client::send`],
/// [`Answered`] once it is durable.
#[derive(Debug)]
pub enum Attempt<A = Unread> {
    /// An answer arrived, whole or cut. A redirect is an answer and is not followed.
    Answered(A),
    /// The request never left. The word is a stable code: `dns`, `connect`, `tls`, or `request` if
    /// HTTP cannot express it.
    NotSent(&'static str),
    /// The request left, and not even a status line arrived: `timeout`, `reset`, or `no_answer` for
    /// the request of a process that died.
    Unanswered(&'static str),
}

/// The HTTP client for providers. It connects within 5 s, reads for up to 180 s, follows no
/// redirect, repeats nothing, reuses no idle connection, and keeps whatever arrives, at most
/// [`MAX_BODY`](crate::session::journal::MAX_BODY) bytes.
/// Proxies are those of the environment; loopback goes direct.
#[derive(Clone)]
pub struct Client {
    outward: reqwest::Client,
    loopback: reqwest::Client,
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
    /// Builds the client. `clock` dates the answers.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(clock: Clock) -> Result<Self, ProviderError> {
        // The error itself names only the builder; its source names the cause.
        let tls = |error: reqwest::Error| {
            ProviderError::Tls(error.source().map_or_else(|| error.to_string(), ToString::to_string))
        };
        Ok(Self {
            outward: builder().build().map_err(tls)?,
            loopback: builder().no_proxy().build().map_err(tls)?,
            clock,
            #[cfg(feature = "test-util")]
            provider: None,
        })
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

    /// Asks the userinfo endpoint for the account of an access token: `email`,
    /// `preferred_username`, `name` or `sub`, the first that is present. Returns `None` without
    /// such an endpoint, or without an answer within 10 s.
    pub async fn account(&self, provider: &Provider, token: &AccessToken) -> Option<String> {
        let answer = self.userinfo(provider, token).await?;
        if (200..300).contains(&answer.status) { grant::account(&answer) } else { None }
    }

    /// Whether the userinfo endpoint refuses an access token: 401 (RFC 6750 §3.1). `false` without
    /// such an endpoint, or without an answer within 10 s.
    pub async fn is_refused(&self, provider: &Provider, token: &AccessToken) -> bool {
        let answer = self.userinfo(provider, token).await;
        answer.is_some_and(|answer| answer.status == 401)
    }

    /// Returns the answer of the userinfo endpoint (OpenID Connect Core §5.3).
    async fn userinfo(&self, provider: &Provider, token: &AccessToken) -> Option<Answer> {
        let endpoint = provider.userinfo_endpoint.as_ref()?;
        let request = RequestBuilder::from_parts(
            self.towards(endpoint).clone(),
            Request::new(reqwest::Method::GET, endpoint.clone()),
        )
        .bearer_auth(token.expose())
        .header(ACCEPT, "application/json")
        .build()
        .ok()?;
        let deadline = Instant::now() + USERINFO_TIMEOUT;
        match timeout_at(deadline, self.exchange(request, deadline)).await.ok()? {
            Attempt::Answered(answer) => Some(answer),
            Attempt::NotSent(_) | Attempt::Unanswered(_) => None,
        }
    }

    async fn attempt(&self, request: TokenRequest) -> Attempt<Answer> {
        #[cfg(feature = "test-util")]
        if let Some(provider) = &self.provider {
            return provider(request.0.body()).await;
        }
        match Request::try_from(request.0) {
            Ok(request) => self.exchange(request, Instant::now() + ANSWER_TIMEOUT).await,
            Err(_) => Attempt::NotSent("request"),
        }
    }

    /// Bounds the time here: the crate's own time-outs ignore bytes that have already arrived.
    async fn exchange(&self, request: Request, deadline: Instant) -> Attempt<Answer> {
        let is_tls = request.url().scheme() == "https";
        let mut sending = pin!(self.towards(request.url()).execute(request));
        let sent = match timeout_at(deadline, sending.as_mut()).await {
            Ok(sent) => Ok(sent),
            Err(_) => timeout(LAST_LOOK, sending).await,
        };
        match sent {
            Ok(Ok(response)) => {
                Attempt::Answered(receive(response.into(), is_tls, deadline, &self.clock).await)
            }
            Ok(Err(error)) => unanswered(&error),
            Err(_) => Attempt::Unanswered("timeout"),
        }
    }

    /// Loopback never goes through a proxy, because a proxy's loopback is another machine.
    fn towards(&self, url: &Url) -> &reqwest::Client {
        if is_loopback(url) { &self.loopback } else { &self.outward }
    }
}

impl fmt::Debug for Client {
    /// Shows nothing: a proxy of the environment may have a password in its URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The settings of both clients. HTTP/1.1 alone: an HTTP/2 server may refuse a stream, and the
/// client would then repeat the request.
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("threadkey/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .referer(false)
        .http1_only()
        // A provider's odd header line must not cost the tokens that follow it.
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
}

/// The result of a request without a whole answer.
fn unanswered(error: &reqwest::Error) -> Attempt<Answer> {
    if error.is_connect() {
        return Attempt::NotSent(connect_step(error));
    }
    if error.is_builder() {
        return Attempt::NotSent("request");
    }
    Attempt::Unanswered(if error.is_timeout() { "timeout" } else { "reset" })
}

/// The step at which connecting failed; `connect` if the error does not name it. How the libraries
/// nest their errors decides only this word, never whether the request counts as sent.
fn connect_step(error: &reqwest::Error) -> &'static str {
    let mut next = error.source();
    while let Some(error) = next {
        if error.to_string().starts_with("dns error") {
            return "dns";
        }
        // A failed TLS handshake is an I/O error inside another one; TCP's own errors are bare.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if wrapped.is_some_and(|inner| inner.is::<io::Error>()) {
            return "tls";
        }
        next = error.source();
    }
    "connect"
}

#[cfg(test)]
pub(super) mod tests;
