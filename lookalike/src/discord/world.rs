//! The state of the look-alike: users, guilds, channels, messages, interactions. It is plain data
//! with //! questions about permissions and visibility. The wire forms are in [`super::wire`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::clock::Clock;
use super::gateway::Gateway;
use super::permission;
use super::{Options, Request, Violation};

/// A snowflake.
pub type Id = u64;

/// Discord's epoch (2015-01-01) in Unix milliseconds.
const EPOCH_MS: i64 = 1_420_070_400_000;

/// Channel types.
pub(super) const GUILD_TEXT: u8 = 0;
pub(super) const DM: u8 = 1;
pub(super) const PUBLIC_THREAD: u8 = 11;
pub(super) const PRIVATE_THREAD: u8 = 12;

/// Message flags.
pub(super) const EPHEMERAL: u64 = 1 << 6;
pub(super) const LOADING: u64 = 1 << 7;

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub id: Id,
    pub name: String,
    pub bot: bool,
    /// Whether this user takes direct messages from the bot.
    pub dms_open: bool,
    /// Whether this user installed the application for themselves.
    pub installed: bool,
    /// Whether this user only owns a guild and is not a person of a test.
    pub is_extra: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub id: Id,
    pub name: String,
    pub permissions: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Guild {
    pub id: Id,
    pub name: String,
    pub owner: Id,
    /// The first is @everyone, whose id is the guild's.
    pub roles: Vec<Role>,
    /// The members with their role ids. The bot is a member where it was invited.
    pub members: BTreeMap<Id, Vec<Id>>,
}

/// A permission overwrite of a channel, for a role or a member.
#[derive(Clone, Debug)]
pub(crate) struct Overwrite {
    pub target: Id,
    pub member: bool,
    pub allow: u64,
    pub deny: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub id: Id,
    pub kind: u8,
    pub name: String,
    pub guild: Option<Id>,
    pub parent: Option<Id>,
    pub owner: Option<Id>,
    /// A thread's members; a DM's two ends.
    pub members: BTreeSet<Id>,
    pub overwrites: Vec<Overwrite>,
    pub archived: bool,
    pub locked: bool,
    pub invitable: bool,
    pub auto_archive_minutes: u64,
    pub created_ms: i64,
    pub archive_ms: i64,
    pub deleted: bool,
    pub last_message: Option<Id>,
    /// The users who are typing, each with the end of it (Unix ms).
    pub typing: BTreeMap<Id, i64>,
}

/// A text that stood in a message at some time.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub content: String,
    pub embeds: Value,
    pub components: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub id: Id,
    pub channel: Id,
    pub author: Id,
    pub kind: u8,
    pub flags: u64,
    pub now: Version,
    /// Its earlier versions, oldest first.
    pub past: Vec<Version>,
    /// The user who sees it, if it is ephemeral.
    pub only: Option<Id>,
    pub created_ms: i64,
    pub edited_ms: Option<i64>,
    pub deleted: bool,
    pub reference: Option<Id>,
    pub mentions: Vec<Id>,
    pub mention_everyone: bool,
    pub interaction: Option<Id>,
    /// The nonce that the sender chose.
    pub nonce: Option<Value>,
    /// The names and texts of its files.
    pub files: Vec<(String, String)>,
    /// The number of changes. Waiters compare it.
    pub revision: u64,
}

/// How an interaction was answered: the callback's type.
#[derive(Clone, Debug)]
pub(crate) struct Interaction {
    pub id: Id,
    pub token: String,
    /// 2 command, 3 component, 4 autocomplete, 5 modal submit.
    pub kind: u8,
    pub user: Id,
    pub channel: Id,
    pub dispatched_ms: i64,
    /// The callback type of the first answer.
    pub answered: Option<u8>,
    /// Whether the client showed "The application did not respond".
    pub failed: bool,
    pub original: Option<Id>,
    pub source: Option<Id>,
    pub followups: Vec<Id>,
    pub modal: Option<Value>,
    pub choices: Option<Value>,
    /// A label for the output of a failed test: `alice: /auth start`.
    pub label: String,
}

