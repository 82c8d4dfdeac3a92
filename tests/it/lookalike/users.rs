//! Permitted and forbidden actions of users on the look-alike.

use serde_json::json;

use super::bot::{APPLICATION, Bot, codes};
use crate::support::discord::permission;
use crate::support::discord::{Discord, Options};

#[tokio::test]
async fn the_client_sends_only_registered_commands() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let _bot = Bot::start(&discord).await;
    let refused = |path: &str, options: &[(&str, &str)]| {
        alice.send_command(&general, path, options).expect_err("the client refuses")
    };
    assert!(refused("nope", &[]).contains("no command"));
    assert!(refused("auth", &[]).contains("subcommand"));
    assert!(refused("auth stop", &[]).contains("no subcommand"));
    assert!(refused("auth start", &[]).contains("required"));
    assert!(refused("auth start", &[("provider", "a"), ("x", "y")]).contains("no option"));
    assert!(alice.send_command(&alice.dm(), "ask", &[("prompt", "hi")]).is_ok());
}

#[tokio::test]
async fn a_user_installed_command_works_where_the_bot_is_no_member() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild_without_bot("elsewhere");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let bot = Bot::start(&discord).await;
    assert!(alice.send_command(&general, "auth status", &[]).is_err());
    alice.installs_app();
    assert!(alice.send_command(&general, "ask", &[("prompt", "x")]).is_err());
    let (reply, ()) = tokio::join!(alice.command(&general, "auth status", &[]), async {
        let command = bot.interaction().await;
        let answer = json!({"type": 4, "data": {"content": "Nothing.", "flags": 64}});
        assert_eq!(bot.callback(&command, answer).await.0, 204);
    });
    assert_eq!(reply.text(), "Nothing.");
    discord.assert_no_violations();
    let (status, _) = bot.get(&format!("/channels/{}", general.id)).await;
    assert_eq!((status, codes(&discord)), (403, vec![50001]));
}

#[tokio::test]
async fn a_forged_press_reaches_the_bot_with_the_forgers_name() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let (alice, mallory) = (discord.person("alice"), discord.person("mallory"));
    guild.join(&alice);
    guild.join(&mallory);
    let bot = Bot::start(&discord).await;
    let (reply, ()) = tokio::join!(alice.command(&general, "auth status", &[]), async {
        let command = bot.interaction().await;
        let row = json!([{"type": 1, "components": [
            {"type": 2, "style": 1, "label": "Go", "custom_id": "go:7"}]}]);
        let data = json!({"content": "Secret.", "flags": 64, "components": row});
        assert_eq!(bot.callback(&command, json!({"type": 4, "data": data})).await.0, 204);
    });
    let message = reply.view();
    assert!(mallory.send_press(message.id, |_| true).is_err(), "she does not see it");
    let (answer, ()) = tokio::join!(mallory.forge_press(&general, message.id, "go:7"), async {
        let press = bot.interaction().await;
        let user = press.clone().message_component().expect("a press").user.id.get();
        assert_eq!(user, mallory.id);
        let data = json!({"content": "Not yours.", "flags": 64});
        assert_eq!(bot.callback(&press, json!({"type": 4, "data": data})).await.0, 204);
    });
    assert_eq!(answer.message().text(), "Not yours.");
    assert_eq!(mallory.sees(&general).len(), 1);
    discord.assert_no_violations();
}

