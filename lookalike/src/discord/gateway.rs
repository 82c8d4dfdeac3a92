//! The gateway: HELLO, IDENTIFY, READY, GUILD_CREATE, heartbeats, RESUME with replay, and
//! dispatches as the session's intents allow. Plain JSON, no compression.

use std::collections::{BTreeMap, VecDeque};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::Discord;
use super::world::{DM, Id, Message, World};

/// Gateway intents.
pub(super) mod intent {
    pub(crate) const GUILDS: u64 = 1;
    pub(crate) const GUILD_MEMBERS: u64 = 1 << 1;
    pub(crate) const GUILD_MODERATION: u64 = 1 << 2;
    pub(crate) const GUILD_PRESENCES: u64 = 1 << 8;
    pub(crate) const GUILD_MESSAGES: u64 = 1 << 9;
    pub(crate) const GUILD_MESSAGE_TYPING: u64 = 1 << 11;
    pub(crate) const DIRECT_MESSAGES: u64 = 1 << 12;
    pub(crate) const DIRECT_MESSAGE_TYPING: u64 = 1 << 14;
    pub(crate) const MESSAGE_CONTENT: u64 = 1 << 15;
}

/// The number of dispatches kept for a RESUME. A session that needs an older one is lost.
const REPLAY: usize = 1_000;
/// Frames waiting for a slow bot; past that its connection is dropped, as Discord does.
const QUEUE: usize = 2_000;
/// The number of sessions kept, live and broken ones together.
const SESSIONS: usize = 16;

/// An order for a connection's task.
#[derive(Debug)]
enum Out {
    Text(String),
    Close(u16, &'static str),
    /// The connection breaks off without a word.
    Drop,
}

/// One identified session: it outlives its connections until it is resumed or forgotten.
#[derive(Debug)]
struct Session {
    seq: u64,
    intents: u64,
    sent: VecDeque<(u64, String)>,
    out: Option<mpsc::Sender<Out>>,
}

/// The gateway's part of the world.
#[derive(Debug, Default)]
pub(crate) struct Gateway {
    sessions: BTreeMap<String, Session>,
    /// IDENTIFYs that were accepted.
    pub identified: u64,
    /// RESUMEs that were accepted.
    pub resumed: u64,
    /// IDENTIFYs with a wrong token.
    pub refused: u64,
    /// Whether each new connection is closed at once.
    pub refuses: bool,
    /// Connections that were closed at once.
    pub turned_away: u64,
}

impl Gateway {
    /// Whether a bot is connected and identified now.
    pub(crate) fn is_connected(&self) -> bool {
        self.sessions.values().any(|s| s.out.as_ref().is_some_and(|out| !out.is_closed()))
    }

    /// Breaks every connection. The sessions stay for a RESUME, unless `forget` removes them.
    pub(crate) fn disconnect(&mut self, forget: Forget) {
        for session in self.sessions.values_mut() {
            if let Some(out) = session.out.take() {
                // A full queue means the task is about to break off by itself.
                let _ = out.try_send(Out::Drop);
            }
        }
        if matches!(forget, Forget::Sessions) {
            self.sessions.clear();
        }
    }

    fn send(&mut self, event: &str, pick: impl Fn(u64) -> Option<Value>) {
        for session in self.sessions.values_mut() {
            if let Some(payload) = pick(session.intents) {
                session.dispatch(event, &payload);
            }
        }
    }
}

/// The state of the sessions after a connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// The bot can resume its session.
    Nothing,
    /// The bot has to identify anew.
    Sessions,
}

impl Session {
    fn dispatch(&mut self, event: &str, payload: &Value) {
        self.seq += 1;
        let frame = json!({"op": 0, "s": self.seq, "t": event, "d": payload}).to_string();
        if self.sent.len() == REPLAY {
            self.sent.pop_front();
        }
        self.sent.push_back((self.seq, frame.clone()));
        self.push(frame);
    }

    fn push(&mut self, frame: String) {
        if let Some(out) = &self.out
            && out.try_send(Out::Text(frame)).is_err()
        {
            self.out = None;
        }
    }
}

impl World {
    /// Sends an event to every session with one of the intents (0: to all).
    pub(crate) fn dispatch(&mut self, event: &str, intents: u64, payload: &Value) {
        self.gateway.send(event, |held| (intents == 0 || held & intents != 0).then(|| payload.clone()));
    }

