//! The messages of users: prompts in their conversations, and mentions that open one.

use serenity::all::{ChannelType, Message as Received, MessageType};
use tracing::warn;

use super::{
    ask, authorization_response,
    bot::{Bot, BotHandle},
    conversations::Record,
    held_prompts::{Destination, HeldPrompt},
    hold_prompt::{self, missing_login},
    interaction::is_thread,
    open_thread, prompt_search,
    rights::{Place, Refusal, Request},
    turn,
    wire::Message,
};
use crate::{
    agent::Workers,
    ids::{Snowflake, Tenant},
};

/// A user's message.
struct UserMessage {
    user: Snowflake,
    guild: Option<Snowflake>,
    channel: Snowflake,
    id: Snowflake,
    /// The roles of the member. Discord leaves them out for a user who has just left the server.
    roles: Option<Vec<Snowflake>>,
    /// The text without mentions of the bot.
    text: String,
    mentions_bot: bool,
}

impl UserMessage {
    /// Reads a message. Returns `None` if it is not a user's.
    fn read(message: &Received, own_id: Snowflake) -> Option<Self> {
        let is_by_user = !message.author.bot
            && message.webhook_id.is_none()
            && matches!(message.kind, MessageType::Regular | MessageType::InlineReply);
        if !is_by_user {
            return None;
        }
        let (text, mentions_bot) = without_mention(&message.content, own_id);
        let roles =
            message.member.as_ref().map(|m| m.roles.iter().map(|role| Snowflake(role.get())).collect());
        Some(Self {
            user: Snowflake(message.author.id.get()),
            guild: message.guild_id.map(|guild| Snowflake(guild.get())),
            channel: Snowflake(message.channel_id.get()),
            id: Snowflake(message.id.get()),
            roles,
            text,
            mentions_bot,
        })
    }

    /// Checks the user's rights. `parent` is the channel of a thread.
    async fn check(&self, bot: &Bot, parent: Option<Snowflake>) -> Result<(), Refusal> {
        bot.rights.check(&self.request(parent)).await
    }

    /// The part that rights depend on.
    fn request(&self, parent: Option<Snowflake>) -> Request {
        let channel = self.channel;
        let place = self.guild.map_or(Place::Outside, |guild| Place::Server { guild, channel, parent });
        let member = self.guild.zip(self.roles.clone());
        // A member who writes into a channel sees it.
        Request { user: self.user, place, sees_channel: member.is_some(), member }
    }
}

/// Returns the text without mentions of the bot, and whether there were any.
fn without_mention(content: &str, own_id: Snowflake) -> (String, bool) {
    let (plain, nick) = (format!("<@{own_id}>"), format!("<@!{own_id}>"));
    let mentioned = content.contains(&plain) || content.contains(&nick);
    (content.replace(&plain, "").replace(&nick, "").trim().to_owned(), mentioned)
}

/// The meaning of a message by its place. Each way checks the rights of its user.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// A direct message: a prompt.
    Direct,
    /// A message of the owner in their conversation: a prompt.
    OwnThread(Record),
    /// A message of another user in a conversation: the hint that it is not read.
    OthersThread(Record),
    /// A mention in another channel of a server: opens a conversation.
    Mention(Snowflake),
}

impl Way {
    /// Returns the way of a message, or `None` for one that does not concern the bot.
    fn of(bot: &Bot, message: &UserMessage) -> Option<Self> {
        match (message.guild, bot.conversations.get(message.channel)) {
            (None, _) => Some(Self::Direct),
            (Some(_), Some(record)) if record.owner == message.user => Some(Self::OwnThread(record)),
            (Some(_), Some(record)) => Some(Self::OthersThread(record)),
            (Some(guild), None) => message.mentions_bot.then_some(Self::Mention(guild)),
        }
    }
}

/// Handles a message.
pub(super) async fn handle(bot: &BotHandle, received: &Received) {
    let (Some(workers), Some(message)) = (&bot.workers, UserMessage::read(received, bot.own_id)) else {
        return;
    };
    match Way::of(bot, &message) {
        None => {}
        Some(Way::Direct) => match message.check(bot, None).await {
            Ok(()) => prompt_or_hint(bot, workers, message, None).await,
            Err(refusal) => refuse(bot, &message, refusal).await,
        },
        Some(Way::OwnThread(record)) => match message.check(bot, Some(record.parent)).await {
            Ok(()) => prompt_or_hint(bot, workers, message, Some(record)).await,
            Err(refusal) => refuse(bot, &message, refusal).await,
        },
        Some(Way::OthersThread(record)) => match message.check(bot, Some(record.parent)).await {
            Ok(()) if bot.hint_is_due(message.channel, message.user) => {
                let text = format!(
                    "This conversation belongs to <@{}>. Only the owner's messages reach the agent.",
                    record.owner
                );
                reply(bot, &message, &text).await;
            }
            Ok(()) => {}
            Err(refusal) => refuse(bot, &message, refusal).await,
        },
        Some(Way::Mention(guild)) => mention(bot, workers, message, guild).await,
    }
}

/// Reports a refusal, once for each user and channel.
async fn refuse(bot: &Bot, message: &UserMessage, refusal: Refusal) {
    if bot.hint_is_due(message.channel, message.user) {
        reply(bot, message, &format!("-# {refusal}")).await;
    }
}

