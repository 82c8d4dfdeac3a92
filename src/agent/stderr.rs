//! The last lines of a worker's stderr, without its secrets.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{io::AsyncRead, task::JoinHandle, time::timeout};

use super::{
    lines::{BoundedLines, Line},
    worker_secrets::WorkerSecrets,
};
use crate::{
    ids::ConversationId,
    secret::{Scrubber, Stream},
};

/// The longest line, in bytes.
const MAX_LINE: usize = 4096;
/// How many bytes are kept in all.
const MAX_KEPT: usize = 4096;
/// How long to wait for the end of the pipe after the process has ended. A process that left its
/// group may hold the pipe open.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Reads a worker's stderr to its end, and keeps the last lines.
#[derive(Debug)]
pub(super) struct Stderr {
    tail: Arc<Mutex<VecDeque<String>>>,
    reader: JoinHandle<()>,
}

impl Stderr {
    pub(super) fn read<R: AsyncRead + Unpin + Send + 'static>(
        reader: R,
        conversation: ConversationId,
        secrets: WorkerSecrets,
    ) -> Self {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&tail);
        let reader = tokio::spawn(async move {
            let mut lines = BoundedLines::new(reader, MAX_LINE);
            while let Ok(Some(line)) = lines.next().await {
                let line = printable(&secrets, line);
                tracing::debug!(conversation = %conversation.0, agent_wrote = line, "the agent's stderr");
                keep(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), line);
            }
        });
        Self { tail, reader }
    }

    /// Returns the last lines. Waits a moment for the end of the pipe.
    pub(super) async fn finish(mut self) -> String {
        let _ = timeout(END_WITHIN, &mut self.reader).await;
        self.reader.abort();
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.make_contiguous().join("\n")
    }
}

fn printable(secrets: &WorkerSecrets, line: Line) -> String {
    let (bytes, cut) = match line {
        Line::Whole(bytes) => (bytes, false),
        Line::Cut(bytes) => (bytes, true),
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut text = if cut {
        // The limit may have cut a secret in two, so only the part that is safe to show stays.
        Stream::new(Scrubber::of_process().clone()).push(&text).trim_end().to_owned() + "…"
    } else {
        secrets.scrub(&text)
    };
    text.retain(|c| c == '\t' || !c.is_control());
    text
}

fn keep(tail: &mut VecDeque<String>, line: String) {
    tail.push_back(line);
    while tail.len() > 1 && tail.iter().map(|line| line.len() + 1).sum::<usize>() > MAX_KEPT {
        tail.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::Snowflake, secret::Secret};

    async fn tail_of(text: &str) -> String {
        let secrets =
            WorkerSecrets::new([Secret::new("s3cr3t"), Secret::new("s3cr3t-longer"), Secret::new("")]);
        let reader = std::io::Cursor::new(text.as_bytes().to_vec());
        Stderr::read(reader, ConversationId(Snowflake(1)), secrets).finish().await
    }

    #[tokio::test]
    async fn stderr_is_kept_without_secrets_and_control_characters() {
        assert_eq!(
            tail_of("a s3cr3t-longer\x1b[1m b\ns3cr3t\n").await,
            "a [secret removed][1m b\n[secret removed]"
        );
    }

    #[tokio::test]
    async fn a_secret_cut_in_two_by_the_line_limit_is_removed() {
        let text = format!("{} s3cr3t", "x ".repeat((MAX_LINE - 4) / 2));
        let tail = tail_of(&text).await;
        assert!(tail.ends_with("x…") && !tail.contains("s3c"), "{tail}");
    }

    #[tokio::test]
    async fn only_the_last_lines_of_stderr_are_kept() {
        let text: String = (0..5000).map(|n| format!("line {n}\n")).collect();
        let tail = tail_of(&text).await;
        assert!(tail.len() <= MAX_KEPT && tail.ends_with("line 4999"), "{tail}");
    }
}