/// The owner of the application.
#[derive(Clone, Debug)]
pub(crate) enum Ownership {
    /// A user who takes no part.
    Operator,
    User(Id),
    /// A team by its name, with its members and whether each has accepted the invitation.
    Team(String, Vec<(Id, bool)>),
}

/// The treatment of a request that a test chose.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Nothing is done, and this is the answer.
    Answer {
        /// The status.
        status: u16,
        /// The body.
        body: Value,
        /// The seconds of the header `Retry-After`, if it is sent.
        retry_after: Option<u64>,
    },
    /// Nothing is done, and the connection closes without an answer.
    Drop,
    /// The request is done, and this bare status is the answer.
    DoneThenStatus(u16),
    /// The request is done, and the connection closes without an answer.
    DoneThenDrop,
}

impl Trouble {
    /// A bare 5xx or 429, as Discord's edge sends it.
    pub fn status(status: u16) -> Self {
        let message = format!("{status}: scripted");
        Self::Answer { status, body: json!({"message": message, "code": 0}), retry_after: None }
    }
}

/// A trouble that a test ordered, and the requests that it meets.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Empty for any.
    pub method: String,
    pub path_contains: String,
    pub trouble: Trouble,
    pub remaining: u32,
}

/// The whole state of the look-alike. One lock protects it.
#[derive(Debug)]
pub(crate) struct World {
    pub clock: Clock,
    pub options: Options,
    pub users: BTreeMap<Id, User>,
    pub guilds: BTreeMap<Id, Guild>,
    pub channels: BTreeMap<Id, Channel>,
    pub messages: BTreeMap<Id, Message>,
    pub interactions: BTreeMap<Id, Interaction>,
    pub global_commands: Vec<Value>,
    pub guild_commands: BTreeMap<Id, Vec<Value>>,
    /// The users who own the application.
    pub ownership: Ownership,
    pub gateway: Gateway,
    pub requests: Vec<Request>,
    pub violations: Vec<Violation>,
    /// Where the look-alike's own answers are not as Discord describes them.
    pub drift: Vec<String>,
    pub faults: Vec<Fault>,
    /// The nonces of recent messages that the bot sent with `enforce_nonce`: the message, and when it
    /// was sent (Unix ms).
    pub nonces: BTreeMap<String, (Id, i64)>,
    last_id: Id,
}

