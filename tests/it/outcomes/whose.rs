//! Whose verdict it is, and about what: an outcome concerns the token that was sent, in every process.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use std::time::Duration;

use serde_json::{Value, json};
use threadkey::broker::TokenError;

use super::{expired, told};
use crate::{
    broker::{ALICE, MINUTE, Rig, tenant},
    support::authserver::Reply,
};

#[tokio::test]
async fn a_verdict_is_about_the_token_that_was_sent_and_another_processes_success_clears_it() {
    let rig = expired(Duration::ZERO).await;
    let before = rig.session(ALICE).await;
    rig.server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    assert!(matches!(told(&rig).await, ([TokenError::Ended { .. }, TokenError::Ended { .. }], 1)));
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
async fn the_refresh_token_is_the_stored_one_whatever_a_process_has_seen_before() {
    let rig = Rig::start().await;
    rig.sign_in(ALICE, "alice").await;
    let old_hand = rig.another();
    old_hand.token(&tenant(ALICE), MINUTE).await.unwrap();
    for generation in 2..=4 {
        rig.expire();
        rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
        rig.expire();
        let renewed = old_hand.token(&tenant(ALICE), MINUTE).await.unwrap();
        assert_eq!(renewed.generation, 2 * generation - 1);
    }
    let events = rig.server.events().total;
    assert_eq!((events.refreshes, events.reuses), (6, 0));
}

#[tokio::test]
async fn a_running_process_sees_a_new_sign_in_and_a_logout_of_another_at_its_next_request() {
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
    rig.server.script([Reply::Json(200, json!({"access_token": "renewed", "expires_in": 3600}))]);
    assert_eq!(rig.broker.token(&tenant(ALICE), MINUTE).await.unwrap().access_token.expose(), "renewed");
    let after = rig.session(ALICE).await;
    assert_eq!((after.refresh_token, after.generation), (before.refresh_token, 2));
    rig.expire();
    rig.another().token(&tenant(ALICE), MINUTE).await.unwrap();
}

#[tokio::test]
async fn the_owner_is_told_once_of_a_verdict_that_a_command_line_process_heard() {
    let (server, town) = crate::town::town().await;
    let bot = town.run().await;
    town.sign_in(&town.alice, "alice").await;
    town.home.set_offset(3600);
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    let principal = town.alice.principal();
    let heard = town.home.run(&["token", "acme", "--as", &principal]).await;
    assert_eq!(heard.code, 4, "{heard:?}");
    let told = town.alice.dm().wait_for_text("has ended").await;
    assert!(told.button("Sign in again").is_some(), "{told}");
    bot.says("notified the user of an ended session").await;
    // Whatever else makes it look again, they are not told again.
    town.alice.command(&town.general, "auth status", &[]).await.latest().await;
    assert_eq!(town.home.run(&["token", "acme", "--as", &principal]).await.code, 4);
    assert_eq!(bot.stop().await.code, 0);
    let times =
        town.alice.sees(&town.alice.dm()).iter().filter(|m| m.all_text().contains("has ended")).count();
    assert_eq!(times, 1);
    let stored: Value = serde_json::from_str(&town.stored()).unwrap();
    let session = &stored["sessions"][format!("acme/{principal}")];
    assert!(session["ended"]["notified_at"].is_i64(), "{}", session["ended"]);
}

#[tokio::test]
async fn what_a_grace_allows_to_repeat_is_never_repeated_with_the_token_of_a_newer_sign_in() {
    let rig = expired(Duration::from_secs(30)).await;
    rig.server.script([Reply::Hang]);
    let asking = rig.ask_in_a_task(ALICE);
    rig.server.wait_for_held(1).await;
    rig.sign_in(ALICE, "alice").await;
    rig.server.release();
    let lease = asking.await.unwrap().unwrap();
    rig.broker.drained().await;
    let kept = rig.session(ALICE).await;
    assert_eq!((kept.generation, &kept.access_token), (1, &lease.access_token), "it is fresh");
    assert_eq!(rig.server.events().total.refreshes, 0);
}
