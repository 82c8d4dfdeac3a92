//! `/ask`, `/stop`, `/new`, and opening a thread for a conversation.

use serenity::all::{ChannelType, Permissions};
use tracing::warn;

use super::{
    asked::Asked,
    bot::{Bot, Shared, trouble},
    conversations::Record,
    rest::RestError,
    turn,
    wire::{Message, Response, shorten},
};
use crate::{
    agent::{Conversation, Workers},
    ids::{ConversationId, Snowflake},
};

/// UTF-16 units of a prompt that are repeated where it was not typed.
const MAX_QUOTE: usize = 1800;
/// Characters of a thread's name.
const MAX_NAME: usize = 80;

const NO_AGENT: &str =
    "No agent is configured here: the operator has to set agent.command. `/auth` works without one.";

/// What a place is to the person who asks.
enum Place {
    /// Their conversation.
    Own(Conversation),
    /// Somebody else's.
    Foreign(Snowflake),
    /// A thread that is none of ours.
    OtherThread,
    /// A channel of a server in which a thread can be opened.
    Channel(Snowflake),
    /// Neither.
    Unsuitable,
}

fn place(bot: &Bot, asked: &Asked) -> Place {
    let Some(guild) = asked.guild else {
        return match asked.kind {
            Some(ChannelType::Private) | None => Place::Own(direct(asked.channel, asked.user)),
            Some(_) => Place::Unsuitable,
        };
    };
    match bot.conversations.get(asked.channel) {
        Some(record) if record.owner == asked.user => Place::Own(in_thread(bot, asked.channel, &record)),
        Some(record) => Place::Foreign(record.owner),
        None if asked.in_thread() => Place::OtherThread,
        None if matches!(asked.kind, Some(ChannelType::Text) | None) => Place::Channel(guild),
        None => Place::Unsuitable,
    }
}

/// The conversation of a person with the bot alone.
pub(super) fn direct(channel: Snowflake, owner: Snowflake) -> Conversation {
    Conversation { id: ConversationId(channel), owner, shared_guild: None }
}

/// The conversation of a thread. Its owner has just acted in that server, so they are a member of it.
pub(super) fn in_thread(bot: &Bot, thread: Snowflake, record: &Record) -> Conversation {
    let shared_guild = bot.shared.then_some(record.guild);
    Conversation { id: ConversationId(thread), owner: record.owner, shared_guild }
}

/// `/ask`.
pub(super) async fn ask(bot: &Shared, asked: &Asked, prompt: String) {
    let Some(workers) = &bot.workers else { return bot.tell(asked, NO_AGENT).await };
    match place(bot, asked) {
        Place::Own(conversation) => {
            let quoted = Message::text(format!("<@{}> asks:\n{}", asked.user, quote(&prompt)));
            if bot.respond(asked, &Response::Message(quoted)).await {
                turn::begin(bot, workers, conversation, prompt);
            }
        }
        Place::Foreign(owner) => {
            bot.tell(
                asked,
                format!("This conversation belongs to <@{owner}>. `/ask` in a channel opens your own."),
            )
            .await;
        }
        Place::OtherThread => {
            bot.tell(
                asked,
                "This thread is none of my conversations: use `/ask` in a channel, and I open one.",
            )
            .await;
        }
        Place::Unsuitable => {
            bot.tell(
                asked,
                "I cannot open a thread here: use `/ask` in a text channel, or write to me directly.",
            )
            .await;
        }
        Place::Channel(guild) => {
            if let Some(missing) = missing_permissions(asked.own_permissions) {
                return bot.tell(asked, missing).await;
            }
            if !bot.respond(asked, &Response::Deferred).await {
                return;
            }
            bot.people.seen(asked.user, asked.token.clone());
            match open(bot, guild, asked.channel, asked.user, &prompt).await {
                Ok(conversation) => {
                    bot.finish(asked, &Message::text(format!("Your conversation: <#{}>", conversation.id)))
                        .await;
                    turn::begin(bot, workers, conversation, prompt);
                }
                Err(refusal) => bot.finish(asked, &Message::text(refusal)).await,
            }
        }
    }
}

/// `/stop`.
pub(super) async fn stop(bot: &Shared, asked: &Asked) {
    let Some((workers, conversation)) = own(bot, asked).await else { return };
    let text = if workers.cancel(conversation.id).await { "Stopping." } else { "Nothing was under way." };
    bot.finish(asked, &Message::text(text)).await;
}

