//! `/ask`, `/stop`, `/new`, and opening a thread for a conversation.

use serenity::all::{ChannelType, Permissions};
use tracing::warn;

use super::{
    authorization_response,
    bot::{Bot, BotHandle, internal_error},
    conversations::Record,
    hidden::is_hidden,
    interaction::Interaction,
    rest::RestError,
    turn,
    wire::{Message, Response, shorten},
};
use crate::{
    agent::{Conversation, Workers},
    ids::{ConversationId, Snowflake},
};

/// UTF-16 units of a prompt that are quoted in a thread.
const MAX_QUOTE: usize = 1800;
/// UTF-16 units of a thread's name.
const MAX_THREAD_NAME: usize = 80;

const NO_AGENT: &str =
    "No agent is configured here. Ask my operator to set agent.command. `/auth` works without an agent.";
/// The answer in a thread that is not a conversation of the bot.
pub(super) const OTHER_THREAD: &str =
    "I have no conversation in this thread. Use `/ask` in a channel to open one.";

/// The channel of a command, as its user may use it.
enum Place {
    /// The user's own conversation.
    Own(Conversation),
    /// The conversation of another owner.
    OtherOwner(Snowflake),
    /// A thread without a conversation.
    OtherThread,
    /// A channel of this server, in which a thread can be opened.
    Channel(Snowflake),
    /// A channel without threads for conversations.
    Unsuitable,
}

fn place(bot: &Bot, interaction: &Interaction) -> Place {
    let Some(guild) = interaction.guild else {
        return match interaction.kind {
            Some(ChannelType::Private) | None => {
                Place::Own(direct_conversation(interaction.channel, interaction.user))
            }
            Some(_) => Place::Unsuitable,
        };
    };
    match bot.conversations.get(interaction.channel) {
        Some(record) if record.owner == interaction.user => {
            Place::Own(thread_conversation(bot, interaction.channel, &record))
        }
        Some(record) => Place::OtherOwner(record.owner),
        None if interaction.in_thread() => Place::OtherThread,
        None if matches!(interaction.kind, Some(ChannelType::Text) | None) => Place::Channel(guild),
        None => Place::Unsuitable,
    }
}

/// The conversation of a user with the bot in direct messages.
pub(super) fn direct_conversation(channel: Snowflake, owner: Snowflake) -> Conversation {
    Conversation { id: ConversationId(channel), owner, shared_guild: None }
}

/// The conversation of a thread. Its owner has just acted in that server, which proves the
/// membership.
pub(super) fn thread_conversation(bot: &Bot, thread: Snowflake, record: &Record) -> Conversation {
    let shared_guild = bot.guild_sessions.then_some(record.guild);
    Conversation { id: ConversationId(thread), owner: record.owner, shared_guild }
}

/// `/ask`: sends a prompt to the user's conversation, and opens a thread for it first if necessary.
pub(super) async fn ask(bot: &BotHandle, interaction: &Interaction, prompt: &str) {
    let Some(workers) = &bot.workers else { return bot.reply(interaction, NO_AGENT).await };
    if let Some(found) = authorization_response::find(bot, interaction.user, prompt).await {
        return authorization_response::answer_command(bot, interaction, &found, prompt).await;
    }
    match place(bot, interaction) {
        Place::Own(conversation) => {
            let quoted = Message::text(format!("<@{}> asks:\n{}", interaction.user, quote(prompt)));
            if bot.respond(interaction, &Response::Message(quoted)).await {
                turn::begin(bot, workers, conversation, prompt.to_owned());
            }
        }
        Place::OtherOwner(owner) => {
            let text =
                format!("This conversation belongs to <@{owner}>. Use `/ask` in a channel to open your own.");
            bot.reply(interaction, text).await;
        }
        Place::OtherThread => {
            bot.reply(interaction, OTHER_THREAD).await;
        }
        Place::Unsuitable => {
            let text =
                "I cannot open a thread here. Use `/ask` in a text channel, or send me a direct message.";
            bot.reply(interaction, text).await;
        }
        Place::Channel(guild) => {
            if let Some(missing) = missing_permissions(interaction.own_permissions) {
                return bot.reply(interaction, missing).await;
            }
            if !bot.defer(interaction).await {
                return;
            }
            match open(bot, guild, interaction.channel, interaction.user, prompt).await {
                Ok(conversation) => {
                    let link = Message::text(format!("Your conversation: <#{}>", conversation.id));
                    bot.edit_reply(interaction, &link).await;
                    turn::begin(bot, workers, conversation, prompt.to_owned());
                }
                Err(refusal) => bot.edit_reply(interaction, &Message::text(refusal)).await,
            }
        }
    }
}

/// `/stop`: cancels the running turn.
pub(super) async fn stop(bot: &BotHandle, interaction: &Interaction) {
    let Some((workers, conversation)) = own(bot, interaction).await else { return };
    let text = if workers.cancel(conversation.id).await { "Stopping." } else { "Nothing is running." };
    bot.edit_reply(interaction, &Message::text(text)).await;
}

/// `/new`: ends the conversation's worker, so that the next message starts a new one.
pub(super) async fn new(bot: &BotHandle, interaction: &Interaction) {
    let Some((workers, conversation)) = own(bot, interaction).await else { return };
    bot.running_turns.abandon(conversation.id);
    let text = if workers.end(conversation.id).await {
        "The agent was ended. Your next message starts a new one, which does not know this conversation."
    } else {
        "No agent was running. Your next message starts one."
    };
    bot.edit_reply(interaction, &Message::text(text)).await;
}

