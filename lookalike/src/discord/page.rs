//! The chat page of the playground: a browser acts as one of the users. It gets a whole picture by
//! server-sent events whenever something changes, and sends the user's actions as JSON.

mod picture;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Discord;
use super::people::Person;
use super::places::Channel;
use super::reply::{Answer, Modal};
use super::world::Id;

const HTML: &str = include_str!("page/page.html");
const CSS: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const TYPING: &str = include_str!("page/typing.js");
const TEXT: &str = include_str!("page/text.js");

/// Dialogs that were opened and not sent yet; the oldest is forgotten first.
const DIALOGS: usize = 64;
/// Nothing from elsewhere, nothing inline.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

#[derive(Clone)]
struct Page {
    discord: Discord,
    dialogs: Arc<Mutex<VecDeque<(String, Modal)>>>,
}

/// Where [`HTML`] has room for a panel beside the chat.
const PANEL: &str = "<!-- panel -->";

/// Something beside the chat, on the same page.
#[derive(Default)]
pub struct Panel {
    /// Markup of our own; nothing in it comes from anybody.
    pub html: &'static str,
    /// The panel's own routes.
    pub routes: Router,
}

/// The page at `/`, with its own few endpoints below `/chat/`.
pub fn router(discord: Discord) -> Router {
    router_with(discord, Panel::default())
}

/// The same with a panel, whose endpoints are kept to this machine like the page's own.
pub fn router_with(discord: Discord, panel: Panel) -> Router {
    let page = Page { discord, dialogs: Arc::default() };
    let html = HTML.replace(PANEL, panel.html);
    let html = get(move || async move { ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html) });
    let text = |kind: &'static str, body: &'static str| {
        get(move || async move { ([(header::CONTENT_TYPE, kind)], body) })
    };
    let script = "text/javascript; charset=utf-8";
    Router::new()
        .route("/", html)
        .route("/chat/page.css", text("text/css; charset=utf-8", CSS))
        .route("/chat/page.js", text(script, SCRIPT))
        .route("/chat/typing.js", text(script, TYPING))
        .route("/chat/text.js", text(script, TEXT))
        .route("/chat/people", get(people))
        .route("/chat/events", get(events))
        .route("/chat/act", post(act))
        .with_state(page)
        .merge(panel.routes)
        .layer(middleware::from_fn(local_only))
}

/// A page elsewhere must not act here through a name that it points at us.
async fn local_only(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let name = host.unwrap_or_default().rsplit_once(':').map_or(host, |(name, _)| Some(name));
    if !matches!(name, Some("127.0.0.1" | "localhost" | "[::1]")) {
        return (StatusCode::FORBIDDEN, "open this page as http://127.0.0.1").into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn people(State(page): State<Page>) -> Json<Value> {
    let people = page.discord.people();
    let listed = people.iter().map(|p| json!({"id": p.id.to_string(), "name": p.name}));
    Json(listed.collect())
}

#[derive(Deserialize)]
struct Watcher {
    person: String,
}

async fn events(
    State(page): State<Page>,
    Query(watcher): Query<Watcher>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, (StatusCode, &'static str)> {
    let person = page.person(&watcher.person).ok_or((StatusCode::NOT_FOUND, "no user has this id"))?;
    // Opened before anything is drawn: a picture must change nothing, or it would ask for the next.
    person.dm();
    let changes = page.discord.changes();
    let pictures = stream::unfold((person, changes, true), async |(person, mut changes, first)| {
        if !first && changes.changed().await.is_err() {
            return None;
        }
        changes.borrow_and_update();
        let event = Event::default().data(person.picture().to_string());
        Some((Ok(event), (person, changes, false)))
    });
    Ok(Sse::new(pictures).keep_alive(KeepAlive::default()))
}

/// An action of the user on the page.
#[derive(Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
enum Deed {
    Say { channel: String, text: String },
    Command { channel: String, path: String, options: Vec<(String, String)> },
    Complete { channel: String, path: String, option: String, so_far: String },
    Press { message: String, custom_id: String },
    Submit { dialog: String, values: Vec<(String, String)> },
}

#[derive(Deserialize)]
struct Doing {
    person: String,
    #[serde(flatten)]
    deed: Deed,
}

/// Answers with `{}`, `{"error": …}` as the user would read it, `{"dialog": …}` or `{"choices":
/// …}`.
async fn act(State(page): State<Page>, Json(doing): Json<Doing>) -> Json<Value> {
    let Some(person) = page.person(&doing.person) else {
        return Json(json!({"error": "no user has this id"}));
    };
    Json(page.carry_out(&person, doing.deed).await.unwrap_or_else(|why| json!({"error": why})))
}

fn pairs(given: &[(String, String)]) -> Vec<(&str, &str)> {
    given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

impl Page {
    fn person(&self, id: &str) -> Option<Person> {
        self.discord.people().into_iter().find(|person| person.id.to_string() == id)
    }

    fn channel(&self, id: &str) -> Result<Channel, String> {
        let id: Id = id.parse().map_err(|_| "this is no channel")?;
        Ok(Channel::new(&self.discord, id))
    }

    async fn carry_out(&self, person: &Person, deed: Deed) -> Result<Value, String> {
        let interaction = match deed {
            Deed::Say { channel, text } => {
                person.post(&self.channel(&channel)?, &text, None)?;
                return Ok(json!({}));
            }
            Deed::Complete { channel, path, option, so_far } => {
                let channel = self.channel(&channel)?;
                let choices = person.try_autocomplete(&channel, &path, &option, &so_far).await?;
                return Ok(json!({"choices": choices}));
            }
            Deed::Command { channel, path, options } => {
                person.send_command(&self.channel(&channel)?, &path, &pairs(&options))?
            }
            Deed::Press { message, custom_id } => {
                let message = message.parse().map_err(|_| "this is no message")?;
                let wanted = Some(custom_id);
                person.send_press(message, |button| button.custom_id == wanted)?
            }
            Deed::Submit { dialog, values } => {
                let modal = self.dialog(&dialog).ok_or("this dialog is not open any more")?;
                modal.send(&pairs(&values))?
            }
        };
        match Answer::wait(person, interaction).await {
            Answer::Message(_) | Answer::Updated(_) => Ok(json!({})),
            Answer::Modal(modal) => Ok(json!({"dialog": self.open(modal)})),
            Answer::Failed(words) => Err(words),
        }
    }

    fn dialog(&self, key: &str) -> Option<Modal> {
        let dialogs = self.dialogs.lock().unwrap_or_else(PoisonError::into_inner);
        dialogs.iter().find(|(known, _)| known == key).map(|(_, modal)| modal.clone())
    }

    /// Keeps a dialog until it is sent, and returns its form for the browser.
    fn open(&self, modal: Modal) -> Value {
        let key = self.discord.change(super::world::World::next_id).to_string();
        let shown = json!({
            "key": key,
            "title": modal.title,
            "inputs": modal.inputs.iter().map(|input| json!({
                "id": input.custom_id,
                "label": input.label,
                "placeholder": input.placeholder,
                "value": input.value,
                "required": input.required,
                "paragraph": input.paragraph,
                "min": input.min_length,
                "max": input.max_length,
            })).collect::<Vec<_>>(),
        });
        let mut dialogs = self.dialogs.lock().unwrap_or_else(PoisonError::into_inner);
        if dialogs.len() == DIALOGS {
            dialogs.pop_front();
        }
        dialogs.push_back((key, modal));
        shown
    }
}
