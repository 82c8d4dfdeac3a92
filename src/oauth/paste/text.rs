//! The visible characters of a pasted text, without the marks that programs put into it.
//!
//! A paste passes through terminals, chat programs, mail and shells. Each of them breaks lines,
//! quotes, or escapes. This module undoes whatever can be undone without knowing the meaning of the
//! text. Blanks and line breaks are no characters here: they are gaps before a character, so that a
//! search finds a word across a line break, and a value can still end at one.

use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::super::grant::is_invisible;

/// Stands for each mark that occurs in no address: punctuation outside of ASCII, or an escape.
pub(super) const OTHER: u8 = 0;

/// Stands for each letter outside of ASCII.
pub(super) const LETTER: u8 = 1;

/// How often a text can be encoded on top of itself.
pub(super) const MAX_ENCODINGS: usize = 3;

/// The longest name of an HTML entity with its `;`, in bytes.
const MAX_ENTITY: usize = 9;

/// The white space before a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    None,
    Blank,
    Line,
}

/// Visible ASCII characters, [`OTHER`] and [`LETTER`], each with the gap before it.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) gaps: Vec<Gap>,
    /// The white space since the last character.
    pending: Gap,
    /// How many of the last characters are borders of a box.
    borders: usize,
}

impl Text {
    /// Reads a pasted text.
    pub(super) fn new(pasted: &str) -> Self {
        let mut text = Self::empty(pasted.len());
        let mut rest = pasted.chars().peekable();
        let mut is_first_line = true;
        while let Some(c) = rest.next() {
            match c {
                '\u{1b}' if rest.peek() == Some(&'[') => {
                    // A control sequence (ECMA-48 §5.4): colours, and the ends of a bracketed paste.
                    rest.next();
                    while rest.next_if(|c| matches!(c, ' '..='?')).is_some() {}
                    rest.next_if(|c| matches!(c, '@'..='~'));
                }
                '\u{1b}' => text.push(OTHER),
                '\\' => text.unescape(&mut rest),
                '>' | '|' if text.pending == Gap::Line && !(is_first_line && c == '|') => {}
                '\u{2500}'..='\u{259f}' if text.pending == Gap::Line => {}
                c => text.push_char(c),
            }
            is_first_line &= !matches!(c, '\n' | '\r');
        }
        let mut text = text.without_paste_marks();
        for _ in 0..=MAX_ENCODINGS {
            let Some(plain) = text.without_entities() else { break };
            text = plain;
        }
        text
    }

    fn empty(capacity: usize) -> Self {
        Self {
            // A vector that grows leaves copies of the text in freed memory.
            bytes: Zeroizing::new(Vec::with_capacity(capacity)),
            gaps: Vec::with_capacity(capacity),
            pending: Gap::Line,
            borders: 0,
        }
    }

    fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
        self.gaps.push(self.pending);
        self.pending = Gap::None;
        self.borders = 0;
    }

    fn push_gap(&mut self, gap: Gap) {
        // The right border of a box belongs to the line break.
        let is_bar = |text: &Self| text.bytes.last() == Some(&b'|') && text.gaps.last() == Some(&Gap::Blank);
        while gap == Gap::Line && (self.borders > 0 || is_bar(self)) {
            self.bytes.pop();
            self.gaps.pop();
            self.borders = self.borders.saturating_sub(1);
        }
        self.pending = self.pending.max(gap);
    }

    fn push_char(&mut self, c: char) {
        match c {
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => self.push_gap(Gap::Line),
            c if c.is_whitespace() => self.push_gap(Gap::Blank),
            c if c.is_control() || is_invisible(c) => {}
            '&' | '＆' => {
                // The command prompt of Windows escapes with a caret.
                if self.pending == Gap::None && self.bytes.last() == Some(&b'^') {
                    self.bytes.pop();
                    self.pending = self.gaps.pop().unwrap_or(Gap::Line);
                }
                self.push(b'&');
            }
            '＝' => self.push(b'='),
            '＃' => self.push(b'#'),
            '？' => self.push(b'?'),
            // The hyphens of typesetting programs.
            '\u{2010}' | '\u{2011}' => self.push(b'-'),
            '－' | '．' | '／' | '：' | '＿' | '％' | '０'..='９' | 'Ａ'..='Ｚ' | 'ａ'..='ｚ' => {
                self.push(half_width(c));
            }
            '\u{2500}'..='\u{259f}' => {
                let borders = self.borders;
                self.push(OTHER);
                self.borders = borders + 1;
            }
            c if c.is_ascii_graphic() => self.push(u8::try_from(c).unwrap_or(OTHER)),
            c => self.push(if c.is_alphanumeric() { LETTER } else { OTHER }),
        }
    }

    /// Undoes the escapes of JSON and of programs that print strings. A backslash before any other
    /// character comes from a shell, and an address contains none.
    fn unescape(&mut self, rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
        if rest.next_if(|&c| matches!(c, 'n' | 'r')).is_some() {
            return self.push_gap(Gap::Line);
        }
        if rest.next_if_eq(&'t').is_some() {
            return self.push_gap(Gap::Blank);
        }
        let digits = match rest.peek() {
            Some('u') => 4,
            Some('x') => 2,
            _ => return,
        };
        let ahead: String = rest.clone().skip(1).take(digits).collect();
        let code = u32::from_str_radix(&ahead, 16).ok().filter(|_| ahead.len() == digits);
        if let Some(c) = code.and_then(char::from_u32) {
            rest.nth(digits);
            self.push_char(c);
        }
    }

    /// Removes the marks of a bracketed paste whose escape character was shown or lost.
    fn without_paste_marks(self) -> Self {
        let mut text = self;
        for mark in [&b"^[[200~"[..], b"^[[201~", b"[200~", b"[201~"] {
            while let Some(at) = text.find(mark, 0) {
                text.remove(at, mark.len());
            }
        }
        if let Some(begin) =
            [&b"200~"[..], b"00~", b"0~"].into_iter().find(|begin| text.bytes.starts_with(begin))
        {
            text.remove(0, begin.len());
            let end = [&b"201~"[..], b"01~", b"1~"].into_iter().find(|end| text.bytes.ends_with(end));
            end.into_iter().for_each(|end| text.remove(text.bytes.len() - end.len(), end.len()));
        }
        text
    }

    fn remove(&mut self, at: usize, count: usize) {
        self.bytes.drain(at..at + count);
        self.gaps.drain(at..at + count);
    }

    /// Undoes one HTML escape of each character; returns `None` if there is none.
    fn without_entities(&self) -> Option<Self> {
        self.bytes.contains(&b'&').then_some(())?;
        let mut text = Self::empty(self.bytes.len());
        let (mut at, mut is_changed) = (0, false);
        while at < self.bytes.len() {
            text.pending = text.pending.max(self.gaps[at]);
            let ahead = &self.bytes[at..self.bytes.len().min(at + MAX_ENTITY)];
            let end = ahead.iter().position(|&b| b == b';').filter(|_| ahead[0] == b'&');
            match end.and_then(|end| Some((end, entity(&ahead[1..end])?))) {
                Some((end, c)) => {
                    text.push_char(c);
                    at += end;
                    is_changed = true;
                }
                None => text.push(self.bytes[at]),
            }
            at += 1;
        }
        is_changed.then_some(text)
    }

    /// Undoes one percent-encoding of the whole text; returns `None` if there is none.
    pub(super) fn percent_decoded(&self) -> Option<Self> {
        self.decoded(b'%', |_, _| false)
    }

    /// Undoes quoted-printable (RFC 2045 §6.7), the form of an address in the source of a mail.
    pub(super) fn quoted_printable_decoded(&self) -> Option<Self> {
        self.decoded(b'=', Self::is_soft_line_break)
    }

    /// Undoes the escapes of Proofpoint (`https-3A__id.example`) in the whole text; returns `None` if
    /// there are none.
    pub(super) fn proofpoint_decoded(&self) -> Option<Self> {
        self.find(b"urldefense", 0)?;
        let mut text = self.clone();
        text.bytes.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'/');
        text.decoded(b'-', |_, _| false)
    }

    /// Removes the `=` at the ends of lines.
    pub(super) fn without_soft_line_breaks(&self) -> Self {
        let mut text = Self::empty(self.bytes.len());
        for (at, &byte) in self.bytes.iter().enumerate() {
            text.pending = text.pending.max(self.gaps[at]);
            if byte != b'=' || !self.is_soft_line_break(at) {
                text.push(byte);
            }
        }
        text
    }

    fn is_soft_line_break(&self, at: usize) -> bool {
        self.gap(at + 1) == Gap::Line
    }

    fn decoded(&self, escape: u8, is_dropped: impl Fn(&Self, usize) -> bool) -> Option<Self> {
        let mut text = Self::empty(self.bytes.len());
        let (mut at, mut is_changed) = (0, false);
        while at < self.bytes.len() {
            text.pending = text.pending.max(self.gaps[at]);
            let is_dropped = self.bytes[at] == escape && is_dropped(self, at);
            let escaped = escaped(&self.bytes[at..], escape).filter(|_| !is_dropped);
            match escaped {
                Some(byte) => {
                    text.push_char(if byte.is_ascii() { char::from(byte) } else { '\u{fffd}' });
                    at += 2;
                }
                None if is_dropped => {}
                None => text.push(self.bytes[at]),
            }
            is_changed |= escaped.is_some();
            at += 1;
        }
        is_changed.then_some(text)
    }

    /// Returns the first place of `wanted` from `from` on. Gaps are no part of it.
    pub(super) fn find(&self, wanted: &[u8], from: usize) -> Option<usize> {
        let rest = self.bytes.get(from..).filter(|_| !wanted.is_empty())?;
        rest.windows(wanted.len()).position(|found| found == wanted).map(|at| from + at)
    }

    /// Whether `wanted` stands at this place, in letters of either case.
    pub(super) fn has(&self, at: usize, wanted: &str) -> bool {
        self.bytes
            .get(at..at + wanted.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(wanted.as_bytes()))
    }

    /// Whether `http://` or `https://` stands at this place.
    pub(super) fn has_scheme(&self, at: usize) -> bool {
        self.has(at, "http://") || self.has(at, "https://")
    }

    /// Returns the gap before a place. The end of the text is the end of a line.
    pub(super) fn gap(&self, at: usize) -> Gap {
        self.gaps.get(at).copied().unwrap_or(Gap::Line)
    }
}

