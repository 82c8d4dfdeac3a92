//! Users: they type, press and read. A user does only what Discord's client allows. Anything else
//! is a //! mistake of the test and fails it. Hostile actions are in [`super::hostile`].

use std::fmt;

use super::Discord;
use super::interact::Act;
use super::permission;
use super::places::{Channel, Guild};
use super::reply::{Answer, Reply};
use super::typed::Typed;
use super::views::MessageView;
use super::world::{self, Id, Message, User, World};

/// A user of the look-alike.
#[derive(Clone)]
pub struct Person {
    pub(super) discord: Discord,
    /// The user's id.
    pub id: Id,
    /// The user's name.
    pub name: String,
}

impl Discord {
    /// Creates a user, in no guild yet, with direct messages open.
    pub fn person(&self, name: &str) -> Person {
        let id = self.change(|world| {
            let id = world.next_id();
            world.users.insert(id, User::person(id, name));
            id
        });
        Person { discord: self.clone(), id, name: name.into() }
    }

    /// All users except bots and the guilds' first owners, in the order of their creation.
    pub fn people(&self) -> Vec<Person> {
        let world = self.world();
        let people = world.users.values().filter(|user| !user.bot && !user.is_extra);
        people.map(|user| Person { discord: self.clone(), id: user.id, name: user.name.clone() }).collect()
    }

    /// The bot's user id, for mentions and permissions.
    pub fn bot_id(&self) -> Id {
        self.world().bot()
    }
}

impl Person {
    /// The principal of this user: `user:<id>`.
    pub fn principal(&self) -> String {
        format!("user:{}", self.id)
    }

    /// The text that mentions this user in a message.
    pub fn mention(&self) -> String {
        format!("<@{}>", self.id)
    }

    /// Gets the Manage Server permission.
    pub fn make_manager(&self, guild: &Guild) {
        guild.give_role(self, "manager", permission::MANAGE_GUILD);
    }

    /// Loses all roles.
    pub fn loses_roles(&self, guild: &Guild) {
        guild.take_roles(self);
    }

    /// Gives the user a role, for allow-lists, and returns its id.
    pub fn give_role(&self, guild: &Guild, name: &str) -> Id {
        guild.give_role(self, name, 0);
        let world = self.discord.world();
        let held = world.guilds.get(&guild.id).and_then(|g| g.members.get(&self.id));
        held.and_then(|roles| roles.last().copied()).unwrap_or_default()
    }

    /// Installs the application for this user. Its user-installable commands then work everywhere.
    pub fn installs_app(&self) {
        self.with_user(|user| user.installed = true);
    }

    /// Closes direct messages: the bot gets 50007.
    pub fn closes_dms(&self) {
        self.with_user(|user| user.dms_open = false);
    }

    fn with_user(&self, change: impl FnOnce(&mut User)) {
        self.discord.change(|world| {
            if let Some(user) = world.users.get_mut(&self.id) {
                change(user);
            }
        });
    }

    /// The direct-message channel with the bot.
    pub fn dm(&self) -> Channel {
        let open = self.discord.world().open_dm(self.id);
        let id = open.unwrap_or_else(|| self.discord.change(|world| world.dm(self.id)));
        Channel::new(&self.discord, id)
    }

    /// Types a slash command (`"auth start"`) and waits for a text, past "thinking".
    /// Fails if a modal comes or the application does not respond.
    pub async fn command(&self, channel: &Channel, path: &str, options: &[(&str, &str)]) -> Reply {
        let reply = self.try_command(channel, path, options).await.message();
        reply.latest().await;
        reply
    }

    /// Types a slash command and waits for the first answer of any kind, "thinking" and the failure
    /// that the user sees included.
    pub async fn try_command(&self, channel: &Channel, path: &str, options: &[(&str, &str)]) -> Answer {
        match self.send_command(channel, path, options) {
            Ok(id) => Answer::wait(self, id).await,
            Err(why) => panic!("{} cannot type /{path} {options:?}: {why}", self.name),
        }
    }

