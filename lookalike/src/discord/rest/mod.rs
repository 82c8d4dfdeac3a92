//! The REST side: authorization, the log, Discord's description, then the endpoint.

mod channels;
mod guilds;
pub(super) mod interactions;
mod messages;
mod threads;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::routes::{self, Matched, Route};
use super::world::{Trouble, World};
use super::{Discord, Request};

/// The status in the log of a request that gets no answer.
const NO_ANSWER: u16 = 0;

/// A refusal in Discord's words, with the fault of the bot.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: u32,
    pub message: String,
}

/// Status and body of an answer.
pub(super) type Answered = Result<(u16, Value), Refusal>;

impl Refusal {
    pub(super) fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn unknown_channel() -> Self {
        Self::new(404, 10003, "Unknown Channel")
    }

    pub(super) fn unknown_message() -> Self {
        Self::new(404, 10008, "Unknown Message")
    }

    pub(super) fn missing_access() -> Self {
        Self::new(403, 50001, "Missing Access")
    }

    pub(super) fn missing_permissions() -> Self {
        Self::new(403, 50013, "Missing Permissions")
    }

    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self::new(400, 50035, format!("Invalid Form Body: {}", what.into()))
    }
}

/// One request on its way to its endpoint.
#[derive(Debug)]
pub(super) struct Call {
    pub matched: Matched,
    pub body: Value,
    /// The names and texts of the files of a multipart body.
    pub files: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
    pub arrived_ms: i64,
}

impl Call {
    pub(super) fn id(&self, n: usize) -> u64 {
        self.matched.id(n)
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A snowflake in the body.
    pub(super) fn body_id(&self, key: &str) -> Option<u64> {
        let value = &self.body[key];
        value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_u64())
    }
}

/// Serves REST for as long as the look-alike lives.
pub(super) async fn serve(discord: Discord, listener: TcpListener) {
    let app = Router::new().fallback(handle).with_state(discord);
    // It ends with the runtime; a failed accept is logged by axum and tried again.
    let _ = axum::serve(listener, app).await;
}

