//! Who may use the bot, and where: pure checks against the configured lists.

use super::DiscordSettings;
use crate::ids::Snowflake;

/// The configured lists; an empty one allows everything of its kind.
#[derive(Clone, Debug, Default)]
pub(super) struct AllowLists {
    guilds: Vec<Snowflake>,
    channels: Vec<Snowflake>,
    roles: Vec<Snowflake>,
    users: Vec<Snowflake>,
}

/// Where somebody acts, and who they are there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances<'a> {
    /// `None` in direct messages.
    pub(super) guild: Option<Snowflake>,
    pub(super) channel: Snowflake,
    /// Of a thread: its channel.
    pub(super) parent: Option<Snowflake>,
    pub(super) user: Snowflake,
    pub(super) roles: &'a [Snowflake],
}

/// A list that somebody is not on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("I do not work on this server: its operator has not put it on the list of allowed servers.")]
    Guild,
    #[error("I do not work in this channel. Ask the operator in which ones I do.")]
    Channel,
    #[error("You are not on the list of people who may use me. Ask the operator to be put there.")]
    Person,
    #[error("I cannot see your roles in a direct message: use me on the server.")]
    PersonInDirectMessage,
}

impl AllowLists {
    pub(super) fn new(settings: &DiscordSettings) -> Self {
        Self {
            guilds: settings.allowed_guilds.clone(),
            channels: settings.allowed_channels.clone(),
            roles: settings.allowed_roles.clone(),
            users: settings.allowed_users.clone(),
        }
    }

    /// Whether all lists allow this. In a direct message only those of people count.
    pub(super) fn check(&self, what: Circumstances<'_>) -> Result<(), Refusal> {
        let open = |list: &[Snowflake], one: Snowflake| list.is_empty() || list.contains(&one);
        if let Some(guild) = what.guild {
            if !open(&self.guilds, guild) {
                return Err(Refusal::Guild);
            }
            let parent_allowed = what.parent.is_some_and(|parent| self.channels.contains(&parent));
            if !open(&self.channels, what.channel) && !parent_allowed {
                return Err(Refusal::Channel);
            }
        }
        let everybody = self.users.is_empty() && self.roles.is_empty();
        let by_role = what.guild.is_some() && what.roles.iter().any(|role| self.roles.contains(role));
        if everybody || by_role || self.users.contains(&what.user) {
            return Ok(());
        }
        let roles_would_tell = what.guild.is_none() && !self.roles.is_empty();
        Err(if roles_would_tell { Refusal::PersonInDirectMessage } else { Refusal::Person })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUILD: Snowflake = Snowflake(1);
    const CHANNEL: Snowflake = Snowflake(2);
    const THREAD: Snowflake = Snowflake(3);
    const ROLE: Snowflake = Snowflake(4);
    const ALICE: Snowflake = Snowflake(5);
    const BOB: Snowflake = Snowflake(6);

    fn in_thread(user: Snowflake, roles: &[Snowflake]) -> Circumstances<'_> {
        Circumstances { guild: Some(GUILD), channel: THREAD, parent: Some(CHANNEL), user, roles }
    }

    fn in_direct_message(user: Snowflake) -> Circumstances<'static> {
        Circumstances { guild: None, channel: Snowflake(9), parent: None, user, roles: &[] }
    }

    #[test]
    fn empty_lists_allow_everything() {
        let lists = AllowLists::default();
        assert_eq!(lists.check(in_thread(ALICE, &[])), Ok(()));
        assert_eq!(lists.check(in_direct_message(ALICE)), Ok(()));
    }

    #[test]
    fn each_list_refuses_what_is_not_on_it() {
        let lists = AllowLists { guilds: vec![Snowflake(77)], ..AllowLists::default() };
        assert_eq!(lists.check(in_thread(ALICE, &[])), Err(Refusal::Guild));
        let lists = AllowLists { channels: vec![Snowflake(77)], ..AllowLists::default() };
        assert_eq!(lists.check(in_thread(ALICE, &[])), Err(Refusal::Channel));
        let lists = AllowLists { users: vec![ALICE], ..AllowLists::default() };
        assert_eq!(lists.check(in_thread(BOB, &[])), Err(Refusal::Person));
        let lists = AllowLists { roles: vec![ROLE], ..AllowLists::default() };
        assert_eq!(lists.check(in_thread(BOB, &[Snowflake(77)])), Err(Refusal::Person));
    }

    #[test]
    fn a_thread_counts_as_its_channel_and_a_user_or_a_role_is_enough() {
        let lists = AllowLists {
            guilds: vec![GUILD],
            channels: vec![CHANNEL],
            roles: vec![ROLE],
            users: vec![ALICE],
        };
        assert_eq!(lists.check(in_thread(ALICE, &[])), Ok(()));
        assert_eq!(lists.check(in_thread(BOB, &[ROLE])), Ok(()));
        assert_eq!(lists.check(in_thread(BOB, &[])), Err(Refusal::Person));
    }

    #[test]
    fn in_a_direct_message_only_the_lists_of_people_count_and_no_role_can_be_claimed() {
        let lists = AllowLists {
            guilds: vec![GUILD],
            channels: vec![CHANNEL],
            roles: vec![ROLE],
            users: vec![ALICE],
        };
        assert_eq!(lists.check(in_direct_message(ALICE)), Ok(()));
        let claimed = Circumstances { roles: &[ROLE], ..in_direct_message(BOB) };
        assert_eq!(lists.check(claimed), Err(Refusal::PersonInDirectMessage));
    }
}
