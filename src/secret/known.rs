//! The secrets that this process knows, and the search for them in a text.
//!
//! A secret is compared as it stands, whatever its characters and its length. The search also
//! recognises it with percent-encoded characters, with the escapes of JSON, Markdown and shells,
//! with invisible characters in between, and within base64.
//!
//! The secrets stay in sorted order in memory that is zeroed. A bit for each pair of bytes rejects
//! most positions of a text at once, so the search costs a few nanoseconds per byte.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    ops::{Bound, Range},
    sync::Arc,
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

/// The number of secrets that are remembered beside the pinned ones: three for each session of a
/// full store, several times over.
pub(super) const MAX_KNOWN: usize = 16_384;
/// How many of them count as the newest ones. A secret that is noted again is then still one of the last
/// to be forgotten, so it keeps its place in the order.
const NEWEST: u64 = 256;
/// The bytes that all of them may have.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// A shorter text is not a secret: it can be guessed, and each text would lose its letters.
const MIN_SECRET: usize = 4;
/// The shortest word that is searched for a secret in base64, and the shortest such secret.
const MIN_BASE64: usize = 16;
const MIN_IN_BASE64: usize = 8;

/// The bytes of one secret.
type Bytes = Arc<Zeroizing<Vec<u8>>>;

/// See the module.
#[derive(Default)]
pub(super) struct KnownSecrets {
    all: BTreeMap<Key, Use>,
    /// The secrets with a place in the order of noting, the oldest first.
    order: BTreeMap<u64, Key>,
    next: u64,
    bytes: usize,
    pairs: Pairs,
}

/// A secret as a key of the map.
#[derive(Clone, PartialEq, Eq)]
struct Key(Bytes);

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_slice().cmp(other.0.as_slice())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The reasons why a secret is remembered.
#[derive(Default)]
struct Use {
    pins: usize,
    place: Option<u64>,
}

/// The pairs of bytes with which a secret begins. A pair of a forgotten secret may stay.
struct Pairs(Box<[u64; 1024]>);

impl Default for Pairs {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl Pairs {
    fn add(&mut self, secret: &[u8]) {
        if let [first, second, ..] = secret {
            self.set(*first, *second);
        }
    }

    fn set(&mut self, first: u8, second: u8) {
        let at = usize::from(first) << 8 | usize::from(second);
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn has(&self, first: u8, second: u8) -> bool {
        let at = usize::from(first) << 8 | usize::from(second);
        self.0[at / 64] & 1 << (at % 64) != 0
    }
}

/// The comparison of a secret with a position of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Differs,
    /// The text ends within the secret.
    Begins,
    /// The secret ends before this position.
    Ends(usize),
}

impl KnownSecrets {
    /// Remembers a secret among the newest ones.
    pub(super) fn note(&mut self, secret: &str) {
        let Some(key) = self.insert(secret) else { return };
        let place = self.next;
        self.next += 1;
        let known = self.all.entry(key.clone()).or_default();
        if let Some(old) = known.place.replace(place) {
            self.order.remove(&old);
        }
        self.order.insert(place, key);
        while self.order.len() > MAX_KNOWN || self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            if let Some(known) = self.all.get_mut(&oldest) {
                known.place = None;
            }
            self.forget_unused(&oldest.0);
        }
    }

    /// Whether a secret has been noted lately.
    pub(super) fn is_among_the_newest(&self, secret: &str) -> bool {
        let place = self.all.get(secret.as_bytes()).and_then(|known| known.place);
        place.is_some_and(|place| self.next - place <= NEWEST)
    }

    /// Remembers a secret until it is unpinned.
    pub(super) fn pin(&mut self, secret: &str) -> Option<Bytes> {
        let key = self.insert(secret)?;
        self.all.entry(key.clone()).or_default().pins += 1;
        Some(key.0)
    }

    /// Undoes one [`KnownSecrets::pin`].
    pub(super) fn unpin(&mut self, secret: &Bytes) {
        if let Some(known) = self.all.get_mut(secret.as_slice()) {
            known.pins = known.pins.saturating_sub(1);
        }
        self.forget_unused(secret);
    }

