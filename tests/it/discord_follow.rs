//! A sign-in message on Discord follows its sign-in, also if that changes in a terminal or in
//! another conversation. In these tests, the terminal is another broker on the same store.

use threadkey::{
    broker::{Broker, Finished, Revocation, Undecided},
    ids::{Principal, Tenant},
    oauth::Pasted,
};

use crate::{
    discord_rig::{Rig, snowflake},
    support::{browser, discord::Reply},
};

fn alices(rig: &Rig) -> (Tenant, Principal) {
    let alice = Principal::User(snowflake(rig.alice.id));
    (Tenant::new("acme".parse().unwrap(), alice), alice)
}

/// Finishes alice's sign-in in a terminal.
async fn finish(rig: &Rig, terminal: &Broker, link: &str, account: &str) -> Finished {
    let callback = browser::sign_in(link, account).await;
    terminal.finish(alices(rig).1, None, Pasted::parse(&callback.url).unwrap()).await.unwrap()
}

/// Alice has two messages with the same link. She finishes the sign-in in a terminal, as another
/// account than that of her session.
async fn asked(rig: &Rig, terminal: &Broker) -> (Reply, Reply, Undecided) {
    rig.sign_in(&rig.alice, "alice").await;
    let (older, link) = rig.start_sign_in(&rig.alice).await;
    let (newer, _) = rig.start_sign_in(&rig.alice).await;
    let Finished::Undecided(undecided) = finish(rig, terminal, &link, "bob").await else {
        panic!("it is as another account")
    };
    (older, newer, undecided)
}

#[tokio::test]
async fn a_sign_in_finished_in_a_terminal_updates_its_message() {
    let mut rig = Rig::start().await;
    let terminal = rig.another_broker();
    let (start, link) = rig.start_sign_in(&rig.alice).await;
    let modal = start.press("Enter code").await.modal();
    let (bobs, _) = rig.start_sign_in(&rig.bob).await;
    finish(&rig, &terminal, &link, "alice").await;
    let view = start.says("Signed in as `alice@example.com` at `acme`.").await;
    assert!(view.buttons.is_empty() && view.link("").is_none() && view.ephemeral, "{view}");
    assert_eq!(bobs.buttons().len(), 2, "bob's is as it was");
    // The form stayed open during all of this.
    let late = modal.submit(&[("code", "a-code")]).await.message();
    assert!(late.text().contains("no longer works"), "{late:?}");
    assert!(start.followups().is_empty() && rig.alice.sees(&rig.alice.dm()).is_empty(), "reported once");
    rig.stop().await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_terminal_sign_in_as_another_account_asks_in_the_newest_message() {
    let mut rig = Rig::start().await;
    let terminal = rig.another_broker();
    let (older, newer, _) = asked(&rig, &terminal).await;
    let question = newer
        .says("You signed in as `bob@example.com`, but `acme` is connected as `alice@example.com`")
        .await;
    assert!(question.ephemeral && question.link("").is_none(), "{question}");
    let labels: Vec<_> = question.buttons.iter().map(|button| button.label.as_str()).collect();
    assert_eq!(labels, ["Switch", "Keep"]);
    let view = older.says("waits for your choice: choose in the newest answer").await;
    assert!(view.buttons.is_empty(), "{view}");
    let id = question.buttons[0].custom_id.clone().unwrap();
    let press = rig.bob.forge_press(&rig.general, question.id, &id).await.message();
    assert!(press.text().contains("another user"), "{press:?}");
    newer.press("Switch").await.updated().says("Signed in as `bob@example.com` at `acme`.").await;
    let (tenant, _) = alices(&rig);
    let lease = terminal.token(&tenant, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(lease.account.as_deref(), Some("bob@example.com"));
    rig.stop().await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_question_answered_in_a_terminal_shows_the_answer() {
    let mut rig = Rig::start().await;
    let terminal = rig.another_broker();
    let (tenant, _) = alices(&rig);
    let (_, followed, undecided) = asked(&rig, &terminal).await;
    followed.says("Nothing was replaced").await;
    terminal.keep(&tenant, undecided.lineage).await.unwrap();
    let view = followed.says("`acme` stays with `alice@example.com`. The sign-in as `bob@").await;
    assert!(view.buttons.is_empty(), "{view}");

    // The same holds for a question after a paste on Discord.
    let (start, link) = rig.start_sign_in(&rig.alice).await;
    let callback = browser::sign_in(&link, "bob").await;
    let pasted = rig.alice.command(&rig.general, "auth code", &[("code", &callback.url)]).await;
    let question = pasted.says("Nothing was replaced").await;
    assert_eq!(question.buttons.len(), 2, "{question}");
    let view = start.says("waits for your choice: choose in the newest answer").await;
    assert!(view.buttons.is_empty() && pasted.followups().is_empty(), "asked once: {view}");
    let undecided = terminal.undecided(&tenant).await.unwrap().unwrap();
    terminal.switch(&tenant, undecided.lineage).await.unwrap();
    let view = pasted.says("Signed in as `bob@example.com` at `acme`.\nThis replaces the sign-in").await;
    assert!(view.buttons.is_empty(), "{view}");
    assert!(start.text().contains("waits for your choice"), "it is as it was: {start:?}");
    rig.stop().await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_sign_in_cancelled_replaced_or_logged_out_elsewhere_updates_its_message() {
    let mut rig = Rig::start().await;
    let terminal = rig.another_broker();
    let (tenant, alice) = alices(&rig);
    let (start, _) = rig.start_sign_in(&rig.alice).await;
    terminal.cancel(alice, None).await.unwrap();
    let view = start.says("This sign-in to `acme` was cancelled.").await;
    assert!(view.buttons.is_empty() && view.link("").is_none(), "{view}");

    let (first, _) = rig.start_sign_in(&rig.alice).await;
    terminal.cancel(alice, None).await.unwrap();
    let link = terminal.start(&tenant, alice).await.unwrap().link().unwrap().clone();
    let view = first.wait("to have no link any more", |view| view.link("").is_none()).await;
    // The bot may or may not read the store between the two steps, so both results are right.
    assert!(
        ["was cancelled", "no longer works"].iter().any(|words| view.all_text().contains(words)),
        "{view}"
    );
    let (second, same) = rig.start_sign_in(&rig.alice).await;
    assert_eq!(same, link.as_str());
    finish(&rig, &terminal, link.as_str(), "alice").await;
    second.says("Signed in as `alice@example.com`").await;

    let (renewal, _) = rig.start_sign_in(&rig.alice).await;
    terminal.logout(&tenant, Revocation::Keep).await.unwrap();
    let view = renewal.says("is dropped, because `acme` was logged out here").await;
    assert!(view.buttons.is_empty() && view.link("").is_none(), "{view}");
    rig.stop().await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_logout_on_discord_also_removes_the_link_of_a_repeated_sign_in() {
    let mut rig = Rig::start().await;
    rig.sign_in(&rig.alice, "alice").await;
    let (renewal, _) = rig.start_sign_in(&rig.alice).await;
    rig.alice.command(&rig.alice.dm(), "auth logout", &[("provider", "acme")]).await;
    let view = renewal.says("is dropped, because `acme` was logged out here").await;
    assert!(view.buttons.is_empty() && view.link("").is_none(), "{view}");
    rig.stop().await;
    rig.discord.assert_no_violations();
}
