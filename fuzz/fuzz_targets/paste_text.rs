//! Pasted text by itself: the parser alone, without a broker, so that millions of texts are read in
//! minutes. A code contains only characters of the paste, and belongs to a sign-in only if the paste has
//! its state. No message contains control characters or invisible formatting characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use threadkey_fuzz::paste;

fuzz_target!(|input: &[u8]| paste::assert_read(&String::from_utf8_lossy(input)));
