//! The facts that rights depend on, each with the time at which Discord reported it.
//!
//! A fact comes from a request to Discord, from an interaction, or from an event. An absent member,
//! server or channel is a fact too. A fact that is not known, or too old for its reader, is `None`
//! in a [`View`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serenity::all::{
    Channel as AnyChannel, ChannelType, PartialGuild, PermissionOverwrite, PermissionOverwriteType,
    Permissions,
};

use super::application::Application;
use crate::{discord::bounded_map::BoundedMap, ids::Snowflake};

/// The number of servers and of channels that are remembered.
const MAX_PLACES: usize = 1_000;
/// The number of memberships that are remembered.
const MAX_MEMBERS: usize = 20_000;

/// The name of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::discord) enum Fact {
    Application,
    Guild(Snowflake),
    Channel(Snowflake),
    /// A user's membership in a server: server, user.
    Member(Snowflake, Snowflake),
}

/// A server.
#[derive(Clone, Debug)]
pub(in crate::discord) struct Guild {
    pub(in crate::discord) name: String,
    pub(in crate::discord) owner: Snowflake,
    roles: BTreeMap<Snowflake, Permissions>,
}

/// A channel of a server.
#[derive(Clone, Debug)]
pub(in crate::discord) struct Channel {
    pub(super) guild: Snowflake,
    overwrites: Vec<PermissionOverwrite>,
}

/// A fact with its content.
#[derive(Clone, Debug)]
pub(in crate::discord) enum Found {
    Application(Application),
    Guild(Snowflake, Option<Guild>),
    Channel(Snowflake, Option<Channel>),
    /// The roles of a member.
    Member(Snowflake, Snowflake, Option<Vec<Snowflake>>),
}

#[derive(Debug)]
struct Known<T> {
    value: T,
    at: Duration,
}

/// All known facts.
#[derive(Debug)]
pub(super) struct Facts {
    application: Option<Known<Application>>,
    guilds: BoundedMap<Snowflake, Known<Option<Guild>>>,
    channels: BoundedMap<Snowflake, Known<Option<Channel>>>,
    members: BoundedMap<(Snowflake, Snowflake), Known<Option<Vec<Snowflake>>>>,
    /// The servers that have the bot, as the gateway lists them.
    own_guilds: BTreeSet<Snowflake>,
    /// The server of each role that the gateway or a request has shown. It never changes.
    role_homes: BoundedMap<Snowflake, Snowflake>,
}

/// The facts that are young enough for a reader.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    facts: &'a Facts,
    now: Duration,
    max_age: Duration,
}

// === impl Facts ===

impl Facts {
    pub(super) fn new() -> Self {
        Self {
            application: None,
            guilds: BoundedMap::new(MAX_PLACES),
            channels: BoundedMap::new(MAX_PLACES),
            members: BoundedMap::new(MAX_MEMBERS),
            own_guilds: BTreeSet::new(),
            role_homes: BoundedMap::new(MAX_MEMBERS),
        }
    }

    pub(super) fn view(&self, now: Duration, max_age: Duration) -> View<'_> {
        View { facts: self, now, max_age }
    }

    /// Takes a fact as Discord reported it at `at`, unless a later report is known.
    pub(super) fn learn(&mut self, found: Found, at: Duration) {
        match found {
            Found::Application(value) => {
                if self.application.as_ref().is_none_or(|known| known.at <= at) {
                    self.application = Some(Known { value, at });
                }
            }
            Found::Guild(id, value) => {
                if let Some(guild) = &value {
                    self.note_roles(id, guild.roles.keys().copied().collect());
                }
                insert(&mut self.guilds, id, value, at);
            }
            Found::Channel(id, value) => insert(&mut self.channels, id, value, at),
            Found::Member(guild, user, value) => insert(&mut self.members, (guild, user), value, at),
        }
    }

    /// Forgets a fact, so that its next reader requests it.
    pub(super) fn forget(&mut self, fact: Fact) {
        match fact {
            Fact::Application => self.application = None,
            Fact::Guild(id) => drop(self.guilds.remove(&id)),
            Fact::Channel(id) => drop(self.channels.remove(&id)),
            Fact::Member(guild, user) => drop(self.members.remove(&(guild, user))),
        }
    }

    /// Records that the bot is in a server with these roles.
    pub(super) fn joined(&mut self, guild: Snowflake, roles: Vec<Snowflake>) {
        self.own_guilds.insert(guild);
        self.note_roles(guild, roles);
    }

    /// Records that the bot is no longer in a server.
    pub(super) fn left(&mut self, guild: Snowflake, at: Duration) {
        self.own_guilds.remove(&guild);
        insert(&mut self.guilds, guild, None, at);
    }

    /// Whether the bot is in this server.
    pub(super) fn is_in(&self, guild: Snowflake) -> bool {
        self.own_guilds.contains(&guild)
    }

    /// Returns the servers that have the bot.
    pub(super) fn own_guilds(&self) -> BTreeSet<Snowflake> {
        self.own_guilds.clone()
    }

    /// Forgets all memberships in a server.
    pub(super) fn forget_members(&mut self, guild: Snowflake) {
        self.members.retain(|(of, _)| *of != guild);
    }

    fn note_roles(&mut self, guild: Snowflake, roles: Vec<Snowflake>) {
        for role in roles {
            self.role_homes.insert(role, guild);
        }
    }
}

