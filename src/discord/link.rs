//! The state of the connection to Discord, and the attempts to make it.
//!
//! A bot without Discord is not useless: workers hold sessions, and the token API serves them. So no
//! failure that can pass ends the process. It tries again with growing pauses for as long as it
//! runs. The log has one line when the connection is lost or cannot be made, and one when it is
//! there, however many attempts lie between. Readers of [`Link::is_up`]'s source, such as the token
//! API's `/readyz`, follow the same state.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::{
    StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use url::Url;

use super::{
    DiscordError, DiscordSettings,
    retry::{Backoff, MAX_CONNECT_PAUSE},
};

/// A connection that is back within this time leaves no line in the log.
const REPORT_AFTER: Duration = Duration::from_secs(5);

/// The state of the connection. Clones share it.
#[derive(Clone)]
pub(super) struct Link(Arc<State>);

struct State {
    is_up: watch::Sender<bool>,
    /// The log has a line about the present outage.
    is_reported: AtomicBool,
    /// The connection was there since the last attempt began.
    was_up: AtomicBool,
}

impl Link {
    /// A connection that is not there yet. `is_up` follows it.
    pub(super) fn new(is_up: watch::Sender<bool>) -> Self {
        is_up.send_replace(false);
        Self(Arc::new(State { is_up, is_reported: AtomicBool::new(false), was_up: AtomicBool::new(false) }))
    }

    /// Records that the connection is there.
    pub(super) fn up(&self) {
        self.0.was_up.store(true, Ordering::Relaxed);
        self.0.is_reported.store(false, Ordering::Relaxed);
        self.0.is_up.send_replace(true);
    }

    /// Records that the connection is not there.
    pub(super) fn down(&self) {
        self.0.is_up.send_replace(false);
    }

    /// Logs an outage, once until the connection is there again.
    fn report(&self, cause: &dyn std::fmt::Display) {
        if !self.0.is_reported.swap(true, Ordering::Relaxed) {
            warn!(
                %cause,
                "Discord cannot be reached: trying again until it can. Sessions are refreshed and the token API is served meanwhile"
            );
        }
    }

    /// Logs each outage that lasts, with the relay's `trouble` if there is one. Runs until dropped.
    pub(super) async fn watch(&self, trouble: watch::Receiver<Option<String>>) {
        let mut is_up = self.0.is_up.subscribe();
        // The sender lives as long as `self`.
        while is_up.wait_for(|is_up| !is_up).await.is_ok() {
            if tokio::time::timeout(REPORT_AFTER, is_up.wait_for(|is_up| *is_up)).await.is_err() {
                let cause = trouble.borrow().clone();
                self.report(&cause.as_deref().unwrap_or("no connection to the gateway"));
                // A short connection in between begins another outage.
                let _ = is_up.changed().await;
            }
        }
    }

    /// Begins the attempts to make the connection, which `stop` ends.
    pub(super) fn attempts<'a>(&'a self, knock: &'a Knock, stop: &'a CancellationToken) -> Attempts<'a> {
        Attempts { link: self, knock, stop, backoff: Backoff::up_to(MAX_CONNECT_PAUSE), pause: None }
    }
}

/// The attempts to make the connection.
pub(super) struct Attempts<'a> {
    link: &'a Link,
    knock: &'a Knock,
    stop: &'a CancellationToken,
    backoff: Backoff,
    /// The pause before the next attempt.
    pause: Option<Duration>,
}

