//! Guilds, their members and roles, users, and the registered commands.

use serde_json::{Value, json};

use super::{Answered, Call, Refusal};
use crate::discord::routes::Route;
use crate::discord::rules;
use crate::discord::wire;
use crate::discord::world::{Guild, Id, World};

impl World {
    /// A guild that the bot is in; anything else is hidden from it.
    fn bot_guild(&self, id: Id) -> Result<&Guild, Refusal> {
        let Some(guild) = self.guilds.get(&id) else {
            return Err(Refusal::new(404, 10004, "Unknown Guild"));
        };
        if guild.members.contains_key(&self.bot()) { Ok(guild) } else { Err(Refusal::missing_access()) }
    }

    pub(super) fn get_user(&mut self, call: &Call) -> Answered {
        let user = self.users.get(&call.id(0));
        user.map(|user| (200, wire::user(user))).ok_or_else(|| Refusal::new(404, 10013, "Unknown User"))
    }

    pub(super) fn get_guild(&mut self, call: &Call) -> Answered {
        Ok((200, self.guild_json(self.bot_guild(call.id(0))?)))
    }

    pub(super) fn guild_channels(&mut self, call: &Call) -> Answered {
        let guild = self.bot_guild(call.id(0))?.id;
        let listed: Vec<Value> = self
            .channels
            .values()
            .filter(|c| c.guild == Some(guild) && !c.deleted && !c.is_thread())
            .map(|c| self.channel_json(c))
            .collect();
        Ok((200, json!(listed)))
    }

    pub(super) fn guild_roles(&mut self, call: &Call) -> Answered {
        let guild = self.bot_guild(call.id(0))?;
        Ok((200, guild.roles.iter().enumerate().map(wire::role).collect()))
    }

    pub(super) fn guild_member(&mut self, call: &Call) -> Answered {
        let guild = self.bot_guild(call.id(0))?;
        let user = if call.matched.text(1) == "@me" { self.bot() } else { call.id(1) };
        if guild.members.contains_key(&user) {
            Ok((200, self.member_json(guild, user, true)))
        } else {
            // A bot may ask about a user outside the guild: this is an answer, not a violation.
            Ok((404, json!({"message": "Unknown Member", "code": 10007})))
        }
    }

    pub(super) fn active_threads(&mut self, call: &Call) -> Answered {
        let guild = self.bot_guild(call.id(0))?.id;
        let bot = self.bot();
        let threads: Vec<_> = self
            .channels
            .values()
            .filter(|c| c.guild == Some(guild) && c.is_thread() && !c.archived && !c.deleted)
            .filter(|c| self.can_see(bot, c.id))
            .collect();
        let joined = threads.iter().filter(|c| c.members.contains(&bot));
        let members: Vec<Value> = joined.map(|c| self.thread_member_json(c, bot)).collect();
        let threads: Vec<Value> = threads.iter().map(|c| self.channel_json(c)).collect();
        Ok((200, json!({"threads": threads, "members": members, "has_more": false})))
    }

    pub(super) fn get_commands(&mut self, call: &Call) -> Answered {
        self.own_application(call.id(0))?;
        let listed = match call.matched.route {
            Route::GuildCommands => {
                self.guild_commands.get(&self.bot_guild(call.id(1))?.id).cloned().unwrap_or_default()
            }
            _ => self.global_commands.clone(),
        };
        Ok((200, json!(listed)))
    }

    pub(super) fn put_commands(&mut self, call: &Call) -> Answered {
        self.own_application(call.id(0))?;
        let guild = match call.matched.route {
            Route::PutGuildCommands => Some(self.bot_guild(call.id(1))?.id),
            _ => None,
        };
        let given = call.body.as_array().cloned().unwrap_or_default();
        rules::commands(&given).map_err(Refusal::invalid)?;
        let before = match guild {
            Some(guild) => self.guild_commands.get(&guild).cloned().unwrap_or_default(),
            None => self.global_commands.clone(),
        };
        let kept: Vec<Value> =
            given.into_iter().map(|command| self.register(command, &before, guild)).collect();
        match guild {
            Some(guild) => {
                self.guild_commands.insert(guild, kept.clone());
            }
            None => self.global_commands = kept.clone(),
        }
        Ok((200, json!(kept)))
    }

    /// A command as Discord stores it: a command of the same name keeps its id.
    fn register(&mut self, mut command: Value, before: &[Value], guild: Option<Id>) -> Value {
        let same = before
            .iter()
            .find(|old| old["name"] == command["name"])
            .and_then(|old| old["id"].as_str().map(str::to_owned));
        command["id"] = json!(same.unwrap_or_else(|| self.next_id().to_string()));
        command["version"] = json!(self.next_id().to_string());
        command["application_id"] = json!(self.options.application_id.to_string());
        if let Some(guild) = guild {
            command["guild_id"] = json!(guild.to_string());
        }
        for (key, value) in [
            ("type", json!(1)),
            ("description", json!("")),
            ("default_member_permissions", Value::Null),
            ("nsfw", json!(false)),
        ] {
            if command[key].is_null() {
                command[key] = value;
            }
        }
        command
    }

    fn own_application(&self, id: Id) -> Result<(), Refusal> {
        if id == self.options.application_id {
            Ok(())
        } else {
            Err(Refusal::new(403, 20012, "You are not authorized to perform this action on this application"))
        }
    }
}
