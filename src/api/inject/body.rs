//! A request's body that can be sent twice.
//!
//! The body streams to the upstream as it arrives. Meanwhile its bytes are kept, up to [`MAX_KEPT`] and
//! the worker's budget. They are copied: a part of one byte pins a whole buffer of its connection. The
//! budget gets a byte back once no attempt keeps it. If the upstream rejects the token, a second attempt sends the
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

use super::{
    headers::{self, OwnHeaders},
    presented::Secrets,
};

/// The longest body that is kept, in bytes.
pub(super) const MAX_KEPT: usize = 8 << 20;
/// How much the kept bodies of one worker may have together, in bytes.
const BUDGET: usize = 4 * MAX_KEPT;
/// How long a kept part grows, in bytes. A longer part stands alone.
const PART: usize = 64 << 10;

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
    /// The number of the current attempt.
    attempt: u8,
    /// Whether the caller's body ended with an error.
    is_broken: bool,
    /// The headers of the route, which no trailer may be.
    own: OwnHeaders,
    /// The worker's secrets, which no trailer may have.
    secrets: Secrets,
    /// Whether a trailer has one.
    has_secret: bool,
    /// The task that waits for the next part.
    waiting: Option<Waker>,
}

/// The bytes that are kept, which the budget is charged for.
struct Kept {
    parts: VecDeque<Vec<u8>>,
    bytes: usize,
    trailers: Option<axum::http::HeaderMap>,
    budget: Budget,
}

impl Kept {
    fn new(budget: Budget) -> Self {
        Self { parts: VecDeque::new(), bytes: 0, trailers: None, budget }
    }

    /// Copies a part. Returns false if there is no room for it.
    fn add(&mut self, part: &[u8]) -> bool {
        if self.bytes + part.len() > MAX_KEPT || !self.budget.take(part.len()) {
            return false;
        }
        self.bytes += part.len();
        match self.parts.back_mut() {
            Some(last) if last.len() + part.len() <= PART => last.extend_from_slice(part),
            _ if part.is_empty() => {}
            _ => self.parts.push_back(part.to_vec()),
        }
        true
    }

    /// Takes the first part, whose bytes the budget gets back.
    fn pop(&mut self) -> Option<Bytes> {
        let part = self.parts.pop_front()?;
        self.bytes -= part.len();
        self.budget.give_back(part.len());
        Some(part.into())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// The body of one attempt to send a request.
pub(super) struct Attempt {
    source: Arc<Mutex<Source>>,
    number: u8,
    /// The parts that an earlier attempt has sent, and which this one sends first.
    again: Option<Kept>,
}

/// The reason why an attempt's body ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("another attempt sends the body")]
    Replaced,
    #[error("the caller's body ended early: {0}")]
    Caller(axum::Error),
    #[error("a trailer has a secret of the worker")]
    Secret,
}

impl RequestBody {
    pub(super) fn new(body: Body, budget: Budget, own: OwnHeaders, secrets: Secrets) -> Self {
        let source = Source {
            body,
            kept: Some(Kept::new(budget)),
            attempt: 0,
            is_broken: false,
            own,
            secrets,
            has_secret: false,
            waiting: None,
        };
        Self(Arc::new(Mutex::new(source)))
    }

    /// Returns the body of the first attempt.
    pub(super) fn first(&self) -> Attempt {
        Attempt { source: self.0.clone(), number: 0, again: None }
    }

    /// Returns the body of another attempt, and ends the one before. `None` if a part of the body is no
    /// longer known. An empty body can be sent again any number of times, and any other one once.
    pub(super) fn again(&self) -> Option<Attempt> {
        let mut source = lock(&self.0);
        if source.is_broken {
            return None;
        }
        let again = source.kept.take()?;
        if again.bytes == 0 && again.trailers.is_none() && source.body.is_end_stream() {
            source.kept = Some(Kept::new(again.budget.clone()));
        }
        source.attempt += 1;
        // The attempt before learns that it is replaced.
        if let Some(before) = source.waiting.take() {
            before.wake();
        }
        Some(Attempt { source: self.0.clone(), number: source.attempt, again: Some(again) })
    }

