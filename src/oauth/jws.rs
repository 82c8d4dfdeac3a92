//! Signed id tokens: the header and the signature of a JWS in its compact form (RFC 7515 §3.1),
//! checked in *ring*, the crate that TLS uses too.
//!
//! Invariants: the algorithm must be one of [`Algorithm`], all of which have a public key, so neither
//! `none` nor a shared secret is ever accepted. The key comes from the issuer's set alone: no member
//! of the header can bring or name another one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny},
};

/// A signed token, taken apart. Its signature is not checked yet: [`KeySet::verify`](super::KeySet)
/// does that.
#[derive(Debug)]
pub struct Jws<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// The bytes that are signed: header and payload as they were sent.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
}

/// A signature algorithm with a public key (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// The reason why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// It is not a JWS.
    #[error("it is not a signed token (RFC 7515 §3.1)")]
    Malformed,
    /// It is encrypted.
    #[error("it is encrypted, and threadkey has no key for it")]
    Encrypted,
    /// A header member demands an extension (RFC 7515 §4.1.11).
    #[error("its header demands an extension (`crit`) that threadkey does not know")]
    Critical,
    /// The algorithm is none, symmetric, or unknown.
    #[error(
        "its algorithm (`alg`) is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA"
    )]
    Algorithm,
    /// No key of the issuer has the token's `kid`.
    #[error("its key (`kid`) is not among the issuer's keys")]
    UnknownKey,
    /// The token has no `kid`, and several keys fit.
    #[error("it does not name its key (`kid`), and the issuer has several")]
    NoKid,
    /// Several keys have the same `kid`.
    #[error("the issuer has several keys of the same `kid`")]
    SeveralKeys,
    /// The key with this `kid` is for another use, of another type, or too weak.
    #[error("the issuer's key of that `kid` is not for this algorithm and for signatures, or is too weak")]
    UnfitKey,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    Wrong,
}

/// The members of the header that matter. A member that occurs twice makes the header unreadable.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
    #[serde(default, deserialize_with = "is_present")]
    b64: bool,
    #[serde(default, deserialize_with = "is_present")]
    enc: bool,
}

fn is_present<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(from).map(|_| true).map_err(D::Error::custom)
}

// === impl Jws ===

impl<'a> Jws<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// Every fault that shows without a key.
    pub fn parse(token: &'a str) -> Result<Self, SignatureFault> {
        let token = token.trim();
        let (signed, signature) = token.rsplit_once('.').ok_or(SignatureFault::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(SignatureFault::Malformed)?;
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| SignatureFault::Malformed)?;
        let header: Header = serde_json::from_slice(&header).map_err(|_| SignatureFault::Malformed)?;
        if header.enc {
            return Err(SignatureFault::Encrypted);
        }
        if header.crit || header.b64 {
            return Err(SignatureFault::Critical);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(SignatureFault::Algorithm)?;
        // The payload is read elsewhere, and as leniently as nowhere else: so its form is strict here.
        URL_SAFE_NO_PAD.decode(payload).map_err(|_| SignatureFault::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureFault::Malformed)?;
        Ok(Self { algorithm, kid: header.kid, signed, signature })
    }
}

// === impl SignatureFault ===

impl SignatureFault {
    /// Whether the issuer may have replaced its keys since they were fetched. A token without a `kid`
    /// does not show that otherwise.
    pub fn may_be_a_rotation(self, jws: &Jws<'_>) -> bool {
        self == Self::UnknownKey || (self == Self::Wrong && jws.kid.is_none())
    }
}

// === impl Algorithm ===

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            // RFC 9864 names the curve.
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    /// Whether a key that is bound to the algorithm of this name can be used.
    pub(super) fn is_named(self, name: &str) -> bool {
        Self::named(name) == Some(self)
    }
}

#[cfg(test)]
mod tests;
