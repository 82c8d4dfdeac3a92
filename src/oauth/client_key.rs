//! The key of a client that authenticates by `private_key_jwt` (RFC 7523 §2.2), and its signature
//! (RFC 7515) in *ring*, the crate that TLS uses too.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    secret::Secret,
    sys::{clock::UnixTime, random},
};

/// The lifetime of an assertion, in seconds. RFC 7523 §3 asks for a short one.
const LIFETIME: i64 = 60;

/// A private key, and the name under which the provider knows its public part.
pub struct ClientKey {
    pair: Pair,
    kid: Option<String>,
}

enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl ClientKey {
    /// Reads a private key in PEM: PKCS#8 with P-256, RSA of at least 2048 bits or Ed25519, RSA in
    /// PKCS#1, or P-256 in SEC 1 (RFC 5915). `kid` goes into the header of each assertion (RFC 7515 §4.1.4).
    ///
    /// # Errors
    /// A sentence about the form. It shows nothing of the key.
    pub fn from_pem(pem: &Secret, kid: Option<String>) -> Result<Self, String> {
        let unusable = || {
            "it must hold one private key in PEM: P-256, RSA (2048 bits or more) or Ed25519, in PKCS#8, PKCS#1 or SEC 1"
                .to_owned()
        };
        let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| unusable())?;
        let bytes = der.secret_der();
        let random = SystemRandom::new();
        let pair = match &der {
            PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(bytes).map(Pair::Rs256).ok(),
            PrivateKeyDer::Sec1(_) => {
                let wrapped = pkcs8_of_sec1(bytes);
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &wrapped, &random)
                    .map(Pair::Es256)
                    .ok()
            }
            _ => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes, &random)
                .map(Pair::Es256)
                .or_else(|_| RsaKeyPair::from_pkcs8(bytes).map(Pair::Rs256))
                .or_else(|_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).map(Pair::EdDsa))
                .ok(),
        };
        Ok(Self { pair: pair.ok_or_else(unusable)?, kid })
    }

    /// Returns a new assertion of the client (RFC 7523 §3): issued by the client about itself, for
    /// `audience`, with an id of its own.
    pub(super) fn assertion(&self, client_id: &str, audience: &str, now: UnixTime) -> Secret {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": random::token(),
            "iat": now,
            "exp": now + LIFETIME,
        });
        let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(signed.as_bytes()));
        Secret::new(format!("{signed}.{signature}"))
    }

    /// Returns the name of the signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Es256(_) => "ES256",
            Pair::Rs256(_) => "RS256",
            Pair::EdDsa(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        const NO_RANDOM: &str = "the system has random numbers";
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Es256(pair) => pair.sign(&random, message).expect(NO_RANDOM).as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect(NO_RANDOM);
                signature
            }
            Pair::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// Wraps an `ECPrivateKey` (RFC 5915 §3) of P-256 in PKCS#8 (RFC 5208 §5), the form that *ring*
/// reads. *ring* checks that the key is one of this curve.
fn pkcs8_of_sec1(sec1: &[u8]) -> Zeroizing<Vec<u8>> {
    /// Version 0, and the algorithm: ecPublicKey with prime256v1 (RFC 5480 §2.1.1).
    const HEAD: [u8; 24] = [
        0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
        0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    // The length of DER in two bytes is enough: a longer key is none of this curve.
    let length = |bytes: usize| {
        let [high, low] = u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
        match (high, low) {
            (0, low @ 0..0x80) => vec![low],
            (0, low) => vec![0x81, low],
            (high, low) => vec![0x82, high, low],
        }
    };
    let key = length(sec1.len());
    let whole = length(HEAD.len() + 1 + key.len() + sec1.len());
    let mut wrapped = Zeroizing::new(Vec::with_capacity(8 + HEAD.len() + 4 + sec1.len()));
    wrapped.push(0x30);
    wrapped.extend_from_slice(&whole);
    wrapped.extend_from_slice(&HEAD);
    wrapped.push(0x04);
    wrapped.extend_from_slice(&key);
    wrapped.extend_from_slice(sec1);
    wrapped
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({})", self.algorithm())
    }
}

#[cfg(test)]
mod tests;