    /// MESSAGE_CREATE or MESSAGE_UPDATE: only where the bot sees the channel; without
    /// MESSAGE_CONTENT the text is empty, unless the bot wrote it, is mentioned in it, or it is a
    /// DM.
    pub(crate) fn dispatch_message(&mut self, event: &str, message: &Message) {
        let bot = self.bot();
        if message.only.is_some() || !self.can_see(bot, message.channel) {
            return;
        }
        let direct = self.channel(message.channel).is_some_and(|channel| channel.kind == DM);
        let wanted = if direct { intent::DIRECT_MESSAGES } else { intent::GUILD_MESSAGES };
        let open = direct || message.author == bot || message.mentions.contains(&bot);
        let full = self.message_event_json(message);
        let mut bare = full.clone();
        for (key, empty) in [("content", json!("")), ("embeds", json!([])), ("components", json!([]))] {
            bare[key] = empty;
        }
        self.gateway.send(event, |held| {
            let content = open || held & intent::MESSAGE_CONTENT != 0;
            (held & wanted != 0).then(|| if content { full.clone() } else { bare.clone() })
        });
    }

    /// The gateway takes the token with and without the word "Bot", which serenity sends along.
    fn is_token(&self, given: &Value) -> bool {
        let given = given.as_str().unwrap_or_default();
        given.strip_prefix("Bot ").unwrap_or(given) == self.options.token
    }

    fn identify(&mut self, data: &Value, out: &mpsc::Sender<Out>) -> Result<String, Out> {
        if !self.is_token(&data["token"]) {
            self.gateway.refused += 1;
            return Err(Out::Close(4004, "Authentication failed."));
        }
        let Some(intents) = data["intents"].as_u64() else {
            self.violation(4013, "IDENTIFY without intents");
            return Err(Out::Close(4013, "Invalid intent(s)."));
        };
        let mut granted = !(intent::GUILD_MEMBERS | intent::GUILD_PRESENCES);
        if self.options.guild_members_intent {
            granted |= intent::GUILD_MEMBERS;
        }
        if !self.options.message_content_intent {
            granted &= !intent::MESSAGE_CONTENT;
        }
        if intents & !granted != 0 {
            return Err(Out::Close(4014, "Disallowed intent(s)."));
        }
        while self.gateway.sessions.len() >= SESSIONS {
            self.gateway.sessions.pop_first();
        }
        let secret = self.secret("session");
        let id = format!("{:04}-{secret}", self.gateway.identified);
        let mut session = Session { seq: 0, intents, sent: VecDeque::new(), out: Some(out.clone()) };
        self.gateway.identified += 1;
        session.dispatch("READY", &self.ready_json(&id, data));
        if intents & intent::GUILDS != 0 {
            for guild in self.guilds.values().filter(|g| g.members.contains_key(&self.bot())) {
                session.dispatch("GUILD_CREATE", &self.guild_create_json(guild));
            }
        }
        self.gateway.sessions.insert(id.clone(), session);
        Ok(id)
    }

    fn ready_json(&self, session: &str, data: &Value) -> Value {
        let guilds: Vec<Value> = self
            .guilds
            .values()
            .filter(|guild| guild.members.contains_key(&self.bot()))
            .map(|guild| json!({"id": guild.id.to_string(), "unavailable": true}))
            .collect();
        json!({
            "v": 10,
            "user": self.current_user_json(),
            "guilds": guilds,
            "session_id": session,
            "resume_gateway_url": self.options.gateway_url,
            "shard": data.get("shard").cloned().unwrap_or(json!([0, 1])),
            "application": {
                "id": self.options.application_id.to_string(),
                "flags": self.application_flags(),
            },
            "session_type": "normal",
            "private_channels": [],
            "presences": [],
            "relationships": [],
            "user_settings": {},
            "geo_ordered_rtc_regions": [],
        })
    }

