//! The JSON of messages, embeds, components, modals and answers to interactions.
//!
//! A message speaks either for the bot or for an agent (adr/0034). The bot's text is always an
//! embed. An agent's text never is one, and its first line names the agent. So neither can pass for
//! the other.
//!
//! Discord's limits for a message: 2,000 UTF-16 units of content, 6,000 in all embeds and 4,096 in
//! the description of one, 512 characters in a button's URL, 100 in a custom_id, 80 in a label, 5
//! rows of 5 buttons. A part that is too long is shortened, so that no foreign text makes an answer
//! fail.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::hidden::is_hidden;
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
/// The flag of a message whose links have no previews.
const SUPPRESS_EMBEDS: u32 = 1 << 2;
/// UTF-16 units of an embed's description, its title or a field's name, and a field's value.
const MAX_DESCRIPTION: usize = 4096;
const MAX_TITLE: usize = 256;
const MAX_FIELD: usize = 1024;
/// UTF-16 units of all embeds together. Discord takes 6,000; the rest is for the `…` of parts for
/// which nothing is left.
const MAX_EMBEDS: usize = 5900;

/// A message, as it is sent or as it replaces its earlier version. An edit clears every part that
/// is absent here, except for files.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    /// The text. That of the bot becomes the first embed.
    pub(super) content: String,
    pub(super) embeds: Vec<Embed>,
    pub(super) components: Vec<Row>,
    pub(super) allowed_mentions: AllowedMentions,
    /// A text that does not fit the message, and the name of its file.
    pub(super) file: Option<(&'static str, String)>,
    is_agents: bool,
    flags: u32,
    /// Makes Discord accept a repeated request once.
    nonce: Option<String>,
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.body().serialize(to)
    }
}

/// The body of a message's request.
#[derive(Serialize)]
struct Body<'a> {
    content: String,
    embeds: Vec<Embed>,
    components: &'a [Row],
    allowed_mentions: &'a AllowedMentions,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
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
        let label = shorten(not_blank(label), MAX_LABEL);
        Self { kind: 2, style: 1, label, custom_id: Some(custom_id), url: None }
    }

    /// The same button in another colour: 2 is grey, 3 green, 4 red.
    pub(super) fn styled(self, style: u8) -> Self {
        Self { style, ..self }
    }
}

impl Embed {
    /// The same embed within Discord's limits, of which `left` is what other embeds leave.
    fn fitted(&self, left: &mut usize) -> Self {
        let mut fitted = |text: &str, limit: usize| {
            let text = shorten(text, limit.min(*left));
            *left -= super::split::utf16_len(&text).min(*left);
            text
        };
        let title = fitted(&self.title, MAX_TITLE);
        let fields = self.fields.iter().take(25).map(|field| Field {
            name: fitted(not_blank(&field.name), MAX_TITLE),
            value: fitted(not_blank(&field.value), MAX_FIELD),
        });
        let fields: Vec<Field> = fields.collect();
        Self { title, description: fitted(&self.description, MAX_DESCRIPTION), fields }
    }
}

/// Discord refuses a field and a label of blanks.
fn not_blank(text: &str) -> &str {
    if text.chars().all(|c| c == ' ' || is_hidden(c)) { "–" } else { text }
}

impl Message {
    /// A text of the bot.
    pub(super) fn text(content: impl Into<String>) -> Self {
        Self { content: content.into(), ..Self::default() }
    }

    /// A text of an agent, with its name line.
    pub(super) fn of_agent(content: String) -> Self {
        Self { content, is_agents: true, ..Self::default() }
    }

    fn body(&self) -> Body<'_> {
        let notified = self.allowed_mentions.users.iter().map(|user| format!("<@{user}>"));
        let (content, embeds) = if self.is_agents {
            (self.content.clone(), Vec::new())
        } else {
            let text = Some(&self.content).filter(|text| !text.trim().is_empty());
            let text = text.map(|text| Embed { description: text.clone(), ..Embed::default() });
            let mut left = MAX_EMBEDS;
            // The text is first on the screen, and the last to get its room.
            let mut embeds: Vec<Embed> =
                self.embeds.iter().chain(&text).map(|embed| embed.fitted(&mut left)).collect();
            embeds.rotate_right(usize::from(text.is_some()));
            (notified.collect::<Vec<_>>().join(" "), embeds)
        };
        let flags = self.flags | if self.is_agents { SUPPRESS_EMBEDS } else { 0 };
        Body {
            content,
            embeds,
            components: &self.components,
            allowed_mentions: &self.allowed_mentions,
            flags: Some(flags).filter(|flags| *flags != 0),
            nonce: self.nonce.as_deref(),
            enforce_nonce: self.nonce.as_ref().map(|_| true),
        }
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

