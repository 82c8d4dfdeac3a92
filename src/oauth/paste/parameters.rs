//! The parameters of an authorization response in a text: where each begins, where it ends, and
//! which of them belong together.
//!
//! A parameter is `name=value`, a member of a JSON object, or a label such as `Code: abc`. A value
//! that another parameter follows is *closed*: all gaps in it come from wrapped lines. An *open*
//! value ends at a gap, unless the next line can only be its continuation.

use zeroize::Zeroizing;

use super::text::{Gap, LETTER, OTHER, Text};
use crate::secret::State;

/// The most parameters that are read in one text.
const MAX_PARAMETERS: usize = 256;

/// The shortest state that is found without its name: 128 bits in base64url.
const MIN_STATE: usize = 22;

/// A word of fewer letters that begins a line may be the end of a code.
const MIN_WORD: usize = 4;

/// A blank before this many characters that are no word is a line break that became a blank.
pub(super) const MIN_LINE: usize = 16;

/// The parameters that matter here. A `code` in an authorization *request* has another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Code,
    State,
    Iss,
    Error,
    Description,
    OfRequest,
}

const NAMES: [(&str, Name); 7] = [
    ("code", Name::Code),
    ("state", Name::State),
    ("iss", Name::Iss),
    ("error", Name::Error),
    ("error_description", Name::Description),
    ("response_type", Name::OfRequest),
    ("code_challenge", Name::OfRequest),
];

/// A parameter and its place in the text.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: Name,
    /// The beginning of its name.
    pub(super) at: usize,
    /// The beginning of its value.
    pub(super) from: usize,
    /// The end of its value, before trailing punctuation is removed.
    end: usize,
    is_closed: bool,
    /// A label of a page or of a sentence. It may be an ordinary word.
    pub(super) is_label: bool,
    is_quoted: bool,
    /// The position of the own state that is its value.
    pub(super) own: Option<usize>,
    /// The length of that state.
    own_length: Option<usize>,
    /// Parameters with the same number belong together.
    pub(super) group: usize,
    /// Its value without gaps and punctuation.
    pub(super) value: Zeroizing<Vec<u8>>,
}

/// Finds all parameters, in their order. `own` are the states of the sign-ins in progress: each is
/// found without a name as well.
pub(super) fn find(text: &Text, own: &[&State]) -> Vec<Parameter> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.bytes.len() && found.len() < MAX_PARAMETERS {
        match named(text, at) {
            Some(parameter) => {
                at = parameter.from;
                found.push(parameter);
            }
            None => at += 1,
        }
    }
    mark_own(text, own, &mut found);
    found.sort_by_key(|parameter| parameter.at);
    let mut earlier = 0;
    for index in 0..found.len() {
        let limit = found.get(index + 1).map_or(text.bytes.len(), |next| next.at);
        if let Some(before) = index.checked_sub(1).map(|before| &found[before]) {
            let (group, end) = (before.group, before.end);
            let is_linked = is_linked(text, before, &found[index]);
            found[index].group = group + usize::from(!is_linked);
            earlier = if is_linked { earlier } else { end };
        }
        measure(text, &mut found[index], limit, earlier);
    }
    found
}

/// Reads the name of a parameter, its separator and an opening quote.
fn named(text: &Text, at: usize) -> Option<Parameter> {
    let before = at.checked_sub(1).map_or(OTHER, |before| text.bytes[before]);
    let is_boundary = text.gap(at) != Gap::None
        || matches!(before, OTHER | LETTER)
        || (before.is_ascii_punctuation() && !b"-_.~%+=".contains(&before));
    let (word, name) = *NAMES
        .iter()
        .filter(|(word, _)| is_boundary && text.has(at, word))
        .max_by_key(|(word, _)| word.len())?;
    let mut from = at + word.len();
    let is_quote = |byte: Option<&u8>| matches!(byte, Some(b'"' | b'\''));
    let is_quoted = is_quote(Some(&before)) && text.bytes.get(from) == Some(&before);
    from += usize::from(is_quoted);
    let is_label = match (text.bytes.get(from)?, text.bytes.get(from + 1)) {
        (b'=', _) => false,
        (b':', Some(b'/')) => return None,
        (b':', _) => !is_quoted,
        _ => return None,
    };
    from += 1;
    from += usize::from(text.bytes.get(from) == Some(&b'>'));
    from += usize::from(is_quote(text.bytes.get(from)));
    Some(Parameter {
        name,
        at,
        from,
        end: from,
        is_closed: false,
        is_label,
        is_quoted,
        own: None,
        own_length: None,
        group: 0,
        value: Zeroizing::default(),
    })
}