    /// Sends a typed command, if the client allows it.
    pub fn send_command(
        &self,
        channel: &Channel,
        path: &str,
        options: &[(&str, &str)],
    ) -> Result<Id, String> {
        let typed = Typed { path, options, focused: None };
        let data = self.discord.world().typed(self.id, channel.id, typed)?;
        let label = format!("{}: /{path} {}", self.name, show(options));
        Ok(self.discord.interact(Act::command(self.id, channel.id, data, label)))
    }

    /// Types the start of an autocompleted option. Returns the suggested names and values.
    pub async fn autocomplete(
        &self,
        channel: &Channel,
        path: &str,
        option: &str,
        so_far: &str,
    ) -> Vec<(String, String)> {
        match self.try_autocomplete(channel, path, option, so_far).await {
            Ok(choices) => choices,
            Err(why) => panic!("{} completes {option} of /{path}: {why}", self.name),
        }
    }

    /// The same, with a failure as text.
    pub async fn try_autocomplete(
        &self,
        channel: &Channel,
        path: &str,
        option: &str,
        so_far: &str,
    ) -> Result<Vec<(String, String)>, String> {
        let typed = Typed { path, options: &[(option, so_far)], focused: Some(option) };
        let data = self.discord.world().typed(self.id, channel.id, typed)?;
        let label = format!("{}: /{path} {option}:{so_far}…", self.name);
        let id = self.discord.interact(Act::autocomplete(self.id, channel.id, data, label.clone()));
        let answered = |world: &World| {
            let found = world.interactions.get(&id)?;
            match &found.choices {
                Some(choices) => Some(Ok(choices.as_array().cloned().unwrap_or_default())),
                None => found.failed.then(|| Err("Loading options failed".to_owned())),
            }
        };
        let choices = self.discord.until(&format!("choices for {label}"), answered).await?;
        let words =
            |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(choices.iter().map(|choice| (words(&choice["name"]), words(&choice["value"]))).collect())
    }

    /// Writes into a channel; `<@bot>` mentions the bot.
    pub fn says(&self, channel: &Channel, text: &str) -> MessageView {
        match self.post(channel, text, None) {
            Ok(view) => view,
            Err(why) => panic!("{} cannot write into {channel:?}: {why}", self.name),
        }
    }

    /// Writes an answer to a message, which mentions its author.
    pub fn replies(&self, to: &MessageView, text: &str) -> MessageView {
        let channel = Channel::new(&self.discord, to.channel_id);
        match self.post(&channel, text, Some(to)) {
            Ok(view) => view,
            Err(why) => panic!("{} cannot reply in {channel:?}: {why}", self.name),
        }
    }

    /// Writes into a channel, if the client allows it.
    pub fn post(
        &self,
        channel: &Channel,
        text: &str,
        reply_to: Option<&MessageView>,
    ) -> Result<MessageView, String> {
        if text.trim().is_empty() || text.encode_utf16().count() > 2_000 {
            return Err("a message has 1 to 2000 characters".into());
        }
        let (user, to) = (self.id, channel.id);
        self.discord.change(|world| {
            let found = world.channel(to).ok_or("this channel is gone")?;
            let direct = found.kind == world::DM;
            let wanted = if found.is_thread() {
                permission::SEND_MESSAGES_IN_THREADS
            } else {
                permission::SEND_MESSAGES
            };
            if !world.can_see(user, to) || !(direct || world.may(user, to, wanted)) {
                return Err("they may not".to_owned());
            }
            if found.locked {
                return Err("this thread is locked".into());
            }
            let public_thread = found.kind == world::PUBLIC_THREAD;
            world.revive(to);
            if public_thread && let Some(thread) = world.channels.get_mut(&to) {
                thread.members.insert(user);
            }
            let text = text.replace("<@bot>", &format!("<@{}>", world.bot()));
            let mut message = Message::new(to, user, text);
            message.mentions = world.mentioned(&message.now.content);
            if let Some(original) = reply_to {
                message.kind = 19;
                message.reference = Some(original.id);
                if !message.mentions.contains(&original.author_id) {
                    message.mentions.push(original.author_id);
                }
            }
            let id = world.publish(message);
            Ok(MessageView::of(world, &world.messages[&id]))
        })
    }

    /// Presses a button on a message that this user sees.
    pub async fn press(&self, message: &MessageView, label: &str) -> Answer {
        match self.send_press(message.id, |button| button.label == label) {
            Ok(id) => Answer::wait(self, id).await,
            Err(why) => panic!("{} cannot press {label:?} on {message}: {why}", self.name),
        }
    }

