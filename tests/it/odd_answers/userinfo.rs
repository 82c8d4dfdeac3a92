//! Accounts that no id token names: the answer of the userinfo endpoint distinguishes them.

use serde_json::{Value, json};
use threadkey::{
    broker::{FinishError, Finished, Revocation, SignedIn, Undecided},
    oauth::ProviderSettings,
};

use super::{
    PAIR, Rig,
    sign_ins::{sign_in, sign_in_beside, with_id_token},
};
use crate::{
    broker::{ALICE, tenant, unsigned},
    support::raw::{self, Ending, RawServer},
};

const ISSUER: &str = "https://id.example";

/// A provider without id tokens, and its userinfo endpoint.
struct Vendor {
    rig: Rig,
    userinfo: RawServer,
}

impl Vendor {
    async fn new(change: impl FnOnce(&mut ProviderSettings)) -> Self {
        let userinfo = RawServer::start().await;
        let rig = Rig::with(|settings| {
            settings.userinfo_endpoint = Some(userinfo.token_endpoint());
            settings.scopes = vec!["read".into()];
            settings.enforces_pkce = true;
            change(settings);
        })
        .await;
        Self { rig, userinfo }
    }

    /// Signs in beside the session, as the account that this answer names.
    async fn signs_in(&self, account: &Value) -> Result<Finished, FinishError> {
        self.userinfo.answer(raw::json(200, &account.to_string()), Ending::Close);
        sign_in_beside(&self.rig, |_| raw::json(200, PAIR)).await
    }

    async fn subject(&self) -> Option<String> {
        self.rig.session().await.subject
    }
}

#[track_caller]
fn at_once(finished: Result<Finished, FinishError>) -> SignedIn {
    let Ok(Finished::SignedIn(done)) = finished else { panic!("{finished:?}") };
    done
}

#[track_caller]
fn choice(finished: Result<Finished, FinishError>) -> Undecided {
    let Ok(Finished::Undecided(undecided)) = finished else { panic!("{finished:?}") };
    undecided
}

#[tokio::test]
async fn two_accounts_with_one_name_are_told_apart_by_userinfos_sub() {
    let vendor = Vendor::new(|_| {}).await;
    let first = vendor.signs_in(&json!({"sub": "17", "name": "alice"})).await;
    assert_eq!(at_once(first).replaced, None, "the session of before has no subject, and the same name");
    assert_eq!(vendor.subject().await.as_deref(), Some("17"), "it has one now");
    let twin = choice(vendor.signs_in(&json!({"sub": "18", "name": "alice"})).await);
    assert_eq!((twin.account.as_deref(), twin.current.as_deref()), (Some("alice (18)"), Some("alice (17)")));
    assert_eq!(vendor.subject().await.as_deref(), Some("17"), "nothing was replaced");
    let renamed = at_once(vendor.signs_in(&json!({"sub": "17", "name": "Alice B."})).await);
    assert_eq!((renamed.account.as_deref(), renamed.replaced), (Some("Alice B."), None));
    vendor.rig.broker.switch(&tenant(ALICE), twin.lineage).await.unwrap_err();
}

#[tokio::test]
async fn a_vendors_own_identifier_tells_two_accounts_with_one_name_apart() {
    for (claim, account) in [
        ("id", (|id| json!({"id": id, "login": "alice", "sub": null})) as fn(u64) -> Value),
        ("data.id", |id| json!({"data": {"id": id.to_string()}, "username": "alice"})),
    ] {
        let vendor = Vendor::new(|settings| settings.account_id_claim = Some(claim.into())).await;
        at_once(vendor.signs_in(&account(583_231)).await);
        at_once(vendor.signs_in(&account(583_231)).await);
        let twin = choice(vendor.signs_in(&account(583_232)).await);
        assert_eq!(twin.account.as_deref(), Some("alice (583232)"), "{claim}");
        assert_eq!(vendor.subject().await.as_deref(), Some("583231"));
    }
}