    /// Returns the labels of its buttons.
    pub(super) fn labels(&mut self) -> impl Iterator<Item = &mut String> {
        let buttons = self.components.iter_mut().flat_map(|row| &mut row.components);
        buttons.map(|button| &mut button.label)
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
        Self { nonce: Some(nonce.0.clone()), ..self }
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

/// Writes a foreign text as inline code, so that it is neither Markdown nor a mention, and no character
/// hides or reorders the others.
pub(super) fn inline_code(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| {
            if c == '`' {
                '\''
            } else if is_hidden(c) {
                ' '
            } else {
                c
            }
        })
        .collect();
    format!("`{}`", shorten(if clean.trim().is_empty() { "?" } else { clean.trim() }, 100))
}

/// Escapes Markdown, links and mentions in a sentence with foreign text, and hides nothing in it.
pub(super) fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '*' | '_' | '~' | '|' | '>' | '<' | '[' | ']' | '#' | '`' | '\\' => escaped.extend(['\\', c]),
            '@' => escaped.push_str("@\u{200b}"),
            // Discord makes a link of each address, and nobody should follow one in the bot's own words.
            '/' if escaped.ends_with(':') => escaped.push_str("\\/"),
            c if is_hidden(c) && c != '\n' => escaped.push(' '),
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Returns a time that Discord shows as a date, in the reader's own time zone.
pub(super) fn date(at: crate::sys::clock::UnixTime) -> String {
    format!("<t:{at}:f>")
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
            json!({"content": "", "embeds": [{"description": "@everyone <@1>"}], "components": [],
                "allowed_mentions": {"parse": []}})
        );
        let loud = serde_json::to_value(Message::text("<@1>").notifying(Snowflake(1))).expect("a value");
        assert_eq!(loud["allowed_mentions"], json!({"parse": [], "users": ["1"]}));
        assert_eq!(loud["content"], "<@1>", "a mention in an embed notifies no user");
    }

    #[test]
    fn the_bots_text_is_an_embed_and_an_agents_text_is_none() {
        let embed = Embed { title: "Sign in".into(), ..Embed::default() };
        let bots = Message { embeds: vec![embed], ..Message::text("hello") };
        let bots = serde_json::to_value(bots).expect("a value");
        assert_eq!(bots["embeds"], json!([{"description": "hello"}, {"title": "Sign in"}]));
        let agents = serde_json::to_value(Message::of_agent("hello".into())).expect("a value");
        assert_eq!(
            (&agents["content"], &agents["embeds"], &agents["flags"]),
            (&json!("hello"), &json!([]), &json!(4))
        );
        assert_eq!(agents["allowed_mentions"], json!({"parse": []}));
    }

    #[test]
    fn foreign_text_of_any_length_and_kind_fits_a_message() {
        let field = |text: &str| Field { name: text.into(), value: text.into() };
        for text in ["", " \u{200b}\n", &"🙂".repeat(5000)] {
            let embed = Embed {
                title: text.into(),
                description: text.into(),
                fields: (0..30).map(|_| field(text)).collect(),
            };
            let button = Button::press(text, "id".into());
            let message = Message { embeds: vec![embed], ..Message::text(text) }.buttons(vec![button]);
            let body = serde_json::to_value(message).expect("a value");
            let embeds = body["embeds"].as_array().expect("a list");
            let mut total = 0;
            for embed in embeds {
                let len = |value: &Value| super::super::split::utf16_len(value.as_str().unwrap_or_default());
                assert!(len(&embed["description"]) <= 4096 && len(&embed["title"]) <= 256);
                total += len(&embed["description"]) + len(&embed["title"]);
                for field in embed["fields"].as_array().into_iter().flatten() {
                    assert!(
                        (1..=1024).contains(&len(&field["value"]))
                            && (1..=256).contains(&len(&field["name"]))
                    );
                    total += len(&field["value"]) + len(&field["name"]);
                }
            }
            assert!(total <= 6000, "{total}");
            assert_ne!(
                body["components"][0]["components"][0]["label"].as_str().unwrap_or_default().trim(),
                ""
            );
        }
    }

    #[test]
    fn labels_are_shortened_and_foreign_text_has_no_markup_or_mentions() {
        let button = Button::press(&"🙂".repeat(50), "id".into());
        assert_eq!(super::super::split::utf16_len(&button.label), 79);
        assert_eq!(inline_code("a`b\n@everyone"), "`a'b @everyone`");
        assert_eq!(escape_markdown("*@here* [x](y)"), "\\*@\u{200b}here\\* \\[x\\](y)");
    }

    #[test]
    fn foreign_words_in_the_bots_sentences_are_no_links_and_hide_nothing() {
        let text = "a\u{202e}b `c`\u{200b} https://evil.example/x steam://run";
        assert_eq!(escape_markdown(text), "a b \\`c\\`  https:\\//evil.example/x steam:\\//run");
        assert_eq!(inline_code("a\u{202e}b\u{2800}c"), "`a b c`");
    }

    #[test]
    fn an_edit_has_no_flags() {
        let message = Message::text("x").ephemeral();
        assert_eq!(serde_json::to_value(&message).expect("a value")["flags"], 64);
        assert!(serde_json::to_value(message.for_edit()).expect("a value").get("flags").is_none());
    }
}
