//! The store file's text, read into a [`Document`] and written from one.
//!
//! A document keeps all that the text said, and our fields are laid over it when something changes: so what a newer or
//! a foreign program wrote beside them comes back, at every level, for as long as the grant or the pending sign-in is
//! the same. A new lineage or a new `state` begins an object of its own.
//!
//! Invariants: what is not exactly a store is [`StoreError::Corrupt`], never empty; a name that appears twice is
//! refused, because one of the two would be lost; no message repeats a value of the file.

use std::path::Path;

use serde_json::{Map, Value};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Records, StoreError,
    dto::{FileDto, PendingDto, SessionDto},
    strict,
};
use crate::{
    ids::Tenant,
    session::{Entry, Session},
    sys::clock::UnixTime,
};

/// The format that is written.
pub(super) const VERSION: u64 = 1;

/// By how much one change lengthens the text, as a rule, in bytes: an answer's tokens, or a sign-in's texts.
const LONGEST_CHANGE: usize = 128 * 1024;

/// The members of each object that are ours.
const SESSION: &[&str] = &[
    "access_token",
    "refresh_token",
    "token_type",
    "scope",
    "issued_at",
    "expires_at",
    "lineage",
    "generation",
    "account",
    "issuer",
    "token_endpoint",
    "client_id",
    "resource",
    "rejected",
    "retry",
    "ended",
];
const PENDING: &[&str] = &[
    "verifier",
    "state",
    "nonce",
    "redirect_uri",
    "created_at",
    "started_by",
    "lineage_seen",
    "issuer",
    "token_endpoint",
    "client_id",
    "resource",
    "scopes",
];
const ENDED: &[&str] = &["at", "code", "fingerprint", "notified_at"];

/// The content of a store.
pub(super) struct Document {
    root: Map<String, Value>,
    version: u64,
    entries: Records,
    foreign: usize,
    /// How long the text was, in bytes.
    len: usize,
}

impl Document {
    /// The store that is not there yet.
    pub(super) fn empty() -> Self {
        let object = || Value::Object(Map::new());
        let root = [
            ("version", VERSION.into()),
            ("sessions", object()),
            ("pending", object()),
            ("clients", object()),
        ];
        Self {
            root: root.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            version: VERSION,
            entries: Records::new(),
            foreign: 0,
            len: 0,
        }
    }