/// Handles a message of the owner in their own conversation.
async fn prompt_or_hint(bot: &BotHandle, workers: &Workers, message: UserMessage, record: Option<Record>) {
    if message.text.is_empty() {
        if bot.hint_is_due(message.channel, message.user) {
            let text = match record {
                Some(_) if !bot.reads_content() && !message.mentions_bot => {
                    "Discord shows me only messages that mention me: mention me, or use `/ask`."
                }
                _ => "I read text only. Write the task for the agent as text.",
            };
            reply(bot, &message, text).await;
        }
        return;
    }
    if is_response(bot, &message).await {
        return;
    }
    let conversation = match &record {
        Some(record) => open_thread::thread_conversation(bot, message.channel, record),
        None => ask::direct_conversation(bot, message.channel, message.user),
    };
    if let Some(tenant) = missing_login(bot, workers, &conversation).await {
        let destination = Destination::Shown(conversation);
        return sign_in_first(bot, message, &tenant, destination).await;
    }
    turn::begin(bot, workers, conversation, message.text);
}

/// Asks the user to sign in. The prompt runs after that.
async fn sign_in_first(bot: &Bot, message: UserMessage, tenant: &Tenant, destination: Destination) {
    let held = HeldPrompt { user: message.user, destination, text: message.text };
    let request = hold_prompt::request(bot, tenant, held);
    if let Err(error) = bot.rest.send(message.channel, &request).await {
        warn!(channel = %message.channel, %error, "cannot ask a user to sign in");
        hold_prompt::forget(bot, tenant);
    }
}

/// Handles a mention in a channel without a conversation.
async fn mention(bot: &BotHandle, workers: &Workers, message: UserMessage, guild: Snowflake) {
    let channel = match bot.rest.channel(message.channel).await {
        Ok(channel) => channel,
        Err(error) => {
            return warn!(channel = %message.channel, %error, "cannot read the channel of a mention");
        }
    };
    let in_thread = is_thread(channel.kind);
    if let Err(refusal) = message.check(bot, channel.parent.filter(|_| in_thread)).await {
        return refuse(bot, &message, refusal).await;
    }
    if in_thread {
        return reply(bot, &message, ask::OTHER_THREAD).await;
    }
    if channel.kind != ChannelType::Text {
        return reply(
            bot,
            &message,
            "I cannot open a thread here. Mention me in a text channel, or send me a direct message.",
        )
        .await;
    }
    if message.text.is_empty() {
        return reply(bot, &message, "Write the task for the agent in the same message, or use `/ask`.")
            .await;
    }
    if is_response(bot, &message).await {
        return;
    }
    let agent = workers.agents().default_name().cloned();
    let (parent, user) = (message.channel, message.user);
    let conversation = ask::channel_conversation(bot, guild, parent, user, agent.clone());
    if let Some(tenant) = missing_login(bot, workers, &conversation).await {
        let destination = Destination::Channel { guild, channel: parent, agent };
        return sign_in_first(bot, message, &tenant, destination).await;
    }
    // A private thread cannot be attached to a message. Its owner is notified inside it, and no
    // other user sees it.
    match open_thread::open(bot, guild, parent, user, agent, &message.text).await {
        Ok(conversation) => turn::begin(bot, workers, conversation, message.text),
        Err(refusal) => reply(bot, &message, &refusal).await,
    }
}

/// Whether the message is an authorization response. Then it is answered, and is not a prompt.
async fn is_response(bot: &Bot, message: &UserMessage) -> bool {
    let found = prompt_search::authorization_response(bot, message.user, &message.text).await;
    if let Some(found) = &found {
        let place = (message.channel, message.id);
        authorization_response::answer_message(bot, message.user, place, found, &message.text).await;
    }
    found.is_some()
}

async fn reply(bot: &Bot, message: &UserMessage, text: &str) {
    if let Err(error) = bot.rest.send(message.channel, &Message::text(text)).await {
        warn!(channel = %message.channel, %error, "cannot answer a message");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_its_member_proves_no_membership_and_no_sight_of_its_channel() {
        let read = |member: Option<serde_json::Value>| {
            let mut message = serde_json::json!({
                "id": "1", "channel_id": "2", "guild_id": "3", "type": 0, "content": "go",
                "author": {"id": "5", "username": "alice", "discriminator": "0", "avatar": null},
                "timestamp": "2026-01-01T00:00:00Z", "edited_timestamp": null, "tts": false,
                "mention_everyone": false, "mentions": [], "mention_roles": [], "attachments": [],
                "embeds": [], "pinned": false
            });
            if let Some(member) = member {
                message["member"] = member;
            }
            let message: Received = serde_json::from_value(message).expect("a message");
            UserMessage::read(&message, Snowflake(9)).expect("a user's").request(None)
        };
        let gone = read(None);
        assert!(gone.member.is_none() && !gone.sees_channel);
        let there = read(Some(serde_json::json!({"roles": ["4"], "deaf": false, "mute": false})));
        assert_eq!(there.member, Some((Snowflake(3), vec![Snowflake(4)])));
        assert!(there.sees_channel);
    }

    #[test]
    fn both_forms_of_a_mention_are_removed_from_the_prompt() {
        let own_id = Snowflake(42);
        assert_eq!(without_mention("<@42> fix it", own_id), ("fix it".into(), true));
        assert_eq!(without_mention("fix it, <@!42>", own_id), ("fix it,".into(), true));
        assert_eq!(without_mention("<@421> hello", own_id), ("<@421> hello".into(), false));
        assert_eq!(without_mention("<@42>", own_id), (String::new(), true));
    }
}