impl World {
    pub(crate) fn new(clock: Clock, options: Options) -> Self {
        let mut world = Self {
            clock,
            users: BTreeMap::new(),
            guilds: BTreeMap::new(),
            channels: BTreeMap::new(),
            messages: BTreeMap::new(),
            interactions: BTreeMap::new(),
            global_commands: Vec::new(),
            guild_commands: BTreeMap::new(),
            ownership: Ownership::Operator,
            gateway: Gateway::default(),
            requests: Vec::new(),
            violations: Vec::new(),
            drift: Vec::new(),
            faults: Vec::new(),
            nonces: BTreeMap::new(),
            last_id: 0,
            options,
        };
        let bot = User {
            id: world.options.bot_id,
            name: world.options.bot_name.clone(),
            bot: true,
            dms_open: true,
            installed: false,
            is_extra: false,
        };
        world.users.insert(bot.id, bot);
        world
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// A fresh snowflake, larger than all before it.
    pub(crate) fn next_id(&mut self) -> Id {
        let since = u64::try_from(self.now_ms() - EPOCH_MS).unwrap_or(0);
        self.last_id = (since << 22).max(self.last_id + 1);
        self.last_id
    }

    pub(crate) fn bot(&self) -> Id {
        self.options.bot_id
    }

    /// A secret-looking string that no two things share.
    pub(crate) fn secret(&mut self, what: &str) -> String {
        let id = self.next_id();
        let digest = Sha256::digest(format!("{what} {id}"));
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{what}.{hex}")
    }

    pub(crate) fn violation(&mut self, code: u32, what: impl Into<String>) {
        self.violations.push(Violation { code, what: what.into() });
    }

    pub(crate) fn user_name(&self, id: Id) -> String {
        self.users.get(&id).map_or_else(|| id.to_string(), |user| user.name.clone())
    }

    pub(crate) fn channel(&self, id: Id) -> Option<&Channel> {
        self.channels.get(&id).filter(|channel| !channel.deleted)
    }

    /// A member's permissions in a channel. A thread has its parent's rules. In a DM both ends have
    /// all permissions.
    pub(crate) fn permissions(&self, user: Id, channel: Id) -> u64 {
        let Some(channel) = self.channel(channel) else {
            return 0;
        };
        let Some(guild) = channel.guild.and_then(|id| self.guilds.get(&id)) else {
            return if channel.members.contains(&user) { permission::MEMBER } else { 0 };
        };
        let base = guild.permissions(user);
        if base & permission::ADMINISTRATOR != 0 {
            return u64::MAX >> 14;
        }
        let Some(roles) = guild.members.get(&user) else {
            return 0;
        };
        let ruled_by = channel.parent.and_then(|id| self.channel(id)).unwrap_or(channel);
        apply_overwrites(base, &ruled_by.overwrites, guild.id, roles, user)
    }

    pub(crate) fn may(&self, user: Id, channel: Id, bits: u64) -> bool {
        self.permissions(user, channel) & bits == bits
    }

    /// Whether this user can see the channel.
    pub(crate) fn can_see(&self, user: Id, channel: Id) -> bool {
        let Some(found) = self.channel(channel) else {
            return false;
        };
        match found.kind {
            DM => found.members.contains(&user),
            PRIVATE_THREAD => {
                self.may(user, channel, permission::VIEW_CHANNEL)
                    && (found.members.contains(&user) || self.may(user, channel, permission::MANAGE_THREADS))
            }
            _ => self.may(user, channel, permission::VIEW_CHANNEL),
        }
    }

    /// The messages of a channel that this user sees, oldest first.
    pub(crate) fn visible(&self, user: Id, channel: Id) -> Vec<&Message> {
        let sees = self.can_see(user, channel);
        self.messages
            .values()
            .filter(|message| message.channel == channel && !message.deleted)
            .filter(|message| message.only.map_or(sees, |only| only == user))
            .collect()
    }

    /// The DM channel between the bot and this user, if one was opened.
    pub(crate) fn open_dm(&self, user: Id) -> Option<Id> {
        let ends = BTreeSet::from([self.bot(), user]);
        let found = self.channels.values().find(|c| c.kind == DM && c.members == ends);
        found.map(|channel| channel.id)
    }

    /// The DM channel between the bot and this user. It is created if there is none.
    pub(crate) fn dm(&mut self, user: Id) -> Id {
        if let Some(open) = self.open_dm(user) {
            return open;
        }
        let ends = BTreeSet::from([self.bot(), user]);
        let id = self.next_id();
        let mut channel = Channel::new(id, DM, String::new(), self.now_ms());
        channel.members = ends;
        self.channels.insert(id, channel);
        id
    }

    /// The commands that a user can type in this channel: the guild's own first.
    pub(crate) fn commands_in(&self, user: Id, channel: Id) -> Vec<Value> {
        let Some(channel) = self.channel(channel) else {
            return Vec::new();
        };
        let bot = self.bot();
        let bot_here = channel
            .guild
            .and_then(|id| self.guilds.get(&id))
            .is_some_and(|guild| guild.members.contains_key(&bot));
        let installed = self.users.get(&user).is_some_and(|user| user.installed);
        let context = match channel.guild {
            Some(_) => 0,
            None if channel.members.contains(&bot) => 1,
            None => 2,
        };
        let holds = |command: &Value, key: &str, wanted: u64, default: &[u64]| {
            command[key].as_array().map_or_else(
                || default.contains(&wanted),
                |listed| listed.iter().any(|value| value.as_u64() == Some(wanted)),
            )
        };
        let usable = |command: &&Value| {
            let place = bot_here || context == 1;
            let by_guild = place && holds(command, "integration_types", 0, &[0]);
            let by_user = installed && holds(command, "integration_types", 1, &[]);
            (by_guild || by_user) && holds(command, "contexts", context, &[0, 1, 2])
        };
        let own = channel.guild.and_then(|id| self.guild_commands.get(&id));
        own.into_iter().flatten().chain(self.global_commands.iter().filter(usable)).cloned().collect()
    }

    /// Stores a message. Mentions are read from the text by the caller's rule.
    pub(crate) fn add_message(&mut self, mut message: Message) -> Id {
        if message.id == 0 {
            message.id = self.next_id();
        }
        let id = message.id;
        message.created_ms = self.now_ms();
        if let Some(channel) = self.channels.get_mut(&message.channel) {
            if message.only.is_none() {
                channel.last_message = Some(id);
            }
            channel.typing.remove(&message.author);
        }
        self.messages.insert(id, message);
        id
    }

    /// Ids of the users named as `<@id>` in a text.
    pub(crate) fn mentioned(&self, text: &str) -> Vec<Id> {
        let mut found = Vec::new();
        for part in text.split("<@").skip(1) {
            let digits = part.trim_start_matches('!');
            if let Some((id, _)) = digits.split_once('>')
                && let Ok(id) = id.parse::<Id>()
                && self.users.contains_key(&id)
                && !found.contains(&id)
            {
                found.push(id);
            }
        }
        found
    }
}

impl User {
    /// A person with open direct messages.
    pub(crate) fn person(id: Id, name: &str) -> Self {
        Self { id, name: name.into(), bot: false, dms_open: true, installed: false, is_extra: false }
    }
}

impl Guild {
    /// A member's permissions in the guild, without any channel's overwrites.
    pub(crate) fn permissions(&self, user: Id) -> u64 {
        let Some(held) = self.members.get(&user) else {
            return 0;
        };
        if self.owner == user {
            return permission::ADMINISTRATOR | permission::MEMBER;
        }
        self.roles
            .iter()
            .filter(|role| role.id == self.id || held.contains(&role.id))
            .fold(0, |bits, role| bits | role.permissions)
    }
}

impl Channel {
    pub(crate) fn new(id: Id, kind: u8, name: String, now_ms: i64) -> Self {
        Self {
            id,
            kind,
            name,
            guild: None,
            parent: None,
            owner: None,
            members: BTreeSet::new(),
            overwrites: Vec::new(),
            archived: false,
            locked: false,
            invitable: true,
            auto_archive_minutes: 1440,
            created_ms: now_ms,
            archive_ms: now_ms,
            deleted: false,
            last_message: None,
            typing: BTreeMap::new(),
        }
    }

