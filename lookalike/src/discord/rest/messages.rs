//! Messages in channels, threads and DMs: POST, GET, PATCH, DELETE, typing.

use serde_json::{Value, json};

use super::{Answered, Call, Refusal};
use crate::discord::gateway::{intent, typing_json};
use crate::discord::permission;
use crate::discord::rules;
use crate::discord::world::{DM, EPHEMERAL, Id, Message, PRIVATE_THREAD, Version, World};

/// Flags that a bot may set when it posts: suppressed embeds, suppressed notifications.
const POSTABLE: u64 = 1 << 2 | 1 << 12;
/// The bytes of a message's files in a guild without boosts.
const MAX_FILES: usize = 10 * 1024 * 1024;
/// The longest nonce.
const MAX_NONCE: usize = 25;
/// How long a nonce is remembered in milliseconds: "the past few minutes".
const NONCE_LIVES_MS: i64 = 3 * 60 * 1000;

impl World {
    /// The message that results from a body: absent fields stay, null empties a field.
    pub(super) fn draft(body: &Value, before: Option<&Version>) -> Result<Version, Refusal> {
        let pick = |key: &str, old: Option<&Value>| match body.get(key) {
            Some(Value::Null) => json!([]),
            Some(given) => given.clone(),
            None => old.cloned().unwrap_or(json!([])),
        };
        let content = match body.get("content") {
            Some(given) => given.as_str().unwrap_or_default().to_owned(),
            None => before.map_or_else(String::new, |old| old.content.clone()),
        };
        let mut version = Version {
            content,
            embeds: pick("embeds", before.map(|old| &old.embeds)),
            components: pick("components", before.map(|old| &old.components)),
        };
        rules::message(&version.content, &version.embeds, &version.components).map_err(Refusal::invalid)?;
        let nothing = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
        if version.content.trim().is_empty() && nothing(&version.embeds) && nothing(&version.components) {
            return Err(Refusal::new(400, 50006, "Cannot send an empty message"));
        }
        number(&mut version.components, &mut 0);
        for embed in version.embeds.as_array_mut().into_iter().flatten() {
            embed["type"] = json!("rich");
        }
        Ok(version)
    }

    /// The users that a text pings, as `allowed_mentions` lets it, and whether it pings everyone.
    pub(super) fn pings(&self, version: &Version, body: &Value, channel: Id) -> (Vec<Id>, bool) {
        let allowed = &body["allowed_mentions"];
        let parses = |kind: &str| {
            allowed.is_null()
                || allowed["parse"].as_array().is_some_and(|kinds| kinds.iter().any(|k| k == kind))
        };
        let listed = |id: &Id| {
            allowed["users"]
                .as_array()
                .is_some_and(|users| users.iter().any(|user| *user == json!(id.to_string())))
        };
        let users =
            self.mentioned(&version.content).into_iter().filter(|id| parses("users") || listed(id)).collect();
        let everyone = version.content.contains("@everyone") || version.content.contains("@here");
        let may = self.may(self.bot(), channel, permission::MENTION_EVERYONE);
        (users, everyone && may && parses("everyone"))
    }

    /// Whether the bot may post here, as Discord decides it.
    fn may_post(&self, channel: Id) -> Result<(), Refusal> {
        let bot = self.bot();
        let Some(found) = self.channel(channel) else {
            return Err(Refusal::unknown_channel());
        };
        if !self.can_see(bot, channel) {
            return Err(Refusal::missing_access());
        }
        if found.kind == DM {
            let other = found.members.iter().find(|id| **id != bot);
            let open = other.and_then(|id| self.users.get(id)).is_some_and(|user| user.dms_open);
            return if open {
                Ok(())
            } else {
                Err(Refusal::new(403, 50007, "Cannot send messages to this user"))
            };
        }
        let wanted =
            if found.is_thread() { permission::SEND_MESSAGES_IN_THREADS } else { permission::SEND_MESSAGES };
        if !self.may(bot, channel, wanted) {
            return Err(Refusal::missing_permissions());
        }
        if found.kind == PRIVATE_THREAD && !found.members.contains(&bot) {
            return Err(Refusal::missing_access());
        }
        if found.locked && !self.may(bot, channel, permission::MANAGE_THREADS) {
            return Err(if found.archived {
                Refusal::new(400, 50083, "Thread is archived")
            } else {
                Refusal::new(400, 160_005, "Thread is locked")
            });
        }
        Ok(())
    }

    /// Whether the bot may send such a message: embeds and files have permissions of their own.
    fn may_contain(&self, channel: Id, version: &Version, files: &[(String, String)]) -> Result<(), Refusal> {
        let has_embeds = version.embeds.as_array().is_some_and(|embeds| !embeds.is_empty());
        let is_dm = self.channel(channel).is_some_and(|found| found.kind == DM);
        let lacks = |wanted| !is_dm && !self.may(self.bot(), channel, wanted);
        if (has_embeds && lacks(permission::EMBED_LINKS))
            || (!files.is_empty() && lacks(permission::ATTACH_FILES))
        {
            return Err(Refusal::missing_permissions());
        }
        if files.iter().map(|(_, text)| text.len()).sum::<usize>() > MAX_FILES {
            return Err(Refusal::new(413, 40005, "Request entity too large"));
        }
        Ok(())
    }

