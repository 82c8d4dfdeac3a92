//! The journal. A whole answer is never read as none, whatever comes before it. A line that is not
//! understood stays as it is. A journal that was written reads as it was, cut off at any byte.
//!
//! The text up to a line `%%` is the content of the lock file, with `~` for the digest of a line.
//! The rest is an answer, and the places where the file that holds it is cut off and damaged.
#![no_main]

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use threadkey::{
    ids::Lineage,
    secret::Fingerprint,
    session::{
        RefreshTarget, Revision,
        journal::{Answer, Found, Intent, Journal, Spending, Unread},
    },
    store::{FileStore, Purpose, Store as _, StoreError, TenantLock},
};
use threadkey_fuzz::{JOURNAL, MemoryDisk, NOW, assert_no_canary, disk, open, run, sealed, tenant, whole};

fuzz_target!(|input: &[u8]| {
    let at = input.windows(3).position(|window| window == b"%%\n");
    let (text, rest) = at.map_or((input, &[][..]), |at| (&input[..at], &input[at + 3..]));
    let content = sealed(text);
    let disk = disk(None);
    disk.put(Path::new(JOURNAL), &content);
    let store = open(&disk);
    let mut lock = locked(&store);
    let found = journal(&mut lock);
    assert_is_read(&content, &found);
    let stored = || disk.get(Path::new(JOURNAL)).expect("the journal is there");
    if !matches!(found, Ok(Journal::Intended(_))) {
        run(lock.record(&unread(rest))).expect_err("there is no intent without an answer");
        assert_eq!(stored(), content, "a refused journal was written over");
    }
    if !matches!(found, Ok(Journal::Empty | Journal::Intended(_))) {
        run(lock.intend(intent())).expect_err("an unfinished or unknown request is there");
        assert_eq!(stored(), content, "a refused journal was written over");
        return;
    }
    write(&mut lock, rest);
    drop(lock);
    assert_outlives(&disk, &store, rest);
    let mut lock = locked(&store);
    run(lock.clear()).expect("it can be emptied");
    assert_eq!(journal(&mut lock).expect("it is empty"), Journal::Empty);
});

fn locked(store: &FileStore) -> TenantLock {
    run(store.try_lock(&tenant(), Purpose::Refresh)).expect("the lock").expect("no other process holds it")
}

fn journal(lock: &mut TenantLock) -> Result<Journal, StoreError> {
    Ok(match run(lock.journal())? {
        Found::Nothing => Journal::Empty,
        Found::Intended(intent) => Journal::Intended(intent),
        Found::Answered(answered) => Journal::Answered(answered.intent().clone(), answered.answer().clone()),
    })
}

/// An answer to the intent of another store: an intent is the only way to an answer.
fn unread(rest: &[u8]) -> Unread {
    let mut lock = locked(&open(&disk(None)));
    run(lock.intend(intent())).expect("it can be written").answered(answer(rest))
}

/// Asserts that the result is the content of the lines, by a second reader that shares no code with
/// the first.
fn assert_is_read(content: &[u8], found: &Result<Journal, StoreError>) {
    let lines: Vec<_> = content.split_inclusive(|byte| *byte == b'\n').map(whole).collect();
    let (first, others) = lines.split_first().map_or((None, &[][..]), |(first, others)| (*first, others));
    let second = others.first().copied().flatten();
    match found {
        Err(error) => assert_no_canary(&format!("{error} {error:?}")),
        Ok(Journal::Empty) => {
            assert!(first.is_none(), "an intent was read as none");
            assert!(others.iter().all(Option::is_none), "an answer was read as none");
        }
        Ok(Journal::Intended(intent)) => {
            assert!(first.is_some_and(|first| of(first, "token_endpoint") == intent.token_endpoint));
            assert!(others.iter().all(Option::is_none), "an answer was read as none");
        }
        Ok(Journal::Answered(_, answer)) => {
            let line = second.expect("an answer is a whole line");
            assert!(first.is_some(), "an intent is a whole line");
            let body = STANDARD.decode(of(line, "body").as_str().expect("a text")).expect("base64");
            assert_eq!(*answer.body, body, "the answer is another one");
            assert_eq!(of(line, "status"), answer.status);
            assert_eq!(of(line, "at"), answer.at);
            assert_eq!(of(line, "retry_after").as_str(), answer.retry_after.as_deref());
            assert!(matches!(of(line, "version").as_u64(), Some(1 | 2)));
            assert_eq!(of(line, "cut").as_bool().unwrap_or(false), answer.cut);
            assert_eq!(of(line, "content_type").as_str(), answer.content_type.as_deref());
            assert_eq!(of(line, "content_encoding").as_str(), answer.content_encoding.as_deref());
        }
    }
}