    fn resume(&mut self, data: &Value, out: &mpsc::Sender<Out>) -> Result<String, Out> {
        if !self.is_token(&data["token"]) {
            self.gateway.refused += 1;
            return Err(Out::Close(4004, "Authentication failed."));
        }
        let invalid = || Out::Text(json!({"op": 9, "d": false}).to_string());
        let id = data["session_id"].as_str().unwrap_or_default().to_owned();
        let seen = data["seq"].as_u64().unwrap_or(0);
        let Some(session) = self.gateway.sessions.get_mut(&id) else {
            return Err(invalid());
        };
        let oldest = session.sent.front().map_or(session.seq, |(seq, _)| *seq);
        if seen > session.seq || seen + 1 < oldest {
            self.gateway.sessions.remove(&id);
            return Err(invalid());
        }
        session.out = Some(out.clone());
        let missed: Vec<String> =
            session.sent.iter().filter(|(seq, _)| *seq > seen).map(|(_, frame)| frame.clone()).collect();
        for frame in missed {
            session.push(frame);
        }
        session.dispatch("RESUMED", &json!({"_trace": []}));
        self.gateway.resumed += 1;
        Ok(id)
    }
}

/// Accepts gateway connections for as long as the look-alike lives.
pub(super) async fn serve(discord: Discord, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let discord = discord.clone();
        let is_refused = discord.change(|world| {
            world.gateway.turned_away += u64::from(world.gateway.refuses);
            world.gateway.refuses
        });
        if is_refused {
            continue;
        }
        tokio::spawn(async move {
            if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                connection(discord, socket).await;
            }
        });
    }
}

async fn connection(discord: Discord, mut socket: WebSocketStream<TcpStream>) {
    let (out, mut queue) = mpsc::channel(QUEUE);
    let interval = discord.world().options.heartbeat_interval_ms;
    let hello = json!({"op": 10, "s": null, "t": null, "d": {"heartbeat_interval": interval}});
    if socket.send(Frame::Text(hello.to_string())).await.is_err() {
        return;
    }
    let mut session: Option<String> = None;
    loop {
        let next = tokio::select! {
            // Earlier dispatches go out before the answer to the bot's frame.
            biased;
            told = queue.recv() => told,
            heard = socket.next() => match heard {
                Some(Ok(Frame::Text(text))) => answer(&discord, &text, &out, &mut session),
                Some(Ok(Frame::Close(_)) | Err(_)) | None => Some(Out::Drop),
                Some(Ok(_)) => continue,
            },
        };
        match next {
            Some(Out::Text(text)) => match socket.send(Frame::Text(text)).await {
                Ok(()) => {}
                Err(_) => break,
            },
            Some(Out::Close(code, reason)) => {
                let code = CloseCode::from(code);
                // The bot may be gone already.
                let _ = socket.close(Some(CloseFrame { code, reason: reason.into() })).await;
                break;
            }
            Some(Out::Drop) => break,
            None => {}
        }
    }
    queue.close();
    discord.change(|_| ());
}

/// The answer to one frame of the bot, if there is any.
fn answer(
    discord: &Discord,
    text: &str,
    out: &mpsc::Sender<Out>,
    session: &mut Option<String>,
) -> Option<Out> {
    let Ok(frame) = serde_json::from_str::<Value>(text) else {
        return Some(Out::Close(4002, "Error while decoding payload."));
    };
    let data = &frame["d"];
    match frame["op"].as_u64() {
        Some(1) => Some(Out::Text(json!({"op": 11}).to_string())),
        Some(2 | 6) if session.is_some() => Some(Out::Close(4005, "Already authenticated.")),
        Some(op @ (2 | 6)) => {
            let outcome = discord
                .change(|world| if op == 2 { world.identify(data, out) } else { world.resume(data, out) });
            match outcome {
                Ok(id) => {
                    *session = Some(id);
                    None
                }
                Err(told) => Some(told),
            }
        }
        // Presence, voice state, member chunks: nothing here depends on them.
        Some(3 | 4 | 8 | 31) => None,
        _ => Some(Out::Close(4001, "Unknown opcode.")),
    }
}

/// The payload's user id, for events about one.
pub(super) fn typing_json(world: &World, channel: Id, user: Id) -> Value {
    let guild = world.channel(channel).and_then(|found| found.guild);
    let mut value = json!({
        "channel_id": channel.to_string(),
        "user_id": user.to_string(),
        "timestamp": world.now_ms() / 1000,
    });
    if let Some(guild) = guild.and_then(|id| world.guilds.get(&id)) {
        value["guild_id"] = json!(guild.id.to_string());
        value["member"] = world.member_json(guild, user, true);
    }
    value
}
