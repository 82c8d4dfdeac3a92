//! Restarts, broken connections, ended sessions, logouts, and a second bot.

use serde_json::json;

use crate::{
    support::{
        authserver::{LifeState, Reply},
        browser,
        discord::Forget,
    },
    team::{AN_HOUR, expect_messages, team},
};

#[tokio::test]
async fn a_started_sign_in_survives_a_restart_of_the_bot() {
    let (_server, team) = team().await;
    let alice = &team.alice;
    let bot = team.run().await;
    let (started, link) = team.start(alice).await;
    assert_eq!(bot.stop().await.code, 0);
    let _bot = team.run().await;

    let reply = started.press("Enter code").await.message().latest().await.all_text();
    assert!(reply.contains("I have restarted since") && reply.contains("/auth code"), "{reply}");
    let (again, same) = team.start(alice).await;
    assert_eq!(same, link, "the link on the screen stays good");
    assert!(again.text().contains("already open"), "{again:?}");
    let callback = browser::sign_in(&link, "alice").await;
    team.paste(alice, &callback.url).await.says("Signed in as `alice@example.com`").await;
    again.says("Signed in as `alice@example.com`").await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn the_bot_resumes_a_broken_connection_and_answers_missed_messages() {
    let (_server, team) = team().await;
    let alice = &team.alice;
    let _bot = team.run().await;
    team.sign_in(alice, "alice").await;
    let thread = team.ask(alice, "which account is this?").await;
    expect_messages(&thread, "I hold **alice**'s login", 1).await;

    team.discord.drop_connection(Forget::Nothing);
    alice.says(&thread, "and now?");
    team.discord.bot_resumed(1).await;
    expect_messages(&thread, "I hold **alice**'s login", 2).await;

    team.discord.drop_connection(Forget::Sessions);
    team.discord.bot_identified(2).await;
    team.discord.bot_ready().await;
    alice.says(&thread, "and now?");
    expect_messages(&thread, "I hold **alice**'s login", 3).await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn the_owner_of_an_ended_session_gets_one_notice_with_a_sign_in_button() {
    let (server, team) = team().await;
    let alice = &team.alice;
    let bot = team.run().await;
    team.sign_in(alice, "alice").await;
    let thread = team.ask(alice, "which account is this?").await;
    expect_messages(&thread, "I hold **alice**'s login", 1).await;

    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    team.home.set_offset(AN_HOUR);
    alice.says(&thread, "and now?");
    let question = thread.wait_for_text("your sign-in there has ended").await;
    let dm = alice.dm();
    let ended = "Your sign-in at `acme` as `alice@example.com` has ended";
    dm.wait_for_text(ended).await;
    // The agent waits for her, so that she is not asked twice.
    alice.says(&thread, "and now?");
    expect_messages(&thread, "still working on the last prompt", 1).await;
    alice.press(&question, "Decline").await.updated();
    expect_messages(&thread, "the sign-in was declined", 1).await;
    alice.says(&thread, "and now?");
    expect_messages(&thread, "Sign in to `acme` first", 1).await;
    assert_eq!(server.count(), 2, "the code and one refresh: a verdict is requested only once");
    assert_eq!(bot.stop().await.code, 0);
    let _bot = team.run().await;
    alice.says(&thread, "and now?");
    expect_messages(&thread, "Sign in to `acme` first", 2).await;
    expect_messages(&dm, ended, 1).await;

    // The button from before the restart is forgotten; the command works.
    let status = alice.command(&team.general, "auth status", &[]).await.text();
    assert!(status.contains("**ended** by the provider"), "{status}");
    team.sign_in(alice, "alice").await;
    alice.says(&thread, "and now?");
    expect_messages(&thread, "I hold **alice**'s login", 2).await;

    // The second time, she uses the button.
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    team.home.set_offset(2 * AN_HOUR + 60);
    expect_messages(&dm, ended, 2).await;
    let reply =
        dm.messages().into_iter().rfind(|view| view.all_text().contains(ended)).expect("the notice was sent");
    let started = alice.press(&reply, "Sign in again").await.message();
    started.latest().await;
    let link = started.link("Sign in to acme").expect("a link");
    let callback = browser::sign_in(&link, "alice").await;
    crate::team::enter(&started, &callback.url).await.says("Signed in as `alice@example.com`").await;
    alice.says(&thread, "and now?");
    expect_messages(&thread, "I hold **alice**'s login", 3).await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_verdict_on_the_command_line_notifies_the_owner_without_polling() {
    let (server, team) = team().await;
    let alice = &team.alice;
    let _bot = team.run().await;
    team.sign_in(alice, "alice").await;
    // No agent of hers runs, so nothing in the bot has a reason to read her session.
    server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    team.home.set_offset(AN_HOUR);
    let principal = format!("user:{}", threadkey::ids::Snowflake(alice.id));
    let ended = team.home.run(&["token", "acme", "--as", &principal]).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    let dm = alice.dm();
    expect_messages(&dm, "Your sign-in at `acme` as `alice@example.com` has ended", 1).await;
    assert_eq!(server.count(), 2, "the code and one refresh");
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_sign_in_message_shows_the_result_of_the_command_line() {
    let (_server, team) = team().await;
    let alice = &team.alice;
    let _bot = team.run().await;
    let principal = format!("user:{}", threadkey::ids::Snowflake(alice.id));
    let (started, _) = team.start(alice).await;
    let cancelled = team.home.run(&["auth", "cancel", "--as", &principal]).await;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let view = started.says("This sign-in to `acme` was cancelled.").await;
    assert!(view.buttons.is_empty() && view.link("").is_none(), "{view}");

    let (started, link) = team.start(alice).await;
    let callback = browser::sign_in(&link, "alice").await;
    let finished = team.home.run_with(&["auth", "code", "--as", &principal], &callback.url).await;
    assert_eq!(finished.code, 0, "{finished:?}");
    let view = started.says("Signed in as `alice@example.com` at `acme`.").await;
    assert!(view.buttons.is_empty() && view.link("").is_none(), "{view}");
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_logout_takes_the_token_from_workers_and_reports_whether_the_grant_lives_on() {
    let (server, team) = team().await;
    let alice = &team.alice;
    let _bot = team.run().await;
    team.sign_in(alice, "alice").await;
    let thread = team.ask(alice, "which account is this?").await;
    expect_messages(&thread, "I hold **alice**'s login", 1).await;

    let keep = [("provider", "acme"), ("keep_grant", "true")];
    let reply = alice.command(&team.general, "auth logout", &keep).await.text();
    assert!(reply.contains("the access stays valid"), "{reply}");
    assert!(server.lives().iter().all(|life| life.state == LifeState::Live), "{:?}", server.lives());
    alice.says(&thread, "and now?");
    expect_messages(&thread, "Sign in to `acme` first", 1).await;

    // The prompt has waited for the sign-in.
    team.sign_in(alice, "alice").await;
    expect_messages(&thread, "I hold **alice**'s login", 2).await;
    let reply = alice.command(&team.general, "auth logout", &[("provider", "acme")]).await.text();
    assert!(reply.contains("has ended the access"), "{reply}");
    let newest = server.lives().into_iter().max_by_key(|life| life.family).expect("two sign-ins");
    assert_ne!(newest.state, LifeState::Live);
    alice.says(&thread, "and now?");
    expect_messages(&thread, "Sign in to `acme` first", 2).await;
    team.discord.assert_no_violations();
}

#[tokio::test]
async fn a_second_bot_stands_by_and_takes_over_when_the_first_is_killed() {
    let (_server, team) = team().await;
    let alice = &team.alice;
    let first = team.run().await;
    let second = team.start_run(&[]);
    second.says("standing by").await;
    team.sign_in(alice, "alice").await;
    assert_eq!(team.discord.gateway_sessions(), (1, 0), "one bot is on Discord");

    first.signal(9);
    first.ended().await;
    second.says("taking over").await;
    second.says("connected to Discord").await;
    let status = alice.command(&team.general, "auth status", &[]).await.text();
    assert!(status.contains("alice@example.com"), "{status}");
    let thread = team.ask(alice, "which account is this?").await;
    expect_messages(&thread, "I hold **alice**'s login", 1).await;
    assert_eq!(second.stop().await.code, 0);
    team.discord.assert_no_violations();
}
