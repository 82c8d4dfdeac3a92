//! What an agent says in a turn, as messages: scrubbed, split, code fences whole, tool calls as small lines.
//!
//! Pure: it holds no message ids and sends nothing. The text only grows, so that a message that is full never changes
//! again.

use super::{
    scrub::{Scrubber, Stream},
    split,
    wire::{MAX_CONTENT, plain, shorten},
};

/// After so many messages the rest of a turn is left out.
const MAX_MESSAGES: usize = 40;

/// See the module.
#[derive(Debug)]
pub(super) struct Answer {
    incoming: Stream,
    /// The text of the message that is being written.
    current: String,
    /// Full ones that have not been fetched.
    full: Vec<String>,
    begun: usize,
    cut: bool,
    said_anything: bool,
}

impl Answer {
    pub(super) fn new(scrubber: Scrubber) -> Self {
        Self {
            incoming: Stream::new(scrubber),
            current: String::new(),
            full: Vec::new(),
            begun: 1,
            cut: false,
            said_anything: false,
        }
    }

    /// More of the answer. Shows up once its words are whole.
    pub(super) fn text(&mut self, text: &str) {
        let clean = self.incoming.push(text);
        self.grow(&clean);
    }

    /// A small line of its own, about a tool call or the turn.
    pub(super) fn note(&mut self, line: &str) {
        let clean = self.incoming.finish();
        self.grow(&clean);
        // Inside a code block the line would be code: the block is closed before it and opened again after it.
        let fence = split::open_fence(&self.current).map(|(fence, _)| fence);
        let mut text = match &fence {
            Some(fence) if self.current.ends_with('\n') => format!("{}\n", fence.marker),
            Some(fence) => format!("\n{}\n", fence.marker),
            None if self.current.is_empty() || self.current.ends_with('\n') => String::new(),
            None => "\n".to_owned(),
        };
        // Scrubbed before Markdown is escaped, which would take a token apart.
        let line = self.incoming.clean(line);
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.push_str(&format!("-# {}\n", shorten(&plain(line.trim()), 300)));
        text.extend(fence.map(|fence| fence.opening()));
        self.grow(&text);
    }

    fn grow(&mut self, text: &str) {
        if text.is_empty() || self.cut {
            return;
        }
        self.said_anything = true;
        self.current.push_str(text);
        while let Some((head, tail)) = split::cut(&self.current, MAX_CONTENT) {
            if !head.trim().is_empty() {
                self.full.push(head);
                self.begun += 1;
            }
            self.current = tail;
            if self.begun > MAX_MESSAGES {
                self.cut = true;
                self.current =
                    "-# The rest of this answer is too long for Discord and was left out.".to_owned();
                return;
            }
        }
    }

    /// Messages that are full, in order, once.
    pub(super) fn take_full(&mut self) -> Vec<String> {
        std::mem::take(&mut self.full)
    }

    /// The message that is being written, as it may be shown now; empty when there is nothing to show.
    pub(super) fn current(&self) -> String {
        let shown = split::closed(self.current.trim_end());
        if shown.trim().is_empty() { String::new() } else { shown }
    }

    /// What comes next begins a new message.
    pub(super) fn seal(&mut self) {
        self.end();
        let last = self.current();
        self.current.clear();
        if !last.is_empty() {
            self.full.push(last);
            self.begun += 1;
        }
    }

    /// Nothing more comes: what was held back shows up.
    pub(super) fn end(&mut self) {
        let rest = self.incoming.finish();
        self.grow(&rest);
    }

    /// Whether anything was ever said.
    pub(super) fn said_anything(&self) -> bool {
        self.said_anything
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Fingerprint;

    const SECRET: &str = "sk-live-0123456789abcdef";

    fn answer() -> Answer {
        let live = Fingerprint::of(SECRET);
        Answer::new(Scrubber::new(move |fingerprint| *fingerprint == live))
    }

    #[test]
    fn text_streams_word_by_word_and_ends_whole() {
        let mut answer = answer();
        answer.text("Hello wor");
        assert_eq!(answer.current(), "Hello");
        answer.text("ld");
        answer.end();
        assert_eq!(answer.current(), "Hello world");
        assert!(answer.take_full().is_empty());
    }

    #[test]
    fn a_live_token_never_shows_whatever_the_pieces() {
        let mut answer = answer();
        for piece in ["my token: sk-live-", "0123456789", "abcdef", "."] {
            answer.text(piece);
            assert!(!answer.current().contains("sk-live"));
        }
        answer.note(&format!("curl -H {SECRET}"));
        answer.end();
        assert_eq!(answer.current(), "my token: [secret removed].\n-# curl -H \\[secret removed\\]");
    }

    #[test]
    fn tool_calls_are_small_lines_also_in_the_middle_of_code() {
        let mut answer = answer();
        answer.text("Look:\n```rust\nlet a = 1;\n");
        answer.note("read *file*");
        answer.text("let b = 2;\n```\n");
        answer.end();
        assert_eq!(
            answer.current(),
            "Look:\n```rust\nlet a = 1;\n```\n-# read \\*file\\*\n```rust\nlet b = 2;\n```"
        );
    }

    #[test]
    fn a_full_message_is_handed_out_once_and_a_sealed_one_too() {
        let mut answer = answer();
        answer.text(&"word ".repeat(500));
        let full = answer.take_full();
        assert_eq!(full.len(), 1);
        assert!(split::utf16_len(&full[0]) <= MAX_CONTENT);
        assert!(answer.take_full().is_empty());
        answer.seal();
        assert_eq!(answer.take_full().len(), 1);
        assert_eq!(answer.current(), "");
        assert!(answer.said_anything());
    }

    #[test]
    fn an_endless_answer_is_cut_and_says_so() {
        let mut answer = answer();
        for _ in 0..200 {
            answer.text(&"word ".repeat(500));
        }
        answer.end();
        assert!(answer.take_full().len() <= MAX_MESSAGES);
        assert!(answer.current().contains("left out"));
    }
}
