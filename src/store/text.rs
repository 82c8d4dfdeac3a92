//! The text of a store in memory: changed in place, and wiped.
//!
//! It holds every secret of the store, so no copy of it may stay behind: it is kept in one buffer with room to spare, in which
//! what is behind a change is moved. Only a text that has outgrown its buffer is copied to a larger one, and the old one is wiped.

use std::ops::{Deref, Range};

use zeroize::{Zeroize as _, Zeroizing};

/// A text that is wiped when it is dropped.
#[derive(PartialEq, Eq)]
pub(super) struct Text(Zeroizing<Vec<u8>>);

/// Puts `text` in place of what is at `range`.
pub(super) struct Edit {
    pub(super) range: Range<usize>,
    pub(super) text: Zeroizing<Vec<u8>>,
}

/// Where the positions of a text are after edits.
pub(super) struct Moves<'a> {
    edits: &'a [Edit],
    /// By how much the first so many edits lengthen the text.
    by: Vec<isize>,
}

impl From<Zeroizing<Vec<u8>>> for Text {
    fn from(text: Zeroizing<Vec<u8>>) -> Self {
        Self(text)
    }
}

impl From<&[u8]> for Text {
    fn from(text: &[u8]) -> Self {
        Self(Zeroizing::new(text.to_vec()))
    }
}

impl Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Edit {
    /// The pieces, one after the other, in place of what is at `range`.
    pub(super) fn new(range: Range<usize>, pieces: &[&[u8]]) -> Self {
        Self { range, text: Zeroizing::new(pieces.concat()) }
    }

    fn lengthens_by(&self) -> isize {
        self.text.len().wrapping_sub(self.range.len()).cast_signed()
    }
}

// === impl Text ===

impl Text {
    /// Makes `edits`, which are in the order of their ranges and do not overlap.
    pub(super) fn splice(&mut self, edits: &[Edit]) {
        let moves = Moves::new(edits);
        let old_len = self.len();
        let len = old_len.wrapping_add_signed(moves.total());
        if len > self.0.capacity() {
            return self.grow(len, edits);
        }
        if len > old_len {
            self.0.resize(len, 0);
        }
        // What moves to the front, from the front on, and what moves back, from the back on: then nothing is written over that has
        // still to be moved, since what is kept never changes its order.
        let pieces = 0..=edits.len();
        for piece in pieces.clone().filter(|piece| moves.by[*piece] < 0) {
            self.move_piece(&moves, piece, old_len);
        }
        for piece in pieces.rev().filter(|piece| moves.by[*piece] > 0) {
            self.move_piece(&moves, piece, old_len);
        }
        for (edit, by) in edits.iter().zip(&moves.by) {
            let at = edit.range.start.wrapping_add_signed(*by);
            self.0[at..at + edit.text.len()].copy_from_slice(&edit.text);
        }
        if len < old_len {
            self.0[len..].zeroize();
            self.0.truncate(len);
        }
    }

    /// Moves what is kept behind the first `piece` edits.
    fn move_piece(&mut self, moves: &Moves<'_>, piece: usize, old_len: usize) {
        let start = piece.checked_sub(1).map_or(0, |before| moves.edits[before].range.end);
        let end = moves.edits.get(piece).map_or(old_len, |edit| edit.range.start);
        self.0.copy_within(start..end, start.wrapping_add_signed(moves.by[piece]));
    }

    fn grow(&mut self, len: usize, edits: &[Edit]) {
        let mut grown = Zeroizing::new(Vec::with_capacity(len + len / 16 + 1024));
        let mut at = 0;
        for edit in edits {
            grown.extend_from_slice(&self.0[at..edit.range.start]);
            grown.extend_from_slice(&edit.text);
            at = edit.range.end;
        }
        grown.extend_from_slice(&self.0[at..]);
        self.0 = grown;
    }
}

// === impl Moves ===

impl<'a> Moves<'a> {
    pub(super) fn new(edits: &'a [Edit]) -> Self {
        let mut by = Vec::with_capacity(edits.len() + 1);
        by.push(0);
        by.extend(edits.iter().scan(0, |sum, edit| {
            *sum += edit.lengthens_by();
            Some(*sum)
        }));
        Self { edits, by }
    }

    /// By how much the text becomes longer.
    pub(super) fn total(&self) -> isize {
        self.by[self.edits.len()]
    }

    /// Where something is that began at `at` and was not taken out: behind what was put in right before it.
    pub(super) fn start(&self, at: usize) -> usize {
        let before = self.edits.partition_point(|edit| edit.range.end <= at);
        at.wrapping_add_signed(self.by[before])
    }

    /// Where something ends that ended at `at`: before what was put in right behind it.
    pub(super) fn end(&self, at: usize) -> usize {
        let before = self.edits.partition_point(|edit| edit.range.start < at);
        at.wrapping_add_signed(self.by[before])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_of_any_lengths_make_what_they_say_in_a_buffer_that_has_room_and_in_one_that_has_not() {
        let old = "0123456789abcdefghij";
        let replacements = ["", "x", "xy", "a longer text than that"];
        for (first, second, third) in [(2..2, 5..9, 9..12), (0..3, 3..4, 19..20), (0..0, 1..1, 20..20)] {
            for case in 0..64 {
                let edits =
                    [(first.clone(), case % 4), (second.clone(), case / 4 % 4), (third.clone(), case / 16)]
                        .map(|(range, text)| Edit::new(range, &[replacements[text].as_bytes()]));
                let mut expected = old.to_owned();
                for edit in edits.iter().rev() {
                    let text = std::str::from_utf8(&edit.text).expect("ASCII");
                    expected.replace_range(edit.range.clone(), text);
                }
                let mut roomy = Zeroizing::new(Vec::with_capacity(200));
                roomy.extend_from_slice(old.as_bytes());
                for mut text in [Text::from(old.as_bytes()), Text::from(roomy)] {
                    text.splice(&edits);
                    assert_eq!(&*text, expected.as_bytes(), "case {case}");
                }
            }
        }
    }
}
