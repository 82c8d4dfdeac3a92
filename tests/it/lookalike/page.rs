//! The chat page's endpoints, as its script uses them.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::bot::Bot;
use crate::support::discord::{Discord, Options, PATIENCE, page};

struct Browser {
    base: String,
    http: reqwest::Client,
}

impl Browser {
    async fn open(discord: &Discord) -> Self {
        Self::open_on(page::router(discord.clone())).await
    }

    async fn open_on(router: axum::Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { base, http: reqwest::Client::new() }
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(format!("{}{path}", self.base)).send().await.expect("an answer")
    }

    async fn act(&self, action: Value) -> Value {
        let request = self.http.post(format!("{}/chat/act", self.base));
        let request = request.header("content-type", "application/json").body(action.to_string());
        let text = request.send().await.expect("an answer").text().await.expect("a body");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"))
    }

    /// Returns the first view that a user's page receives.
    async fn view(&self, person: u64) -> Value {
        let mut stream = self.get(&format!("/chat/events?person={person}")).await;
        let mut text = String::new();
        let whole = async {
            while !text.ends_with("\n\n") {
                let chunk = stream.chunk().await.expect("a chunk").expect("the stream goes on");
                text.push_str(&String::from_utf8_lossy(&chunk));
            }
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("a view in time");
        let data = text.strip_prefix("data: ").expect("a data line").trim();
        serde_json::from_str(data).expect("a view")
    }
}

fn texts(view: &Value) -> Vec<&str> {
    let channels = view["channels"].as_array().into_iter().flatten();
    let messages = channels.flat_map(|c| c["messages"].as_array().into_iter().flatten());
    messages.filter_map(|message| message["text"].as_str()).collect()
}

#[tokio::test]
async fn a_user_acts_through_the_page_and_sees_only_their_own_messages() {
    let discord = Discord::start(Options::default()).await;
    let guild = discord.guild("team");
    let general = guild.channel("general");
    let (alice, bob) = (discord.person("alice"), discord.person("bob"));
    guild.join(&alice);
    guild.join(&bob);
    let bot = Bot::start(&discord).await;
    let browser = Browser::open(&discord).await;
    let (me, channel) = (alice.id.to_string(), general.id.to_string());

    let command = json!({"person": me, "act": "command", "channel": channel,
        "path": "auth status", "options": []});
    let (answer, ()) = tokio::join!(browser.act(command), async {
        let command = bot.interaction().await;
        let row = json!([{"type": 1, "components": [
            {"type": 2, "style": 1, "label": "Enter code", "custom_id": "enter"}]}]);
        let data = json!({"content": "For alice.", "flags": 64, "components": row});
        assert_eq!(bot.callback(&command, json!({"type": 4, "data": data})).await.0, 204);
    });
    assert_eq!(answer, json!({}));
    let view = browser.view(alice.id).await;
    assert_eq!(texts(&view), ["For alice."]);
    assert!(texts(&browser.view(bob.id).await).is_empty());
    let before = *discord.changes().borrow();
    browser.view(bob.id).await;
    let after = *discord.changes().borrow();
    assert_eq!(before, after, "a view that changes something would request the next one forever");

    let message = alice.sees(&general)[0].id.to_string();
    let press =
        |user: &str| json!({"person": user, "act": "press", "message": message, "custom_id": "enter"});
    let refused = browser.act(press(&bob.id.to_string())).await;
    assert_eq!(refused["error"], "they do not see this message");
    let (answer, ()) = tokio::join!(browser.act(press(&me)), async {
        let press = bot.interaction().await;
        let modal = json!({"title": "Code", "custom_id": "m", "components": [
            {"type": 1, "components": [{"type": 4, "custom_id": "c", "label": "C", "style": 1}]}]});
        assert_eq!(bot.callback(&press, json!({"type": 9, "data": modal})).await.0, 204);
    });
    let dialog = answer["dialog"]["key"].as_str().expect("a dialog").to_owned();
    let submit = json!({"person": me, "act": "submit", "dialog": dialog, "values": [["c", "42"]]});
    let (answer, ()) = tokio::join!(browser.act(submit), async {
        let submit = bot.interaction().await;
        assert!(submit.modal_submit().is_some());
        discord.advance(std::time::Duration::from_secs(4));
    });
    assert_eq!(answer["error"], "The application did not respond");
}

#[tokio::test]
async fn the_page_answers_only_to_loopback_names_and_loads_nothing_from_elsewhere() {
    let discord = Discord::start(Options::default()).await;
    let browser = Browser::open(&discord).await;
    let page = browser.get("/").await;
    let policy = page.headers()["content-security-policy"].to_str().expect("text").to_owned();
    assert!(policy.starts_with("default-src 'none'"));
    let html = page.text().await.expect("a body");
    for part in ["/chat/page.css", "/chat/page.js"] {
        assert!(html.contains(part));
        assert_eq!(browser.get(part).await.status(), 200);
    }
    let elsewhere = browser.http.get(&browser.base).header("host", "evil.example:80");
    assert_eq!(elsewhere.send().await.expect("an answer").status(), 403);
}

#[tokio::test]
async fn a_panel_appears_on_the_page_and_answers_to_loopback_names_only() {
    let discord = Discord::start(Options::default()).await;
    let routes = axum::Router::new().route("/panel", axum::routing::get(async || "of the panel"));
    let panel = page::Panel { html: "<aside>beside the chat</aside>", routes };
    let browser = Browser::open_on(page::router_with(discord, panel)).await;
    let html = browser.get("/").await.text().await.expect("a body");
    assert!(html.contains("<aside>beside the chat</aside>"));
    let own = browser.get("/panel").await;
    assert!(own.headers().contains_key("content-security-policy"));
    assert_eq!(own.text().await.expect("a body"), "of the panel");
    let elsewhere = browser.http.get(format!("{}/panel", browser.base)).header("host", "evil.example");
    assert_eq!(elsewhere.send().await.expect("an answer").status(), 403);
}
