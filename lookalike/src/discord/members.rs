//! Changes of memberships, roles and ownership, with the events that Discord sends for them.

use serde_json::json;

use super::Discord;
use super::gateway::intent;
use super::people::Person;
use super::places::{Channel, Guild};
use super::wire;
use super::world::{Id, Overwrite, Ownership, Role, World};

impl Discord {
    /// Makes a user the owner of the application.
    pub fn owned_by(&self, person: &Person) {
        self.change(|world| world.ownership = Ownership::User(person.id));
    }

    /// Makes a team the owner of the application. Each member has accepted the invitation, or not.
    pub fn owned_by_team(&self, name: &str, members: &[(&Person, bool)]) {
        let members = members.iter().map(|(person, accepted)| (person.id, *accepted)).collect();
        self.change(|world| world.ownership = Ownership::Team(name.into(), members));
    }
}

impl Guild {
    /// Adds a member.
    pub fn join(&self, person: &Person) {
        self.discord.change(|world| {
            let Some(guild) = world.guilds.get_mut(&self.id) else { return };
            if guild.members.contains_key(&person.id) {
                return;
            }
            guild.members.insert(person.id, Vec::new());
            world.dispatch_member("GUILD_MEMBER_ADD", self.id, person.id);
        });
    }

    /// Removes a member, from threads too.
    pub fn leave(&self, person: &Person) {
        self.discord.change(|world| world.remove_member(self.id, person.id));
    }

    /// Bans a user. A member is removed.
    pub fn ban(&self, person: &Person) {
        self.discord.change(|world| {
            world.remove_member(self.id, person.id);
            let event = json!({"guild_id": self.id.to_string(), "user": world.user_json(person.id)});
            world.dispatch_where_bot_is("GUILD_BAN_ADD", self.id, intent::GUILD_MODERATION, &event);
        });
    }

    /// Makes a user the owner of the guild, and a member.
    pub fn owned_by(&self, person: &Person) {
        self.join(person);
        self.discord.change(|world| {
            if let Some(guild) = world.guilds.get_mut(&self.id) {
                guild.owner = person.id;
                let event = guild.clone();
                let event = world.guild_json(&event);
                world.dispatch_where_bot_is("GUILD_UPDATE", self.id, intent::GUILDS, &event);
            }
        });
    }

    /// Removes the bot from the guild.
    pub fn remove_bot(&self) {
        self.discord.change(|world| {
            let event = json!({"id": self.id.to_string()});
            world.dispatch_where_bot_is("GUILD_DELETE", self.id, intent::GUILDS, &event);
            let bot = world.bot();
            if let Some(guild) = world.guilds.get_mut(&self.id) {
                guild.members.remove(&bot);
            }
        });
    }

    /// Announces that Discord cannot serve this guild at the moment.
    pub fn becomes_unavailable(&self) {
        self.discord.change(|world| {
            let event = json!({"id": self.id.to_string(), "unavailable": true});
            world.dispatch_where_bot_is("GUILD_DELETE", self.id, intent::GUILDS, &event);
        });
    }

    /// A role with these permissions, which no member has yet. Returns its id.
    pub fn role(&self, name: &str, permissions: u64) -> Id {
        self.discord.change(|world| {
            let id = world.next_id();
            let role = Role { id, name: name.into(), permissions };
            let event = json!({"guild_id": self.id.to_string(), "role": wire::role((1, &role))});
            if let Some(guild) = world.guilds.get_mut(&self.id) {
                guild.roles.push(role);
            }
            world.dispatch_where_bot_is("GUILD_ROLE_CREATE", self.id, intent::GUILDS, &event);
            id
        })
    }

    /// Replaces the permissions of a role.
    pub fn change_role(&self, id: Id, permissions: u64) {
        self.discord.change(|world| {
            let Some(guild) = world.guilds.get_mut(&self.id) else { return };
            let Some(role) = guild.roles.iter_mut().find(|role| role.id == id) else { return };
            role.permissions = permissions;
            let event = json!({"guild_id": self.id.to_string(), "role": wire::role((1, role))});
            world.dispatch_where_bot_is("GUILD_ROLE_UPDATE", self.id, intent::GUILDS, &event);
        });
    }

    /// Deletes a role; its members lose it.
    pub fn delete_role(&self, id: Id) {
        self.discord.change(|world| {
            if let Some(guild) = world.guilds.get_mut(&self.id) {
                guild.roles.retain(|role| role.id != id);
                guild.members.values_mut().for_each(|held| held.retain(|role| *role != id));
            }
            let event = json!({"guild_id": self.id.to_string(), "role_id": id.to_string()});
            world.dispatch_where_bot_is("GUILD_ROLE_DELETE", self.id, intent::GUILDS, &event);
        });
    }

    /// Gives a role to a member.
    pub fn give(&self, person: &Person, role: Id) {
        self.discord.change(|world| {
            if let Some(guild) = world.guilds.get_mut(&self.id) {
                guild.members.entry(person.id).or_default().push(role);
            }
            world.dispatch_member("GUILD_MEMBER_UPDATE", self.id, person.id);
        });
    }

    /// Takes all roles from a member.
    pub(super) fn take_roles(&self, person: &Person) {
        self.discord.change(|world| {
            let roles = world.guilds.get_mut(&self.id).and_then(|guild| guild.members.get_mut(&person.id));
            roles.expect("a member").clear();
            world.dispatch_member("GUILD_MEMBER_UPDATE", self.id, person.id);
        });
    }
}

impl Channel {
    /// Adds an overwrite, and announces the change.
    pub(super) fn overwrite(&self, overwrite: Overwrite) {
        self.discord.change(|world| {
            if let Some(channel) = world.channels.get_mut(&self.id) {
                channel.overwrites.push(overwrite);
            }
            world.dispatch_channel("CHANNEL_UPDATE", self.id);
        });
    }

    /// Removes the overwrites of a role or a member, and announces the change.
    pub fn forget_overwrites_of(&self, target: Id) {
        self.discord.change(|world| {
            if let Some(channel) = world.channels.get_mut(&self.id) {
                channel.overwrites.retain(|rule| rule.target != target);
            }
            world.dispatch_channel("CHANNEL_UPDATE", self.id);
        });
    }
}

impl World {
    fn remove_member(&mut self, guild: Id, user: Id) {
        let was_member =
            self.guilds.get_mut(&guild).is_some_and(|guild| guild.members.remove(&user).is_some());
        for channel in self.channels.values_mut().filter(|c| c.guild == Some(guild)) {
            channel.members.remove(&user);
        }
        if was_member {
            let event = json!({"guild_id": guild.to_string(), "user": self.user_json(user)});
            self.dispatch_where_bot_is("GUILD_MEMBER_REMOVE", guild, intent::GUILD_MEMBERS, &event);
        }
    }

    /// An event with a member in it, which takes the privileged intent.
    fn dispatch_member(&mut self, event: &str, guild_id: Id, user: Id) {
        let Some(guild) = self.guilds.get(&guild_id) else { return };
        let mut member = self.member_json(guild, user, true);
        member["guild_id"] = json!(guild_id.to_string());
        self.dispatch_where_bot_is(event, guild_id, intent::GUILD_MEMBERS, &member);
    }

    fn dispatch_where_bot_is(&mut self, event: &str, guild: Id, intents: u64, payload: &serde_json::Value) {
        let bot = self.bot();
        if self.guilds.get(&guild).is_some_and(|guild| guild.members.contains_key(&bot)) {
            self.dispatch(event, intents, payload);
        }
    }
}
