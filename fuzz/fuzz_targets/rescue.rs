//! A rescue file: what is read out of one is what would be written of it, and a cut-off one is refused.
//!
//! The first byte says, with the second, where it is cut off; the rest is the file, with `~` for the digest of a line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use threadkey::store::{read_rescue, rescue_text};
use threadkey_fuzz::{assert_tells_nothing, sealed};

fuzz_target!(|input: &[u8]| {
    let Some((cut, text)) = input.split_at_checked(2) else { return };
    let content = sealed(text);
    let path = Path::new("/data/rescue");
    let (tenant, intent, answer) = match read_rescue(path, &content) {
        Ok(read) => read,
        Err(error) => return assert_tells_nothing(&format!("{error} {error:?}")),
    };
    let mut kept = answer.clone();
    // A header that is longer than any valid one is not kept.
    kept.retry_after = kept.retry_after.filter(|text| text.len() <= 128);
    let written = rescue_text(&tenant, &intent, &answer);
    let again = read_rescue(path, &written).expect("what was written can be read");
    assert_eq!(again, (tenant, intent, kept), "it is not what was written");
    let cut = usize::from(u16::from_le_bytes([cut[0], cut[1]])) % written.len();
    read_rescue(path, &written[..cut]).expect_err("a cut-off file is not whole");
});
