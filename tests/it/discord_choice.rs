//! A sign-in as another account, on Discord: its user gets a question, and other users see nothing
//! of it.

use threadkey::{
    ids::{Principal, Tenant},
    sys::clock::Clock,
};

use crate::{
    discord_rig::{Plan, Rig, snowflake},
    support::{
        authserver::LifeState,
        browser,
        discord::{Person, Reply},
    },
};

const SHARED: [(&str, &str); 2] = [("provider", "acme"), ("shared", "true")];

/// Signs `who` in by link and form. Returns the link's message and the answer.
async fn finish_as(rig: &Rig, who: &Person, account: &str) -> (Reply, Reply) {
    let (start, link) = rig.start_sign_in(who).await;
    let callback = browser::sign_in(&link, account).await;
    let modal = start.press("Enter code").await.modal();
    let answer = modal.submit(&[("code", &callback.url)]).await.message();
    answer.latest().await;
    (start, answer)
}

/// Returns a rig on which alice is signed in, and the question about her sign-in as bob.
async fn asked() -> (Rig, Reply) {
    let rig = Rig::start().await;
    rig.sign_in(&rig.alice, "alice").await;
    let (start, question) = finish_as(&rig, &rig.alice, "bob").await;
    let start = start.says("waits for your choice").await;
    assert!(start.buttons.is_empty() && start.link("").is_none(), "link and form are gone: {start}");
    (rig, question)
}

async fn account(rig: &Rig, principal: Principal) -> Option<String> {
    let tenant = Tenant::new("acme".parse().expect("a name"), principal);
    let lease = rig.broker.token(&tenant, std::time::Duration::ZERO).await.expect("a token");
    lease.account
}

fn alice(rig: &Rig) -> Principal {
    Principal::User(snowflake(rig.alice.id))
}

fn bobs(rig: &Rig) -> LifeState {
    let lives = rig.server.lives();
    lives.into_iter().find(|life| life.account == "bob").expect("bob signed in").state
}

