use rcgen::PublicKeyData as _;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};

use super::*;

const NOW: UnixTime = 1_795_358_672;

/// Makes an RSA key with Node.js, because *ring* makes none: the private key, and the public one as
/// ring reads it.
#[expect(clippy::disallowed_methods, reason = "the test's own process is not the program's")]
fn rsa(private: &str) -> (Secret, Vec<u8>) {
    let script = format!(
        "const k = require('crypto').generateKeyPairSync('rsa', {{modulusLength: 2048}});
         process.stdout.write(k.privateKey.export({{type: '{private}', format: 'pem'}}) + k.publicKey.export({{type: 'pkcs1', format: 'pem'}}));"
    );
    let output = std::process::Command::new("node").args(["-e", &script]).output().expect("Node.js runs");
    let pem = String::from_utf8(output.stdout).expect("PEM is text");
    let at = pem.find("-----BEGIN RSA PUBLIC KEY").expect("a public key");
    let lines = pem[at..].lines().filter(|line| !line.starts_with("-----"));
    let public = base64::engine::general_purpose::STANDARD.decode(lines.collect::<String>()).expect("base64");
    (Secret::new(&pem[..at]), public)
}

fn assert_signs((pem, public): (Secret, Vec<u8>), name: &str, algorithm: &'static dyn VerificationAlgorithm) {
    let key = ClientKey::from_pem(&pem, Some("key-1".into())).expect(name);
    let assertion = key.assertion("threadkey", "https://id.example", NOW);
    let (signed, signature) = assertion.expose().rsplit_once('.').expect("three parts");
    let (header, claims) = signed.split_once('.').expect("three parts");
    let read = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    };
    assert_eq!(read(header), json!({"alg": name, "typ": "JWT", "kid": "key-1"}));
    let claims = read(claims);
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("threadkey"), &json!("threadkey")));
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(NOW), &json!(NOW + 60)));
    let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &signature).expect(name);
}

fn generated(algorithm: &'static rcgen::SignatureAlgorithm) -> (Secret, Vec<u8>) {
    let pair = rcgen::KeyPair::generate_for(algorithm).expect("a key");
    (Secret::new(pair.serialize_pem()), pair.der_bytes().to_vec())
}

#[test]
fn an_assertion_is_signed_by_each_kind_of_key() {
    assert_signs(generated(&rcgen::PKCS_ECDSA_P256_SHA256), "ES256", &ECDSA_P256_SHA256_FIXED);
    assert_signs(generated(&rcgen::PKCS_ED25519), "EdDSA", &ED25519);
    assert_signs(rsa("pkcs8"), "RS256", &RSA_PKCS1_2048_8192_SHA256);
    assert_signs(rsa("pkcs1"), "RS256", &RSA_PKCS1_2048_8192_SHA256);
}

/// Makes a P-256 key in SEC 1 with Node.js, with the parameters that OpenSSL writes before it.
#[expect(clippy::disallowed_methods, reason = "the test's own process is not the program's")]
fn sec1(curve: &str) -> (Secret, Vec<u8>) {
    let script = format!(
        "const k = require('crypto').generateKeyPairSync('ec', {{namedCurve: '{curve}'}});
         const p = k.publicKey.export({{type: 'spki', format: 'der'}}).subarray(-65).toString('base64');
         process.stdout.write(k.privateKey.export({{type: 'sec1', format: 'pem'}}) + '~' + p);"
    );
    let output = std::process::Command::new("node").args(["-e", &script]).output().expect("Node.js runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let (pem, public) = text.split_once('~').expect("two parts");
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let public = base64::engine::general_purpose::STANDARD.decode(public).expect("base64");
    (Secret::new(format!("{parameters}{pem}")), public)
}

#[test]
fn a_key_in_sec1_signs_and_one_of_another_curve_is_refused() {
    assert_signs(sec1("P-256"), "ES256", &ECDSA_P256_SHA256_FIXED);
    ClientKey::from_pem(&sec1("P-384").0, None).expect_err("another curve");
}

#[test]
fn a_file_without_a_usable_key_is_refused_without_its_content() {
    let p384 = generated(&rcgen::PKCS_ECDSA_P384_SHA384).0;
    let public = generated(&rcgen::PKCS_ED25519).0.expose().replace("PRIVATE", "PUBLIC");
    for pem in ["canary", "", public.as_str(), p384.expose()] {
        let error = ClientKey::from_pem(&Secret::new(pem), None).expect_err("it is no key");
        assert!(error.starts_with("it must hold one private key in PEM"), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
    let key = ClientKey::from_pem(&generated(&rcgen::PKCS_ED25519).0, None).expect("a key");
    assert_eq!(format!("{key:?}"), "ClientKey(EdDSA)");
}