/// `/new`.
pub(super) async fn new(bot: &Shared, asked: &Asked) {
    let Some((workers, conversation)) = own(bot, asked).await else { return };
    bot.turns.abandon(conversation.id);
    let text = if workers.end(conversation.id).await {
        "The agent was ended. Your next message starts a new one, which remembers nothing of this conversation."
    } else {
        "No agent was running. Your next message starts one."
    };
    bot.finish(asked, &Message::text(text)).await;
}

/// The conversation of the person who asks, the answer deferred; otherwise they have been told why not.
async fn own<'a>(bot: &'a Bot, asked: &Asked) -> Option<(&'a Workers, Conversation)> {
    let Some(workers) = &bot.workers else {
        bot.tell(asked, NO_AGENT).await;
        return None;
    };
    match place(bot, asked) {
        Place::Own(conversation) => {
            if !bot.respond(asked, &Response::Deferred).await {
                return None;
            }
            bot.people.seen(asked.user, asked.token.clone());
            Some((workers, conversation))
        }
        Place::Foreign(owner) => {
            bot.tell(asked, format!("This conversation belongs to <@{owner}>, and only they can do that."))
                .await;
            None
        }
        Place::OtherThread | Place::Channel(_) | Place::Unsuitable => {
            bot.tell(
                asked,
                "There is no conversation with me here: use this in a thread that I opened for you.",
            )
            .await;
            None
        }
    }
}

/// Opens a private thread for a person, on record before anything is said in it.
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
        return Err(trouble("recording a conversation", &error).content);
    }
    if let Err(error) = bot.rest.add_to_thread(thread, owner).await {
        // The mention below adds them too.
        warn!(%thread, %error, "the owner could not be added to their thread");
    }
    let first = Message::text(format!("<@{owner}> asks:\n{}", quote(prompt))).notifying(owner);
    match bot.rest.send(thread, &first).await {
        Ok(_) => Ok(in_thread(bot, thread, &record)),
        Err(error) => Err(not_opened(&error)),
    }
}

fn not_opened(error: &RestError) -> String {
    if error.is_permission() {
        return format!(
            "I cannot open a private thread in this channel: {}",
            wanted(&["View Channel", "Create Private Threads", "Send Messages in Threads"])
        );
    }
    trouble("opening a thread", error).content
}

/// Which of the permissions that a private thread needs are missing, in words.
fn missing_permissions(own: Option<Permissions>) -> Option<String> {
    let own = own?;
    let needed = [
        (Permissions::VIEW_CHANNEL, "View Channel"),
        (Permissions::CREATE_PRIVATE_THREADS, "Create Private Threads"),
        (Permissions::SEND_MESSAGES_IN_THREADS, "Send Messages in Threads"),
    ];
    let missing: Vec<&str> = needed
        .into_iter()
        .filter(|(permission, _)| !own.contains(*permission))
        .map(|(_, name)| name)
        .collect();
    let any = !missing.is_empty() && !own.contains(Permissions::ADMINISTRATOR);
    any.then(|| format!("I cannot open a private thread in this channel: {}", wanted(&missing)))
}

fn wanted(names: &[&str]) -> String {
    let list = names.iter().map(|name| format!("**{name}**")).collect::<Vec<_>>().join(", ");
    format!("I need the permission {list} here. Somebody who manages the server can give it to my role.")
}

/// A prompt as a Markdown quotation.
fn quote(prompt: &str) -> String {
    let quoted = prompt.lines().map(|line| format!("> {line}")).collect::<Vec<_>>().join("\n");
    shorten(&quoted, MAX_QUOTE)
}

fn thread_name(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("Conversation");
    let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    shorten(&plain, MAX_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_permissions_are_named_and_administrators_need_none() {
        let all = Permissions::VIEW_CHANNEL
            | Permissions::CREATE_PRIVATE_THREADS
            | Permissions::SEND_MESSAGES_IN_THREADS;
        assert_eq!(missing_permissions(None), None);
        assert_eq!(missing_permissions(Some(all)), None);
        assert_eq!(missing_permissions(Some(Permissions::ADMINISTRATOR)), None);
        let text =
            missing_permissions(Some(all - Permissions::CREATE_PRIVATE_THREADS)).expect("one is missing");
        assert!(text.contains("**Create Private Threads**") && !text.contains("View Channel"), "{text}");
    }

    #[test]
    fn a_prompt_is_quoted_and_names_its_thread() {
        assert_eq!(quote("one\ntwo"), "> one\n> two");
        assert_eq!(thread_name("\n  fix the build  \nplease"), "fix the build");
        assert_eq!(thread_name(" \n"), "Conversation");
        assert!(super::super::split::utf16_len(&thread_name(&"🙂".repeat(90))) <= 100);
    }
}
