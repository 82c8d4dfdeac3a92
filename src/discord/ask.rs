//! `/ask`, `/stop`, `/new`, and opening a thread for a conversation.

use serenity::all::{ChannelType, Permissions};
use tracing::warn;

use super::{
    auth, authorization_response,
    bot::{Bot, BotHandle},
    conversations::Record,
    held_prompts::{Destination, HeldPrompt},
    hidden::is_hidden,
    hold_prompt::{self, missing_login},
    interaction::Interaction,
    invite,
    open_thread::{open, permission_request, quoted, thread_conversation},
    prompt_search, turn,
    wire::{Message, Response, shorten},
};
use crate::{
    agent::{Conversation, Workers},
    ids::{ConversationId, Snowflake, Tenant},
};

/// UTF-16 units of a file's name in a list.
const MAX_FILE_NAME: usize = 60;

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

/// The conversation that a user opens from a channel, before its thread exists.
pub(super) fn channel_conversation(
    bot: &Bot,
    guild: Snowflake,
    channel: Snowflake,
    owner: Snowflake,
) -> Conversation {
    let record = Record { owner, guild, parent: channel, created_at: bot.clock.now() };
    thread_conversation(bot, channel, &record)
}

/// `/ask`: sends a prompt to the user's conversation, and opens a thread for it first if necessary.
pub(super) async fn ask(bot: &BotHandle, interaction: &Interaction, prompt: &str) {
    let Some(workers) = &bot.workers else { return bot.reply(interaction, NO_AGENT).await };
    if let Some(found) = prompt_search::authorization_response(bot, interaction.user, prompt).await {
        return authorization_response::answer_command(bot, interaction, &found, prompt).await;
    }
    // Without permissions the answers would be lost. In direct messages the bot has all that it needs.
    let missing = interaction.guild.and_then(|_| missing_permissions(interaction.own_permissions));
    match place(bot, interaction) {
        Place::Own(_) | Place::Channel(_) if missing.is_some() => {
            bot.reply(interaction, missing.unwrap_or_default()).await;
        }
        Place::Own(conversation) => {
            if let Some(tenant) = missing_login(bot, workers, &conversation).await {
                let destination = Destination::Quoted(conversation);
                return sign_in_first(bot, interaction, &tenant, destination, prompt).await;
            }
            let message = Message::text(quoted(interaction.user, prompt));
            if bot.respond(interaction, &Response::Message(message)).await {
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
            // The thread does not exist yet, and its id does not matter for the logins.
            let conversation = channel_conversation(bot, guild, interaction.channel, interaction.user);
            if let Some(tenant) = missing_login(bot, workers, &conversation).await {
                let destination = Destination::Channel { guild, channel: interaction.channel };
                return sign_in_first(bot, interaction, &tenant, destination, prompt).await;
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

/// Shows the sign-in card in place of an answer. The prompt runs once the user is signed in.
async fn sign_in_first(
    bot: &BotHandle,
    interaction: &Interaction,
    tenant: &Tenant,
    destination: Destination,
    prompt: &str,
) {
    if !bot.defer(interaction).await {
        return;
    }
    let held = HeldPrompt { user: interaction.user, destination, text: prompt.to_owned() };
    let sentence = hold_prompt::hold(bot, tenant, held);
    if !auth::start(bot, interaction, tenant, sentence).await {
        hold_prompt::forget(bot, tenant);
    }
}

/// `/stop`: cancels the running turn.
pub(super) async fn stop(bot: &BotHandle, interaction: &Interaction) {
    let Some((workers, conversation)) = own(bot, interaction).await else { return };
    let text = if workers.cancel(conversation.id).await { "Stopping." } else { "Nothing is running." };
    bot.edit_reply(interaction, &Message::text(text)).await;
}

/// `/new`: ends the conversation's worker, so that the next message starts a new one. With `clean` its
/// files are removed; without, the answer lists the ones that stay.
pub(super) async fn new(bot: &BotHandle, interaction: &Interaction, clean: bool) {
    let Some((workers, conversation)) = own(bot, interaction).await else { return };
    bot.running_turns.abandon(conversation.id);
    let ended = if workers.end(conversation.id).await {
        "The agent was ended. Your next message starts a new one, which does not know this conversation."
    } else {
        "No agent was running. Your next message starts one."
    };
    let files = if clean {
        removed(workers, &conversation).await.to_owned()
    } else {
        staying(workers, &conversation).await
    };
    bot.edit_reply(interaction, &Message::text(format!("{ended}{files}"))).await;
}

/// Removes the files of a conversation, and returns the sentence about it.
async fn removed(workers: &Workers, conversation: &Conversation) -> &'static str {
    match workers.remove_files(conversation).await {
        Ok(true) => " Its files were removed.",
        Ok(false) => " It is running again, so its files were not removed: use `/new clean:true` again.",
        Err(error) => {
            warn!(conversation = %conversation.id, %error, "cannot remove all files of an agent");
            " Not all of its files could be removed, and the reason is in the log for my operator."
        }
    }
}

/// Returns the sentences about the files that stay in the working folder of a conversation.
async fn staying(workers: &Workers, conversation: &Conversation) -> String {
    let listing = match workers.files(conversation).await {
        Ok(listing) => listing,
        Err(error) => {
            warn!(conversation = %conversation.id, %error, "cannot list the files of an agent");
            return String::new();
        }
    };
    if listing.names.is_empty() {
        return String::new();
    }
    // A name is the agent's text: it gets neither Markdown nor lines of its own.
    let name = |name: &String| {
        let plain: String = name.chars().map(|c| if is_hidden(c) || c == '`' { '?' } else { c }).collect();
        format!("`{}`", shorten(&plain, MAX_FILE_NAME))
    };
    let mut names: Vec<_> = listing.names.iter().map(name).collect();
    if listing.more > 0 {
        names.push(format!("and {} more", listing.more));
    }
    format!("\nThese files stay in its folder: {}. `/new clean:true` removes them.", names.join(", "))
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

/// Returns a text with the missing permissions of those that the bot needs here.
fn missing_permissions(own: Option<Permissions>) -> Option<String> {
    let missing = invite::missing(own?);
    (!missing.is_empty()).then(|| format!("I cannot work in this channel: {}", permission_request(&missing)))
}
