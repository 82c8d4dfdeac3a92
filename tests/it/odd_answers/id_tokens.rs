//! Id tokens: their signature, the account that they name, and the refresh that brings another one.
#![expect(clippy::disallowed_methods, reason = "the test's own read of the file is not the program's")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use threadkey::{
    broker::{FinishError, Finished, TokenError},
    oauth::ProviderSettings,
    session::journal::Answer,
};

use super::{
    Rig,
    frames::die_with,
    sign_ins::{sign_in_beside, with_id_token},
};
use crate::{
    broker::{ALICE, MINUTE, NOW, tenant, unsigned},
    support::raw::{self, Ending, RawServer, framed},
};

const ISSUER: &str = "https://id.example";

/// A key of the issuer, with its name.
struct Key(KeyPair, &'static str);

impl Key {
    fn new(kid: &'static str) -> Self {
        Self(KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), kid)
    }

    fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(self.0.der_bytes()), "kid": self.1})
    }

    /// Signs these claims under a header with this algorithm.
    fn sign(&self, alg: &str, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": alg, "kid": self.1})), part(claims));
        let signature = self.0.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Returns a key set with these keys, as an answer.
fn key_set(keys: &[&Key]) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    raw::json(200, &json!({ "keys": keys }).to_string())
}

/// Returns the right claims of an account, at the time when the rigs refresh and sign in.
fn claims(subject: &str, nonce: &str) -> Value {
    json!({
        "iss": ISSUER, "sub": subject, "aud": "threadkey", "exp": NOW + 7200, "iat": NOW + 3600, "nonce": nonce,
        "preferred_username": "alice",
    })
}

/// Returns an answer with the second pair of tokens and this id token.
fn tokens_with(id_token: &str) -> Vec<u8> {
    let body = json!({
        "access_token": "at-2", "refresh_token": "rt-2", "expires_in": 3600, "id_token": id_token,
    });
    raw::json(200, &body.to_string())
}

/// Starts a rig whose provider has its keys at `keys`.
async fn with_keys(keys: &RawServer) -> Rig {
    Rig::with(|settings: &mut ProviderSettings| {
        settings.issuer = Some(ISSUER.into());
        settings.jwks_uri = Some(keys.token_endpoint());
    })
    .await
}

/// Starts a rig without keys, whose session has a subject.
async fn with_subject() -> Rig {
    let rig = Rig::with(|settings| settings.issuer = Some(ISSUER.into())).await;
    rig.server.answer(tokens_with(&unsigned(&claims("17", "n"))), Ending::Close);
    rig.token().await.unwrap();
    assert_eq!(rig.session().await.subject.as_deref(), Some("17"));
    rig.clock.advance(3600);
    rig
}

fn signed_in(finished: Result<Finished, FinishError>) {
    assert!(matches!(finished, Ok(Finished::SignedIn(_))), "{finished:?}");
}

#[tokio::test]
async fn a_signature_by_the_issuers_key_proves_the_account() {
    let (keys, key) = (RawServer::start().await, Key::new("k"));
    let rig = with_keys(&keys).await;
    keys.answer(key_set(&[&Key::new("j"), &key]), Ending::Close);
    signed_in(sign_in_beside(&rig, |nonce| tokens_with(&key.sign("EdDSA", &claims("17", nonce)))).await);
    let session = rig.session().await;
    assert_eq!((session.subject.as_deref(), session.binding.issuer.as_deref()), (Some("17"), Some(ISSUER)));
    assert!(session.id_token.is_some());
    // The same process needs no second fetch.
    signed_in(sign_in_beside(&rig, |nonce| tokens_with(&key.sign("EdDSA", &claims("17", nonce)))).await);
    assert_eq!(keys.count(), 1);
}