impl Attempts<'_> {
    /// Returns `true` when the next attempt is due: after the pause that follows a failure, and once
    /// Discord answers a knock without asking for a pause. Returns `false` at the stop.
    ///
    /// # Errors
    /// Discord refuses the token.
    pub(super) async fn next(&mut self) -> Result<bool, DiscordError> {
        let stop = self.stop;
        tokio::select! {
            () = stop.cancelled() => Ok(false),
            due = self.due() => due.map(|()| true),
        }
    }

    async fn due(&mut self) -> Result<(), DiscordError> {
        loop {
            if let Some(pause) = self.pause.take() {
                tokio::time::sleep(pause).await;
            }
            match self.knock.knock().await {
                Knocked::Refused => return Err(DiscordError::TokenRefused),
                Knocked::GoOn => break,
                Knocked::Later { status, retry_after } => {
                    let error = self.knock.unreachable(format!("HTTP {}", status.as_u16()));
                    self.count(&error, retry_after);
                }
            }
        }
        self.link.0.was_up.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Records that an attempt failed, or that its connection ended.
    ///
    /// # Errors
    /// The failure, if it is final.
    pub(super) fn failed(&mut self, error: DiscordError) -> Result<(), DiscordError> {
        if error.is_final() {
            return Err(error);
        }
        if self.link.0.was_up.load(Ordering::Relaxed) {
            self.backoff.reset();
        }
        self.count(&error, None);
        Ok(())
    }

    fn count(&mut self, error: &DiscordError, retry_after: Option<Duration>) {
        self.link.down();
        self.link.report(error);
        self.pause = Some(self.backoff.pause(retry_after));
    }
}

/// A request whose answer can be read in full. serenity drops the header `Retry-After`.
pub(super) struct Knock {
    client: reqwest::Client,
    base: Url,
    token: HeaderValue,
}

/// The answer to a [`Knock`].
enum Knocked {
    /// Discord refuses the token.
    Refused,
    /// Discord is there and asks for a pause, or is out of order.
    Later { status: StatusCode, retry_after: Option<Duration> },
    /// Anything else. Without an answer the attempt itself finds the cause.
    GoOn,
}

impl Knock {
    /// # Errors
    /// The token has characters that no header can have.
    pub(super) fn new(settings: &DiscordSettings, client: reqwest::Client) -> Result<Self, DiscordError> {
        let base = settings.base();
        let token = HeaderValue::from_str(&format!("Bot {}", settings.token.expose()));
        let mut token = token.map_err(|_| DiscordError::TokenRefused)?;
        token.set_sensitive(true);
        Ok(Self { client, base, token })
    }

    async fn knock(&self) -> Knocked {
        let url = format!("{}/api/v10/users/@me", self.base.as_str().trim_end_matches('/'));
        let Ok(answer) = self.client.get(url).header(AUTHORIZATION, self.token.clone()).send().await else {
            return Knocked::GoOn;
        };
        match answer.status() {
            StatusCode::UNAUTHORIZED => Knocked::Refused,
            status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                Knocked::Later { status, retry_after: retry_after(answer.headers()) }
            }
            _ => Knocked::GoOn,
        }
    }

    fn unreachable(&self, detail: String) -> DiscordError {
        DiscordError::Unreachable { address: self.base.to_string(), detail }
    }
}

/// Reads `Retry-After` in seconds (RFC 9110 §10.2.3). Discord sends no dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_after_is_whole_or_fractional_seconds() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(text).expect("a value"));
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read(" 0.65 "), Some(Duration::from_millis(650)));
        for odd in ["-1", "NaN", "soon", "1e400", ""] {
            assert_eq!(read(odd), None, "{odd:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_reported_once_and_each_reader_sees_the_state() {
        let (is_up, reader) = watch::channel(true);
        let link = Link::new(is_up);
        assert!(!*reader.borrow());
        let reported = || link.0.is_reported.load(Ordering::Relaxed);
        let watching = link.clone();
        let watching = tokio::spawn(async move { watching.watch(watch::channel(None).1).await });
        tokio::time::sleep(REPORT_AFTER - Duration::from_secs(1)).await;
        assert!(!reported(), "a short one is not worth a line");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(reported());
        link.up();
        assert!(*reader.borrow() && !reported());
        link.down();
        tokio::time::sleep(REPORT_AFTER * 2).await;
        assert!(!*reader.borrow() && reported());
        watching.abort();
    }
}