    /// Sends the press of a button, if the client allows it.
    pub fn send_press(&self, message: Id, wanted: impl Fn(&super::Button) -> bool) -> Result<Id, String> {
        let (channel, custom_id, label) = {
            let world = self.discord.world();
            let found = world.messages.get(&message).filter(|m| !m.deleted);
            let found = found.ok_or("the message is gone")?;
            let visible = found.only.map_or(world.can_see(self.id, found.channel), |o| o == self.id);
            if !visible {
                return Err("they do not see this message".into());
            }
            let view = MessageView::of(&world, found);
            let button = view.buttons.iter().find(|button| wanted(button));
            let button = button.ok_or_else(|| format!("there is no such button on {view}"))?;
            if button.disabled {
                return Err("the button is disabled".into());
            }
            let custom_id = button.custom_id.clone().ok_or("this is a link")?;
            (found.channel, custom_id, button.label.clone())
        };
        let label = format!("{}: [{label}]", self.name);
        Ok(self.discord.interact(Act::button(self.id, channel, message, &custom_id, label)))
    }

    /// The messages of a channel that this user sees, in order, with their own ephemeral answers.
    /// There are none of a thread without them, and none of Discord's own notices.
    pub fn sees(&self, channel: &Channel) -> Vec<MessageView> {
        self.views(&self.discord.world(), channel)
    }

    fn views(&self, world: &World, channel: &Channel) -> Vec<MessageView> {
        world
            .visible(self.id, channel.id)
            .into_iter()
            .map(|message| MessageView::of(world, message))
            .filter(MessageView::is_ordinary)
            .collect()
    }

    /// Waits until `look` finds its target in the messages that this user sees here, and returns
    /// it.
    pub async fn waits_for<R>(
        &self,
        channel: &Channel,
        mut look: impl FnMut(&[MessageView]) -> Option<R>,
    ) -> R {
        let what = format!("{} to see something in {channel:?}", self.name);
        self.discord.until(&what, |world| look(&self.views(world, channel))).await
    }

    /// All text that this user sees anywhere, threads and direct messages included.
    pub fn everything(&self) -> String {
        let world = self.discord.world();
        let visible = world.channels.keys().flat_map(|id| world.visible(self.id, *id));
        let mut lines: Vec<String> = visible
            .flat_map(|message| {
                let now = &message.now;
                [now.content.clone(), now.embeds.to_string(), now.components.to_string()]
            })
            .collect();
        let threads = world.channels.values().filter(|c| world.can_see(self.id, c.id));
        lines.extend(threads.map(|c| c.name.clone()));
        lines.join("\n")
    }

    /// The threads of a channel that this user sees, oldest first.
    pub fn threads(&self, channel: &Channel) -> Vec<Channel> {
        let world = self.discord.world();
        world
            .channels
            .values()
            .filter(|c| c.parent == Some(channel.id) && world.can_see(self.id, c.id))
            .map(|c| Channel::new(&self.discord, c.id))
            .collect()
    }

    /// The open threads that this user is a member of, anywhere, oldest first.
    pub fn joined_threads(&self) -> Vec<Channel> {
        let world = self.discord.world();
        let joined = world.channels.values().filter(|c| {
            c.is_thread()
                && !c.archived
                && !c.deleted
                && c.members.contains(&self.id)
                && world.can_see(self.id, c.id)
        });
        joined.map(|c| Channel::new(&self.discord, c.id)).collect()
    }

    /// Waits until this user sees `count` threads in a channel.
    pub async fn waits_for_threads(&self, channel: &Channel, count: usize) -> Vec<Channel> {
        let what = format!("{} to see {count} thread(s) in {channel:?}", self.name);
        self.discord
            .until(&what, |world| {
                let seen = world
                    .channels
                    .values()
                    .filter(|c| c.parent == Some(channel.id) && world.can_see(self.id, c.id));
                (seen.count() >= count).then_some(())
            })
            .await;
        self.threads(channel)
    }
}

fn show(options: &[(&str, &str)]) -> String {
    options.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(" ")
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.id)
    }
}
