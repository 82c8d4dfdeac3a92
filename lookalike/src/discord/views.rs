//! A message as a user sees it.

use std::fmt;

use serde_json::Value;

use super::world::{Id, Message, World};

/// A button as a user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Button {
    /// The text on the button.
    pub label: String,
    /// The bot's name for the button; none on a link.
    pub custom_id: Option<String>,
    /// The address of a link.
    pub url: Option<String>,
    /// Whether the button cannot be pressed.
    pub disabled: bool,
    /// 1 primary, 2 secondary, 3 success, 4 danger, 5 link.
    pub style: u64,
}

/// An embed's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Embed {
    /// The heading.
    pub title: String,
    /// The text.
    pub description: String,
    /// The address that the heading links to.
    pub url: Option<String>,
    /// The colour of the edge, as 0xRRGGBB.
    pub color: Option<u64>,
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The small text at the end.
    pub footer: String,
}

/// A message at one moment.
#[derive(Clone, Debug)]
pub struct MessageView {
    /// The message's id.
    pub id: Id,
    /// The channel's id.
    pub channel_id: Id,
    /// The author's name.
    pub author: String,
    /// The author's id.
    pub author_id: Id,
    /// The text, without embeds.
    pub text: String,
    /// The embeds, from top to bottom.
    pub embeds: Vec<Embed>,
    /// The buttons, row by row.
    pub buttons: Vec<Button>,
    /// The names and texts of the files.
    pub files: Vec<(String, String)>,
    /// Whether links in the text have no previews.
    pub suppresses_previews: bool,
    /// "Only you can see this."
    pub ephemeral: bool,
    /// "threadkey is thinking…"
    pub thinking: bool,
    /// Whether the text has changed since it was sent.
    pub edited: bool,
    /// Whether the message is gone.
    pub deleted: bool,
    /// Discord's message type: 0 text, 19 a reply, 20 an answer to a command, others are notices.
    pub kind: u8,
    /// The users whom the message notified.
    pub mentions: Vec<Id>,
    /// Whether the message notified everyone in the channel.
    pub mention_everyone: bool,
    /// The message that this one replies to.
    pub reference: Option<Id>,
    /// Unix milliseconds.
    pub at_ms: i64,
    pub(super) revision: u64,
}

impl MessageView {
    pub(crate) fn of(world: &World, message: &Message) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        Self {
            id: message.id,
            channel_id: message.channel,
            author: world.user_name(message.author),
            author_id: message.author,
            text: message.now.content.clone(),
            embeds: list(&message.now.embeds).iter().map(embed).collect(),
            buttons: list(&message.now.components)
                .iter()
                .flat_map(|row| list(&row["components"]))
                .filter(|part| part["type"].as_u64() == Some(2))
                .map(|part| button(&part))
                .collect(),
            files: message.files.clone(),
            suppresses_previews: message.flags & (1 << 2) != 0,
            ephemeral: message.only.is_some(),
            thinking: message.is_loading(),
            edited: message.edited_ms.is_some(),
            deleted: message.deleted,
            kind: message.kind,
            mentions: message.mentions.clone(),
            mention_everyone: message.mention_everyone,
            reference: message.reference,
            at_ms: message.created_ms,
            revision: message.revision,
        }
    }

    /// Whether this is not one of Discord's own notices ("… added bob to the thread").
    pub fn is_ordinary(&self) -> bool {
        matches!(self.kind, 0 | 19 | 20 | 23)
    }

    /// The text and every word of the embeds.
    pub fn all_text(&self) -> String {
        let mut lines = vec![self.text.clone()];
        for embed in &self.embeds {
            lines.push(embed.title.clone());
            lines.push(embed.description.clone());
            lines.extend(embed.fields.iter().map(|(name, value)| format!("{name}: {value}")));
            lines.push(embed.footer.clone());
        }
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }

    /// The button with this label, if there is one.
    pub fn button(&self, label: &str) -> Option<&Button> {
        self.buttons.iter().find(|button| button.label == label)
    }

    /// Where a link whose words contain `label` leads: a link button, a masked link, an embed's
    /// title.
    pub fn link(&self, label: &str) -> Option<String> {
        let button = self.buttons.iter().find(|b| b.label.contains(label)).and_then(|b| b.url.clone());
        let titled = || self.embeds.iter().find(|e| e.title.contains(label)).and_then(|e| e.url.clone());
        let masked = || {
            masked_links(&self.all_text())
                .into_iter()
                .find(|(words, _)| words.contains(label))
                .map(|(_, url)| url)
        };
        button.or_else(masked).or_else(titled)
    }
}

/// `[words](url)` of a text.
fn masked_links(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (open, _) in text.match_indices('[') {
        if let Some((words, rest)) = text[open + 1..].split_once("](")
            && let Some((url, _)) = rest.split_once(')')
        {
            let url = url.trim_matches(['<', '>']).to_owned();
            found.push((words.to_owned(), url));
        }
    }
    found
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn embed(value: &Value) -> Embed {
    let fields = value["fields"].as_array().cloned().unwrap_or_default();
    Embed {
        title: string(&value["title"]),
        description: string(&value["description"]),
        url: value["url"].as_str().map(str::to_owned),
        color: value["color"].as_u64(),
        fields: fields.iter().map(|f| (string(&f["name"]), string(&f["value"]))).collect(),
        footer: string(&value["footer"]["text"]),
    }
}

fn button(value: &Value) -> Button {
    Button {
        label: string(&value["label"]),
        custom_id: value["custom_id"].as_str().map(str::to_owned),
        url: value["url"].as_str().map(str::to_owned),
        disabled: value["disabled"].as_bool().unwrap_or(false),
        style: value["style"].as_u64().unwrap_or(0),
    }
}

impl fmt::Display for MessageView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}", self.author)?;
        for (shown, word) in [
            (self.ephemeral, " (ephemeral)"),
            (self.thinking, " (thinking)"),
            (self.edited, " (edited)"),
            (self.deleted, " (deleted)"),
        ] {
            if shown {
                f.write_str(word)?;
            }
        }
        write!(f, "> {}", self.all_text())?;
        for button in &self.buttons {
            write!(f, " [{}{}]", button.label, if button.disabled { ", disabled" } else { "" })?;
        }
        Ok(())
    }
}
