//! The part that all kinds of interactions share: the user, the channel, and the token for the
//! answer.

use serenity::all::{
    AuthorizingIntegrationOwner, AuthorizingIntegrationOwners, ChannelType, CommandInteraction,
    ComponentInteraction, Member, ModalInteraction, PartialChannel, Permissions, User,
};

use super::{
    rest::InteractionToken,
    rights::{Place, Request},
};
use crate::{ids::Snowflake, secret::Secret};

/// An interaction, without the data of its kind.
#[derive(Clone, Debug)]
pub(super) struct Interaction {
    pub(super) id: u64,
    pub(super) token: InteractionToken,
    /// The acting user, and the only source of authority.
    pub(super) user: Snowflake,
    /// The user's name, which is not an authority.
    pub(super) user_name: String,
    pub(super) guild: Option<Snowflake>,
    pub(super) channel: Snowflake,
    pub(super) parent: Option<Snowflake>,
    pub(super) kind: Option<ChannelType>,
    /// The user's roles in the server, if the interaction has its member.
    roles: Option<Vec<Snowflake>>,
    /// The server has the bot, so that the application is not installed by the user alone.
    has_bot: bool,
    /// The user's permissions in the channel of the server.
    permissions: Permissions,
    /// The bot's own permissions in the channel, where Discord includes them.
    pub(super) own_permissions: Option<Permissions>,
}

/// The fields that the three kinds of interactions share.
struct Parts<'a> {
    id: u64,
    token: &'a str,
    user: &'a User,
    member: Option<&'a Member>,
    guild: Option<u64>,
    channel_id: u64,
    channel: Option<&'a PartialChannel>,
    own_permissions: Option<Permissions>,
    is_installed_in_guild: bool,
}

impl From<Parts<'_>> for Interaction {
    fn from(parts: Parts<'_>) -> Self {
        let roles = parts.member.map(|m| m.roles.iter().map(|role| Snowflake(role.get())).collect());
        Self {
            id: parts.id,
            token: InteractionToken(Secret::new(parts.token)),
            user: Snowflake(parts.user.id.get()),
            user_name: user_name(parts.user),
            guild: parts.guild.map(Snowflake),
            channel: Snowflake(parts.channel_id),
            parent: parts.channel.and_then(|c| c.parent_id).map(|parent| Snowflake(parent.get())),
            kind: parts.channel.map(|channel| channel.kind),
            roles,
            has_bot: parts.is_installed_in_guild,
            permissions: parts.member.and_then(|m| m.permissions).unwrap_or(Permissions::empty()),
            own_permissions: parts.own_permissions,
        }
    }
}

impl From<&CommandInteraction> for Interaction {
    fn from(received: &CommandInteraction) -> Self {
        Parts {
            id: received.id.get(),
            token: &received.token,
            user: &received.user,
            member: received.member.as_deref(),
            guild: received.guild_id.map(|guild| guild.get()),
            channel_id: received.channel_id.get(),
            channel: received.channel.as_ref(),
            own_permissions: received.app_permissions,
            is_installed_in_guild: is_installed_in_guild(&received.authorizing_integration_owners),
        }
        .into()
    }
}

impl From<&ComponentInteraction> for Interaction {
    fn from(received: &ComponentInteraction) -> Self {
        Parts {
            id: received.id.get(),
            token: &received.token,
            user: &received.user,
            member: received.member.as_ref(),
            guild: received.guild_id.map(|guild| guild.get()),
            channel_id: received.channel_id.get(),
            channel: received.channel.as_ref(),
            own_permissions: received.app_permissions,
            is_installed_in_guild: is_installed_in_guild(&received.authorizing_integration_owners),
        }
        .into()
    }
}

impl From<&ModalInteraction> for Interaction {
    fn from(received: &ModalInteraction) -> Self {
        Parts {
            id: received.id.get(),
            token: &received.token,
            user: &received.user,
            member: received.member.as_ref(),
            guild: received.guild_id.map(|guild| guild.get()),
            channel_id: received.channel_id.get(),
            channel: received.channel.as_ref(),
            own_permissions: received.app_permissions,
            // Discord reports it too, but serenity does not read it. `within` adds it.
            is_installed_in_guild: false,
        }
        .into()
    }
}

/// Returns the unique name, after the one that the user chose.
fn user_name(user: &User) -> String {
    match &user.global_name {
        Some(global) if *global != user.name => format!("{global} (@{})", user.name),
        Some(_) | None => format!("@{}", user.name),
    }
}

fn is_installed_in_guild(owners: &AuthorizingIntegrationOwners) -> bool {
    owners.0.iter().any(|owner| matches!(owner, AuthorizingIntegrationOwner::GuildInstall(_)))
}

impl Interaction {
    /// The same interaction, with the bot's membership as the gateway reports it.
    pub(super) fn within(mut self, is_in: impl Fn(Snowflake) -> bool) -> Self {
        self.has_bot |= self.guild.is_some_and(is_in);
        self
    }

    /// The part that rights depend on.
    pub(super) fn request(&self) -> Request {
        let place = match self.guild {
            Some(guild) if self.has_bot => Place::Server {
                guild,
                channel: self.channel,
                // The parent of a channel is its category, which the lists do not know. Only a
                // thread's parent is a channel.
                parent: self.parent.filter(|_| self.in_thread()),
            },
            Some(_) | None => Place::Outside,
        };
        Request {
            user: self.user,
            place,
            member: self.guild.zip(self.roles.clone()),
            sees_channel: self.permissions.intersects(Permissions::VIEW_CHANNEL | Permissions::ADMINISTRATOR),
        }
    }

    /// Whether the interaction comes from a thread of any kind.
    pub(super) fn in_thread(&self) -> bool {
        self.kind.is_some_and(is_thread)
    }

    /// Whether the server of the interaction has the bot.
    pub(super) fn has_bot(&self) -> bool {
        self.has_bot
    }

    /// Returns the server of the interaction, if the user manages it at this moment.
    pub(super) fn managed_guild(&self) -> Option<Snowflake> {
        self.guild.filter(|_| self.manages_guild())
    }

    /// Whether the user may sign the server in and out: it takes `MANAGE_GUILD` at this moment, and
    /// the bot's membership.
    pub(super) fn manages_guild(&self) -> bool {
        self.guild.is_some()
            && self.has_bot
            && self.permissions.intersects(Permissions::MANAGE_GUILD | Permissions::ADMINISTRATOR)
    }
}

/// Whether a channel of this kind is a thread.
pub(super) fn is_thread(kind: ChannelType) -> bool {
    matches!(kind, ChannelType::PublicThread | ChannelType::PrivateThread | ChannelType::NewsThread)
}