/// Returns the user's own conversation, with the answer deferred. In any other channel the user
/// gets the reason, and the result is `None`.
async fn own<'a>(bot: &'a Bot, interaction: &Interaction) -> Option<(&'a Workers, Conversation)> {
    let Some(workers) = &bot.workers else {
        bot.reply(interaction, NO_AGENT).await;
        return None;
    };
    match place(bot, interaction) {
        Place::Own(conversation) => bot.defer(interaction).await.then_some((workers, conversation)),
        Place::OtherOwner(owner) => {
            let text = format!("This conversation belongs to <@{owner}>, and only its owner can do that.");
            bot.reply(interaction, text).await;
            None
        }
        Place::OtherThread | Place::Channel(_) | Place::Unsuitable => {
            bot.reply(
                interaction,
                "I have no conversation with you here. Use this in a thread that I opened for you.",
            )
            .await;
            None
        }
    }
}

/// Opens a private thread for a user. Its owner is recorded before the first message.
pub(super) async fn open(
    bot: &Bot,
    guild: Snowflake,
    channel: Snowflake,
    owner: Snowflake,
    prompt: &str,
) -> Result<Conversation, String> {
    let name = thread_name(&bot.scrubber.clean(prompt));
    let thread = match bot.rest.create_private_thread(channel, &name).await {
        Ok(thread) => thread,
        Err(error) => return Err(not_opened(&error)),
    };
    let record = Record { owner, guild, parent: channel, created_at: bot.clock.now() };
    if let Err(error) = bot.conversations.insert(thread, record).await {
        return Err(internal_error("record a conversation", &error).content);
    }
    if let Err(error) = bot.rest.add_to_thread(thread, owner).await {
        // The mention below adds the owner too.
        warn!(%thread, %error, "cannot add the owner to their thread");
    }
    let first = Message::text(format!("<@{owner}> asks:\n{}", quote(prompt))).notifying(owner);
    match bot.rest.send(thread, &first).await {
        Ok(_) => Ok(thread_conversation(bot, thread, &record)),
        Err(error) => Err(not_opened(&error)),
    }
}

fn not_opened(error: &RestError) -> String {
    if error.is_permission() {
        return format!(
            "I cannot open a private thread in this channel: {}",
            permission_request(&[
                "View Channel",
                "Create Private Threads",
                "Send Messages in Threads",
                "Embed Links",
            ])
        );
    }
    if error.is_too_many_threads() {
        return "This server has as many open threads as Discord allows, so I cannot open another one. Archive some threads and ask again, or send me a direct message.".to_owned();
    }
    internal_error("open a thread", error).content
}

/// Returns a text with the missing permissions of those that a private thread needs.
fn missing_permissions(own: Option<Permissions>) -> Option<String> {
    let own = own?;
    let needed = [
        (Permissions::VIEW_CHANNEL, "View Channel"),
        (Permissions::CREATE_PRIVATE_THREADS, "Create Private Threads"),
        (Permissions::SEND_MESSAGES_IN_THREADS, "Send Messages in Threads"),
        (Permissions::EMBED_LINKS, "Embed Links"),
    ];
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|(permission, _)| !own.contains(*permission))
        .map(|(_, name)| name)
        .collect();
    let any = !missing.is_empty() && !own.contains(Permissions::ADMINISTRATOR);
    any.then(|| format!("I cannot open a private thread in this channel: {}", permission_request(&missing)))
}

fn permission_request(names: &[&str]) -> String {
    let list = names.iter().map(|name| format!("**{name}**")).collect::<Vec<_>>().join(", ");
    format!("I need the permission {list} here. Ask a manager of this server to give it to my role.")
}

/// A prompt as a Markdown quotation.
fn quote(prompt: &str) -> String {
    let quoted = prompt.lines().map(|line| format!("> {line}")).collect::<Vec<_>>().join("\n");
    shorten(&quoted, MAX_QUOTE)
}

fn thread_name(prompt: &str) -> String {
    let plain = |line: &str| line.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect::<String>();
    let line = prompt.lines().map(plain).find(|line| !line.trim().is_empty());
    shorten(line.as_deref().unwrap_or("Conversation").trim(), MAX_THREAD_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_permissions_are_named_and_an_administrator_needs_none() {
        let all = Permissions::VIEW_CHANNEL
            | Permissions::CREATE_PRIVATE_THREADS
            | Permissions::SEND_MESSAGES_IN_THREADS
            | Permissions::EMBED_LINKS;
        assert_eq!(missing_permissions(None), None);
        assert_eq!(missing_permissions(Some(all)), None);
        assert_eq!(missing_permissions(Some(Permissions::ADMINISTRATOR)), None);
        let text =
            missing_permissions(Some(all - Permissions::CREATE_PRIVATE_THREADS)).expect("one is missing");
        assert!(text.contains("**Create Private Threads**") && !text.contains("View Channel"), "{text}");
    }

    #[test]
    fn the_first_line_of_a_prompt_is_the_name_of_its_thread() {
        assert_eq!(quote("one\ntwo"), "> one\n> two");
        assert_eq!(thread_name("\n  fix the build  \nplease"), "fix the build");
        assert_eq!(thread_name(" \n\u{200b}\u{3164}"), "Conversation");
        assert!(super::super::split::utf16_len(&thread_name(&"🙂".repeat(90))) <= 100);
    }
}