    /// Returns the key of a secret, which is new or the same as before.
    fn insert(&mut self, secret: &str) -> Option<Key> {
        let secret = secret.as_bytes();
        if secret.len() < MIN_SECRET {
            return None;
        }
        if let Some((key, _)) = self.all.get_key_value(secret) {
            return Some(key.clone());
        }
        let key = Key(Arc::new(Zeroizing::new(secret.to_vec())));
        self.pairs.add(secret);
        self.bytes += secret.len();
        self.all.insert(key.clone(), Use::default());
        Some(key)
    }

    fn forget_unused(&mut self, secret: &Bytes) {
        let is_unused = |known: &Use| known.pins == 0 && known.place.is_none();
        if self.all.get(secret.as_slice()).is_some_and(is_unused) {
            self.all.remove(secret.as_slice());
            self.bytes -= secret.len();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the parts of a text that are secrets, in order. They neither touch nor overlap.
    pub(super) fn find(&self, text: &str) -> Vec<Range<usize>> {
        let bytes = text.as_bytes();
        let mut found: Vec<Range<usize>> = Vec::new();
        for at in 0..bytes.len() {
            if let Some(end) = self.longest_at(bytes, at) {
                found.push(at..end);
            }
        }
        found.extend(self.in_base64(bytes));
        found.sort_by_key(|part| part.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for part in found {
            match merged.last_mut() {
                Some(last) if part.start < last.end => last.end = last.end.max(part.end),
                _ => merged.push(part),
            }
        }
        // An end within a character can come from an escape that was cut.
        for part in &mut merged {
            while !text.is_char_boundary(part.end) {
                part.end += 1;
            }
        }
        merged
    }

    /// Returns the first position at which the text may end in the beginning of a secret.
    pub(super) fn unfinished(&self, text: &str) -> Option<usize> {
        let bytes = text.as_bytes();
        let begins = |at: usize, secret: &[u8]| compare(secret, bytes, at) == Comparison::Begins;
        (0..bytes.len()).filter(|at| text.is_char_boundary(*at)).find(|&at| {
            self.windows(bytes, at).any(|window| {
                let is_known = window.len < 2 || self.pairs.has(window.bytes[0], window.bytes[1]);
                is_known && self.beginning_with(window.as_slice()).any(|secret| begins(at, secret))
            })
        })
    }

    /// Returns the end of the longest secret that begins at this position.
    fn longest_at(&self, text: &[u8], at: usize) -> Option<usize> {
        let may_begin = match text.get(at + 1) {
            Some(next) => is_odd(text[at]) || is_odd(*next) || self.pairs.has(text[at], *next),
            None => true,
        };
        if !may_begin {
            return None;
        }
        let ends = self.windows(text, at).filter_map(|window| {
            let bytes = window.as_slice();
            let whole = window.is_whole().then(|| self.beginning_with(bytes));
            let ends = whole.into_iter().flatten().filter_map(|secret| match compare(secret, text, at) {
                Comparison::Ends(end) => Some(end),
                Comparison::Differs | Comparison::Begins => None,
            });
            ends.max()
        });
        ends.max()
    }

    /// Returns the first bytes of the text from a position: as they stand, and as the comparison
    /// reads them, if that differs.
    fn windows(&self, text: &[u8], at: usize) -> impl Iterator<Item = Window> + use<> {
        let plain = Window::plain(text, at);
        let may_differ = plain.as_slice().iter().any(|byte| is_odd(*byte));
        let read = may_differ.then(|| Window::read(text, at)).filter(|read| *read != plain);
        std::iter::once(plain).chain(read)
    }

    /// Returns the secrets that begin with these bytes.
    fn beginning_with<'a>(&'a self, beginning: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let from = (Bound::Included(beginning), Bound::Unbounded);
        let secrets = self.all.range::<[u8], _>(from).map(|(key, _)| key.0.as_slice());
        secrets.take_while(move |secret| secret.starts_with(beginning))
    }

    /// Returns the words of base64 in which a secret stands.
    fn in_base64(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let len = text[at..].iter().take_while(|byte| is_base64(**byte)).count();
            if len >= MIN_BASE64 && self.is_in_word(&text[at..at + len]) {
                found.push(at..at + len);
            }
            at += len.max(1);
        }
        found
    }

    fn is_in_word(&self, word: &[u8]) -> bool {
        let word: Zeroizing<Vec<u8>> = Zeroizing::new(word.iter().map(|byte| standard(*byte)).collect());
        (0..4).any(|skipped| {
            let rest = &word[skipped.min(word.len())..];
            // One character alone is not a group.
            let rest = &rest[..rest.len() - usize::from(rest.len() % 4 == 1)];
            let Ok(decoded) = LENIENT.decode(rest).map(Zeroizing::new) else { return false };
            (0..decoded.len()).any(|at| {
                let Some(window) = decoded.get(at..at + MIN_SECRET) else { return false };
                self.pairs.has(window[0], window[1])
                    && self
                        .beginning_with(window)
                        .any(|secret| secret.len() >= MIN_IN_BASE64 && decoded[at..].starts_with(secret))
            })
        })
    }
}

/// Decodes a part of a base64 text, which may end anywhere.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// Both alphabets (RFC 4648 §4 and §5) as the first one.
fn standard(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

/// Whether a byte may begin an escape or an invisible character.
fn is_odd(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | 0xC2 | 0xE2 | 0xEF)
}

/// The first bytes of a text from a position, at most [`MIN_SECRET`].
#[derive(Clone, Copy, PartialEq, Eq)]
struct Window {
    bytes: [u8; MIN_SECRET],
    len: usize,
}

impl Window {
    fn plain(text: &[u8], at: usize) -> Self {
        let mut window = Self { bytes: [0; MIN_SECRET], len: 0 };
        text[at..].iter().take(MIN_SECRET).for_each(|byte| window.push(*byte));
        window
    }

