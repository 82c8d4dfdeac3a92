//! Guilds and channels as tests handle them.

use std::fmt;

use super::Discord;
use super::people::Person;
use super::permission;
use super::views::MessageView;
use super::world::{self, GUILD_TEXT, Id, Overwrite, Role};

/// A guild of the look-alike.
#[derive(Clone)]
pub struct Guild {
    pub(super) discord: Discord,
    /// The guild's id.
    pub id: Id,
    /// The guild's name.
    pub name: String,
}

/// A channel, a thread or a DM.
#[derive(Clone)]
pub struct Channel {
    pub(super) discord: Discord,
    /// The channel's id.
    pub id: Id,
}

impl Discord {
    /// A new guild, with the bot invited.
    pub fn guild(&self, name: &str) -> Guild {
        let guild = self.guild_without_bot(name);
        self.change(|world| {
            let (bot, role) = (world.bot(), world.next_id());
            let bot_name = world.options.bot_name.clone();
            if let Some(guild) = world.guilds.get_mut(&guild.id) {
                guild.roles.push(Role { id: role, name: bot_name, permissions: permission::MEMBER });
                guild.members.insert(bot, vec![role]);
                let guild = guild.clone();
                let payload = world.guild_create_json(&guild);
                world.dispatch("GUILD_CREATE", super::gateway::intent::GUILDS, &payload);
            }
        });
        guild
    }

    /// A new guild without the bot. There only users who installed the bot for themselves can use
    /// it.
    pub fn guild_without_bot(&self, name: &str) -> Guild {
        let id = self.change(|world| {
            let (id, owner) = (world.next_id(), world.next_id());
            let everyone = Role { id, name: "@everyone".into(), permissions: permission::MEMBER };
            let guild = world::Guild {
                id,
                name: name.into(),
                owner,
                roles: vec![everyone],
                members: [(owner, Vec::new())].into(),
            };
            let user = world::User { is_extra: true, ..world::User::person(owner, &format!("{name}-owner")) };
            world.users.insert(owner, user);
            world.guilds.insert(id, guild);
            id
        });
        Guild { discord: self.clone(), id, name: name.into() }
    }

    /// All text that more than one user could see: guild channels and threads with every earlier
    /// version and every deleted message, their names, and the registered commands.
    pub fn everything_public(&self) -> String {
        let world = self.world();
        let mut seen = Vec::new();
        for channel in world.channels.values().filter(|channel| channel.guild.is_some()) {
            seen.push(channel.name.clone());
        }
        for message in world.messages.values().filter(|message| message.only.is_none()) {
            let public = world.channels.get(&message.channel).is_some_and(|channel| channel.guild.is_some());
            for version in message.past.iter().chain([&message.now]).filter(|_| public) {
                seen.push(version.content.clone());
                seen.push(version.embeds.to_string());
                seen.push(version.components.to_string());
            }
        }
        let own = world.guild_commands.values().flatten();
        seen.extend(world.global_commands.iter().chain(own).map(ToString::to_string));
        seen.join("\n")
    }
}

impl Guild {
    /// The guild's owner.
    pub fn owner(&self) -> Person {
        let world = self.discord.world();
        let id = world.guilds.get(&self.id).map(|guild| guild.owner).unwrap_or_default();
        Person { discord: self.discord.clone(), id, name: world.user_name(id) }
    }

    /// A new text channel.
    pub fn channel(&self, name: &str) -> Channel {
        let id = self.discord.change(|world| {
            let id = world.next_id();
            let mut channel = world::Channel::new(id, GUILD_TEXT, name.into(), world.now_ms());
            channel.guild = Some(self.id);
            world.channels.insert(id, channel);
            world.dispatch_channel("CHANNEL_CREATE", id);
            id
        });
        Channel { discord: self.discord.clone(), id }
    }

    /// Takes permissions from the bot in the whole guild.
    pub fn take_from_bot(&self, bits: u64) {
        self.discord.change(|world| {
            let bot = world.bot();
            let Some(guild) = world.guilds.get_mut(&self.id) else {
                return;
            };
            let held = guild.members.get(&bot).cloned().unwrap_or_default();
            let everyone = guild.id;
            for role in &mut guild.roles {
                if role.id == everyone || held.contains(&role.id) {
                    role.permissions &= !bits;
                }
            }
        });
    }

    /// A role with these permissions, given to this user.
    pub(super) fn give_role(&self, person: &Person, name: &str, permissions: u64) {
        let id = self.role(name, permissions);
        self.give(person, id);
    }
}

impl Channel {
    pub(super) fn new(discord: &Discord, id: Id) -> Self {
        Self { discord: discord.clone(), id }
    }

    /// The channel's name.
    pub fn name(&self) -> String {
        self.read(|channel| channel.name.clone()).unwrap_or_default()
    }

