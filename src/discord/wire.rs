//! The JSON of messages, embeds, components, modals and answers to interactions.
//!
//! Discord's limits for a message: 2,000 UTF-16 units of content, 512 characters in a button's URL,
//! 100 in a custom_id, 80 in a label, 5 rows of 5 buttons.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    ids::{Snowflake, hex},
    sys::random,
};

/// UTF-16 units in a message's content.
pub(super) const MAX_CONTENT: usize = 2000;
/// Characters in the URL of a link button.
pub(super) const MAX_BUTTON_URL: usize = 512;
/// UTF-16 units in a label.
const MAX_LABEL: usize = 80;
/// Buttons in a row, and rows in a message.
const ROW: usize = 5;
/// The flag of a message that only the user of the interaction sees.
const EPHEMERAL: u32 = 1 << 6;

/// A message, as it is sent or as it replaces its earlier version. An edit clears every part that
/// is absent here.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Message {
    pub(super) content: String,
    pub(super) embeds: Vec<Embed>,
    pub(super) components: Vec<Row>,
    pub(super) allowed_mentions: AllowedMentions,
    #[serde(skip_serializing_if = "is_zero")]
    flags: u32,
    /// Makes Discord accept a repeated request once.
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforce_nonce: Option<bool>,
}

/// The mark of one message, which all its requests carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nonce(String);

impl Nonce {
    /// Returns a new one. Discord takes 25 characters.
    pub(super) fn new() -> Self {
        Self(hex(&random::bytes::<12>()))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(flags: &u32) -> bool {
    *flags == 0
}

/// The users whom a message notifies; all others are only mentioned.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct AllowedMentions {
    parse: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<String>,
}

/// An embed.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Embed {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) title: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) fields: Vec<Field>,
}

/// A field of an embed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
}

/// A row of buttons.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    #[serde(rename = "type")]
    kind: u8,
    components: Vec<Button>,
}

/// A button.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Button {
    #[serde(rename = "type")]
    kind: u8,
    style: u8,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

impl Button {
    /// A button that opens a web page.
    pub(super) fn link(label: &str, url: &str) -> Self {
        Self { kind: 2, style: 5, label: shorten(label, MAX_LABEL), custom_id: None, url: Some(url.into()) }
    }

    /// A button whose press is sent to the bot.
    pub(super) fn press(label: &str, custom_id: String) -> Self {
        Self { kind: 2, style: 1, label: shorten(label, MAX_LABEL), custom_id: Some(custom_id), url: None }
    }
}

impl Message {
    /// A message of text alone.
    pub(super) fn text(content: impl Into<String>) -> Self {
        Self { content: content.into(), ..Self::default() }
    }

    /// A message of one embed alone.
    pub(super) fn embed(embed: Embed) -> Self {
        Self { embeds: vec![embed], ..Self::default() }
    }

    /// The same message with these buttons, at most 25.
    pub(super) fn buttons(mut self, buttons: Vec<Button>) -> Self {
        self.components =
            buttons.chunks(ROW).take(ROW).map(|row| Row { kind: 1, components: row.to_vec() }).collect();
        self
    }

    /// Returns the custom_ids of its buttons.
    pub(super) fn custom_ids(&self) -> Vec<String> {
        let buttons = self.components.iter().flat_map(|row| &row.components);
        buttons.filter_map(|button| button.custom_id.clone()).collect()
    }

    /// The same message, visible to the user of the interaction alone. Only answers to interactions
    /// can be ephemeral.
    pub(super) fn ephemeral(mut self) -> Self {
        self.flags = EPHEMERAL;
        self
    }

    /// The same message, which notifies this user when its text mentions them.
    pub(super) fn notifying(mut self, user: Snowflake) -> Self {
        self.allowed_mentions.users.push(user.to_string());
        self
    }

    /// The same message without flags, which an edit cannot change.
    pub(super) fn for_edit(&self) -> Self {
        Self { flags: 0, ..self.clone() }
    }

    /// The same message, which Discord accepts once for each nonce.
    pub(super) fn with_nonce(self, nonce: &Nonce) -> Self {
        Self { nonce: Some(nonce.0.clone()), enforce_nonce: Some(true), ..self }
    }
}

