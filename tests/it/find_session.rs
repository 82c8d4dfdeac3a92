//! One session is found as the full read has it, or not at all: in stores of any content, in the
//! layouts of all kinds of programs.
//!
//! The stores are drawn from a seed, which is printed; `THREADKEY_FIND_SESSION_SEED` repeats a run.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{collections::BTreeMap, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use serde_json::{
    Map, Value, json,
    ser::{Formatter, PrettyFormatter, Serializer},
};
use threadkey::{
    ids::Tenant,
    session::Change,
    store::{FileStore, FileStoreOptions, Store},
    sys::clock::Clock,
};

use crate::{fixtures, support::random::Random};

const NOW: i64 = 1_795_358_672;
const ROUNDS: usize = 600;

const TENANTS: [&str; 6] =
    ["codex/local", "codex/user:803", "codex/user:80", "acme/user:803", "acme/local", "a.c-me/guild:1"];

/// Texts that a careless search would take for something else.
const TEXTS: [&str; 9] = [
    "alice@example.com",
    "é \u{1F511} \u{2028}",
    "}\n  },\n  \"sessions\": {\n    \"codex/local\": {\n      \"access_token\": \"stolen\"\n    }\n",
    "\\\"\n    \"codex/local\": {",
    "{}",
    "{",
    "},",
    "\\",
    "\"codex/local\": ",
];

/// The program that wrote the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Writer {
    Threadkey,
    Two,
    Four,
    Tab,
    Python,
    Compact,
    Windows,
}

const WRITERS: [Writer; 7] = [
    Writer::Threadkey,
    Writer::Two,
    Writer::Four,
    Writer::Tab,
    Writer::Python,
    Writer::Compact,
    Writer::Windows,
];

/// Python's `json.dump` without an indentation.
struct OneLine;

impl Formatter for OneLine {
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        to.write_all(if first { b"" } else { b", " })
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

fn with(formatter: impl Formatter, store: &Value) -> String {
    let mut bytes = Vec::new();
    serde::Serialize::serialize(store, &mut Serializer::with_formatter(&mut bytes, formatter)).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Escapes all characters but ASCII, as Python does.
fn ascii(text: &str) -> String {
    let mut units = [0; 2];
    let escaped = |c: char| match c {
        ' '..='~' | '\n' => c.to_string(),
        c => c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    text.chars().map(escaped).collect()
}

fn written(store: &Value, writer: Writer) -> String {
    match writer {
        Writer::Threadkey | Writer::Two => with(PrettyFormatter::new(), store) + "\n",
        Writer::Four => ascii(&with(PrettyFormatter::with_indent(b"    "), store)),
        Writer::Tab => with(PrettyFormatter::with_indent(b"\t"), store),
        Writer::Python => ascii(&with(OneLine, store)),
        Writer::Compact => store.to_string(),
        Writer::Windows => with(PrettyFormatter::new(), store).replace('\n', "\r\n"),
    }
}

fn one_of<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

fn session(random: &mut Random) -> Value {
    let length = if random.one_in(8) { random.below(40_000) } else { random.below(200) };
    let mut session = json!({
        "access_token": format!("{}{}", random.next(), "t".repeat(usize::try_from(length).unwrap())),
        "token_type": "Bearer",
        "issued_at": NOW, "expires_at": NOW + 3600,
        "lineage": format!("{:032x}", random.next()), "generation": random.below(99),
        "token_endpoint": "https://id.example/token", "client_id": "threadkey",
    });
    let more = session.as_object_mut().unwrap();
    if random.one_in(3) {
        more.insert("account".into(), one_of(random, &TEXTS).into());
    }
    if random.one_in(4) {
        more.insert("retry".into(), json!({"set_at": 1, "not_before": 2, "attempts": 3, "code": "connect"}));
    }
    if random.one_in(4) {
        more.insert("later".into(), foreign(random));
    }
    session
}

/// What another program keeps there: a session under a tenant's name, in objects and lists.
fn foreign(random: &mut Random) -> Value {
    let named: Map<_, _> =
        [(one_of(random, &TENANTS).to_owned(), session_like(random))].into_iter().collect();
    match random.below(4) {
        0 => json!([named, [], {}]),
        1 => json!({"sessions": named}),
        2 => json!({}),
        _ => named.into(),
    }
}

fn session_like(random: &mut Random) -> Value {
    json!({
        "access_token": "foreign", "token_type": "Bearer", "issued_at": NOW, "expires_at": NOW + 3600,
        "lineage": format!("{:032x}", random.next()), "generation": 1,
        "token_endpoint": "https://id.example/token", "client_id": "threadkey",
    })
}

fn sessions(random: &mut Random) -> Value {
    let mut all = Map::new();
    for _ in 0..random.below(8) {
        all.insert(one_of(random, &TENANTS).to_owned(), session(random));
    }
    all.into()
}

fn store(random: &mut Random) -> Value {
    let mut store = Map::new();
    if random.one_in(10) {
        store.insert("later".into(), foreign(random));
    }
    store.insert("version".into(), if random.one_in(10) { 2 } else { 1 }.into());
    if random.one_in(10) {
        store.insert("between".into(), sessions(random));
    }
    if !random.one_in(20) {
        store.insert("sessions".into(), sessions(random));
    }
    store.insert("pending".into(), json!({}));
    if random.one_in(2) {
        store.insert("candidates".into(), sessions(random));
    }
    if random.one_in(2) {
        store.insert("backup".into(), json!({"sessions": sessions(random)}));
    }
    store.into()
}

fn open(path: &Path) -> FileStore {
    FileStore::open(path, Clock::fixed(NOW), FileStoreOptions::default()).unwrap()
}

/// Has threadkey itself write the file: with one member changed, and the rest as it keeps it.
async fn rewrite(store: &FileStore) {
    // A store of a newer version is not written.
    let _ = store.change(&"codex/local".parse().unwrap(), Change::Start(fixtures::pending(NOW))).await;
}

#[tokio::test]
async fn find_session_returns_the_session_of_the_full_read_or_none() {
    let mut random = Random::from_variable("THREADKEY_FIND_SESSION_SEED");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.json");
    let mut found = BTreeMap::<Writer, usize>::new();
    for round in 0..ROUNDS {
        let writer = one_of(&mut random, &WRITERS);
        let text = written(&store(&mut random), writer);
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let store = open(&path);
        if writer == Writer::Threadkey {
            rewrite(&store).await;
        }
        for tenant in TENANTS {
            let tenant: Tenant = tenant.parse().unwrap();
            let whole =
                store.read(&tenant).await.unwrap_or_else(|error| panic!("round {round}: {error}\n{text}"));
            if let Some(session) = store.find_session(&tenant) {
                assert!(whole.session.as_ref() == Some(&session), "round {round}, {tenant}:\n{text}");
                *found.entry(writer).or_default() += 1;
            }
        }
    }
    for writer in WRITERS {
        assert!(found.get(&writer).is_some_and(|found| *found > 20), "{writer:?}: {found:?}");
    }
}
