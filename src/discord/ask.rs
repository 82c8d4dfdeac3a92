//! `/ask`, `/stop`, `/new`, and opening a thread for a conversation.

use serenity::all::{ChannelType, Permissions};
use tracing::warn;

use super::{
    auth, authorization_response,
    bot::{Bot, BotHandle, internal_error},
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
    agent::{Agents, Conversation, Workers},
    ids::{AgentName, ConversationId, Snowflake, Tenant, closest},
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
                Place::Own(direct_conversation(bot, interaction.channel, interaction.user))
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
pub(super) fn direct_conversation(bot: &Bot, channel: Snowflake, owner: Snowflake) -> Conversation {
    let agent = bot.conversations.direct_agent(channel);
    Conversation { id: ConversationId(channel), owner, shared_guild: None, agent }
}

/// The conversation that a user opens from a channel, before its thread exists.
pub(super) fn channel_conversation(
    bot: &Bot,
    guild: Snowflake,
    channel: Snowflake,
    owner: Snowflake,
    agent: Option<AgentName>,
) -> Conversation {
    let record = Record { owner, guild, parent: channel, created_at: bot.clock.now(), agent };
    thread_conversation(bot, channel, &record)
}

/// `/ask`: sends a prompt to the user's conversation, and opens a thread for it first if necessary.
/// `agent` is the agent that the user names for a new conversation.
pub(super) async fn ask(bot: &BotHandle, interaction: &Interaction, prompt: &str, agent: Option<&str>) {
    let Some(workers) = &bot.workers else { return bot.reply(interaction, NO_AGENT).await };
    let agent = match chosen(workers.agents(), agent) {
        Ok(agent) => agent,
        Err(problem) => return bot.reply(interaction, problem).await,
    };
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
            if let Some(other) = agent.filter(|agent| !is_agent_of(workers.agents(), &conversation, agent)) {
                let title = workers.agent_title(&conversation);
                let text = format!(
                    "This conversation is with `{title}`. `/new agent:{other}` starts it again with `{other}`, or use `/ask` in another channel."
                );
                return bot.reply(interaction, text).await;
            }
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
            let agent = agent.or_else(|| workers.agents().default_name().cloned());
            let (channel, user) = (interaction.channel, interaction.user);
            let conversation = channel_conversation(bot, guild, channel, user, agent.clone());
            if let Some(tenant) = missing_login(bot, workers, &conversation).await {
                let destination = Destination::Channel { guild, channel, agent };
                return sign_in_first(bot, interaction, &tenant, destination, prompt).await;
            }
            if !bot.defer(interaction).await {
                return;
            }
            match open(bot, guild, channel, user, agent, prompt).await {
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

/// Returns the agent with the name that a user has typed, or the sentence about a wrong one.
fn chosen(agents: &Agents, typed: Option<&str>) -> Result<Option<AgentName>, String> {
    let Some(typed) = typed.map(str::trim).filter(|typed| !typed.is_empty()) else { return Ok(None) };
    if let Some(name) = agents.names().find(|name| name.as_str() == typed) {
        return Ok(Some(name.clone()));
    }
    let known = agents.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let typed = shorten(&typed.replace('`', "?"), MAX_FILE_NAME);
    Err(match closest(&typed, agents.names().map(AgentName::as_str)) {
        _ if known.is_empty() => "There is only one agent here. Leave `agent` out.".to_owned(),
        Some(similar) => format!("There is no agent `{typed}` here. Did you mean `{similar}`?"),
        None => format!("There is no agent `{typed}` here. There are: {known}."),
    })
}

/// Whether this is the agent of a conversation.
fn is_agent_of(agents: &Agents, conversation: &Conversation, agent: &AgentName) -> bool {
    conversation.agent.as_ref().or(agents.default_name()) == Some(agent)
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

/// `/new`: ends the conversation's worker, so that the next message starts a new one, of the named
/// agent if there is one. With `clean` its files are removed; without, the answer lists the ones that
/// stay.
pub(super) async fn new(bot: &BotHandle, interaction: &Interaction, clean: bool, agent: Option<&str>) {
    let Some((workers, conversation)) = own(bot, interaction).await else { return };
    let agent = match chosen(workers.agents(), agent) {
        Ok(agent) => agent,
        Err(problem) => return bot.edit_reply(interaction, &Message::text(problem)).await,
    };
    // The choice is on disk before the worker ends, so that the next message starts the chosen agent.
    if let Some(agent) = &agent
        && let Err(error) = bot.conversations.set_agent(conversation.id.0, agent.clone()).await
    {
        let message = internal_error("record the agent of a conversation", &error);
        return bot.edit_reply(interaction, &message).await;
    }
    bot.running_turns.abandon(conversation.id);
    let was_running = workers.end(conversation.id).await;
    let next = agent.map_or_else(|| "a new one".to_owned(), |agent| format!("`{agent}`"));
    let ended = if was_running {
        format!(
            "The agent was ended. Your next message starts {next}, which does not know this conversation."
        )
    } else {
        let next = if next == "a new one" { "one".to_owned() } else { next };
        format!("No agent was running. Your next message starts {next}.")
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
