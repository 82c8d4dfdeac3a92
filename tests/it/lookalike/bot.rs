//! A small bot for these tests: it passes every event to the test, which answers by itself.

use std::sync::Arc;

use serde_json::{Value, json};
use serenity::all::{
    ClientBuilder, Context, EventHandler, GatewayIntents, GuildChannel, Http, HttpBuilder, Interaction,
    Message, Ready, ResumedEvent,
};
use serenity::async_trait;
use tokio::sync::{Mutex, mpsc};

use crate::support::discord::{Discord, PATIENCE, Request};

/// An event that the bot received.
#[derive(Debug)]
pub(super) enum BotEvent {
    Ready,
    Interaction(Box<Interaction>),
    Message(Box<Message>),
    Thread,
    Resumed,
}

struct EventForwarder(mpsc::UnboundedSender<BotEvent>);

#[async_trait]
impl EventHandler for EventForwarder {
    async fn ready(&self, _: Context, _: Ready) {
        let _ = self.0.send(BotEvent::Ready);
    }

    async fn interaction_create(&self, _: Context, interaction: Interaction) {
        let _ = self.0.send(BotEvent::Interaction(Box::new(interaction)));
    }

    async fn message(&self, _: Context, message: Message) {
        let _ = self.0.send(BotEvent::Message(Box::new(message)));
    }

    async fn thread_create(&self, _: Context, _: GuildChannel) {
        let _ = self.0.send(BotEvent::Thread);
    }

    async fn resume(&self, _: Context, _: ResumedEvent) {
        let _ = self.0.send(BotEvent::Resumed);
    }
}

/// A bot on the look-alike.
pub(super) struct Bot {
    pub(super) http: Arc<Http>,
    events: Mutex<mpsc::UnboundedReceiver<BotEvent>>,
    base: String,
    raw: reqwest::Client,
    client: tokio::task::JoinHandle<()>,
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.client.abort();
    }
}

/// The command definitions that these tests register.
pub(super) fn commands() -> Value {
    json!([
        {"name": "auth", "description": "Signing in", "options": [
            {"type": 1, "name": "start", "description": "Start", "options": [
                {"type": 3, "name": "provider", "description": "Which", "required": true,
                 "autocomplete": true}
            ]},
            {"type": 1, "name": "status", "description": "Status"}
        ], "contexts": [0, 1, 2], "integration_types": [0, 1]},
        {"name": "ask", "description": "Ask", "contexts": [0, 1], "options": [
            {"type": 3, "name": "prompt", "description": "What", "required": true}
        ]}
    ])
}

impl Bot {
    /// Connects with all unprivileged intents and the message content; registers [`commands`].
    pub(super) async fn start(discord: &Discord) -> Self {
        let intents = GatewayIntents::non_privileged() | GatewayIntents::MESSAGE_CONTENT;
        Self::start_with(discord, intents).await
    }

    pub(super) async fn start_with(discord: &Discord, intents: GatewayIntents) -> Self {
        // serenity's rate limiter ignores the proxy, and would call the real Discord.
        let http = HttpBuilder::new("bot-token").proxy(discord.api_base()).ratelimiter_disabled(true).build();
        let (send, events) = mpsc::unbounded_channel();
        let mut client = ClientBuilder::new_with_http(http, intents)
            .event_handler(EventForwarder(send))
            .await
            .expect("a client without a connection yet");
        let http = Arc::clone(&client.http);
        let client = tokio::spawn(async move {
            client.start().await.expect("the client runs until it is aborted");
        });
        let bot = Self {
            http,
            events: Mutex::new(events),
            base: discord.api_base(),
            raw: reqwest::Client::new(),
            client,
        };
        let BotEvent::Ready = bot.next_event().await else { panic!("READY comes first") };
        discord.bot_ready().await;
        let done = bot.put(&format!("/applications/{APPLICATION}/commands"), commands()).await;
        assert_eq!(done.0, 200, "{done:?}");
        bot
    }

    /// Waits for the next event.
    pub(super) async fn next_event(&self) -> BotEvent {
        let mut events = self.events.lock().await;
        tokio::time::timeout(PATIENCE, events.recv())
            .await
            .expect("an event in time")
            .expect("the client runs")
    }

    /// Waits for the next interaction; drops other events.
    pub(super) async fn interaction(&self) -> Interaction {
        loop {
            if let BotEvent::Interaction(interaction) = self.next_event().await {
                return *interaction;
            }
        }
    }

    /// Waits for the next message; drops other events.
    pub(super) async fn message(&self) -> Message {
        loop {
            if let BotEvent::Message(message) = self.next_event().await {
                return *message;
            }
        }
    }

    /// Answers an interaction with this body.
    pub(super) async fn callback(&self, to: &Interaction, body: Value) -> (u16, Value) {
        let path = format!("/interactions/{}/{}/callback", to.id(), to.token());
        self.post(&path, body).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.request(reqwest::Method::POST, path, Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        self.request(reqwest::Method::PUT, path, Some(body)).await
    }

    pub(super) async fn patch(&self, path: &str, body: Value) -> (u16, Value) {
        self.request(reqwest::Method::PATCH, path, Some(body)).await
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.request(reqwest::Method::GET, path, None).await
    }

    async fn request(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("{}/api/v10{path}", self.base);
        let mut request = self.raw.request(method, url).header("authorization", "Bot bot-token");
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.expect("the look-alike answers");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a whole body");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

/// The application's id with the default options.
pub(super) const APPLICATION: u64 = 1_100_000_000_000_000_001;

/// Returns the requests of one method whose path has this end.
pub(super) fn requests(discord: &Discord, method: &str, end: &str) -> Vec<Request> {
    let mut all = discord.requests();
    all.retain(|request| request.method == method && request.path.ends_with(end));
    all
}

/// Takes the violations so far, and returns their codes.
pub(super) fn codes(discord: &Discord) -> Vec<u32> {
    discord.take_violations().into_iter().map(|violation| violation.code).collect()
}