    fn read(text: &[u8], mut at: usize) -> Self {
        let mut window = Self { bytes: [0; MIN_SECRET], len: 0 };
        while !window.is_whole()
            && let Some((byte, len)) = character(text, at)
        {
            window.push(byte);
            at += len;
            at += invisible(&text[at..]);
        }
        window
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn is_whole(&self) -> bool {
        self.len == MIN_SECRET
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Compares a secret with the text from a position: as it stands, or else with escapes.
fn compare(secret: &[u8], text: &[u8], at: usize) -> Comparison {
    let rest = &text[at..];
    if rest.starts_with(secret) {
        return Comparison::Ends(at + secret.len());
    }
    let mut at = at;
    for expected in secret {
        match character(text, at) {
            Some((byte, len)) if byte == *expected => at += len,
            Some(_) if text[at] == *expected => at += 1,
            Some(_) => {
                return if secret.starts_with(rest) { Comparison::Begins } else { Comparison::Differs };
            }
            None => return Comparison::Begins,
        }
        if text.get(at).is_some_and(|byte| is_odd(*byte)) {
            at += invisible(&text[at..]);
        }
    }
    Comparison::Ends(at)
}

/// Reads one byte of a text, which may be escaped. Returns it with the length of its form; `None` at
/// the end of the text, also within an escape.
fn character(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = text.get(at..)?;
    let (digits, len) = match rest {
        [] | [b'\\'] | [b'%'] => return None,
        [b'%', digits @ ..] => (digits, 2),
        [b'\\', b'u', b'0', b'0', digits @ ..] => (digits, 2),
        [b'\\', b'u'] | [b'\\', b'u', b'0'] => return None,
        [b'\\', b'x', digits @ ..] => (digits, 2),
        [b'\\', next, ..] if next.is_ascii_punctuation() || *next == b' ' => return Some((*next, 2)),
        [byte, ..] => return Some((*byte, 1)),
    };
    let prefix = rest.len() - digits.len();
    let hex = |byte: &u8| char::from(*byte).to_digit(16);
    let known = digits.iter().take(len).map(hex);
    match known.collect::<Option<Vec<u32>>>() {
        Some(known) if known.len() == len => {
            Some((u8::try_from(known[0] * 16 + known[1]).unwrap_or_default(), prefix + len))
        }
        Some(_) => None,
        None => Some((rest[0], 1)),
    }
}

/// Returns the length of the characters without a width at the beginning.
fn invisible(text: &[u8]) -> usize {
    let mut len = 0;
    loop {
        len += match &text[len..] {
            [0xE2, 0x80, 0x8B..=0x8F, ..] | [0xE2, 0x81, 0xA0, ..] | [0xEF, 0xBB, 0xBF, ..] => 3,
            [0xC2, 0xAD, ..] => 2,
            _ => return len,
        };
    }
}
