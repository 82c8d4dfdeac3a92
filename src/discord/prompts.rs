//! Messages that people write: prompts in their conversations, and mentions that open one.

use serenity::all::{ChannelType, Message as Received, MessageType};
use tracing::{debug, warn};

use super::{
    allow::Circumstances,
    ask,
    asked::is_thread,
    bot::{Bot, Shared},
    conversations::Record,
    turn,
    wire::Message,
};
use crate::{agent::Workers, ids::Snowflake};

/// A message, as far as it matters.
struct Said {
    user: Snowflake,
    guild: Option<Snowflake>,
    channel: Snowflake,
    roles: Vec<Snowflake>,
    /// Without the mention of us.
    text: String,
    mentions_us: bool,
}

impl Said {
    fn read(message: &Received, me: Snowflake) -> Option<Self> {
        let by_a_person = !message.author.bot
            && message.webhook_id.is_none()
            && matches!(message.kind, MessageType::Regular | MessageType::InlineReply);
        if !by_a_person {
            return None;
        }
        let (text, mentions_us) = without_mention(&message.content, me);
        let roles =
            message.member.as_ref().map(|m| m.roles.iter().map(|role| Snowflake(role.get())).collect());
        Some(Self {
            user: Snowflake(message.author.id.get()),
            guild: message.guild_id.map(|guild| Snowflake(guild.get())),
            channel: Snowflake(message.channel_id.get()),
            roles: roles.unwrap_or_default(),
            text,
            mentions_us,
        })
    }

    fn is_allowed(&self, bot: &Bot, parent: Option<Snowflake>) -> bool {
        let what = Circumstances {
            guild: self.guild,
            channel: self.channel,
            parent,
            user: self.user,
            roles: &self.roles,
        };
        bot.allow.check(what).is_ok()
    }
}

fn without_mention(content: &str, me: Snowflake) -> (String, bool) {
    let (plain, nick) = (format!("<@{me}>"), format!("<@!{me}>"));
    let mentioned = content.contains(&plain) || content.contains(&nick);
    (content.replace(&plain, "").replace(&nick, "").trim().to_owned(), mentioned)
}

/// Takes a message in.
pub(super) async fn message(bot: &Shared, received: &Received) {
    let (Some(workers), Some(said)) = (&bot.workers, Said::read(received, bot.me)) else { return };
    match (said.guild, bot.conversations.get(said.channel)) {
        (None, _) if said.is_allowed(bot, None) => prompt_or_hint(bot, workers, said, None).await,
        (None, _) => {}
        (Some(_), Some(record)) if !said.is_allowed(bot, Some(record.parent)) => {}
        (Some(_), Some(record)) if record.owner != said.user => {
            if bot.hint_is_due(said.channel, said.user) {
                let owner = record.owner;
                reply(
                    bot,
                    &said,
                    &format!(
                        "-# This conversation belongs to <@{owner}>; only their messages reach the agent."
                    ),
                )
                .await;
            }
        }
        (Some(_), Some(record)) => prompt_or_hint(bot, workers, said, Some(record)).await,
        (Some(guild), None) if said.mentions_us => mention(bot, workers, said, guild).await,
        (Some(_), None) => {}
    }
}

/// A message of the owner in their own conversation.
async fn prompt_or_hint(bot: &Shared, workers: &Workers, said: Said, record: Option<Record>) {
    if said.text.is_empty() {
        if bot.hint_is_due(said.channel, said.user) {
            let text = match record {
                Some(_) if !bot.reads_content() && !said.mentions_us => {
                    "-# Discord does not show me messages here unless they mention me: mention me, or use `/ask`."
                }
                _ => "-# I read text only: write what the agent should do.",
            };
            reply(bot, &said, text).await;
        }
        return;
    }
    let conversation = match &record {
        Some(record) => ask::in_thread(bot, said.channel, record),
        None => ask::direct(said.channel, said.user),
    };
    turn::begin(bot, workers, conversation, said.text);
}

/// A mention where there is no conversation.
async fn mention(bot: &Shared, workers: &Workers, said: Said, guild: Snowflake) {
    let info = match bot.rest.channel(said.channel).await {
        Ok(info) => info,
        Err(error) => {
            return warn!(channel = %said.channel, %error, "a mention came from a channel that cannot be seen");
        }
    };
    let thread = is_thread(info.kind);
    if !said.is_allowed(bot, info.parent.filter(|_| thread)) {
        debug!(channel = %said.channel, user = %said.user, "a mention by somebody, or in a place, that is not on the lists");
        return;
    }
    if thread {
        return reply(
            bot,
            &said,
            "This thread is none of my conversations: use `/ask` in a channel, and I open one.",
        )
        .await;
    }
    if info.kind != ChannelType::Text {
        return reply(
            bot,
            &said,
            "I cannot open a thread here: mention me in a text channel, or write to me directly.",
        )
        .await;
    }
    if said.text.is_empty() {
        return reply(bot, &said, "Tell me in the same message what the agent should do, or use `/ask`.")
            .await;
    }
    // A private thread cannot hang on a message; its owner is notified inside it, and nobody else sees it.
    match ask::open(bot, guild, said.channel, said.user, &said.text).await {
        Ok(conversation) => turn::begin(bot, workers, conversation, said.text),
        Err(refusal) => reply(bot, &said, &refusal).await,
    }
}

async fn reply(bot: &Bot, said: &Said, text: &str) {
    if let Err(error) = bot.rest.send(said.channel, &Message::text(text)).await {
        warn!(channel = %said.channel, %error, "an answer to a message could not be sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_mention_are_taken_off_the_prompt() {
        let me = Snowflake(42);
        assert_eq!(without_mention("<@42> fix it", me), ("fix it".into(), true));
        assert_eq!(without_mention("fix it, <@!42>", me), ("fix it,".into(), true));
        assert_eq!(without_mention("<@421> hello", me), ("<@421> hello".into(), false));
        assert_eq!(without_mention("<@42>", me), (String::new(), true));
    }
}
