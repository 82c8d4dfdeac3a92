//! Refreshes: the requests that are sent, their number, and the effect of each answer.

use std::time::Duration;

use threadkey::{
    broker::{AccessState, Broker, Event, RefreshState, Revocation, TokenError},
    secret::AccessToken,
};

use super::{ALICE, BOB, MINUTE, Rig, broker, tenant};
use crate::support::authserver::{self, AuthServer, Reply};

#[tokio::test]
async fn a_fresh_token_causes_no_request() {
    let rig = Rig::start().await;
    let signed_in = rig.sign_in(ALICE, "alice").await;
    assert_eq!(signed_in.account.as_deref(), Some("alice@example.com"));
    let before = rig.server.count();
    for _ in 0..10 {
        rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    }
    assert_eq!(rig.server.count(), before);
}

#[tokio::test]
async fn all_callers_in_all_processes_at_expiry_cause_one_refresh_and_share_its_token() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    let brokers: Vec<Broker> = (0..6).map(|_| rig.another()).collect();
    rig.server.hold();
    let calls: Vec<_> = (0..48)
        .map(|i| {
            let broker = brokers[i % brokers.len()].clone();
            tokio::spawn(async move { broker.token(&tenant(ALICE), MINUTE).await.unwrap() })
        })
        .collect();
    rig.server.wait_for_held(1).await;
    rig.server.release();
    let mut tokens = std::collections::BTreeSet::new();
    for call in calls {
        tokens.insert(call.await.unwrap().access_token.expose().to_owned());
    }
    assert_eq!(tokens.len(), 1);
    let events = rig.server.events();
    assert_eq!((events.total.refreshes, events.total.reuses), (1, 0));
    assert_eq!(rig.session(ALICE).await.generation, 2);
}

#[tokio::test]
async fn a_caller_that_gives_up_cancels_nothing() {
    let (rig, call) = Rig::with_a_held_refresh().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    rig.server.release();
    rig.broker.drained().await;
    assert_eq!(rig.session(ALICE).await.generation, 2);
    assert_eq!(rig.server.events().total.refreshes, 1);
}

#[tokio::test]
async fn a_slow_tenant_delays_no_other() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.expire();
    rig.server.hold();
    let slow = rig.spawn_token_call(ALICE);
    rig.server.wait_for_held(1).await;
    // Bob logs out and starts a new sign-in, so he changes the store, while Alice's refresh is in
    // progress.
    rig.broker.logout(&tenant(BOB), Revocation::Keep).await.unwrap();
    rig.broker.start(&tenant(BOB), BOB).await.unwrap();
    rig.server.release();
    slow.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_failed_refresh_deletes_nothing_and_holds_all_callers_back() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let before = rig.session(ALICE).await;
    rig.expire();
    rig.server.script([Reply::Status(503).retry_after(7)]);
    let sent = rig.server.count();
    let error = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(
        matches!(&error, TokenError::Unavailable { retry_after, .. } if retry_after.as_secs() == 7),
        "{error}"
    );
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { .. }), "{error}");
    assert_eq!(rig.server.count(), sent + 1, "Retry-After holds for all processes");
    let kept = rig.session(ALICE).await;
    assert_eq!((&kept.refresh_token, kept.generation), (&before.refresh_token, before.generation));
    rig.clock.advance(7);
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.session(ALICE).await.retry, None);
}

#[tokio::test]
async fn an_uncertain_refresh_is_on_record_and_not_repeated_while_the_access_token_works() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(3000);
    rig.server.script([Reply::Drop]);
    let first = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.broker.drained().await;
    let sent = rig.server.count();
    let status = rig.broker.status(&[ALICE]).await.unwrap().remove(0);
    assert!(matches!(&status.refresh, RefreshState::Uncertain(code) if code.starts_with("ambiguous_")));
    assert!(matches!(status.access, AccessState::Valid(_)));
    rig.clock.advance(590);
    let again = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(again.access_token, first.access_token);
    assert_eq!(rig.server.count(), sent, "no blind replay");
    rig.clock.advance(10);
    let refreshed = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_ne!(refreshed.access_token, first.access_token);
    assert_eq!(rig.server.count(), sent + 1);
}

