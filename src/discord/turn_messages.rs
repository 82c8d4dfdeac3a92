//! The messages of one turn on Discord: at most one edit a second, always with the newest text.
//!
//! A message that could not be sent is kept and retried.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tracing::warn;

use super::{bot::Bot, turn_text::TurnText, wire::Message};
use crate::{agent::Update, ids::Snowflake};

/// The pause between two edits of a message.
const EDIT_EVERY: Duration = Duration::from_secs(1);

/// The messages of a turn.
pub(super) struct TurnMessages<'a> {
    bot: &'a Bot,
    channel: Snowflake,
    pub(super) text: TurnText,
    /// Full messages that have not been sent.
    full: VecDeque<String>,
    /// The message in progress, and its text on Discord.
    message: Option<(Snowflake, String)>,
    flushed_at: Option<Instant>,
    pub(super) dirty: bool,
    /// Failed requests since the last success.
    pub(super) failures: u32,
}

impl<'a> TurnMessages<'a> {
    pub(super) fn new(bot: &'a Bot, channel: Snowflake) -> Self {
        let text = TurnText::new(bot.scrubber.clone());
        Self {
            bot,
            channel,
            text,
            full: VecDeque::new(),
            message: None,
            flushed_at: None,
            dirty: false,
            failures: 0,
        }
    }

    /// The time of the next edit.
    pub(super) fn due(&self) -> Instant {
        self.flushed_at.map_or_else(Instant::now, |at| at + EDIT_EVERY)
    }

    /// Adds an update of the worker. Returns `true` when it was the last one.
    pub(super) fn apply(&mut self, update: Option<Update>) -> bool {
        self.dirty = true;
        match update {
            Some(Update::Text(text)) => self.text.push(&text),
            Some(Update::Tool { title, status, .. }) => match status.as_str() {
                "pending" => self.text.note(&format!("⚙ {title}")),
                "failed" => self.text.note(&format!("✗ {title} failed")),
                _ => {}
            },
            Some(Update::Permission(_)) => {}
            Some(Update::Done(reason)) => {
                self.done(&reason);
                return true;
            }
            Some(Update::Crashed { detail }) => {
                self.text.note(&format!("The agent ended unexpectedly: {detail}"));
                self.text.note("Your next message starts a new one, which does not know this conversation.");
                return true;
            }
            None => {
                self.text.note("The agent was ended.");
                return true;
            }
        }
        false
    }

    fn done(&mut self, reason: &str) {
        self.text.end();
        match reason {
            "end_turn" if self.text.has_output() => {}
            "end_turn" => self.text.note("The agent ended its turn without an answer."),
            "cancelled" => self.text.note("Stopped."),
            "max_tokens" => self.text.note("The agent reached its limit of tokens. Ask it to continue."),
            "max_turn_requests" => {
                self.text.note("The agent reached its limit of requests. Ask it to continue.")
            }
            "refusal" => self.text.note("The agent refuses to continue with this."),
            other => self.text.note(&format!("The agent stopped ({other}).")),
        }
    }

    /// Sends the current text to Discord.
    pub(super) async fn flush(&mut self) {
        self.flushed_at = Some(Instant::now());
        self.dirty = false;
        self.full.extend(self.text.take_full());
        while let Some(full) = self.full.front().cloned() {
            if !self.write(full).await {
                return;
            }
            self.full.pop_front();
            self.message = None;
        }
        let current = self.text.current();
        if !current.is_empty() {
            self.write(current).await;
        }
    }

    /// Writes a text into the message in progress. Returns `false` when the request failed and must
    /// be retried.
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
                warn!(channel = %self.channel, %error, "cannot show the text of an agent; trying again");
                self.failures += 1;
                self.dirty = true;
                false
            }
        }
    }

    /// Sends the final text, with a few tries. Returns `false` when all of them failed.
    pub(super) async fn end(&mut self) -> bool {
        self.text.end();
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
