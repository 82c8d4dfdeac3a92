//! `/auth logout` on Discord: where another sign-in has the same account, the user is asked first.

use threadkey::ids::{Principal, Tenant};

use crate::{
    discord_rig::{Rig, snowflake},
    support::{
        authserver::{LifeState, Reply as Answer},
        browser,
        discord::Person,
    },
};

const ACME: [(&str, &str); 1] = [("provider", "acme")];

async fn account(rig: &Rig, principal: Principal) -> Option<String> {
    let tenant = Tenant::new("acme".parse().expect("a name"), principal);
    rig.broker.token(&tenant, std::time::Duration::ZERO).await.ok()?.account
}

fn user(person: &Person) -> Principal {
    Principal::User(snowflake(person.id))
}

fn live(rig: &Rig) -> usize {
    rig.server.lives().iter().filter(|life| life.state == LifeState::Live).count()
}

/// A rig on which alice and bob are signed in with one account.
async fn shared_account() -> Rig {
    let rig = Rig::start().await;
    rig.sign_in(&rig.alice, "team").await;
    rig.sign_in(&rig.bob, "team").await;
    rig
}

#[tokio::test]
async fn a_logout_asks_first_where_another_sign_in_has_the_same_account() {
    let rig = shared_account().await;
    let question = rig.alice.command(&rig.general, "auth logout", &ACME).await;
    let words = question.text();
    assert!(question.is_ephemeral() && words.contains("in use here by another sign-in too"), "{words}");
    assert!(words.contains("Nothing has changed yet"), "{words}");
    for hidden in ["bob", &rig.bob.id.to_string()] {
        assert!(!words.contains(hidden), "the other user is not named: {words}");
    }
    let labels: Vec<_> = question.buttons().into_iter().map(|button| button.label).collect();
    assert_eq!(labels, ["End the access", "Log out here only"]);
    assert!(account(&rig, user(&rig.alice)).await.is_some(), "nothing yet");
    let id = question.buttons().remove(0).custom_id.expect("an id");
    let press = rig.bob.forge_press(&rig.general, question.view().id, &id).await.message();
    assert!(press.text().contains("another user"), "{press:?}");
    question.press("Log out here only").await.updated().says("the access stays valid until you").await;
    assert_eq!((account(&rig, user(&rig.alice)).await, live(&rig)), (None, 2), "no grant was revoked");
    assert!(account(&rig, user(&rig.bob)).await.is_some());
    rig.sign_in(&rig.alice, "team").await;
    let question = rig.alice.command(&rig.general, "auth logout", &ACME).await;
    question.press("End the access").await.updated().says("and `acme` has ended the access.").await;
    assert_eq!(account(&rig, user(&rig.alice)).await, None);
    assert_eq!(live(&rig), 2, "hers has ended, the one before and bob's have not");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn the_option_revoke_is_still_taken_and_asks_nothing() {
    let rig = shared_account().await;
    let revoke = [("provider", "acme"), ("revoke", "true")];
    let done = rig.alice.command(&rig.general, "auth logout", &revoke).await;
    assert!(done.text().contains("has ended the access") && done.buttons().is_empty(), "{done:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_servers_logout_question_needs_a_manager_when_it_is_answered() {
    let rig = Rig::start().await;
    rig.alice.make_manager(&rig.guild);
    rig.sign_in(&rig.alice, "team").await;
    let shared = [("provider", "acme"), ("shared", "true")];
    let start = rig.alice.command(&rig.general, "auth start", &shared).await;
    let callback = browser::sign_in(&start.link("Sign in to acme").expect("a link"), "team").await;
    rig.alice.command(&rig.general, "auth code", &[("code", &callback.url)]).await;
    let question = rig.alice.command(&rig.general, "auth logout", &shared).await;
    assert!(
        question.text().contains("for this server is in use here by your sign-in at `acme`"),
        "{question:?}"
    );
    rig.alice.loses_roles(&rig.guild);
    let refused = question.press("End the access").await.message();
    assert!(refused.is_ephemeral() && refused.text().contains("Manage Server"), "{refused:?}");
    let guild = Principal::Guild(snowflake(rig.guild.id));
    assert!(account(&rig, guild).await.is_some());
    rig.alice.make_manager(&rig.guild);
    question.press("Log out here only").await.updated().says("for this server").await;
    assert!(account(&rig, guild).await.is_none() && account(&rig, user(&rig.alice)).await.is_some());
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn an_unnamed_provider_is_asked_for_where_there_are_several() {
    let rig = Rig::start().await;
    for command in ["auth start", "auth logout"] {
        let reply = rig.alice.command(&rig.general, command, &[]).await;
        let words = "Name a provider with the option `provider`. Known providers: `acme`, `big-acme`.";
        assert!(reply.text().contains(words), "{reply:?}");
    }
    let reply = rig.alice.command(&rig.general, "auth start", &[("provider", "big-amce")]).await;
    assert!(reply.text().contains("Did you mean `big-acme`?"), "{reply:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn the_status_asks_for_the_operator_where_a_token_endpoint_is_wrong() {
    let rig = Rig::start().await;
    rig.sign_in(&rig.alice, "alice").await;
    let token = Tenant::new("acme".parse().expect("a name"), user(&rig.alice));
    let session = rig.broker.session(&token).await.expect("the store is readable").expect("a session");
    rig.server.script([Answer::Json(404, serde_json::json!({"message": "no such page"}))]);
    let refused = rig.broker.rejected(&token, &session.access_token).await;
    assert!(refused.is_err(), "{refused:?}");
    let status = rig.alice.command(&rig.general, "auth status", &[]).await;
    let words = "ask my operator to check the address of the token endpoint";
    assert!(status.text().contains(words), "{status:?}");
    rig.discord.assert_no_violations();
}