#[tokio::test]
async fn a_first_sign_in_keeps_the_subject_of_userinfo() {
    let vendor = Vendor::new(|_| {}).await;
    vendor.userinfo.answer(raw::json(200, r#"{"sub":"17","name":"alice"}"#), Ending::Close);
    let done = at_once(sign_in(&vendor.rig, |_| raw::json(200, PAIR)).await);
    assert_eq!(done.account.as_deref(), Some("alice"));
    let session = vendor.rig.session().await;
    assert_eq!((session.account.as_deref(), session.subject.as_deref()), (Some("alice"), Some("17")));
    assert_eq!(vendor.userinfo.count(), 1);
}

#[tokio::test]
async fn a_silent_userinfo_endpoint_costs_no_sign_in_and_its_user_chooses() {
    let vendor = Vendor::new(|_| {}).await;
    at_once(vendor.signs_in(&json!({"sub": "17", "name": "alice"})).await);
    vendor.userinfo.answer(raw::json(503, "{}"), Ending::Close);
    let unknown = choice(sign_in_beside(&vendor.rig, |_| raw::json(200, PAIR)).await);
    assert_eq!((unknown.account, unknown.current.as_deref()), (None, Some("alice")));
    assert_eq!(vendor.subject().await.as_deref(), Some("17"), "nothing was replaced");
    let done = vendor.rig.broker.switch(&tenant(ALICE), unknown.lineage).await.unwrap();
    assert_eq!((done.account, done.replaced.as_deref()), (None, Some("alice")), "and it is reported");
    assert_eq!(vendor.subject().await, None);
}

#[tokio::test]
async fn a_confirmed_report_gives_a_session_of_before_its_subject() {
    let vendor = Vendor::new(|_| {}).await;
    let rig = &vendor.rig;
    // Without a refresh token no refresh answers a report, so userinfo is asked about the token.
    vendor.userinfo.answer(raw::json(503, "{}"), Ending::Close);
    let bare = r#"{"access_token":"at-2","expires_in":3600}"#;
    at_once(sign_in(rig, |_| raw::json(200, bare)).await);
    assert_eq!(vendor.subject().await, None);
    vendor.userinfo.answer(raw::json(200, r#"{"sub":"17","name":"alice"}"#), Ending::Close);
    let token = rig.session().await.access_token;
    rig.broker.rejected(&tenant(ALICE), &token).await.unwrap_err();
    let session = rig.session().await;
    assert_eq!((session.account.as_deref(), session.subject.as_deref()), (Some("alice"), Some("17")));
    assert_eq!(session.verdict(), None, "userinfo accepts the token");
}

#[tokio::test]
async fn an_id_token_takes_precedence_over_the_subject_of_userinfo() {
    let vendor = Vendor::new(|settings| settings.issuer = Some(ISSUER.into())).await;
    at_once(vendor.signs_in(&json!({"sub": "of-userinfo", "name": "alice"})).await);
    assert_eq!(vendor.subject().await.as_deref(), Some("of-userinfo"));
    let rig = &vendor.rig;
    let refreshed_as = |subject: &str, tokens: &str| {
        let id_token = unsigned(&json!({"iss": ISSUER, "sub": subject, "aud": "threadkey"}));
        let body = json!({
            "access_token": format!("at-{tokens}"), "refresh_token": format!("rt-{tokens}"), "expires_in": 3600,
            "id_token": id_token,
        });
        rig.server.answer(raw::json(200, &body.to_string()), Ending::Close);
    };
    rig.clock.advance(7200);
    refreshed_as("17", "3");
    rig.token().await.expect("the session is not ended: no id token named its account before");
    assert_eq!(vendor.subject().await.as_deref(), Some("17"));
    // From now on the account is proved, and another one ends the session.
    rig.clock.advance(7200);
    refreshed_as("18", "4");
    rig.token().await.unwrap_err();
    assert_eq!(rig.session().await.ended.map(|ended| ended.code).as_deref(), Some("other_account"));
}

#[tokio::test]
async fn userinfo_is_not_asked_where_an_id_token_names_the_account() {
    let vendor = Vendor::new(|settings| settings.issuer = Some(ISSUER.into())).await;
    let rig = &vendor.rig;
    rig.broker.logout(&tenant(ALICE), Revocation::Keep).await.unwrap();
    let claims = json!({"iss": ISSUER, "sub": "17", "aud": "threadkey", "preferred_username": "alice"});
    at_once(sign_in_beside(rig, |_| with_id_token(&claims)).await);
    at_once(sign_in_beside(rig, |_| with_id_token(&claims)).await);
    assert_eq!(vendor.userinfo.count(), 0);
    assert_eq!(vendor.subject().await.as_deref(), Some("17"));
}
