//! The look of an agent's text on Discord (adr/0034): each message begins with the agent's name line,
//! and no text can imitate that line or hide the target of a link.
//!
//! Discord reads Markdown in its own way, and a text can be written so that another parser sees code
//! where Discord sees a link. So the guarantees hold in the whole text, code included: it contains no
//! `](`, which every masked link needs, and no line with Discord's mark for small text except our own.

use super::{
    hidden::is_hidden,
    split::{self, Fence},
};

/// Stands for the `-` of our own small lines until the text is shown. Agents cannot send it.
pub(super) const OWN_DASH: char = '\u{f8f0}';

/// Removes characters that Discord may drop, and our own mark. Line ends and tabs stay, and so do
/// the joints of emoji.
pub(super) fn plain(text: &str) -> String {
    let is_kept = |c: char| match c {
        '\n' | '\t' => true,
        OWN_DASH => false,
        c if c.is_control() => false,
        _ => true,
    };
    text.chars().filter(|c| is_kept(*c)).collect()
}

/// Returns the name line of an agent, with its line end.
pub(super) fn name_line(agent: &str) -> String {
    format!("-# agent {agent}\n")
}

/// Returns a part of an agent's text as it is shown, without the name line.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut fence: Option<Fence> = None;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches('\n');
        let is_code = match &fence {
            Some(open) if open.closes(content) => {
                fence = None;
                true
            }
            Some(_) => true,
            None => {
                fence = Fence::of_line(content);
                fence.is_some()
            }
        };
        let plain = if is_code { 0 } else { line.find('`').unwrap_or(line.len()) };
        let line = with_targets(&line[..plain]) + &line[plain..];
        shown.push_str(&without_small_text(&line, is_code));
    }
    without_masked_links(&shown).replace(OWN_DASH, "-")
}

/// Breaks the mark for small text at the beginning of a line, also in quotations and lists.
fn without_small_text(line: &str, is_code: bool) -> String {
    let is_before = |c: char| {
        c.is_whitespace()
            || is_hidden(c)
            || c.is_ascii_digit()
            || matches!(c, '>' | '-' | '*' | '+' | '.' | '#' | '|' | '_' | '~')
    };
    let begin = line.find(|c| !is_before(c)).unwrap_or(line.len());
    let (before, rest) = line.split_at(begin);
    format!("{}{rest}", before.replace("-#", if is_code { "- #" } else { "\\-#" }))
}

/// Writes `[words](target)` as `words (target)`.
fn with_targets(line: &str) -> String {
    let mut line = line.to_owned();
    while let Some(end) = line.find("](") {
        let Some(begin) = line[..end].rfind(['[', ']']).filter(|at| line.as_bytes()[*at] == b'[') else {
            break;
        };
        if line[..begin].ends_with('\\') {
            break;
        }
        line = format!("{}{} {}", &line[..begin], &line[begin + 1..end], &line[end + 1..]);
    }
    line
}

/// Separates each `]` from a `(` after it.
fn without_masked_links(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(']') {
        shown.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        let visible = rest.trim_start_matches(|c| is_hidden(c) && c != '\n');
        if visible.starts_with('(') {
            shown.push(' ');
            rest = visible;
        }
    }
    shown + rest
}

/// Takes one message off the front of an agent's text that is longer than `limit` UTF-16 units as it
/// is shown: see [`split::take_message`].
pub(super) fn take_message(text: &str, limit: usize) -> Option<(String, String)> {
    let excess = |part: &str| split::utf16_len(&shown(part)).saturating_sub(limit);
    let mut raw_limit = limit;
    loop {
        let part = split::take_message(text, raw_limit);
        let too_long = match &part {
            Some((head, _)) => excess(head),
            None => excess(&split::with_closed_fence(text)),
        };
        if too_long == 0 {
            return part;
        }
        raw_limit = raw_limit.min(split::utf16_len(text)).saturating_sub(too_long).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_link_shows_its_target() {
        for (text, expected) in [
            ("[Sign in](https://evil.example) now", "Sign in (https://evil.example) now"),
            ("[Sign in](<https://evil.example>)", "Sign in (<https://evil.example>)"),
            ("[a](b) and [c](d \"title\")", "a (b) and c (d \"title\")"),
            ("[[a](b)](c)", "a (b) (c)"),
            ("![alt](x)", "!alt (x)"),
            ("\\[a\\](b)", "\\[a\\] (b)"),
            ("[a](b) `x[0](c)`", "a (b) `x[0] (c)`"),
            ("](x) [", "] (x) ["),
            ("a[0] (b) [1]", "a[0] (b) [1]"),
            ("<https://example.org> https://example.org", "<https://example.org> https://example.org"),
            ("[words][1]\n[1]: https://evil.example", "[words][1]\n[1]: https://evil.example"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn no_text_contains_a_masked_link_or_a_small_line_as_discord_reads_them() {
        let parts = [
            "[",
            "]",
            "(",
            ")",
            "](",
            "`",
            "```",
            "\n",
            "x",
            "-#",
            "-# agent codex",
            "> ",
            "- ",
            "\u{200b}",
            "\r",
            "\\",
            "https://e.example/",
            "<a:/",
            " ",
            "**",
            "~~~",
            "\u{f8f0}",
            "1.",
            "||",
        ];
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % n as u64).expect("small")
        };
        for _ in 0..20_000 {
            let text: String = (0..random(14)).map(|_| parts[random(parts.len())]).collect();
            let shown = shown(&plain(&text));
            let without_hidden: String = shown.chars().filter(|c| *c == '\n' || !is_hidden(*c)).collect();
            assert!(!without_hidden.contains("]("), "{text:?}: {shown:?}");
            for line in shown.lines() {
                let quoted = line.trim_start_matches(|c: char| "> *+.|_~1".contains(c) || is_hidden(c));
                let listed = quoted.trim_start_matches("- ");
                assert!(!quoted.starts_with("-#") && !listed.starts_with("-#"), "{text:?}: {shown:?}");
            }
        }
    }

    #[test]
    fn code_without_links_stays_as_it_is_and_our_own_small_lines_stay_small() {
        let text = "See `a-#b`:\n```c\nint x = a[0];\n#define X -#1\n```\n\u{f8f0}# ⚙ read\n";
        assert_eq!(shown(text), "See `a-#b`:\n```c\nint x = a[0];\n#define X -#1\n```\n-# ⚙ read\n");
        assert_eq!(shown("```\nf[0](x)\n-# y\n```"), "```\nf[0] (x)\n- # y\n```");
        assert_eq!(plain("a\u{f8f0}\r\u{1b}[1m\tb\n👩\u{200d}👧"), "a[1m\tb\n👩\u{200d}👧");
    }

    #[test]
    fn a_message_is_within_its_limit_as_it_is_shown() {
        for unit in ["](", "-#\n", "[a](b) ", "word "] {
            let mut rest = unit.repeat(2000);
            let mut parts = 0;
            while let Some((head, tail)) = take_message(&rest, 500) {
                assert!(split::utf16_len(&shown(&head)) <= 500, "{unit:?}");
                assert!(tail.len() < rest.len(), "{unit:?}");
                rest = tail;
                parts += 1;
            }
            assert!(parts > 3 && split::utf16_len(&shown(&rest)) <= 500, "{unit:?}");
        }
    }
}