#[tokio::test]
async fn within_the_grace_of_the_provider_an_uncertain_refresh_is_repeated_at_once() {
    let rig = Rig::with(Duration::from_secs(30)).await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.script([Reply::Status(500)]);
    let sent = rig.server.count();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(rig.server.count(), sent + 2);
    rig.expire();
    rig.server.script([Reply::Status(500), Reply::Drop, Reply::Drop, Reply::Drop]);
    let error = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Unavailable { .. }), "{error}");
    assert_eq!(rig.server.count(), sent + 4, "once, not for ever");
}

#[tokio::test]
async fn a_verdict_ends_the_session_notifies_once_and_leaves_the_access_token_its_rest() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let mut events = rig.broker.events();
    rig.clock.advance(3590);
    let refused = serde_json::json!({"error": "invalid_grant"});
    rig.server.script([Reply::Json(400, refused)]);
    let lease = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(lease.expires_in, Duration::from_secs(10));
    assert!(matches!(events.recv().await, Ok(Event::Ended { code, .. }) if code == "invalid_grant"));
    let sent = rig.server.count();
    rig.clock.advance(10);
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Ended { .. }), "{error}");
    assert_eq!(rig.server.count(), sent);
    let unnotified = rig.another().unnotified().await.unwrap().troubled;
    assert_eq!(unnotified.len(), 1);
    let (of, session, trouble) = &unnotified[0];
    rig.broker.notified(of, session, trouble).await.unwrap();
    assert!(rig.broker.unnotified().await.unwrap().troubled.is_empty());
    rig.sign_in(ALICE, "alice").await;
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_refused_client_is_the_operators_problem_and_ends_no_session() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    rig.server.script([Reply::Json(401, serde_json::json!({"error": "invalid_client"}))]);
    for _ in 0..2 {
        let error = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
        assert!(matches!(error, TokenError::Misconfigured { .. }), "{error}");
    }
    rig.clock.advance(3600);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn an_early_401_adopts_a_siblings_token_or_forces_one_refresh_at_most() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let first = rig.session(ALICE).await.access_token;
    let sent = rig.server.count();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (broker, token) = (rig.another(), first.clone());
            tokio::spawn(async move { broker.rejected(&tenant(ALICE), &token).await.unwrap() })
        })
        .collect();
    let mut tokens = Vec::new();
    for call in calls {
        tokens.push(call.await.unwrap().access_token);
    }
    assert!(tokens.iter().all(|token| *token == tokens[0] && *token != first));
    assert_eq!(rig.server.count(), sent + 1);
    let adopted = rig.broker.rejected(&tenant(ALICE), &AccessToken::new("older")).await.unwrap();
    assert_eq!(adopted.access_token, tokens[0]);
    let error = rig.broker.rejected(&tenant(ALICE), &tokens[0]).await.unwrap_err();
    assert!(matches!(&error, TokenError::Unavailable { code, .. } if code == "rejected_again"), "{error}");
    assert_eq!(rig.server.count(), sent + 1);
    rig.clock.advance(60);
    rig.broker.rejected(&tenant(ALICE), &tokens[0]).await.unwrap();
    assert_eq!(rig.server.count(), sent + 2);
}

#[tokio::test]
async fn a_refresh_token_goes_only_where_it_came_from() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    let elsewhere = AuthServer::start(authserver::Options::default()).await;
    let moved = broker(&elsewhere, rig.store.clone(), &rig.clock, Duration::ZERO);
    let error = moved.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(&error, TokenError::Ended { code, .. } if code == "binding_changed"), "{error}");
    assert_eq!(elsewhere.count(), 0);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn a_refresh_token_is_not_spent_where_nothing_can_be_saved() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.expire();
    let sent = rig.server.count();
    let blocked =
        rig.path.with_file_name("auth.json.refresh").join(format!("{}.lock", tenant(ALICE).file_name()));
    // The lock file cannot be opened for writing any more, because a folder is in its place.
    put_a_folder_in_the_place_of(&blocked);
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Store(_)), "{error}");
    assert_eq!(rig.server.count(), sent);
}

#[expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]
fn put_a_folder_in_the_place_of(file: &std::path::Path) {
    let _ = std::fs::remove_file(file);
    std::fs::create_dir_all(file).unwrap();
}