/// A member of the line. Of two with the same name the last one counts.
fn of(line: &str, name: &str) -> Value {
    serde_json::from_str::<Value>(line).expect("it was read")[name].take()
}

/// Goes through the steps of a refresh and reads the journal after each.
fn write(lock: &mut TenantLock, rest: &[u8]) {
    let (intent, answer) = (intent(), answer(rest));
    let unread = run(lock.intend(intent.clone())).expect("it can be written").answered(answer.clone());
    assert_eq!(journal(lock).expect("it is whole"), Journal::Intended(intent.clone()));
    run(lock.record(&unread)).expect("it can be written");
    let answered = Journal::Answered(intent.clone(), answer);
    assert_eq!(journal(lock).expect("it is whole"), answered);
    run(lock.record(&unread)).expect("it may be written again");
    run(lock.intend(intent)).expect_err("the answer would be lost");
    assert_eq!(journal(lock).expect("it is whole"), answered);
}

/// Asserts that the file, cut off or damaged anywhere, never holds another answer, and loses its
/// answer only where it is cut off.
fn assert_outlives(disk: &MemoryDisk, store: &FileStore, rest: &[u8]) {
    let content = disk.get(Path::new(JOURNAL)).expect("the journal is there");
    let answered = Journal::Answered(intent(), answer(rest));
    let number =
        |from: usize| rest.iter().skip(from).take(2).fold(0, |number, byte| number << 8 | usize::from(*byte));
    let cut = number(0) % (content.len() + 1);
    disk.put(Path::new(JOURNAL), &content[..cut]);
    let found = journal(&mut locked(store)).expect("a torn line is no damage");
    assert_eq!(found == answered, cut == content.len(), "cut off at {cut}: {found:?}");
    assert!(!matches!(found, Journal::Answered(..)) || found == answered);

    let mut damaged = content.clone();
    damaged[number(2) % content.len()] ^= 1 << (number(1) % 8);
    disk.put(Path::new(JOURNAL), &damaged);
    match journal(&mut locked(store)) {
        Ok(found) => assert!(!matches!(found, Journal::Answered(..)), "a damaged answer was accepted"),
        Err(error) => assert_no_canary(&error.to_string()),
    }
    let intent_ends = content.iter().position(|byte| *byte == b'\n').expect("a line");
    if number(2) % content.len() <= intent_ends {
        let found = journal(&mut locked(store));
        assert!(found.is_err(), "a whole answer was lost: {found:?}");
    }
    disk.put(Path::new(JOURNAL), &content);
}

fn intent() -> Intent {
    let revision = Revision { lineage: Lineage([1; 16]), generation: 7 };
    let spending = Spending::Refresh(RefreshTarget { revision, fingerprint: Fingerprint::of("r") });
    Intent { spending, at: NOW, token_endpoint: "https://id.example/token".into() }
}

fn answer(rest: &[u8]) -> Answer {
    let (head, body) = rest.split_at(rest.len().min(4));
    let status = 200 + u16::from(head.first().copied().unwrap_or_default());
    let header = std::str::from_utf8(body).ok().filter(|text| text.len() < 100).map(str::to_owned);
    Answer {
        status,
        retry_after: header.clone(),
        content_type: header.clone(),
        content_encoding: header,
        cut: status % 2 == 1,
        body: body.to_vec().into(),
        at: NOW,
    }
}
