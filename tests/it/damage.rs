//! Every parser on randomly damaged input: nothing panics, no damaged file is overwritten, and no
//! damaged answer makes a session out of nothing.
//!
//! The damage is drawn from a seed, which is printed. `THREADKEY_DAMAGE_SEED` repeats a run, and
//! `THREADKEY_DAMAGE_ROUNDS` makes it longer than the default.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::{collections::BTreeMap, path::Path};

use threadkey::{
    config::Config,
    ids::Tenant,
    oauth::{AnswerRules, Attempt, Outcome, Pasted, sign_in_outcome},
    secret::Nonce,
    session::{
        Change,
        journal::{Answer, Answered},
    },
    store::{FileStore, FileStoreOptions, Purpose, Store, StoreError, read_rescue},
    sys::clock::Clock,
};

use crate::support::random::Random;

const NOW: i64 = 1_795_358_672;

const STORE: &str = r#"{"version":1,"sessions":{"acme/local":{"access_token":"a","refresh_token":"r","token_type":"Bearer","issued_at":1795358672,"expires_at":1795362272,"lineage":"0123456789abcdef0123456789abcdef","generation":7,"token_endpoint":"https://id.example/token","client_id":"c","rejected":{"fingerprint":"0123456789abcdef01234567","at":5},"retry":{"set_at":1,"not_before":2,"attempts":2,"code":"connect"}}},"pending":{"acme/user:803":{"verifier":"v","state":"s","redirect_uri":"http://127.0.0.1:1/callback","created_at":1795358600,"started_by":"user:803","token_endpoint":"https://id.example/token","client_id":"c","scopes":["a"]}},"clients":{}}"#;

const JOURNAL: &str = concat!(
    r#"a7f61abe524b91ab0f474a31 {"version":1,"kind":"refresh","lineage":"0123456789abcdef0123456789abcdef","generation":7,"fingerprint":"70733995b14403143d062779","at":1795362300,"token_endpoint":"https://id.acme.example/token"}"#,
    "\n",
    r#"c856f5865c1d543c645ec3c9 {"version":1,"status":200,"body":"eyJhY2Nlc3NfdG9rZW4iOiJhY2Nlc3MtOCIsImV4cGlyZXNfaW4iOjM2MDB9","at":1795362301}"#,
    "\n"
);

const CONFIG: &str = r#"[providers.acme]
authorization_endpoint = "https://id.acme.example/authorize"
token_endpoint = "https://id.acme.example/token"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
scopes = ["read"]
reuse_grace = "30s"
[agent]
command = ["codex-acp"]
providers = ["acme"]
"#;

const ANSWERS: [&str; 4] = [
    r#"{"access_token":"a","refresh_token":"r","expires_in":"3600","token_type":"Bearer","id_token":"e30.eyJub25jZSI6Im4iLCJhdWQiOiJjIn0."}"#,
    r#"{"error":{"code":"refresh_token_reused","type":"x"},"error_description":"no"}"#,
    r#"{"error":"invalid_grant"}"#,
    "<html><body>503</body></html>",
];

const PASTES: [&str; 3] = [
    "http://127.0.0.1:1/callback?code=abc%2Fdef&state=xyz&iss=https%3A%2F%2Fid.example",
    "<`abc#xyz`>",
    "http://127.0.0.1:1/callback?error=access_denied&error_description=no+thanks",
];

fn rounds() -> u64 {
    let given = std::env::var("THREADKEY_DAMAGE_ROUNDS").ok();
    given.map_or(400, |rounds| rounds.parse().expect("a number of rounds"))
}

