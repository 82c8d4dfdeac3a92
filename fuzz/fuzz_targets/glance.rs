//! A look at one session, without the others: it is the session that the whole reading has; and where that refuses the file, the
//! look finds nothing that is not in the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::Value;
use threadkey::store::Store as _;
use threadkey_fuzz::{disk, open, run, tenant};

fuzz_target!(|text: &[u8]| {
    let disk = disk(Some(text));
    let store = open(&disk);
    let glance = store.glance(&tenant());
    match (run(store.read(&tenant())), glance) {
        (Ok(entry), glance) => assert_eq!(glance, entry.session, "the look and the whole reading differ"),
        (Err(_), None) => {}
        (Err(error), Some(session)) => {
            // Somebody else's record makes no sense, or the version is a newer one.
            serde_json::from_slice::<IgnoredAny>(text).unwrap_or_else(|_| panic!("no JSON, but {error}"));
            // Too deep, or with a number too large, where nobody looked.
            let Ok(file) = serde_json::from_slice::<Value>(text) else { return };
            let there = &file["sessions"][tenant().to_string()];
            assert_eq!(there["access_token"], session.access_token.expose(), "{error}");
            assert_eq!(there["generation"], session.generation, "{error}");
            assert!(file["version"].as_u64().is_some_and(|version| version > 0), "{error}");
        }
    }
});
