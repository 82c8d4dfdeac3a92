//! Commands, buttons, modals and threads, as serenity uses them.

use serenity::all::{
    ButtonStyle, ChannelId, ChannelType, CreateActionRow, CreateAutocompleteResponse, CreateButton,
    CreateEmbed, CreateInputText, CreateInteractionResponse, CreateInteractionResponseFollowup,
    CreateInteractionResponseMessage, CreateMessage, CreateModal, CreateThread, EditInteractionResponse,
    EditMessage, EditThread, InputTextStyle, UserId,
};

use super::bot::Bot;
use crate::support::discord::{Answer, Discord, Options};

fn ephemeral() -> CreateInteractionResponse {
    let message = CreateInteractionResponseMessage::new().ephemeral(true);
    CreateInteractionResponse::Defer(message)
}

#[tokio::test]
async fn a_deferred_command_shows_thinking_and_then_the_bots_edit() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let (alice, bob) = (discord.person("alice"), discord.person("bob"));
    guild.join(&alice);
    guild.join(&bob);
    let bot = Bot::start(&discord).await;

    let answer = tokio::join!(alice.try_command(&general, "auth start", &[("provider", "acme")]), async {
        let command = bot.interaction().await.command().expect("a command");
        assert_eq!(command.user.id, UserId::new(alice.id));
        assert_eq!(command.data.name, "auth");
        assert!(command.member.as_ref().is_some_and(|member| member.permissions.is_some()));
        command.create_response(&bot.http, ephemeral()).await.expect("acknowledged");
        command
    });
    let (reply, command) = (answer.0.message(), answer.1);
    assert!(reply.is_thinking() && reply.is_ephemeral());

    let buttons = vec![CreateActionRow::Buttons(vec![
        CreateButton::new_link("https://id.example/authorize?x=1").label("Sign in to Acme"),
        CreateButton::new("enter:1").label("Enter code").style(ButtonStyle::Primary),
    ])];
    let edit = EditInteractionResponse::new()
        .embed(CreateEmbed::new().title("Sign in").description("Open the link.").field("a", "b", true))
        .components(buttons);
    command.edit_response(&bot.http, edit).await.expect("edited");
    let view = reply.latest().await;
    assert!(view.all_text().contains("Open the link."), "{view}");
    assert_eq!(view.link("Sign in").as_deref(), Some("https://id.example/authorize?x=1"));
    assert!(view.button("Enter code").is_some_and(|button| button.custom_id.is_some()));
    assert!(bob.sees(&general).is_empty(), "an ephemeral answer is for alice alone");
    assert_eq!(alice.sees(&general).len(), 1);
    assert!(!discord.everything_public().contains("Open the link."));
    discord.assert_no_violations();
    assert_eq!(discord.drift(), [""; 0]);
}

#[tokio::test]
async fn a_button_opens_a_modal_and_its_submit_is_answered() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let bot = Bot::start(&discord).await;

    let (reply, command) = tokio::join!(alice.command(&general, "auth status", &[]), async {
        let command = bot.interaction().await.command().expect("a command");
        let row = CreateActionRow::Buttons(vec![CreateButton::new("enter:1").label("Enter code")]);
        let message =
            CreateInteractionResponseMessage::new().content("Pending.").components(vec![row]).ephemeral(true);
        let response = CreateInteractionResponse::Message(message);
        command.create_response(&bot.http, response).await.expect("answered");
        command
    });
    let (modal, ()) = tokio::join!(reply.press("Enter code"), async {
        let press = bot.interaction().await.message_component().expect("a press");
        assert_eq!(press.data.custom_id, "enter:1");
        assert_eq!(press.message.content, "Pending.");
        let input = CreateInputText::new(InputTextStyle::Short, "Code", "code").max_length(900);
        let modal =
            CreateModal::new("code:1", "Enter the code").components(vec![CreateActionRow::InputText(input)]);
        press.create_response(&bot.http, CreateInteractionResponse::Modal(modal)).await.expect("a modal");
    });
    let modal = modal.modal();
    assert_eq!(modal.title, "Enter the code");
    let (answer, ()) = tokio::join!(modal.submit(&[("Code", "abc#state")]), async {
        let submit = bot.interaction().await.modal_submit().expect("a submit");
        let serenity::all::ActionRowComponent::InputText(input) = &submit.data.components[0].components[0]
        else {
            panic!("a text input");
        };
        assert_eq!(input.value.as_deref(), Some("abc#state"));
        submit.create_response(&bot.http, ephemeral()).await.expect("deferred");
        let done = CreateInteractionResponseFollowup::new().content("Signed in.").ephemeral(true);
        submit.create_followup(&bot.http, done).await.expect("followed up");
        let gone = EditInteractionResponse::new().content("Done.").components(vec![]);
        command.edit_response(&bot.http, gone).await.expect("the first answer is edited too");
    });
    let signed_in = answer.message();
    signed_in.says("Signed in.").await;
    assert!(signed_in.is_ephemeral());
    reply.says("Done.").await;
    assert!(reply.buttons().is_empty());
    discord.assert_no_violations();
    assert_eq!(discord.drift(), [""; 0]);
}

