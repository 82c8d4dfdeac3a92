//! A look at one session, without reading the file in whole: nothing, or the session that the whole reading has; and where that
//! refuses the file, nothing, or a session that is in it.
//!
//! `@@` stands for more than is read at a time.
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
        Ok(entry) => assert_eq!(Some(session), entry.session, "the look and the whole reading differ"),
        Err(error) => {
            // What is behind the session, or in another one, makes no sense.
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
            let begin = format!("\"{}\": {{\n", tenant());
            let there = text.windows(begin.len()).any(|part| part == begin.as_bytes());
            assert!(there, "a session was found that is not there");
        }
    }
});

/// With the first `@@` made long.
fn spread(input: &[u8]) -> Vec<u8> {
    let Some(at) = input.windows(2).position(|two| two == b"@@") else { return input.to_vec() };
    [&input[..at], &[b'x'; 40_000], &input[at + 2..]].concat()
}
