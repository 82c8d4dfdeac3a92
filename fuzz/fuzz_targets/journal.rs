//! The journal: a whole answer in it is never taken for none, whatever is before it; what is not understood is left as it is; and
//! what is written is read again, cut off at any byte, as what it is.
//!
//! The text up to a line `%%` is what the lock file holds, with `~` for the digest of a line; what follows is an answer, and where
//! the file that holds it is cut off and spoiled.
#![no_main]

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use threadkey::{
    ids::Lineage,
    secret::Fingerprint,
    session::{
        Revision, RefreshTarget,
        journal::{Answer, Intent, Journal, Spending},
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
    let found = run(lock.journal());
    assert_is_read(&content, &found);
    let stored = || disk.get(Path::new(JOURNAL)).expect("the journal is there");
    if !matches!(found, Ok(Journal::Intended(_))) {
        run(lock.record(&answer(rest))).expect_err("there is nothing that it answers");
        assert_eq!(stored(), content, "what was refused was written over");
    }
    if !matches!(found, Ok(Journal::Empty | Journal::Intended(_))) {
        run(lock.intend(&intent())).expect_err("something is there that nobody has seen to");
        assert_eq!(stored(), content, "what was refused was written over");
        return;
    }
    write(lock.as_mut(), rest);
    drop(lock);
    assert_outlives(&disk, &store, rest);
    let mut lock = locked(&store);
    run(lock.clear()).expect("it can be emptied");
    assert_eq!(run(lock.journal()).expect("it is empty"), Journal::Empty);
});

fn locked(store: &FileStore) -> Box<dyn TenantLock> {
    run(store.try_lock(&tenant(), Purpose::Refresh)).expect("the lock").expect("nobody else is there")
}

/// What was found is what the lines say, by a second reading that shares no code with the first.
fn assert_is_read(content: &[u8], found: &Result<Journal, StoreError>) {
    let lines: Vec<_> = content.split_inclusive(|byte| *byte == b'\n').map(whole).collect();
    let (first, others) = lines.split_first().map_or((None, &[][..]), |(first, others)| (*first, others));
    let second = others.first().copied().flatten();
    match found {
        Err(error) => assert_no_canary(&format!("{error} {error:?}")),
        Ok(Journal::Empty) => {
            assert!(first.is_none(), "an intent was taken for nothing");
            assert!(others.iter().all(Option::is_none), "an answer was taken for nothing");
        }
        Ok(Journal::Intended(intent)) => {
            assert!(first.is_some_and(|first| of(first, "token_endpoint") == intent.token_endpoint));
            assert!(others.iter().all(Option::is_none), "an answer was taken for none");
        }
        Ok(Journal::Answered(_, answer)) => {
            let line = second.expect("an answer is a whole line");
            assert!(first.is_some(), "an intent is a whole line");
            let body = STANDARD.decode(of(line, "body").as_str().expect("a text")).expect("base64");
            assert_eq!(*answer.body, body, "the answer is another one");
            assert_eq!(of(line, "status"), answer.status);
        }
    }
}

/// A member of the line. The last one of a name, as there is no other reading of two.
fn of(line: &str, name: &str) -> Value {
    serde_json::from_str::<Value>(line).expect("it was read")[name].take()
}

/// The steps of a refresh, each followed by a look.
fn write(lock: &mut dyn TenantLock, rest: &[u8]) {
    let (intent, answer) = (intent(), answer(rest));
    run(lock.intend(&intent)).expect("it can be written");
    assert_eq!(run(lock.journal()).expect("it is whole"), Journal::Intended(intent.clone()));
    run(lock.record(&answer)).expect("it can be written");
    let answered = Journal::Answered(intent.clone(), answer.clone());
    assert_eq!(run(lock.journal()).expect("it is whole"), answered);
    run(lock.record(&answer)).expect("it may be written again");
    run(lock.intend(&intent)).expect_err("the answer would be lost");
    assert_eq!(run(lock.journal()).expect("it is whole"), answered);
}

/// Cut off anywhere, and spoiled anywhere, the file never has another answer in it; and none is only what is cut off.
fn assert_outlives(disk: &MemoryDisk, store: &FileStore, rest: &[u8]) {
    let content = disk.get(Path::new(JOURNAL)).expect("the journal is there");
    let answered = Journal::Answered(intent(), answer(rest));
    let number =
        |from: usize| rest.iter().skip(from).take(2).fold(0, |number, byte| number << 8 | usize::from(*byte));
    let cut = number(0) % (content.len() + 1);
    disk.put(Path::new(JOURNAL), &content[..cut]);
    let found = run(locked(store).journal()).expect("a torn line is no damage");
    assert_eq!(found == answered, cut == content.len(), "cut off at {cut}: {found:?}");
    assert!(!matches!(found, Journal::Answered(..)) || found == answered);

    let mut spoiled = content.clone();
    spoiled[number(2) % content.len()] ^= 1 << (number(1) % 8);
    disk.put(Path::new(JOURNAL), &spoiled);
    match run(locked(store).journal()) {
        Ok(found) => assert!(!matches!(found, Journal::Answered(..)), "a spoiled answer was believed"),
        Err(error) => assert_no_canary(&error.to_string()),
    }
    let intent_ends = content.iter().position(|byte| *byte == b'\n').expect("a line");
    if number(2) % content.len() <= intent_ends {
        let found = run(locked(store).journal());
        assert!(found.is_err(), "an answer was lost, which is whole: {found:?}");
    }
    disk.put(Path::new(JOURNAL), &content);
}

fn intent() -> Intent {
    let seen = Revision { lineage: Lineage([1; 16]), generation: 7 };
    let spending = Spending::Refresh(RefreshTarget { seen, fingerprint: Fingerprint::of("r") });
    Intent { spending, at: NOW, token_endpoint: "https://id.example/token".into() }
}

fn answer(rest: &[u8]) -> Answer {
    let (head, body) = rest.split_at(rest.len().min(4));
    let status = 200 + u16::from(head.first().copied().unwrap_or_default());
    let retry_after = std::str::from_utf8(body).ok().filter(|text| text.len() < 100).map(str::to_owned);
    Answer { status, retry_after, body: body.to_vec().into(), at: NOW }
}