#[tokio::test]
async fn a_mention_leads_to_a_private_thread_that_only_its_members_see() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let (alice, bob) = (discord.person("alice"), discord.person("bob"));
    guild.join(&alice);
    guild.join(&bob);
    let bot = Bot::start(&discord).await;

    alice.says(&general, "<@bot> hello");
    let message = bot.message().await;
    assert!(message.mentions.iter().any(|user| user.id.get() == discord.bot_id()));
    assert_eq!(message.guild_id.map(|id| id.get()), Some(guild.id));
    let thread = ChannelId::new(general.id)
        .create_thread(&bot.http, CreateThread::new("hello").kind(ChannelType::PrivateThread))
        .await
        .expect("a thread");
    thread.id.add_thread_member(&bot.http, UserId::new(alice.id)).await.expect("alice in it");
    let mut posted = thread
        .id
        .send_message(&bot.http, CreateMessage::new().content("thinking about it"))
        .await
        .expect("sent");
    posted.edit(&bot.http, EditMessage::new().content("Hello, Alice.")).await.expect("edited");
    let seen = alice.waits_for_threads(&general, 1).await;
    seen[0].wait_for_text("Hello, Alice.").await;
    assert!(seen[0].is_private());
    assert!(bob.threads(&general).is_empty());
    assert!(bob.sees(&seen[0]).is_empty());
    assert!(!bob.everything().contains("Hello, Alice."));
    assert_eq!(alice.sees(&seen[0]).len(), 1, "Discord's notices are left out");

    alice.says(&seen[0], "thanks");
    loop {
        if bot.message().await.content == "thanks" {
            break;
        }
    }
    thread.id.broadcast_typing(&bot.http).await.expect("typing");
    assert!(seen[0].is_typing());
    let edit = EditThread::new().name("greetings").archived(true);
    thread.id.edit_thread(&bot.http, edit).await.expect("renamed");
    assert_eq!((seen[0].name().as_str(), seen[0].is_archived()), ("greetings", true));
    alice.says(&seen[0], "one more thing");
    assert!(!seen[0].is_archived(), "posting brings an archived thread back");
    discord.assert_no_violations();
    assert_eq!(discord.drift(), [""; 0]);
}

#[tokio::test]
async fn autocomplete_and_direct_messages_work() {
    let discord = Discord::start(Options::default()).await;
    let alice = discord.person("alice");
    let bot = Bot::start(&discord).await;
    let dm = alice.dm();
    let (choices, ()) = tokio::join!(alice.autocomplete(&dm, "auth start", "provider", "ac"), async {
        let typed = bot.interaction().await.autocomplete().expect("an autocomplete");
        assert_eq!(typed.data.autocomplete().map(|option| option.value), Some("ac"));
        assert!(typed.member.is_none() && typed.user.id.get() == alice.id);
        let choices = CreateAutocompleteResponse::new().add_string_choice("Acme", "acme");
        typed
            .create_response(&bot.http, CreateInteractionResponse::Autocomplete(choices))
            .await
            .expect("choices");
    });
    assert_eq!(choices, [("Acme".to_owned(), "acme".to_owned())]);

    alice.says(&dm, "hi");
    assert_eq!(bot.message().await.content, "hi");
    let channel = UserId::new(alice.id).create_dm_channel(&bot.http).await.expect("the DM");
    assert_eq!(channel.id.get(), dm.id);
    channel.id.say(&bot.http, "hi yourself").await.expect("sent");
    dm.wait_for_text("hi yourself").await;
    discord.assert_no_violations();
    assert_eq!(discord.drift(), [""; 0]);
}

#[tokio::test]
async fn an_update_in_place_changes_the_message_with_the_button() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let bot = Bot::start(&discord).await;
    let row = || vec![CreateActionRow::Buttons(vec![CreateButton::new("no").label("No")])];
    let (reply, _) = tokio::join!(alice.command(&general, "auth status", &[]), async {
        let command = bot.interaction().await.command().expect("a command");
        let message = CreateInteractionResponseMessage::new().content("Sure?").components(row());
        let response = CreateInteractionResponse::Message(message);
        command.create_response(&bot.http, response).await.expect("answered");
    });
    let (answer, ()) = tokio::join!(reply.press("No"), async {
        let press = bot.interaction().await.message_component().expect("a press");
        let message = CreateInteractionResponseMessage::new().content("Kept.").components(vec![]);
        let response = CreateInteractionResponse::UpdateMessage(message);
        press.create_response(&bot.http, response).await.expect("updated");
    });
    assert!(matches!(answer, Answer::Updated(_)));
    assert_eq!(reply.changed().await.text, "Kept.");
    discord.assert_no_violations();
    assert_eq!(discord.drift(), [""; 0]);
}
