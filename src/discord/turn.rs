//! One turn of a conversation: sends the prompt to the worker, and shows the worker's updates as
//! messages.
//!
//! Text is streamed by edits, at most one a second, and the newest text wins. A turn ends with the
//! worker's last update, by `/new`, or when the bot shuts down.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    bot::{Bot, BotHandle},
    closed_thread,
    code_block::code_block,
    permission::PermissionQuestion,
    prompt_search,
    rest::RestError,
    turn_messages::TurnMessages,
    wire::{Message, escape_markdown, inline_code},
};
use crate::{
    agent::{Conversation, PromptError, Update, Workers},
    ids::Snowflake,
};

/// UTF-16 units of an agent's words in a notice.
const MAX_WORDS: usize = 1500;
/// Discord shows the typing indicator for ten seconds.
const TYPING_EVERY: Duration = Duration::from_secs(8);

/// Begins a turn in a task of its own.
pub(super) fn begin(bot: &BotHandle, workers: &Workers, conversation: Conversation, prompt: String) {
    let (task, workers) = (bot.clone(), workers.clone());
    bot.spawn(async move { run(task, workers, conversation, prompt).await });
}

async fn run(bot: BotHandle, workers: Workers, conversation: Conversation, prompt: String) {
    let channel = conversation.id.0;
    if !can_answer(&bot, &conversation).await {
        return;
    }
    if prompt_search::authorization_response(&bot, conversation.owner, &prompt).await.is_some() {
        // Each way of a prompt answers such a text itself. This holds for any other way.
        return send(&bot, channel, prompt_search::explanation()).await;
    }
    let started = {
        let _typing = Typing::start(&bot, channel);
        workers.prompt(&conversation, prompt).await
    };
    let updates = match started {
        Ok(updates) => updates,
        Err(error) => {
            info!(conversation = %conversation.id, %error, "cannot send a prompt to a worker");
            return send(&bot, channel, not_started(&bot, &error)).await;
        }
    };
    let (number, stop) = bot.running_turns.begin(conversation.id);
    let _typing = Typing::start(&bot, channel);
    let mut messages = TurnMessages::new(&bot, &conversation);
    let all_sent = show(&bot, &conversation, updates, &stop, &mut messages).await;
    bot.running_turns.finished(conversation.id, number);
    if !all_sent {
        closed_thread::notify(&bot, &conversation).await;
        warn!(conversation = %conversation.id, "cannot send anything to this conversation, so its turn is cancelled");
        workers.cancel(conversation.id).await;
    }
}

/// Sends a message of the bot.
async fn send(bot: &Bot, channel: Snowflake, text: String) {
    if let Err(error) = bot.rest.send(channel, &Message::text(text)).await {
        warn!(%channel, %error, "cannot report a failure to the user");
    }
}

/// Whether the bot can write into the conversation. It opens an archived thread again. If it cannot,
/// the owner gets one notice, and the prompt costs no turn. An outage of Discord passes by itself.
async fn can_answer(bot: &Bot, conversation: &Conversation) -> bool {
    match reopened(bot, conversation.id.0).await {
        Ok(()) => true,
        Err(error) if error.is_temporary() => true,
        Err(error) => {
            info!(conversation = %conversation.id, %error, "cannot write into a thread, so its prompt is not sent to the agent");
            closed_thread::notify(bot, conversation).await;
            false
        }
    }
}

/// Opens an archived thread again, so that the bot can write into it.
pub(super) async fn reopened(bot: &Bot, thread: Snowflake) -> Result<(), RestError> {
    let found = bot.rest.channel(thread).await?;
    if found.is_archived {
        bot.rest.unarchive(thread).await?;
    }
    if found.is_locked {
        // Only a bot with the permission Manage Threads can write there.
        bot.rest.typing(thread).await?;
    }
    Ok(())
}

fn not_started(bot: &Bot, error: &PromptError) -> String {
    let wrote = |text: &str| code_block(&bot.scrubber.clean(text), MAX_WORDS);
    match error {
        PromptError::Busy => {
            "The agent is still working on the last prompt. Wait, or use `/stop`.".to_owned()
        }
        PromptError::DiedAtOnce { program, ending } if !ending.wrote.is_empty() => format!(
            "The agent could not be started: {} ended before it was ready ({}). Check that it speaks ACP on its standard input and output. It wrote:\n{}",
            inline_code(program),
            escape_markdown(&ending.how),
            wrote(&ending.wrote)
        ),
        PromptError::Refused { program, wrote: message } => format!(
            "The agent could not be started: {} refused to start. Check the agent's own configuration. It wrote:\n{}",
            inline_code(program),
            wrote(message)
        ),
        PromptError::TooMany(n) => {
            format!(
                "{n} agents are running, which is the limit. Try again later, when an idle one has ended."
            )
        }
        PromptError::TooManyOfOwner(n) => {
            format!(
                "-# {n} agents are at work for you, which is the limit. Wait until one has finished, or use `/stop` in its conversation, and ask again."
            )
        }
        error => {
            format!(
                "The agent could not be started: {}.",
                escape_markdown(&bot.scrubber.clean(&error.to_string()))
            )
        }
    }
}

/// Shows the turn until it ends. Returns `false` when the channel is unreachable. An outage of Discord
/// does not end the turn.
async fn show(
    bot: &BotHandle,
    conversation: &Conversation,
    mut updates: mpsc::Receiver<Update>,
    stop: &CancellationToken,
    messages: &mut TurnMessages<'_>,
) -> bool {
    let mut questions: Vec<PermissionQuestion> = Vec::new();
    loop {
        let due = messages.due();
        let last = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = bot.shutdown.cancelled() => {
                messages.notice("I am shutting down, so this turn ends here.");
                true
            }
            () = tokio::time::sleep_until(due), if messages.dirty => {
                messages.flush().await;
                false
            }
            update = updates.recv() => match update {
                Some(Update::Permission(request)) => {
                    messages.text.seal();
                    let asking = async {
                        messages.flush_whole().await;
                        PermissionQuestion::ask(bot, conversation, request).await
                    };
                    tokio::select! {
                        question = asking => questions.extend(question),
                        () = stop.cancelled() => {}
                        () = bot.shutdown.cancelled() => {}
                    }
                    false
                }
                update => messages.apply(update),
            },
        };
        if last {
            break;
        }
        if messages.are_refused() {
            return false;
        }
    }
    let all_sent = messages.end().await;
    for question in questions {
        question.close(bot).await;
    }
    all_sent
}

/// Shows the typing indicator until dropped.
struct Typing(tokio::task::JoinHandle<()>);

impl Typing {
    fn start(bot: &BotHandle, channel: Snowflake) -> Self {
        let bot = bot.clone();
        Self(tokio::spawn(async move {
            loop {
                match bot.rest.typing(channel).await {
                    Err(error) if !error.is_temporary() => return,
                    _ => tokio::time::sleep(TYPING_EVERY).await,
                }
            }
        }))
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