    pub(super) fn create_message(&mut self, call: &Call) -> Answered {
        let channel = call.id(0);
        self.may_post(channel)?;
        let flags = call.body["flags"].as_u64().unwrap_or(0);
        if flags & EPHEMERAL != 0 {
            return Err(Refusal::invalid("only an interaction's answer can be ephemeral"));
        }
        let version = Self::draft(&call.body, None)?;
        self.may_contain(channel, &version, &call.files)?;
        let enforced = enforced_nonce(&call.body)?;
        if let Some(sent) = enforced.as_ref().and_then(|nonce| self.sent_with(nonce)) {
            // Discord answers with the message that is there, whatever the new text is.
            return if sent.channel == channel {
                Ok((200, self.message_json(sent)))
            } else {
                Err(Refusal::invalid("nonce: that of a message in another channel"))
            };
        }
        let mut message = Message::new(channel, self.bot(), "");
        message.nonce = call.body.get("nonce").filter(|nonce| !nonce.is_null()).cloned();
        message.flags = flags & POSTABLE;
        message.files.clone_from(&call.files);
        message.reference =
            call.body["message_reference"]["message_id"].as_str().and_then(|id| id.parse().ok());
        if let Some(reference) = message.reference {
            let there = self
                .messages
                .get(&reference)
                .is_some_and(|m| m.channel == channel && !m.deleted && m.only.is_none());
            let fail = call.body["message_reference"]["fail_if_not_exists"].as_bool();
            if !there && fail.unwrap_or(true) {
                return Err(Refusal::invalid("message_reference: Unknown message"));
            }
            message.kind = 19;
        }
        (message.mentions, message.mention_everyone) = self.pings(&version, &call.body, channel);
        message.now = version;
        self.revive(channel);
        let id = self.publish(message);
        if let Some(nonce) = enforced {
            let now = self.now_ms();
            self.nonces.insert(nonce, (id, now));
        }
        Ok((200, self.message_json(&self.messages[&id])))
    }

    /// The message that the bot sent with this nonce in the past few minutes.
    fn sent_with(&self, nonce: &str) -> Option<&Message> {
        let (id, at) = self.nonces.get(nonce)?;
        self.messages.get(id).filter(|_| self.now_ms() - at < NONCE_LIVES_MS)
    }

    /// Posting in an archived thread that is not locked brings it back; a mention in a private one
    /// adds the mentioned.
    pub(crate) fn revive(&mut self, channel: Id) {
        let Some(found) = self.channels.get_mut(&channel) else {
            return;
        };
        if found.archived {
            found.archived = false;
            self.dispatch_channel("THREAD_UPDATE", channel);
        }
    }

    /// Stores a message and sends it to the bot.
    pub(crate) fn publish(&mut self, message: Message) -> Id {
        let channel = message.channel;
        let mentioned = message.mentions.clone();
        let id = self.add_message(message);
        let private = self.channel(channel).is_some_and(|c| c.kind == PRIVATE_THREAD);
        if private {
            for user in mentioned {
                self.add_to_thread(channel, user);
            }
        }
        let message = self.messages[&id].clone();
        self.dispatch_message("MESSAGE_CREATE", &message);
        id
    }

    /// A message of this channel that REST can reach: never an ephemeral one.
    fn reachable(&self, call: &Call) -> Result<&Message, Refusal> {
        let (channel, id) = (call.id(0), call.id(1));
        if self.channel(channel).is_none() {
            return Err(Refusal::unknown_channel());
        }
        if !self.can_see(self.bot(), channel) {
            return Err(Refusal::missing_access());
        }
        self.messages
            .get(&id)
            .filter(|m| m.channel == channel && !m.deleted && m.only.is_none())
            .ok_or_else(Refusal::unknown_message)
    }

    pub(super) fn get_message(&mut self, call: &Call) -> Answered {
        let message = self.reachable(call)?;
        self.may_read(call.id(0))?;
        Ok((200, self.message_json(message)))
    }

    fn may_read(&self, channel: Id) -> Result<(), Refusal> {
        if self.may(self.bot(), channel, permission::READ_MESSAGE_HISTORY) {
            Ok(())
        } else {
            Err(Refusal::missing_permissions())
        }
    }