fn insert<K: Ord + Clone, T>(map: &mut BoundedMap<K, Known<T>>, key: K, value: T, at: Duration) {
    if map.get(&key).is_none_or(|known| known.at <= at) {
        map.insert(key, Known { value, at });
    }
}

// === impl View ===

impl<'a> View<'a> {
    fn young<T>(&self, known: Option<&'a Known<T>>) -> Option<&'a T> {
        let known = known?;
        (self.now.saturating_sub(known.at) <= self.max_age).then_some(&known.value)
    }

    pub(super) fn application(&self) -> Option<&'a Application> {
        self.young(self.facts.application.as_ref())
    }

    /// A server, or `Some(None)` if the bot is not in it.
    pub(super) fn guild(&self, id: Snowflake) -> Option<Option<&'a Guild>> {
        self.young(self.facts.guilds.get(&id)).map(Option::as_ref)
    }

    /// A channel, or `Some(None)` if the bot does not see it.
    pub(super) fn channel(&self, id: Snowflake) -> Option<Option<&'a Channel>> {
        self.young(self.facts.channels.get(&id)).map(Option::as_ref)
    }

    /// The roles of a member, or `Some(None)` if the user is not one.
    pub(super) fn member(&self, guild: Snowflake, user: Snowflake) -> Option<Option<&'a [Snowflake]>> {
        self.young(self.facts.members.get(&(guild, user))).map(Option::as_deref)
    }

    /// The servers that have the roles.
    pub(super) fn homes_of(&self, roles: &[Snowflake]) -> Vec<Snowflake> {
        let homes = roles.iter().filter_map(|role| self.facts.role_homes.get(role)).copied();
        // The role @everyone has the id of its server.
        let own = roles.iter().filter(|role| self.facts.is_in(**role)).copied();
        homes.chain(own).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

// === reading Discord's objects ===

impl From<&PartialGuild> for Guild {
    fn from(guild: &PartialGuild) -> Self {
        let roles = guild.roles.values().map(|role| (Snowflake(role.id.get()), role.permissions));
        Self { name: guild.name.clone(), owner: Snowflake(guild.owner_id.get()), roles: roles.collect() }
    }
}

impl Channel {
    /// Reads a channel of a server. Returns `None` for any other, and for a thread: it has no rules
    /// of its own, and lists name its channel.
    pub(in crate::discord) fn read(channel: AnyChannel) -> Option<Self> {
        let channel = channel.guild()?;
        let is_thread = matches!(
            channel.kind,
            ChannelType::PublicThread | ChannelType::PrivateThread | ChannelType::NewsThread
        );
        (!is_thread).then(|| Self {
            guild: Snowflake(channel.guild_id.get()),
            overwrites: channel.permission_overwrites.clone(),
        })
    }
}

/// Whether a member with these roles may view a channel, by Discord's order of overwrites: the role
/// @everyone, then all other roles together, then the member.
pub(super) fn may_view(
    guild: &Guild,
    guild_id: Snowflake,
    channel: &Channel,
    user: Snowflake,
    roles: &[Snowflake],
) -> bool {
    let held = roles.iter().chain([&guild_id]).filter_map(|role| guild.roles.get(role));
    let base = held.fold(Permissions::empty(), |sum, role| sum | *role);
    if guild.owner == user || base.contains(Permissions::ADMINISTRATOR) {
        return true;
    }
    let apply = |to: Permissions, concerns: &dyn Fn(PermissionOverwriteType) -> bool| {
        let rules = channel.overwrites.iter().filter(|rule| concerns(rule.kind));
        let (mut allow, mut deny) = (Permissions::empty(), Permissions::empty());
        for rule in rules {
            allow |= rule.allow;
            deny |= rule.deny;
        }
        to & !deny | allow
    };
    let is_role = |kind, wanted: &dyn Fn(Snowflake) -> bool| match kind {
        PermissionOverwriteType::Role(role) => wanted(Snowflake(role.get())),
        _ => false,
    };
    let everyone = apply(base, &|kind| is_role(kind, &|role| role == guild_id));
    let with_roles =
        apply(everyone, &|kind| is_role(kind, &|role| role != guild_id && roles.contains(&role)));
    let own = apply(
        with_roles,
        &|kind| matches!(kind, PermissionOverwriteType::Member(member) if member.get() == user.0),
    );
    own.contains(Permissions::VIEW_CHANNEL)
}

/// Whether a member with these roles manages a server.
pub(super) fn may_manage(guild: &Guild, guild_id: Snowflake, user: Snowflake, roles: &[Snowflake]) -> bool {
    let held = roles.iter().chain([&guild_id]).filter_map(|role| guild.roles.get(role));
    let all = held.fold(Permissions::empty(), |sum, role| sum | *role);
    guild.owner == user || all.intersects(Permissions::ADMINISTRATOR | Permissions::MANAGE_GUILD)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A server whose members see nothing by themselves, with one role for each of `roles`.
    pub(in crate::discord) fn guild(id: u64, owner: u64, roles: &[(u64, Permissions)]) -> Guild {
        let everyone = (Snowflake(id), Permissions::VIEW_CHANNEL);
        let roles = roles.iter().map(|(role, permissions)| (Snowflake(*role), *permissions));
        Guild { name: "team".into(), owner: Snowflake(owner), roles: roles.chain([everyone]).collect() }
    }

    /// A channel with overwrites: the kind (0 role, 1 member), the id, the allowed and the denied
    /// permissions.
    pub(in crate::discord) fn channel(
        guild: u64,
        overwrites: &[(u8, u64, Permissions, Permissions)],
    ) -> Channel {
        let overwrites = overwrites.iter().map(|(kind, id, allow, deny)| {
            let json = json!({"type": kind, "id": id.to_string(), "allow": allow, "deny": deny});
            serde_json::from_value(json).expect("an overwrite")
        });
        Channel { guild: Snowflake(guild), overwrites: overwrites.collect() }
    }

    const VIEW: Permissions = Permissions::VIEW_CHANNEL;
    const NOTHING: Permissions = Permissions::empty();

    #[test]
    fn overwrites_apply_in_discords_order() {
        let team = guild(1, 9, &[(4, NOTHING), (5, NOTHING), (6, Permissions::ADMINISTRATOR)]);
        let sees = |overwrites: &[(u8, u64, Permissions, Permissions)], user: u64, roles: &[u64]| {
            let roles: Vec<_> = roles.iter().map(|role| Snowflake(*role)).collect();
            may_view(&team, Snowflake(1), &channel(1, overwrites), Snowflake(user), &roles)
        };
        let hidden = (0, 1, NOTHING, VIEW);
        assert!(sees(&[], 7, &[]), "the role @everyone sees it");
        assert!(!sees(&[hidden], 7, &[]));
        assert!(sees(&[hidden, (0, 4, VIEW, NOTHING)], 7, &[4]));
        assert!(sees(&[hidden, (0, 5, NOTHING, VIEW), (0, 4, VIEW, NOTHING)], 7, &[4, 5]), "roles together");
        assert!(!sees(&[hidden, (0, 4, VIEW, NOTHING), (1, 7, NOTHING, VIEW)], 7, &[4]), "the member last");
        assert!(sees(&[hidden, (1, 7, VIEW, NOTHING)], 7, &[]));
        assert!(!sees(&[hidden, (1, 8, VIEW, NOTHING)], 7, &[]), "the overwrite of another member");
        assert!(sees(&[hidden, (1, 7, NOTHING, VIEW)], 7, &[6]), "an administrator");
        assert!(sees(&[hidden], 9, &[]), "the owner");
    }

    #[test]
    fn a_later_report_is_not_replaced_by_an_earlier_one() {
        let mut facts = Facts::new();
        let (team, user) = (Snowflake(1), Snowflake(7));
        facts.learn(Found::Member(team, user, None), Duration::from_secs(20));
        facts.learn(Found::Member(team, user, Some(vec![])), Duration::from_secs(10));
        let view = facts.view(Duration::from_secs(25), Duration::from_secs(60));
        assert_eq!(view.member(team, user), Some(None));
        let later = facts.view(Duration::from_secs(81), Duration::from_secs(60));
        assert_eq!(later.member(team, user), None, "it is too old");
    }
}
