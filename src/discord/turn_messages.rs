//! The messages of one turn on Discord: at most one edit a second, always with the newest text.
//!
//! A message that could not be sent is kept and sent again: for as long as the turn lasts, and for
//! five minutes after it. So an outage of Discord ends no turn. A refusal that does not pass, such as
//! a missing permission, counts: after some of them the channel is unreachable.
//!
//! A request that failed may have arrived. Each message has a nonce, so that it appears once. If the
//! earlier request arrived, the message has its text, and an edit brings the newest one.
//!
//! A message that is deleted while it is written is written anew. A thread that is archived
//! meanwhile is opened again, where the bot may do so.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tracing::warn;

use super::{
    bot::Bot,
    code_block::code_block,
    rest::{RestError, Sent},
    retry::{Backoff, MAX_SHOW_PAUSE},
    turn_text::TurnText,
    wire::{Message, Nonce, escape_markdown},
};
use crate::{
    agent::{Conversation, Update},
    ids::Snowflake,
};

/// The pause between two edits of a message.
const EDIT_EVERY: Duration = Duration::from_secs(1);

/// How long the last text of a turn is tried after the turn's end.
const END_WITHIN: Duration = Duration::from_secs(5 * 60);
/// How often the messages of one turn are written anew after their deletion.
const MAX_REWRITES: u32 = 10;
/// UTF-16 units of an agent's error in a notice.
const MAX_WORDS: usize = 1500;
/// The number of refusals in a row after which the channel counts as unreachable.
const MAX_REFUSALS: u32 = 5;

/// The failures of a turn's requests in a row.
#[derive(Debug)]
struct Failures {
    refusals: u32,
    backoff: Backoff,
    /// No request is sent before this time.
    not_before: Option<Instant>,
    is_reported: bool,
}

/// The messages of a turn.
pub(super) struct TurnMessages<'a> {
    bot: &'a Bot,
    channel: Snowflake,
    pub(super) text: TurnText,
    /// Complete messages that have not been sent.
    full: VecDeque<Message>,
    /// The message in progress, and its text on Discord.
    message: Option<(Snowflake, String)>,
    /// The nonce of a message that is not known to have arrived.
    nonce: Option<Nonce>,
    flushed_at: Option<Instant>,
    pub(super) dirty: bool,
    failures: Failures,
    rewrites: u32,
    /// Whether the turn has its notice about a text that is too long.
    is_cut: bool,
}

impl Failures {
    fn new() -> Self {
        let backoff = Backoff::up_to(MAX_SHOW_PAUSE);
        Self { refusals: 0, backoff, not_before: None, is_reported: false }
    }

    /// Counts a failure. Returns whether the log shows it: the first one in a row.
    fn count(&mut self, error: &RestError, now: Instant) -> bool {
        if error.is_temporary() {
            self.not_before = Some(now + self.backoff.pause(None));
        } else {
            self.refusals += 1;
        }
        !std::mem::replace(&mut self.is_reported, true)
    }

    /// Whether Discord refuses the messages for good.
    fn are_final(&self) -> bool {
        self.refusals >= MAX_REFUSALS
    }
}

impl<'a> TurnMessages<'a> {
    pub(super) fn new(bot: &'a Bot, conversation: &Conversation) -> Self {
        let channel = conversation.id.0;
        let text = TurnText::new(bot.scrubber.clone(), &bot.agent_title(conversation));
        Self {
            bot,
            channel,
            text,
            full: VecDeque::new(),
            message: None,
            nonce: None,
            flushed_at: None,
            dirty: false,
            failures: Failures::new(),
            rewrites: 0,
            is_cut: false,
        }
    }

    /// Adds a message of the bot after the agent's text so far.
    pub(super) fn notice(&mut self, text: impl Into<String>) {
        self.text.seal();
        self.take_full();
        self.full.push_back(Message::text(text));
        self.dirty = true;
    }

    fn take_full(&mut self) {
        self.full.extend(self.text.take_full().into_iter().map(Message::of_agent));
        if self.text.is_cut() && !std::mem::replace(&mut self.is_cut, true) {
            let text = "The rest of the agent's answer is too long for Discord and was left out.";
            self.full.push_back(Message::text(text));
        }
    }

    /// The time of the next edit.
    pub(super) fn due(&self) -> Instant {
        let edit = self.flushed_at.map_or_else(Instant::now, |at| at + EDIT_EVERY);
        self.failures.not_before.map_or(edit, |not_before| not_before.max(edit))
    }

    /// Whether Discord refuses this turn's messages for good.
    pub(super) fn are_refused(&self) -> bool {
        self.failures.are_final()
    }

    /// Adds an update of the worker. Returns `true` when it was the last one.
    pub(super) fn apply(&mut self, update: Option<Update>) -> bool {
        self.dirty = true;
        match update {
            Some(Update::Text(text)) => self.text.push(&text),
            Some(Update::Tool { title, status, .. }) => {
                let title = if title.trim().is_empty() { "a tool" } else { &title };
                match status.as_str() {
                    "pending" => self.text.note(&format!("⚙ {title}")),
                    "failed" => self.text.note(&format!("✗ {title} failed")),
                    _ => {}
                }
            }
            Some(Update::Permission(_)) => {}
            Some(Update::Failed(message)) => {
                self.notice(format!("The agent failed. It wrote:\n{}", code_block(&message, MAX_WORDS)));
            }
            Some(Update::LimitReached(limit)) => {
                self.notice(format!("I ended the turn: {}.", escape_markdown(&limit)));
            }
            Some(Update::Done(reason)) => {
                self.done(&reason);
                return true;
            }
            Some(Update::Crashed(ending)) => {
                let wrote = match ending.wrote.trim() {
                    "" => String::new(),
                    wrote => format!(" It wrote:\n{}", code_block(wrote, MAX_WORDS)),
                };
                self.notice(format!(
                    "The agent ended unexpectedly: {}.{wrote}\nYour next message starts a new one, which does not know this conversation.",
                    escape_markdown(&ending.how)
                ));
                return true;
            }
            None => {
                self.notice("The agent was ended.");
                return true;
            }
        }
        false
    }

