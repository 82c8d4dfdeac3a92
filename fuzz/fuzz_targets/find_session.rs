//! One session, found without reading the other records.
//!
//! If the full read accepts the file, both find the same session, and it is missed only where the
//! version does not stand before the sessions. If the full read refuses the file, a session is
//! found only where its own member is valid and the text before it is JSON of version 1. A second
//! reader, which shares no code with the first, finds that member.
//!
//! `@@` stands for 40,000 bytes.
#![no_main]

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use threadkey::{
    session::Session,
    store::{Store as _, StoreError},
};
use threadkey_fuzz::{disk, open, run, tenant};

fuzz_target!(|input: &[u8]| {
    let text = spread(input);
    let store = open(&disk(Some(&text)));
    let found = store.find_session(&tenant());
    match (run(store.read(&tenant())), found) {
        (Ok(entry), found) if found.is_some() || member(&text).is_some() => {
            assert_eq!(found, entry.session, "the full read has another session");
        }
        (Ok(_), _) | (Err(_), None) => {}
        (Err(error), Some(found)) => {
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
            assert_is_member(&text, &found);
        }
    }
});

/// Asserts that the session is the tenant's member of a text that the full read refuses, and that
/// the text is JSON up to there.
fn assert_is_member(text: &[u8], found: &Session) {
    let member = member(text).expect("a session was found that is not there");
    let before = [&text[..member.end], b"}}"].concat();
    let is_json = serde_json::from_slice::<IgnoredAny>(&before);
    is_json.expect("a session was found after damage");
    let alone = [br#"{"version":1,"sessions":{"acme/local":"#, &text[member], b"}}"].concat();
    let entry = run(open(&disk(Some(&alone))).read(&tenant())).expect("a session was found that is invalid");
    assert_eq!(entry.session.as_ref(), Some(found), "another session was found");
}

/// Returns the place of the tenant's first member in the first `sessions`, if `"version": 1` stands
/// before it and is the only version there.
fn member(text: &[u8]) -> Option<Range<usize>> {
    let root = members(text, blank(text, 0))?;
    let at = root.iter().position(|(name, _)| name == "sessions")?;
    let mut versions = root[..at].iter().filter(|(name, _)| name == "version");
    let (_, version) = versions.next()?;
    if &text[version.clone()] != b"1" || versions.next().is_some() {
        return None;
    }
    let sessions = members(text, root[at].1.start)?;
    let ours = tenant().to_string();
    sessions.into_iter().find(|(name, _)| *name == ours).map(|(_, value)| value)
}

/// Returns the names and places of the members of the object at `at`, up to its end or to damage.
fn members(text: &[u8], mut at: usize) -> Option<Vec<(String, Range<usize>)>> {
    let mut members = Vec::new();
    if text.get(at) != Some(&b'{') {
        return None;
    }
    loop {
        at = blank(text, at + 1);
        if text.get(at) != Some(&b'"') {
            return Some(members);
        }
        let name = at..string_end(text, at);
        at = blank(text, name.end);
        if text.get(at) != Some(&b':') {
            return Some(members);
        }
        let Ok(name) = serde_json::from_slice(&text[name]) else { return Some(members) };
        let start = blank(text, at + 1);
        let end = value_end(text, start);
        members.push((name, start..end));
        at = blank(text, end);
        if text.get(at) != Some(&b',') {
            return Some(members);
        }
    }
}

/// Returns the place after the white space at `at`.
fn blank(text: &[u8], at: usize) -> usize {
    at + text.iter().skip(at).take_while(|byte| b" \t\r\n".contains(byte)).count()
}

/// Returns the place after the string at `at`.
fn string_end(text: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while let Some(byte) = text.get(end) {
        end += match byte {
            b'"' => return end + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    text.len()
}

/// Returns the place after the value at `at`.
fn value_end(text: &[u8], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut end = at;
    while let Some(byte) = text.get(end) {
        match byte {
            b'"' => {
                end = string_end(text, end);
                if depth == 0 {
                    return end;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth > 1 => depth -= 1,
            b'}' | b']' if depth == 1 => return end + 1,
            b'}' | b']' => return end,
            b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return end,
            _ => {}
        }
        end += 1;
    }
    text.len()
}

/// Makes the first `@@` long.
fn spread(input: &[u8]) -> Vec<u8> {
    let Some(at) = input.windows(2).position(|two| two == b"@@") else { return input.to_vec() };
    [&input[..at], &[b'x'; 40_000], &input[at + 2..]].concat()
}
