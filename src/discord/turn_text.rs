//! The text of one turn as messages: scrubbed, split with whole code fences, with tool calls as
//! small lines, and with the agent's name on each message.
//!
//! Pure: this module has no message ids and sends nothing. The text only grows, so that a full
//! message never changes again.

use super::{
    agent_text::{self, OWN_DASH},
    hidden::is_hidden,
    split,
    wire::{MAX_CONTENT, escape_markdown, shorten},
};
use crate::secret::{Scrubber, Stream};

/// The number of messages after which the rest of a turn is omitted.
const MAX_MESSAGES: usize = 40;

/// See the module.
#[derive(Debug)]
pub(super) struct TurnText {
    incoming: Stream,
    name_line: String,
    /// The text of the message in progress.
    current: String,
    /// Full messages that have not been taken yet.
    full: Vec<String>,
    begun: usize,
    is_cut: bool,
    has_output: bool,
}

impl TurnText {
    /// Begins the text of a turn of this agent.
    pub(super) fn new(scrubber: Scrubber, agent: &str) -> Self {
        Self {
            incoming: Stream::new(scrubber),
            name_line: agent_text::name_line(agent),
            current: String::new(),
            full: Vec::new(),
            begun: 1,
            is_cut: false,
            has_output: false,
        }
    }

    /// Adds text of the agent. It becomes visible once its words are whole.
    pub(super) fn push(&mut self, text: &str) {
        let clean = self.incoming.push(text);
        self.grow(&agent_text::plain(&clean));
    }

    /// Adds a small line of its own about a tool call.
    pub(super) fn note(&mut self, line: &str) {
        self.end();
        // Inside a code block the line would be code, so the block is closed before the line and
        // opened again after it.
        let fence = split::open_fence(&self.current).map(|(fence, _)| fence);
        let mut text = match &fence {
            Some(fence) if self.current.ends_with('\n') => format!("{}\n", fence.marker),
            Some(fence) => format!("\n{}\n", fence.marker),
            None if self.current.is_empty() || self.current.ends_with('\n') => String::new(),
            None => "\n".to_owned(),
        };
        // The line is scrubbed before Markdown is escaped, because escaping would split a token.
        let line = self.incoming.clean(line);
        let line: String = line.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect();
        text.push_str(&format!("{OWN_DASH}# {}\n", shorten(&escape_markdown(line.trim()), 300)));
        text.extend(fence.map(|fence| fence.opening()));
        self.grow(&text);
    }

    fn grow(&mut self, text: &str) {
        if text.is_empty() || self.is_cut {
            return;
        }
        self.has_output = true;
        self.current.push_str(text);
        let limit = MAX_CONTENT - split::utf16_len(&self.name_line);
        while let Some((head, tail)) = agent_text::take_message(&self.current, limit) {
            if let Some(message) = self.message(&head) {
                self.full.push(message);
                self.begun += 1;
            }
            self.current = tail;
            if self.begun > MAX_MESSAGES {
                self.is_cut = true;
                self.current.clear();
                return;
            }
        }
    }

    /// Returns the content of a message with this text, or `None` if there is nothing to show.
    fn message(&self, text: &str) -> Option<String> {
        let shown = agent_text::shown(text);
        let is_blank = shown.chars().all(|c| c == ' ' || is_hidden(c));
        (!is_blank).then(|| format!("{}{shown}", self.name_line))
    }

    /// Takes the full messages, in order.
    pub(super) fn take_full(&mut self) -> Vec<String> {
        std::mem::take(&mut self.full)
    }

    /// Returns the message in progress as it can be shown now. Empty when there is nothing to show.
    pub(super) fn current(&self) -> String {
        self.message(&split::with_closed_fence(self.current.trim_end())).unwrap_or_default()
    }

    /// Completes the message in progress, so that further text begins a new one.
    pub(super) fn seal(&mut self) {
        self.end();
        let last = self.current();
        self.current.clear();
        if !last.is_empty() {
            self.full.push(last);
            self.begun += 1;
        }
    }

    /// Ends the text, so that an incomplete last word becomes visible.
    pub(super) fn end(&mut self) {
        let rest = self.incoming.finish();
        self.grow(&agent_text::plain(&rest));
    }

    /// Whether the rest of the text is left out, because it is too long for Discord.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether the turn has any text or note.
    pub(super) fn has_output(&self) -> bool {
        self.has_output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-live-0123456789abcdef";

    fn turn_text() -> TurnText {
        let scrubber = Scrubber::new();
        scrubber.note(SECRET);
        TurnText::new(scrubber, "codex")
    }

    #[test]
    fn text_becomes_visible_word_by_word_and_is_whole_at_the_end() {
        let mut turn = turn_text();
        turn.push("Hello wor");
        assert_eq!(turn.current(), "-# agent codex\nHello");
        turn.push("ld");
        turn.end();
        assert_eq!(turn.current(), "-# agent codex\nHello world");
        assert!(turn.take_full().is_empty());
    }

    #[test]
    fn a_live_token_in_any_pieces_is_never_visible() {
        let mut turn = turn_text();
        for piece in ["my token: sk-live-", "0123456789", "abcdef", "."] {
            turn.push(piece);
            assert!(!turn.current().contains("sk-live"));
        }
        turn.note(&format!("curl -H {SECRET}"));
        turn.end();
        assert_eq!(
            turn.current(),
            "-# agent codex\nmy token: [secret removed].\n-# curl -H \\[secret removed\\]"
        );
    }

    #[test]
    fn tool_calls_are_small_lines_even_in_the_middle_of_a_code_block() {
        let mut turn = turn_text();
        turn.push("Look:\n```rust\nlet a = 1;\n");
        turn.note("read *file*");
        turn.push("let b = 2;\n```\n");
        turn.end();
        assert_eq!(
            turn.current(),
            "-# agent codex\nLook:\n```rust\nlet a = 1;\n```\n-# read \\*file\\*\n```rust\nlet b = 2;\n```"
        );
    }

    #[test]
    fn a_full_message_and_a_sealed_one_are_taken_once() {
        let mut turn = turn_text();
        turn.push(&"word ".repeat(500));
        let full = turn.take_full();
        assert_eq!(full.len(), 1);
        assert!(split::utf16_len(&full[0]) <= MAX_CONTENT);
        assert!(turn.take_full().is_empty());
        turn.seal();
        assert_eq!(turn.take_full().len(), 1);
        assert_eq!(turn.current(), "");
        assert!(turn.has_output());
    }

    #[test]
    fn an_endless_answer_is_cut() {
        let mut turn = turn_text();
        for _ in 0..200 {
            turn.push(&"word ".repeat(500));
        }
        turn.end();
        assert!(turn.take_full().len() <= MAX_MESSAGES);
        assert!(turn.is_cut() && turn.current().is_empty());
    }

    #[test]
    fn each_message_of_a_turn_names_its_agent_and_no_text_imitates_that_line() {
        let mut turn = turn_text();
        turn.push("-# agent threadkey\nSign in again: [here](https://evil.example)\n");
        turn.push(&"word ".repeat(900));
        turn.end();
        let mut all = turn.take_full();
        all.push(turn.current());
        assert_eq!(all.len(), 3);
        for message in &all {
            assert!(message.starts_with("-# agent codex\n"), "{message}");
            assert_eq!(message.matches("\n-#").count(), 0, "{message}");
            assert!(split::utf16_len(message) <= MAX_CONTENT);
        }
        assert!(
            all[0].contains("\\-# agent threadkey\nSign in again: here (https://evil.example)"),
            "{}",
            all[0]
        );
    }
}
