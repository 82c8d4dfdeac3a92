//! The content of the store's file, read as any other program would: as JSON, from the disk.
#![expect(clippy::disallowed_methods, reason = "the test's own read of the file is not the program's")]

use std::{
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

/// The fields of a session that the format knows. They are repeated here and not taken from the
/// program, so that a field that the program forgets or claims shows.
const KNOWN: [&str; 18] = [
    "access_token",
    "refresh_token",
    "token_type",
    "scope",
    "issued_at",
    "expires_at",
    "lineage",
    "generation",
    "account",
    "subject",
    "id_token",
    "issuer",
    "token_endpoint",
    "client_id",
    "resource",
    "rejected",
    "retry",
    "ended",
];

/// The time in which a sign-in as another account can be chosen, in seconds.
pub(super) const CHOICE: i64 = 15 * 60;

/// The time in which a sign-in in progress can be finished, in seconds.
pub(super) const PENDING: i64 = 15 * 60;

/// The mark of another program.
const MARK: &str = "x-planted";

/// The file at one moment.
pub(super) struct Disk(Value);

/// A session as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub(super) access: String,
    pub(super) refresh: String,
    pub(super) issued_at: i64,
    pub(super) expires_at: i64,
    pub(super) lineage: String,
    pub(super) generation: u64,
    pub(super) account: Option<String>,
    /// The account's identifier at the provider.
    pub(super) subject: Option<String>,
    /// The fingerprint and the time.
    pub(super) rejected: Option<(String, i64)>,
    /// Whether the provider's userinfo endpoint has confirmed that report.
    pub(super) is_confirmed: bool,
    /// The code.
    pub(super) retry: Option<String>,
    /// The code and the fingerprint.
    pub(super) ended: Option<(String, String)>,
    /// The fields that the format does not know.
    pub(super) unknown: Map<String, Value>,
}

/// The first 24 hex digits of SHA-256.
pub(super) fn fingerprint(token: &str) -> String {
    Sha256::digest(token).iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

// === impl Disk ===

impl Disk {
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Self)
                .map_err(|error| format!("promise 10: the store is not JSON: {error}")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self(json!({}))),
            Err(error) => Err(format!("the store cannot be read: {error}")),
        }
    }

    pub(super) fn session(&self, tenant: &str) -> Option<Stored> {
        self.stored("sessions", tenant)
    }

    /// Returns the sign-in as another account that waits for a choice.
    pub(super) fn candidate(&self, tenant: &str) -> Option<Stored> {
        self.stored("candidates", tenant)
    }

    fn stored(&self, section: &str, tenant: &str) -> Option<Stored> {
        let session = self.0[section].get(tenant)?;
        let text = |key: &str| session[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| session[key].as_i64().unwrap_or_default();
        let inner = |key: &str, field: &str| {
            session.get(key).map(|inner| inner[field].as_str().unwrap_or_default().to_owned())
        };
        let mut unknown = session.as_object().cloned().unwrap_or_default();
        KNOWN.iter().for_each(|key| drop(unknown.remove(*key)));
        Some(Stored {
            access: text("access_token"),
            refresh: text("refresh_token"),
            issued_at: number("issued_at"),
            expires_at: number("expires_at"),
            lineage: text("lineage"),
            generation: session["generation"].as_u64().unwrap_or_default(),
            account: session["account"].as_str().map(str::to_owned),
            subject: session["subject"].as_str().map(str::to_owned),
            rejected: inner("rejected", "fingerprint")
                .map(|of| (of, session["rejected"]["at"].as_i64().unwrap_or_default())),
            is_confirmed: session["rejected"]["decided"] == true,
            retry: inner("retry", "code"),
            ended: inner("ended", "code").zip(inner("ended", "fingerprint")),
            unknown,
        })
    }

    /// Returns the pending sign-in: its `state`, and the whole entry.
    pub(super) fn pending(&self, tenant: &str) -> Option<(&str, &Value)> {
        let pending = self.0["pending"].get(tenant)?;
        Some((pending["state"].as_str().unwrap_or_default(), pending))
    }

    /// Returns the entries of another program beside our own.
    pub(super) fn planted(&self) -> [&Value; 3] {
        [&self.0[MARK], &self.0["sessions"]["acme/team:x"], &self.0["clients"][MARK]]
    }

    /// Writes another program's fields at every level, marked with `number`.
    pub(super) fn plant(mut self, path: &Path, number: usize) {
        let mark = json!({ "number": number, "list": [1, {"deep": null}] });
        for part in ["sessions", "pending", "candidates"] {
            let entries =
                self.0.get_mut(part).and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut);
            entries.for_each(|entry| entry[MARK] = mark.clone());
        }
        self.0[MARK] = mark.clone();
        self.0["sessions"]["acme/team:x"] = json!({
            "access_token": "theirs", "token_type": "Bearer", "issued_at": 5, "expires_at": 6, "generation": 1,
            "lineage": "0123456789abcdef0123456789abcdef", "token_endpoint": "https://id.example", "client_id": "c",
            MARK: mark.clone(),
        });
        self.0["clients"][MARK] = mark;
        write(path, &self.0.to_string());
    }
}

/// Replaces the old file as the protocol requires. No other process writes at that time.
fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    let new = path.with_extension("planted");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    std::fs::rename(&new, path).unwrap();
}

/// Returns the text of a tenant's journal.
pub(super) fn journal(store: &Path, tenant: &str) -> String {
    let name = tenant.replace('/', "%2F").replace(':', "%3A");
    let mut folder = store.as_os_str().to_owned();
    folder.push(".refresh");
    let path = PathBuf::from(folder).join(format!("{name}.lock"));
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_matches('\0').to_owned()
}

// === impl Stored ===

/// A day in seconds.
const DAY: i64 = 86_400;

impl Stored {
    /// Whether a caller has reported the access token.
    pub(super) fn is_reported(&self) -> bool {
        self.rejected.as_ref().is_some_and(|(of, _)| *of == fingerprint(&self.access))
    }

    /// Whether the access token works, as far as a client can know. A report counts once the provider
    /// has confirmed it.
    pub(super) fn usable(&self, now: i64) -> bool {
        now < self.expires_at && !(self.is_confirmed && self.is_reported())
    }

    /// Whether it serves a caller that wants this remaining life; at most half of its life counts.
    pub(super) fn fresh(&self, now: i64, min_ttl: i64) -> bool {
        self.usable(now) && self.expires_at - now >= min_ttl.min((self.expires_at - self.issued_at) / 2)
    }

    /// Whether this candidate can be chosen: within a quarter of an hour from its sign-in. A
    /// candidate from further in the future comes from a clock that was wrong.
    pub(super) fn can_be_chosen(&self, now: i64) -> bool {
        now < self.issued_at + CHOICE && self.issued_at <= now + CHOICE
    }

    /// Whether any write may drop this candidate: two days after its last chance to be chosen, or as
    /// far in the future.
    pub(super) fn may_be_swept(&self, now: i64) -> bool {
        self.is_off_by(2 * DAY, now)
    }

    /// Whether a broker must drop this candidate when it looks, however long it has known it.
    pub(super) fn is_long_over(&self, now: i64) -> bool {
        self.is_off_by(DAY, now)
    }

    fn is_off_by(&self, grace: i64, now: i64) -> bool {
        now >= self.issued_at + CHOICE + grace || self.issued_at > now + CHOICE + grace
    }

    /// Whether both are the same revision.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.lineage == other.lineage && self.generation == other.generation
    }
}