#[tokio::test]
async fn only_the_user_of_the_sign_in_sees_the_question_and_switches() {
    let (mut rig, question) = asked().await;
    assert!(question.is_ephemeral());
    let words = question.text();
    assert!(
        words.contains(
            "You signed in as `bob@example.com`, but `acme` is connected as `alice@example.com`. Nothing was replaced."
        ),
        "{words}"
    );
    let labels: Vec<_> = question.buttons().into_iter().map(|button| button.label).collect();
    assert_eq!(labels, ["Switch", "Keep"]);
    for button in question.buttons() {
        let id = button.custom_id.expect("an id");
        assert!(id.len() == 43 && !id.contains("acme") && !id.contains("bob"), "it says nothing: {id}");
        let press = rig.bob.forge_press(&rig.general, question.view().id, &id).await.message();
        assert!(press.is_ephemeral() && press.text().contains("another user"), "{press:?}");
    }
    assert_eq!(account(&rig, alice(&rig)).await.as_deref(), Some("alice@example.com"), "nothing yet");
    let answer = question.press("Switch").await.updated();
    let view =
        answer.says("Signed in as `bob@example.com` at `acme`.\nThis replaces the sign-in as `alice").await;
    assert!(view.buttons.is_empty() && view.ephemeral, "{view}");
    assert_eq!(account(&rig, alice(&rig)).await.as_deref(), Some("bob@example.com"));
    assert!(!rig.discord.everything_public().contains("bob@"));
    assert!(!rig.bob.everything().contains("alice@"));
    rig.stop().await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_user_who_keeps_the_session_sees_the_end_of_the_other_grant() {
    let (rig, question) = asked().await;
    let again = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(again.text().contains("You signed in as `bob@example.com` too"), "{again:?}");
    let answer = question.press("Keep").await.updated();
    let view = answer
        .says("`acme` stays with `alice@example.com`. The sign-in as `bob@example.com` is dropped, and `acme` has ended its access.")
        .await;
    assert!(view.buttons.is_empty() && view.ephemeral, "{view}");
    assert_eq!(account(&rig, alice(&rig)).await.as_deref(), Some("alice@example.com"));
    assert_eq!(bobs(&rig), LifeState::Revoked);
    again.press("Switch").await.updated().says("Nothing waits for your choice any more").await;
    let status = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(status.buttons().is_empty() && !status.text().contains("bob@"), "{status:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn after_a_restart_the_status_repeats_the_question() {
    let (mut rig, question) = asked().await;
    rig.stop().await;
    rig.run().await;
    let forgotten = question.press("Switch").await.message();
    assert!(forgotten.is_ephemeral() && forgotten.text().contains("`/auth status`"), "{forgotten:?}");
    let status = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(status.is_ephemeral() && status.text().contains("Account: `alice@example.com`"), "{status:?}");
    status.press("Switch").await.updated().says("Signed in as `bob@example.com`").await;
    assert_eq!(account(&rig, alice(&rig)).await.as_deref(), Some("bob@example.com"));
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn only_managers_choose_for_a_server_and_other_users_do_not_see_the_account() {
    let rig = Rig::start().await;
    rig.alice.make_manager(&rig.guild);
    let mut answers = Vec::new();
    for account in ["team", "bob"] {
        let start = rig.alice.command(&rig.general, "auth start", &SHARED).await;
        let link = start.link("Sign in to acme").expect("a link");
        let callback = browser::sign_in(&link, account).await;
        answers.push(rig.alice.command(&rig.general, "auth code", &[("code", &callback.url)]).await);
    }
    let question = answers.pop().expect("two");
    assert!(question.text().contains("connected as `team@example.com` for this server"), "{question:?}");
    let others = rig.bob.command(&rig.general, "auth status", &[]).await;
    assert!(others.text().contains("team@example.com"), "{others:?}");
    assert!(!others.text().contains("bob@") && others.buttons().is_empty(), "{others:?}");
    let managers = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(managers.text().contains("You signed in as `bob@example.com` too"), "{managers:?}");
    let guild = Principal::Guild(snowflake(rig.guild.id));
    assert_eq!(account(&rig, guild).await.as_deref(), Some("team@example.com"));
    rig.alice.loses_roles(&rig.guild);
    let refused = managers.press("Switch").await.message();
    assert!(refused.is_ephemeral() && refused.text().contains("Manage Server"), "{refused:?}");
    assert_eq!(account(&rig, guild).await.as_deref(), Some("team@example.com"));
    rig.alice.make_manager(&rig.guild);
    question.press("Switch").await.updated().says("Signed in as `bob@example.com` at `acme` for this").await;
    assert_eq!(account(&rig, guild).await.as_deref(), Some("bob@example.com"));
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn an_expired_choice_is_reported_if_the_grant_may_still_work() {
    let clock = Clock::fixed(Clock::system().now());
    let rig = Rig::with(Plan { clock: Some(clock.clone()), ..Plan::default() }).await;
    rig.sign_in(&rig.alice, "alice").await;
    // The grant is in use elsewhere, so that it is not revoked.
    rig.sign_in(&rig.bob, "bob").await;
    let (_, question) = finish_as(&rig, &rig.alice, "bob").await;
    assert!(!question.buttons().is_empty(), "{question:?}");
    clock.advance(15 * 60);
    rig.broker.expire_undecided().await.expect("the store can be written");
    let notice = rig.alice.dm().wait_for_text("You did not choose in time.").await;
    let words = notice.all_text();
    assert!(words.contains("`acme` stays with `alice@example.com`."), "{words}");
    assert!(words.contains("may still work at `acme`"), "{words}");
    let view = question.says("The sign-in as `bob@example.com` was not chosen and is dropped.").await;
    assert!(view.buttons.is_empty(), "{view}");
    assert_eq!(
        account(&rig, Principal::User(snowflake(rig.bob.id))).await.as_deref(),
        Some("bob@example.com")
    );
    rig.discord.assert_no_violations();
}
