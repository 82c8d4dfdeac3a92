//! Opens the private thread of a conversation, and shows its prompt there.

use tracing::warn;

use super::{
    bot::{Bot, internal_error},
    conversations::Record,
    hidden::is_hidden,
    invite,
    rest::RestError,
    wire::{Message, shorten},
};
use crate::{
    agent::Conversation,
    ids::{AgentName, ConversationId, Snowflake},
};

/// UTF-16 units of a prompt that are quoted in a thread.
const MAX_QUOTE: usize = 1800;
/// UTF-16 units of a thread's name.
const MAX_THREAD_NAME: usize = 80;

/// The conversation of a thread. Its owner has just acted in that server, which proves the
/// membership.
pub(super) fn thread_conversation(bot: &Bot, thread: Snowflake, record: &Record) -> Conversation {
    let shared_guild = bot.guild_sessions.then_some(record.guild);
    Conversation {
        id: ConversationId(thread),
        owner: record.owner,
        shared_guild,
        agent: record.agent.clone(),
    }
}

/// Opens a private thread for a user. Its owner is recorded before the first message.
pub(super) async fn open(
    bot: &Bot,
    guild: Snowflake,
    channel: Snowflake,
    owner: Snowflake,
    agent: Option<AgentName>,
    prompt: &str,
) -> Result<Conversation, String> {
    let name = thread_name(&bot.scrubber.clean(prompt));
    let thread = match bot.rest.create_private_thread(channel, &name).await {
        Ok(thread) => thread,
        Err(error) => return Err(not_opened(&error)),
    };
    let record = Record { owner, guild, parent: channel, created_at: bot.clock.now(), agent };
    if let Err(error) = bot.conversations.insert(thread, record.clone()).await {
        return Err(internal_error("record a conversation", &error).content);
    }
    if let Err(error) = bot.rest.add_to_thread(thread, owner).await {
        // The mention below adds the owner too.
        warn!(%thread, %error, "cannot add the owner to their thread");
    }
    let first = Message::text(quoted(owner, prompt)).notifying(owner);
    match bot.rest.send(thread, &first).await {
        Ok(_) => Ok(thread_conversation(bot, thread, &record)),
        Err(error) => Err(not_opened(&error)),
    }
}

fn not_opened(error: &RestError) -> String {
    if error.is_permission() {
        return format!(
            "I cannot open a private thread in this channel: {}",
            permission_request(&invite::all_names())
        );
    }
    if error.is_too_many_threads() {
        return "This server has as many open threads as Discord allows, so I cannot open another one. Archive some threads and ask again, or send me a direct message.".to_owned();
    }
    internal_error("open a thread", error).content
}

/// Asks for permissions, by their names.
pub(super) fn permission_request(names: &[&str]) -> String {
    let list = names.iter().map(|name| format!("**{name}**")).collect::<Vec<_>>().join(", ");
    format!("I need the permission {list} here. Ask a manager of this server to give it to my role.")
}

/// A prompt as the message that shows it to its thread.
pub(super) fn quoted(user: Snowflake, prompt: &str) -> String {
    format!("<@{user}> asks:\n{}", quote(prompt))
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
    fn the_first_line_of_a_prompt_is_the_name_of_its_thread() {
        assert_eq!(quote("one\ntwo"), "> one\n> two");
        assert_eq!(thread_name("\n  fix the build  \nplease"), "fix the build");
        assert_eq!(thread_name(" \n\u{200b}\u{3164}"), "Conversation");
        assert!(super::super::split::utf16_len(&thread_name(&"🙂".repeat(90))) <= 100);
    }
}