/// Marks the states that are ours, and adds those without a name.
///
/// A state has at least 128 random bits, so a text that contains one whole was made for its
/// sign-in. Any character may follow it: a page, a chat and a terminal all glue their own words to
/// an address.
fn mark_own(text: &Text, own: &[&State], found: &mut Vec<Parameter>) {
    for (position, state) in own.iter().enumerate() {
        let state = state.expose().as_bytes();
        for parameter in found.iter_mut().filter(|parameter| parameter.name == Name::State) {
            let is_at = text.bytes[parameter.from..].starts_with(state);
            if !state.is_empty() && is_at && is_whole(text, parameter.from, state) {
                parameter.own = Some(position);
                parameter.own_length = Some(state.len());
            }
        }
        let mut from = 0;
        while let Some(at) = text.find(state, from) {
            from = at + state.len();
            let before = at.checked_sub(1).map_or(OTHER, |before| text.bytes[before]);
            let is_glued = before.is_ascii_alphanumeric() || b"-_.~%+/".contains(&before);
            let stands_alone = if state.len() < MIN_STATE {
                before == b'#' && is_whole(text, at, state)
            } else {
                !is_glued || text.gap(at) != Gap::None
            };
            if !stands_alone || found.iter().any(|parameter| parameter.from == at) {
                continue;
            }
            found.push(Parameter {
                name: Name::State,
                at,
                from: at,
                end: from,
                is_closed: true,
                is_label: false,
                is_quoted: false,
                own: Some(position),
                own_length: Some(state.len()),
                group: 0,
                value: Zeroizing::new(state.to_vec()),
            });
        }
    }
}

/// Whether a state ends where it seems to. A short one, which only another program makes, could be
/// the beginning of a longer one.
fn is_whole(text: &Text, at: usize, state: &[u8]) -> bool {
    let end = at + state.len();
    let is_longer = text.bytes.get(end).is_some_and(u8::is_ascii_alphanumeric) && text.gap(end) == Gap::None;
    state.len() >= MIN_STATE || !is_longer
}

/// Finds the end of a value. `limit` is the beginning of the next parameter, `earlier` the end of
/// the response before this one.
fn measure(text: &Text, parameter: &mut Parameter, limit: usize, earlier: usize) {
    if !parameter.value.is_empty() {
        return;
    }
    let from = parameter.from;
    let is_end = |at: &usize| is_terminator(text.bytes[*at]) || (*at > from && text.has_scheme(*at));
    let end = (from..limit).find(is_end).unwrap_or(limit);
    // The separator before the next parameter is a terminator, so `end` stands at it. Prose may
    // stand between a label or an issuer and a `#`.
    let is_fragment = text.bytes.get(end) != Some(&b'&');
    let has_gap = (parameter.is_label || parameter.name == Name::Iss)
        && (from + 1..end).any(|at| text.gap(at) != Gap::None);
    parameter.is_closed = (is_separator(text, end) && !(is_fragment && has_gap))
        || (from > 0
            && matches!(text.bytes[from - 1], b'"' | b'\'')
            && text.bytes.get(end) == Some(&text.bytes[from - 1]));
    if parameter.is_closed {
        parameter.end = end;
        let is_broken = parameter.name == Name::Code && has_prose(text, from, end);
        // A letter outside of ASCII is in no code, so the whole response is refused.
        let value = if is_broken { vec![LETTER] } else { text.bytes[from..end].to_vec() };
        parameter.value = Zeroizing::new(value);
        return;
    }
    let begin = address(text, parameter.at, earlier);
    let mark = mark(text, begin);
    parameter.end = open_end(text, begin, mark, from, end);
    let mut value = &text.bytes[from..parameter.end];
    value = without_glue(value);
    if let Some((mark, count)) = mark {
        for _ in 0..count {
            value = value.strip_suffix(&[mark]).unwrap_or(value);
        }
        value = without_glue(value);
    }
    if parameter.is_quoted && value == b"null" {
        value = b"";
    }
    parameter.value = Zeroizing::new(value.to_vec());
}