    pub(super) fn get_messages(&mut self, call: &Call) -> Answered {
        let channel = call.id(0);
        if self.channel(channel).is_none() {
            return Err(Refusal::unknown_channel());
        }
        if !self.can_see(self.bot(), channel) {
            return Err(Refusal::missing_access());
        }
        self.may_read(channel)?;
        let number = |name: &str| call.query(name).and_then(|text| text.parse::<u64>().ok());
        let limit = usize::try_from(number("limit").unwrap_or(50)).unwrap_or(50).min(100);
        let (before, after) = (number("before"), number("after"));
        let fitting = self.messages.values().filter(|m| {
            m.channel == channel
                && !m.deleted
                && m.only.is_none()
                && before.is_none_or(|id| m.id < id)
                && after.is_none_or(|id| m.id > id)
        });
        let mut listed: Vec<&Message> =
            if after.is_some() { fitting.take(limit).collect() } else { fitting.rev().take(limit).collect() };
        listed.sort_by_key(|message| std::cmp::Reverse(message.id));
        Ok((200, listed.into_iter().map(|m| self.message_json(m)).collect()))
    }

    pub(super) fn edit_message(&mut self, call: &Call) -> Answered {
        let message = self.reachable(call)?;
        if message.author != self.bot() {
            return Err(Refusal::new(403, 50005, "Cannot edit a message authored by another user"));
        }
        let id = message.id;
        let archived = self.channel(message.channel).is_some_and(|c| c.archived);
        if archived {
            return Err(Refusal::new(400, 50083, "Thread is archived"));
        }
        let version = Self::draft(&call.body, Some(&message.now))?;
        self.may_contain(message.channel, &version, &[])?;
        Ok((200, self.rewrite(id, version, &call.body)))
    }

    /// Replaces a message by a new version and sends it to the bot.
    pub(super) fn rewrite(&mut self, id: Id, version: Version, body: &Value) -> Value {
        let now = self.now_ms();
        let Some(channel) = self.messages.get(&id).map(|message| message.channel) else {
            return Value::Null;
        };
        let pings = self.pings(&version, body, channel);
        let Some(message) = self.messages.get_mut(&id) else {
            return Value::Null;
        };
        // Filling in "thinking" pings, an edit never does.
        let first = message.is_loading();
        if first {
            (message.mentions, message.mention_everyone) = pings;
        }
        message.say(version, now);
        let message = message.clone();
        let event = if first { "MESSAGE_CREATE" } else { "MESSAGE_UPDATE" };
        self.dispatch_message(event, &message);
        self.message_json(&message)
    }

    pub(super) fn delete_message(&mut self, call: &Call) -> Answered {
        let message = self.reachable(call)?;
        let (id, own) = (message.id, message.author == self.bot());
        if !own && !self.may(self.bot(), call.id(0), permission::MANAGE_MESSAGES) {
            return Err(Refusal::missing_permissions());
        }
        self.remove(id);
        Ok((204, Value::Null))
    }

    pub(crate) fn remove(&mut self, id: Id) {
        let Some(message) = self.messages.get_mut(&id) else {
            return;
        };
        message.deleted = true;
        message.revision += 1;
        let channel = message.channel;
        if message.only.is_some() {
            return;
        }
        let guild = self.channel(channel).and_then(|found| found.guild);
        let mut payload = json!({"id": id.to_string(), "channel_id": channel.to_string()});
        if let Some(guild) = guild {
            payload["guild_id"] = json!(guild.to_string());
        }
        let wanted = if guild.is_some() { intent::GUILD_MESSAGES } else { intent::DIRECT_MESSAGES };
        self.dispatch("MESSAGE_DELETE", wanted, &payload);
    }

    pub(super) fn typing(&mut self, call: &Call) -> Answered {
        let channel = call.id(0);
        self.may_post(channel)?;
        let (bot, until) = (self.bot(), self.now_ms() + 10_000);
        if let Some(found) = self.channels.get_mut(&channel) {
            found.typing.insert(bot, until);
        }
        let wanted = match self.channel(channel).and_then(|found| found.guild) {
            Some(_) => intent::GUILD_MESSAGE_TYPING,
            None => intent::DIRECT_MESSAGE_TYPING,
        };
        let payload = typing_json(self, channel, bot);
        self.dispatch("TYPING_START", wanted, &payload);
        Ok((204, Value::Null))
    }
}

/// The nonce of a body that asks for it to be enforced. Discord takes a number or a short text.
fn enforced_nonce(body: &Value) -> Result<Option<String>, Refusal> {
    let nonce = match &body["nonce"] {
        Value::Null => None,
        Value::String(text) if text.len() <= MAX_NONCE => Some(text.clone()),
        Value::Number(number) if number.is_i64() => Some(number.to_string()),
        _ => return Err(Refusal::invalid("nonce: a number or at most 25 characters")),
    };
    match (body["enforce_nonce"].as_bool().unwrap_or(false), nonce) {
        (true, None) => Err(Refusal::invalid("enforce_nonce without a nonce")),
        (true, nonce) => Ok(nonce),
        (false, _) => Ok(None),
    }
}

/// Discord numbers the components of a message that come without an `id`.
fn number(components: &mut Value, last: &mut u64) {
    for component in components.as_array_mut().into_iter().flatten() {
        *last += 1;
        if component["id"].is_null() {
            component["id"] = json!(*last);
        }
        number(&mut component["components"], last);
    }
}
