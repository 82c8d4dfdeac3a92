//! Secrets as types: a text that must never be shown has such a type from its arrival on.
//!
//! Invariants: `Debug` is redacted, and there is neither `Display` nor serde. Only
//! [`Secret::expose`] returns the text, and its memory is zeroed on drop. A [`Fingerprint`] may be
//! shown and stored: it identifies a token without revealing it.

mod known;
mod scrubber;

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use scrubber::{Pin, Scrubber, Stream};

/// A text that no log, error, argument list or URL may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the text itself. Each call site needs a review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Identifies the secret without revealing it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.expose())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The first 96 bits of a secret's SHA-256, in lower-case hex: enough to distinguish two tokens,
/// and useless for finding one.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Hex digits in a fingerprint.
    pub const LEN: usize = 24;

    /// The fingerprint of `text`.
    pub fn of(text: &str) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
        let mut hex = String::with_capacity(Self::LEN);
        for byte in &digest[..Self::LEN / 2] {
            hex.extend([digit(byte >> 4), digit(byte & 15)]);
        }
        Self(hex)
    }

    /// Reads a stored fingerprint; `None` unless it has the form of one. A longer or shorter prefix
    /// than ours stays as it is. [`Fingerprint::matches`] compares the common prefix.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex && (8..=64).contains(&text.len())).then(|| Self(text.to_owned()))
    }

    /// Whether both are prefixes of one SHA-256.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! secret_newtype {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Secret);

        impl $name {
            /// Takes the text over.
            pub fn new(text: impl Into<String>) -> Self {
                Self(Secret::new(text))
            }

            /// Returns the text itself. Each call site needs a review.
            pub fn expose(&self) -> &str {
                self.0.expose()
            }

            /// Identifies it without revealing it.
            pub fn fingerprint(&self) -> Fingerprint {
                self.0.fingerprint()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }

        impl From<Secret> for $name {
            fn from(secret: Secret) -> Self {
                Self(secret)
            }
        }
    )+};
}

secret_newtype! {
    /// An access token (RFC 6749 §1.4).
    AccessToken,
    /// A refresh token (RFC 6749 §1.5). A provider that rotates spends it at each use.
    RefreshToken,
    /// An authorization code (RFC 6749 §1.3.1): good for one exchange.
    AuthorizationCode,
    /// The PKCE `code_verifier` (RFC 7636 §4.1).
    CodeVerifier,
    /// The `state` parameter (RFC 6749 §4.1.1).
    State,
    /// The OpenID Connect `nonce`.
    Nonce,
    /// A `device_code` (RFC 8628 §3.2) or `auth_req_id` (CIBA Core §7.3): polls with it return tokens.
    DeviceCode,
    /// An OpenID Connect id token (OpenID Connect Core §2): it names the account.
    IdToken,
    /// The secret of a registered client (RFC 7591 §3.2.1).
    ClientSecret,
    /// The random secret that a worker presents to the token API.
    Capability,
    /// The random secret that a worker presents to the injecting proxy.
    InjectSecret,
    /// The one-time id in the address of a sign-in's start page.
    StartId,
}

/// The six digits that a page shows and its user types. A fingerprint of them needs a salt, because
/// there are only a million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits(Secret);

impl Digits {
    /// How many there are.
    pub const LEN: usize = 6;

    /// The digits of a random number.
    pub fn of(number: u64) -> Self {
        Self(Secret::new(format!("{:06}", number % 1_000_000)))
    }

    /// Reads typed digits, with any blanks or dashes between them; `None` for another text.
    pub fn parse(text: &str) -> Option<Self> {
        let text: String = text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '–')).collect();
        let is_all = text.len() == Self::LEN && text.bytes().all(|byte| byte.is_ascii_digit());
        is_all.then(|| Self(Secret::new(text)))
    }

    /// Returns the digits themselves, for the one page that shows them.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Identifies them within the sign-in of this state.
    pub fn fingerprint(&self, state: &State) -> Fingerprint {
        Fingerprint::of(&format!("{}\n{}", state.expose(), self.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_part_of_a_secret() {
        let shown = format!(
            "{:?} {:?} {:?}",
            Secret::new("s3cr3t-text"),
            AccessToken::new("s3cr3t-text"),
            RefreshToken::new("s3cr3t-text")
        );
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }

    #[test]
    fn a_fingerprint_is_a_sha_256_prefix_and_prefixes_of_other_lengths_match() {
        let ours = Fingerprint::of("abc");
        assert_eq!(ours.as_str(), "ba7816bf8f01cfea414140de");
        let shorter = Fingerprint::parse("ba7816bf").expect("8 hex digits");
        assert!(ours.matches(&shorter));
        assert!(!Fingerprint::of("abd").matches(&shorter));
        assert!(Fingerprint::parse("BA7816BF").is_none());
    }
}