/// Changes, removes, doubles or inserts some bytes, or cuts off the end.
fn damaged(random: &mut Random, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let len = bytes.len() as u64;
        let at = usize::try_from(random.below(len.max(1))).expect("an index");
        let byte = match random.below(3) {
            0 => b"{}[]\",:\\0-#%&=\n"[usize::try_from(random.below(15)).expect("an index")],
            _ => random.next().to_le_bytes()[0],
        };
        match random.below(5) {
            _ if bytes.is_empty() => bytes.push(byte),
            0 => bytes[at] = byte,
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, byte),
            3 => bytes.extend_from_within(at..),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn open(folder: &Path) -> FileStore {
    let options = FileStoreOptions::default();
    FileStore::open(&folder.join("auth.json"), Clock::fixed(NOW), options).expect("a store")
}

fn put(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes).expect("can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("is ours");
}

#[tokio::test]
async fn a_damaged_store_is_read_or_refused_and_never_overwritten_when_refused() {
    let mut random = Random::from_variable("THREADKEY_DAMAGE_SEED");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("auth.json");
    let tenant: Tenant = "acme/local".parse().expect("a tenant");
    for round in 0..rounds() {
        let bytes = damaged(&mut random, STORE);
        put(&path, &bytes);
        let store = open(folder.path());
        let read = store.read(&tenant).await;
        let found = store.find_session(&tenant);
        let changed = store.change(&tenant, Change::Logout).await;
        let Err(error) = read else { continue };
        assert!(matches!(error, StoreError::Corrupt { .. } | StoreError::Newer { .. }), "{round}: {error}");
        // Neither a newer store nor a file of another kind is changed.
        assert!(changed.is_err(), "{round}: {error}");
        assert_eq!(std::fs::read(&path).expect("is there"), bytes, "{round}: {error}");
        drop(found);
    }
}

#[tokio::test]
async fn a_damaged_journal_is_read_or_refused_and_a_whole_answer_in_it_is_not_lost() {
    let mut random = Random::from_variable("THREADKEY_DAMAGE_SEED");
    let folder = tempfile::tempdir().expect("a folder");
    put(&folder.path().join("auth.json"), STORE.as_bytes());
    let tenant: Tenant = "acme/local".parse().expect("a tenant");
    let store = open(folder.path());
    drop(store.try_lock(&tenant, Purpose::Refresh).await.expect("the lock").expect("is free"));
    let path = folder.path().join("auth.json.refresh/acme%2Flocal.lock");
    let answer = JOURNAL.lines().nth(1).expect("the answer's line");
    for round in 0..rounds() {
        let bytes = damaged(&mut random, JOURNAL);
        put(&path, &bytes);
        let mut lock = store.try_lock(&tenant, Purpose::Refresh).await.expect("the lock").expect("is free");
        let empty = matches!(lock.journal().await, Ok(threadkey::session::journal::Found::Nothing));
        let second = bytes.split(|byte| *byte == b'\n').nth(1).unwrap_or_default();
        let whole = second == answer.as_bytes() && bytes.iter().filter(|byte| **byte == b'\n').count() > 1;
        assert!(!(empty && whole), "{round}: an answer was taken for nothing");
        let _ = read_rescue(&path, &bytes);
    }
}

#[test]
fn a_damaged_answer_grants_nothing_that_is_not_in_it() {
    let mut random = Random::from_variable("THREADKEY_DAMAGE_SEED");
    let nonce = Nonce::new("n");
    let rules = AnswerRules { client_id: "c".into(), ..AnswerRules::default() };
    for round in 0..rounds() * 20 {
        let text = ANSWERS[usize::try_from(random.below(4)).expect("an index")];
        let body = damaged(&mut random, text);
        let status = [200, 200, 400, 401, 429, 500, 503][usize::try_from(random.below(7)).expect("an index")];
        let answer = Answer { status, body: body.clone().into(), at: NOW, ..Answer::default() };
        for nonce in [None, Some(&nonce)] {
            let attempt = Attempt::Answered(Answered::for_tests(answer.clone()));
            if let Ok(Outcome::Granted(grant)) = sign_in_outcome(&attempt, &rules, nonce) {
                assert!(!grant.access_token.expose().is_empty(), "{round}");
                assert!((200..300).contains(&status), "{round}: {status}");
            }
        }
    }
}

#[test]
fn damaged_pastes_and_configurations_are_accepted_or_refused_with_an_error() {
    let mut random = Random::from_variable("THREADKEY_DAMAGE_SEED");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("threadkey.toml");
    let variables = BTreeMap::from([("HOME".into(), folder.path().as_os_str().to_owned())]);
    for _ in 0..rounds() {
        for _ in 0..20 {
            let text = PASTES[usize::try_from(random.below(3)).expect("an index")];
            let text = String::from_utf8_lossy(&damaged(&mut random, text)).into_owned();
            if let Err(error) = Pasted::parse(&text).and_then(|pasted| pasted.response(&[])) {
                assert!(!error.to_string().is_empty());
            }
        }
        put(&path, &damaged(&mut random, CONFIG));
        if let Err(error) = Config::load(Some(&path), folder.path(), &variables) {
            assert!(error.to_string().contains("threadkey.toml"), "{error}");
        }
    }
}
