//! The gateway: identify, resume, intents.

use serenity::all::{ClientBuilder, GatewayIntents, HttpBuilder};

use super::bot::{Bot, BotEvent};
use crate::support::discord::{Discord, Forget, Options};

#[tokio::test]
async fn a_broken_connection_is_resumed_and_missed_events_are_replayed() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let bot = Bot::start(&discord).await;
    discord.drop_connection(Forget::Nothing);
    alice.says(&general, "said while the bot was away");
    assert_eq!(bot.message().await.content, "said while the bot was away");
    discord.bot_resumed(1).await;
    assert_eq!(discord.gateway_sessions(), (1, 1));
    discord.assert_no_violations();
}

#[tokio::test]
async fn an_unknown_session_is_refused_and_the_bot_identifies_anew() {
    let discord = Discord::start(Options::default()).await;
    let bot = Bot::start(&discord).await;
    discord.drop_connection(Forget::Sessions);
    let BotEvent::Ready = bot.next_event().await else { panic!("a new READY") };
    assert_eq!(discord.gateway_sessions(), (2, 0));
}

#[tokio::test]
async fn without_the_intent_the_text_comes_only_with_a_mention_or_in_a_dm() {
    let discord = Discord::start(Options { message_content_intent: false, ..Options::default() }).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let bot = Bot::start_with(&discord, GatewayIntents::non_privileged()).await;
    alice.says(&general, "between us");
    assert_eq!(bot.message().await.content, "");
    alice.says(&general, "<@bot> hello");
    assert!(bot.message().await.content.ends_with("hello"));
    alice.says(&alice.dm(), "psst");
    assert_eq!(bot.message().await.content, "psst");
}

#[tokio::test]
async fn a_wrong_token_is_refused_on_the_gateway_and_over_rest() {
    let discord = Discord::start(Options { token: "another".into(), ..Options::default() }).await;
    let http = HttpBuilder::new("bot-token").proxy(discord.api_base()).ratelimiter_disabled(true).build();
    assert!(http.get_current_user().await.is_err());
    let mut client = ClientBuilder::new_with_http(http, GatewayIntents::empty()).await.expect("a client");
    let refused = client.start().await;
    assert!(refused.is_err(), "serenity gives up at 4004");
    assert_eq!(discord.gateway_refusals(), 1);
}
