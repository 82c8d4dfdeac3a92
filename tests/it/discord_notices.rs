//! Notices about sessions that are stuck, or whose access token a resource rejects.

use std::time::Duration;

use serde_json::json;
use threadkey::{
    broker::Broker,
    ids::{Principal, Tenant},
    session::RetryKind,
    sys::clock::Clock,
};

use crate::{
    discord_rig::{Plan, Rig, snowflake},
    support::{authserver::Reply, discord::Person},
};

const NOW: i64 = 1_795_358_672;
const HOURS: i64 = 3600;

fn tenant(of: &Person) -> Tenant {
    Tenant::new("acme".parse().expect("a name"), Principal::User(snowflake(of.id)))
}

async fn token(broker: &Broker, of: &Person) -> bool {
    broker.token(&tenant(of), Duration::from_secs(60)).await.is_ok()
}

/// The provider refuses alice's refresh for seven hours, and refreshes bob's.
async fn stuck(rig: &Rig, clock: &Clock) {
    rig.sign_in(&rig.alice, "alice").await;
    rig.sign_in(&rig.bob, "bob").await;
    for _ in 0..5 {
        clock.advance(2 * HOURS);
        rig.server.script([Reply::Json(403, json!({"error": "access_denied"}))]);
        assert!(!token(&rig.broker, &rig.alice).await);
        assert!(token(&rig.broker, &rig.bob).await);
    }
    let session = rig.broker.session(&tenant(&rig.alice)).await.expect("readable").expect("kept");
    assert_eq!(session.retry.map(|retry| retry.kind()), Some(RetryKind::Stuck));
}

#[tokio::test]
async fn a_stuck_session_is_reported_once_and_its_button_tries_again() {
    let clock = Clock::fixed(NOW);
    let rig = Rig::with(Plan { clock: Some(clock.clone()), ..Plan::default() }).await;
    stuck(&rig, &clock).await;
    let notice = rig.alice.dm().wait_for_text("is stuck").await;
    for label in ["Try again", "Sign in again"] {
        assert!(notice.button(label).is_some(), "{notice}");
    }
    assert!(notice.all_text().contains("`http_403`"), "{notice}");
    rig.server.script([Reply::Json(403, json!({"error": "access_denied"}))]);
    let answer = rig.alice.press(&notice, "Try again").await.message();
    assert!(answer.is_ephemeral());
    answer.says("still refuses (`stuck_http_403`)").await;
    rig.alice.press(&notice, "Try again").await.message().says("It works again").await;
    assert!(token(&rig.broker, &rig.alice).await);
    let notices = rig.alice.sees(&rig.alice.dm());
    assert_eq!(notices.iter().filter(|m| m.all_text().contains("is stuck")).count(), 1, "one notice");
    assert!(rig.bob.sees(&rig.bob.dm()).iter().all(|m| !m.all_text().contains("stuck")));
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn the_user_is_notified_of_a_coming_end_once_with_a_button() {
    const DAY: i64 = 24 * HOURS;
    let clock = Clock::fixed(NOW);
    let rig = Rig::with(Plan { clock: Some(clock.clone()), ..Plan::default() }).await;
    rig.server.script([Reply::Edit(|body| body["refresh_token_expires_in"] = json!(30 * 86_400))]);
    rig.sign_in(&rig.alice, "alice").await;
    let status = rig.alice.command(&rig.general, "auth status", &[]).await;
    status.says(&format!("The sign-in ends <t:{}:R>, however much it is used.", NOW + 30 * DAY)).await;
    clock.advance(27 * DAY);
    // A change of the store, as the passing of time has none.
    assert!(token(&rig.broker, &rig.alice).await);
    let notice = rig.alice.dm().wait_for_text(&format!("ends on <t:{}:f>", NOW + 30 * DAY)).await;
    assert!(notice.button("Sign in again").is_some(), "{notice}");
    clock.advance(DAY);
    assert!(token(&rig.broker, &rig.alice).await);
    rig.alice.command(&rig.general, "auth status", &[]).await;
    let notices = rig.alice.sees(&rig.alice.dm());
    assert_eq!(notices.iter().filter(|m| m.all_text().contains("ends on")).count(), 1, "one notice");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_stuck_session_is_shown_as_such_in_the_status() {
    let clock = Clock::fixed(NOW);
    let rig = Rig::with(Plan { clock: Some(clock.clone()), ..Plan::default() }).await;
    stuck(&rig, &clock).await;
    let status = rig.alice.command(&rig.general, "auth status", &[]).await;
    status.says("**stuck**: refused for hours").await;
}

#[tokio::test]
async fn the_user_of_a_login_without_refresh_token_is_asked_about_a_rejected_token_once() {
    let rig = Rig::start().await;
    rig.server.script([Reply::Edit(|body| {
        let body = body.as_object_mut().expect("an object");
        body.remove("refresh_token");
        body.remove("expires_in");
    })]);
    rig.sign_in(&rig.alice, "alice").await;
    let lease = rig.broker.token(&tenant(&rig.alice), Duration::ZERO).await.expect("a token");
    for _ in 0..2 {
        rig.broker
            .rejected(&tenant(&rig.alice), &lease.access_token)
            .await
            .expect_err("refused to its reporter");
    }
    let notice = rig.alice.dm().wait_for_text("An agent reports").await;
    assert!(notice.button("Sign in again").is_some(), "{notice}");
    assert!(token(&rig.broker, &rig.alice).await, "the report is not confirmed");
    rig.alice.command(&rig.general, "auth status", &[]).await;
    let notices = rig.alice.sees(&rig.alice.dm());
    assert_eq!(notices.iter().filter(|m| m.all_text().contains("An agent reports")).count(), 1);
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn scopes_that_were_not_granted_are_shown_at_sign_in_and_in_the_status() {
    let rig = Rig::start().await;
    // An id token would be the proof of `openid`.
    rig.server.script([Reply::Edit(|body| {
        body["scope"] = json!("profile");
        body.as_object_mut().unwrap().remove("id_token");
    })]);
    let (_, link) = rig.start_sign_in(&rig.alice).await;
    let callback = crate::support::browser::sign_in(&link, "alice").await;
    let reply = rig.alice.command(&rig.general, "auth code", &[("code", &callback.url)]).await;
    reply.says("`acme` did not grant `openid`").await;
    let status = rig.alice.command(&rig.general, "auth status", &[]).await;
    status.says("Not granted: `openid`").await;
}
