//! The allow-lists for servers, channels, roles and users: pure checks against the configuration.

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

/// The user of a request, and the channel that it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestOrigin<'a> {
    /// `None` in direct messages.
    pub(super) guild: Option<Snowflake>,
    pub(super) channel: Snowflake,
    /// The channel of a thread.
    pub(super) parent: Option<Snowflake>,
    pub(super) user: Snowflake,
    pub(super) roles: &'a [Snowflake],
}

/// The list that refuses a request, with the text for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "I do not work on this server, because it is not on my operator's list. Ask the operator to add it."
    )]
    Guild,
    #[error("I do not work in this channel. Ask my operator for the channels that you can use.")]
    Channel,
    #[error("You are not on the list of users who may use me. Ask my operator to add you.")]
    User,
    #[error("I cannot see your roles in a direct message. Use me on the server.")]
    UserInDirectMessage,
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

    /// Checks a request against all lists. In a direct message only the lists of users and roles
    /// count.
    pub(super) fn check(&self, origin: RequestOrigin<'_>) -> Result<(), Refusal> {
        let open = |list: &[Snowflake], one: Snowflake| list.is_empty() || list.contains(&one);
        if let Some(guild) = origin.guild {
            if !open(&self.guilds, guild) {
                return Err(Refusal::Guild);
            }
            let parent_allowed = origin.parent.is_some_and(|parent| self.channels.contains(&parent));
            if !open(&self.channels, origin.channel) && !parent_allowed {
                return Err(Refusal::Channel);
            }
        }
        let allows_everyone = self.users.is_empty() && self.roles.is_empty();
        let by_role = origin.guild.is_some() && origin.roles.iter().any(|role| self.roles.contains(role));
        if allows_everyone || by_role || self.users.contains(&origin.user) {
            return Ok(());
        }
        let roles_are_unknown = origin.guild.is_none() && !self.roles.is_empty();
        Err(if roles_are_unknown { Refusal::UserInDirectMessage } else { Refusal::User })
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

    fn in_thread(user: Snowflake, roles: &[Snowflake]) -> RequestOrigin<'_> {
        RequestOrigin { guild: Some(GUILD), channel: THREAD, parent: Some(CHANNEL), user, roles }
    }

    fn in_direct_message(user: Snowflake) -> RequestOrigin<'static> {
        RequestOrigin { guild: None, channel: Snowflake(9), parent: None, user, roles: &[] }
    }

    #[test]
    fn empty_lists_allow_everything() {
        let lists = AllowLists::default();
        assert_eq!(lists.check(in_thread(ALICE, &[])), Ok(()));
        assert_eq!(lists.check(in_direct_message(ALICE)), Ok(()));
    }

    #[test]
    fn each_list_refuses_an_id_that_it_does_not_contain() {
        let lists = AllowLists { guilds: vec![Snowflake(77)], ..AllowLists::default() };
        assert_eq!(lists.check(in_thread(ALICE, &[])), Err(Refusal::Guild));
        let lists = AllowLists { channels: vec![Snowflake(77)], ..AllowLists::default() };
        assert_eq!(lists.check(in_thread(ALICE, &[])), Err(Refusal::Channel));
        let lists = AllowLists { users: vec![ALICE], ..AllowLists::default() };
        assert_eq!(lists.check(in_thread(BOB, &[])), Err(Refusal::User));
        let lists = AllowLists { roles: vec![ROLE], ..AllowLists::default() };
        assert_eq!(lists.check(in_thread(BOB, &[Snowflake(77)])), Err(Refusal::User));
    }

    #[test]
    fn a_thread_counts_as_its_channel_and_one_listed_role_or_user_is_enough() {
        let lists = AllowLists {
            guilds: vec![GUILD],
            channels: vec![CHANNEL],
            roles: vec![ROLE],
            users: vec![ALICE],
        };
        assert_eq!(lists.check(in_thread(ALICE, &[])), Ok(()));
        assert_eq!(lists.check(in_thread(BOB, &[ROLE])), Ok(()));
        assert_eq!(lists.check(in_thread(BOB, &[])), Err(Refusal::User));
    }

    #[test]
    fn a_direct_message_is_checked_against_the_user_list_and_proves_no_role() {
        let lists = AllowLists {
            guilds: vec![GUILD],
            channels: vec![CHANNEL],
            roles: vec![ROLE],
            users: vec![ALICE],
        };
        assert_eq!(lists.check(in_direct_message(ALICE)), Ok(()));
        let claimed = RequestOrigin { roles: &[ROLE], ..in_direct_message(BOB) };
        assert_eq!(lists.check(claimed), Err(Refusal::UserInDirectMessage));
    }
}
