//! Foreign text in a code block of the bot's own messages: no part of it is Markdown, a mention or
//! hidden, and none can end the block.

use super::{hidden::visible, wire::shorten};

/// Returns a text as a reader must see it: hidden characters are named, and runs of backticks that
/// could end a code block are counted in words.
pub(super) fn readable(text: &str) -> String {
    let text = visible(text);
    let mut readable = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("```") {
        readable.push_str(&rest[..at]);
        rest = &rest[at..];
        let run = rest.len() - rest.trim_start_matches('`').len();
        readable.push_str(&format!("⟨{run} × U+0060⟩"));
        rest = &rest[run..];
    }
    readable + rest
}

/// Returns a code block with a text that is already [`readable`].
pub(super) fn fenced(readable: &str) -> String {
    // Discord drops blank lines at the beginning, and shows a block without any text as backticks.
    let text = if readable.trim().is_empty() { "⟨blank⟩" } else { readable };
    format!("```\n{text}\n```")
}

/// Returns a code block with a foreign text of at most `limit` UTF-16 units.
pub(super) fn code_block(text: &str, limit: usize) -> String {
    fenced(&shorten(&readable(text), limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_its_code_block_or_hide_a_part_of_itself() {
        assert_eq!(
            code_block("ls\n```\n**bold** @everyone ````x", 100),
            "```\nls\n⟨3 × U+0060⟩\n**bold** @everyone ⟨4 × U+0060⟩x\n```"
        );
        assert_eq!(code_block("a\u{202e}b`", 100), "```\na⟨U+202E⟩b`\n```");
        assert_eq!(code_block(" \n", 100), "```\n⟨blank⟩\n```");
        assert_eq!(code_block(&"x".repeat(50), 10), "```\nxxxxxxxxx…\n```");
    }
}
