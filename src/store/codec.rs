//! The content of a store file: its text, where the text's members are, and the records in it.
//!
//! A [`Document`] never changes. [`Document::revise`] lays changed records over its text and
//! composes the new text, of which [`Revised::into_document`] makes the next document. Members that
//! no change touches keep every byte: see [`super::layout`]. In a changed record the members that
//! another program added come back, at every level, as long as the grant or the pending sign-in is
//! the same. A new lineage or a new `state` begins an object of its own.
//!
//! Invariants: a text that is not exactly a store is [`StoreError::Corrupt`], never empty. A name
//! that appears twice in an object is refused, because one of its values would be lost. No message
//! repeats a value of the file. The text, the layout and the records of a document always agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, LazyLock},
};

use serde::Deserialize;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Clients, Records, StoreError,
    dto::{ClientDto, FileDto, Record},
    layout::{Changes, Layout, lay_over, lay_over_at, tenant},
    section::{Section, sweep},
    strict_json,
};
use crate::{
    ids::{Tenant, UnixTime},
    session::{Entry, RegisteredClient},
};

/// The format version that is written.
pub(super) const VERSION: u64 = 1;

/// A store that no change has made yet.
const EMPTY: &str = "{\n  \"version\": 1,\n  \"sessions\": {},\n  \"pending\": {},\n  \"clients\": {}\n}\n";

/// The content of a store file.
#[derive(PartialEq, Eq)]
pub(super) struct Document {
    text: Zeroizing<String>,
    layout: Layout,
    version: u64,
    records: Arc<Records>,
    clients: Arc<Clients>,
}

/// The records that a write changes, and the registered clients; a client without a value is removed.
#[derive(Default)]
pub(super) struct ChangedRecords(BTreeMap<Tenant, Entry>, BTreeMap<String, Option<RegisteredClient>>);

/// A new text, with its changes not yet in the records.
pub(super) struct Revised {
    text: Zeroizing<String>,
    layout: Layout,
    version: u64,
    clients: Arc<Clients>,
    changed: ChangedRecords,
}

// === impl Document ===

impl Document {
    /// The store that no change has made yet.
    pub(super) fn empty() -> &'static Self {
        static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
            let text = Zeroizing::new(EMPTY.as_bytes().to_vec());
            Document::decode(Path::new("auth.json"), text).expect("the empty store is a store")
        });
        &DOCUMENT
    }

    /// Reads the text of the store at `path`.
    pub(super) fn decode(path: &Path, text: Zeroizing<Vec<u8>>) -> Result<Self, StoreError> {
        let text = into_utf8(path, text)?;
        strict_json::check(&text).map_err(|error| corrupt(path, &error))?;
        let file: FileDto = serde_json::from_str(&text).map_err(|error| match claimed_version(&text) {
            version if version > VERSION => StoreError::Newer { path: path.into(), version },
            _ => corrupt(path, &error),
        })?;
        let layout = Layout::of(&text);
        let (version, (records, clients)) = (file.version, records(file));
        Ok(Self { layout, version, records: Arc::new(records), clients: Arc::new(clients), text })
    }

    /// The format version of the text.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Counts the members of sections whose tenant this version does not know. They are kept.
    pub(super) fn foreign(&self) -> usize {
        self.layout.foreign()
    }

    /// All records.
    pub(super) fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// All registered clients.
    pub(super) fn clients(&self) -> &Arc<Clients> {
        &self.clients
    }

    /// Takes the records out, so that they can be changed without a copy.
    pub(super) fn take_records(&mut self) -> Arc<Records> {
        std::mem::take(&mut self.records)
    }

    /// Zeroes the text, and returns its buffer.
    pub(super) fn into_spare(self) -> Zeroizing<String> {
        let mut text = self.text;
        text.zeroize();
        text
    }

    /// Composes the text with these records changed, in the spare buffer if it is long enough.
    pub(super) fn revise(&self, changed: ChangedRecords, spare: Zeroizing<String>) -> Revised {
        let mut changes = Changes::new();
        let none = Entry::default();
        for (tenant, new) in &changed.0 {
            let old = self.records.get(tenant).unwrap_or(&none);
            for section in Section::ALL.into_iter().filter(|section| !section.is_same(old, new)) {
                let text = section.text(new).map(|ours| self.continued(section, tenant, old, new, ours));
                changes.insert((section, tenant.clone()), text);
            }
        }
        let mut clients = self.clients.clone();
        let clients_text = (!changed.1.is_empty()).then(|| {
            let theirs = self.layout.clients(&self.text).map_or("{}", |range| &self.text[range]);
            let before = changed.1.keys().map(|key| (key, self.clients.get(key)));
            let after = changed.1.iter().map(|(key, new)| (key, new.as_ref()));
            let text = lay_over_at(1, theirs, &clients_text(before), &clients_text(after));
            let clients = Arc::make_mut(&mut clients);
            for (key, new) in &changed.1 {
                match new {
                    Some(new) => drop(clients.insert(key.clone(), new.clone())),
                    None => drop(clients.remove(key)),
                }
            }
            text
        });
        let clients_text = clients_text.as_ref().map(|text| text.as_str());
        let (text, layout) = self.layout.compose(&self.text, &changes, clients_text, spare);
        Revised { text, layout, version: self.version, clients, changed }
    }

    /// Lays `ours`, the new record's text, over the member that it continues, if there is one.
    fn continued(
        &self,
        section: Section,
        tenant: &Tenant,
        old: &Entry,
        new: &Entry,
        ours: Zeroizing<String>,
    ) -> Zeroizing<String> {
        let Some(continued) = section.continued(old, new) else { return ours };
        let Some(theirs) = self.layout.value(continued, tenant) else { return ours };
        let before = continued.text(old).expect("a record that continues was there");
        lay_over(&self.text[theirs], &before, &ours)
    }
}

