use rcgen::{PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};

use super::*;
use crate::oauth::KeySet;

/// A private key, and its public part as a JWK without a name.
struct Pair {
    alg: &'static str,
    key: rcgen::KeyPair,
    jwk: Value,
}

impl Pair {
    fn of(alg: &'static str) -> Self {
        let of = |algorithm| rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let part = URL_SAFE_NO_PAD;
        let (key, curve) = match alg {
            "ES256" => (of(&rcgen::PKCS_ECDSA_P256_SHA256), "P-256"),
            "ES384" => (of(&rcgen::PKCS_ECDSA_P384_SHA384), "P-384"),
            _ => (of(&rcgen::PKCS_ED25519), "Ed25519"),
        };
        let public = key.der_bytes();
        let jwk = match alg {
            "EdDSA" => json!({"kty": "OKP", "crv": curve, "x": part.encode(public)}),
            _ => {
                let (x, y) = public[1..].split_at(public.len() / 2);
                json!({"kty": "EC", "crv": curve, "x": part.encode(x), "y": part.encode(y)})
            }
        };
        Self { alg, key, jwk }
    }

    /// Signs a token with this header.
    fn sign(&self, header: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(&json!({"sub": "17"})));
        let signature = self.key.sign(signed.as_bytes()).expect("it signs");
        let signature = match self.alg {
            "ES256" => fixed(&signature, 32),
            "ES384" => fixed(&signature, 48),
            _ => signature,
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self) -> String {
        self.sign(&json!({"alg": self.alg, "kid": "k"}))
    }

    /// Returns the public key with these members in addition.
    fn jwk(&self, more: Value) -> Value {
        let mut jwk = self.jwk.clone();
        for (name, value) in more.as_object().expect("an object") {
            jwk[name] = value.clone();
        }
        jwk
    }

    fn named(&self) -> Value {
        self.jwk(json!({"kid": "k"}))
    }
}

/// Turns a signature in DER into the two numbers of RFC 7518 §3.4.
fn fixed(der: &[u8], size: usize) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut number = || {
        let length = rest[1] as usize;
        let (number, after) = rest[2..].split_at(length);
        rest = after;
        let number: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        [vec![0; size - number.len()], number].concat()
    };
    [number(), number()].concat()
}

fn verify(token: &str, keys: Value) -> Result<(), SignatureFault> {
    let document = json!({ "keys": keys });
    let keys = KeySet::parse(document.as_object().expect("an object")).expect("a key set");
    keys.verify(&Jws::parse(token)?)
}

/// An RSA key of Node.js, because *ring* makes none: a token of this algorithm, and the public key.
#[expect(clippy::disallowed_methods, reason = "the test's own process is not the program's")]
fn rsa(alg: &str, bits: usize) -> (String, Value) {
    let script = format!(
        "const c = require('crypto'), k = c.generateKeyPairSync('rsa', {{modulusLength: {bits}}});
         const e = (o) => Buffer.from(JSON.stringify(o)).toString('base64url');
         const signed = e({{alg: '{alg}', kid: 'k'}}) + '.' + e({{sub: '17'}});
         const pss = '{alg}'[0] === 'P' ? {{padding: c.constants.RSA_PKCS1_PSS_PADDING, saltLength: c.constants.RSA_PSS_SALTLEN_DIGEST}} : {{}};
         const s = c.sign('sha' + '{alg}'.slice(2), signed, {{key: k.privateKey, ...pss}}).toString('base64url');
         process.stdout.write(JSON.stringify([signed + '.' + s, {{...k.publicKey.export({{format: 'jwk'}}), kid: 'k'}}]));"
    );
    let output = std::process::Command::new("node").args(["-e", &script]).output().expect("Node.js runs");
    serde_json::from_slice(&output.stdout).expect("a token and a key")
}

