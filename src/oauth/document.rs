//! Public documents: metadata of servers, their keys, and the answers to a registration or a probe.
//!
//! The URL of such a document may come from a server. So a request is bounded in every way: 10 s in
//! all, a body of at most [`MAX_DOCUMENT`] bytes, at most three redirects, https alone (http on
//! loopback), and the addresses that its [`Reach`] allows. Each redirect meets the same rules. A POST
//! follows no redirect. A request carries no secret and no cookie, so the client repeats nothing and
//! keeps nothing.

use std::time::Duration;

use http::{
    Request, Response,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION, WWW_AUTHENTICATE},
};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value};
use tokio::time::timeout;
use url::Url;

use super::client::{Client, http1_connection, prepared};
use crate::net::{Reach, Trust, Unreachable, is_loopback, while_driven};

/// The largest body of a document, in bytes.
pub const MAX_DOCUMENT: usize = 1024 * 1024;

/// The longest time for a document, with all redirects.
pub const DOCUMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// The highest number of redirects that a GET follows.
const MAX_REDIRECTS: usize = 3;

/// A request for a document.
#[derive(Clone, Debug)]
pub struct DocumentRequest {
    /// The address of the document.
    pub url: Url,
    /// The authorities whose certificates the server may use.
    pub trust: Trust,
    /// The addresses that the request and its redirects may reach.
    pub reach: Reach,
    /// The JSON body of a POST. Without it the request is a GET.
    pub body: Option<Vec<u8>>,
    /// The value of the Accept header.
    pub accept: &'static str,
}

/// A document.
#[derive(Clone, Debug)]
pub struct Document {
    /// The status, any but those of a redirect.
    pub status: u16,
    /// The body, of any type.
    pub body: Vec<u8>,
    /// The values of all WWW-Authenticate headers, in order.
    pub www_authenticate: Vec<String>,
    /// The address of the document after the redirects.
    pub url: Url,
    /// The time for which the server lets it be kept (RFC 9111 §5.2.2). Zero if it must not be kept.
    pub max_age: Option<Duration>,
}

/// The reason why a document was not fetched. Each text names the host, the cause, and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The URL is refused before anything is sent.
    #[error("{url} is not fetched: {problem}")]
    Refused {
        /// Scheme, host and path.
        url: String,
        /// The rest of the sentence, with the next step.
        problem: &'static str,
    },
    /// The connection could not be made.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The time is over.
    #[error(
        "{host} did not send the document within 10 s. Try again later; if it stays slow, ask its operator"
    )]
    TooSlow {
        /// Host and port.
        host: String,
    },
    /// The body is longer than [`MAX_DOCUMENT`].
    #[error(
        "{host} sends a document of more than 1 MiB, which was cut off. Check the URL in the configuration, or ask the operator of {host}"
    )]
    TooLarge {
        /// Host and port.
        host: String,
    },
    /// The connection ended before the answer was whole, or the answer is not HTTP.
    #[error("{host} broke off its answer ({problem}). Try again later; if it stays, ask its operator")]
    Broken {
        /// Host and port.
        host: String,
        /// The error of the connection.
        problem: String,
    },
    /// The server redirects against the rules.
    #[error("{host} redirects {problem}. Check the URL in the configuration, or ask the operator of {host}")]
    Redirect {
        /// Host and port.
        host: String,
        /// The rest of the sentence.
        problem: &'static str,
    },
    /// The answer is not a JSON object.
    #[error(
        "{url} is no JSON object ({problem}). Check the URL in the configuration, or ask the operator of the server"
    )]
    NotJson {
        /// Scheme, host and path.
        url: String,
        /// The fault.
        problem: String,
    },
    /// The status is none of success.
    #[error("{url} answers {status}. Check the URL in the configuration, or ask the operator of the server")]
    Status {
        /// Scheme, host and path.
        url: String,
        /// The status.
        status: u16,
    },
}

/// One answer to one request.
enum Step {
    Done(Document),
    Redirected(Url),
}

// === impl DocumentRequest ===

impl DocumentRequest {
    /// Asks for a JSON document by GET.
    pub fn get(url: Url, trust: Trust, reach: Reach) -> Self {
        Self { url, trust, reach, body: None, accept: "application/json" }
    }

    /// Sends a JSON body by POST.
    pub fn post(url: Url, trust: Trust, reach: Reach, body: Vec<u8>) -> Self {
        Self { body: Some(body), ..Self::get(url, trust, reach) }
    }
}

// === impl Document ===

impl Document {
    /// Whether the status is one of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the members of the JSON object, whatever the content type. Nesting is limited to 128
    /// levels. If a name occurs twice, the last value counts.
    ///
    /// # Errors
    /// [`DocumentError::NotJson`].
    pub fn json(&self) -> Result<Map<String, Value>, DocumentError> {
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body);
        serde_json::from_slice(body).map_err(|error| {
            let line = format!("line {}, column {}", error.line(), error.column());
            let problem = if error.is_data() {
                "another JSON value".to_owned()
            } else if error.is_eof() {
                "it ends too early".to_owned()
            } else {
                line
            };
            DocumentError::NotJson { url: shown(&self.url), problem }
        })
    }

    /// Returns the members of the JSON object of a successful answer.
    ///
    /// # Errors
    /// [`DocumentError::Status`] and [`DocumentError::NotJson`].
    pub fn successful_json(&self) -> Result<Map<String, Value>, DocumentError> {
        if !self.is_success() {
            return Err(DocumentError::Status { url: shown(&self.url), status: self.status });
        }
        self.json()
    }
}