/// Returns a pasted text without the numbers of its lines; `None` if its lines are not numbered.
pub(super) fn without_line_numbers(pasted: &str) -> Option<Zeroizing<String>> {
    let mut next: Option<u64> = None;
    let mut plain = Zeroizing::new(String::with_capacity(pasted.len()));
    let lines = pasted.lines().map(str::trim_start).filter(|line| !line.is_empty());
    for (count, line) in lines.enumerate() {
        let end = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(line.len());
        let number: u64 = line[..end].parse().ok()?;
        let rest = &line[end..];
        if next.is_some_and(|next| next != number) || (count == 0 && rest.trim().is_empty()) {
            return None;
        }
        plain.push_str(rest.is_empty().then_some("").or_else(|| without_mark(rest))?);
        plain.push('\n');
        next = number.checked_add(1);
    }
    next.is_some().then_some(plain)
}

/// Returns a pasted text without the marks at the beginnings of its lines: a bullet, a comment sign,
/// a number. `None` if it has none.
pub(super) fn without_line_marks(pasted: &str) -> Option<Zeroizing<String>> {
    let mut plain = Zeroizing::new(String::with_capacity(pasted.len()));
    for line in pasted.lines() {
        let line = line.trim_start();
        let number = line.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        plain.push_str(without_mark(&line[number..]).unwrap_or(line));
        plain.push('\n');
    }
    (plain.trim() != pasted.trim()).then_some(plain)
}

/// Returns the rest of a line after punctuation and white space; `None` if it begins otherwise.
fn without_mark(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches(|c: char| !c.is_alphanumeric() && !c.is_whitespace());
    rest.starts_with(char::is_whitespace).then(|| rest.trim_start())
}

/// Returns the ASCII form of a full-width character, as East Asian input methods write it.
fn half_width(c: char) -> u8 {
    const DISTANCE: u32 = '！' as u32 - '!' as u32;
    u8::try_from((c as u32).wrapping_sub(DISTANCE)).unwrap_or(OTHER)
}

/// Returns the byte of an escape such as `%2F` at the beginning.
fn escaped(bytes: &[u8], escape: u8) -> Option<u8> {
    let &[first, high, low, ..] = bytes else { return None };
    let digit = |byte| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    (first == escape).then_some(())?;
    Some(digit(high)? * 16 + digit(low)?)
}

fn entity(name: &[u8]) -> Option<char> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix('x') {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        return char::from_u32(code.ok()?);
    }
    Some(match name.as_str() {
        "amp" => '&',
        "apos" => '\'',
        "colon" => ':',
        "equals" => '=',
        "gt" => '>',
        "lowbar" => '_',
        "lt" => '<',
        "nbsp" => ' ',
        "num" => '#',
        "percnt" => '%',
        "period" => '.',
        "plus" => '+',
        "quest" => '?',
        "quot" => '"',
        "sol" => '/',
        _ => return None,
    })
}

/// Undoes the percent-encoding of a value, as often as it was applied.
///
/// An encoder treats each character alike. So a value that contains both `/` and `%2F` was not
/// encoded, and one whose every `%` is the beginning of `%25XX` was encoded twice. A `+` stays a
/// `+`: codes are often base64, and no code contains a space.
pub(super) fn decoded(value: &[u8]) -> Zeroizing<String> {
    let mut value = Zeroizing::new(String::from_utf8_lossy(value).into_owned());
    for _ in 0..MAX_ENCODINGS {
        let Some(next) = decoded_once(&value) else { break };
        let mut escapes = value.match_indices('%').map(|(at, _)| &value.as_bytes()[at..]);
        let is_twice = |from: &[u8]| {
            from.starts_with(b"%25")
                && from.get(3..5).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
        };
        let is_encoded_again = escapes.all(is_twice);
        value = next;
        if !is_encoded_again {
            break;
        }
    }
    value
}

fn decoded_once(value: &str) -> Option<Zeroizing<String>> {
    let (mut raw, mut hidden, mut at) = ([false; 256], [false; 256], 0);
    let bytes = value.as_bytes();
    while at < bytes.len() {
        if bytes[at] == b'%' {
            hidden[usize::from(escaped(&bytes[at..], b'%')?)] = true;
            at += 3;
        } else {
            raw[usize::from(bytes[at])] = true;
            at += 1;
        }
    }
    let is_alike =
        |byte: u8| byte.is_ascii_alphanumeric() || !(raw[usize::from(byte)] && hidden[usize::from(byte)]);
    let is_encoded = hidden.contains(&true) && (0..=u8::MAX).all(is_alike);
    let decoded = percent_decode_str(value).decode_utf8().ok().filter(|_| is_encoded)?;
    Some(Zeroizing::new(decoded.into_owned()))
}
