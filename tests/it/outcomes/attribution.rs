//! The token that an outcome concerns: the one that was sent, in every process.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::time::Duration;

use serde_json::{Value, json};
use threadkey::broker::TokenError;

use super::{errors_of_two_processes, expired};
use crate::{
    broker::{ALICE, MINUTE, Rig, tenant},
    support::authserver::Reply,
};

#[tokio::test]
async fn a_verdict_concerns_the_sent_token_and_another_processes_success_clears_it() {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    assert!(matches!(
        errors_of_two_processes(&rig).await,
        ([TokenError::Ended { .. }, TokenError::Ended { .. }], 1)
    ));
    // Another program holds newer tokens of the same grant, and writes them beside the old verdict.
    let refresh_token = before.refresh_token.unwrap();
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token.expose()),
        ("client_id", before.binding.client_id.as_str()),
    ];
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.post(rig.server.token_endpoint()).form(&form).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let now = rig.clock.now();
    let mut document: Value = serde_json::from_str(&std::fs::read_to_string(&rig.path).unwrap()).unwrap();
    let session = &mut document["sessions"][tenant(ALICE).to_string()];
    session["access_token"] = answer["access_token"].clone();
    session["refresh_token"] = answer["refresh_token"].clone();
    session["generation"] = json!(2);
    session["issued_at"] = json!(now);
    session["expires_at"] = json!(now + 3600);
    let beside = rig.path.with_extension("new");
    std::fs::write(&beside, document.to_string()).unwrap();
    std::fs::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&beside, &rig.path).unwrap();

    let adopted = rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_eq!(adopted.access_token.expose(), answer["access_token"].as_str().unwrap());
    rig.expire();
    assert_eq!(rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap().generation, 3);
    assert_eq!(rig.session(ALICE).await.ended, None);
    assert_eq!(rig.server.events().total.reuses, 0);
}

#[tokio::test]
async fn a_refresh_sends_the_stored_token_whatever_the_process_has_seen_before() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let old_hand = rig.another();
    old_hand.token(&tenant(ALICE), MINUTE).await.unwrap();
    for generation in 2..=4 {
        rig.expire();
        rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
        rig.expire();
        let refreshed = old_hand.token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_eq!(refreshed.generation, 2 * generation - 1);
    }
    let events = rig.server.events().total;
    assert_eq!((events.refreshes, events.reuses), (6, 0));
}

#[tokio::test]
async fn a_running_process_sees_another_processes_sign_in_and_logout_at_its_next_request() {
    let rig = Rig::start().await;
    let other = rig.another();
    let error = other.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::NoSession(_)), "{error}");
    rig.sign_in(ALICE, "alice").await;
    let first = other.token(&tenant(ALICE), MINUTE).await.unwrap();
    rig.sign_in(ALICE, "alice").await;
    let second = other.token(&tenant(ALICE), MINUTE).await.unwrap();
    assert_ne!(second.access_token, first.access_token);
    rig.broker.logout(&tenant(ALICE), threadkey::broker::Revocation::Keep).await.unwrap();
    let error = other.token(&tenant(ALICE), MINUTE).await.unwrap_err();
    assert!(matches!(error, TokenError::NoSession(_)), "{error}");
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([Reply::Json(200, json!({"access_token": "refreshed", "expires_in": 3600}))]);
    assert_eq!(rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap().access_token.expose(), "refreshed");
    let after = rig.session(ALICE).await;
    assert_eq!((after.refresh_token, after.generation), (before.refresh_token, 2));
    rig.expire();
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn the_owner_is_notified_once_of_a_verdict_that_a_command_line_received() {
    let (server, team) = crate::team::team().await;
    let bot = team.run().await;
    team.sign_in(&team.alice, "alice").await;
    team.home.set_offset(3600);
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    let principal = team.alice.principal();
    let ended = team.home.run(&["token", "acme", "--as", &principal]).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    let notice = team.alice.dm().wait_for_text("has ended").await;
    assert!(notice.button("Sign in again").is_some(), "{notice}");
    bot.says("notified the user of an ended session").await;
    // Further reads of the session cause no second notice.
    team.alice.command(&team.general, "auth status", &[]).await.latest().await;
    assert_eq!(team.home.run(&["token", "acme", "--as", &principal]).await.code, 4);
    assert_eq!(bot.stop().await.code, 0);
    let times =
        team.alice.sees(&team.alice.dm()).iter().filter(|m| m.all_text().contains("has ended")).count();
    assert_eq!(times, 1);
    let stored: Value = serde_json::from_str(&team.stored()).unwrap();
    let session = &stored["sessions"][format!("acme/{principal}")];
    assert!(session["ended"]["notified_at"].is_i64(), "{}", session["ended"]);
}

#[tokio::test]
async fn a_repetition_within_the_grace_never_uses_the_token_of_a_newer_sign_in() {
    let rig = expired(Duration::from_secs(30)).await;
    rig.server.script([Reply::Hang]);
    let asking = rig.spawn_token_call(ALICE);
    rig.server.wait_for_held(1).await;
    rig.sign_in(ALICE, "alice").await;
    rig.server.release();
    let lease = asking.await.unwrap().unwrap();
    rig.broker.drained().await;
    let kept = rig.session(ALICE).await;
    assert_eq!((kept.generation, &kept.access_token), (1, &lease.access_token), "it is fresh");
    assert_eq!(rig.server.events().total.refreshes, 0);
}
