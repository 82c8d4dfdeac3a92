//! Each of Discord's rules, broken once.

use std::time::Duration;

use serde_json::{Value, json};
use serenity::all::Interaction;

use super::bot::{APPLICATION, Bot, codes, requests};
use crate::support::discord::{Channel, Discord, Options, Person, Reply};

struct Scene {
    discord: Discord,
    general: Channel,
    alice: Person,
    bot: Bot,
}

async fn scene() -> Scene {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let alice = discord.person("alice");
    guild.join(&alice);
    let bot = Bot::start(&discord).await;
    Scene { discord, general, alice, bot }
}

impl Scene {
    /// Alice types a command; the bot receives it.
    async fn command(&self) -> Interaction {
        self.alice.send_command(&self.general, "auth status", &[]).expect("registered");
        self.bot.interaction().await
    }

    async fn answered(&self, data: Value) -> (Reply, Interaction) {
        let (reply, command) = tokio::join!(self.alice.command(&self.general, "auth status", &[]), async {
            let command = self.bot.interaction().await;
            let done = self.bot.callback(&command, json!({"type": 4, "data": data})).await;
            assert_eq!(done.0, 204, "{done:?}");
            command
        });
        (reply, command)
    }

    fn webhook(&self, of: &Interaction, rest: &str) -> String {
        format!("/webhooks/{APPLICATION}/{}{rest}", of.token())
    }
}

#[tokio::test]
async fn an_unknown_route_is_a_violation() {
    let scene = scene().await;
    assert_eq!(scene.bot.get("/channels/1/invites").await.0, 404);
    let found = scene.discord.take_violations();
    assert!(found[0].what.contains("does not know"), "{found:?}");
}

#[tokio::test]
async fn a_message_with_an_enforced_nonce_is_posted_once_within_minutes() {
    let scene = scene().await;
    let path = format!("/channels/{}/messages", scene.general.id);
    let post = async |content: &str, nonce: Value, enforce: bool| {
        let body = json!({"content": content, "nonce": nonce, "enforce_nonce": enforce});
        scene.bot.post(&path, body).await
    };
    let first = post("one", json!("n-1"), true).await;
    let again = post("two", json!("n-1"), true).await;
    assert_eq!((first.0, again.0, &first.1["id"]), (200, 200, &again.1["id"]));
    assert_eq!(again.1["content"], "one", "the message that is there, not the new text");
    let other = post("two", json!("n-2"), true).await;
    let free = post("two", json!("n-2"), false).await;
    assert!(other.1["id"] != first.1["id"] && free.1["id"] != other.1["id"]);
    scene.discord.advance(Duration::from_secs(10 * 60));
    assert_ne!(post("two", json!("n-1"), true).await.1["id"], first.1["id"], "it is forgotten");
    scene.discord.assert_no_violations();
    for nonce in [json!("n".repeat(26)), Value::Null] {
        assert_eq!(post("one", nonce.clone(), true).await.0, 400, "{nonce}");
    }
    assert_eq!(scene.discord.take_violations().len(), 2);
}

#[tokio::test]
async fn an_acknowledgement_after_three_seconds_is_too_late() {
    let scene = scene().await;
    let (answer, ()) = tokio::join!(scene.alice.try_command(&scene.general, "auth status", &[]), async {
        let command = scene.bot.interaction().await;
        scene.discord.advance(Duration::from_secs(4));
        let (status, error) = scene.bot.callback(&command, json!({"type": 5})).await;
        assert_eq!((status, &error["code"]), (404, &json!(10062)));
    });
    assert_eq!(answer.failed(), "The application did not respond");
    let mut found = codes(&scene.discord);
    found.sort_unstable();
    assert_eq!(found, [0, 10062]);
}

#[tokio::test]
async fn a_second_answer_and_a_modal_after_a_deferral_are_refused() {
    let scene = scene().await;
    let command = scene.command().await;
    assert_eq!(scene.bot.callback(&command, json!({"type": 5})).await.0, 204);
    let modal = json!({"type": 9, "data": {"title": "T", "custom_id": "m", "components": [
        {"type": 1, "components": [{"type": 4, "custom_id": "c", "label": "C", "style": 1}]}]}});
    assert_eq!(scene.bot.callback(&command, modal.clone()).await.1["code"], 40060);
    assert_eq!(codes(&scene.discord), [40060]);

    let submitted = tokio::join!(scene.alice.forge_modal(&scene.general, None, "m", &[("c", "v")]), async {
        let submit = scene.bot.interaction().await;
        assert_eq!(scene.bot.callback(&submit, modal).await.1["code"], 50035);
        assert_eq!(scene.bot.callback(&submit, json!({"type": 5})).await.0, 204);
    });
    assert!(submitted.0.message().is_thinking());
    assert_eq!(codes(&scene.discord), [50035]);
}

