//! Reports that a resource rejects an access token: what they force, whom they concern, and how they
//! end a session.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use threadkey::{
    agent::{Conversation, Holder},
    broker::{
        AccessState, Broker, Event, RefreshState, TokenError, Trouble, WithoutBot, WorkerTokenError,
        WorkerTokens,
    },
    ids::{ConversationId, Principal, Snowflake},
    oauth::{Pasted, ProviderSettings},
    session::UNKNOWN_EXPIRY,
};
use tokio::sync::watch;

use super::{ALICE, MINUTE, Rig, acme, settings, tenant, with_settings};
use crate::support::{
    authserver::{Lifetimes, Reply},
    browser,
};

const GUILD: Snowflake = Snowflake(900);

/// The next answers bring the access token back, each with another refresh token.
async fn bring_back(rig: &Rig, user: Principal, times: usize) {
    let access_token = rig.session(user).await.access_token;
    rig.server.script((0..times).map(|time| {
        let body = json!({
            "access_token": access_token.expose(), "refresh_token": format!("rotated-{time}"), "expires_in": 3600,
        });
        Reply::Json(200, body)
    }));
}

fn expect_rejected_again<T: std::fmt::Debug>(result: Result<T, TokenError>) -> Duration {
    match result {
        Err(TokenError::Unavailable { code, retry_after, .. }) if code == "rejected_again" => retry_after,
        other => panic!("expected rejected_again: {other:?}"),
    }
}

/// A broker whose provider has a userinfo endpoint.
fn with_userinfo(rig: &Rig) -> Broker {
    let settings =
        ProviderSettings { userinfo_endpoint: Some(rig.server.userinfo_endpoint()), ..settings(&rig.server) };
    with_settings(settings, rig.store.clone(), &rig.clock)
}

#[tokio::test]
async fn a_refresh_that_brings_the_reported_token_back_is_made_once_in_its_pause() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let token = rig.session(ALICE).await.access_token;
    bring_back(&rig, ALICE, 10).await;
    let mut sent = rig.server.count();
    for pause in [60, 120, 240, 480, 960, 1920] {
        for _ in 0..5 {
            let retry_after = expect_rejected_again(rig.another().rejected(&tenant(ALICE), &token).await);
            assert!(retry_after <= Duration::from_secs(pause), "{retry_after:?}");
        }
        sent += 1;
        assert_eq!(rig.server.count(), sent, "one forced refresh for {pause} s");
        let session = rig.session(ALICE).await;
        assert_eq!(session.retry.as_ref().map(|r| r.not_before - r.set_at), Some(pause.try_into().unwrap()));
        rig.clock.advance(pause.try_into().unwrap());
    }
    let kept = rig.session(ALICE).await.refresh_token.unwrap();
    assert_eq!(kept.expose(), "rotated-5", "each answer's refresh token is kept");
}

#[tokio::test]
async fn a_token_that_came_back_still_serves_callers_that_did_not_report_it() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let token = rig.session(ALICE).await.access_token;
    bring_back(&rig, ALICE, 5).await;
    expect_rejected_again(rig.broker.rejected(&tenant(ALICE), &token).await);
    let sent = rig.server.count();
    for seconds in [0, 30, 60, 600] {
        rig.clock.advance(seconds);
        let lease = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_eq!(lease.access_token, token);
    }
    rig.broker.drained().await;
    assert_eq!(rig.server.count(), sent, "nobody asked for another refresh");
}

#[tokio::test]
async fn the_status_shows_that_a_reported_token_came_back() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    bring_back(&rig, ALICE, 1).await;
    let token = rig.session(ALICE).await.access_token;
    expect_rejected_again(rig.broker.rejected(&tenant(ALICE), &token).await);
    let status = rig.broker.status(&[ALICE]).await.unwrap().remove(0);
    assert!(matches!(status.refresh, RefreshState::RejectedAgain(_)), "{:?}", status.refresh);
    assert!(matches!(status.last_error, Some((code, ..)) if code == "rejected_again"));
}

