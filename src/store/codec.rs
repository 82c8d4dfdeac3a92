//! The store file's text, read into a [`Document`] and changed in it.
//!
//! A document is the text, the places of its members ([`super::index`]), and the records that it says. A change touches only the
//! members that it is about ([`super::layout`]): in them our fields are laid over what is there, so that what a newer or a foreign
//! program wrote beside them comes back, at every level, for as long as the grant or the pending sign-in is the same. A new lineage or a
//! new `state` begins an object of its own. All else stays as it is, byte for byte.
//!
//! Invariants: what is not exactly a store is [`StoreError::Corrupt`], never empty; a name that appears twice is
//! refused, because one of the two would be lost; no message repeats a value of the file. The text, the places and the records say the
//! same, but for what was [put](Document::put) and is not [encoded](Document::encode) yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Records, StoreError,
    dto::FileDto,
    index::{Index, Removed, tenant},
    layout::{self, Changes, Object, wipe},
    section::{Becomes, SECTIONS, Section, inner_fields},
    strict_json,
    text::Text,
};
use crate::{ids::Tenant, session::Entry, sys::clock::UnixTime};

/// The format that is written.
pub(super) const VERSION: u64 = 1;

/// The store that is not there yet.
const EMPTY: &str = "{\n  \"version\": 1,\n  \"sessions\": {},\n  \"pending\": {},\n  \"clients\": {}\n}\n";

/// The content of a store.
#[derive(PartialEq, Eq)]
pub(super) struct Document {
    text: Text,
    index: Index,
    version: u64,
    records: Arc<Records>,
    /// What is not in the text yet.
    changed: BTreeMap<Tenant, Entry>,
}

/// A document with its changes in the text, and not yet in the records, which others may be looking at.
pub(super) struct Encoded(Document);

impl Document {
    /// The store that is not there yet.
    pub(super) fn empty() -> Self {
        Self::decode(Path::new("auth.json"), EMPTY.as_bytes()).expect("an empty store is one")
    }

    /// Reads the text of the store at `path`.
    pub(super) fn decode(path: &Path, text: impl Into<Text>) -> Result<Self, StoreError> {
        let text = text.into();
        let json = as_text(path, &text)?;
        strict_json::check(json).map_err(|error| corrupt(path, &error))?;
        let file: FileDto = serde_json::from_str(json).map_err(|error| match claimed_version(json) {
            version if version > VERSION => StoreError::Newer { path: path.into(), version },
            _ => corrupt(path, &error),
        })?;
        let (version, records) = (file.version, Arc::new(records(file)));
        let index = Index::of(&text);
        Ok(Self { text, index, version, records, changed: BTreeMap::new() })
    }

    /// The text's format version.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How many members of sections are of tenants that this version does not know. They are kept.
    pub(super) fn foreign(&self) -> usize {
        self.index.foreign()
    }

    /// One tenant's record.
    pub(super) fn entry(&self, tenant: &Tenant) -> Entry {
        self.changed.get(tenant).or_else(|| self.records.get(tenant)).cloned().unwrap_or_default()
    }

    /// All records, without what was put since.
    pub(super) fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// Puts a tenant's record in place of the old one.
    pub(super) fn put(&mut self, tenant: &Tenant, entry: Entry) {
        self.changed.insert(tenant.clone(), entry);
    }

    /// Drops the sign-ins that can long since no longer be finished or chosen.
    pub(super) fn sweep(&mut self, now: UnixTime) {
        for (number, section) in SECTIONS.iter().enumerate() {
            let Some(sweep) = section.sweep else { continue };
            let there = self.index.section(number).into_iter().flat_map(|section| section.tenants.keys());
            let tenants: BTreeSet<_> = there.chain(self.changed.keys()).cloned().collect();
            for tenant in tenants {
                let mut entry = self.entry(&tenant);
                if sweep(&mut entry, now) {
                    self.changed.insert(tenant, entry);
                }
            }
        }
    }

    /// Brings what was put into the text.
    pub(super) fn encode(mut self) -> Encoded {
        let mut edits = Vec::new();
        let mut removed = Removed::default();
        let mut new_sections = Vec::new();
        for (number, section) in SECTIONS.iter().enumerate() {
            let changes = self.changes(number, section);
            match self.index.section(number) {
                Some(there) => {
                    let owner = &self.index.root[there.at];
                    edits.extend(layout::edits(&self.text, owner, &there.members, &changes));
                }
                None if changes.added.is_empty() => {}
                None => new_sections.push((section.name, changes.added)),
            }
            removed[number] = changes.removed;
        }
        let last = self.index.root.last().expect("a store has a version");
        edits.extend(
            new_sections.iter().map(|(name, added)| layout::new_section(&self.text, last, name, added)),
        );
        edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
        self.text.splice(&edits);
        if new_sections.is_empty() {
            self.index.follow(&self.text, &edits, &removed);
        } else {
            self.index = Index::of(&self.text);
        }
        Encoded(self)
    }

