//! Rescue files. Writing the records of a file again yields the same records, and a truncated file
//! is refused.
//!
//! The first two bytes give the position of the cut. The rest is the file, with `~` for the digest
//! of a line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use threadkey::store::{read_rescue, rescue_text};
use threadkey_fuzz::{assert_no_canary, sealed};

fuzz_target!(|input: &[u8]| {
    let Some((cut, text)) = input.split_at_checked(2) else { return };
    let content = sealed(text);
    let path = Path::new("/data/rescue");
    let (tenant, intent, answer) = match read_rescue(path, &content) {
        Ok(read) => read,
        Err(error) => return assert_no_canary(&format!("{error} {error:?}")),
    };
    let mut kept = answer.clone();
    // A header longer than any valid one is dropped.
    kept.retry_after = kept.retry_after.filter(|text| text.len() <= 128);
    // Of these two headers the beginning is kept.
    for header in [&mut kept.content_type, &mut kept.content_encoding].into_iter().flatten() {
        let end = (0..=header.len().min(256)).rev().find(|at| header.is_char_boundary(*at));
        header.truncate(end.unwrap_or(0));
    }
    let written = rescue_text(&tenant, &intent, &answer);
    let again = read_rescue(path, &written).expect("the written file can be read");
    assert_eq!(again, (tenant, intent, kept), "the records changed");
    let cut = usize::from(u16::from_le_bytes([cut[0], cut[1]])) % written.len();
    read_rescue(path, &written[..cut]).expect_err("a truncated file is refused");
});