    pub(crate) fn is_thread(&self) -> bool {
        matches!(self.kind, PUBLIC_THREAD | PRIVATE_THREAD)
    }
}

impl Message {
    pub(crate) fn new(channel: Id, author: Id, content: impl Into<String>) -> Self {
        Self {
            id: 0,
            channel,
            author,
            kind: 0,
            flags: 0,
            now: Version { content: content.into(), embeds: json!([]), components: json!([]) },
            past: Vec::new(),
            only: None,
            created_ms: 0,
            edited_ms: None,
            deleted: false,
            reference: None,
            mentions: Vec::new(),
            mention_everyone: false,
            interaction: None,
            nonce: None,
            files: Vec::new(),
            revision: 0,
        }
    }

    pub(crate) fn is_loading(&self) -> bool {
        self.flags & LOADING != 0
    }

    /// Keeps the old version and shows this one.
    pub(crate) fn say(&mut self, version: Version, now_ms: i64) {
        let was_loading = self.is_loading();
        let before = std::mem::replace(&mut self.now, version);
        if !was_loading {
            self.past.push(before);
            self.edited_ms = Some(now_ms);
        }
        self.flags &= !LOADING;
        self.revision += 1;
    }
}

/// Discord's order: @everyone, then all roles together, then the member.
fn apply_overwrites(base: u64, rules: &[Overwrite], guild: Id, roles: &[Id], user: Id) -> u64 {
    let mut bits = base;
    for rule in rules.iter().filter(|rule| !rule.member && rule.target == guild) {
        bits = bits & !rule.deny | rule.allow;
    }
    let (mut allow, mut deny) = (0, 0);
    for rule in rules.iter().filter(|rule| !rule.member && roles.contains(&rule.target)) {
        allow |= rule.allow;
        deny |= rule.deny;
    }
    bits = bits & !deny | allow;
    for rule in rules.iter().filter(|rule| rule.member && rule.target == user) {
        bits = bits & !rule.deny | rule.allow;
    }
    if bits & permission::VIEW_CHANNEL == 0 { 0 } else { bits }
}
