//! Splits long Markdown into messages, at line ends or spaces if possible, and never inside an
//! emoji. A code fence stays whole: it is closed at the end of one message and opened again in the
//! next.

/// Counts a text in UTF-16 units, as Discord does.
pub(super) fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// An open code fence (CommonMark §4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    /// The backticks or tildes that open and close the fence.
    pub(super) marker: String,
    /// The info string after the marker, which names the language.
    pub(super) info: String,
}

impl Fence {
    /// Returns the line that opens the fence again.
    pub(super) fn opening(&self) -> String {
        format!("{}{}\n", self.marker, self.info)
    }

    pub(super) fn of_line(line: &str) -> Option<Self> {
        let trimmed = line.trim_start_matches(' ');
        let first = trimmed.chars().next().filter(|c| matches!(c, '`' | '~'))?;
        let run = trimmed.chars().take_while(|c| *c == first).count();
        let info = &trimmed[run..];
        let fits = line.len() - trimmed.len() <= 3 && run >= 3 && !(first == '`' && info.contains('`'));
        fits.then(|| Self { marker: trimmed[..run.min(16)].to_owned(), info: info.trim().to_owned() })
    }

    pub(super) fn closes(&self, line: &str) -> bool {
        Self::of_line(line)
            .is_some_and(|other| other.info.is_empty() && other.marker.starts_with(&self.marker))
    }
}

/// Returns the fence that is open at the end of `text`, and the position of its opening line.
pub(super) fn open_fence(text: &str) -> Option<(Fence, usize)> {
    let mut open: Option<(Fence, usize)> = None;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches(['\n', '\r']);
        match &open {
            Some((fence, _)) if fence.closes(content) => open = None,
            Some(_) => {}
            None => open = Fence::of_line(content).map(|fence| (fence, start)),
        }
        start += line.len();
    }
    open
}

/// Returns `text` with its open fence closed.
pub(super) fn with_closed_fence(text: &str) -> String {
    match open_fence(text) {
        Some((fence, _)) if text.ends_with('\n') => format!("{text}{}", fence.marker),
        Some((fence, _)) => format!("{text}\n{}", fence.marker),
        None => text.to_owned(),
    }
}

/// The longest info string that is repeated when a fence is opened again, in UTF-16 units.
const MAX_INFO: usize = 30;

/// Takes one message off the front of a text that is longer than `limit` UTF-16 units. Returns
/// `None` when the text fits with its fence closed. The head is at most `limit` long. If it closes
/// an open fence, the rest opens that fence again.
pub(super) fn take_message(text: &str, limit: usize) -> Option<(String, String)> {
    if utf16_len(&with_closed_fence(text)) <= limit {
        return None;
    }
    // The message must have room for a closing fence: a line end and at most 16 marks.
    let window = prefix_len(text, limit.saturating_sub(17));
    let at = break_point(text, window);
    let (head, rest) = (&text[..at], text[at..].strip_prefix('\n').unwrap_or(&text[at..]));
    let rest = match open_fence(head) {
        Some((mut fence, _)) => {
            if utf16_len(&fence.info) > MAX_INFO {
                fence.info.clear();
            }
            format!("{}{rest}", fence.opening())
        }
        None => rest.to_owned(),
    };
    Some((with_closed_fence(head.trim_end()), rest))
}

/// Splits a whole text.
#[cfg(test)]
fn split(text: &str, limit: usize) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = text.to_owned();
    while let Some((head, tail)) = take_message(&rest, limit) {
        parts.push(head);
        rest = tail;
    }
    parts.push(with_closed_fence(&rest));
    parts
}

/// Returns the length in bytes of the longest beginning with at most `limit` UTF-16 units.
fn prefix_len(text: &str, limit: usize) -> usize {
    let mut units = 0;
    for (at, c) in text.char_indices() {
        units += c.len_utf16();
        if units > limit {
            return at;
        }
    }
    text.len()
}

/// Returns the position of the break within the first `window` bytes.
fn break_point(text: &str, window: usize) -> usize {
    let head = &text[..window];
    let late = |at: usize| at * 2 > window;
    let at = match (head.rfind('\n').filter(|at| late(*at)), head.rfind(' ').filter(|at| late(*at))) {
        (Some(line), _) => line,
        (None, Some(space)) => space + 1,
        (None, None) => whole_character(text, window),
    };
    // A fence that opens at the very end would be an empty block, so it moves to the next message.
    match open_fence(&text[..at]) {
        Some((_, start)) if start > 0 && !text[start..at].trim_end().contains('\n') => start,
        _ => at,
    }
}

