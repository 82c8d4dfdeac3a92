//! Everything that one user sees, in the form that the page draws.

use serde_json::{Value, json};

use crate::discord::people::Person;
use crate::discord::views::{Button, Embed, MessageView};
use crate::discord::world::{self, Channel, DM, World};

/// The newest messages of a channel that the page gets.
const MESSAGES: usize = 100;

impl Person {
    /// Guilds, channels, threads, messages and commands that this user sees now.
    pub(super) fn picture(&self) -> Value {
        let world = self.discord.world();
        let channels: Vec<Value> = world
            .channels
            .values()
            .filter(|channel| world.can_see(self.id, channel.id))
            .map(|channel| self.channel(&world, channel))
            .collect();
        let guilds = world.guilds.values().filter(|guild| guild.members.contains_key(&self.id));
        let users = world.users.values();
        json!({
            "me": self.id.to_string(),
            "bot": world.bot().to_string(),
            "connected": world.gateway.is_connected(),
            "now_ms": world.now_ms(),
            "users": users.map(|user| json!({
                "id": user.id.to_string(), "name": user.name, "bot": user.bot,
            })).collect::<Vec<_>>(),
            "guilds": guilds.map(|guild| json!({
                "id": guild.id.to_string(), "name": guild.name,
            })).collect::<Vec<_>>(),
            "channels": channels,
        })
    }

    fn channel(&self, world: &World, channel: &Channel) -> Value {
        let mut messages: Vec<Value> = world
            .visible(self.id, channel.id)
            .into_iter()
            .rev()
            .take(MESSAGES)
            .map(|message| MessageView::of(world, message))
            .map(|view| message(&view))
            .collect();
        messages.reverse();
        let now = world.now_ms();
        let typing = channel.typing.iter().filter(|(who, until)| **who != self.id && **until > now);
        let commands = world.commands_in(self.id, channel.id);
        json!({
            "id": channel.id.to_string(),
            "kind": match channel.kind {
                DM => "dm",
                world::PUBLIC_THREAD => "thread",
                world::PRIVATE_THREAD => "private_thread",
                _ => "text",
            },
            "name": if channel.kind == DM { world.options.bot_name.clone() } else { channel.name.clone() },
            "guild": channel.guild.map(|id| id.to_string()),
            "parent": channel.parent.map(|id| id.to_string()),
            "archived": channel.archived,
            "members": channel.members.iter().map(|id| world.user_name(*id)).collect::<Vec<_>>(),
            "typing": typing.map(|(who, until)| json!({
                "name": world.user_name(*who), "for_ms": until - now,
            })).collect::<Vec<_>>(),
            "commands": commands.iter().flat_map(|command| usable(command, "")).collect::<Vec<_>>(),
            "messages": messages,
        })
    }
}

/// A command's forms: each subcommand is one.
fn usable(command: &Value, before: &str) -> Vec<Value> {
    let name = command["name"].as_str().unwrap_or_default();
    let path = if before.is_empty() { name.to_owned() } else { format!("{before} {name}") };
    let options = command["options"].as_array().cloned().unwrap_or_default();
    let nested = |option: &Value| matches!(option["type"].as_u64(), Some(1 | 2));
    if options.iter().any(nested) {
        return options.iter().flat_map(|option| usable(option, &path)).collect();
    }
    let options: Vec<Value> = options
        .iter()
        .map(|option| {
            json!({
                "name": option["name"],
                "description": option["description"],
                "required": option["required"].as_bool().unwrap_or(false),
                "autocomplete": option["autocomplete"].as_bool().unwrap_or(false),
                "boolean": option["type"] == 5,
                "choices": option["choices"].as_array().cloned().unwrap_or_default(),
            })
        })
        .collect();
    vec![json!({"path": path, "description": command["description"], "options": options})]
}

fn message(view: &MessageView) -> Value {
    json!({
        "id": view.id.to_string(),
        "author": view.author_id.to_string(),
        "name": view.author,
        "text": view.text,
        "embeds": view.embeds.iter().map(embed).collect::<Vec<_>>(),
        "buttons": view.buttons.iter().map(button).collect::<Vec<_>>(),
        "ephemeral": view.ephemeral,
        "thinking": view.thinking,
        "edited": view.edited,
        "kind": view.kind,
        "mentions": view.mentions.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "reference": view.reference.map(|id| id.to_string()),
        "at_ms": view.at_ms,
    })
}

fn embed(embed: &Embed) -> Value {
    json!({
        "title": embed.title,
        "url": embed.url,
        "description": embed.description,
        "color": embed.color,
        "fields": embed.fields,
        "footer": embed.footer,
    })
}

fn button(button: &Button) -> Value {
    json!({
        "label": button.label,
        "custom_id": button.custom_id,
        "url": button.url,
        "disabled": button.disabled,
        "style": button.style,
    })
}
