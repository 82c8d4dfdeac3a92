//! The end of a forwarded request whose worker loses the right to its token.
//!
//! The right is checked when a request begins. Its answer may last for hours, so it is checked again
//! while the request lasts: after each change of the store, and every [`CHECK_EVERY`]. Discord is asked
//! only for facts that are too old ([`crate::broker::OwnerRights`]). While the store cannot be read,
//! the last check counts.
//!
//! No end is missed. A request is registered with the sign-in that its token comes from, and checked once
//! after that. A session that is gone or replaced by then is an error, and one that goes later is a change
//! of the store.
//!
//! The worker meets a broken stream, and not the end of a whole answer. The connection to the upstream
//! is closed with it. The end of the worker itself cuts all of its connections (`inject::port`).

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::client::Answer;
use crate::{
    agent::Served,
    broker::{GrantInUse, TokenError, WorkerTokenError, WorkerTokens},
};

/// How often the rights behind open requests are checked without a change of the store.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// The grants that the requests of one port use at the moment.
pub(super) struct GrantsInUse {
    tokens: WorkerTokens,
    serves: Served,
    /// One entry for each grant, which lives as long as a request that uses it.
    in_use: Mutex<Vec<(GrantInUse, Weak<CancellationToken>)>>,
    begun: Notify,
}

/// The right of one request to its token.
#[derive(Clone)]
pub(super) struct RightInUse {
    /// Fires when the right has ended.
    ended: Arc<CancellationToken>,
}

/// An answer that ends early with the right to its token.
pub(super) struct RightfulBody {
    body: Answer,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The error that ends the answer next.
    broken: Option<AnswerError>,
    /// Keeps the grant among those that are checked.
    _right: RightInUse,
}

/// The reason why an answer ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("the worker has lost the right to the token of this request")]
    RightEnded,
    #[error(transparent)]
    Upstream(#[from] hyper::Error),
}

// === impl GrantsInUse ===

impl GrantsInUse {
    pub(super) fn new(tokens: WorkerTokens, serves: Served) -> Self {
        Self { tokens, serves, in_use: Mutex::default(), begun: Notify::new() }
    }

    /// Registers a request, until its right is dropped.
    pub(super) fn begin(&self, grant: GrantInUse) -> RightInUse {
        let mut in_use = self.lock();
        in_use.retain(|(_, ended)| ended.strong_count() > 0);
        let same = in_use.iter().find(|(other, _)| *other == grant).and_then(|(_, ended)| ended.upgrade());
        if let Some(ended) = same.filter(|ended| !ended.is_cancelled()) {
            return RightInUse { ended };
        }
        let ended = Arc::new(CancellationToken::new());
        in_use.push((grant, Arc::downgrade(&ended)));
        self.begun.notify_one();
        RightInUse { ended }
    }

    /// Ends the requests whose rights end. Runs until it is dropped.
    pub(super) async fn watch(&self) {
        let mut changes = self.tokens.changes();
        loop {
            let pause = async {
                if self.live().is_empty() {
                    self.begun.notified().await;
                }
                self.tokens.clock().sleep(CHECK_EVERY).await;
            };
            tokio::select! {
                () = changes.next() => {}
                () = pause => {}
            }
            for (grant, ended) in self.live() {
                if self.is_lost(&grant).await {
                    ended.cancel();
                }
            }
        }
    }

    /// Returns the reason why a right has ended.
    pub(super) async fn reason(&self, grant: &GrantInUse) -> WorkerTokenError {
        match self.tokens.check_grant(&self.serves, grant).await {
            Err(error) => error,
            // It was given back in this moment.
            Ok(()) => WorkerTokenError::NotEntitled,
        }
    }

    async fn is_lost(&self, grant: &GrantInUse) -> bool {
        match self.tokens.check_grant(&self.serves, grant).await {
            Ok(()) => false,
            Err(WorkerTokenError::Token(TokenError::Store(error))) => {
                tracing::debug!(%error, "the store cannot be read for the rights of open requests");
                false
            }
            Err(error) => {
                tracing::info!(reason = %error, "the open requests of an agent by the injecting proxy are ended");
                true
            }
        }
    }

    fn live(&self) -> Vec<(GrantInUse, Arc<CancellationToken>)> {
        let upgrade = |(grant, ended): &(GrantInUse, Weak<CancellationToken>)| {
            let ended = ended.upgrade().filter(|ended| !ended.is_cancelled())?;
            Some((grant.clone(), ended))
        };
        self.lock().iter().filter_map(upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(GrantInUse, Weak<CancellationToken>)>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl RightInUse ===

impl RightInUse {
    /// Waits for the end of the right.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Returns an answer that ends with the right.
    pub(super) fn bound(self, body: Answer) -> RightfulBody {
        let ended = Box::pin(CancellationToken::clone(&self.ended).cancelled_owned());
        RightfulBody { body, ended, broken: None, _right: self }
    }
}

// === impl RightfulBody ===

impl HttpBody for RightfulBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(AnswerError::RightEnded)));
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Err(error))) => {
                // The server drops all that it has not yet written, the head included. It writes now.
                self.broken = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled.map_err(AnswerError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
