//! Removes live tokens and capabilities from texts.
//!
//! A text is split into words of token characters (RFC 6750 §2.1, `b64token`). A word, or a part of
//! one between `=`, `/`, `.`, `+` and `~`, is replaced if its fingerprint is live.

use std::{fmt, ops::Range, sync::Arc};

use crate::secret::Fingerprint;

/// The text that replaces a secret.
const REPLACEMENT: &str = "[secret removed]";
/// The shortest token in characters.
const MIN_TOKEN: usize = 16;
/// The number of joints up to which all stretches of a word's parts are checked. A word with more
/// joints is checked as a whole and in stretches of at most [`MAX_SPAN`] parts. So the time stays
/// proportional to the length of the word.
const MAX_JOINTS: usize = 16;
/// A signed token (RFC 7519 §3) has three parts, an encrypted one five; base64 padding adds two.
const MAX_SPAN: usize = 6;
/// The length in bytes up to which an incomplete word is held back.
const MAX_HELD: usize = 64 * 1024;

/// Removes the secrets whose fingerprints are live.
#[derive(Clone)]
pub struct Scrubber(Arc<dyn Fn(&Fingerprint) -> bool + Send + Sync>);

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrubber(…)")
    }
}

impl Scrubber {
    /// Creates a scrubber. `is_live` returns whether a fingerprint belongs to a token or capability
    /// that works now. It is called often and must not block.
    pub fn new(is_live: impl Fn(&Fingerprint) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_live))
    }

    /// Returns the text without live secrets.
    pub fn clean(&self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(is_token_char) {
            let len = rest[start..].find(|c| !is_token_char(c)).unwrap_or(rest.len() - start);
            clean.push_str(&rest[..start]);
            self.clean_word(&rest[start..start + len], &mut clean);
            rest = &rest[start + len..];
        }
        clean.push_str(rest);
        clean
    }

    fn clean_word(&self, word: &str, into: &mut String) {
        let hit = candidates(word).into_iter().find(|part| (self.0)(&Fingerprint::of(&word[part.clone()])));
        match hit {
            Some(part) => {
                into.push_str(&word[..part.start]);
                into.push_str(REPLACEMENT);
                self.clean_word(&word[part.end..], into);
            }
            None => into.push_str(word),
        }
    }
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '/' | '=')
}

/// Returns the parts of a word that could be a token, the longest first.
fn candidates(word: &str) -> Vec<Range<usize>> {
    if word.len() < MIN_TOKEN {
        return Vec::new();
    }
    let joints: Vec<usize> =
        word.bytes().enumerate().filter(|(_, b)| b"=/.+~".contains(b)).map(|(at, _)| at).collect();
    let span = if joints.len() <= MAX_JOINTS { MAX_JOINTS } else { MAX_SPAN };
    let mut parts: Vec<Range<usize>> = std::iter::once(0..word.len()).collect();
    for (first, start) in std::iter::once(0).chain(joints.iter().map(|at| at + 1)).enumerate() {
        // A token can end before a joint (a full stop after it), after a joint (base64 padding), or
        // at the end of the word.
        let following = joints.iter().skip(first).take(span + 1);
        for end in following
            .flat_map(|at| [*at, at + 1])
            .chain([word.len()].into_iter().filter(|_| first + span >= joints.len()))
        {
            if end >= start + MIN_TOKEN {
                parts.push(start..end);
            }
        }
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.dedup();
    parts
}

/// Scrubs a text that arrives in pieces. A word is held back until it is whole, so that no piece of
/// a secret becomes visible.
#[derive(Debug)]
pub(super) struct Stream {
    scrubber: Scrubber,
    held: String,
}

impl Stream {
    pub(super) fn new(scrubber: Scrubber) -> Self {
        Self { scrubber, held: String::new() }
    }

    /// Scrubs a whole text that is not part of the stream.
    pub(super) fn clean(&self, text: &str) -> String {
        self.scrubber.clean(text)
    }

    /// Adds a piece. Returns the text that is safe to show.
    pub(super) fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        let word = self
            .held
            .rfind(|c| !is_token_char(c))
            .map_or(0, |at| at + self.held[at..].chars().next().map_or(0, char::len_utf8));
        if self.held.len() - word > MAX_HELD {
            return self.finish();
        }
        let rest = self.held.split_off(word);
        let whole = std::mem::replace(&mut self.held, rest);
        self.scrubber.clean(&whole)
    }

    /// Ends the stream. Returns the incomplete last word.
    pub(super) fn finish(&mut self) -> String {
        self.scrubber.clean(&std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLWFsaWNl";
    const OPAQUE: &str = "Zx81-spectrum_plus~48k/ram+rom==";

    fn scrubber() -> Scrubber {
        let live = [Fingerprint::of(JWT), Fingerprint::of(OPAQUE)];
        Scrubber::new(move |fingerprint| live.contains(fingerprint))
    }

    #[test]
    fn a_live_token_is_removed_from_any_surroundings() {
        for (around, clean) in [
            ("the token is {}.", "the token is [secret removed]."),
            ("`{}`", "`[secret removed]`"),
            ("Authorization: Bearer {}\n", "Authorization: Bearer [secret removed]\n"),
            (
                "https://x.example/?access_token={}&a=b",
                "https://x.example/?access_token=[secret removed]&a=b",
            ),
            ("path/{}/tail", "path/[secret removed]/tail"),
            ("{} {}", "[secret removed] [secret removed]"),
        ] {
            for token in [JWT, OPAQUE] {
                assert_eq!(scrubber().clean(&around.replace("{}", token)), clean);
            }
        }
    }

    #[test]
    fn a_text_without_live_secrets_stays_unchanged() {
        let text =
            "See https://example.org/a/b/c.d/e?f=g and sha256=0123456789abcdef0123456789abcdef — ünïcode 🙂";
        assert_eq!(scrubber().clean(text), text);
        assert_eq!(scrubber().clean(&JWT[..40]), JWT[..40]);
    }

    #[test]
    fn a_token_in_pieces_never_shows_a_piece() {
        let text = format!("before {JWT} after");
        for size in 1..20 {
            let mut stream = Stream::new(scrubber());
            let mut shown = String::new();
            for piece in text.as_bytes().chunks(size) {
                shown.push_str(&stream.push(std::str::from_utf8(piece).expect("ASCII")));
                assert!(!shown.contains("eyJ"), "{shown}");
            }
            shown.push_str(&stream.finish());
            assert_eq!(shown, "before [secret removed] after");
        }
    }

    #[test]
    fn a_token_at_the_end_of_a_very_long_word_is_removed() {
        let long = "a/".repeat(5000);
        assert_eq!(scrubber().clean(&format!("{long}{JWT}")), format!("{long}[secret removed]"));
    }
}
