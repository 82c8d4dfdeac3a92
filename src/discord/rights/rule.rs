//! The rule: which user may use the bot, and in which places. It is a function of the lists and of
//! known facts, and does no I/O.
//!
//! A user is *entitled* if one condition holds:
//!
//! 1. `allow_everyone` is set.
//! 2. The user is on `allowed_users`.
//! 3. The user is a member of an allowed server, has an allowed role where roles are listed, and
//!    sees an allowed channel where channels are listed. At least one of the three lists must be set. A list that is not set restricts nothing.
//! 4. No list is set, and the user owns the application or belongs to its team.
//!
//! In a server the *place* must be allowed as well: the server and the channel, where they are
//! listed. A thread counts as its channel. In direct messages, and where only the user has installed
//! the application, entitlement alone decides.

use std::collections::BTreeSet;

use super::facts::{Fact, View, may_view};
use crate::{discord::DiscordSettings, ids::Snowflake};

/// The configured lists.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    pub(super) everyone: bool,
    pub(super) guilds: Vec<Snowflake>,
    pub(super) channels: Vec<Snowflake>,
    pub(super) roles: Vec<Snowflake>,
    pub(super) users: Vec<Snowflake>,
}

/// The place of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discord) enum Place {
    /// A direct message, or a channel of a server where only the user has installed the application.
    Outside,
    /// A channel of a server that has the bot.
    Server {
        guild: Snowflake,
        channel: Snowflake,
        /// The channel of a thread.
        parent: Option<Snowflake>,
    },
}

/// The user of a request, and the facts that the request itself proves.
#[derive(Clone, Debug)]
pub(in crate::discord) struct Request {
    pub(in crate::discord) user: Snowflake,
    pub(in crate::discord) place: Place,
    /// The server that the user is a member of, with the user's roles there.
    pub(in crate::discord) member: Option<(Snowflake, Vec<Snowflake>)>,
    /// Whether the user sees the channel of the place.
    pub(in crate::discord) sees_channel: bool,
}

/// The reason why a request is refused, as a text for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::discord) enum Refusal {
    /// The server is not listed.
    #[error(
        "I do not work on this server, because it is not on my operator's list. Ask my operator to add it to `discord.allowed_guilds`."
    )]
    Guild,
    /// The channel is not listed.
    #[error(
        "I do not work in this channel, because it is not on my operator's list. Use me in a listed channel, or ask my operator to add this one to `discord.allowed_channels`."
    )]
    Channel,
    /// The user is not entitled.
    #[error(
        "You may not use me, because you are not on my operator's lists. If you have just got a role or access to a channel, try again in a minute. Otherwise ask my operator to add you to `discord.allowed_users`, or a manager of a listed server for a listed role and channel."
    )]
    User,
    /// No list is set.
    #[error(
        "I am closed: only the owner of my application and its team may use me. My operator can open me with `discord.allowed_guilds`, `discord.allowed_users` or `discord.allow_everyone`."
    )]
    Closed,
    /// The facts are unknown.
    #[error(
        "I cannot ask Discord at the moment whether you may use me. Discord has to mend that, and this passes by itself: try again in a minute."
    )]
    Unchecked,
}

/// The result of the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Entitled,
    Refused(Refusal),
    /// The result depends on these facts, which are not known.
    Needs(BTreeSet<Fact>),
}

impl Lists {
    pub(super) fn new(settings: &DiscordSettings) -> Self {
        Self {
            everyone: settings.allow_everyone,
            guilds: settings.allowed_guilds.clone(),
            channels: settings.allowed_channels.clone(),
            roles: settings.allowed_roles.clone(),
            users: settings.allowed_users.clone(),
        }
    }

    /// Whether no key opens the bot to any user.
    pub(super) fn are_closed(&self) -> bool {
        !self.everyone && self.users.is_empty() && !self.admit_members()
    }

    /// Whether members of servers are entitled.
    pub(super) fn admit_members(&self) -> bool {
        !(self.guilds.is_empty() && self.channels.is_empty() && self.roles.is_empty())
    }

    /// Decides about a request. This is the one decision for all commands, buttons, forms,
    /// completions and messages.
    pub(super) fn decide(&self, request: &Request, view: &View<'_>) -> Verdict {
        match self.place_refusal(request.place) {
            Some(refusal) => Verdict::Refused(refusal),
            None => self.entitlement(request.user, request.seen_channel(), view),
        }
    }

