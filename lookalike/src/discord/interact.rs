//! Interactions as Discord's client makes them and the gateway delivers them.

use serde_json::{Value, json};

use super::Discord;
use super::rest::interactions::{ACKNOWLEDGE_MS, AUTOCOMPLETE, COMMAND, COMPONENT, MODAL_SUBMIT};
use super::world::{Id, Interaction, World};

/// An action of a user that creates an interaction.
#[derive(Clone, Debug)]
pub struct Act {
    pub kind: u8,
    pub user: Id,
    pub channel: Id,
    pub data: Value,
    /// The message whose button was pressed, also for the modal that this opened.
    pub source: Option<Id>,
    pub label: String,
}

impl Act {
    pub fn command(user: Id, channel: Id, data: Value, label: String) -> Self {
        Self { kind: COMMAND, user, channel, data, source: None, label }
    }

    pub fn autocomplete(user: Id, channel: Id, data: Value, label: String) -> Self {
        Self { kind: AUTOCOMPLETE, user, channel, data, source: None, label }
    }

    /// A button pressed on a message.
    pub fn button(user: Id, channel: Id, message: Id, custom_id: &str, label: String) -> Self {
        let data = json!({"custom_id": custom_id, "component_type": 2, "id": 2});
        Self { kind: COMPONENT, user, channel, data, source: Some(message), label }
    }

    /// A modal sent off: custom_ids and values.
    pub fn modal(
        user: Id,
        channel: Id,
        source: Option<Id>,
        custom_id: &str,
        values: &[(String, String)],
        label: String,
    ) -> Self {
        let rows: Vec<Value> = values
            .iter()
            .map(|(id, value)| {
                json!({"type": 1, "components": [{"type": 4, "custom_id": id, "value": value}]})
            })
            .collect();
        let data = json!({"custom_id": custom_id, "components": rows});
        Self { kind: MODAL_SUBMIT, user, channel, data, source, label }
    }
}

impl Discord {
    /// Delivers an interaction, and gives it up if the bot does not acknowledge it in time.
    pub fn interact(&self, act: Act) -> Id {
        let (id, deadline) = self.change(|world| {
            let id = world.interact(act);
            (id, world.now_ms() + ACKNOWLEDGE_MS)
        });
        let discord = self.clone();
        tokio::spawn(async move {
            let mut changes = discord.changes();
            loop {
                changes.borrow_and_update();
                let open = |world: &World| world.interactions.get(&id).is_some_and(|i| i.answered.is_none());
                if !open(&discord.world()) {
                    return;
                }
                let left = u64::try_from(deadline - discord.now_ms()).unwrap_or(0);
                if left == 0 {
                    return discord.change(|world| world.give_up(id));
                }
                let left = std::time::Duration::from_millis(left);
                // Either the time has passed or something changed. The loop checks both.
                let _ = tokio::time::timeout(left, changes.changed()).await;
            }
        });
        id
    }
}

impl World {
    fn interact(&mut self, act: Act) -> Id {
        let id = self.next_id();
        let token = self.secret("interaction");
        let payload = self.interaction_json(id, &token, &act);
        self.interactions.insert(
            id,
            Interaction {
                id,
                token,
                kind: act.kind,
                user: act.user,
                channel: act.channel,
                dispatched_ms: self.now_ms(),
                answered: None,
                failed: false,
                original: None,
                source: act.source,
                followups: Vec::new(),
                modal: None,
                choices: None,
                label: act.label,
            },
        );
        self.dispatch("INTERACTION_CREATE", 0, &payload);
        id
    }

    fn interaction_json(&self, id: Id, token: &str, act: &Act) -> Value {
        let bot = self.bot();
        let channel = self.channels.get(&act.channel);
        let guild = channel.and_then(|c| c.guild).and_then(|id| self.guilds.get(&id));
        let bot_here = guild.is_some_and(|guild| guild.members.contains_key(&bot));
        let mut owners = json!({});
        if bot_here || guild.is_none() {
            owners["0"] = json!(guild.map_or("0".to_owned(), |guild| guild.id.to_string()));
        }
        if self.users.get(&act.user).is_some_and(|user| user.installed) {
            owners["1"] = json!(act.user.to_string());
        }
        let mut value = json!({
            "id": id.to_string(),
            "application_id": self.options.application_id.to_string(),
            "type": act.kind,
            "token": token,
            "version": 1,
            "data": act.data,
            "channel_id": act.channel.to_string(),
            "channel": channel.map(|c| self.partial_channel_json(c, act.user)),
            "app_permissions": self.permissions(bot, act.channel).to_string(),
            "locale": "en-US",
            "entitlements": [],
            "authorizing_integration_owners": owners,
            "context": if guild.is_some() { 0 } else { 1 },
            "attachment_size_limit": 10_485_760,
        });
        match guild {
            Some(guild) => {
                let mut member = self.member_json(guild, act.user, true);
                member["permissions"] = json!(self.permissions(act.user, act.channel).to_string());
                value["member"] = member;
                value["guild_id"] = json!(guild.id.to_string());
                value["guild_locale"] = json!("en-US");
                value["guild"] = json!({"id": guild.id.to_string(), "locale": "en-US", "features": []});
            }
            None => value["user"] = self.user_json(act.user),
        }
        if let Some(source) = act.source.and_then(|id| self.messages.get(&id)) {
            value["message"] = self.message_json(source);
        }
        value
    }
}
