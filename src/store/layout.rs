//! What a change puts into the text and takes out of it, in the form that the text has.
//!
//! A member is replaced where it stands. A new one goes behind the others of its section and is laid out as the last of
//! them is; in an empty section, as the section itself. Where lines are broken, values are written over several lines, one step further
//! in for each level; else in one line. Everything that is not a member of this change stays byte for byte.

use std::{io, ops::Range};

use serde::Serialize as _;
use serde_json::{Map, Serializer, Value, ser::PrettyFormatter};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    index::{Member, closing_quote, is_space},
    text::Edit,
};

/// An object with secrets in it, wiped when it is dropped.
pub(super) struct Object(pub(super) Map<String, Value>);

/// What changes in one section.
#[derive(Default)]
pub(super) struct Changes {
    /// Members by number, and their new values.
    pub(super) replaced: Vec<(usize, Object)>,
    /// Members by number, in order.
    pub(super) removed: Vec<usize>,
    /// Names, as they are written, and values.
    pub(super) added: Vec<(String, Object)>,
}

/// How a new line begins.
struct Line {
    /// The line break, and the white space before what is in the line.
    start: Vec<u8>,
    /// By how much each level is further in.
    step: String,
}

/// How a member is laid out.
struct Layout<'a> {
    before: &'a [u8],
    colon: &'a [u8],
    line: Option<Line>,
}

impl Drop for Object {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

/// Overwrites the texts in `value`.
pub(super) fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The edits that make `changes` in the section that is the value of `owner`.
pub(super) fn edits(text: &[u8], owner: &Member, members: &[Member], changes: &Changes) -> Vec<Edit> {
    let Changes { replaced, removed, added } = changes;
    let mut edits: Vec<_> =
        replaced.iter().map(|(number, value)| replace(text, &members[*number], value)).collect();
    let last = (0..members.len()).rev().find(|number| removed.binary_search(number).is_err());
    match last {
        Some(last) => {
            edits.extend(removals(members, removed, last));
            let behind = members[last].end..members[members.len() - 1].end;
            if !behind.is_empty() || !added.is_empty() {
                edits.push(append(text, &members[last], behind, added));
            }
        }
        None if removed.is_empty() && added.is_empty() => {}
        None => {
            let content = content(&Layout::of(text, owner, 1), added);
            edits.push(Edit::new(owner.value + 1..owner.end - 1, &[&content]));
        }
    }
    edits
}

/// The edit that puts the section `name` behind `last`, which is the last member of the root.
pub(super) fn new_section(text: &[u8], last: &Member, name: &str, added: &[(String, Object)]) -> Edit {
    let layout = Layout::of(text, last, 1);
    let content = content(&layout, added);
    let pieces = [b",", layout.before, b"\"", name.as_bytes(), b"\"", layout.colon, b"{", &content, b"}"];
    Edit::new(last.end..last.end, &pieces)
}

fn replace(text: &[u8], member: &Member, value: &Object) -> Edit {
    let layout = Layout::of(text, member, 2);
    Edit { range: member.value..member.end, text: encode(value, layout.line.as_ref()) }
}

/// Takes out what is removed before `last`, which stays.
fn removals(members: &[Member], removed: &[usize], last: usize) -> Vec<Edit> {
    let before_last = &removed[..removed.partition_point(|number| *number < last)];
    let runs = before_last.chunk_by(|one, next| one + 1 == *next);
    let range = |run: &[usize]| match (run[0], run[run.len() - 1]) {
        (0, end) => members[0].key..members[end + 1].key,
        (start, end) => members[start - 1].end..members[end].end,
    };
    runs.map(|run| Edit::new(range(run), &[])).collect()
}

/// Puts the new members behind `last`, in place of what was there.
fn append(text: &[u8], last: &Member, behind: Range<usize>, added: &[(String, Object)]) -> Edit {
    let layout = Layout::of(text, last, 2);
    Edit { range: behind, text: list(added, layout.before, layout.colon, layout.line.as_ref()) }
}

/// What is between the brackets of a section that is laid out like this and has no other members.
fn content(owner: &Layout<'_>, added: &[(String, Object)]) -> Zeroizing<Vec<u8>> {
    if added.is_empty() {
        return Zeroizing::default();
    }
    let inner = owner.line.as_ref().map(Line::further_in);
    let start = |line: &'_ Option<Line>| line.as_ref().map(|line| line.start.clone()).unwrap_or_default();
    let list = list(added, &start(&inner), owner.colon, inner.as_ref());
    Zeroizing::new([&list[1..], &start(&owner.line)].concat())
}

/// The new members, with a comma before each.
fn list(added: &[(String, Object)], before: &[u8], colon: &[u8], line: Option<&Line>) -> Zeroizing<Vec<u8>> {
    let values: Vec<_> = added.iter().map(|(_, value)| encode(value, line)).collect();
    let members = added.iter().zip(&values);
    let pieces: Vec<&[u8]> =
        members.flat_map(|((name, _), value)| [b",", before, name.as_bytes(), colon, value]).collect();
    Zeroizing::new(pieces.concat())
}

/// The text of `value`, whose first line is begun already.
fn encode(value: &Object, line: Option<&Line>) -> Zeroizing<Vec<u8>> {
    // Measured first, so that the buffer need not grow: one that grows leaves copies of secrets behind.
    let mut length = Length(0);
    write(value, line, &mut length);
    let mut text = Zeroizing::new(Vec::with_capacity(length.0));
    write(value, line, &mut *text);
    text
}

fn write(Object(value): &Object, line: Option<&Line>, to: &mut dyn io::Write) {
    let written = match line {
        None => serde_json::to_writer(to, value),
        Some(line) => {
            let formatter = PrettyFormatter::with_indent(line.step.as_bytes());
            value.serialize(&mut Serializer::with_formatter(Lines { to, start: &line.start }, formatter))
        }
    };
    written.expect("JSON values with text keys can be written to memory");
}

// === impl Layout ===

impl<'a> Layout<'a> {
    /// Of a member whose name is on the `level`-th level of the text.
    fn of(text: &'a [u8], member: &Member, level: usize) -> Self {
        let space = text[..member.key].iter().rev().take_while(|byte| is_space(**byte)).count();
        let before = &text[member.key - space..member.key];
        let colon = &text[closing_quote(text, member) + 1..member.value];
        Self { before, colon, line: Line::of(before, level) }
    }
}

// === impl Line ===

impl Line {
    /// Where there is a line break.
    fn of(before: &[u8], level: usize) -> Option<Self> {
        let end = before.iter().rposition(|byte| *byte == b'\n')?;
        let begin = if before[..end].ends_with(b"\r") { end - 1 } else { end };
        let indent = std::str::from_utf8(&before[end + 1..]).expect("white space is ASCII");
        let step = if indent.len().is_multiple_of(level) { &indent[..indent.len() / level] } else { "  " };
        Some(Self { start: before[begin..].to_vec(), step: step.to_owned() })
    }

    fn further_in(&self) -> Self {
        Self { start: [&self.start, self.step.as_bytes()].concat(), step: self.step.clone() }
    }
}

/// Begins each new line like this.
struct Lines<'a> {
    to: &'a mut dyn io::Write,
    start: &'a [u8],
}

impl io::Write for Lines<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // Line breaks are the formatter's: in a text of JSON they are escaped (RFC 8259 §7).
        for piece in text.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', before)) => {
                    self.to.write_all(before)?;
                    self.to.write_all(self.start)?;
                }
                _ => self.to.write_all(piece)?,
            }
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0 += text.len();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