    /// Returns the list that refuses a place.
    fn place_refusal(&self, place: Place) -> Option<Refusal> {
        let Place::Server { guild, channel, parent } = place else { return None };
        if !self.allow_guild(guild) {
            return Some(Refusal::Guild);
        }
        let is_listed = |channel: &Snowflake| self.channels.contains(channel);
        let is_allowed =
            self.channels.is_empty() || is_listed(&channel) || parent.as_ref().is_some_and(is_listed);
        (!is_allowed).then_some(Refusal::Channel)
    }

    /// Whether a server is on the list, or no server is listed.
    pub(super) fn allow_guild(&self, guild: Snowflake) -> bool {
        self.guilds.is_empty() || self.guilds.contains(&guild)
    }

    /// Decides whether a user is entitled, in whatever place. `seen` is a server's channel that the
    /// user demonstrably sees.
    pub(super) fn entitlement(
        &self,
        user: Snowflake,
        seen: Option<(Snowflake, Snowflake)>,
        view: &View<'_>,
    ) -> Verdict {
        if self.everyone || self.users.contains(&user) {
            return Verdict::Entitled;
        }
        if self.are_closed() {
            return match view.application() {
                Some(application) if application.owners.contains(&user) => Verdict::Entitled,
                Some(_) => Verdict::Refused(Refusal::Closed),
                None => Verdict::Needs([Fact::Application].into()),
            };
        }
        let mut needs = BTreeSet::new();
        if self.admit_members() && self.is_entitled_member(user, seen, view, &mut needs) {
            return Verdict::Entitled;
        }
        if needs.is_empty() { Verdict::Refused(Refusal::User) } else { Verdict::Needs(needs) }
    }

    /// Whether one of the servers entitles the user. Collects the facts that this depends on.
    fn is_entitled_member(
        &self,
        user: Snowflake,
        seen: Option<(Snowflake, Snowflake)>,
        view: &View<'_>,
        needs: &mut BTreeSet<Fact>,
    ) -> bool {
        if self.channels.is_empty() {
            let guilds =
                if self.guilds.is_empty() { view.homes_of(&self.roles) } else { self.guilds.clone() };
            return guilds.into_iter().any(|guild| self.allowed_roles_of(user, guild, view, needs).is_some());
        }
        self.channels.iter().any(|id| {
            let proven = seen.filter(|(_, channel)| channel == id).map(|(guild, _)| guild);
            let channel = match (proven, view.channel(*id)) {
                (Some(_), _) => None,
                (None, Some(Some(channel))) => Some(channel),
                (None, Some(None)) => return false,
                (None, None) => {
                    needs.insert(Fact::Channel(*id));
                    return false;
                }
            };
            let Some(guild) = proven.or(channel.map(|channel| channel.guild)) else { return false };
            if !self.guilds.is_empty() && !self.guilds.contains(&guild) {
                return false;
            }
            let Some(roles) = self.allowed_roles_of(user, guild, view, needs) else { return false };
            let Some(channel) = channel else { return true };
            match view.guild(guild) {
                Some(known) => known.is_some_and(|known| may_view(known, guild, channel, user, roles)),
                None => {
                    needs.insert(Fact::Guild(guild));
                    false
                }
            }
        })
    }

    /// Returns the roles of a member, if the user is one and has an allowed role.
    fn allowed_roles_of<'a>(
        &self,
        user: Snowflake,
        guild: Snowflake,
        view: &View<'a>,
        needs: &mut BTreeSet<Fact>,
    ) -> Option<&'a [Snowflake]> {
        let Some(member) = view.member(guild, user) else {
            needs.insert(Fact::Member(guild, user));
            return None;
        };
        let roles = member?;
        // Each member has the role @everyone, whose id is the server's.
        let is_allowed = self.roles.is_empty()
            || self.roles.contains(&guild)
            || roles.iter().any(|role| self.roles.contains(role));
        is_allowed.then_some(roles)
    }
}

impl Request {
    /// The server's channel that the user sees: the channel of the place, or that of its thread.
    fn seen_channel(&self) -> Option<(Snowflake, Snowflake)> {
        match self.place {
            Place::Server { guild, channel, parent } if self.sees_channel => {
                Some((guild, parent.unwrap_or(channel)))
            }
            Place::Server { .. } | Place::Outside => None,
        }
    }
}