    /// What was put, for one section.
    fn changes(&self, number: usize, section: &Section) -> Changes {
        let mut changes = Changes::default();
        let none = Entry::default();
        for (tenant, new) in &self.changed {
            let becomes = (section.becomes)(self.records.get(tenant).unwrap_or(&none), new);
            let from = match becomes {
                Becomes::Same => continue,
                Becomes::Continues(section) => self.member(section, tenant).map(|(_, text)| text),
                Becomes::Another => None,
            };
            let ours = (section.object)(new).map(Object).map(|ours| match from {
                Some(theirs) => laid_over(theirs, ours, section.fields),
                None => ours,
            });
            match (ours, self.member(number, tenant)) {
                (Some(ours), Some((at, _))) => changes.replaced.push((at, ours)),
                // Nothing in a tenant's name has to be escaped.
                (Some(ours), None) => changes.added.push((format!("\"{tenant}\""), ours)),
                (None, Some((at, _))) => changes.removed.push(at),
                (None, None) => {}
            }
        }
        changes.removed.sort_unstable();
        changes
    }

    /// Which member of a section is the tenant's, and its value's text.
    fn member(&self, section: usize, tenant: &Tenant) -> Option<(usize, &[u8])> {
        let section = self.index.section(section)?;
        let at = *section.tenants.get(tenant)?;
        Some((at, &self.text[section.members[at].value..section.members[at].end]))
    }
}

// === impl Encoded ===

impl Encoded {
    /// The text to write.
    pub(super) fn text(&self) -> &[u8] {
        &self.0.text
    }

    /// Brings the changes into the records. Nothing is copied if nobody else looks at them.
    pub(super) fn settle(self) -> Document {
        let Self(mut document) = self;
        let changed = std::mem::take(&mut document.changed);
        if !changed.is_empty() {
            let records = Arc::make_mut(&mut document.records);
            for (tenant, entry) in changed {
                if entry == Entry::default() {
                    records.remove(&tenant);
                } else {
                    records.insert(tenant, entry);
                }
            }
        }
        document
    }
}

fn records(file: FileDto) -> Records {
    let mut records = Records::new();
    for (key, session) in file.sessions {
        if let Some(tenant) = tenant(&key) {
            records.entry(tenant).or_default().session = Some(session.into());
        }
    }
    for (key, pending) in file.pending {
        if let Some(tenant) = tenant(&key) {
            records.entry(tenant).or_default().pending = Some(pending.into());
        }
    }
    for (key, candidate) in file.candidates {
        if let Some(tenant) = tenant(&key) {
            records.entry(tenant).or_default().candidate = Some(candidate.into());
        }
    }
    records
}

/// The version of a text that is JSON, whatever else it is; 0 if it says none.
fn claimed_version(json: &str) -> u64 {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    serde_json::from_str(json).map_or(0, |Versioned { version }| version)
}

/// `ours` over what `value`, the text of a member, holds.
fn laid_over(value: &[u8], mut ours: Object, fields: &[&str]) -> Object {
    let mut theirs =
        Object(strict_json::object(value).expect("a member's text was checked when it was read"));
    merge(&mut theirs.0, &mut ours.0, fields);
    theirs
}

fn merge(theirs: &mut Map<String, Value>, ours: &mut Map<String, Value>, fields: &[&str]) {
    for field in fields {
        match (ours.shift_remove(*field), theirs.get_mut(*field)) {
            (Some(Value::Object(mut new)), Some(Value::Object(old))) => {
                merge(old, &mut new, inner_fields(field))
            }
            (Some(new), Some(old)) => {
                wipe(old);
                *old = new;
            }
            (Some(new), None) => {
                theirs.insert((*field).to_owned(), new);
            }
            (None, Some(_)) => {
                theirs.shift_remove(*field).iter_mut().for_each(wipe);
            }
            (None, None) => {}
        }
    }
}

fn as_text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str, StoreError> {
    let corrupt = |line, column, what: &str| {
        Err(StoreError::Corrupt { path: path.into(), line, column, what: what.into() })
    };
    if bytes.is_empty() {
        return corrupt(1, 1, "the file is empty");
    }
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        return corrupt(1, 1, "a byte order mark, which JSON does not have (RFC 8259 §8.1)");
    }
    std::str::from_utf8(bytes).or_else(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        corrupt(line, column, "this is not UTF-8")
    })
}

fn corrupt(path: &Path, error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt {
        path: path.into(),
        line: error.line().max(1),
        column: error.column().max(1),
        what: strict_json::describe(error),
    }
}