// === impl Client ===

impl Client {
    /// Fetches a document, once, within 10 s.
    ///
    /// # Errors
    /// See [`DocumentError`].
    pub async fn document(&self, request: DocumentRequest) -> Result<Document, DocumentError> {
        let host = authority(&request.url);
        match timeout(DOCUMENT_TIMEOUT, self.followed(request)).await {
            Ok(result) => result,
            Err(_) => Err(DocumentError::TooSlow { host }),
        }
    }

    /// Fetches a document and follows redirects.
    async fn followed(&self, request: DocumentRequest) -> Result<Document, DocumentError> {
        let mut seen = vec![request.url.clone()];
        loop {
            let url = &seen[seen.len() - 1];
            let next = match self.document_step(&request, url).await? {
                Step::Done(document) => return Ok(document),
                Step::Redirected(next) => next,
            };
            let wrong = |problem| Err(DocumentError::Redirect { host: authority(url), problem });
            if request.body.is_some() {
                return wrong("a POST, which threadkey does not follow");
            }
            if seen.contains(&next) {
                return wrong("in a loop");
            }
            if seen.len() > MAX_REDIRECTS {
                return wrong("more than three times");
            }
            if url.scheme() == "https" && next.scheme() != "https" {
                return wrong("to a URL that is not https");
            }
            seen.push(next);
        }
    }

    async fn document_step(&self, request: &DocumentRequest, url: &Url) -> Result<Step, DocumentError> {
        check(url)?;
        let refused = |problem| DocumentError::Refused { url: shown(url), problem };
        let builder = match &request.body {
            None => Request::get(url.as_str()),
            Some(body) => Request::post(url.as_str())
                .header(CONTENT_TYPE, "application/json")
                .header(CONTENT_LENGTH, body.len()),
        };
        let built = builder.header(ACCEPT, request.accept).body(request.body.clone().unwrap_or_default());
        let prepared = built.ok().and_then(prepared);
        let (_, _, built) = prepared.ok_or_else(|| refused("it cannot be the target of a request"))?;
        let stream = self.outward().open_within(url, &request.trust, &request.reach).await?;
        let broken =
            |error: hyper::Error| DocumentError::Broken { host: authority(url), problem: error.to_string() };
        let (mut sender, connection) =
            http1_connection().handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let exchange = async move {
            let response = sender.send_request(built).await.map_err(broken)?;
            received(url, response).await
        };
        while_driven(exchange, connection).await
    }
}

/// Receives an answer, or the target of its redirect.
async fn received(url: &Url, mut response: Response<Incoming>) -> Result<Step, DocumentError> {
    let text = |name: HeaderName| response.headers().get(name)?.to_str().ok();
    if matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        let location = text(LOCATION).and_then(|location| url.join(location).ok());
        let mut next =
            location.ok_or_else(|| DocumentError::Redirect { host: authority(url), problem: "to no URL" })?;
        next.set_fragment(None);
        return Ok(Step::Redirected(next));
    }
    let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
    let mut document = Document {
        status: response.status().as_u16(),
        body: Vec::new(),
        www_authenticate: challenges.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect(),
        url: url.clone(),
        max_age: text(CACHE_CONTROL).and_then(max_age),
    };
    while let Some(frame) = response.frame().await {
        let frame = frame
            .map_err(|error| DocumentError::Broken { host: authority(url), problem: error.to_string() })?;
        // Trailers have no data.
        let chunk = frame.into_data().unwrap_or_default();
        if document.body.len() + chunk.len() > MAX_DOCUMENT {
            return Err(DocumentError::TooLarge { host: authority(url) });
        }
        document.body.extend_from_slice(&chunk);
    }
    Ok(Step::Done(document))
}

/// Checks the form of a URL before anything is resolved.
fn check(url: &Url) -> Result<(), DocumentError> {
    let refused = |problem| Err(DocumentError::Refused { url: shown(url), problem });
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(url) => {}
        "http" => {
            return refused(
                "http lets the network change it. Write https (http is allowed only for 127.0.0.1, [::1] and localhost)",
            );
        }
        _ => return refused("it must begin with https://"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("it has a user name or password before the @. Remove them");
    }
    Ok(())
}

/// Reads Cache-Control (RFC 9111 §5.2.2).
fn max_age(header: &str) -> Option<Duration> {
    let header = header.to_ascii_lowercase();
    let mut directives = header.split(',').map(str::trim);
    if directives.clone().any(|directive| matches!(directive, "no-store" | "no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

/// Returns host and port of a URL.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Returns a URL for messages, without user info and query.
fn shown(url: &Url) -> String {
    let path: String = url.path().chars().take(200).collect();
    format!("{}://{}{path}", url.scheme(), authority(url))
}

#[cfg(test)]
mod tests;