/// Moves a position back until it is not inside a combined character.
fn whole_character(text: &str, at: usize) -> usize {
    let joins = |c: char| matches!(c, '\u{200d}' | '\u{fe0e}' | '\u{fe0f}' | '\u{300}'..='\u{36f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{20e3}');
    let flag = |c: char| matches!(c, '\u{1f1e6}'..='\u{1f1ff}');
    let mut place = at;
    for _ in 0..32 {
        let next = text[place..].chars().next();
        let mut before = text[..place].chars().rev();
        let last = before.next();
        let odd_flag = last.is_some_and(flag)
            && next.is_some_and(flag)
            && text[..place].chars().rev().take_while(|c| flag(*c)).count() % 2 == 1;
        if !(next.is_some_and(joins) || last == Some('\u{200d}') || odd_flag) {
            return place;
        }
        match last {
            Some(c) if place > c.len_utf8() => place -= c.len_utf8(),
            _ => return at,
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_stays_whole() {
        assert_eq!(split("hello", 2000), ["hello"]);
        assert_eq!(split(&"🙂".repeat(1000), 2000).len(), 1);
        assert_eq!(take_message("", 2000), None);
    }

    #[test]
    fn a_long_text_is_split_at_line_ends_by_its_length_in_utf16_units() {
        let parts = split(&"🙂".repeat(1001), 2000);
        assert_eq!(parts.len(), 2);
        assert!(parts.iter().all(|part| utf16_len(part) <= 2000));
        let lines = "word word word\n".repeat(300);
        for part in split(&lines, 2000) {
            assert!(utf16_len(&part) <= 2000);
            assert!(part.is_empty() || part.trim_end().ends_with("word word word"), "{part:?}");
        }
    }

    #[test]
    fn a_split_fence_is_closed_and_opened_again_with_its_language() {
        let text = format!("Look:\n```rust\n{}```\nDone.", "let a = 1;\n".repeat(400));
        let parts = split(&text, 2000);
        assert!(parts.len() > 2);
        for part in &parts {
            assert!(utf16_len(part) <= 2000);
            assert_eq!(open_fence(part), None, "{part}");
        }
        assert!(parts[0].ends_with("let a = 1;\n```"));
        assert!(parts[1].starts_with("```rust\nlet a = 1;"));
        assert!(parts.last().expect("one").ends_with("Done."));
        let code: usize = parts.iter().map(|part| part.matches("let a = 1;").count()).sum();
        assert_eq!(code, 400);
    }

    #[test]
    fn a_fence_that_opens_at_the_very_end_moves_to_the_next_message() {
        let text = format!("{}\n```text\n{}\n```", "a ".repeat(985), "b ".repeat(200));
        let parts = split(&text, 2000);
        assert!(!parts[0].contains("```"), "{}", parts[0]);
        assert!(parts[1].starts_with("```text\nb "));
    }

    #[test]
    fn no_emoji_is_split() {
        let family = "👩\u{200d}👩\u{200d}👧";
        for pad in 0..12 {
            let text = format!("{}{}", "x".repeat(pad), family.repeat(300));
            for part in split(&text, 200) {
                assert!(!part.starts_with('\u{200d}') && !part.ends_with('\u{200d}'));
            }
        }
        let flags = "🇩🇪".repeat(100);
        for part in split(&flags, 60) {
            assert_eq!(part.chars().count() % 2, 0);
        }
    }

    #[test]
    fn splitting_any_text_loses_nothing_and_keeps_the_limit() {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % n as u64).expect("small")
        };
        let words = ["a", "longer ", "\n", "🙂", "é", "```\n", "```rust\n", "~~~\n", "    ", &"w".repeat(60)];
        for round in 0..200 {
            let text: String = (0..random(400)).map(|_| words[random(words.len())]).collect();
            let parts = split(&text, 120);
            for part in &parts {
                assert!(utf16_len(part) <= 120, "round {round}: {part:?}");
            }
            let letters = |t: &str| t.chars().filter(|c| matches!(c, 'w' | 'é' | '🙂')).count();
            assert_eq!(parts.iter().map(|p| letters(p)).sum::<usize>(), letters(&text), "round {round}");
        }
    }
}