#[tokio::test]
async fn an_id_token_without_a_right_signature_drops_its_tokens_and_keeps_the_session() {
    let (key, other) = (Key::new("k"), Key::new("k"));
    let unknown = Key::new("unknown");
    let hmac = |claims: &Value| {
        let token = key.sign("HS256", claims);
        let (signed, _) = token.rsplit_once('.').unwrap();
        let mac = ring_hmac(key.0.der_bytes(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    };
    type Sign<'a> = &'a dyn Fn(&Value) -> String;
    let cases: [(Sign<'_>, &str); 6] = [
        (&|claims| unsigned(claims), "its algorithm (`alg`) is not one of"),
        (&hmac, "its algorithm (`alg`) is not one of"),
        (&|claims| other.sign("EdDSA", claims), "its signature is wrong"),
        (&|claims| unknown.sign("EdDSA", claims), "its key (`kid`) is not among the issuer's keys"),
        (&|claims| key.sign("ES256", claims), "is not for this algorithm"),
        (
            &|claims| key.sign("EdDSA", &with(claims, "iss", "https://evil.example")),
            "its iss is not the issuer",
        ),
    ];
    for (sign, problem) in cases {
        let keys = RawServer::start().await;
        let rig = with_keys(&keys).await;
        (0..2).for_each(|_| keys.answer(key_set(&[&key]), Ending::Close));
        let error = sign_in_beside(&rig, |nonce| tokens_with(&sign(&claims("17", nonce)))).await.unwrap_err();
        assert!(matches!(error, FinishError::IdTokenRefused { .. }), "{problem}: {error}");
        assert!(error.to_string().contains(problem), "{error}");
        assert!(error.to_string().contains("The operator must"), "{error}");
        assert_eq!(rig.refresh_token().await, "rt-1", "{problem}");
    }
}

#[tokio::test]
async fn the_tokens_of_a_refused_id_token_are_revoked_and_another_sessions_account_is_not() {
    let (key, other) = (Key::new("k"), Key::new("k"));
    let bob = |nonce: &str| with(&claims("18", nonce), "preferred_username", "bob");
    type Sign<'a> = &'a dyn Fn(&str) -> String;
    let cases: [(&str, Sign<'_>); 7] = [
        ("signature", &|nonce| other.sign("EdDSA", &bob(nonce))),
        ("alg", &|nonce| unsigned(&bob(nonce))),
        ("iss", &|nonce| key.sign("EdDSA", &with(&bob(nonce), "iss", "https://evil.example"))),
        ("aud", &|nonce| key.sign("EdDSA", &with(&bob(nonce), "aud", "another"))),
        ("nonce", &|_| key.sign("EdDSA", &bob("another"))),
        ("no nonce", &|nonce| {
            let mut claims = bob(nonce);
            claims.as_object_mut().unwrap().remove("nonce");
            key.sign("EdDSA", &claims)
        }),
        ("exp", &|nonce| key.sign("EdDSA", &with_time(&bob(nonce), -7200))),
    ];
    for (fault, sign) in cases {
        let revocations = RawServer::start().await;
        let (keys, rig) = with_revocation(&revocations).await;
        (0..2).for_each(|_| keys.answer(key_set(&[&key]), Ending::Close));
        revocations.answer(raw::json(200, ""), Ending::Close);
        sign_in_beside(&rig, |nonce| tokens_with(&sign(nonce))).await.unwrap_err();
        rig.broker.drained().await;
        let revoked: Vec<_> = revocations.forms().iter().map(|form| form["token"].clone()).collect();
        assert_eq!(revoked, ["rt-2"], "{fault}");
        assert_eq!(rig.refresh_token().await, "rt-1", "{fault}");
    }
    // A provider may end all grants of an account with one (RFC 7009 §2.1), and alice has a session.
    let revocations = RawServer::start().await;
    let (keys, rig) = with_revocation(&revocations).await;
    keys.answer(key_set(&[&key]), Ending::Close);
    let alice = |nonce: &str| tokens_with(&other.sign("EdDSA", &claims("17", nonce)));
    sign_in_beside(&rig, alice).await.unwrap_err();
    rig.broker.drained().await;
    assert_eq!(revocations.count(), 0);
}

/// Starts a rig whose provider revokes, and the server of its keys.
async fn with_revocation(revocations: &RawServer) -> (RawServer, Rig) {
    let keys = RawServer::start().await;
    let rig = Rig::with(|settings| {
        settings.issuer = Some(ISSUER.into());
        settings.jwks_uri = Some(keys.token_endpoint());
        settings.revocation_endpoint = Some(revocations.token_endpoint());
    })
    .await;
    (keys, rig)
}

fn with(claims: &Value, name: &str, value: &str) -> Value {
    let mut claims = claims.clone();
    claims[name] = json!(value);
    claims
}

fn ring_hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

#[tokio::test]
async fn a_rotation_of_the_keys_is_followed_at_most_once_a_minute() {
    let keys = RawServer::start().await;
    let (one, two, three) = (Key::new("1"), Key::new("2"), Key::new("3"));
    let rig = with_keys(&keys).await;
    for set in [&[&one][..], &[&one, &two], &[&three]] {
        keys.answer(key_set(set), Ending::Close);
    }
    let by = |key: &Key, nonce: &str| tokens_with(&key.sign("EdDSA", &claims("17", nonce)));
    signed_in(sign_in_beside(&rig, |nonce| by(&one, nonce)).await);
    signed_in(sign_in_beside(&rig, |nonce| by(&two, nonce)).await);
    assert_eq!(keys.count(), 2, "the unknown key asks once");
    let error = sign_in_beside(&rig, |nonce| by(&three, nonce)).await.unwrap_err();
    assert!(matches!(error, FinishError::IdTokenRefused { .. }), "{error}");
    assert_eq!(keys.count(), 2, "within the minute the issuer is not asked");
    rig.clock.advance(60);
    rig.broker.cancel(ALICE, None).await.unwrap();
    signed_in(sign_in_beside(&rig, |nonce| by(&three, nonce)).await);
    assert_eq!(keys.count(), 3);
}

#[tokio::test]
async fn a_sign_in_without_keys_is_finished_and_a_refresh_proves_the_account_later() {
    let huge = format!(r#"{{"keys": [], "x": "{}"}}"#, "x".repeat(10 * 1024 * 1024));
    let key = Key::new("k");
    for answer in [
        raw::json(500, "{}"),
        raw::json(200, "no json"),
        raw::json(200, r#"{"jwks": []}"#),
        raw::json(200, &huge),
        framed(302, "location: /token\r\n", b""),
    ] {
        let keys = RawServer::start().await;
        let rig = with_keys(&keys).await;
        keys.answer(answer, Ending::Close);
        signed_in(sign_in_beside(&rig, |nonce| tokens_with(&key.sign("EdDSA", &claims("17", nonce)))).await);
        let session = rig.session().await;
        assert_eq!((session.subject, session.id_token), (None, None), "nothing proves them");
        assert_eq!(rig.refresh_token().await, "rt-2", "and no token is lost");
        rig.clock.advance(3600);
        keys.answer(key_set(&[&key]), Ending::Close);
        let later = with_time(&claims("17", "n"), 7200);
        let body =
            json!({"access_token": "at-3", "refresh_token": "rt-3", "id_token": key.sign("EdDSA", &later)});
        rig.server.answer(raw::json(200, &body.to_string()), Ending::Close);
        rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
        rig.broker.drained().await;
        let session = rig.session().await;
        assert_eq!(session.subject.as_deref(), Some("17"));
        assert_eq!(session.refresh_token.unwrap().expose(), "rt-3");
    }
}

/// The same claims, issued this many seconds after [`NOW`].
fn with_time(claims: &Value, seconds: i64) -> Value {
    let mut claims = claims.clone();
    (claims["iat"], claims["exp"]) = (json!(NOW + seconds), json!(NOW + seconds + 3600));
    claims
}

#[tokio::test]
async fn a_refresh_with_a_wrong_signature_costs_no_tokens_and_proves_nothing() {
    let (keys, key) = (RawServer::start().await, Key::new("k"));
    let rig = with_keys(&keys).await;
    keys.answer(key_set(&[&key]), Ending::Close);
    rig.server.answer(tokens_with(&unsigned(&claims("17", "n"))), Ending::Close);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.broker.drained().await;
    assert_eq!(rig.refresh_token().await, "rt-2");
    assert_eq!(rig.session().await.subject, None);
    assert_eq!(keys.count(), 0, "no key can prove it");
}

#[tokio::test]
async fn a_refresh_names_the_account_of_a_session_without_a_subject() {
    let rig = with_subject().await;
    let session = rig.session().await;
    assert_eq!(session.binding.issuer.as_deref(), Some(ISSUER));
    assert_eq!(session.account.as_deref(), Some("alice"), "the name stays");
}

#[tokio::test]
async fn a_refresh_for_another_account_is_not_served_and_its_answer_is_kept() {
    for (claim, value) in [("sub", "18"), ("iss", "https://other.example"), ("aud", "another")] {
        let rig = with_subject().await;
        let foreign = with(&claims("17", "n"), claim, value);
        let body = json!({"access_token": "at-3", "refresh_token": "rt-3", "id_token": unsigned(&foreign)});
        rig.server.answer(raw::json(200, &body.to_string()), Ending::Close);
        for _ in 0..2 {
            let error = rig.token().await.unwrap_err();
            assert!(
                matches!(&error, TokenError::Ended { code, .. } if code == "other_account"),
                "{claim}: {error}"
            );
            assert!(error.to_string().contains("the tokens of another account or client"), "{error}");
        }
        assert_eq!(rig.sent(), ["rt-1", "rt-2"], "{claim}: the spent token is not sent again");
        let session = rig.session().await;
        assert_eq!((session.access_token.expose(), session.subject.as_deref()), ("at-2", Some("17")));
        let kept = std::fs::read_to_string(rig.unread()).unwrap();
        assert!(kept.contains("body"), "{claim}: the only copy of the new tokens is kept");
    }
}

#[tokio::test]
async fn an_answer_for_another_account_that_a_dead_process_left_is_not_served_either() {
    let rig = with_subject().await;
    let body = json!({
        "access_token": "at-3", "refresh_token": "rt-3", "id_token": unsigned(&claims("18", "n")),
    });
    let body = body.to_string().into_bytes().into();
    die_with(&rig, Answer { status: 200, body, ..Answer::default() }).await;
    let error = rig.token().await.unwrap_err();
    assert!(matches!(&error, TokenError::Ended { code, .. } if code == "other_account"), "{error}");
    assert!(rig.unread().exists());
    assert_eq!(rig.sent(), ["rt-1"], "nothing is sent for it");
}

#[tokio::test]
async fn a_sign_in_is_another_account_by_its_subject_although_the_name_is_the_same() {
    let rig = with_subject().await;
    let finished = sign_in_beside(&rig, |nonce| {
        with_id_token(&with(&claims("18", nonce), "preferred_username", "alice"))
    })
    .await;
    let Ok(Finished::Undecided(undecided)) = finished else { panic!("{finished:?}") };
    assert_eq!(undecided.account.as_deref(), Some("alice (18)"), "the user sees which is which");
    assert_eq!(undecided.current.as_deref(), Some("alice (17)"));
    let rig = with_subject().await;
    let renamed = |nonce: &str| with_id_token(&with(&claims("17", nonce), "preferred_username", "renamed"));
    signed_in(sign_in_beside(&rig, renamed).await);
    assert_eq!(rig.session().await.account.as_deref(), Some("renamed"));
}

#[tokio::test]
async fn an_answer_of_userinfo_about_another_subject_than_the_id_tokens_is_not_used() {
    for (subject, name) in [("17", "alice"), ("18", "17")] {
        let userinfo = RawServer::start().await;
        let rig = Rig::with(|settings| settings.userinfo_endpoint = Some(userinfo.token_endpoint())).await;
        let answer = json!({"sub": subject, "preferred_username": "alice"});
        (0..2).for_each(|_| userinfo.answer(raw::json(200, &answer.to_string()), Ending::Close));
        rig.broker.logout(&tenant(ALICE), threadkey::broker::Revocation::Keep).await.unwrap();
        let bare = |nonce: &str| {
            with_id_token(&json!({"iss": ISSUER, "sub": "17", "aud": "threadkey", "nonce": nonce}))
        };
        signed_in(sign_in_beside(&rig, bare).await);
        assert_eq!(rig.session().await.account.as_deref(), Some(name), "userinfo answers for {subject}");
    }
}
