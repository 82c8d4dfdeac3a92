//! An issuer's public keys: a JWK Set (RFC 7517 §5), and the check of a signature with one of them.
//!
//! A key that cannot be read does not make the others unusable (RFC 7517 §5). It keeps its `kid`, so
//! a token that names it is refused and not tried with another key.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Map, Value};

use super::jws::{Algorithm, Jws, SignatureFault};

/// The smallest RSA modulus, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;

/// The public keys of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// The document is not a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has no list `keys` (RFC 7517 §5.1)")]
pub struct NoKeySet;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    kid: Option<String>,
    /// The only algorithm of the key, if it has one (RFC 7517 §4.4).
    alg: Option<String>,
    /// Whether `use` and `key_ops` allow the check of signatures (RFC 7517 §4.2 and §4.3).
    verifies: bool,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point (SEC 1 §2.3.3).
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
    /// Another type or curve, a secret key, or a broken or weak key.
    Unusable,
}

// === impl KeySet ===

impl KeySet {
    /// Reads a key set.
    ///
    /// # Errors
    /// [`NoKeySet`] without a list of keys.
    pub fn parse(document: &Map<String, Value>) -> Result<Self, NoKeySet> {
        let keys = document.get("keys").and_then(Value::as_array).ok_or(NoKeySet)?;
        Ok(Self { keys: keys.iter().filter_map(Value::as_object).map(Key::read).collect() })
    }

    /// Checks the signature of a token with the one key that it names.
    ///
    /// # Errors
    /// The fault of the token or of the key.
    pub fn verify(&self, jws: &Jws<'_>) -> Result<(), SignatureFault> {
        self.key_of(jws)?.verify(jws)
    }

    fn key_of(&self, jws: &Jws<'_>) -> Result<&Key, SignatureFault> {
        let named: Vec<&Key> =
            self.keys.iter().filter(|key| jws.kid.is_none() || key.kid == jws.kid).collect();
        let fitting: Vec<&Key> = named.iter().copied().filter(|key| key.fits(jws.algorithm)).collect();
        match (fitting.as_slice(), &jws.kid) {
            ([key], _) => Ok(key),
            ([], Some(_)) if !named.is_empty() => Err(SignatureFault::UnfitKey),
            ([], _) => Err(SignatureFault::UnknownKey),
            (_, Some(_)) => Err(SignatureFault::SeveralKeys),
            // OpenID Connect Core §10.1.
            (_, None) => Err(SignatureFault::NoKid),
        }
    }
}

// === impl Key ===

impl Key {
    fn read(jwk: &Map<String, Value>) -> Self {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let usage = match jwk.get("use") {
            None => true,
            Some(usage) => usage == "sig",
        };
        let operations = match jwk.get("key_ops") {
            None => true,
            Some(operations) => {
                operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify"))
            }
        };
        // An `alg` of another JSON type names no algorithm, so the key fits none.
        let alg = jwk.get("alg").map(|alg| alg.as_str().unwrap_or_default().to_owned());
        let material = Material::read(jwk).unwrap_or(Material::Unusable);
        Self { kid: text("kid").map(str::to_owned), alg, verifies: usage && operations, material }
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        let is_of_its_type = match &self.material {
            Material::Rsa { .. } => algorithm.rsa().is_some(),
            Material::P256(_) => algorithm == Algorithm::Es256,
            Material::P384(_) => algorithm == Algorithm::Es384,
            Material::Ed25519(_) => algorithm == Algorithm::EdDsa,
            Material::Unusable => false,
        };
        self.verifies && is_of_its_type && self.alg.as_deref().is_none_or(|alg| algorithm.is_named(alg))
    }

    fn verify(&self, jws: &Jws<'_>) -> Result<(), SignatureFault> {
        let (message, signature) = (jws.signed.as_bytes(), jws.signature.as_slice());
        let with = |algorithm: &'static dyn VerificationAlgorithm, key: &Vec<u8>| {
            UnparsedPublicKey::new(algorithm, key).verify(message, signature)
        };
        let verified = match (&self.material, jws.algorithm.rsa()) {
            (Material::Rsa { n, e }, Some(algorithm)) => {
                RsaPublicKeyComponents { n, e }.verify(algorithm, message, signature)
            }
            (Material::P256(point), None) => with(&ECDSA_P256_SHA256_FIXED, point),
            (Material::P384(point), None) => with(&ECDSA_P384_SHA384_FIXED, point),
            (Material::Ed25519(point), None) => with(&ED25519, point),
            _ => return Err(SignatureFault::UnfitKey),
        };
        verified.map_err(|_| SignatureFault::Wrong)
    }
}

// === impl Material ===

impl Material {
    /// Reads the key itself (RFC 7518 §6, RFC 8037 §2). *ring* checks that a point is on its curve.
    fn read(jwk: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| jwk.get(name)?.as_str();
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let of_length = |name: &str, length: usize| bytes(name).filter(|bytes| bytes.len() == length);
        let point =
            |length: usize| Some([vec![4], of_length("x", length)?, of_length("y", length)?].concat());
        Some(match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (without_leading_zeros(bytes("n")?), without_leading_zeros(bytes("e")?));
                let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
                if bits < MIN_RSA_BITS {
                    return None;
                }
                Self::Rsa { n, e }
            }
            ("EC", Some("P-256")) => Self::P256(point(32)?),
            ("EC", Some("P-384")) => Self::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Self::Ed25519(of_length("x", 32)?),
            _ => return None,
        })
    }
}

/// Some servers write a sign byte before a number.
fn without_leading_zeros(number: Vec<u8>) -> Vec<u8> {
    number.into_iter().skip_while(|byte| *byte == 0).collect()
}

// === impl Algorithm ===

impl Algorithm {
    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &RSA_PSS_2048_8192_SHA512,
            Self::Es256 | Self::Es384 | Self::EdDsa => return None,
        })
    }
}
