//! A request's body that can be sent twice.
//!
//! The body streams to the upstream as it arrives. Meanwhile its parts are kept, without a copy, up to
//! [`MAX_KEPT`] and the worker's budget. If the upstream rejects the token, a second attempt sends the
//! kept parts and then the rest. An attempt that is replaced ends with an error, so that no part goes
//! to a connection that is given up.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

/// The longest body that is kept, in bytes.
pub(super) const MAX_KEPT: usize = 8 << 20;
/// How much the kept bodies of one worker may have together, in bytes.
const BUDGET: usize = 4 * MAX_KEPT;

/// The memory for the kept bodies of one worker.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(BUDGET)))
    }

    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The body of one request, for its attempts.
pub(super) struct RequestBody(Arc<Mutex<Source>>);

struct Source {
    body: Body,
    /// The parts that have arrived, or `None` if they are not all kept.
    kept: Option<Kept>,
    budget: Budget,
    /// The number of the current attempt.
    attempt: u8,
    /// Whether the caller's body ended with an error.
    is_broken: bool,
    /// The task that waits for the next part.
    waiting: Option<Waker>,
}

#[derive(Default)]
struct Kept {
    parts: VecDeque<Bytes>,
    bytes: usize,
    trailers: Option<axum::http::HeaderMap>,
}

/// The body of one attempt to send a request.
pub(super) struct Attempt {
    source: Arc<Mutex<Source>>,
    number: u8,
    /// The parts that an earlier attempt has sent, and which this one sends first.
    again: Kept,
}

/// The reason why an attempt's body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("another attempt sends the body")]
    Replaced,
    #[error("the caller's body ended early: {0}")]
    Caller(axum::Error),
}

impl RequestBody {
    pub(super) fn new(body: Body, budget: Budget) -> Self {
        let source =
            Source { body, kept: Some(Kept::default()), budget, attempt: 0, is_broken: false, waiting: None };
        Self(Arc::new(Mutex::new(source)))
    }

    /// Returns the body of the first attempt.
    pub(super) fn first(&self) -> Attempt {
        Attempt { source: self.0.clone(), number: 0, again: Kept::default() }
    }

    /// Returns the body of a second attempt, and ends the first one. `None` if a part of the body is
    /// no longer known.
    pub(super) fn second(&self) -> Option<Attempt> {
        let mut source = lock(&self.0);
        if source.is_broken {
            return None;
        }
        let again = source.kept.take()?;
        source.budget.give_back(again.bytes);
        source.attempt += 1;
        // The first attempt learns that it is replaced.
        if let Some(first) = source.waiting.take() {
            first.wake();
        }
        Some(Attempt { source: self.0.clone(), number: source.attempt, again })
    }

    /// Keeps no part any longer.
    pub(super) fn forget(&self) {
        lock(&self.0).forget();
    }

    /// Whether the caller's body ended with an error.
    pub(super) fn is_broken(&self) -> bool {
        lock(&self.0).is_broken
    }
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    fn forget(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.budget.give_back(kept.bytes);
        }
    }

    fn keep(&mut self, part: &Bytes) {
        let Some(kept) = &mut self.kept else { return };
        if kept.bytes + part.len() <= MAX_KEPT && self.budget.take(part.len()) {
            kept.bytes += part.len();
            kept.parts.push_back(part.clone());
        } else {
            self.forget();
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.forget();
    }
}

impl HttpBody for Attempt {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut source = lock(&this.source);
        if source.attempt != this.number {
            return Poll::Ready(Some(Err(BodyError::Replaced)));
        }
        if let Some(part) = this.again.parts.pop_front() {
            this.again.bytes -= part.len();
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        if let Some(trailers) = this.again.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        let polled = Pin::new(&mut source.body).poll_frame(cx);
        source.waiting = polled.is_pending().then(|| cx.waker().clone());
        match ready!(polled) {
            None => Poll::Ready(None),
            Some(Err(error)) => {
                source.is_broken = true;
                Poll::Ready(Some(Err(BodyError::Caller(error))))
            }
            Some(Ok(frame)) => {
                match (frame.data_ref(), frame.trailers_ref(), &mut source.kept) {
                    (Some(part), _, _) => {
                        let part = part.clone();
                        source.keep(&part);
                    }
                    (None, Some(trailers), Some(kept)) => kept.trailers = Some(trailers.clone()),
                    _ => {}
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_sent = self.again.parts.is_empty() && self.again.trailers.is_none();
        is_sent && lock(&self.source).body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = lock(&self.source).body.size_hint();
        let again = self.again.bytes as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + again);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again);
        }
        hint
    }
}
