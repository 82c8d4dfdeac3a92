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
    permission::PermissionQuestion,
    turn_messages::TurnMessages,
    wire::{Message, escape_markdown},
};
use crate::{
    agent::{Conversation, PromptError, Update, Workers},
    ids::Snowflake,
};

/// Discord shows the typing indicator for ten seconds.
const TYPING_EVERY: Duration = Duration::from_secs(8);

/// Begins a turn in a task of its own.
pub(super) fn begin(bot: &BotHandle, workers: &Workers, conversation: Conversation, prompt: String) {
    let (task, workers) = (bot.clone(), workers.clone());
    bot.spawn(async move { run(task, workers, conversation, prompt).await });
}

async fn run(bot: BotHandle, workers: Workers, conversation: Conversation, prompt: String) {
    let channel = conversation.id.0;
    let started = {
        let _typing = Typing::start(&bot, channel);
        workers.prompt(&conversation, prompt).await
    };
    let updates = match started {
        Ok(updates) => updates,
        Err(error) => {
            info!(conversation = %conversation.id, %error, "cannot send a prompt to a worker");
            let text = not_started(&bot, &error);
            if let Err(error) = bot.rest.send(channel, &Message::text(text)).await {
                warn!(conversation = %conversation.id, %error, "cannot report that to the user");
            }
            return;
        }
    };
    let (number, stop) = bot.running_turns.begin(conversation.id);
    let _typing = Typing::start(&bot, channel);
    let mut messages = TurnMessages::new(&bot, channel);
    let all_sent = show(&bot, &conversation, updates, &stop, &mut messages).await;
    bot.running_turns.finished(conversation.id, number);
    if !all_sent {
        warn!(conversation = %conversation.id, "cannot send anything to this conversation, so its turn is cancelled");
        workers.cancel(conversation.id).await;
    }
}

fn not_started(bot: &Bot, error: &PromptError) -> String {
    match error {
        PromptError::Busy => {
            "-# The agent is still working on the last prompt. Wait, or use `/stop`.".to_owned()
        }
        PromptError::TooMany(n) => {
            format!(
                "-# {n} agents are running, which is the limit. Try again later, when an idle one has ended."
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
                messages.text.note("I am shutting down, so this turn ends here.");
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