    fn done(&mut self, reason: &str) {
        self.text.end();
        match reason {
            "end_turn" if self.text.has_output() => {}
            "failed" => {}
            "end_turn" => self.notice("The agent ended its turn without an answer."),
            "cancelled" => self.notice("Stopped."),
            "max_tokens" => self.notice("The agent reached its limit of tokens. Ask it to continue."),
            "max_turn_requests" => {
                self.notice("The agent reached its limit of requests. Ask it to continue.")
            }
            "refusal" => self.notice("The agent refuses to continue with this."),
            other => self.notice(format!("The agent stopped ({}).", escape_markdown(other))),
        }
    }

    /// Sends the current text to Discord.
    pub(super) async fn flush(&mut self) {
        self.flushed_at = Some(Instant::now());
        self.dirty = false;
        self.take_full();
        while let Some(full) = self.full.front().cloned() {
            if !self.write(&full).await {
                return;
            }
            self.full.pop_front();
            self.message = None;
        }
        let current = self.text.current();
        if !current.is_empty() {
            self.write(&Message::of_agent(current)).await;
        }
    }

    /// Sends the current text, however long Discord is out of order. Returns early if it refuses the
    /// messages for good.
    pub(super) async fn flush_whole(&mut self) {
        loop {
            self.flush().await;
            if !self.dirty || self.are_refused() {
                return;
            }
            tokio::time::sleep_until(self.due()).await;
        }
    }

    /// Writes the message in progress. Returns `false` when the request failed and must be retried.
    async fn write(&mut self, body: &Message) -> bool {
        let text = &body.content;
        let result = match &self.message {
            Some((_, shown)) if shown == text => return true,
            Some((id, _)) => {
                let edited = self.bot.rest.edit(self.channel, *id, body).await;
                edited.map(|()| (*id, text.clone()))
            }
            None => self.send(body).await.map(|sent| (sent.id, sent.content)),
        };
        match result {
            Ok(message) => {
                let is_newest = message.1 == *text;
                self.message = Some(message);
                self.failures = Failures::new();
                self.dirty |= !is_newest;
                is_newest
            }
            Err(error) if error.is_deleted_message() && self.rewrites < MAX_REWRITES => {
                self.rewrites += 1;
                self.message = None;
                self.dirty = true;
                false
            }
            Err(error) if error.is_closed_thread() && self.bot.rest.unarchive(self.channel).await.is_ok() => {
                self.failures.refusals += 1;
                self.dirty = true;
                false
            }
            Err(error) => {
                if self.failures.count(&error, Instant::now()) {
                    warn!(channel = %self.channel, %error, "cannot show the text of an agent; trying again");
                }
                self.dirty = true;
                false
            }
        }
    }

    /// Sends the message in progress for the first time. Returns it with the text that it has.
    async fn send(&mut self, body: &Message) -> Result<Sent, RestError> {
        let is_repeated = self.nonce.is_some();
        let nonce = self.nonce.get_or_insert_with(Nonce::new);
        let sent = self.bot.rest.send_once(self.channel, body, nonce).await?;
        self.nonce = None;
        // Discord may have changed white space. Only after a repetition the text may be an old one.
        Ok(if is_repeated { sent } else { Sent { content: body.content.clone(), ..sent } })
    }

    /// Sends the final text, and tries again for some minutes unless the bot shuts down. Returns
    /// `false` when the text could not be shown.
    pub(super) async fn end(&mut self) -> bool {
        self.text.end();
        self.dirty = true;
        let deadline = Instant::now() + END_WITHIN;
        loop {
            self.flush().await;
            if !self.dirty {
                return true;
            }
            let next = self.due();
            if self.are_refused() || next > deadline {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = self.bot.shutdown.cancelled() => return self.end_at_shutdown().await,
            }
        }
    }

    /// Sends the final text of a bot that shuts down, with a few tries.
    async fn end_at_shutdown(&mut self) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_of_any_length_ends_no_turn_and_is_logged_once() {
        let mut failures = Failures::new();
        let outage = RestError::for_tests(Some(503));
        assert!(failures.count(&outage, Instant::now()));
        for _ in 0..100 {
            assert!(!failures.count(&outage, Instant::now()), "the log has it already");
            let pause = failures.not_before.expect("a pause") - Instant::now();
            assert!(pause <= MAX_SHOW_PAUSE.mul_f64(1.3), "{pause:?}");
        }
        assert!(!failures.are_final());
    }

    #[tokio::test]
    async fn some_refusals_in_a_row_make_a_channel_unreachable() {
        let mut failures = Failures::new();
        for _ in 0..MAX_REFUSALS {
            assert!(!failures.are_final());
            failures.count(&RestError::for_tests(Some(403)), Instant::now());
        }
        assert!(failures.are_final());
        assert_eq!(failures.not_before, None, "the turn's own pace is slow enough");
    }
}
