//! Ends the workers whose owners have lost their rights.
//!
//! Two ways lead here: an event of Discord, and a check at a token request. Both add conversations
//! to a list of [`Rights`], and one task ends their workers.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::{
    bot::BotHandle,
    rights::{Channel, Fact, Found, Rights},
    wire::{Embed, Message},
};
use crate::{
    broker::{OwnerRights as _, RightsError},
    ids::{ConversationId, Snowflake},
};

/// Ends workers as their owners lose their rights. Runs until the bot shuts down.
pub(super) async fn end_workers(bot: BotHandle) {
    loop {
        let ended = tokio::select! {
            () = bot.shutdown.cancelled() => return,
            ended = bot.rights.next_ended() => ended,
        };
        for conversation in ended {
            let task = bot.clone();
            bot.spawn(async move { end_worker(&task, conversation).await });
        }
    }
}

async fn end_worker(bot: &BotHandle, conversation: ConversationId) {
    let Some(workers) = &bot.workers else { return };
    if !workers.end(conversation).await {
        return;
    }
    info!(%conversation, "ended an agent, because its owner may no longer use the bot here");
    let notice = Message::embed(Embed {
        title: "The agent was ended".to_owned(),
        description: "Its owner may no longer use me here: a membership, a role or a channel has changed. A manager of this server can give it back; then the next message starts a new agent."
            .to_owned(),
        fields: Vec::new(),
    });
    if let Err(error) = bot.rest.send(conversation.0, &notice).await {
        warn!(%conversation, %error, "cannot report in the conversation that its agent was ended");
    }
}

// === the changes that events of Discord report ===

/// A user has left a server, or was removed or banned. Workers of their conversations there end,
/// also if the user may use the bot in other places.
pub(super) async fn member_left(bot: &BotHandle, guild: Snowflake, user: Snowflake) {
    bot.rights.learn(Found::Member(guild, user, None));
    let ends = |owner, of: Option<Snowflake>| owner == user && of == Some(guild);
    end_where(bot, ends);
    check_workers(bot, Some(user)).await;
}

/// The roles of a member have changed.
pub(super) async fn member_changed(
    bot: &BotHandle,
    guild: Snowflake,
    user: Snowflake,
    roles: Vec<Snowflake>,
) {
    bot.rights.learn(Found::Member(guild, user, Some(roles)));
    check_workers(bot, Some(user)).await;
}

/// A role or the owner of a server has changed. Members who held a deleted role no longer do.
pub(super) async fn guild_changed(bot: &BotHandle, guild: Snowflake, deleted_role: Option<Snowflake>) {
    bot.rights.forget(Fact::Guild(guild));
    if deleted_role.is_some() {
        bot.rights.forget_members(guild);
    }
    check_workers(bot, None).await;
}

/// The permissions of a channel have changed, or it is deleted.
pub(super) async fn channel_changed(bot: &BotHandle, channel: Snowflake, now: Option<Channel>) {
    bot.rights.learn(Found::Channel(channel, now));
    check_workers(bot, None).await;
}

/// The bot was invited to a server, or has connected and learns of it.
pub(super) fn guild_joined(rights: &Rights, guild: Snowflake, roles: Vec<Snowflake>) {
    rights.joined(guild, roles);
}

/// The bot has connected anew, and is in these servers. It may have been removed from others while it
/// was not connected.
pub(super) async fn connected(bot: &BotHandle, guilds: &BTreeSet<Snowflake>) {
    for guild in bot.rights.own_guilds().difference(guilds) {
        guild_left(bot, *guild).await;
    }
    for guild in guilds {
        guild_joined(&bot.rights, *guild, Vec::new());
    }
}

/// The bot was removed from a server. All workers of conversations there end.
pub(super) async fn guild_left(bot: &BotHandle, guild: Snowflake) {
    bot.rights.left(guild);
    end_where(bot, |_, of| of == Some(guild));
    check_workers(bot, None).await;
}

/// Ends the workers of conversations with such an owner and server.
fn end_where(bot: &BotHandle, ends: impl Fn(Snowflake, Option<Snowflake>) -> bool) {
    for conversation in bot.workers.iter().flat_map(|workers| workers.live()) {
        let guild = bot.conversations.get(conversation.id.0).map(|record| record.guild);
        if ends(conversation.owner, guild) {
            bot.rights.end(conversation.id);
        }
    }
}

/// Ends the workers whose owners are no longer entitled, or no longer share a server's sessions
/// that the worker may have used. A worker stays while Discord gives no answer; its next token
/// request is checked.
async fn check_workers(bot: &BotHandle, of: Option<Snowflake>) {
    for conversation in bot.workers.iter().flat_map(|workers| workers.live()) {
        if of.is_some_and(|user| user != conversation.owner) {
            continue;
        }
        let shared = conversation.shared_guild.is_some();
        match bot.rights.of(&conversation).await {
            Ok(standing) if shared && !standing.shares => bot.rights.end(conversation.id),
            // `of` has added it.
            Err(RightsError::NotEntitled) => {}
            Ok(_) | Err(RightsError::Unknown { .. }) => {}
        }
    }
}
