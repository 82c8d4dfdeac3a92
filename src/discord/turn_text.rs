//! The text of one turn as messages: scrubbed, split with whole code fences, and with tool calls as
//! small lines.
//!
//! Pure: this module has no message ids and sends nothing. The text only grows, so that a full
//! message never changes again.

use super::{
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
    /// The text of the message in progress.
    current: String,
    /// Full messages that have not been taken yet.
    full: Vec<String>,
    begun: usize,
    is_cut: bool,
    has_output: bool,
}

impl TurnText {
    pub(super) fn new(scrubber: Scrubber) -> Self {
        Self {
            incoming: Stream::new(scrubber),
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
        self.grow(&clean);
    }

    /// Adds a small line of its own, about a tool call or the turn.
    pub(super) fn note(&mut self, line: &str) {
        let clean = self.incoming.finish();
        self.grow(&clean);
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
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("-# {}\n", shorten(&escape_markdown(line.trim()), 300)));
        text.extend(fence.map(|fence| fence.opening()));
        self.grow(&text);
    }

    fn grow(&mut self, text: &str) {
        if text.is_empty() || self.is_cut {
            return;
        }
        self.has_output = true;
        self.current.push_str(text);
        while let Some((head, tail)) = split::take_message(&self.current, MAX_CONTENT) {
            if !head.trim().is_empty() {
                self.full.push(head);
                self.begun += 1;
            }
            self.current = tail;
            if self.begun > MAX_MESSAGES {
                self.is_cut = true;
                self.current =
                    "-# The rest of this answer is too long for Discord and was left out.".to_owned();
                return;
            }
        }
    }

    /// Takes the full messages, in order.
    pub(super) fn take_full(&mut self) -> Vec<String> {
        std::mem::take(&mut self.full)
    }

    /// Returns the message in progress as it can be shown now. Empty when there is nothing to show.
    pub(super) fn current(&self) -> String {
        let shown = split::with_closed_fence(self.current.trim_end());
        if shown.trim().is_empty() { String::new() } else { shown }
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
        self.grow(&rest);
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
        TurnText::new(scrubber)
    }

    #[test]
    fn text_becomes_visible_word_by_word_and_is_whole_at_the_end() {
        let mut turn = turn_text();
        turn.push("Hello wor");
        assert_eq!(turn.current(), "Hello");
        turn.push("ld");
        turn.end();
        assert_eq!(turn.current(), "Hello world");
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
        assert_eq!(turn.current(), "my token: [secret removed].\n-# curl -H \\[secret removed\\]");
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
            "Look:\n```rust\nlet a = 1;\n```\n-# read \\*file\\*\n```rust\nlet b = 2;\n```"
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
    fn an_endless_answer_is_cut_with_a_note() {
        let mut turn = turn_text();
        for _ in 0..200 {
            turn.push(&"word ".repeat(500));
        }
        turn.end();
        assert!(turn.take_full().len() <= MAX_MESSAGES);
        assert!(turn.current().contains("left out"));
    }
}