    /// Adds a user to a thread, as one of its members does.
    pub fn add_member(&self, person: &Person) {
        self.discord.change(|world| {
            if let Some(channel) = world.channels.get_mut(&self.id) {
                channel.members.insert(person.id);
            }
        });
    }

    /// Whether this is a private thread.
    pub fn is_private(&self) -> bool {
        self.read(|channel| channel.kind == world::PRIVATE_THREAD).unwrap_or(false)
    }

    /// Whether this thread is archived.
    pub fn is_archived(&self) -> bool {
        self.read(|channel| channel.archived).unwrap_or(false)
    }

    /// Whether a user is shown as typing here now.
    pub fn is_typing(&self) -> bool {
        let now = self.discord.now_ms();
        self.read(|channel| channel.typing.values().any(|until| *until > now)).unwrap_or(false)
    }

    fn read<R>(&self, look: impl FnOnce(&world::Channel) -> R) -> Option<R> {
        self.discord.world().channels.get(&self.id).map(look)
    }

    /// Takes permissions from the bot in this channel and its threads.
    pub fn deny_bot(&self, bits: u64) {
        let target = self.discord.bot_id();
        self.overwrite(Overwrite { target, member: true, allow: 0, deny: bits });
    }

    /// Hides the channel from @everyone. [`Channel::show_to`] lets single users see it.
    pub fn hide_from_everyone(&self) {
        if let Some(target) = self.read(|channel| channel.guild).flatten() {
            let deny = permission::VIEW_CHANNEL;
            self.overwrite(Overwrite { target, member: false, allow: 0, deny });
        }
    }

    /// Hides the channel from one user.
    pub fn hide_from(&self, target: Id) {
        let deny = permission::VIEW_CHANNEL;
        self.overwrite(Overwrite { target, member: true, allow: 0, deny });
    }

    /// Lets a user (or the bot, by id) see a hidden channel.
    pub fn show_to(&self, target: Id) {
        let allow = permission::VIEW_CHANNEL;
        self.overwrite(Overwrite { target, member: true, allow, deny: 0 });
    }

    /// A moderator archives the thread.
    pub fn archive(&self) {
        self.discord.change(|world| {
            if let Some(channel) = world.channels.get_mut(&self.id) {
                channel.archived = true;
            }
            world.dispatch_channel("THREAD_UPDATE", self.id);
        });
    }

    /// A moderator locks the thread.
    pub fn lock(&self) {
        self.discord.change(|world| {
            if let Some(channel) = world.channels.get_mut(&self.id) {
                channel.locked = true;
            }
            world.dispatch_channel("THREAD_UPDATE", self.id);
        });
    }

    /// A moderator deletes the bot's messages that contain this text.
    pub fn delete_messages(&self, text: &str) {
        self.discord.change(|world| {
            let bot = world.bot();
            let fits =
                |m: &&world::Message| m.channel == self.id && m.author == bot && m.now.content.contains(text);
            let ids: Vec<Id> = world.messages.values().filter(fits).map(|m| m.id).collect();
            ids.into_iter().for_each(|id| world.remove(id));
        });
    }

    /// A moderator deletes the thread.
    pub fn delete(&self) {
        self.discord.change(|world| world.delete_thread(self.id));
    }

    /// The names of the thread's members.
    pub fn members(&self) -> Vec<String> {
        let world = self.discord.world();
        let members = world.channels.get(&self.id).map(|channel| channel.members.clone());
        members.into_iter().flatten().map(|id| world.user_name(id)).collect()
    }

    /// All messages that every member sees, without system notices and ephemeral answers.
    pub fn messages(&self) -> Vec<MessageView> {
        self.views(&self.discord.world())
    }

    fn views(&self, world: &world::World) -> Vec<MessageView> {
        world
            .messages
            .values()
            .filter(|m| m.channel == self.id && !m.deleted && m.only.is_none())
            .map(|message| MessageView::of(world, message))
            .filter(MessageView::is_ordinary)
            .collect()
    }

    /// Waits until `look` finds its target in the messages here, and returns it.
    pub async fn wait_for<R>(&self, mut look: impl FnMut(&[MessageView]) -> Option<R>) -> R {
        let what = format!("something in {self:?}");
        self.discord.until(&what, |world| look(&self.views(world))).await
    }

    /// Waits for a message of the bot that contains this text.
    pub async fn wait_for_text(&self, text: &str) -> MessageView {
        let what = format!("the bot to say {text:?} in {self:?}");
        let bot = self.discord.world().bot();
        self.discord
            .until(&what, |world| {
                let mut views = self.views(world).into_iter();
                views.find(|view| view.author_id == bot && view.all_text().contains(text))
            })
            .await
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} ({})", self.name(), self.id)
    }
}

impl fmt::Debug for Guild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guild {} ({})", self.name, self.id)
    }
}
