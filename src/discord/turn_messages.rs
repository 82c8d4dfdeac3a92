//! The messages of one turn: what an agent says is put on Discord, at most one version a second, newest text first.
//!
//! What could not be sent is kept and tried again.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tracing::warn;

use super::{answer::Answer, bot::Bot, wire::Message};
use crate::{agent::Update, ids::Snowflake};

/// Between two versions of a message.
const EDIT_EVERY: Duration = Duration::from_secs(1);

/// The messages of a turn.
pub(super) struct Screen<'a> {
    bot: &'a Bot,
    channel: Snowflake,
    pub(super) answer: Answer,
    /// Full messages that have not been written.
    full: VecDeque<String>,
    /// The message that is being written, and its text.
    message: Option<(Snowflake, String)>,
    wrote_at: Option<Instant>,
    pub(super) dirty: bool,
    pub(super) failures: u32,
}

impl<'a> Screen<'a> {
    pub(super) fn new(bot: &'a Bot, channel: Snowflake) -> Self {
        let answer = Answer::new(bot.scrubber.clone());
        Self {
            bot,
            channel,
            answer,
            full: VecDeque::new(),
            message: None,
            wrote_at: None,
            dirty: false,
            failures: 0,
        }
    }

    /// When the next version may be shown.
    pub(super) fn due(&self) -> Instant {
        self.wrote_at.map_or_else(Instant::now, |at| at + EDIT_EVERY)
    }

    /// Takes an update in; `true` when it was the last.
    pub(super) fn take(&mut self, update: Option<Update>) -> bool {
        self.dirty = true;
        match update {
            Some(Update::Text(text)) => self.answer.text(&text),
            Some(Update::Tool { title, status, .. }) => match status.as_str() {
                "pending" => self.answer.note(&format!("⚙ {title}")),
                "failed" => self.answer.note(&format!("✗ {title} failed")),
                _ => {}
            },
            Some(Update::Permission(_)) => {}
            Some(Update::Done(reason)) => {
                self.done(&reason);
                return true;
            }
            Some(Update::Crashed { detail }) => {
                self.answer.note(&format!("The agent ended unexpectedly: {detail}"));
                self.answer
                    .note("Your next message starts a new one; it does not remember this conversation.");
                return true;
            }
            None => {
                self.answer.note("The agent was ended.");
                return true;
            }
        }
        false
    }

    fn done(&mut self, reason: &str) {
        self.answer.end();
        match reason {
            "end_turn" if self.answer.said_anything() => {}
            "end_turn" => self.answer.note("The agent ended its turn without a word."),
            "cancelled" => self.answer.note("Stopped."),
            "max_tokens" => self.answer.note("The agent stopped at its limit of tokens; ask it to go on."),
            "max_turn_requests" => {
                self.answer.note("The agent stopped at its limit of requests; ask it to go on.")
            }
            "refusal" => self.answer.note("The agent refuses to go on with this."),
            other => self.answer.note(&format!("The agent stopped ({other}).")),
        }
    }

    /// Brings Discord up to date.
    pub(super) async fn flush(&mut self) {
        self.wrote_at = Some(Instant::now());
        self.dirty = false;
        self.full.extend(self.answer.take_full());
        while let Some(full) = self.full.front().cloned() {
            if !self.write(full).await {
                return;
            }
            self.full.pop_front();
            self.message = None;
        }
        let current = self.answer.current();
        if !current.is_empty() {
            self.write(current).await;
        }
    }

    /// Puts a text where the current message is. `false` when it did not get through, and is to be tried again.
    async fn write(&mut self, text: String) -> bool {
        let body = Message::text(text.clone());
        let result = match &self.message {
            Some((_, shown)) if *shown == text => return true,
            Some((id, _)) => self.bot.rest.edit(self.channel, *id, &body).await.map(|()| *id),
            None => self.bot.rest.send(self.channel, &body).await,
        };
        match result {
            Ok(id) => {
                self.message = Some((id, text));
                self.failures = 0;
                true
            }
            Err(error) => {
                warn!(channel = %self.channel, %error, "an agent's words could not be shown; tried again");
                self.failures += 1;
                self.dirty = true;
                false
            }
        }
    }

    /// The last version, tried a few times. `false` when it did not get through.
    pub(super) async fn end(&mut self) -> bool {
        self.answer.end();
        for attempt in 0..3 {
            tokio::time::sleep(EDIT_EVERY * attempt).await;
            self.flush().await;
            if !self.dirty {
                return true;
            }
        }
        false
    }
}
