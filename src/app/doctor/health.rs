//! The health of a running threadkey, asked over its socket: cheap enough for each minute.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::finding::{Finding, Verdict};
use crate::cli::Exit;

/// How long the answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Asks the threadkey that serves this socket for `/healthz`. It connects to no other machine.
pub async fn examine(socket: &Path) -> Finding {
    let place = socket.display();
    let problem = match timeout(ANSWER_WITHIN, ask(socket)).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200 ") => {
            return Finding::new("running", Verdict::Ok, format!("threadkey answers on {place}"));
        }
        Ok(Ok(answer)) => format!("answers {:?}", answer.lines().next().unwrap_or_default()),
        Ok(Err(error)) => format!("gives no answer: {error}"),
        Err(_) => format!("gives no answer within {} s", ANSWER_WITHIN.as_secs()),
    };
    let text = format!("{place} {problem}. Check that `threadkey run` or `serve` runs, and its log");
    Finding { exit: Exit::Later, ..Finding::new("running", Verdict::Fail, text) }
}

async fn ask(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
