//! Logging out: the request to the provider, and the question to the user before it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use threadkey::{
    broker::{FinishError, LoggedOut, LogoutError, Revocation, TokenError},
    oauth::{Pasted, ProviderSettings},
};

use super::{ALICE, BOB, MINUTE, Rig, settings, tenant, with_settings};
use crate::support::{
    authserver::{LifeState, Moment, Reply},
    browser,
};

#[tokio::test]
async fn a_logout_with_the_same_account_elsewhere_asks_first_and_changes_nothing() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "team").await;
    rig.sign_in(BOB, "team").await;
    let error = rig.broker.logout(&tenant(ALICE), Revocation::UnlessShared).await.unwrap_err();
    assert!(matches!(&error, LogoutError::Shared { others, .. } if *others == [tenant(BOB)]), "{error}");
    assert!(error.to_string().contains("acme/user:804 may have the same account"), "{error}");
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.server.events().total.revoked, 0);
    let kept = rig.broker.logout(&tenant(ALICE), Revocation::Keep).await.unwrap();
    assert_eq!((kept, rig.server.events().total.revoked), (LoggedOut::LocallyOnly, 0));
    let last = rig.broker.logout(&tenant(BOB), Revocation::UnlessShared).await.unwrap();
    assert_eq!(last, LoggedOut::Revoked, "no other session has the account now");
}

#[tokio::test]
async fn a_logout_does_not_ask_because_of_another_account_or_an_ended_session() {
    let rig = Rig::start().await;
    rig.sign_in(BOB, "team").await;
    rig.expire();
    let invalid = serde_json::json!({"error": "invalid_grant"});
    rig.server.script([Reply::Json(400, invalid)]);
    rig.broker.token(&tenant(BOB), MINUTE).await.unwrap_err();
    for account in ["alice", "team"] {
        rig.sign_in(ALICE, account).await;
        let done = rig.broker.logout(&tenant(ALICE), Revocation::UnlessShared).await.unwrap();
        assert_eq!(done, LoggedOut::Revoked, "{account}");
    }
}

#[tokio::test]
async fn two_sessions_of_unknown_accounts_may_have_the_same_one() {
    let rig = Rig::start().await;
    let unnamed = ProviderSettings { scopes: vec!["offline_access".into()], ..settings(&rig.server) };
    let broker = with_settings(unnamed, rig.store.clone(), &rig.clock);
    for (user, account) in [(ALICE, "alice"), (BOB, "bob")] {
        let started = broker.start(&tenant(user), user).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), account).await;
        broker.finish(user, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    }
    let error = broker.logout(&tenant(ALICE), Revocation::UnlessShared).await.unwrap_err();
    assert!(matches!(error, LogoutError::Shared { .. }), "{error}");
}

#[tokio::test]
async fn a_session_of_an_unknown_account_may_have_the_account_of_any_other() {
    let rig = Rig::start().await;
    let unnamed = ProviderSettings {
        scopes: vec!["offline_access".into()],
        userinfo_endpoint: None,
        ..settings(&rig.server)
    };
    let broker = with_settings(unnamed, rig.store.clone(), &rig.clock);
    let started = broker.start(&tenant(BOB), BOB).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    broker.finish(BOB, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    rig.sign_in(ALICE, "alice").await;
    for user in [ALICE, BOB] {
        let error = rig.broker.logout(&tenant(user), Revocation::UnlessShared).await.unwrap_err();
        assert!(matches!(error, LogoutError::Shared { .. }), "{error}");
    }
}

#[tokio::test]
async fn another_processs_logout_revokes_the_tokens_of_a_late_refresh() {
    let (rig, asking) = Rig::with_a_held_refresh().await;
    let revoked = Arc::new(AtomicUsize::new(0));
    let seen = revoked.clone();
    rig.server.watch(move |moment| {
        if matches!(moment, Moment::Revoked { .. }) {
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    let done = rig.another().logout(&tenant(ALICE), Revocation::UnlessShared).await.unwrap();
    assert_eq!(done, LoggedOut::Revoked);
    rig.server.release();
    assert!(matches!(asking.await.unwrap(), Err(TokenError::NoSession(_))));
    rig.broker.drained().await;
    assert_eq!(revoked.load(Ordering::SeqCst), 2, "the stored token, and the late one");
    assert!(rig.server.lives().iter().all(|life| life.state != LifeState::Live));
}

#[tokio::test]
async fn a_late_refresh_of_an_account_in_use_elsewhere_is_not_revoked() {
    let rig = Rig::start().await;
    rig.sign_in(BOB, "alice").await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.hold();
    let asking = rig.spawn_token_call(ALICE);
    rig.server.wait_for_held(1).await;
    rig.another().logout(&tenant(ALICE), Revocation::Keep).await.unwrap();
    rig.server.release();
    asking.await.unwrap().unwrap_err();
    rig.broker.drained().await;
    assert_eq!(rig.server.events().total.revoked, 0, "no user was asked");
}

#[tokio::test]
async fn the_grant_of_a_sign_in_cancelled_during_its_exchange_is_revoked() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    rig.server.hold();
    let broker = rig.broker.clone();
    let finishing =
        tokio::spawn(async move { broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await });
    rig.server.wait_for_held(1).await;
    rig.broker.cancel(ALICE, None).await.unwrap();
    rig.server.release();
    let error = finishing.await.unwrap().unwrap_err();
    assert!(matches!(error, FinishError::Superseded(_)), "{error}");
    rig.broker.drained().await;
    assert!(
        rig.server.lives().iter().all(|life| life.state == LifeState::Revoked),
        "{:?}",
        rig.server.lives()
    );
}
