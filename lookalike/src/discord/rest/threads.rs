//! Threads: creating, joining, adding and removing members.

use serde_json::{Value, json};

use super::{Answered, Call, Refusal};
use crate::discord::gateway::intent;
use crate::discord::permission;
use crate::discord::rules;
use crate::discord::world::{Channel, GUILD_TEXT, Id, Message, PRIVATE_THREAD, PUBLIC_THREAD, World};

/// System message types.
const RECIPIENT_ADD: u8 = 1;
const RECIPIENT_REMOVE: u8 = 2;
const THREAD_CREATED: u8 = 18;

impl World {
    pub(super) fn create_thread(&mut self, call: &Call) -> Answered {
        let kind = match call.body["type"].as_u64() {
            // API v10 still makes a private thread where no type is given.
            None | Some(12) => PRIVATE_THREAD,
            Some(11) => PUBLIC_THREAD,
            Some(other) => return Err(Refusal::invalid(format!("thread type {other}"))),
        };
        let id = self.next_id();
        self.open_thread(call, id, kind)?;
        if kind == PUBLIC_THREAD {
            let name = self.channels[&id].name.clone();
            let mut notice = Message::new(call.id(0), self.bot(), name);
            notice.kind = THREAD_CREATED;
            self.publish(notice);
        }
        Ok((201, self.channel_json(&self.channels[&id])))
    }

    pub(super) fn create_thread_from_message(&mut self, call: &Call) -> Answered {
        let (channel, message) = (call.id(0), call.id(1));
        self.bot_channel(channel)?;
        let there = self
            .messages
            .get(&message)
            .is_some_and(|m| m.channel == channel && !m.deleted && m.only.is_none());
        if !there {
            return Err(Refusal::unknown_message());
        }
        if self.channels.contains_key(&message) {
            return Err(Refusal::new(400, 160_004, "A thread has already been created for this message"));
        }
        self.open_thread(call, message, PUBLIC_THREAD)?;
        Ok((201, self.channel_json(&self.channels[&message])))
    }

    fn open_thread(&mut self, call: &Call, id: Id, kind: u8) -> Result<(), Refusal> {
        let bot = self.bot();
        let parent = self.bot_channel(call.id(0))?;
        if parent.kind != GUILD_TEXT {
            return Err(Refusal::new(400, 50024, "Cannot execute action on this channel type"));
        }
        let wanted = match kind {
            PRIVATE_THREAD => permission::CREATE_PRIVATE_THREADS,
            _ => permission::CREATE_PUBLIC_THREADS,
        };
        let (parent, guild) = (parent.id, parent.guild);
        if !self.may(bot, parent, wanted) {
            return Err(Refusal::missing_permissions());
        }
        let active =
            self.channels.values().filter(|one| one.guild == guild && one.is_thread() && !one.archived);
        if active.count() >= self.options.max_active_threads {
            return Err(Refusal::new(400, 160_006, "Maximum number of active threads reached"));
        }
        rules::thread_name(&call.body["name"]).map_err(Refusal::invalid)?;
        let name = call.body["name"].as_str().unwrap_or_default().to_owned();
        let mut thread = Channel::new(id, kind, name, self.now_ms());
        thread.guild = guild;
        thread.parent = Some(parent);
        thread.owner = Some(bot);
        thread.members.insert(bot);
        thread.invitable = call.body["invitable"].as_bool().unwrap_or(true);
        thread.auto_archive_minutes =
            call.body["auto_archive_duration"].as_u64().unwrap_or(thread.auto_archive_minutes);
        self.channels.insert(id, thread);
        self.dispatch_channel("THREAD_CREATE", id);
        Ok(())
    }

    fn thread(&self, id: Id) -> Result<&Channel, Refusal> {
        let channel = self.bot_channel(id)?;
        if channel.is_thread() {
            Ok(channel)
        } else {
            Err(Refusal::new(400, 50024, "Cannot execute action on this channel type"))
        }
    }

    pub(super) fn thread_members(&mut self, call: &Call) -> Answered {
        let thread = self.thread(call.id(0))?;
        let listed = thread.members.iter().map(|id| self.thread_member_json(thread, *id)).collect();
        Ok((200, listed))
    }

    pub(super) fn join_thread(&mut self, call: &Call) -> Answered {
        let id = self.thread(call.id(0))?.id;
        let bot = self.bot();
        self.add_to_thread(id, bot);
        Ok((204, Value::Null))
    }

