//! Refusals that are no verdict: sessions that are stuck, and codes that are wrong.

use std::time::Duration;

use serde_json::json;
use threadkey::{
    broker::{Event, FinishError, RefreshState, TokenError, Trouble},
    oauth::Pasted,
    session::RetryKind,
};

use super::{ALICE, BOB, MINUTE, Rig, tenant};
use crate::support::authserver::Reply;

const HOUR: i64 = 3600;

fn forbidden() -> Reply {
    Reply::Json(403, json!({"error": "access_denied"}))
}

/// Refuses alice's refresh at once and then each two hours, `times` times.
async fn refuse(rig: &Rig, times: u32, reply: impl Fn() -> Reply) {
    for time in 0..times {
        if time > 0 {
            rig.clock.advance(2 * HOUR);
        }
        rig.server.script([reply()]);
        let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
        assert!(matches!(error, TokenError::Unavailable { .. }), "{error}");
    }
}

async fn kind(rig: &Rig) -> Option<RetryKind> {
    rig.session(ALICE).await.retry.map(|retry| retry.kind())
}

#[tokio::test]
async fn a_session_refused_for_hours_while_others_succeed_is_stuck_and_reported_once() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.clock.advance(HOUR);
    refuse(&rig, 4, forbidden).await;
    rig.broker.token(&tenant(BOB), MINUTE).await.expect("bob's refresh succeeds");
    assert_eq!(kind(&rig).await, Some(RetryKind::Unspent), "four refusals over six hours");
    let mut events = rig.broker.events();
    rig.clock.advance(HOUR);
    rig.server.script([forbidden()]);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(
        matches!(events.recv().await, Ok(Event::Stuck { tenant: of, is_new: true }) if of == tenant(ALICE))
    );
    let session = rig.session(ALICE).await;
    let retry = session.retry.clone().unwrap();
    assert_eq!((retry.kind(), retry.not_before - retry.set_at), (RetryKind::Stuck, HOUR));
    assert!(session.refresh_token.is_some() && session.verdict().is_none(), "it is kept");
    let status = rig.broker.status(&[ALICE]).await.unwrap().remove(0);
    assert!(matches!(&status.refresh, RefreshState::Stuck(code) if code == "stuck_http_403"), "{status:?}");

    let (of, session, trouble) = rig.another().unnotified().await.unwrap().troubled.remove(0);
    assert!(matches!(&trouble, Trouble::Stuck { code, .. } if code == "http_403"), "{trouble:?}");
    rig.broker.notified(&of, &session, &trouble).await.unwrap();
    rig.clock.advance(HOUR);
    rig.server.script([forbidden()]);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert_eq!(kind(&rig).await, Some(RetryKind::Stuck));
    assert!(rig.broker.unnotified().await.unwrap().troubled.is_empty(), "one notice");
}

#[tokio::test]
async fn a_stuck_session_is_refreshed_at_once_if_its_user_asks() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.clock.advance(HOUR);
    refuse(&rig, 4, forbidden).await;
    rig.broker.token(&tenant(BOB), MINUTE).await.unwrap();
    rig.clock.advance(HOUR);
    rig.server.script([forbidden(), forbidden()]);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert_eq!(kind(&rig).await, Some(RetryKind::Stuck));
    let sent = rig.server.count();
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert_eq!(rig.server.count(), sent, "held back");
    rig.broker.try_again(&tenant(ALICE)).await.unwrap_err();
    assert_eq!(rig.server.count(), sent + 1);
    rig.broker.try_again(&tenant(ALICE)).await.expect("the provider has changed its mind");
    assert_eq!(rig.session(ALICE).await.retry, None);
}

#[tokio::test]
async fn a_refusal_that_concerns_the_whole_client_makes_no_session_stuck() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.clock.advance(HOUR);
    refuse(&rig, 8, forbidden).await;
    assert_eq!(kind(&rig).await, Some(RetryKind::Unspent), "bob was not refreshed since");
}

#[tokio::test]
async fn a_firewalls_403_makes_no_session_stuck_and_ends_none() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.clock.advance(HOUR);
    let page = || Reply::Raw {
        status: 403,
        headers: vec![("content-type".into(), "text/html".into())],
        body: b"<html><title>403 Forbidden</title></html>".to_vec(),
    };
    refuse(&rig, 8, page).await;
    rig.broker.token(&tenant(BOB), MINUTE).await.unwrap();
    rig.clock.advance(HOUR);
    refuse(&rig, 1, page).await;
    assert_eq!(kind(&rig).await, Some(RetryKind::Unspent));
    rig.clock.advance(HOUR);
    rig.broker.token(&tenant(ALICE), MINUTE).await.expect("the firewall lets it through");
}

#[tokio::test]
async fn wrong_codes_reach_the_provider_three_times_and_then_at_a_pace() {
    let rig = Rig::start().await;
    let started = rig.broker.start(&tenant(ALICE), ALICE).await.unwrap();
    let state = rig.store.read(&tenant(ALICE)).await.unwrap().pending.unwrap().state;
    let sent = rig.server.count();
    let mut paused = 0;
    for number in 0..30 {
        let paste = Pasted::parse(&format!("wrong-{number}#{}", state.expose())).unwrap();
        match rig.another().finish(ALICE, None, paste).await.unwrap_err() {
            FinishError::Refused { .. } => assert_eq!(paused, 0, "{number}"),
            FinishError::TooManyCodes { retry_after, .. } => {
                assert_eq!(retry_after, Duration::from_secs(10));
                paused += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!((rig.server.count(), paused), (sent + 3, 27));
    rig.clock.advance(10);
    let callback = crate::support::browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    let done = rig.broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await;
    done.expect("the right code is taken after the pause");
}

#[tokio::test]
async fn scopes_that_were_not_granted_are_named_at_sign_in_and_in_the_status() {
    let rig = Rig::start().await;
    rig.server.script([Reply::Edit(|body| body["scope"] = json!("openid"))]);
    let done = rig.sign_in(ALICE, "alice").await;
    assert!(done.missing_scopes.is_empty(), "a refresh token stands for offline_access: {done:?}");
    rig.server.script([Reply::Edit(|body| {
        body["scope"] = json!("profile");
        // Each of them stands for its scope.
        body.as_object_mut()
            .expect("an object")
            .retain(|name, _| !["refresh_token", "id_token"].contains(&name.as_str()));
    })]);
    let done = rig.sign_in(BOB, "bob").await;
    assert_eq!(done.missing_scopes, ["openid", "offline_access"]);
    let status = rig.another().status(&[BOB]).await.unwrap().remove(0);
    assert_eq!(status.missing_scopes, ["openid", "offline_access"]);
}
