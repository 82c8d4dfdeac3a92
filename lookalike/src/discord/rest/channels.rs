//! Channels: GET, PATCH (a thread's name, archive, lock), DELETE of a thread, and opening a DM.

use serde_json::{Value, json};

use super::{Answered, Call, Refusal};
use crate::discord::gateway::intent;
use crate::discord::permission;
use crate::discord::rules;
use crate::discord::world::{Channel, DM, Id, World};

impl World {
    /// A channel that the bot sees.
    pub(super) fn bot_channel(&self, id: Id) -> Result<&Channel, Refusal> {
        let Some(channel) = self.channel(id) else {
            return Err(Refusal::unknown_channel());
        };
        if self.can_see(self.bot(), id) { Ok(channel) } else { Err(Refusal::missing_access()) }
    }

    pub(super) fn get_channel(&mut self, call: &Call) -> Answered {
        Ok((200, self.channel_json(self.bot_channel(call.id(0))?)))
    }

    pub(super) fn edit_channel(&mut self, call: &Call) -> Answered {
        let channel = self.bot_channel(call.id(0))?;
        let id = channel.id;
        if channel.kind == DM {
            return Err(Refusal::new(403, 50003, "Cannot execute action on a DM channel"));
        }
        if !channel.is_thread() {
            return Err(Refusal::invalid("the look-alike edits threads only"));
        }
        self.may_edit_thread(channel, &call.body)?;
        if call.body.get("name").is_some() {
            rules::thread_name(&call.body["name"]).map_err(Refusal::invalid)?;
        }
        let now = self.now_ms();
        let Some(channel) = self.channels.get_mut(&id) else {
            return Err(Refusal::unknown_channel());
        };
        let body = &call.body;
        if let Some(name) = body["name"].as_str() {
            name.clone_into(&mut channel.name);
        }
        if let Some(archived) = body["archived"].as_bool() {
            channel.archived = archived;
            channel.archive_ms = now;
        }
        if let Some(locked) = body["locked"].as_bool() {
            channel.locked = locked;
        }
        if let Some(invitable) = body["invitable"].as_bool() {
            channel.invitable = invitable;
        }
        if let Some(minutes) = body["auto_archive_duration"].as_u64() {
            channel.auto_archive_minutes = minutes;
        }
        self.dispatch_channel("THREAD_UPDATE", id);
        Ok((200, self.channel_json(&self.channels[&id])))
    }

    /// The thread's owner renames and archives; others, and locking, need Manage Threads. Every
    /// user with permission to write can reopen an archived thread, and it permits no other change.
    fn may_edit_thread(&self, channel: &Channel, body: &Value) -> Result<(), Refusal> {
        let bot = self.bot();
        let manages = self.may(bot, channel.id, permission::MANAGE_THREADS);
        let locks = body.get("locked").is_some_and(|value| !value.is_null());
        if channel.archived && body["archived"] != json!(false) {
            return Err(Refusal::new(400, 50083, "Thread is archived"));
        }
        let revives = channel.archived
            && !channel.locked
            && self.may(bot, channel.id, permission::SEND_MESSAGES_IN_THREADS);
        if manages || (!locks && (channel.owner == Some(bot) || revives)) {
            Ok(())
        } else {
            Err(Refusal::missing_permissions())
        }
    }

    pub(super) fn delete_channel(&mut self, call: &Call) -> Answered {
        let channel = self.bot_channel(call.id(0))?;
        let id = channel.id;
        if !channel.is_thread() {
            return Err(Refusal::invalid("the look-alike deletes threads only"));
        }
        if !self.may(self.bot(), id, permission::MANAGE_THREADS) {
            return Err(Refusal::missing_permissions());
        }
        let gone = self.channel_json(channel);
        self.delete_thread(id);
        Ok((200, gone))
    }

    /// Deletes the thread and notifies the bot.
    pub(crate) fn delete_thread(&mut self, id: Id) {
        let Some(channel) = self.channels.get_mut(&id) else {
            return;
        };
        channel.deleted = true;
        let payload = json!({
            "id": id.to_string(),
            "guild_id": channel.guild.map(|id| id.to_string()),
            "parent_id": channel.parent.map(|id| id.to_string()),
            "type": channel.kind,
        });
        self.dispatch("THREAD_DELETE", intent::GUILDS, &payload);
    }

    /// A channel event, where the bot sees the channel.
    pub(crate) fn dispatch_channel(&mut self, event: &str, id: Id) {
        if !self.can_see(self.bot(), id) {
            return;
        }
        let Some(channel) = self.channel(id) else {
            return;
        };
        let mut payload = self.channel_json(channel);
        if event == "THREAD_CREATE" {
            payload["newly_created"] = json!(true);
        }
        self.dispatch(event, intent::GUILDS, &payload);
    }

    pub(super) fn create_dm(&mut self, call: &Call) -> Answered {
        let Some(user) = call.body_id("recipient_id").filter(|id| self.users.contains_key(id)) else {
            return Err(Refusal::invalid("recipient_id: Unknown user"));
        };
        if user == self.bot() {
            return Err(Refusal::new(400, 50007, "Cannot send messages to this user"));
        }
        let id = self.dm(user);
        Ok((200, self.channel_json(&self.channels[&id])))
    }
}