    pub(super) fn leave_thread(&mut self, call: &Call) -> Answered {
        let id = self.thread(call.id(0))?.id;
        let bot = self.bot();
        self.remove_from_thread(id, bot);
        Ok((204, Value::Null))
    }

    pub(super) fn add_thread_member(&mut self, call: &Call) -> Answered {
        let thread = self.thread(call.id(0))?;
        let (id, user) = (thread.id, call.id(1));
        if thread.archived {
            return Err(Refusal::new(400, 50083, "Thread is archived"));
        }
        let bot = self.bot();
        if !thread.members.contains(&bot) && !self.may(bot, id, permission::MANAGE_THREADS) {
            return Err(Refusal::missing_access());
        }
        if !self.may(bot, id, permission::SEND_MESSAGES_IN_THREADS) {
            return Err(Refusal::missing_permissions());
        }
        let guild = thread.guild.and_then(|guild| self.guilds.get(&guild));
        if !guild.is_some_and(|guild| guild.members.contains_key(&user)) {
            return Err(Refusal::new(404, 10007, "Unknown Member"));
        }
        self.add_to_thread(id, user);
        Ok((204, Value::Null))
    }

    pub(super) fn remove_thread_member(&mut self, call: &Call) -> Answered {
        let thread = self.thread(call.id(0))?;
        let (id, user, bot) = (thread.id, call.id(1), self.bot());
        let owns = thread.kind == PRIVATE_THREAD && thread.owner == Some(bot);
        if !owns && !self.may(bot, id, permission::MANAGE_THREADS) {
            return Err(Refusal::missing_permissions());
        }
        self.remove_from_thread(id, user);
        Ok((204, Value::Null))
    }

    /// Adds a guild's member to a thread, with the notice that Discord posts in it.
    pub(crate) fn add_to_thread(&mut self, thread: Id, user: Id) {
        let guild = self.channel(thread).and_then(|channel| channel.guild);
        let belongs =
            guild.and_then(|id| self.guilds.get(&id)).is_some_and(|guild| guild.members.contains_key(&user));
        let Some(channel) = self.channels.get_mut(&thread).filter(|_| belongs) else {
            return;
        };
        if channel.members.insert(user) {
            self.members_changed(thread, Some(user), None);
            self.notice(thread, RECIPIENT_ADD, user);
        }
    }

    /// Removes a user from a thread.
    pub(crate) fn remove_from_thread(&mut self, thread: Id, user: Id) {
        let Some(channel) = self.channels.get_mut(&thread) else {
            return;
        };
        if channel.members.remove(&user) {
            self.members_changed(thread, None, Some(user));
            self.notice(thread, RECIPIENT_REMOVE, user);
        }
    }

    fn notice(&mut self, thread: Id, kind: u8, user: Id) {
        let bot = self.bot();
        if user == bot {
            return;
        }
        let mut notice = Message::new(thread, bot, "");
        notice.kind = kind;
        let id = self.add_message(notice);
        if let Some(notice) = self.messages.get_mut(&id) {
            notice.mentions = vec![user];
            let notice = notice.clone();
            self.dispatch_message("MESSAGE_CREATE", &notice);
        }
    }

    fn members_changed(&mut self, thread: Id, added: Option<Id>, removed: Option<Id>) {
        let Some(channel) = self.channel(thread) else {
            return;
        };
        let added: Vec<Value> = added.map(|id| self.thread_member_json(channel, id)).into_iter().collect();
        let payload = json!({
            "id": thread.to_string(),
            "guild_id": channel.guild.map(|id| id.to_string()),
            "member_count": channel.members.len(),
            "added_members": added,
            "removed_member_ids": removed.map(|id| id.to_string()).into_iter().collect::<Vec<_>>(),
        });
        // With GUILDS alone a bot receives only its own membership events.
        let bot = payload_is_about(&payload, self.bot());
        let wanted = if bot { intent::GUILDS } else { intent::GUILD_MEMBERS };
        self.dispatch("THREAD_MEMBERS_UPDATE", wanted, &payload);
    }
}

fn payload_is_about(payload: &Value, user: Id) -> bool {
    let id = json!(user.to_string());
    payload["added_members"][0]["user_id"] == id || payload["removed_member_ids"][0] == id
}