/// The first answer to an interaction.
#[derive(Clone, Debug)]
pub(super) enum Response {
    /// A message.
    Message(Message),
    /// An acknowledgement; an ephemeral message follows.
    Deferred,
    /// The new version of the message with the pressed button.
    Update(Message),
    /// The choices of an autocompletion, each of them both name and value.
    Choices(Vec<String>),
    /// A form with one line of text.
    Modal {
        /// An opaque id.
        custom_id: String,
        /// At most 45 characters.
        title: String,
        /// The label of the one field, at most 45 characters.
        label: String,
        /// The hint in the empty field.
        placeholder: String,
    },
}

/// The custom_id of the one field of a modal.
pub(super) const MODAL_FIELD: &str = "code";

impl Response {
    /// Returns the body of the request.
    pub(super) fn body(&self) -> Value {
        match self {
            Self::Message(message) => json!({"type": 4, "data": message}),
            Self::Deferred => json!({"type": 5, "data": {"flags": EPHEMERAL}}),
            Self::Update(message) => json!({"type": 7, "data": message.for_edit()}),
            Self::Choices(names) => {
                let choices: Vec<_> = names.iter().map(|n| json!({"name": n, "value": n})).collect();
                json!({"type": 8, "data": {"choices": choices}})
            }
            Self::Modal { custom_id, title, label, placeholder } => json!({"type": 9, "data": {
                "custom_id": custom_id,
                "title": shorten(title, 45),
                "components": [{"type": 1, "components": [{
                    "type": 4, "custom_id": MODAL_FIELD, "style": 2, "label": shorten(label, 45),
                    "placeholder": shorten(placeholder, 100), "required": true, "min_length": 1, "max_length": 4000
                }]}]
            }}),
        }
    }
}

/// Shortens a text to at most `limit` UTF-16 units. A shortened text ends in `…`.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    if super::split::utf16_len(text) <= limit {
        return text.to_owned();
    }
    let mut units = 1;
    let kept = text.chars().take_while(|c| {
        units += c.len_utf16();
        units <= limit
    });
    kept.chain(['…']).collect()
}

/// Writes a foreign text as inline code, so that it is neither Markdown nor a mention.
pub(super) fn inline_code(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| {
            if c == '`' {
                '\''
            } else if c.is_control() {
                ' '
            } else {
                c
            }
        })
        .collect();
    format!("`{}`", shorten(if clean.trim().is_empty() { "?" } else { clean.trim() }, 100))
}

/// Escapes Markdown and mentions in a sentence with foreign text.
pub(super) fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '*' | '_' | '~' | '|' | '>' | '<' | '[' | ']' | '#' | '\\' => escaped.extend(['\\', c]),
            '@' => escaped.push_str("@\u{200b}"),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Writes a time that each reader's Discord shows relative to now.
pub(super) fn relative_time(at: crate::sys::clock::UnixTime) -> String {
    format!("<t:{at}:R>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_notifies_only_the_named_users() {
        let quiet = serde_json::to_value(Message::text("@everyone <@1>")).expect("a value");
        assert_eq!(
            quiet,
            json!({"content": "@everyone <@1>", "embeds": [], "components": [], "allowed_mentions": {"parse": []}})
        );
        let loud = serde_json::to_value(Message::text("<@1>").notifying(Snowflake(1))).expect("a value");
        assert_eq!(loud["allowed_mentions"], json!({"parse": [], "users": ["1"]}));
    }

    #[test]
    fn labels_are_shortened_and_foreign_text_has_no_markup_or_mentions() {
        let button = Button::press(&"🙂".repeat(50), "id".into());
        assert_eq!(super::super::split::utf16_len(&button.label), 79);
        assert_eq!(inline_code("a`b\n@everyone"), "`a'b @everyone`");
        assert_eq!(escape_markdown("*@here* [x](y)"), "\\*@\u{200b}here\\* \\[x\\](y)");
    }

    #[test]
    fn an_edit_has_no_flags() {
        let message = Message::text("x").ephemeral();
        assert_eq!(serde_json::to_value(&message).expect("a value")["flags"], 64);
        assert!(serde_json::to_value(message.for_edit()).expect("a value").get("flags").is_none());
    }
}
