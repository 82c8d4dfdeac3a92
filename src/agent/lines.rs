//! Lines from and to a worker, with limits.
//!
//! The protocol crate reads ahead and queues unhandled messages in both directions without a limit.
//! The [`Gate`] adds a limit. After [`LINES_AHEAD`] lines or [`BYTES_AHEAD`] bytes the incoming
//! stream inserts a request of its own. It yields nothing more until the answer to this request
//! arrives in the outgoing stream. By then every earlier line is handled and answered.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use futures_util::{Sink, Stream, sink, stream};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::Notify,
};

use crate::sys::random;

/// The longest line that a worker may send, in bytes.
pub(super) const MAX_LINE: usize = 1024 * 1024;
/// How many lines may be read ahead of their handling.
const LINES_AHEAD: usize = 64;
/// How many bytes may be read ahead of their handling.
const BYTES_AHEAD: usize = MAX_LINE / 4;

/// The method of the inserted request. Its answer shows that every earlier line was handled.
pub(super) const DRAINED_METHOD: &str = "_threadkey/drained";

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The whole line.
    Whole(Vec<u8>),
    /// The beginning of a line that is longer than the limit. The rest is skipped.
    Cut(Vec<u8>),
}

/// Reads lines of at most `limit` bytes.
pub struct BoundedLines<R> {
    reader: BufReader<R>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> BoundedLines<R> {
    /// Reads nothing yet.
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::new(reader), limit }
    }

    /// Returns the next line, or `None` at the end of the input. The last line may lack its line
    /// end. A call that is dropped loses what it has read.
    ///
    /// # Errors
    /// The reader's.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Vec::new();
        let mut cut = false;
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok((!line.is_empty()).then_some(if cut {
                    Line::Cut(line)
                } else {
                    Line::Whole(line)
                }));
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let content = &chunk[..end.unwrap_or(chunk.len())];
            let room = self.limit - line.len();
            cut |= content.len() > room;
            line.extend_from_slice(&content[..content.len().min(room)]);
            let used = content.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Some(if cut { Line::Cut(line) } else { Line::Whole(line) }));
            }
        }
    }
}

/// Connects the two directions of one connection: an answer in one lets the other continue.
#[derive(Debug)]
pub(super) struct Gate {
    /// The id of the inserted request. It is random, so that no worker can open the gate with a
    /// forged answer.
    id: String,
    answered: Notify,
    fault: OnceLock<String>,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            id: format!("drained-{}", random::token()),
            answered: Notify::new(),
            fault: OnceLock::new(),
        })
    }

    /// The reason why the incoming lines ended early, if they did.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    fn request(&self) -> String {
        serde_json::json!({ "jsonrpc": "2.0", "id": self.id, "method": DRAINED_METHOD, "params": {} })
            .to_string()
    }
}

struct Incoming<R> {
    lines: BoundedLines<R>,
    gate: Arc<Gate>,
    /// Lines and bytes since the last inserted request.
    ahead: (usize, usize),
    /// The inserted request has no answer yet.
    waiting: bool,
}

/// The lines from the worker. A line over the limit is an error that ends the connection.
pub(super) fn incoming<R: AsyncRead + Unpin + Send + 'static>(
    reader: R,
    gate: Arc<Gate>,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    let lines = BoundedLines::new(reader, MAX_LINE);
    stream::unfold(Incoming { lines, gate, ahead: (0, 0), waiting: false }, |mut incoming| async move {
        if incoming.waiting {
            incoming.gate.answered.notified().await;
            incoming.waiting = false;
        }
        if incoming.ahead.0 >= LINES_AHEAD || incoming.ahead.1 >= BYTES_AHEAD {
            incoming.ahead = (0, 0);
            incoming.waiting = true;
            return Some((Ok(incoming.gate.request()), incoming));
        }
        let line = match incoming.lines.next().await {
            Ok(Some(Line::Whole(line))) => Ok(String::from_utf8_lossy(&line).into_owned()),
            Ok(Some(Line::Cut(_))) => {
                let fault = format!("it sent a line of more than {} MiB", MAX_LINE / 1024 / 1024);
                let _ = incoming.gate.fault.set(fault.clone());
                Err(io::Error::new(io::ErrorKind::InvalidData, fault))
            }
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        let bytes = line.as_ref().map_or(0, String::len);
        incoming.ahead = (incoming.ahead.0 + 1, incoming.ahead.1 + bytes);
        Some((line, incoming))
    })
}

/// The lines to the worker. The answer to the inserted request is not written: it opens the gate.
pub(super) fn outgoing<W: AsyncWrite + Unpin + Send + 'static>(
    writer: W,
    gate: Arc<Gate>,
) -> impl Sink<String, Error = io::Error> + Send + 'static {
    sink::unfold(writer, move |mut writer, mut line: String| {
        let gate = Arc::clone(&gate);
        async move {
            if line.contains(&gate.id) {
                gate.answered.notify_one();
                return Ok(writer);
            }
            line.push('\n');
            writer.write_all(line.as_bytes()).await?;
            writer.flush().await?;
            Ok(writer)
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt as _, StreamExt as _};

    use super::*;

    #[tokio::test]
    async fn a_line_over_the_limit_is_cut_and_the_next_line_is_whole() {
        let mut lines = BoundedLines::new(&b"1234\n12345\n\n12"[..], 4);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.expect("memory is readable") {
            all.push(line);
        }
        let whole = |text: &str| Line::Whole(text.into());
        assert_eq!(all, [whole("1234"), Line::Cut("1234".into()), whole(""), whole("12")]);
    }

    #[tokio::test]
    async fn reading_ahead_stops_until_earlier_lines_are_answered() {
        let gate = Gate::new();
        let text = "{}\n".repeat(LINES_AHEAD + 1);
        let mut incoming = Box::pin(incoming(std::io::Cursor::new(text.into_bytes()), Arc::clone(&gate)));
        for _ in 0..LINES_AHEAD {
            assert_eq!(incoming.next().await.expect("a line").expect("readable"), "{}");
        }
        let request = incoming.next().await.expect("the gate's request").expect("it is no error");
        assert!(request.contains(DRAINED_METHOD), "{request}");
        assert!(futures_util::poll!(incoming.next()).is_pending(), "the last line must wait");

        let (ours, _worker) = tokio::io::duplex(64);
        let mut outgoing = Box::pin(outgoing(ours, Arc::clone(&gate)));
        outgoing.send("{\"id\":\"drained-guess\"}".to_owned()).await.expect("there is room");
        assert!(futures_util::poll!(incoming.next()).is_pending(), "a forged answer does not open the gate");
        outgoing
            .send(format!("{{\"id\":\"{}\",\"result\":{{}}}}", gate.id))
            .await
            .expect("it is not written");
        assert_eq!(incoming.next().await.expect("the last line").expect("readable"), "{}");
    }
}