    /// Reads the text of the store at `path`.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, StoreError> {
        let text = as_text(path, bytes)?;
        let corrupt = |error: serde_json::Error| corrupt(path, &error);
        let root = strict::object(text).map_err(corrupt)?;
        let version = root.get("version").and_then(Value::as_u64).unwrap_or(0);
        let mut document = Self { root, version, entries: Records::new(), foreign: 0, len: text.len() };
        match serde_json::from_str(text) {
            Ok(file) => document.fill(file),
            Err(_) if version > VERSION => return Err(StoreError::Newer { path: path.into(), version }),
            Err(error) => return Err(corrupt(error)),
        }
        Ok(document)
    }

    /// The text's format version.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// How many sessions and pending sign-ins are of tenants that this version does not know. They are kept.
    pub(super) fn foreign(&self) -> usize {
        self.foreign
    }

    /// One tenant's record.
    pub(super) fn entry(&self, tenant: &Tenant) -> Entry {
        self.entries.get(tenant).cloned().unwrap_or_default()
    }

    /// All records.
    pub(super) fn entries(&self) -> &Records {
        &self.entries
    }

    /// All records, for who changes nothing.
    pub(super) fn into_records(mut self) -> Records {
        std::mem::take(&mut self.entries)
    }

    /// Puts a tenant's record in place of the old one.
    pub(super) fn put(&mut self, tenant: &Tenant, entry: Entry) {
        let key = tenant.to_string();
        let old = self.entries.get(tenant);
        let same = |old: Option<&Session>, new: &Option<Session>| match (old, new) {
            (Some(old), Some(new)) => old.lineage == new.lineage,
            _ => false,
        };
        let candidate_before = old.and_then(|e| e.candidate.as_ref());
        let same_candidate = same(candidate_before, &entry.candidate);
        let same_grant = same(old.and_then(|e| e.session.as_ref()), &entry.session);
        // A candidate that was chosen takes along what others wrote into it: it is the same grant.
        let chosen = !same_grant && entry.candidate.is_none() && same(candidate_before, &entry.session);
        let same_sign_in = match (old.and_then(|e| e.pending.as_ref()), &entry.pending) {
            (Some(old), Some(new)) => old.state == new.state,
            _ => false,
        };
        let session = entry.session.as_ref().map(|s| object(&SessionDto::from(s)));
        let pending = entry.pending.as_ref().map(|p| object(&PendingDto::from(p)));
        let candidate = entry.candidate.as_ref().map(|s| object(&SessionDto::from(s)));
        if chosen && let Some(theirs) = section(&mut self.root, "candidates").shift_remove(&key) {
            let mut old = section(&mut self.root, "sessions").insert(key.clone(), theirs);
            old.iter_mut().for_each(wipe);
        }
        overlay(section(&mut self.root, "sessions"), &key, session, SESSION, same_grant || chosen);
        overlay(section(&mut self.root, "pending"), &key, pending, PENDING, same_sign_in);
        if candidate.is_some() || self.root.contains_key("candidates") {
            overlay(section(&mut self.root, "candidates"), &key, candidate, SESSION, same_candidate);
        }
        self.entries.insert(tenant.clone(), entry);
    }

    /// Drops the sign-ins that can long since no longer be finished or chosen.
    pub(super) fn sweep(&mut self, now: UnixTime) {
        let root = &mut self.root;
        let mut drop_from = |name: &str, tenant: &Tenant| {
            if let Some(mut gone) = section(root, name).shift_remove(&tenant.to_string()) {
                wipe(&mut gone);
            }
        };
        for (tenant, entry) in &mut self.entries {
            if entry.pending.take_if(|pending| pending.is_swept(now)).is_some() {
                drop_from("pending", tenant);
            }
            if entry.candidate.take_if(|candidate| candidate.is_swept(now)).is_some() {
                drop_from("candidates", tenant);
            }
        }
    }

    /// The text to write, indented so that people and line numbers can point into it.
    pub(super) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Room from the start, in whole, as a rule: a buffer that grows leaves copies of secrets behind. But no more than that: all of it
        // is overwritten in the end.
        let mut text = Zeroizing::new(Vec::with_capacity(self.len + LONGEST_CHANGE));
        serde_json::to_writer_pretty(&mut *text, &self.root)
            .expect("JSON values with text keys can be written");
        text.push(b'\n');
        text
    }

    fn fill(&mut self, file: FileDto) {
        for (key, session) in file.sessions {
            match tenant(&key) {
                Some(tenant) => self.entries.entry(tenant).or_default().session = Some(session.into()),
                None => self.foreign += 1,
            }
        }
        for (key, pending) in file.pending {
            match tenant(&key) {
                Some(tenant) => self.entries.entry(tenant).or_default().pending = Some(pending.into()),
                None => self.foreign += 1,
            }
        }
        for (key, candidate) in file.candidates {
            match tenant(&key) {
                Some(tenant) => self.entries.entry(tenant).or_default().candidate = Some(candidate.into()),
                None => self.foreign += 1,
            }
        }
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        self.root.values_mut().for_each(wipe);
    }
}

/// A key that is exactly how we write a tenant: another spelling would make two records of one.
fn tenant(key: &str) -> Option<Tenant> {
    key.parse().ok().filter(|tenant: &Tenant| tenant.to_string() == key)
}

fn section<'a>(root: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = root.entry(name).or_insert_with(|| Value::Object(Map::new()));
    value.as_object_mut().expect("decode refuses a section that is no object")
}

fn object(dto: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(dto) {
        Ok(Value::Object(map)) => map,
        _ => unreachable!("a structure of texts, numbers and lists is a JSON object"),
    }
}

/// Lays `ours` over what `into[key]` holds, if that is of the same grant; else puts it there.
fn overlay(
    into: &mut Map<String, Value>,
    key: &str,
    ours: Option<Map<String, Value>>,
    names: &[&str],
    same: bool,
) {
    match (ours, into.get_mut(key)) {
        (None, _) => {
            if let Some(mut gone) = into.shift_remove(key) {
                wipe(&mut gone);
            }
        }
        (Some(ours), Some(Value::Object(theirs))) if same => merge(theirs, ours, names),
        (Some(ours), Some(value)) => {
            wipe(value);
            *value = Value::Object(ours);
        }
        (Some(ours), None) => {
            into.insert(key.to_owned(), Value::Object(ours));
        }
    }
}

fn merge(theirs: &mut Map<String, Value>, mut ours: Map<String, Value>, names: &[&str]) {
    for name in names {
        match (ours.shift_remove(*name), theirs.get_mut(*name)) {
            (Some(Value::Object(new)), Some(Value::Object(old))) => merge(old, new, members(name)),
            (Some(new), Some(old)) => {
                wipe(old);
                *old = new;
            }
            (Some(new), None) => {
                theirs.insert((*name).to_owned(), new);
            }
            (None, Some(_)) => drop(theirs.shift_remove(*name)),
            (None, None) => {}
        }
    }
}

fn members(name: &str) -> &'static [&'static str] {
    match name {
        "rejected" => &["fingerprint", "at"],
        "retry" => &["set_at", "not_before", "attempts", "code"],
        "ended" => ENDED,
        _ => &[],
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
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
        what: strict::describe(error),
    }
}