// === impl ChangedRecords ===

impl ChangedRecords {
    /// The changes of registered clients; `None` removes one.
    pub(super) fn of_clients(changes: impl IntoIterator<Item = (String, Option<RegisteredClient>)>) -> Self {
        Self(BTreeMap::new(), changes.into_iter().collect())
    }

    /// The tenant's record with the changes so far.
    pub(super) fn entry(&self, document: &Document, tenant: &Tenant) -> Entry {
        self.0.get(tenant).or_else(|| document.records.get(tenant)).cloned().unwrap_or_default()
    }

    /// Puts `entry` in the place of the tenant's record.
    pub(super) fn put(&mut self, tenant: &Tenant, entry: Entry) {
        self.0.insert(tenant.clone(), entry);
    }

    /// Removes the sign-ins that can no longer be finished or chosen, of all tenants.
    pub(super) fn sweep(&mut self, document: &Document, now: UnixTime) {
        let swept = [Section::Pending, Section::Candidates];
        let there = swept.into_iter().flat_map(|section| document.layout.tenants(section));
        let tenants: BTreeSet<_> = there.chain(self.0.keys()).cloned().collect();
        for tenant in tenants {
            let mut entry = self.entry(document, &tenant);
            if sweep(&mut entry, now) {
                self.0.insert(tenant, entry);
            }
        }
    }
}

// === impl Revised ===

impl Revised {
    /// The text to write.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Makes the document of the new text. `records` are those of the document before; they are
    /// copied only if a reader still has them.
    pub(super) fn into_document(self, mut records: Arc<Records>) -> Document {
        let Self { text, layout, version, clients, changed } = self;
        if !changed.0.is_empty() {
            let records = Arc::make_mut(&mut records);
            for (tenant, entry) in changed.0 {
                if entry == Entry::default() {
                    records.remove(&tenant);
                } else {
                    records.insert(tenant, entry);
                }
            }
        }
        Document { text, layout, version, records, clients }
    }
}

fn records(file: FileDto) -> (Records, Clients) {
    let mut records = Records::new();
    for (key, Record(session)) in file.sessions {
        if let Some(tenant) = tenant(&key) {
            records.entry(tenant).or_default().session = Some(session);
        }
    }
    for (key, Record(pending)) in file.pending {
        if let Some(tenant) = tenant(&key) {
            records.entry(tenant).or_default().pending = Some(pending);
        }
    }
    for (key, Record(candidate)) in file.candidates {
        if let Some(tenant) = tenant(&key) {
            records.entry(tenant).or_default().candidate = Some(candidate);
        }
    }
    let clients = file.clients.into_iter().filter_map(|(key, client)| Some((key, client.into_client()?)));
    (records, clients.collect())
}

/// Returns the section of clients with these alone.
fn clients_text<'a>(
    clients: impl Iterator<Item = (&'a String, Option<&'a RegisteredClient>)>,
) -> Zeroizing<String> {
    let section: BTreeMap<&String, ClientDto> =
        clients.filter_map(|(key, client)| Some((key, client?.into()))).collect();
    Zeroizing::new(serde_json::to_string(&section).expect("a client is JSON"))
}

/// The version that a JSON text claims, even if the rest of it is not understood; 0 if it claims
/// none.
fn claimed_version(json: &str) -> u64 {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    serde_json::from_str(json).map_or(0, |Versioned { version }| version)
}

fn into_utf8(path: &Path, mut text: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, StoreError> {
    let corrupt = |line, column, what: &str| {
        Err(StoreError::Corrupt { path: path.into(), line, column, what: what.into() })
    };
    if text.is_empty() {
        return corrupt(1, 1, "the file is empty");
    }
    if text.starts_with(b"\xEF\xBB\xBF") {
        return corrupt(1, 1, "a byte order mark, which JSON does not have (RFC 8259 §8.1)");
    }
    if let Err(error) = std::str::from_utf8(&text) {
        let before = &text[..error.valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        return corrupt(line, column, "this is not UTF-8");
    }
    // The buffer itself becomes the text, without a copy.
    let text = String::from_utf8(std::mem::take(&mut *text)).expect("the text was checked");
    Ok(Zeroizing::new(text))
}

fn corrupt(path: &Path, error: &serde_json::Error) -> StoreError {
    StoreError::Corrupt {
        path: path.into(),
        line: error.line().max(1),
        column: error.column().max(1),
        what: strict_json::describe(error),
    }
}
