//! The bridge itself: the client's lines become POST requests, and the answers become lines.
//!
//! Everything runs in one task. A request waits for its answer beside the others. A notification or a
//! response is sent before the next line is read, so that the server gets them in order. The reader's
//! limit on a line, the limit on requests at once, and the limit on an event bound the memory.

use std::{cell::RefCell, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{LocalBoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{Mutex, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    events::{Events, MAX_EVENT},
    message::{Message, on_one_line, response_id},
    server::{Server, Trouble, body, content_type},
    session::{Request, Session},
};
use crate::{
    agent::{BoundedLines, Line},
    cli::{interrupts::Interrupts, print_notice},
};

/// The longest line of the client, in bytes.
const MAX_LINE: usize = 16 << 20;
/// How many requests may be in progress.
const MAX_REQUESTS: usize = 256;
/// How long a notification or a response may take.
const SEND_WITHIN: Duration = Duration::from_secs(60);
/// How long requests in progress may take after the end of the input.
const FINISH_WITHIN: Duration = Duration::from_secs(60);
/// How long the end of the session may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);
/// The pause before a broken stream goes on, if the server names none, and its limit.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(60);
/// How often a broken stream is taken up without any news on it.
const MAX_TRIES: u32 = 10;
/// The JSON-RPC codes of our own errors.
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const SERVER_ERROR: i32 = -32000;

/// A bridge, which writes to `W`.
pub(super) struct Bridge<'a, W> {
    server: Server<'a>,
    session: RefCell<Session>,
    /// Held while a lost session is begun again.
    beginning: Mutex<()>,
    output: Mutex<W>,
    /// Fires when the client reads no more.
    closed: CancellationToken,
}

impl<'a, W: AsyncWrite + Unpin> Bridge<'a, W> {
    /// Connects to nothing yet.
    pub(super) fn new(server: Server<'a>, output: W) -> Self {
        Self {
            server,
            session: RefCell::default(),
            beginning: Mutex::new(()),
            output: Mutex::new(output),
            closed: CancellationToken::new(),
        }
    }

    /// Forwards until the input ends, a signal arrives, or the client reads no more.
    pub(super) async fn run<R>(&self, input: R, interrupts: &mut Interrupts)
    where
        R: AsyncRead + Unpin + Send + 'static,
    {
        let mut lines = lines_of(input);
        let mut requests: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut sending: OptionFuture<LocalBoxFuture<'_, bool>> = None.into();
        let mut listening: OptionFuture<LocalBoxFuture<'_, ()>> = None.into();
        let (mut is_sending, mut is_listening) = (false, false);
        loop {
            tokio::select! {
                biased;
                () = interrupts.next() => return self.leave().await,
                () = self.closed.cancelled() => return self.leave().await,
                Some(()) = requests.next(), if !requests.is_empty() => {}
                Some(is_ready) = &mut sending, if is_sending => {
                    is_sending = false;
                    sending = None.into();
                    if is_ready && !is_listening {
                        is_listening = true;
                        listening = Some(Box::pin(self.listen()) as LocalBoxFuture<'_, ()>).into();
                    }
                }
                Some(()) = &mut listening, if is_listening => {
                    is_listening = false;
                    listening = None.into();
                }
                line = lines.recv(), if !is_sending && requests.len() < MAX_REQUESTS => match line {
                    None => break,
                    Some(Line::Cut(_)) => {
                        let text = format!("a line is longer than {} MiB", MAX_LINE >> 20);
                        self.refuse("null", INVALID_REQUEST, &Trouble::new(text)).await;
                    }
                    Some(Line::Whole(line)) => match self.read(line).await {
                        Some(message) if message.id.is_some() => requests.push(Box::pin(self.answer(message))),
                        Some(message) => {
                            is_sending = true;
                            sending = Some(Box::pin(self.notify(message)) as LocalBoxFuture<'_, bool>).into();
                        }
                        None => {}
                    },
                },
            }
        }
        let finish = async {
            if is_sending {
                sending.await;
            }
            while requests.next().await.is_some() {}
        };
        tokio::select! {
            () = interrupts.next() => {}
            () = self.closed.cancelled() => {}
            _ = timeout(FINISH_WITHIN, finish) => {}
        }
        self.leave().await;
    }

    /// Reads a line of the client. A line that is not a message is answered by an error.
    async fn read(&self, line: Vec<u8>) -> Option<Message> {
        let text = String::from_utf8(line).ok();
        if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return None;
        }
        let message = text.and_then(Message::read);
        if message.is_none() {
            self.refuse("null", PARSE_ERROR, &Trouble::new("the line is no JSON-RPC message")).await;
        }
        message
    }

    // === the client's messages ===

    /// Forwards a request, and writes its answers.
    async fn answer(&self, message: Message) {
        let id = message.id.clone().unwrap_or_default();
        let cancel = CancellationToken::new();
        let request = Request { cancel: cancel.clone(), by_closing: message.has_no_session() };
        self.session.borrow_mut().requests.insert(id.clone(), request);
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            outcome = self.request(&message) => outcome,
        };
        self.session.borrow_mut().requests.remove(&id);
        if let Err(trouble) = outcome {
            self.refuse(&id, SERVER_ERROR, &trouble).await;
        }
    }

    async fn request(&self, message: &Message) -> Result<(), Trouble> {
        let session = self.session.borrow().id.clone().filter(|_| !message.has_no_session());
        let answer = self.post(message).await?;
        let is_first = message.method.as_deref() == Some("initialize");
        let is_ours = content_type(&answer) == "application/problem+json";
        let answer = match session {
            Some(lost) if answer.status() == StatusCode::NOT_FOUND && !is_ours && !is_first => {
                self.begin_again(&lost).await?;
                self.post(message).await?
            }
            _ => answer,
        };
        if is_first && answer.status().is_success() {
            let id = answer.headers().get("mcp-session-id").and_then(|id| id.to_str().ok());
            self.session.borrow_mut().id = id.map(str::to_owned);
        }
        self.pass_on(message, answer).await
    }

    /// Begins a session in the place of one that the server no longer knows.
    async fn begin_again(&self, lost: &str) -> Result<(), Trouble> {
        let _beginning = self.beginning.lock().await;
        let line = {
            let session = self.session.borrow();
            if session.id.as_deref() != Some(lost) {
                return Ok(());
            }
            session.initialize.clone()
        };
        let initialize = line.and_then(Message::read);
        let initialize = initialize.ok_or_else(|| Trouble::new("the MCP server has ended the session"))?;
        let answer = self.post(&initialize).await?;
        if !answer.status().is_success() {
            return Err(self.server.refusal(answer).await.0);
        }
        let id = answer.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        // The client has the answer to its own request, and needs no second one.
        drop(answer);
        self.session.borrow_mut().id = id;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
        match Message::read(initialized) {
            Some(initialized) => self.post(&initialized).await.map(drop),
            None => Ok(()),
        }
    }

    /// Forwards a notification or a response. Returns whether the server may now send messages of its
    /// own.
    async fn notify(&self, message: Message) -> bool {
        let cancelled = message.cancels().and_then(|id| self.session.borrow().requests.get(&id).cloned());
        if let Some(request) = cancelled.as_ref().filter(|request| request.by_closing) {
            request.cancel.cancel();
            return false;
        }
        let sent = async {
            let answer = self.post(&message).await?;
            match answer.status().is_success() {
                true => Ok(()),
                false => Err(self.server.refusal(answer).await.0),
            }
        };
        let sent = timeout(SEND_WITHIN, sent).await;
        let sent = sent.unwrap_or_else(|_| Err(Trouble::new("the MCP server did not answer")));
        if let Some(request) = cancelled {
            request.cancel.cancel();
        }
        let method = message.method.as_deref().unwrap_or("a response");
        match sent {
            Ok(()) => method == "notifications/initialized" && !message.has_no_session(),
            Err(trouble) => {
                print_notice(&format!("threadkey mcp: {method} was not delivered: {}", trouble.text));
                false
            }
        }
    }

    // === the server's messages ===

    /// Passes on the answer to a request.
    async fn pass_on(&self, message: &Message, answer: Response) -> Result<(), Trouble> {
        let kind = content_type(&answer);
        if answer.status().is_success() && kind == "text/event-stream" {
            return self.stream(answer, Some(message)).await;
        }
        if answer.status().is_success() {
            let text = body(answer).await?;
            let empty = || Trouble::new("the MCP server's answer is no JSON-RPC message");
            return self.deliver(&on_one_line(&text).ok_or_else(empty)?, Some(message)).await;
        }
        let (trouble, text) = self.server.refusal(answer).await;
        // A refusal may have the server's own error, which has the request's id or none.
        let mut error: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if kind == "application/json" && error.get("error").is_some_and(|error| error.get("code").is_some()) {
            let id = message.id.as_deref().and_then(|id| serde_json::from_str(id).ok());
            error["id"] = id.unwrap_or_default();
            return self.write(&error.to_string()).await;
        }
        Err(trouble)
    }

    /// Passes on the messages of a stream, up to the answer of `request`. A stream that breaks is taken
    /// up after its last event, if the server gives its events ids.
    async fn stream(&self, mut answer: Response, request: Option<&Message>) -> Result<(), Trouble> {
        let (mut events, mut tries) = (Events::default(), 0);
        loop {
            while let Ok(Some(bytes)) = answer.chunk().await {
                let found = events.take(&bytes).map_err(|_| {
                    Trouble::new(format!("the MCP server sent an event of more than {} MiB", MAX_EVENT >> 20))
                })?;
                for event in found {
                    tries = 0;
                    let Some(line) = on_one_line(&event.data) else { continue };
                    self.deliver(&line, request).await?;
                    if request.is_some_and(|request| request.id.is_some() && response_id(&line) == request.id)
                    {
                        return Ok(());
                    }
                }
            }
            if request.is_some_and(|request| request.method.is_none()) {
                return Ok(());
            }
            let ended_early = || Trouble::new("the MCP server ended its answer early: try again");
            let last = events.last_id.clone().filter(|_| tries < MAX_TRIES).ok_or_else(ended_early)?;
            answer = loop {
                tries += 1;
                sleep(pause(&events)).await;
                match self.get(Some(&last)).await {
                    Ok(next) if is_stream(&next) => break next,
                    Err(_) if tries < MAX_TRIES => {}
                    _ => return Err(ended_early()),
                }
            };
            events = events.after_break();
        }
    }

    /// Passes on the messages that the server sends by itself, if it has a stream for them.
    async fn listen(&self) {
        let mut tries = 0;
        while tries < MAX_TRIES {
            match self.get(None).await {
                Ok(answer) if is_stream(&answer) => {
                    tries = 0;
                    let _ = self.stream(answer, None).await;
                }
                // 405: the server has none.
                Ok(_) => return,
                Err(_) => tries += 1,
            }
            sleep(RETRY).await;
        }
    }

    /// Writes a message of the server, and takes notice of it.
    async fn deliver(&self, line: &str, request: Option<&Message>) -> Result<(), Trouble> {
        let answered = request.filter(|request| request.id.is_some() && response_id(line) == request.id);
        let changed = answered.and_then(|request| self.session.borrow_mut().learn(request, line));
        match changed {
            None => self.write(line).await,
            Some((line, without)) => {
                let without = without.join(", ");
                print_notice(&format!(
                    "threadkey mcp: the server's definitions of these tools break the protocol, so they are left out: {without}"
                ));
                self.write(&line).await
            }
        }
    }

    // === requests and lines ===

    async fn post(&self, message: &Message) -> Result<Response, Trouble> {
        let headers = self.session.borrow().headers(message);
        let request = self.server.http.post(self.server.url.clone()).body(message.line.clone());
        let request = request.header(CONTENT_TYPE, "application/json");
        let request = request.header(ACCEPT, "application/json, text/event-stream");
        self.server.send(with(request, headers)).await
    }

    /// Opens a stream, after the last event of a broken one or for the server's own messages.
    async fn get(&self, after: Option<&str>) -> Result<Response, Trouble> {
        let headers = self.session.borrow().own_headers();
        let request = self.server.http.get(self.server.url.clone()).header(ACCEPT, "text/event-stream");
        let after = after.map(|id| ("last-event-id".to_owned(), id.to_owned()));
        self.server.send(with(request, headers.into_iter().chain(after))).await
    }

    /// Ends the session, if there is one.
    async fn leave(&self) {
        if self.session.borrow().id.is_none() {
            return;
        }
        let headers = self.session.borrow().own_headers();
        let request = self.server.http.request(Method::DELETE, self.server.url.clone());
        let _ = timeout(LEAVE_WITHIN, self.server.send(with(request, headers))).await;
    }

    /// Answers a request by an error of ours.
    async fn refuse(&self, id: &str, code: i32, trouble: &Trouble) {
        let id: serde_json::Value = serde_json::from_str(id).unwrap_or_default();
        let data = json!({"status": trouble.status, "code": trouble.code});
        let error = json!({"code": code, "message": trouble.text, "data": data});
        let _ = self.write(&json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()).await;
    }

    async fn write(&self, line: &str) -> Result<(), Trouble> {
        let mut output = self.output.lock().await;
        let written = async {
            output.write_all(line.as_bytes()).await?;
            output.write_all(b"\n").await?;
            output.flush().await
        };
        written.await.map_err(|error| {
            self.closed.cancel();
            Trouble::new(format!("the client reads no more: {error}"))
        })
    }
}

/// Reads lines in a task of its own, because a read that is dropped loses a part of a line.
fn lines_of<R: AsyncRead + Unpin + Send + 'static>(input: R) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut lines = BoundedLines::new(input, MAX_LINE);
        while let Ok(Some(line)) = lines.next().await {
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn with(request: RequestBuilder, headers: impl IntoIterator<Item = (String, String)>) -> RequestBuilder {
    headers.into_iter().fold(request, |request, (name, text)| request.header(name, text))
}

fn is_stream(answer: &Response) -> bool {
    answer.status().is_success() && content_type(answer) == "text/event-stream"
}

fn pause(events: &Events) -> Duration {
    events.retry.map_or(RETRY, Duration::from_millis).min(MAX_RETRY)
}