    /// Keeps no part any longer.
    pub(super) fn forget(&self) {
        lock(&self.0).kept = None;
    }

    /// Whether the caller's body ended with an error.
    pub(super) fn is_broken(&self) -> bool {
        lock(&self.0).is_broken
    }

    /// Whether a trailer has a secret of the worker.
    pub(super) fn has_secret(&self) -> bool {
        lock(&self.0).has_secret
    }
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Some(again) = &mut this.again {
            if let Some(part) = again.pop() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
            if let Some(trailers) = again.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        }
        let polled = Pin::new(&mut source.body).poll_frame(cx);
        source.waiting = polled.is_pending().then(|| cx.waker().clone());
        match ready!(polled) {
            None => Poll::Ready(None),
            Some(Err(error)) => {
                source.is_broken = true;
                Poll::Ready(Some(Err(BodyError::Caller(error))))
            }
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::prepare_trailers(trailers, &source.own);
                    if source.secrets.are_in_headers(trailers) {
                        (source.is_broken, source.has_secret) = (true, true);
                        return Poll::Ready(Some(Err(BodyError::Secret)));
                    }
                }
                let is_kept = match (frame.data_ref(), frame.trailers_ref(), &mut source.kept) {
                    (Some(part), _, Some(kept)) => kept.add(part),
                    (None, Some(trailers), Some(kept)) => {
                        kept.trailers = Some(trailers.clone());
                        true
                    }
                    _ => true,
                };
                if !is_kept {
                    source.kept = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_sent =
            self.again.as_ref().is_none_or(|again| again.parts.is_empty() && again.trailers.is_none());
        is_sent && lock(&self.source).body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = lock(&self.source).body.size_hint();
        let again = self.again.as_ref().map_or(0, |again| again.bytes) as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + again);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};

    use super::*;

    fn left(budget: &Budget) -> usize {
        budget.0.load(Ordering::Relaxed)
    }

    /// Takes the next frame, which is there.
    fn next(attempt: &mut Attempt) -> Option<Result<Bytes, BodyError>> {
        let polled = Pin::new(attempt).poll_frame(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(frame) = polled else { panic!("a frame has to be there") };
        frame.map(|frame| frame.map(|frame| frame.into_data().expect("data")))
    }

    #[test]
    fn many_tiny_parts_are_kept_as_one_that_pins_no_buffer_of_the_connection() {
        let buffer = Bytes::from(vec![b'x'; 2 * PART]);
        let parts = (0..PART + 1).map(move |at| Ok::<_, Infallible>(buffer.slice(at..at + 1)));
        let budget = Budget::new();
        let body = RequestBody::new(
            Body::from_stream(stream::iter(parts)),
            budget.clone(),
            OwnHeaders::none(),
            Secrets::new([]),
        );
        let mut first = body.first();
        while next(&mut first).is_some() {}
        assert_eq!(left(&budget), BUDGET - PART - 1);
        let source = lock(&body.0);
        let lengths: Vec<_> = source.kept.as_ref().expect("all is kept").parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [PART, 1]);
    }

    #[test]
    fn the_budget_gets_the_bytes_back_only_as_the_second_attempt_sends_them() {
        let parts = [vec![b'x'; PART], vec![b'y'; PART]].map(Ok::<_, Infallible>);
        let budget = Budget::new();
        let body = stream::iter(parts).chain(stream::pending());
        let body =
            RequestBody::new(Body::from_stream(body), budget.clone(), OwnHeaders::none(), Secrets::new([]));
        let mut first = body.first();
        assert!(next(&mut first).is_some() && next(&mut first).is_some());
        let mut second = body.again().expect("all is kept");
        assert!(matches!(next(&mut first), Some(Err(BodyError::Replaced))));
        body.forget();
        assert_eq!(left(&budget), BUDGET - 2 * PART, "it waits for the next token");
        assert!(next(&mut second).is_some());
        assert_eq!(left(&budget), BUDGET - PART);
        drop(second);
        assert_eq!(left(&budget), BUDGET);
    }
}
