//! Answers to a user's action.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::interact::Act;
use super::people::Person;
use super::rest::interactions::{DEFER_UPDATE, MODAL, UPDATE};
use super::rules::utf16;
use super::views::{Button, Embed, MessageView};
use super::world::{Id, World};

/// The first answer to a command, a button or a modal.
#[derive(Debug)]
pub enum Answer {
    /// A new message, which may still show "thinking".
    Message(Reply),
    /// The message with the button was changed, or will be.
    Updated(Reply),
    /// A form.
    Modal(Modal),
    /// The client's error text in red, word for word.
    Failed(String),
}

impl Answer {
    /// Waits until the interaction is answered or given up.
    pub(super) async fn wait(person: &Person, interaction: Id) -> Self {
        let discord = &person.discord;
        let (answered, label, message, modal, source) = discord
            .until("an interaction's answer", |world| {
                let found = world.interactions.get(&interaction)?;
                let done = found.answered.is_some() || found.failed;
                done.then(|| {
                    let modal = found.modal.clone();
                    (found.answered, found.label.clone(), found.original, modal, found.source)
                })
            })
            .await;
        match (answered, message, modal) {
            (Some(MODAL), _, Some(data)) => {
                let channel = discord.world().interactions[&interaction].channel;
                Self::Modal(Modal::new(person, channel, source, &data))
            }
            (Some(DEFER_UPDATE | UPDATE), Some(id), _) => {
                Self::Updated(Reply::new(person, interaction, id, label))
            }
            (Some(_), Some(id), _) => Self::Message(Reply::new(person, interaction, id, label)),
            _ => Self::Failed("The application did not respond".into()),
        }
    }

