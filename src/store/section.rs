//! The sections of the store file: which part of a tenant's record each of them has, and in which
//! JSON.

use std::io;

use serde::Serialize;
use zeroize::Zeroizing;

use super::dto::{Mirrored, Record};
use crate::{
    ids::UnixTime,
    session::{Entry, Session},
};

/// A member of the root whose members are keyed by tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Sessions,
    Pending,
    Candidates,
}

/// Removes the parts of an entry that are too old to stay. Returns whether there was one.
pub(super) fn sweep(entry: &mut Entry, now: UnixTime) -> bool {
    let pending = entry.pending.take_if(|pending| pending.is_swept(now));
    let candidate = entry.candidate.take_if(|candidate| candidate.is_swept(now));
    pending.is_some() || candidate.is_some()
}

// === impl Section ===

impl Section {
    pub(super) const ALL: [Self; 3] = [Self::Sessions, Self::Pending, Self::Candidates];

    /// The section's name, with the quotation marks.
    pub(super) fn quoted_name(self) -> &'static str {
        match self {
            Self::Sessions => "\"sessions\"",
            Self::Pending => "\"pending\"",
            Self::Candidates => "\"candidates\"",
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.quoted_name().trim_matches('"')
    }

    /// Writes the entry's part in this section, if it has one, as a member of the section is
    /// written.
    pub(super) fn text(self, entry: &Entry) -> Option<Zeroizing<String>> {
        match self {
            Self::Sessions => entry.session.as_ref().map(text),
            Self::Pending => entry.pending.as_ref().map(text),
            Self::Candidates => entry.candidate.as_ref().map(text),
        }
    }

    /// Whether both entries have the same part in this section.
    pub(super) fn is_same(self, old: &Entry, new: &Entry) -> bool {
        match self {
            Self::Sessions => old.session == new.session,
            Self::Pending => old.pending == new.pending,
            Self::Candidates => old.candidate == new.candidate,
        }
    }

    /// The section whose old part the new part continues: it is of the same grant or the same
    /// sign-in, so unknown members stay with it. `None` if it begins an object of its own.
    pub(super) fn continued(self, old: &Entry, new: &Entry) -> Option<Self> {
        let is_of_one_grant = |old: &Option<Session>, new: &Option<Session>| matches!((old, new), (Some(old), Some(new)) if old.lineage == new.lineage);
        let is_continued = match self {
            Self::Sessions if is_of_one_grant(&old.session, &new.session) => true,
            // A candidate that was chosen is the same grant as before.
            Self::Sessions if is_of_one_grant(&old.candidate, &new.session) => return Some(Self::Candidates),
            Self::Sessions => false,
            Self::Pending => {
                matches!((&old.pending, &new.pending), (Some(old), Some(new)) if old.state == new.state)
            }
            Self::Candidates => is_of_one_grant(&old.candidate, &new.candidate),
        };
        is_continued.then_some(self)
    }
}

/// The levels around a record: the file and its section.
const LEVELS: (&str, &str) = ("[\n  [\n    ", "\n  ]\n]");

fn text(record: &impl Mirrored) -> Zeroizing<String> {
    let nested = [[Record(record)]];
    // The buffer has its full size at once: one that grows leaves copies of secrets in freed
    // memory.
    let mut length = Length(0);
    write(&nested, &mut length);
    let mut nested_text = Zeroizing::new(Vec::with_capacity(length.0));
    write(&nested, &mut *nested_text);
    let nested_text = std::str::from_utf8(&nested_text).expect("JSON is UTF-8");
    let text = nested_text.strip_prefix(LEVELS.0).and_then(|text| text.strip_suffix(LEVELS.1));
    Zeroizing::new(text.expect("a record is an object on two levels").to_owned())
}

fn write(value: &impl Serialize, to: &mut dyn io::Write) {
    serde_json::to_writer_pretty(to, value).expect("records can be written to memory");
}

/// Counts the bytes of a text.
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