/// Whether words of another text stand in a value, as if two columns of a screen were copied.
fn has_prose(text: &Text, from: usize, end: usize) -> bool {
    let starts: Vec<usize> =
        (from..=end).filter(|&at| at == from || at == end || text.gap(at) != Gap::None).collect();
    let is_prose = |pair: &&[usize]| {
        text.gap(pair[0]) == Gap::Blank
            && pair[1] - pair[0] >= MIN_WORD
            && is_word(&text.bytes[pair[0]..pair[1]])
    };
    starts.windows(2).filter(is_prose).count() > 1
}

/// Whether the text goes on with another parameter here, known or not, or with a fragment.
fn is_separator(text: &Text, at: usize) -> bool {
    match text.bytes.get(at) {
        Some(b'#' | b'?') => text.gap(at) == Gap::None,
        Some(b'&') => {
            let rest = &text.bytes[at + 1..];
            let name = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"_-.[]%".contains(b)).count();
            name > 0 && rest.get(name) == Some(&b'=')
        }
        _ => false,
    }
}

/// Characters that end a value, because an address escapes them or gives them another meaning.
pub(super) fn is_terminator(byte: u8) -> bool {
    matches!(byte, OTHER | LETTER | b'&' | b'#' | b'?' | b'"' | b'\'' | b'<' | b'>' | b'`')
}

/// Returns the beginning of the address with a parameter at `at`, or of the word with it.
fn address(text: &Text, at: usize, earlier: usize) -> usize {
    let is_foreign = |byte: u8| matches!(byte, OTHER | LETTER | b'"' | b'\'' | b'<' | b'>' | b'`');
    let scheme =
        (earlier..at).rev().take_while(|&b| !is_foreign(text.bytes[b])).find(|&b| text.has_scheme(b));
    scheme.unwrap_or_else(|| {
        let word =
            (earlier..at).rev().take_while(|&b| !is_foreign(text.bytes[b]) && text.gap(b + 1) == Gap::None);
        word.last().unwrap_or(at)
    })
}

/// Returns the emphasis (`**`, `_`, `||`) before an address, or the `<` of `<address|label>`, and
/// its length. The same characters after the address do not belong to it.
fn mark(text: &Text, begin: usize) -> Option<(u8, usize)> {
    let is_mark = |byte: u8| matches!(byte, b'*' | b'_' | b'~' | b'|');
    let inside = text.bytes[begin..].iter().take_while(|&&b| b == text.bytes[begin] && is_mark(b)).count();
    if inside > 0 {
        return Some((text.bytes[begin], inside));
    }
    let before = text.bytes[..begin].last().copied().filter(|_| text.gap(begin) == Gap::None)?;
    if before == b'<' {
        return Some((b'|', 0));
    }
    let count = text.bytes[..begin].iter().rev().take_while(|&&b| b == before).count();
    is_mark(before).then_some((before, count))
}

/// Returns the end of an open value, which goes at most to `limit`.
fn open_end(text: &Text, begin: usize, mark: Option<(u8, usize)>, from: usize, limit: usize) -> usize {
    let has_bar = mark.is_some_and(|(mark, _)| mark == b'|');
    let is_end = |&at: &usize| {
        let byte = text.bytes[at];
        (at > from && text.gap(at) != Gap::None && !continues(text, begin, at, limit))
            || b",;()[]{}".contains(&byte)
            || (byte == b'|' && has_bar)
    };
    (from..limit).find(is_end).unwrap_or(limit)
}

