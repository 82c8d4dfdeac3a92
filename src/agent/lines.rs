//! Lines from and to a worker, bounded.
//!
//! The protocol crate reads ahead and queues what it has not handled, both ways, without a bound. The [`Gate`]
//! gives it one: after [`LINES_AHEAD`] lines or [`BYTES_AHEAD`] bytes the incoming stream puts in a request of its own, and yields nothing
//! more until the answer to it comes out at the other end. By then all that came before was handled and answered.

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
const LINES_AHEAD: usize = 64;
const BYTES_AHEAD: usize = MAX_LINE;

/// The method of the request that tells when everything before it was handled; nobody else sends it.
pub(super) const DRAINED_METHOD: &str = "_threadkey/drained";

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// It was longer than the limit; this is its beginning, and the rest was passed over.
    Cut(Vec<u8>),
}

/// Reads lines of at most `limit` bytes.
pub(super) struct BoundedLines<R> {
    reader: BufReader<R>,
    limit: usize,
}

impl<R: AsyncRead + Unpin> BoundedLines<R> {
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self { reader: BufReader::new(reader), limit }
    }

    /// The next line, `None` at the end. A last line without an end counts.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
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

/// Couples the two directions of one connection.
#[derive(Debug)]
pub(super) struct Gate {
    /// Known to nobody outside this process, so that no worker can open the gate itself.
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

    /// Why the incoming lines ended early, if they did.
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
    ahead: (usize, usize),
    waiting: bool,
}

/// What the worker says. An overlong line is an error, and then the connection is over.
pub(super) fn incoming<R: AsyncRead + Unpin + Send + 'static>(
    reader: R,
    gate: Arc<Gate>,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    let lines = BoundedLines::new(reader, MAX_LINE);
    stream::unfold(Incoming { lines, gate, ahead: (0, 0), waiting: false }, |mut at| async move {
        if at.waiting {
            at.gate.answered.notified().await;
            at.waiting = false;
        }
        if at.ahead.0 >= LINES_AHEAD || at.ahead.1 >= BYTES_AHEAD {
            at.ahead = (0, 0);
            at.waiting = true;
            return Some((Ok(at.gate.request()), at));
        }
        let line = match at.lines.next().await {
            Ok(Some(Line::Whole(line))) => Ok(String::from_utf8_lossy(&line).into_owned()),
            Ok(Some(Line::Cut(_))) => {
                let fault = format!("it sent a line of more than {} MiB", MAX_LINE / 1024 / 1024);
                let _ = at.gate.fault.set(fault.clone());
                Err(io::Error::new(io::ErrorKind::InvalidData, fault))
            }
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        at.ahead = (at.ahead.0 + 1, at.ahead.1 + line.as_ref().map_or(0, String::len));
        Some((line, at))
    })
}

/// What is said to the worker.
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
    async fn a_line_over_the_limit_is_cut_and_the_next_one_is_whole() {
        let mut lines = BoundedLines::new(&b"1234\n12345\n\n12"[..], 4);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.expect("memory is readable") {
            all.push(line);
        }
        let whole = |text: &str| Line::Whole(text.into());
        assert_eq!(all, [whole("1234"), Line::Cut("1234".into()), whole(""), whole("12")]);
    }

    #[tokio::test]
    async fn nothing_is_read_ahead_of_what_was_answered() {
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
        assert!(futures_util::poll!(incoming.next()).is_pending(), "another answer does not open the gate");
        outgoing
            .send(format!("{{\"id\":\"{}\",\"result\":{{}}}}", gate.id))
            .await
            .expect("it is not written");
        assert_eq!(incoming.next().await.expect("the last line").expect("readable"), "{}");
    }
}