#[test]
fn each_algorithm_with_a_public_key_is_verified_and_a_changed_token_is_not() {
    let made = ["ES256", "ES384", "EdDSA"].map(|alg| {
        let pair = Pair::of(alg);
        (pair.token(), pair.named())
    });
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|alg| rsa(alg, 2048));
    for (token, jwk) in made.into_iter().chain(rsa) {
        let jws = Jws::parse(&token).expect("a token");
        let algorithm = jws.algorithm;
        assert_eq!(verify(&token, json!([jwk])), Ok(()), "{algorithm:?}");
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let (header, _) = signed.split_once('.').expect("two parts");
        let other = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"sub":"18"}"#));
        assert_eq!(verify(&other, json!([jwk])), Err(SignatureFault::Wrong), "{algorithm:?}");
        assert_eq!(verify(&format!("{signed}."), json!([jwk])), Err(SignatureFault::Wrong), "{algorithm:?}");
    }
}

#[test]
fn no_algorithm_without_a_public_key_is_accepted() {
    let (_, jwk) = rsa("RS256", 2048);
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("a number")).expect("base64");
    for alg in ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "ES512", "ES256K", "rs256", "RSA-OAEP"]
    {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": alg, "kid": "k"})), part(&json!({"sub": "17"})));
        let mac =
            ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &modulus), signed.as_bytes());
        for signature in [String::new(), URL_SAFE_NO_PAD.encode(mac.as_ref())] {
            let verdict = verify(&format!("{signed}.{signature}"), json!([jwk]));
            assert_eq!(verdict, Err(SignatureFault::Algorithm), "{alg}");
        }
    }
}

#[test]
fn a_token_is_verified_with_the_one_key_that_it_names() {
    let (pair, other) = (Pair::of("ES256"), Pair::of("ES256"));
    let token = pair.token();
    let unnamed = pair.sign(&json!({"alg": "ES256"}));
    let with_kid = |kid: &str| pair.jwk(json!({ "kid": kid }));
    for (token, keys, expected) in [
        (&token, json!([other.jwk(json!({"kid": "j"})), pair.named()]), Ok(())),
        (&token, json!([other.named()]), Err(SignatureFault::Wrong)),
        (&token, json!([with_kid("K")]), Err(SignatureFault::UnknownKey)),
        (&token, json!([pair.jwk.clone()]), Err(SignatureFault::UnknownKey)),
        (&token, json!([]), Err(SignatureFault::UnknownKey)),
        (&token, json!([pair.named(), other.named()]), Err(SignatureFault::SeveralKeys)),
        (&token, json!([pair.named(), pair.named()]), Err(SignatureFault::SeveralKeys)),
        // RFC 7517 §4.5: keys of two types may share a name.
        (&token, json!([Pair::of("EdDSA").named(), pair.named()]), Ok(())),
        (&unnamed, json!([with_kid("any")]), Ok(())),
        (&unnamed, json!([Pair::of("EdDSA").named(), pair.named()]), Ok(())),
        (&unnamed, json!([pair.named(), other.jwk(json!({"kid": "j"}))]), Err(SignatureFault::NoKid)),
        (&unnamed, json!([Pair::of("EdDSA").named()]), Err(SignatureFault::UnknownKey)),
        (&unnamed, json!(["no key", 7, null, {}, {"kty": "oct", "k": "AAAA"}, pair.named()]), Ok(())),
    ] {
        assert_eq!(verify(token, keys.clone()), expected, "{keys}");
    }
}

