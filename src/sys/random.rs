//! Randomness from the operating system.

use base64::Engine as _;

/// Returns `N` random bytes.
///
/// # Panics
/// When the operating system has no randomness, which happens on no supported system after boot.
/// Without it secrets could be guessed.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// Returns 256 random bits as 43 characters of base64url: for `state`, `nonce`, capabilities and
/// one-time ids.
pub fn token() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes::<32>())
}

/// Returns 128 random bits as 22 characters of base64url: for an address that fits on a phone.
pub fn short_token() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes::<16>())
}

/// Returns a random fraction in `0.0..1.0`, for jitter.
pub fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}
