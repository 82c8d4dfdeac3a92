//! What all kinds of interactions have in common: who asks, where, and with which token it is answered.

use serenity::all::{
    ChannelType, CommandInteraction, ComponentInteraction, Member, ModalInteraction, PartialChannel,
    Permissions, User,
};

use super::{allow::Circumstances, rest::InteractionToken};
use crate::{ids::Snowflake, secret::Secret};

/// An interaction, as far as it does not depend on its kind.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) token: InteractionToken,
    /// Who asks. Authority comes from here alone.
    pub(super) user: Snowflake,
    pub(super) guild: Option<Snowflake>,
    pub(super) channel: Snowflake,
    pub(super) parent: Option<Snowflake>,
    pub(super) kind: Option<ChannelType>,
    roles: Vec<Snowflake>,
    /// The person's permissions in the server.
    permissions: Permissions,
    /// Our own permissions in the channel, where Discord says.
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
}

impl From<Parts<'_>> for Asked {
    fn from(parts: Parts<'_>) -> Self {
        let roles = parts.member.map(|m| m.roles.iter().map(|role| Snowflake(role.get())).collect());
        Self {
            id: parts.id,
            token: InteractionToken(Secret::new(parts.token)),
            user: Snowflake(parts.user.id.get()),
            guild: parts.guild.map(Snowflake),
            channel: Snowflake(parts.channel_id),
            parent: parts.channel.and_then(|c| c.parent_id).map(|parent| Snowflake(parent.get())),
            kind: parts.channel.map(|channel| channel.kind),
            roles: roles.unwrap_or_default(),
            permissions: parts.member.and_then(|m| m.permissions).unwrap_or(Permissions::empty()),
            own_permissions: parts.own_permissions,
        }
    }
}

impl From<&CommandInteraction> for Asked {
    fn from(it: &CommandInteraction) -> Self {
        Parts {
            id: it.id.get(),
            token: &it.token,
            user: &it.user,
            member: it.member.as_deref(),
            guild: it.guild_id.map(|guild| guild.get()),
            channel_id: it.channel_id.get(),
            channel: it.channel.as_ref(),
            own_permissions: it.app_permissions,
        }
        .into()
    }
}

impl From<&ComponentInteraction> for Asked {
    fn from(it: &ComponentInteraction) -> Self {
        Parts {
            id: it.id.get(),
            token: &it.token,
            user: &it.user,
            member: it.member.as_ref(),
            guild: it.guild_id.map(|guild| guild.get()),
            channel_id: it.channel_id.get(),
            channel: it.channel.as_ref(),
            own_permissions: it.app_permissions,
        }
        .into()
    }
}

impl From<&ModalInteraction> for Asked {
    fn from(it: &ModalInteraction) -> Self {
        Parts {
            id: it.id.get(),
            token: &it.token,
            user: &it.user,
            member: it.member.as_ref(),
            guild: it.guild_id.map(|guild| guild.get()),
            channel_id: it.channel_id.get(),
            channel: it.channel.as_ref(),
            own_permissions: it.app_permissions,
        }
        .into()
    }
}

impl Asked {
    /// For the allow-lists.
    pub(super) fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            guild: self.guild,
            channel: self.channel,
            // A channel's parent is its category, which is no channel to talk in; only a thread's counts.
            parent: self.parent.filter(|_| self.in_thread()),
            user: self.user,
            roles: &self.roles,
        }
    }

    /// In a thread of any kind.
    pub(super) fn in_thread(&self) -> bool {
        self.kind.is_some_and(is_thread)
    }

    /// May sign the server in and out: `MANAGE_GUILD` there.
    pub(super) fn manages_guild(&self) -> bool {
        self.guild.is_some()
            && self.permissions.intersects(Permissions::MANAGE_GUILD | Permissions::ADMINISTRATOR)
    }
}

/// Whether a channel of this kind is a thread.
pub(super) fn is_thread(kind: ChannelType) -> bool {
    matches!(kind, ChannelType::PublicThread | ChannelType::PrivateThread | ChannelType::NewsThread)
}
