//! Signed tokens and key sets. No token is verified without an algorithm that has a public key, a
//! signature, and exactly one key that fits. A verified token is no longer verified after any change
//! of a byte of its header, its payload or its signature, nor with a set that has its key twice.
//!
//! The first line is the token, and the rest is the key set.
#![no_main]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use threadkey::oauth::{Jws, KeySet, SignatureFault};

/// The algorithms of threadkey.
const ALGORITHMS: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519"];

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (token, document) = text.split_once('\n').unwrap_or((text, "{}"));
    let Ok(document) = serde_json::from_str::<Map<String, Value>>(document) else { return };
    let Ok(keys) = KeySet::parse(&document) else {
        assert!(!document.get("keys").is_some_and(Value::is_array), "a key set was not read");
        return;
    };
    if verify(token, &keys).is_err() {
        return;
    }
    let token = token.trim();
    let header = token.split('.').next().expect("a split has a part");
    let header = URL_SAFE_NO_PAD.decode(header).expect("a verified token has a header");
    let header: Map<String, Value> = serde_json::from_slice(&header).expect("it is an object");
    let algorithm = header["alg"].as_str().expect("it has an algorithm");
    assert!(ALGORITHMS.contains(&algorithm), "{algorithm} was verified");
    assert!(!header.contains_key("crit"), "an extension was ignored");
    for at in (0..token.len()).step_by((token.len() / 32).max(1)) {
        let changed = changed(token, at);
        assert!(changed == token || verify(&changed, &keys).is_err(), "byte {at} does not matter");
    }
    let all = document["keys"].as_array().expect("it is a list");
    let doubled: Vec<Value> = all.iter().chain(all).cloned().collect();
    let doubled = Map::from_iter([("keys".to_owned(), Value::Array(doubled))]);
    let doubled = KeySet::parse(&doubled).expect("it is a key set");
    let fault = verify(token, &doubled).expect_err("two keys fit");
    assert!(matches!(fault, SignatureFault::SeveralKeys | SignatureFault::NoKid), "{fault}");
});

fn verify(token: &str, keys: &KeySet) -> Result<(), SignatureFault> {
    keys.verify(&Jws::parse(token)?)
}

/// Returns the token with another character at this place.
fn changed(token: &str, at: usize) -> String {
    let other = |c: char| if c == 'A' { 'B' } else { 'A' };
    token.char_indices().map(|(place, c)| if place == at { other(c) } else { c }).collect()
}
