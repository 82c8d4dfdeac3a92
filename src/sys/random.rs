//! Randomness, from the operating system.

use base64::Engine as _;

/// `N` random bytes.
///
/// # Panics
/// When the operating system has no randomness to give, which no supported one does after boot; going on
/// without it would make guessable secrets.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// 256 random bits as 43 characters of base64url: for `state`, `nonce`, capabilities and one-time ids.
pub fn token() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes::<32>())
}

/// A random fraction in `0.0..1.0`, for jitter.
pub fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}