    /// The message, new or updated; anything else fails the test.
    #[track_caller]
    pub fn message(self) -> Reply {
        match self {
            Self::Message(reply) | Self::Updated(reply) => reply,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// The message that was changed in place; anything else fails the test.
    #[track_caller]
    pub fn updated(self) -> Reply {
        match self {
            Self::Updated(reply) => reply,
            other => panic!("expected an update of the message, got {other:?}"),
        }
    }

    /// The form; anything else fails the test.
    #[track_caller]
    pub fn modal(self) -> Modal {
        match self {
            Self::Modal(modal) => modal,
            other => panic!("expected a modal, got {other:?}"),
        }
    }

    /// The error that the user sees instead of an answer; an answer fails the test.
    #[track_caller]
    pub fn failed(self) -> String {
        match self {
            Self::Failed(words) => words,
            other => panic!("expected a failure, got {other:?}"),
        }
    }
}

/// An answer in a channel. It shows the newest version at each look.
pub struct Reply {
    person: Person,
    interaction: Id,
    message: Id,
    label: String,
    /// The revision that was last waited for.
    seen: AtomicU64,
}

impl Reply {
    fn new(person: &Person, interaction: Id, message: Id, label: String) -> Self {
        let reply = Self { person: person.clone(), interaction, message, label, seen: AtomicU64::new(0) };
        reply.seen.store(reply.view().revision, Ordering::SeqCst);
        reply
    }

    /// The message as it is now.
    pub fn view(&self) -> MessageView {
        let world = self.person.discord.world();
        MessageView::of(&world, &world.messages[&self.message])
    }

    /// The message's whole text, embeds included.
    pub fn text(&self) -> String {
        self.view().all_text()
    }

    /// The message's embeds.
    pub fn embeds(&self) -> Vec<Embed> {
        self.view().embeds
    }

    /// The message's buttons.
    pub fn buttons(&self) -> Vec<Button> {
        self.view().buttons
    }

    /// Where the link with these words leads.
    pub fn link(&self, label: &str) -> Option<String> {
        self.view().link(label)
    }

    /// Whether only the user of the interaction sees the message.
    pub fn is_ephemeral(&self) -> bool {
        self.view().ephemeral
    }

    /// Whether the message still shows "threadkey is thinking…".
    pub fn is_thinking(&self) -> bool {
        self.view().thinking
    }

    /// Whether the bot took it away.
    pub fn is_deleted(&self) -> bool {
        self.view().deleted
    }

    /// The further answers to the same interaction.
    pub fn followups(&self) -> Vec<MessageView> {
        let world = self.person.discord.world();
        let ids = world.interactions.get(&self.interaction).map(|i| i.followups.clone());
        ids.into_iter()
            .flatten()
            .filter_map(|id| world.messages.get(&id))
            .map(|message| MessageView::of(&world, message))
            .collect()
    }

    /// Waits until the message shows more than "thinking".
    pub async fn latest(&self) -> MessageView {
        self.wait("to say something", |view| !view.thinking).await
    }

    /// Waits until the message differs from the version that was waited for last.
    pub async fn changed(&self) -> MessageView {
        let seen = self.seen.load(Ordering::SeqCst);
        self.wait("to change", |view| view.revision > seen).await
    }

    /// Waits until it contains this text.
    pub async fn says(&self, text: &str) -> MessageView {
        self.wait(&format!("to say {text:?}"), |view| view.all_text().contains(text)).await
    }

    /// Waits until the message satisfies `wanted`. `what` completes the sentence "waited for the
    /// answer …".
    pub async fn wait(&self, what: &str, wanted: impl Fn(&MessageView) -> bool) -> MessageView {
        let look = |world: &World| {
            let view = MessageView::of(world, world.messages.get(&self.message)?);
            wanted(&view).then_some(view)
        };
        let what = format!("the answer to {} {what}", self.label);
        let view = self.person.discord.until(&what, look).await;
        self.seen.store(view.revision, Ordering::SeqCst);
        view
    }

    /// Presses the button with this label on the answer, or on one of the followups.
    pub async fn press(&self, label: &str) -> Answer {
        let view = self.view();
        if view.button(label).is_some() {
            return self.person.press(&view, label).await;
        }
        match self.followups().iter().find(|view| view.button(label).is_some()) {
            Some(followup) => self.person.press(followup, label).await,
            None => panic!("no button {label:?} on the answer to {}: {view}", self.label),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answer to {}: {}", self.label, self.view())
    }
}

/// A text input of a modal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The bot's name for the input.
    pub custom_id: String,
    /// The text above the input.
    pub label: String,
    /// The grey text in an empty input.
    pub placeholder: String,
    /// The text that the input starts with.
    pub value: String,
    /// Whether the input must not stay empty.
    pub required: bool,
    /// Whether the input has more than one line.
    pub paragraph: bool,
    /// The shortest text that Discord accepts.
    pub min_length: usize,
    /// The longest text that Discord accepts.
    pub max_length: usize,
}

/// A dialog on a user's screen.
#[derive(Clone)]
pub struct Modal {
    person: Person,
    channel: Id,
    source: Option<Id>,
    /// The bot's name for the form.
    pub custom_id: String,
    /// The title above the form.
    pub title: String,
    /// The inputs, from top to bottom.
    pub inputs: Vec<Input>,
}

impl Modal {
    fn new(person: &Person, channel: Id, source: Option<Id>, data: &Value) -> Self {
        let rows = data["components"].as_array().cloned().unwrap_or_default();
        Self {
            person: person.clone(),
            channel,
            source,
            custom_id: data["custom_id"].as_str().unwrap_or_default().into(),
            title: data["title"].as_str().unwrap_or_default().into(),
            inputs: rows.iter().map(|row| input(&row["components"][0])).collect(),
        }
    }

    /// Fills it in, by label or custom_id, and sends it.
    pub async fn submit(&self, values: &[(&str, &str)]) -> Answer {
        match self.send(values) {
            Ok(id) => Answer::wait(&self.person, id).await,
            Err(why) => panic!("{} cannot send {self:?}: {why}", self.person.name),
        }
    }

    /// Sends the form, if the client allows it.
    pub fn send(&self, values: &[(&str, &str)]) -> Result<Id, String> {
        let known = |name: &str| self.inputs.iter().any(|i| i.label == name || i.custom_id == name);
        if let Some((name, _)) = values.iter().find(|(name, _)| !known(name)) {
            return Err(format!("there is no input {name:?}"));
        }
        let mut filled = Vec::new();
        for input in &self.inputs {
            let given = values.iter().find(|(n, _)| *n == input.label || *n == input.custom_id);
            let value = given.map_or(input.value.as_str(), |(_, value)| value);
            let units = utf16(value);
            let too_short = units < input.min_length && (input.required || units > 0);
            if input.required && units == 0 || too_short || units > input.max_length {
                return Err(format!("{units} characters do not fit {input:?}"));
            }
            filled.push((input.custom_id.clone(), value.to_owned()));
        }
        let label = format!("{}: modal {:?}", self.person.name, self.title);
        let (user, source) = (self.person.id, self.source);
        let act = Act::modal(user, self.channel, source, &self.custom_id, &filled, label);
        Ok(self.person.discord.interact(act))
    }
}

fn input(value: &Value) -> Input {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str, default: usize| {
        value[key].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
    };
    Input {
        custom_id: text("custom_id"),
        label: text("label"),
        placeholder: text("placeholder"),
        value: text("value"),
        required: value["required"].as_bool().unwrap_or(true),
        paragraph: value["style"].as_u64() == Some(2),
        min_length: number("min_length", 0),
        max_length: number("max_length", 4000),
    }
}

impl fmt::Debug for Modal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs: Vec<&str> = self.inputs.iter().map(|input| input.label.as_str()).collect();
        write!(f, "modal {:?} with {inputs:?}", self.title)
    }
}
