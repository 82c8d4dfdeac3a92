//! Sign-ins from Discord: each user sees their own messages, and no other user sees them.

use threadkey::ids::Principal;

use crate::{
    discord_rig::{Rig, snowflake},
    support::{authserver::Reply, browser},
};

const FIELD: &str = "code";

#[tokio::test]
async fn two_users_sign_in_by_link_and_form_and_see_nothing_of_each_other() {
    let mut rig = Rig::start().await;
    let (alices, alices_link) = rig.start_sign_in(&rig.alice).await;
    let (bobs, bobs_link) = rig.start_sign_in(&rig.bob).await;
    assert!(alices.is_ephemeral() && bobs.is_ephemeral());
    for (reply, link, account) in [(&alices, &alices_link, "alice"), (&bobs, &bobs_link, "bob")] {
        let callback = browser::sign_in(link, account).await;
        let modal = reply.press("Enter code").await.modal();
        let answer = modal.submit(&[(FIELD, &callback.url)]).await.message();
        assert!(answer.is_ephemeral());
        answer.says(&format!("Signed in as `{account}@example.com` at `acme`.")).await;
        let start = reply.says("Signed in as").await;
        assert!(start.buttons.is_empty() && start.link("").is_none(), "link and buttons are gone: {start}");
        assert!(!rig.discord.everything_public().contains(&callback.code));
    }
    assert!(!rig.bob.everything().contains("alice@"));
    assert!(!rig.alice.everything().contains("bob@"));
    assert!(!rig.discord.everything_public().contains("state="));
    rig.stop().await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_sign_in_finished_by_command_brings_its_message_up_to_date() {
    let rig = Rig::start().await;
    let (start, link) = rig.start_sign_in(&rig.alice).await;
    let (again, second_link) = rig.start_sign_in(&rig.alice).await;
    assert_eq!(link, second_link, "a live sign-in is shown again");
    assert!(again.text().contains("already open"));
    let callback = browser::sign_in(&link, "alice").await;
    // A direct message works like any other place.
    let code = format!("`{}#{}`", callback.code, callback.state);
    let reply = rig.alice.command(&rig.alice.dm(), "auth code", &[("code", &code)]).await;
    assert!(reply.text().contains("Signed in as `alice@example.com`"), "{}", reply.text());
    start.says("Signed in as `alice@example.com`").await;
    again.says("Signed in as `alice@example.com`").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_wrong_paste_gets_its_own_error_and_the_form_can_be_opened_again() {
    let rig = Rig::start().await;
    let (start, link) = rig.start_sign_in(&rig.alice).await;
    for (paste, sentence) in [
        ("   `` ", "that was empty"),
        ("http://127.0.0.1:1/callback?code=abc&state=wrong", "belongs to another sign-in"),
        ("http://127.0.0.1:1/callback?error=access_denied&state=x", "was not allowed"),
    ] {
        let modal = start.press("Enter code").await.modal();
        let answer = modal.submit(&[(FIELD, paste)]).await.message();
        answer.says(sentence).await;
        assert!(answer.is_ephemeral());
    }
    assert_eq!(rig.server.count(), 0, "nothing was sent");
    let callback = browser::sign_in(&link, "alice").await;
    let modal = start.press("Enter code").await.modal();
    modal.submit(&[(FIELD, &callback.url)]).await.message().says("Signed in as").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_decorated_paste_in_the_form_signs_in() {
    let rig = Rig::start().await;
    let (start, link) = rig.start_sign_in(&rig.alice).await;
    let callback = browser::sign_in(&link, "alice").await;
    let (first, second) = callback.url.split_at(callback.url.len() / 2);
    let paste =
        format!("It ended here:\n> **<{}\n> {}>**,\nand did not load.", first.replace('&', "&amp;"), second);
    let modal = start.press("Enter code").await.modal();
    modal.submit(&[(FIELD, &paste)]).await.message().says("Signed in as `alice@example.com`").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_user_cannot_use_another_users_button_or_form() {
    let rig = Rig::start().await;
    let (start, link) = rig.start_sign_in(&rig.alice).await;
    let custom_id = start.buttons().into_iter().find_map(|button| button.custom_id).expect("a button");
    let press = rig.bob.forge_press(&rig.general, start.view().id, &custom_id).await.message();
    assert!(press.is_ephemeral() && press.text().contains("another user"), "{press:?}");
    let callback = browser::sign_in(&link, "alice").await;
    let values = [(FIELD, callback.url.as_str())];
    let form = rig.bob.forge_modal(&rig.general, None, &custom_id, &values).await.message();
    assert!(form.text().contains("another user"), "{form:?}");
    let code = rig.bob.command(&rig.general, "auth code", &[("code", &callback.url)]).await;
    assert!(code.text().contains("Not signed in: you have no sign-in in progress"), "{code:?}");
    let guessed = rig.bob.forge_press(&rig.general, start.view().id, "acme/user:1").await.message();
    assert!(guessed.text().contains("/auth code"), "{guessed:?}");
    assert_eq!(rig.server.count(), 0);
}

#[tokio::test]
async fn after_a_restart_the_old_button_names_the_next_step_and_the_sign_in_is_open() {
    let mut rig = Rig::start().await;
    let (start, link) = rig.start_sign_in(&rig.alice).await;
    rig.stop().await;
    rig.run().await;
    let answer = start.press("Enter code").await.message();
    assert!(answer.is_ephemeral() && answer.text().contains("use `/auth code`"), "{answer:?}");
    let callback = browser::sign_in(&link, "alice").await;
    let reply = rig.alice.command(&rig.general, "auth code", &[("code", &callback.url)]).await;
    assert!(reply.text().contains("Signed in as"), "{reply:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn acknowledgement_does_not_wait_for_the_provider() {
    let rig = Rig::start().await;
    let (start, link) = rig.start_sign_in(&rig.alice).await;
    let callback = browser::sign_in(&link, "alice").await;
    rig.server.hold();
    let modal = start.press("Enter code").await.modal();
    let answer = modal.submit(&[(FIELD, &callback.url)]).await.message();
    assert!(answer.is_thinking());
    rig.server.wait_for_held(1).await;
    rig.server.release();
    answer.says("Signed in as").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn only_server_managers_sign_a_server_in_and_out() {
    let rig = Rig::start().await;
    let shared = [("provider", "acme"), ("shared", "true")];
    for command in ["auth start", "auth logout"] {
        let reply = rig.bob.command(&rig.general, command, &shared).await;
        assert!(reply.text().contains("Manage Server") && reply.buttons().is_empty(), "{reply:?}");
    }
    let direct = rig.bob.command(&rig.bob.dm(), "auth start", &shared).await;
    assert!(direct.text().contains("in one of its channels"), "{direct:?}");
    rig.alice.make_manager(&rig.guild);
    let start = rig.alice.command(&rig.general, "auth start", &shared).await;
    let link = start.link("Sign in to acme").expect("a link");
    let callback = browser::sign_in(&link, "team").await;
    let done = rig.alice.command(&rig.general, "auth code", &[("code", &callback.url)]).await;
    assert!(done.text().contains("at `acme` for this server"), "{done:?}");
    let status = rig.bob.command(&rig.general, "auth status", &[]).await;
    assert!(
        status.text().contains("acme (this server)") && status.text().contains("team@example.com"),
        "{status:?}"
    );
    let elsewhere = rig.bob.command(&rig.bob.dm(), "auth status", &[]).await;
    assert!(elsewhere.text().contains("not signed in anywhere"), "{elsewhere:?}");
    let out = rig.alice.command(&rig.general, "auth logout", &shared).await;
    assert!(out.text().contains("Logged out of `acme` for this server"), "{out:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_cancelled_sign_in_loses_its_link_and_is_reported() {
    let rig = Rig::start().await;
    let (start, _) = rig.start_sign_in(&rig.alice).await;
    let (other, _) = rig.start_sign_in(&rig.bob).await;
    let reply = rig.alice.command(&rig.general, "auth cancel", &[]).await;
    assert_eq!(reply.text().trim(), "Cancelled the sign-in to `acme`.");
    let view = start.says("was cancelled").await;
    assert!(view.buttons.is_empty() && view.link("").is_none());
    let reply = rig.alice.command(&rig.general, "auth cancel", &[]).await;
    assert!(reply.text().contains("no sign-in in progress"));
    assert_eq!(other.buttons().len(), 2, "bob's is as it was");
}

#[tokio::test]
async fn status_and_logout_concern_the_user_of_the_command() {
    let rig = Rig::start().await;
    rig.sign_in(&rig.alice, "alice").await;
    let status = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(status.is_ephemeral());
    for part in ["alice@example.com", "Access token: works, expires <t:", "Refresh: ready"] {
        assert!(status.text().contains(part), "{status:?}");
    }
    let bobs = rig.bob.command(&rig.general, "auth status", &[]).await;
    assert!(bobs.text().contains("not signed in anywhere"), "{bobs:?}");
    let bobs = rig.bob.command(&rig.general, "auth logout", &[("provider", "acme")]).await;
    assert!(bobs.text().contains("nothing to log out"), "{bobs:?}");
    let out = rig.alice.command(&rig.general, "auth logout", &[("provider", "acme")]).await;
    assert!(out.text().contains("has ended the access"), "{out:?}");
    rig.sign_in(&rig.alice, "alice").await;
    let keep = [("provider", "acme"), ("keep_grant", "true")];
    let out = rig.alice.command(&rig.general, "auth logout", &keep).await;
    assert!(out.text().contains("the access stays valid"), "{out:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn provider_names_are_completed_and_an_unknown_one_gets_the_list() {
    let rig = Rig::start().await;
    let choices = rig.alice.autocomplete(&rig.general, "auth start", "provider", "ac").await;
    assert_eq!(choices.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["acme", "big-acme"]);
    let reply = rig.alice.command(&rig.general, "auth start", &[("provider", "nope")]).await;
    assert!(reply.text().contains("no provider `nope`. Known providers: `acme`, `big-acme`."), "{reply:?}");
    let reply = rig.alice.command(&rig.general, "auth start", &[("provider", "No/Such")]).await;
    assert!(reply.text().contains("is not a provider name"), "{reply:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn the_allow_lists_apply_to_commands_buttons_forms_and_completion() {
    let mut rig = Rig::start().await;
    let (start, link) = rig.start_sign_in(&rig.bob).await;
    let custom_id = start.buttons().into_iter().find_map(|button| button.custom_id).expect("a button");
    rig.stop().await;
    rig.settings.allow_everyone = false;
    rig.settings.allowed_users = vec![snowflake(rig.alice.id)];
    rig.run().await;
    let refusal = "not on my operator's lists";
    let command = rig.bob.command(&rig.general, "auth status", &[]).await;
    assert!(command.is_ephemeral() && command.text().contains(refusal), "{command:?}");
    let press = start.press("Enter code").await.message();
    assert!(press.text().contains(refusal), "{press:?}");
    let callback = browser::sign_in(&link, "bob").await;
    let form = rig.bob.forge_modal(&rig.general, None, &custom_id, &[(FIELD, &callback.url)]).await.message();
    assert!(form.text().contains(refusal), "{form:?}");
    assert!(rig.bob.autocomplete(&rig.general, "auth start", "provider", "").await.is_empty());
    assert_eq!(rig.server.count(), 0);
    let alice = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(alice.text().contains("not signed in anywhere"), "{alice:?}");
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn an_ended_session_is_reported_once_by_direct_message_with_a_button() {
    let rig = Rig::start().await;
    rig.sign_in(&rig.alice, "alice").await;
    end_session(&rig).await;
    let message = rig.alice.dm().wait_for_text("has ended").await;
    assert!(message.button("Sign in again").is_some(), "{message}");
    let start = rig.alice.press(&message, "Sign in again").await.message();
    start.latest().await;
    assert!(start.is_ephemeral());
    let callback = browser::sign_in(&start.link("Sign in to acme").expect("a link"), "alice").await;
    let modal = start.press("Enter code").await.modal();
    modal.submit(&[(FIELD, &callback.url)]).await.message().says("Signed in as").await;
    let notice = rig.alice.sees(&rig.alice.dm());
    assert_eq!(notice.iter().filter(|m| m.all_text().contains("has ended")).count(), 1);
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_user_with_closed_direct_messages_is_notified_by_the_newest_interaction() {
    let rig = Rig::start().await;
    rig.alice.closes_dms();
    rig.sign_in(&rig.alice, "alice").await;
    end_session(&rig).await;
    let notice = rig
        .alice
        .waits_for(&rig.general, |seen| seen.iter().find(|m| m.all_text().contains("has ended")).cloned())
        .await;
    assert!(notice.ephemeral, "{notice}");
    assert!(rig.bob.sees(&rig.general).iter().all(|m| !m.all_text().contains("has ended")));
}

#[tokio::test]
async fn a_session_that_ended_while_the_bot_was_stopped_is_reported_after_its_start() {
    let mut rig = Rig::start().await;
    rig.sign_in(&rig.alice, "alice").await;
    rig.stop().await;
    end_session(&rig).await;
    rig.run().await;
    rig.alice.dm().wait_for_text("has ended").await;
}

/// The provider ends alice's session, and the bot learns it from a worker's rejected token.
async fn end_session(rig: &Rig) {
    let tenant = threadkey::ids::Tenant::new(
        "acme".parse().expect("a name"),
        Principal::User(snowflake(rig.alice.id)),
    );
    let lease = rig.broker.token(&tenant, std::time::Duration::ZERO).await.expect("a token");
    rig.server.script([Reply::Json(400, serde_json::json!({"error": "invalid_grant"}))]);
    let ended = rig.broker.rejected(&tenant, &lease.access_token).await.expect_err("the session is over");
    assert!(ended.to_string().contains("has ended"), "{ended}");
}

#[tokio::test]
async fn a_user_who_installed_the_app_signs_in_on_servers_without_the_bot() {
    let rig = Rig::start().await;
    let elsewhere = rig.discord.guild_without_bot("elsewhere");
    let lounge = elsewhere.channel("lounge");
    elsewhere.join(&rig.alice);
    rig.alice.installs_app();
    let start = rig.alice.command(&lounge, "auth start", &[("provider", "acme")]).await;
    assert!(start.is_ephemeral());
    let callback = browser::sign_in(&start.link("Sign in to acme").expect("a link"), "alice").await;
    let modal = start.press("Enter code").await.modal();
    modal.submit(&[(FIELD, &callback.url)]).await.message().says("Signed in as").await;
    rig.alice.make_manager(&elsewhere);
    let shared = [("provider", "acme"), ("shared", "true")];
    let refused = rig.alice.command(&lounge, "auth start", &shared).await;
    assert!(refused.text().contains("I am not a member of this server"), "{refused:?}");
    rig.discord.assert_no_violations();
}