async fn handle(
    State(discord): State<Discord>,
    method: Method,
    uri: Uri,
    headers: axum::http::HeaderMap,
    body: Bytes,
) -> Response {
    let arrived_ms = discord.now_ms();
    let path = uri.path().to_owned();
    let query = uri.query().unwrap_or_default().trim_start_matches('&').to_owned();
    let authorization =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let (parsed, files, body_fault) = parse(kind, &body);
    let trouble = discord.change(|world| world.ordered_trouble(method.as_str(), &path));
    let answered = match (&trouble, body_fault) {
        (Some(Trouble::Answer { status, body, .. }), _) => Ok((*status, body.clone())),
        // No answer has this status.
        (Some(Trouble::Drop), _) => Ok((NO_ANSWER, Value::Null)),
        (_, Some(refusal)) => Err(refusal),
        (_, None) => {
            let caller = (authorization, arrived_ms);
            answer(&discord, &method, &path, &query, caller, (&parsed, files))
        }
    };
    let (status, content) = match answered {
        Ok(done) => done,
        Err(refusal) => {
            discord.change(|world| {
                world.violation(
                    refusal.code,
                    format!("{method} {path}: {} {}", refusal.status, refusal.message),
                );
            });
            (refusal.status, json!({"message": refusal.message, "code": refusal.code}))
        }
    };
    let (status, content) = match trouble {
        Some(Trouble::DoneThenStatus(status)) => (status, json!({"message": "scripted", "code": 0})),
        Some(Trouble::DoneThenDrop) => (NO_ANSWER, Value::Null),
        _ => (status, content),
    };
    discord.log_request(Request {
        method: method.to_string(),
        path,
        query,
        body: parsed,
        status,
        at_ms: arrived_ms,
    });
    if status == NO_ANSWER {
        // The connection's own task ends, and nothing else. Nothing is printed.
        std::panic::resume_unwind(Box::new("scripted to hang up"));
    }
    let mut response = respond(status, &content);
    if let Some(Trouble::Answer { retry_after: Some(seconds), .. }) = trouble {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The names and texts of files.
type Files = Vec<(String, String)>;

fn parse(kind: &str, body: &[u8]) -> (Value, Files, Option<Refusal>) {
    if let Some((_, boundary)) =
        kind.strip_prefix("multipart/form-data").and_then(|kind| kind.split_once("boundary="))
    {
        let (payload, files) = multipart(boundary.trim_matches('"'), &String::from_utf8_lossy(body));
        let (value, refusal) = parse_json("application/json", payload.as_bytes());
        return (value, files, refusal);
    }
    let (value, refusal) = parse_json(kind, body);
    (value, Vec::new(), refusal)
}

/// The part `payload_json`, and the files (RFC 7578).
fn multipart(boundary: &str, body: &str) -> (String, Files) {
    let (mut payload, mut files) = (String::new(), Vec::new());
    for part in body.split(&format!("--{boundary}")) {
        let Some((head, content)) = part.split_once("\r\n\r\n") else { continue };
        let content = content.strip_suffix("\r\n").unwrap_or(content).to_owned();
        let quoted = |key: &str| {
            let (_, rest) = head.split_once(&format!("{key}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        match quoted(" filename") {
            Some(name) => files.push((name, content)),
            None if quoted(" name").as_deref() == Some("payload_json") => payload = content,
            None => {}
        }
    }
    (payload, files)
}

fn parse_json(kind: &str, body: &[u8]) -> (Value, Option<Refusal>) {
    if body.is_empty() {
        return (Value::Null, None);
    }
    if !kind.starts_with("application/json") {
        let refusal = Refusal::invalid(format!("the look-alike takes no {kind:?}"));
        return (Value::Null, Some(refusal));
    }
    match serde_json::from_slice(body) {
        Ok(value) => (value, None),
        Err(error) => (Value::Null, Some(Refusal::new(400, 50109, format!("invalid JSON: {error}")))),
    }
}

fn answer(
    discord: &Discord,
    method: &Method,
    path: &str,
    query: &str,
    (authorization, arrived_ms): (&str, i64),
    (body, files): (&Value, Files),
) -> Answered {
    let below = path.strip_prefix("/api/v10").unwrap_or("");
    let Some(matched) = routes::find_route(method.as_str(), below) else {
        return Err(Refusal::new(404, 0, "404: Not Found (a route the look-alike does not know)"));
    };
    if needs_token(matched.route) && authorization != format!("Bot {}", discord.world().options.token) {
        // A refused token is the operator's mistake, not the bot's: no violation.
        return Ok((401, json!({"message": "401: Unauthorized", "code": 0})));
    }
    let faults = discord.description().map(|known| known.faults_of_request(&matched, body, query));
    if let Some(first) = faults.unwrap_or_default().first() {
        return Err(Refusal::invalid(format!("not as Discord describes it: {first}")));
    }
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let call = Call { matched, body: body.clone(), files, query, arrived_ms };
    let answered = discord.change(|world| world.endpoint(&call));
    if let (Ok((status, content)), Some(known)) = (&answered, discord.description()) {
        let faults = known.faults_of_answer(&call.matched, *status, content);
        let (method, template) = (call.matched.method, call.matched.template);
        let drift = faults.iter().map(|fault| format!("{method} {template}: {fault}"));
        discord.change(|world| world.drift.extend(drift));
    }
    answered
}

/// `GET /gateway` needs no token. Interaction and webhook tokens in the path are enough.
fn needs_token(route: Route) -> bool {
    !matches!(
        route,
        Route::Gateway
            | Route::Callback
            | Route::GetOriginal
            | Route::EditOriginal
            | Route::DeleteOriginal
            | Route::Followup
            | Route::GetFollowup
            | Route::EditFollowup
            | Route::DeleteFollowup
    )
}

fn respond(status: u16, content: &Value) -> Response {
    let body = if content.is_null() { Body::empty() } else { Body::from(content.to_string()) };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

impl World {
    fn ordered_trouble(&mut self, method: &str, path: &str) -> Option<Trouble> {
        let fault = self.faults.iter_mut().find(|fault| {
            let of_method = fault.method.is_empty() || fault.method == method;
            fault.remaining > 0 && of_method && path.contains(&fault.path_contains)
        })?;
        fault.remaining -= 1;
        Some(fault.trouble.clone())
    }

    fn endpoint(&mut self, call: &Call) -> Answered {
        match call.matched.route {
            Route::Gateway => Ok((200, json!({"url": self.options.gateway_url}))),
            Route::GatewayBot => Ok((200, self.gateway_bot_json())),
            Route::CurrentUser => Ok((200, self.current_user_json())),
            Route::CurrentUserGuilds => Ok((200, self.current_user_guilds_json())),
            Route::CurrentApplication => Ok((200, self.application_json())),
            Route::User => self.get_user(call),
            Route::Guild => self.get_guild(call),
            Route::GuildChannels => self.guild_channels(call),
            Route::GuildRoles => self.guild_roles(call),
            Route::GuildMember => self.guild_member(call),
            Route::GuildActiveThreads => self.active_threads(call),
            Route::GlobalCommands | Route::GuildCommands => self.get_commands(call),
            Route::PutGlobalCommands | Route::PutGuildCommands => self.put_commands(call),
            Route::Callback => self.callback(call),
            Route::GetOriginal | Route::GetFollowup => self.get_answer(call),
            Route::EditOriginal | Route::EditFollowup => self.edit_answer(call),
            Route::DeleteOriginal | Route::DeleteFollowup => self.delete_answer(call),
            Route::Followup => self.followup(call),
            Route::GetChannel => self.get_channel(call),
            Route::EditChannel => self.edit_channel(call),
            Route::DeleteChannel => self.delete_channel(call),
            Route::Messages => self.get_messages(call),
            Route::Message => self.get_message(call),
            Route::CreateMessage => self.create_message(call),
            Route::EditMessage => self.edit_message(call),
            Route::DeleteMessage => self.delete_message(call),
            Route::Typing => self.typing(call),
            Route::CreateThread => self.create_thread(call),
            Route::CreateThreadFromMessage => self.create_thread_from_message(call),
            Route::ThreadMembers => self.thread_members(call),
            Route::JoinThread => self.join_thread(call),
            Route::LeaveThread => self.leave_thread(call),
            Route::AddThreadMember => self.add_thread_member(call),
            Route::RemoveThreadMember => self.remove_thread_member(call),
            Route::CreateDm => self.create_dm(call),
        }
    }

    fn gateway_bot_json(&self) -> Value {
        json!({
            "url": self.options.gateway_url,
            "shards": 1,
            "session_start_limit": {
                "total": 1000, "remaining": 999, "reset_after": 14_400_000, "max_concurrency": 1,
            },
        })
    }
}