#[tokio::test]
async fn the_background_sends_nothing_for_a_token_that_came_back() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    bring_back(&rig, ALICE, 5).await;
    let token = rig.session(ALICE).await.access_token;
    expect_rejected_again(rig.broker.rejected(&tenant(ALICE), &token).await);
    let sent = rig.server.count();
    let broker = rig.broker.clone();
    let (in_use, others) = watch::channel(0);
    let background = tokio::spawn(async move { broker.keep_fresh(|| vec![tenant(ALICE)], others).await });
    for step in 1..20 {
        rig.clock.advance(60);
        in_use.send_replace(step);
        tokio::task::yield_now().await;
        rig.broker.status(&[ALICE]).await.unwrap();
    }
    background.abort();
    rig.broker.drained().await;
    assert_eq!(rig.server.count(), sent);
}

#[tokio::test]
async fn a_hostile_worker_takes_a_shared_login_from_no_other_worker() {
    let rig = Rig::start().await;
    let shared = Principal::Guild(GUILD);
    let started = rig.broker.start(&tenant(shared), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "team").await;
    let pasted = Pasted::parse(&callback.url).unwrap();
    rig.broker.finish_in(ALICE, Some(GUILD), None, pasted).await.unwrap();
    bring_back(&rig, shared, 50).await;
    let tokens = WorkerTokens::new(rig.broker.clone(), Arc::new(WithoutBot));
    let holder = |id| Holder {
        conversation: Conversation {
            id: ConversationId(Snowflake(id)),
            owner: Snowflake(id),
            shared_guild: Some(GUILD),
            agent: None,
        },
        providers: vec![acme()],
    };
    let (hostile, honest) = (holder(1), holder(2));
    let token = rig.session(shared).await.access_token;
    let sent = rig.server.count();
    for minute in 0..10 {
        for _ in 0..10 {
            let of_hostile = tokens.entitlement(&hostile, &acme()).await.unwrap();
            let refused = of_hostile.rejected(&token).await;
            assert!(matches!(refused, Err(WorkerTokenError::Token(TokenError::Unavailable { .. }))));
            let refused = of_hostile.token(MINUTE).await;
            assert!(matches!(refused, Err(WorkerTokenError::Token(TokenError::Unavailable { .. }))));
        }
        let served = tokens.entitlement(&honest, &acme()).await.unwrap().token(MINUTE).await;
        assert_eq!(served.unwrap().access_token, token, "minute {minute}");
        rig.clock.advance(59);
    }
    assert_eq!(rig.server.count(), sent + 1, "one conversation forces one refresh in ten minutes");
    rig.clock.advance(3600);
    rig.server.unscript();
    let session = rig.session(shared).await;
    assert_eq!(session.verdict(), None, "reports end no session");
}

#[tokio::test]
async fn a_report_that_the_provider_confirms_takes_the_token_from_every_caller() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let broker = with_userinfo(&rig);
    let token = rig.session(ALICE).await.access_token;
    bring_back(&rig, ALICE, 1).await;
    // By its own clock the server no longer accepts the token that it brings back.
    rig.server.advance(Duration::from_secs(7200));
    expect_rejected_again(broker.rejected(&tenant(ALICE), &token).await);
    let session = rig.session(ALICE).await;
    assert!(session.is_rejected(), "{:?}", session.rejected);
    let status = rig.broker.status(&[ALICE]).await.unwrap().remove(0);
    assert_eq!(status.access, AccessState::Rejected);
    expect_rejected_again(rig.another().token(&tenant(ALICE), MINUTE).await);
    rig.clock.advance(60);
    rig.server.script([Reply::Json(200, json!({"access_token": "another", "expires_in": 3600}))]);
    assert_eq!(rig.another().token(&tenant(ALICE), MINUTE).await.unwrap().access_token.expose(), "another");
}

/// Signs alice in at a provider that gives no refresh token and names no lifetime.
async fn signed_in_without_an_end(rig: &Rig) {
    rig.server.script([Reply::Edit(|body| {
        let body = body.as_object_mut().expect("an object");
        body.remove("refresh_token");
        body.remove("expires_in");
    })]);
    rig.sign_in(ALICE, "alice").await;
}

