//! Scripted replies of the token endpoint, and their form on the wire.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

/// How the token endpoint treats one request.
///
/// Replies that process the request are documented as such. All others leave the grants unchanged.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The same as without a script.
    Normal,
    /// A bare status.
    Status(u16),
    /// A bare status with `Retry-After` in seconds. See [`Reply::retry_after`].
    StatusRetryAfter(u16, u64),
    /// 503 with a page of HTML, as a load balancer sends it.
    Html503,
    /// A status and JSON.
    Json(u16, Value),
    /// A status, headers and body, sent unchanged.
    Raw {
        /// The HTTP status.
        status: u16,
        /// The headers, in this order.
        headers: Vec<(String, String)>,
        /// The body, sent whole.
        body: Vec<u8>,
    },
    /// Reads the request, and closes the connection without a byte in answer.
    Drop,
    /// Waits for [`release`](super::AuthServer::release), counted as held, and then does as `Drop`.
    Hang,
    /// Processes the request, and breaks off in the middle of the answer's body.
    HalfBody,
    /// Processes the request, and answers a bare status.
    RotateThenStatus(u16),
    /// Processes the request, and closes the connection without a byte in answer.
    RotateThenDrop,
    /// Processes the request, and changes the JSON of the answer.
    Edit(fn(&mut Value)),
}

impl Reply {
    /// Adds `Retry-After` to a bare [`Reply::Status`].
    pub fn retry_after(self, seconds: u64) -> Self {
        match self {
            Self::Status(status) | Self::StatusRetryAfter(status, _) => {
                Self::StatusRetryAfter(status, seconds)
            }
            other => panic!("only a bare status takes a Retry-After, not {other:?}"),
        }
    }

    /// Whether the request is processed before this reply is given.
    pub(super) fn processes(&self) -> bool {
        matches!(
            self,
            Self::Normal | Self::HalfBody | Self::RotateThenStatus(_) | Self::RotateThenDrop | Self::Edit(_)
        )
    }
}

/// The token endpoint's decision: status and JSON.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: Value,
}

/// The reaction on the wire.
pub(super) enum Wire {
    Answer(Response),
    HangUp,
}

/// Turns a reply that does not process the request into the reaction on the wire.
pub(super) fn scripted(reply: Reply) -> Wire {
    let (status, headers, body) = match reply {
        Reply::Status(status) => (status, vec![], vec![]),
        Reply::StatusRetryAfter(status, seconds) => {
            (status, vec![("retry-after".into(), seconds.to_string())], vec![])
        }
        Reply::Html503 => (
            503,
            vec![("content-type".into(), "text/html".into())],
            b"<html><body><h1>503 Service Unavailable</h1></body></html>".to_vec(),
        ),
        Reply::Json(status, value) => {
            return Wire::Answer(json(Decided { status, body: value }));
        }
        Reply::Raw { status, headers, body } => (status, headers, body),
        _ => return Wire::HangUp,
    };
    let mut response = (status_code(status), body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().extend(header_map(&headers));
    Wire::Answer(response)
}

/// Turns the decision into the reaction on the wire that `reply` asks for.
pub(super) fn processed(reply: Reply, mut decided: Decided) -> Wire {
    match reply {
        Reply::RotateThenStatus(status) => scripted(Reply::Status(status)),
        Reply::RotateThenDrop => Wire::HangUp,
        Reply::HalfBody => Wire::Answer(half(decided)),
        Reply::Edit(change) => {
            change(&mut decided.body);
            Wire::Answer(json(decided))
        }
        _ => Wire::Answer(json(decided)),
    }
}

/// RFC 6749 §5.1: token answers are never cached.
pub(super) fn json(decided: Decided) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
    ];
    let status = status_code(decided.status);
    (status, headers, decided.body.to_string()).into_response()
}

fn half(decided: Decided) -> Response {
    let text = decided.body.to_string();
    let length = text.len();
    let first = Bytes::copy_from_slice(&text.as_bytes()[..length / 2]);
    let broken = stream::once(async { Ok(first) }).chain(stream::once(async {
        // A breath, in which the first half goes out.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("scripted to break off"))
    }));
    let mut response = json(Decided { body: Value::Null, ..decided });
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    *response.body_mut() = Body::from_stream(broken);
    response
}

/// Closes the connection that the calling handler serves, without an answer.
///
/// axum handlers cannot fail; unwinding ends the connection's own task and nothing else.
/// `resume_unwind` does not run the panic hook, so nothing is printed.
pub(super) fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("scripted to hang up"))
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or_else(|error| panic!("{status}: {error}"))
}

fn header_map(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value);
        map.append(
            name.expect("a test's header names are valid"),
            value.expect("a test's header values are valid"),
        );
    }
    map
}