/// Whether the characters after a gap continue the value before it. They do if they fill the rest
/// of their line, can be a part of a code, and are no word. A field of one line turns line breaks
/// into blanks. So a blank counts as a wrapped line if the characters are many, or if the address
/// has another blank before.
fn continues(text: &Text, begin: usize, at: usize, limit: usize) -> bool {
    let gap = text.gap(at);
    let end = (at + 1..limit).find(|&end| text.gap(end) != Gap::None).unwrap_or(limit);
    let is_wrapped = match gap {
        Gap::Line => end == limit || text.gap(end) == Gap::Line,
        _ => end - at >= MIN_LINE || (begin + 1..at).any(|at| text.gap(at) == Gap::Blank),
    };
    is_wrapped && is_part_of_code(&text.bytes[at..end], gap)
}

/// Whether these characters can be a part of a code whose other part stands before or after a gap.
pub(super) fn is_part_of_code(run: &[u8], gap: Gap) -> bool {
    let run = without_glue(run);
    let is_of_code = |b: &u8| b.is_ascii_alphanumeric() || b"-._~/+=%*!|:".contains(b);
    let min = if gap == Gap::Line { MIN_WORD } else { 1 };
    let reads_as_word = run.len() >= min && is_word(run);
    !run.is_empty() && run.iter().all(is_of_code) && !reads_as_word && !has_address(run)
}

fn has_address(run: &[u8]) -> bool {
    run.windows(3).any(|found| found == b"://")
}

/// Whether these characters read as a word: letters alone, in the case of a word.
pub(super) fn is_word(run: &[u8]) -> bool {
    let is_lower = |run: &[u8]| run.iter().all(u8::is_ascii_lowercase);
    let is_upper = |run: &[u8]| run.iter().all(u8::is_ascii_uppercase);
    is_upper(run)
        || run.split_first().is_some_and(|(first, rest)| first.is_ascii_alphabetic() && is_lower(rest))
}

/// Removes the punctuation of a sentence, and closing brackets, from the end of a value.
pub(super) fn without_glue(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|b| !b".,;:!?)]}|".contains(b));
    end.map_or(&[], |end| &value[..=end])
}

/// Whether a parameter belongs to the same response as the one before it.
fn is_linked(text: &Text, before: &Parameter, after: &Parameter) -> bool {
    let between = text.bytes.get(before.end..after.at).unwrap_or_default();
    if has_address(between) {
        return false;
    }
    match after.at.checked_sub(1).map_or(OTHER, |at| text.bytes[at]) {
        b'&' | b'#' | b'?' if before.is_closed || before.end + 1 >= after.at => return true,
        b'"' | b'\'' if before.is_quoted && after.is_quoted => {
            return !between.iter().any(|b| matches!(b, b'{' | b'}'));
        }
        _ => {}
    }
    between.iter().all(|b| b",;|/&\"'.".contains(b))
}

impl Parameter {
    /// Returns the end of a state. For one of ours it is exact: other words may be glued to it.
    pub(super) fn state_end(&self) -> usize {
        self.from + self.own_length.unwrap_or(self.value.len())
    }

    /// Returns the values that an open value may have, from the shortest: the text goes on after a
    /// gap, and perhaps the value too.
    pub(super) fn readings(&self, text: &Text) -> Vec<Zeroizing<Vec<u8>>> {
        if self.is_closed {
            return vec![self.value.clone()];
        }
        let is_end = |at: &usize| is_terminator(text.bytes[*at]) || (*at > self.from && text.has_scheme(*at));
        let end = (self.from..text.bytes.len()).find(is_end).unwrap_or(text.bytes.len());
        // A line of one word may be the rest of a wrapped value. A line of several words is prose.
        let is_rest_of_line = |at: usize| {
            let next = (at + 1..end).find(|&next| text.gap(next) != Gap::None).unwrap_or(end);
            text.gap(at) == Gap::Line && (next == end || text.gap(next) == Gap::Line)
        };
        let ends = (self.from + 1..=end).filter(|&at| {
            let is_gap = |at: usize| text.gap(at) != Gap::None && !b".-:/@%_".contains(&text.bytes[at]);
            at == end || (is_gap(at) && !is_rest_of_line(at))
        });
        ends.take(MAX_READINGS)
            .map(|end| Zeroizing::new(without_glue(&text.bytes[self.from..end]).to_vec()))
            .collect()
    }
}

/// The most lines over which an open value is followed.
const MAX_READINGS: usize = 8;
