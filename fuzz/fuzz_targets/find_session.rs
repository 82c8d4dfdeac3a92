//! One session, found without reading the other records: it is the one that the full read returns, or none.
//! Where the full read refuses the file, the session is one that is in it.
//!
//! `@@` stands for 40,000 bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use threadkey::store::{Store as _, StoreError};
use threadkey_fuzz::{disk, open, run, tenant};

fuzz_target!(|input: &[u8]| {
    let text = spread(input);
    let disk = disk(Some(&text));
    let store = open(&disk);
    let Some(session) = store.find_session(&tenant()) else { return };
    match run(store.read(&tenant())) {
        Ok(entry) => assert_eq!(Some(session), entry.session, "the full read has another session"),
        Err(error) => {
            // The damage is after the session, or in an object before it.
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
            let token = session.access_token.expose();
            let is_in_the_text = text.windows(token.len().max(1)).any(|part| part == token.as_bytes());
            let may_be_escaped = text.contains(&b'\\');
            assert!(is_in_the_text || may_be_escaped || token.is_empty(), "a session was found that is not there");
        }
    }
});

/// Makes the first `@@` long.
fn spread(input: &[u8]) -> Vec<u8> {
    let Some(at) = input.windows(2).position(|two| two == b"@@") else { return input.to_vec() };
    [&input[..at], &[b'x'; 40_000], &input[at + 2..]].concat()
}