#[tokio::test]
async fn missing_permissions_and_closed_dms_are_refused_by_name() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let bot = Bot::start(&discord).await;
    general.deny_bot(permission::CREATE_PRIVATE_THREADS);
    let threads = format!("/channels/{}/threads", general.id);
    let (status, error) = bot.post(&threads, json!({"name": "x", "type": 12})).await;
    assert_eq!((status, &error["code"]), (403, &json!(50013)));
    assert_eq!(bot.post(&threads, json!({"name": "x", "type": 11})).await.0, 201);
    general.deny_bot(permission::SEND_MESSAGES);
    let messages = format!("/channels/{}/messages", general.id);
    assert_eq!(bot.post(&messages, json!({"content": "x"})).await.1["code"], 50013);
    alice.closes_dms();
    let opened = bot.post("/users/@me/channels", json!({"recipient_id": alice.id.to_string()}));
    let dm = opened.await.1["id"].as_str().expect("an id").to_owned();
    let posted = bot.post(&format!("/channels/{dm}/messages"), json!({"content": "x"})).await;
    assert_eq!((posted.0, &posted.1["code"]), (403, &json!(50007)));
    general.deny_bot(permission::VIEW_CHANNEL);
    assert_eq!(bot.post(&messages, json!({"content": "x"})).await.1["code"], 50001);
    assert_eq!(codes(&discord), [50013, 50013, 50007, 50001]);
}

#[tokio::test]
async fn a_scripted_failure_is_answered_in_place_of_the_real_answer() {
    let discord = Discord::start(Options::default()).await;
    let bot = Bot::start(&discord).await;
    discord.fail("GET", "/gateway", 500, json!({"message": "no", "code": 0}), 1);
    assert_eq!(bot.get("/gateway").await.0, 500);
    assert_eq!(bot.get("/gateway").await.0, 200);
    let (_, commands) = bot.get(&format!("/applications/{APPLICATION}/commands")).await;
    assert_eq!(commands.as_array().map(Vec::len), Some(2));
    discord.assert_no_violations();
}

#[tokio::test]
async fn the_look_alikes_answers_match_discords_description() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let bot = Bot::start(&discord).await;
    let (general, guild, alice_id) = (general.id, guild.id, alice.id);
    let row = json!([{"type": 1, "components": [
        {"type": 2, "style": 5, "label": "Go", "url": "https://x.example"},
        {"type": 2, "style": 1, "label": "Press", "custom_id": "c"}]}]);
    let embed = json!({"title": "T", "fields": [{"name": "n", "value": "v", "inline": true}]});
    let body = json!({"content": "x", "embeds": [embed], "components": row});
    let posted = bot.post(&format!("/channels/{general}/messages"), body).await.1;
    let message = posted["id"].as_str().expect("an id");
    let thread = json!({"name": "t", "type": 12, "auto_archive_duration": 60});
    let thread = bot.post(&format!("/channels/{general}/threads"), thread).await.1;
    let thread = thread["id"].as_str().expect("an id");
    let from = json!({"name": "from it"});
    bot.post(&format!("/channels/{general}/messages/{message}/threads"), from).await;
    bot.post("/users/@me/channels", json!({"recipient_id": alice_id.to_string()})).await;
    bot.patch(&format!("/channels/{thread}"), json!({"name": "u", "archived": true})).await;
    let guild_commands = format!("/applications/{APPLICATION}/guilds/{guild}/commands");
    bot.put(&guild_commands, json!([{"name": "here", "description": "d"}])).await;
    for path in [
        "/gateway".into(),
        "/gateway/bot".into(),
        "/users/@me".into(),
        format!("/users/{alice_id}"),
        "/applications/@me".into(),
        "/oauth2/applications/@me".into(),
        format!("/guilds/{guild}"),
        format!("/guilds/{guild}/channels"),
        format!("/guilds/{guild}/roles"),
        format!("/guilds/{guild}/members/{alice_id}"),
        format!("/guilds/{guild}/threads/active"),
        format!("/applications/{APPLICATION}/commands"),
        guild_commands,
        format!("/channels/{general}"),
        format!("/channels/{thread}"),
        format!("/channels/{thread}/thread-members"),
        format!("/channels/{general}/messages"),
        format!("/channels/{general}/messages/{message}"),
    ] {
        assert_eq!(bot.get(&path).await.0, 200, "{path}");
    }
    discord.assert_no_violations();
    assert_eq!(discord.drift(), [""; 0]);
}