#[tokio::test]
async fn an_interaction_token_ends_after_fifteen_minutes() {
    let scene = scene().await;
    let (reply, command) = scene.answered(json!({"content": "one", "flags": 64})).await;
    let original = scene.webhook(&command, "/messages/@original");
    assert_eq!(scene.bot.patch(&original, json!({"content": "two"})).await.0, 200);
    assert_eq!(reply.text(), "two");
    scene.discord.advance(Duration::from_secs(15 * 60 + 1));
    let (status, error) = scene.bot.patch(&original, json!({"content": "three"})).await;
    assert_eq!((status, &error["code"]), (401, &json!(50027)));
    let followup = scene.bot.post(&scene.webhook(&command, ""), json!({"content": "x"})).await;
    assert_eq!(followup.0, 401);
    assert_eq!(reply.text(), "two");
    assert_eq!(codes(&scene.discord), [50027, 50027]);
}

#[tokio::test]
async fn a_public_answer_cannot_become_ephemeral() {
    let scene = scene().await;
    let command = scene.command().await;
    assert_eq!(scene.bot.callback(&command, json!({"type": 5})).await.0, 204);
    let secret = json!({"content": "secret", "flags": 64});
    assert_eq!(scene.bot.post(&scene.webhook(&command, ""), secret.clone()).await.0, 400);
    let messages = format!("/channels/{}/messages", scene.general.id);
    assert_eq!(scene.bot.post(&messages, secret).await.0, 400);
    assert_eq!(codes(&scene.discord), [50035, 50035]);
    assert!(!scene.discord.everything_public().contains("secret"));
}

/// Sends each body as a message; all must be refused, and none is posted.
async fn all_refused(bodies: Vec<Value>) {
    let scene = scene().await;
    let path = format!("/channels/{}/messages", scene.general.id);
    for body in bodies {
        let (status, error) = scene.bot.post(&path, body.clone()).await;
        assert_eq!(status, 400, "{body} gave {error}");
        assert_eq!(codes(&scene.discord).len(), 1, "{body}");
    }
    assert!(scene.general.messages().is_empty());
    assert!(!requests(&scene.discord, "POST", "/messages").is_empty());
}

fn row(parts: Value) -> Value {
    json!({"content": "x", "components": [{"type": 1, "components": parts}]})
}

fn button(change: Value) -> Value {
    let mut button = json!({"type": 2, "style": 1, "label": "L", "custom_id": "c"});
    for (key, value) in change.as_object().expect("an object") {
        button[key] = value.clone();
    }
    row(json!([button]))
}

#[tokio::test]
async fn texts_and_embeds_over_their_limits_are_refused() {
    let field = json!({"name": "n", "value": "v"});
    let embed = |embed: Value| json!({"embeds": [embed]});
    let long = |letters: usize| "a".repeat(letters);
    all_refused(vec![
        json!({"content": long(2001)}),
        // 1,001 letters of two UTF-16 units each.
        json!({"content": "🦀".repeat(1001)}),
        json!({"content": ""}),
        json!({"content": null}),
        embed(json!({"title": long(257)})),
        embed(json!({"description": long(4097)})),
        embed(json!({"title": "t", "fields": vec![field; 26]})),
        embed(json!({"fields": [{"name": "", "value": "v"}]})),
        json!({"embeds": [{"description": long(4000)}, {"description": long(2001)}]}),
        embed(json!({})),
    ])
    .await;
}

