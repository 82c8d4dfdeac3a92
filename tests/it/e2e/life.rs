//! Restarts, broken connections, ended sessions, sign-outs, and a second bot.

use serde_json::json;

use crate::{
    support::{
        authserver::{LifeState, Reply},
        browser,
        discord::Forget,
    },
    town::{AN_HOUR, said, town},
};

#[tokio::test]
async fn a_started_sign_in_survives_a_restart_of_the_bot() {
    let (_server, town) = town().await;
    let alice = &town.alice;
    let bot = town.run().await;
    let (started, link) = town.start(alice).await;
    assert_eq!(bot.stop().await.code, 0);
    let _bot = town.run().await;

    let told = started.press("Enter code").await.message().latest().await.all_text();
    assert!(told.contains("I was restarted since") && told.contains("/auth code"), "{told}");
    let (again, same) = town.start(alice).await;
    assert_eq!(same, link, "the link on the screen stays good");
    assert!(again.text().contains("already open"), "{again:?}");
    let callback = browser::sign_in(&link, "alice").await;
    town.paste(alice, &callback.url).await.says("Signed in as `alice@example.com`").await;
    again.says("Signed in as `alice@example.com`").await;
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn after_a_broken_connection_the_bot_resumes_and_answers_what_was_said_meanwhile() {
    let (_server, town) = town().await;
    let alice = &town.alice;
    let _bot = town.run().await;
    town.sign_in(alice, "alice").await;
    let thread = town.ask(alice, "whose login is this?").await;
    said(&thread, "I hold **alice**'s login", 1).await;

    town.discord.drop_connection(Forget::Nothing);
    alice.says(&thread, "and now?");
    town.discord.bot_resumed(1).await;
    said(&thread, "I hold **alice**'s login", 2).await;

    town.discord.drop_connection(Forget::Sessions);
    town.discord.bot_identified(2).await;
    town.discord.bot_ready().await;
    alice.says(&thread, "and now?");
    said(&thread, "I hold **alice**'s login", 3).await;
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn the_owner_of_an_ended_session_is_told_once_with_a_button_that_signs_in_again() {
    let (server, town) = town().await;
    let alice = &town.alice;
    let bot = town.run().await;
    town.sign_in(alice, "alice").await;
    let thread = town.ask(alice, "whose login is this?").await;
    said(&thread, "I hold **alice**'s login", 1).await;

    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    town.home.set_offset(AN_HOUR);
    alice.says(&thread, "and now?");
    said(&thread, "has ended (invalid_grant)", 1).await;
    let dm = alice.dm();
    let ended = "Your sign-in at `acme` as `alice@example.com` has ended";
    dm.wait_for_text(ended).await;
    alice.says(&thread, "and now?");
    said(&thread, "has ended (invalid_grant)", 2).await;
    assert_eq!(server.count(), 2, "the code and one refresh: a verdict is not asked for twice");
    assert_eq!(bot.stop().await.code, 0);
    let _bot = town.run().await;
    alice.says(&thread, "and now?");
    said(&thread, "has ended (invalid_grant)", 3).await;
    said(&dm, ended, 1).await;

    // The button of before the restart is forgotten, the command is not.
    let status = alice.command(&town.general, "auth status", &[]).await.text();
    assert!(status.contains("**ended** by the provider"), "{status}");
    town.sign_in(alice, "alice").await;
    alice.says(&thread, "and now?");
    said(&thread, "I hold **alice**'s login", 2).await;

    // Again, and this time by the button.
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    town.home.set_offset(2 * AN_HOUR + 60);
    said(&dm, ended, 2).await;
    let told = dm.messages().into_iter().rfind(|view| view.text.contains(ended)).expect("it was said");
    let started = alice.press(&told, "Sign in again").await.message();
    started.latest().await;
    let link = started.link("Sign in to acme").expect("a link");
    let callback = browser::sign_in(&link, "alice").await;
    crate::town::enter(&started, &callback.url).await.says("Signed in as `alice@example.com`").await;
    alice.says(&thread, "and now?");
    said(&thread, "I hold **alice**'s login", 3).await;
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn the_owner_is_told_of_a_verdict_that_a_command_line_heard_without_the_bot_looking_by_the_clock() {
    let (server, town) = town().await;
    let alice = &town.alice;
    let _bot = town.run().await;
    town.sign_in(alice, "alice").await;
    // No agent of hers runs, so nothing in the bot has a reason to look at her session.
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    town.home.set_offset(AN_HOUR);
    let principal = format!("user:{}", threadkey::ids::Snowflake(alice.id));
    let heard = town.home.run(&["token", "acme", "--as", &principal]).await;
    assert_eq!(heard.code, 4, "{heard:?}");
    let dm = alice.dm();
    said(&dm, "Your sign-in at `acme` as `alice@example.com` has ended", 1).await;
    assert_eq!(server.count(), 2, "the code and one refresh");
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_sign_in_message_says_what_a_command_line_did_with_its_sign_in() {
    let (_server, town) = town().await;
    let alice = &town.alice;
    let _bot = town.run().await;
    let principal = format!("user:{}", threadkey::ids::Snowflake(alice.id));
    let (started, _) = town.start(alice).await;
    let cancelled = town.home.run(&["auth", "cancel", "--as", &principal]).await;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let view = started.says("This sign-in to `acme` was cancelled.").await;
    assert!(view.buttons.is_empty() && view.embeds.is_empty(), "{view}");

    let (started, link) = town.start(alice).await;
    let callback = browser::sign_in(&link, "alice").await;
    let finished = town.home.run_with(&["auth", "code", "--as", &principal], &callback.url).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    let view = started.says("Signed in as `alice@example.com` at `acme`.").await;
    assert!(view.buttons.is_empty() && view.embeds.is_empty(), "{view}");
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_logout_takes_the_login_from_workers_and_says_whether_the_grant_lives_on() {
    let (server, town) = town().await;
    let alice = &town.alice;
    let _bot = town.run().await;
    town.sign_in(alice, "alice").await;
    let thread = town.ask(alice, "whose login is this?").await;
    said(&thread, "I hold **alice**'s login", 1).await;

    let told = alice.command(&town.general, "auth logout", &[("provider", "acme")]).await.text();
    assert!(told.contains("the access lives on"), "{told}");
    assert!(server.lives().iter().all(|life| life.state == LifeState::Live), "{:?}", server.lives());
    alice.says(&thread, "and now?");
    said(&thread, "threadkey gives me no token: nobody is signed in", 1).await;

    town.sign_in(alice, "alice").await;
    alice.says(&thread, "and now?");
    said(&thread, "I hold **alice**'s login", 2).await;
    let revoke = [("provider", "acme"), ("revoke", "true")];
    let told = alice.command(&town.general, "auth logout", &revoke).await.text();
    assert!(told.contains("has ended the access"), "{told}");
    let newest = server.lives().into_iter().max_by_key(|life| life.family).expect("two sign-ins");
    assert_ne!(newest.state, LifeState::Live);
    alice.says(&thread, "and now?");
    said(&thread, "threadkey gives me no token: nobody is signed in", 2).await;
    town.discord.assert_no_violations();
}

#[tokio::test]
async fn a_second_bot_stands_by_and_takes_over_when_the_first_is_killed() {
    let (_server, town) = town().await;
    let alice = &town.alice;
    let first = town.run().await;
    let second = town.start_run(&[]);
    second.says("standing by").await;
    town.sign_in(alice, "alice").await;
    assert_eq!(town.discord.gateway_sessions(), (1, 0), "one bot is on Discord");

    first.signal(9);
    first.ended().await;
    second.says("taking over").await;
    second.says("connected to Discord").await;
    let status = alice.command(&town.general, "auth status", &[]).await.text();
    assert!(status.contains("alice@example.com"), "{status}");
    let thread = town.ask(alice, "whose login is this?").await;
    said(&thread, "I hold **alice**'s login", 1).await;
    assert_eq!(second.stop().await.code, 0);
    town.discord.assert_no_violations();
}
