//! The connection to Discord: its start, its resumption, and the reports if it cannot be made.

use threadkey::{discord::DiscordError, secret::Secret};

use crate::{
    discord_rig::{Plan, Rig},
    support::discord::{Forget, Options},
};

#[tokio::test]
async fn a_refused_discord_token_is_reported_and_no_command_is_registered() {
    let mut rig = Rig::stopped(Plan::default()).await;
    for token in ["another-token", "with\nline break"] {
        rig.settings.token = Secret::new(token);
        let error = rig.run_to_its_end().await.expect_err("refused");
        assert!(matches!(error, DiscordError::TokenRefused), "{error:?}");
        assert!(error.to_string().contains("discord.token_env") && !error.to_string().contains(token));
    }
    assert!(rig.discord.requests().iter().all(|request| request.method == "GET"));
}

#[tokio::test]
async fn without_a_gateway_address_the_bot_fails_and_tries_no_other_gateway() {
    let rig = Rig::stopped(Plan::default()).await;
    for times in [1, 2] {
        rig.discord.fail("GET", "/gateway", 404, serde_json::json!({"message": "no", "code": 0}), times);
        let error = rig.run_to_its_end().await.expect_err("no gateway");
        assert!(matches!(error, DiscordError::NoGateway { .. }), "{error:?}");
        assert!(error.to_string().contains("does not fall back"), "{error}");
        rig.discord.calm();
    }
    assert_eq!(rig.discord.gateway_sessions(), (0, 0));
}

#[tokio::test]
async fn a_broken_connection_is_resumed_without_loss_of_events() {
    let rig = Rig::start().await;
    rig.discord.drop_connection(Forget::Nothing);
    rig.discord.bot_resumed(1).await;
    let reply = rig.alice.command(&rig.general, "auth status", &[]).await;
    assert!(reply.text().contains("not signed in anywhere"));
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn without_the_message_content_intent_a_mention_or_a_command_is_the_prompt() {
    let discord = Options { message_content_intent: false, ..Options::default() };
    let rig =
        Rig::with(Plan { discord, on_prompt: Some(r#"say "heard"; done_with end_turn"#), ..Plan::default() })
            .await;
    let thread = rig.ask(&rig.alice, "hello").await;
    thread.wait_for_text("heard").await;
    rig.alice.says(&thread, "and this?");
    thread.wait_for_text("mention me, or use `/ask`").await;
    rig.alice.says(&thread, "<@bot> and this?");
    let heard = |seen: &[crate::support::discord::MessageView]| {
        (seen.iter().filter(|m| m.all_text().contains("heard")).count() == 2).then_some(())
    };
    thread.wait_for(heard).await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_corrupt_map_of_conversations_prevents_the_start_and_stays_unchanged() {
    let rig = Rig::stopped(Plan::default()).await;
    let folder = rig.settings.conversations.parent().expect("a folder");
    threadkey::sys::files::create_private_folder(folder).expect("made");
    threadkey::sys::files::replace_private(&rig.settings.conversations, b"{\"version\": 9}")
        .expect("written");
    let error = rig.run_to_its_end().await.expect_err("refused").to_string();
    assert!(error.contains("conversations.json") && error.contains("format version 9"), "{error}");
    let text = threadkey::sys::files::read_text(&rig.settings.conversations).expect("there");
    assert_eq!(text, "{\"version\": 9}");
    assert!(rig.discord.requests().is_empty());
}