#[test]
fn a_key_for_another_use_type_or_curve_is_refused() {
    let pair = Pair::of("ES256");
    let part = |size: usize| URL_SAFE_NO_PAD.encode(vec![1; size]);
    for (more, expected) in [
        (json!({"use": "sig", "key_ops": ["verify"], "alg": "ES256"}), Ok(())),
        (json!({"key_ops": ["sign", "verify"]}), Ok(())),
        (json!({"use": "enc"}), Err(SignatureFault::UnfitKey)),
        (json!({"use": null}), Err(SignatureFault::UnfitKey)),
        (json!({"key_ops": ["encrypt"]}), Err(SignatureFault::UnfitKey)),
        (json!({"key_ops": "verify"}), Err(SignatureFault::UnfitKey)),
        (json!({"alg": "ES384"}), Err(SignatureFault::UnfitKey)),
        (json!({"alg": 7}), Err(SignatureFault::UnfitKey)),
        (json!({"kty": "RSA"}), Err(SignatureFault::UnfitKey)),
        (json!({"kty": "OKP"}), Err(SignatureFault::UnfitKey)),
        (json!({"kty": "oct", "k": "AAAA"}), Err(SignatureFault::UnfitKey)),
        (json!({"crv": "P-384"}), Err(SignatureFault::UnfitKey)),
        (json!({"crv": "P-521"}), Err(SignatureFault::UnfitKey)),
        (json!({"crv": null}), Err(SignatureFault::UnfitKey)),
        (json!({"x": part(31)}), Err(SignatureFault::UnfitKey)),
        (json!({"y": part(33)}), Err(SignatureFault::UnfitKey)),
        (json!({"x": "!"}), Err(SignatureFault::UnfitKey)),
        // The point is on no curve.
        (json!({"x": part(32), "y": part(32)}), Err(SignatureFault::Wrong)),
    ] {
        let jwk = pair.jwk(json!({"kid": "k"}));
        let mut jwk = jwk;
        more.as_object().expect("an object").iter().for_each(|(name, value)| jwk[name] = value.clone());
        assert_eq!(verify(&pair.token(), json!([jwk])), expected, "{more}");
    }
}

#[test]
fn an_rsa_key_under_2048_bits_is_refused() {
    let (token, jwk) = rsa("RS256", 1024);
    assert_eq!(verify(&token, json!([jwk])), Err(SignatureFault::UnfitKey));
    let (token, mut jwk) = rsa("RS256", 2048);
    for n in [json!(""), json!("AA"), json!(null), json!(7)] {
        jwk["n"] = n;
        assert_eq!(verify(&token, json!([jwk])), Err(SignatureFault::UnfitKey), "{jwk}");
    }
}

#[test]
fn a_modulus_with_a_sign_byte_is_read() {
    let (token, mut jwk) = rsa("RS256", 2048);
    let n = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().expect("a number")).expect("base64");
    jwk["n"] = json!(URL_SAFE_NO_PAD.encode([vec![0], n].concat()));
    assert_eq!(verify(&token, json!([jwk])), Ok(()));
}

#[test]
fn a_header_that_demands_more_or_is_damaged_is_refused() {
    let pair = Pair::of("EdDSA");
    let keys = || json!([pair.named()]);
    for more in [json!({"crit": ["exp"]}), json!({"crit": []}), json!({"crit": null}), json!({"b64": false})]
    {
        let mut header = json!({"alg": "EdDSA", "kid": "k"});
        more.as_object().expect("an object").iter().for_each(|(name, value)| header[name] = value.clone());
        assert_eq!(verify(&pair.sign(&header), keys()), Err(SignatureFault::Critical), "{more}");
    }
    let encrypted = pair.sign(&json!({"alg": "RSA-OAEP", "enc": "A256GCM"}));
    assert_eq!(verify(&encrypted, keys()), Err(SignatureFault::Encrypted));
    for header in [json!({"kid": "k"}), json!({"alg": 7}), json!({"alg": "EdDSA", "kid": 7}), json!([])] {
        assert_eq!(verify(&pair.sign(&header), keys()), Err(SignatureFault::Malformed), "{header}");
    }
    let twice = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(r#"{"alg":"EdDSA","alg":"EdDSA"}"#));
    assert_eq!(verify(&twice, keys()), Err(SignatureFault::Malformed));
    let token = pair.token();
    for damaged in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        &format!("{token}.x"),
        &format!("{token}="),
        &token.replace('.', ". "),
    ] {
        assert_eq!(verify(damaged, keys()), Err(SignatureFault::Malformed), "{damaged:?}");
    }
    // No member of the header brings a key.
    let own =
        json!({"alg": "EdDSA", "kid": "k", "jwk": pair.jwk, "jku": "https://evil.example/", "x5c": ["AA"]});
    assert_eq!(verify(&pair.sign(&own), json!([Pair::of("EdDSA").named()])), Err(SignatureFault::Wrong));
}

#[test]
fn a_document_without_a_list_of_keys_is_no_key_set() {
    for document in [json!({}), json!({"keys": {}}), json!({"keys": null}), json!({"jwks": []})] {
        assert!(KeySet::parse(document.as_object().expect("an object")).is_err(), "{document}");
    }
}
