//! How an answer is received: whatever arrives after the status line is kept.
//!
//! A body ends with its frame, with the connection, or with its JSON object, whichever comes first.
//! A frame can be wrong: a length that is too long makes the client wait for bytes that never come,
//! while the tokens have arrived. So the reader looks every two seconds whether the body holds a
//! whole object. Bytes after that have no effect ([`super::content`]).

use std::time::Duration;

use http::{
    Response,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER, TRANSFER_ENCODING},
};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::content::has_whole_object;
use crate::{
    session::journal::{Answer, MAX_BODY},
    sys::clock::Clock,
};

/// How often the reader looks for a whole object.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long bytes that have arrived are still read after the time has expired. A process that was
/// suspended finds the time expired before it sees the answer.
pub(super) const LAST_LOOK: Duration = Duration::from_secs(5);

/// Receives the answer, at most until [`LAST_LOOK`] after `deadline`, and at most [`MAX_BODY`]
/// bytes of its body. [`Answer::cut`] is false only if the body is known to be whole.
pub(super) async fn receive(
    mut response: Response<impl Body<Data = Bytes> + Unpin>,
    is_tls: bool,
    deadline: Instant,
    clock: &Clock,
) -> Answer {
    let header = |name: HeaderName| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let mut answer = Answer {
        status: response.status().as_u16(),
        retry_after: header(RETRY_AFTER),
        content_type: header(CONTENT_TYPE),
        content_encoding: header(CONTENT_ENCODING),
        // Room for the longest body at once: a vector that grows leaves copies of tokens in
        // memory.
        body: Zeroizing::new(Vec::with_capacity(MAX_BODY)),
        ..Answer::default()
    };
    let end_is_certain = is_tls || has_frame(&response);
    let mut end = deadline;
    let mut look_at = Instant::now() + LOOK_INTERVAL;
    answer.cut = loop {
        let now = match timeout_at(look_at.min(end), response.frame()).await {
            Ok(Some(Ok(frame))) => {
                // Trailers have no data.
                let chunk = frame.into_data().unwrap_or_default();
                let room = MAX_BODY - answer.body.len();
                answer.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    break true;
                }
                continue;
            }
            // Without TLS's own end of the connection, reading fails.
            Ok(None) => break !end_is_certain,
            Ok(Some(Err(_))) => break true,
            Err(_) if has_whole_object(&answer.body) => break true,
            Err(_) => Instant::now(),
        };
        if now < end {
            look_at = now + LOOK_INTERVAL;
        } else if end == deadline {
            end = now + LAST_LOOK;
            look_at = end;
        } else {
            break true;
        }
    };
    answer.at = clock.now();
    answer
}

/// Whether the body has a length or a last chunk (RFC 9112 §6.3). Otherwise it ends with the
/// connection, and only TLS distinguishes that from a lost connection.
fn has_frame(response: &Response<impl Body>) -> bool {
    let codings = response.headers().get_all(TRANSFER_ENCODING);
    let last = codings.iter().next_back().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_chunked = last.trim_ascii_end().to_ascii_lowercase().ends_with("chunked");
    is_chunked || response.body().size_hint().exact().is_some()
}

#[cfg(test)]
mod tests;
