//! The exchange of a code that is answered in an unusual way.

use serde_json::json;
use threadkey::{
    broker::{FinishError, Finished, Revocation},
    oauth::Pasted,
    secret::Nonce,
};

use super::{PAIR, Rig, frames::gzip};
use crate::{
    broker::{ALICE, tenant, unsigned},
    support::raw::{self, Ending, framed, with_headers},
};

/// Signs in with the answer that `answer` makes of the sign-in's nonce.
pub(super) async fn sign_in(
    rig: &Rig,
    answer: impl FnOnce(&str) -> Vec<u8>,
) -> Result<Finished, FinishError> {
    rig.broker.logout(&tenant(ALICE), Revocation::Keep).await.unwrap();
    sign_in_beside(rig, answer).await
}

/// As [`sign_in`], while the session is there.
pub(super) async fn sign_in_beside(
    rig: &Rig,
    answer: impl FnOnce(&str) -> Vec<u8>,
) -> Result<Finished, FinishError> {
    rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let pending = rig.store.read(&tenant(ALICE)).await.unwrap().pending.unwrap();
    let nonce = pending.nonce.as_ref().map(Nonce::expose).unwrap_or_default().to_owned();
    rig.server.answer(answer(&nonce), Ending::Close);
    let pasted = format!("the-code#{}", pending.state.expose());
    rig.broker.finish(ALICE, None, Pasted::parse(&pasted).unwrap()).await
}

pub(super) fn with_id_token(claims: &serde_json::Value) -> Vec<u8> {
    let body = json!({"access_token": "at-2", "refresh_token": "rt-2", "id_token": unsigned(claims)});
    raw::json(200, &body.to_string())
}

#[tokio::test]
async fn a_sign_in_is_finished_by_a_pair_in_an_unusual_frame() {
    let zipped = gzip(PAIR.as_bytes());
    let form = b"access_token=at-2&refresh_token=rt-2&scope=repo&token_type=bearer";
    let too_long = format!("content-length: {}\r\n", PAIR.len() + 10);
    for answer in [
        framed(200, "content-encoding: gzip\r\n", &zipped),
        framed(200, "content-type: application/x-www-form-urlencoded\r\n", form),
        with_headers(200, &too_long, PAIR.as_bytes()),
        framed(200, "X-Thing : 1\r\n", PAIR.as_bytes()),
    ] {
        let rig = Rig::start().await;
        let finished = sign_in(&rig, |_| answer).await.unwrap();
        assert!(matches!(finished, Finished::SignedIn(_)), "{finished:?}");
        assert_eq!(rig.refresh_token().await, "rt-2");
    }
}

#[tokio::test]
async fn an_id_token_without_a_nonce_is_taken_where_pkce_is_enforced() {
    let claims = json!({"aud": "threadkey", "email": "alice@example.com", "email_verified": true});
    let rig = Rig::with(|settings| settings.enforces_pkce = true).await;
    sign_in(&rig, |_| with_id_token(&claims)).await.unwrap();
    assert_eq!(rig.session().await.account.as_deref(), Some("alice@example.com"));
    let rig = Rig::start().await;
    let error = sign_in(&rig, |_| with_id_token(&claims)).await.unwrap_err();
    assert!(matches!(error, FinishError::NonceMissing(_)), "{error}");
    let names_the_setting = error.to_string().contains("providers.acme.enforces_pkce = true");
    assert!(names_the_setting, "{error}");
    assert_eq!(rig.store.read(&tenant(ALICE)).await.unwrap().session, None, "its tokens are dropped");
}

#[tokio::test]
async fn an_id_token_of_another_sign_in_or_client_is_refused_despite_pkce() {
    let rig = Rig::with(|settings| settings.enforces_pkce = true).await;
    let wrong_nonce = |_: &str| with_id_token(&json!({"aud": "threadkey", "nonce": "another"}));
    let error = sign_in(&rig, wrong_nonce).await.unwrap_err();
    assert!(matches!(error, FinishError::Mismatch { claim: "nonce", .. }), "{error}");
    let rig = Rig::with(|settings| settings.enforces_pkce = true).await;
    let wrong_client = |nonce: &str| with_id_token(&json!({"aud": "another", "nonce": nonce}));
    let error = sign_in(&rig, wrong_client).await.unwrap_err();
    assert!(matches!(error, FinishError::Mismatch { claim: "aud", .. }), "{error}");
}
