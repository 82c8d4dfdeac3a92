//! Sending a request to a provider: one connection, one attempt, everything bounded.
//!
//! Invariant: [`Attempt::NotSent`] is said only of a request of which not one byte can have left. Whatever is not provably so is
//! [`Attempt::Unanswered`], for a refresh token may have been spent.

use std::{error::Error, fmt, io, pin::pin, time::Duration};

#[cfg(feature = "test-util")]
use futures_util::future::BoxFuture;
use reqwest::{
    Request, RequestBuilder, Response,
    header::{ACCEPT, RETRY_AFTER},
};
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use super::{Provider, ProviderError, TokenRequest, grant, settings::is_loopback};
use crate::{
    secret::AccessToken,
    session::journal::{Answer, MAX_BODY},
    sys::clock::{Clock, UnixTime},
};

/// How long name lookup, TCP and TLS may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long all may take: connecting, then 180 s for the answer, for hanging up on a refresh throws a token away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5 + 180);

/// The same for the userinfo endpoint, where nothing is lost by giving up.
const USERINFO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what has come is still read when the time is over: a process that was stopped meanwhile finds the time over
/// before it has looked whether the answer is there.
const LAST_LOOK: Duration = Duration::from_secs(5);

/// What became of a request.
#[derive(Debug)]
pub enum Attempt {
    /// An answer came, whole. A redirect is an answer: it is not followed.
    Answer(Answer),
    /// It never left: DNS, connect or TLS failed. The word is a stable code: `dns`, `connect`, `tls`; `request` for one that
    /// HTTP cannot express.
    NotSent(&'static str),
    /// It left, and no whole answer came: `timeout`, `reset`, `too_large`.
    Unknown(&'static str),
}

impl Attempt {
    /// How long ago the answer came.
    pub fn age(&self, now: UnixTime) -> Duration {
        match self {
            Self::Answer(answer) => answer.age(now),
            Self::NotSent(_) | Self::Unknown(_) => Duration::ZERO,
        }
    }
}

/// The HTTP client for providers: connects within 5 s, reads for up to 180 s, follows no redirect, repeats nothing,
/// reuses no idle connection, reads at most [`MAX_BODY`] bytes. Proxies are those of the environment; loopback goes direct.
#[derive(Clone)]
pub struct Client {
    outward: reqwest::Client,
    loopback: reqwest::Client,
    clock: Clock,
    #[cfg(feature = "test-util")]
    provider: Option<ScriptedProvider>,
}

/// What a test has in the place of all providers: takes a request's body, and says what becomes of it.
#[cfg(feature = "test-util")]
pub type ScriptedProvider = std::sync::Arc<dyn Fn(&[u8]) -> BoxFuture<'static, Attempt> + Send + Sync>;

impl Client {
    /// Builds it. `clock` dates the answers.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(clock: Clock) -> Result<Self, ProviderError> {
        // What went wrong is in the source; the error itself says only that it was the builder.
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

    /// The same client, but [`Client::send`] asks `provider` and touches no network.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn answered_by(&self, provider: ScriptedProvider) -> Self {
        Self { provider: Some(provider), ..self.clone() }
    }

    /// Sends once. Dropping the future hangs up; what had been sent stays sent.
    pub async fn send(&self, request: TokenRequest) -> Attempt {
        #[cfg(feature = "test-util")]
        if let Some(provider) = &self.provider {
            return provider(request.0.body()).await;
        }
        match Request::try_from(request.0) {
            Ok(request) => self.execute(request).await,
            Err(_) => Attempt::NotSent("request"),
        }
    }

    /// Asks the userinfo endpoint whose login an access token is: `email`, `preferred_username`, `name` or `sub`, the
    /// first that there is. `None` when there is no such endpoint or it does not tell within 10 s.
    pub async fn account(&self, provider: &Provider, token: &AccessToken) -> Option<String> {
        let endpoint = provider.userinfo_endpoint.as_ref()?;
        let request = RequestBuilder::from_parts(
            self.towards(endpoint).clone(),
            Request::new(reqwest::Method::GET, endpoint.clone()),
        )
        .bearer_auth(token.expose())
        .header(ACCEPT, "application/json")
        .build()
        .ok()?;
        match timeout(USERINFO_TIMEOUT, self.exchange(request)).await.ok()? {
            Attempt::Answered(answer) if (200..300).contains(&answer.status) => grant::account(&answer.body),
            _ => None,
        }
    }

    /// The time is measured here: the crate's own time-outs do not look at what has come.
    async fn execute(&self, request: Request) -> Attempt {
        let mut sending = pin!(self.exchange(request));
        match timeout(ANSWER_TIMEOUT, sending.as_mut()).await {
            Ok(sent) => sent,
            Err(_) => timeout(LAST_LOOK, sending).await.unwrap_or(Attempt::Unanswered("timeout")),
        }
    }

    async fn exchange(&self, request: Request) -> Attempt {
        match self.towards(request.url()).execute(request).await {
            Ok(response) => self.read(response).await,
            Err(error) => unanswered(&error),
        }
    }

    async fn read(&self, mut response: Response) -> Attempt {
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if response.content_length().is_some_and(|length| length > MAX_BODY as u64) {
            return Attempt::Unanswered("too_large");
        }
        // Room for the longest body at once: a vector that grows leaves copies of tokens behind.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if chunk.len() > MAX_BODY - body.len() => {
                    return Attempt::Unanswered("too_large");
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return unanswered(&error),
            }
        }
        Attempt::Answered(Answer { status, retry_after, body, at: self.clock.now() })
    }

    /// Loopback never goes through a proxy: the proxy's loopback is another one.
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

/// What both clients have in common. HTTP/1.1 alone, since HTTP/2 servers may bounce a request that the client then repeats.
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("threadkey/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .referer(false)
        .http1_only()
}

/// A request without a whole answer.
fn unanswered(error: &reqwest::Error) -> Attempt {
    if error.is_connect() {
        return Attempt::NotSent(connect_step(error));
    }
    if error.is_builder() {
        return Attempt::NotSent("request");
    }
    Attempt::Unanswered(if error.is_timeout() { "timeout" } else { "reset" })
}

/// At which step connecting failed; `connect` when that cannot be told. Only the word depends on how the libraries nest their
/// errors, never whether the request counts as sent.
fn connect_step(error: &reqwest::Error) -> &'static str {
    let mut next = error.source();
    while let Some(error) = next {
        if error.to_string().starts_with("dns error") {
            return "dns";
        }
        // A failed TLS handshake is an I/O error wrapped into another one; TCP's own are bare.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if wrapped.is_some_and(|inner| inner.is::<io::Error>()) {
            return "tls";
        }
        next = error.source();
    }
    "connect"
}

#[cfg(test)]
mod tests;