#[tokio::test]
async fn a_login_without_an_end_is_served_for_years_until_a_resource_rejects_it() {
    let rig = Rig::start().await;
    signed_in_without_an_end(&rig).await;
    assert_eq!(rig.session(ALICE).await.expires_at, UNKNOWN_EXPIRY);
    let sent = rig.server.count();
    for _ in 0..5 {
        rig.clock.advance(365 * 86_400);
        rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
    }
    assert_eq!(rig.server.count(), sent);
}

#[tokio::test]
async fn a_login_without_a_refresh_token_ends_only_when_the_provider_confirms_the_report() {
    let rig = Rig::start().await;
    signed_in_without_an_end(&rig).await;
    let broker = with_userinfo(&rig);
    let mut events = broker.events();
    let token = rig.session(ALICE).await.access_token;
    let error = broker.rejected(&tenant(ALICE), &token).await.unwrap_err();
    assert!(matches!(&error, TokenError::Ended { code, .. } if code == "rejected"), "{error}");
    assert!(matches!(events.recv().await, Ok(Event::Reported(of)) if of == tenant(ALICE)));
    assert_eq!(rig.session(ALICE).await.verdict(), None, "userinfo accepts the token");
    rig.another().token(&tenant(ALICE), MINUTE).await.expect("others are served");
    assert!(broker.unnotified().await.unwrap().troubled.is_empty());

    rig.clock.advance(60);
    rig.server.advance(Duration::from_secs(7200));
    let error = broker.rejected(&tenant(ALICE), &token).await.unwrap_err();
    assert!(matches!(&error, TokenError::Ended { code, .. } if code == "rejected"), "{error}");
    assert!(matches!(events.recv().await, Ok(Event::Ended { code, .. }) if code == "rejected"));
    let error = rig.another().token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::Ended { .. }), "{error}");
    let (of, session, trouble) = broker.unnotified().await.unwrap().troubled.remove(0);
    assert_eq!((&of, &trouble), (&tenant(ALICE), &Trouble::Ended("rejected".into())));
    broker.notified(&of, &session, &trouble).await.unwrap();
    assert!(broker.unnotified().await.unwrap().troubled.is_empty());
}

#[tokio::test]
async fn a_login_whose_end_is_known_ends_with_one_notice() {
    let rig = Rig::start().await;
    rig.server.set_lifetimes(Lifetimes { access_token: MINUTE, ..Lifetimes::default() });
    rig.server.script([Reply::Edit(|body| {
        body.as_object_mut().expect("an object").remove("refresh_token");
    })]);
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(3600);
    let mut events = rig.broker.events();
    for _ in 0..3 {
        let error = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap_err();
        assert!(matches!(&error, TokenError::Ended { code, .. } if code == "no_refresh_token"), "{error}");
    }
    assert!(matches!(events.try_recv(), Ok(Event::Ended { code, .. }) if code == "no_refresh_token"));
    assert!(events.try_recv().is_err(), "one event");
    assert_eq!(rig.broker.unnotified().await.unwrap().troubled.len(), 1);
}

#[tokio::test]
async fn a_report_of_a_token_in_doubt_spends_nothing_unless_the_provider_confirms_it() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(3000);
    rig.server.script([Reply::RotateThenStatus(500)]);
    rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.server.settled(2).await;
    rig.broker.drained().await;
    rig.clock.advance(120);
    let sent = rig.server.count();
    let token = rig.session(ALICE).await.access_token;
    expect_rejected_again(rig.another().rejected(&tenant(ALICE), &token).await);
    assert_eq!(rig.server.count(), sent, "a second spend could end the login");
    rig.clock.advance(60);
    rig.server.advance(Duration::from_secs(7200));
    let _ = with_userinfo(&rig).rejected(&tenant(ALICE), &token).await;
    assert_eq!(rig.server.count(), sent + 1, "nothing else is left");
}