#[tokio::test]
async fn buttons_against_the_rules_are_refused() {
    let one = json!({"type": 2, "style": 1, "label": "L", "custom_id": "same"});
    let link = |url: String| json!({"style": 5, "custom_id": null, "url": url});
    let full = json!({"type": 1, "components": [one]});
    all_refused(vec![
        button(link(format!("https://x.example/{}", "a".repeat(500)))),
        button(link("javascript:alert(1)".into())),
        button(json!({"style": 5, "url": "https://x.example"})),
        button(json!({"custom_id": "a".repeat(101)})),
        button(json!({"custom_id": ""})),
        button(json!({"custom_id": null})),
        button(json!({"label": "a".repeat(81)})),
        button(json!({"label": ""})),
        row(json!([one, one])),
        row(json!([])),
        row((0..6)
            .map(|n| json!({"type": 2, "style": 1, "label": "L", "custom_id": n.to_string()}))
            .collect()),
        json!({"content": "x", "components": vec![full; 6]}),
    ])
    .await;
}

#[tokio::test]
async fn modals_and_choices_over_their_limits_are_refused() {
    let scene = scene().await;
    let modal = |title: &str, label: &str| {
        json!({"type": 9, "data": {"title": title, "custom_id": "m", "components": [
            {"type": 1, "components": [{"type": 4, "custom_id": "c", "label": label, "style": 1}]}]}})
    };
    let command = scene.command().await;
    let long = "a".repeat(46);
    assert_eq!(scene.bot.callback(&command, modal(&long, "L")).await.0, 400);
    assert_eq!(scene.bot.callback(&command, modal("T", &long)).await.0, 400);
    assert_eq!(scene.bot.callback(&command, modal("T", "L")).await.0, 204);
    let (choices, ()) =
        tokio::join!(scene.alice.try_autocomplete(&scene.general, "auth start", "provider", ""), async {
            let typed = scene.bot.interaction().await;
            let many: Vec<Value> = (0..26).map(|n| json!({"name": n.to_string(), "value": "v"})).collect();
            let body = json!({"type": 8, "data": {"choices": many}});
            assert_eq!(scene.bot.callback(&typed, body).await.0, 400);
            assert_eq!(scene.bot.callback(&typed, json!({"type": 5})).await.0, 400);
            scene.discord.advance(Duration::from_secs(4));
        });
    assert_eq!(choices, Err("Loading options failed".to_owned()));
    assert_eq!(codes(&scene.discord), [50035, 50035, 50035, 50035, 0]);
}

#[tokio::test]
async fn command_definitions_against_the_rules_are_refused() {
    let scene = scene().await;
    let command = |change: Value| {
        let mut command = json!({"name": "ok", "description": "d"});
        for (key, value) in change.as_object().expect("an object") {
            command[key] = value.clone();
        }
        json!([command])
    };
    let option = |name: &str, required: bool| json!({"type": 3, "name": name, "description": "d", "required": required});
    let many: Vec<Value> = (0..26).map(|n| option(&format!("o{n}"), false)).collect();
    for bad in [
        command(json!({"name": "Upper"})),
        command(json!({"name": "two words"})),
        command(json!({"name": ""})),
        command(json!({"description": ""})),
        command(json!({"description": "a".repeat(101)})),
        command(json!({"options": many})),
        command(json!({"options": [option("a", false), option("b", true)]})),
        command(json!({"options": [option("a", false), option("a", false)]})),
        json!([{"name": "ok", "description": "d"}, {"name": "ok", "description": "d"}]),
    ] {
        let path = format!("/applications/{APPLICATION}/commands");
        assert_eq!(scene.bot.put(&path, bad.clone()).await.0, 400, "{bad}");
        assert_eq!(codes(&scene.discord), [50035], "{bad}");
    }
}

#[tokio::test]
async fn a_private_thread_without_the_bot_takes_no_message_from_it() {
    let scene = scene().await;
    let threads = format!("/channels/{}/threads", scene.general.id);
    let made = scene.bot.post(&threads, json!({"name": "x", "type": 12})).await.1;
    let thread = made["id"].as_str().expect("an id").to_owned();
    let left = scene.bot.http.remove_thread_channel_member(
        serenity::all::ChannelId::new(thread.parse().expect("a snowflake")),
        serenity::all::UserId::new(scene.discord.bot_id()),
    );
    left.await.expect("its own thread");
    let messages = format!("/channels/{thread}/messages");
    assert_eq!(scene.bot.post(&messages, json!({"content": "x"})).await.1["code"], 50001);
    assert_eq!(codes(&scene.discord), [50001]);
}
