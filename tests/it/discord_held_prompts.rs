//! Prompts of users who are not signed in: the sign-in comes first, and the prompt runs after it.

use threadkey::{ids::Principal, oauth::Pasted};

use crate::{
    discord_rig::{Plan, Rig, snowflake},
    support::{browser, discord::Channel},
};

/// Answers with the question.
const ECHO: &str = r#"text=$(printf '%s' "$line" | sed -E 's/.*"text":"([^"]*)".*/\1/'); say "You said: $text"; done_with end_turn"#;

/// Starts a bot whose agents use these providers.
async fn rig(providers: &[&'static str]) -> Rig {
    Rig::with(Plan { on_prompt: Some(ECHO), agent_providers: providers.to_vec(), ..Plan::default() }).await
}

/// Counts the messages of a channel that contain a text.
fn count(channel: &Channel, text: &str) -> usize {
    channel.messages().iter().filter(|message| message.all_text().contains(text)).count()
}

#[tokio::test]
async fn ask_without_a_login_shows_the_sign_in_card_and_the_prompt_runs_after_it() {
    let rig = rig(&["acme"]).await;
    let card = rig.alice.command(&rig.general, "ask", &[("prompt", "first")]).await;
    assert!(card.is_ephemeral() && card.text().contains("Your prompt waits"), "{}", card.text());
    assert!(rig.alice.threads(&rig.general).is_empty(), "nothing runs before the sign-in");
    let link = card.link("Sign in to acme").expect("a link");
    let callback = browser::sign_in(&link, "alice").await;
    let modal = card.press("Enter code").await.modal();
    let field = modal.inputs[0].custom_id.clone();
    let answer = modal.submit(&[(&field, &callback.url)]).await.message();
    answer.says("Signed in as `alice").await;
    assert!(!answer.text().contains("Ask an agent"), "{}", answer.text());
    card.says("Your prompt runs now.").await;
    let thread = rig.alice.waits_for_threads(&rig.general, 1).await.pop().expect("a thread");
    thread.wait_for_text("You said: first").await;
    // The next prompt needs no card, and the first one runs once.
    rig.alice.says(&thread, "second");
    thread.wait_for_text("You said: second").await;
    assert_eq!(count(&thread, "You said: first"), 1);
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_mention_or_a_message_without_a_login_gets_a_button_and_runs_after_it() {
    let rig = rig(&["acme"]).await;
    for (place, text) in [(rig.general.clone(), "<@bot> by mention"), (rig.bob.dm(), "by message")] {
        let who = if text.starts_with('<') { &rig.alice } else { &rig.bob };
        who.says(&place, text);
        let request = place.wait_for_text("Sign in to `acme` first").await;
        assert!(!request.all_text().contains("http"), "the link is ephemeral: {request:?}");
        let other = if who.name == rig.alice.name { &rig.bob } else { &rig.alice };
        if other.name == rig.bob.name {
            let custom_id = request.button("Sign in").and_then(|b| b.custom_id.clone()).expect("a button");
            let refused = other.forge_press(&place, request.id, &custom_id).await.message();
            assert!(refused.text().contains("another user"), "{refused:?}");
        }
        let card = who.press(&request, "Sign in").await.message();
        let link = card.latest().await.link("Sign in to acme").expect("a link");
        let callback = browser::sign_in(&link, &who.name).await;
        who.command(&place, "auth code", &[("code", &callback.url)]).await;
    }
    let thread = rig.alice.waits_for_threads(&rig.general, 1).await.pop().expect("a thread");
    thread.wait_for_text("You said: by mention").await;
    rig.bob.dm().wait_for_text("You said: by message").await;
    rig.discord.assert_no_violations();
}

#[tokio::test]
async fn a_cancelled_sign_in_drops_its_prompt_and_reports_it() {
    let rig = rig(&["acme"]).await;
    rig.alice.command(&rig.general, "ask", &[("prompt", "dropped")]).await;
    let again = rig.alice.command(&rig.general, "ask", &[("prompt", "dropped too")]).await;
    assert!(again.text().contains("It replaces your earlier one."), "{}", again.text());
    let cancelled = rig.alice.command(&rig.general, "auth cancel", &[]).await;
    assert!(cancelled.text().contains("Your prompt was not sent."), "{}", cancelled.text());
    rig.sign_in(&rig.alice, "alice").await;
    let thread = rig.ask(&rig.alice, "kept").await;
    thread.wait_for_text("You said: kept").await;
    assert!(!rig.alice.everything().contains("You said: dropped"));
}

#[tokio::test]
async fn a_sign_in_that_another_process_finishes_runs_the_prompt() {
    let rig = rig(&["acme"]).await;
    let card = rig.alice.command(&rig.general, "ask", &[("prompt", "elsewhere")]).await;
    let link = card.link("Sign in to acme").expect("a link");
    let callback = browser::sign_in(&link, "alice").await;
    let pasted = Pasted::parse(&callback.url).expect("an address");
    let principal = Principal::User(snowflake(rig.alice.id));
    rig.another_broker().finish(principal, None, pasted).await.expect("signs in");
    let thread = rig.alice.waits_for_threads(&rig.general, 1).await.pop().expect("a thread");
    thread.wait_for_text("You said: elsewhere").await;
    card.says("Your prompt runs now.").await;
}

#[tokio::test]
async fn one_login_of_several_is_enough_and_without_any_the_first_provider_is_asked_for() {
    let rig = rig(&["big-acme", "acme"]).await;
    let card = rig.bob.command(&rig.general, "ask", &[("prompt", "hello")]).await;
    assert!(card.link("Sign in to big-acme").is_some(), "{}", card.text());
    rig.sign_in(&rig.alice, "alice").await;
    let thread = rig.ask(&rig.alice, "enough").await;
    thread.wait_for_text("You said: enough").await;
}

#[tokio::test]
async fn help_names_the_commands_to_its_user_alone() {
    let rig = rig(&["acme"]).await;
    let help = rig.alice.command(&rig.general, "help", &[]).await;
    assert!(help.is_ephemeral() && help.text().contains("`/auth start`"), "{}", help.text());
    assert!(help.text().contains("`/ask`") && help.text().contains("Privacy"), "{}", help.text());
    let in_messages = rig.bob.command(&rig.bob.dm(), "help", &[]).await;
    assert!(in_messages.text().contains("`/auth logout`"));
    rig.discord.assert_no_violations();
}
