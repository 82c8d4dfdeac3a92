//! A token endpoint that answers with scripted bytes, so that a test decides about each byte of the
//! frame.
//!
//! It is strict: a refresh token that it has seen before is answered with `invalid_grant`, whatever
//! its script is, and so is a request without a script.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long [`RawServer::answered`] waits.
const WAIT: Duration = Duration::from_secs(20);

/// A connection of a client, with TLS or without.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Makes a connection of an accepted one, for example by a TLS handshake.
pub type Accept = Arc<dyn Fn(TcpStream) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> + Send + Sync>;

/// The end of an answer, after its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server ends the connection in the right way.
    Close,
    /// The server drops the connection. With TLS its end is missing (`close_notify`).
    Drop,
    /// The server waits until the client hangs up.
    KeepOpen,
    /// The server sends these bytes too, two seconds later by the clock of the runtime, and ends the
    /// connection in the right way.
    Late(&'static str),
}

/// A form of a request.
pub type Form = BTreeMap<String, String>;

/// A request as it came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The method and the target of the first line, such as `POST /token`.
    pub line: String,
    /// The header lines, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    fn read(head: &str, body: &[u8]) -> Self {
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers =
            headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
        Self { line, headers, body: body.to_owned() }
    }

    /// The body as a form.
    pub fn form(&self) -> Form {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

/// The server. It stops when this is dropped.
pub struct RawServer {
    base: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    answered: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    script: VecDeque<(Vec<u8>, Ending)>,
    requests: Vec<Request>,
    seen: BTreeSet<String>,
    second_uses: usize,
}

impl RawServer {
    /// Starts the server on loopback, without TLS.
    pub async fn start() -> Self {
        let plain: Accept =
            Arc::new(|stream| Box::pin(async { Ok(Box::new(stream) as Box<dyn Connection>) }));
        Self::start_with("http://127.0.0.1", plain).await
    }

    /// Starts the server on loopback. `base` is its URL without the port.
    pub async fn start_with(base: &str, accept: Accept) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("{base}:{}", listener.local_addr().expect("it is bound").port());
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(serve(listener, accept, shared.clone()));
        Self { base, shared, task }
    }

    /// RFC 6749 §3.2.
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.base)
    }

    /// Adds the answer to the next request: all its bytes, from the status line on.
    pub fn answer(&self, bytes: impl Into<Vec<u8>>, ending: Ending) {
        self.shared.lock().script.push_back((bytes.into(), ending));
    }

    /// The forms of the requests, oldest first.
    pub fn forms(&self) -> Vec<Form> {
        self.shared.lock().requests.iter().map(Request::form).collect()
    }

    /// The requests, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// How many requests came in.
    pub fn count(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// How many requests presented a refresh token that had been presented before.
    pub fn second_uses(&self) -> usize {
        self.shared.lock().second_uses
    }

    /// Takes refresh tokens again that were presented before, as a provider does that refused them.
    pub fn forget(&self) {
        self.shared.lock().seen.clear();
    }

    /// Waits until the bytes of this many answers are on their way.
    pub async fn answered(&self, count: usize) {
        let mut answered = self.shared.answered.subscribe();
        let wait = answered.wait_for(|answered| *answered >= count);
        let reached = tokio::time::timeout(WAIT, wait).await.is_ok();
        assert!(reached, "waited {WAIT:?} in vain for {count} answers");
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in, and returns its answer.
    fn decide(&self, request: Request) -> (Vec<u8>, Ending) {
        let mut state = self.lock();
        let token = request.form().remove("refresh_token");
        let is_new = token.is_none_or(|token| state.seen.insert(token));
        state.requests.push(request);
        if !is_new {
            state.second_uses += 1;
        }
        let scripted = state.script.pop_front();
        scripted
            .filter(|_| is_new)
            .unwrap_or_else(|| (json(400, r#"{"error":"invalid_grant"}"#), Ending::Close))
    }
}

/// Returns a right answer with this JSON.
pub fn json(status: u16, body: &str) -> Vec<u8> {
    framed(status, "content-type: application/json\r\n", body.as_bytes())
}

/// Returns an answer with these header lines and a right length.
pub fn framed(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    with_headers(status, &format!("{headers}content-length: {}\r\n", body.len()), body)
}

/// Returns an answer with these header lines alone.
pub fn with_headers(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status} Scripted\r\n{headers}\r\n").as_bytes(), body].concat()
}

async fn serve(listener: TcpListener, accept: Accept, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (accept, shared) = (accept.clone(), shared.clone());
        tokio::spawn(async move {
            let mut connection = accept(stream).await?;
            answer(&mut *connection, &shared).await
        });
    }
}

async fn answer(connection: &mut dyn Connection, shared: &Shared) -> io::Result<()> {
    let Some(request) = request(connection).await? else { return Ok(()) };
    let (bytes, ending) = shared.decide(request);
    // A client that has read enough may hang up first.
    let written = connection.write_all(&bytes).await;
    let written = written.and(connection.flush().await);
    shared.answered.send_modify(|count| *count += 1);
    written?;
    match ending {
        Ending::Close => connection.shutdown().await?,
        Ending::Drop => return Ok(()),
        Ending::KeepOpen => {}
        Ending::Late(rest) => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            connection.write_all(rest.as_bytes()).await?;
            connection.shutdown().await?;
        }
    }
    // The client's end: closing with unread bytes would reset the connection.
    let mut rest = Vec::new();
    connection.read_to_end(&mut rest).await.map(drop)
}

/// Reads a request with a `Content-Length`.
async fn request(connection: &mut dyn Connection) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    loop {
        if connection.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
        let body = &bytes[end + 4..];
        if body.len() >= length {
            return Ok(Some(Request::read(&head, body)));
        }
    }
}
