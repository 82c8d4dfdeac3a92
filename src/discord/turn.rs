//! One turn of a conversation: the prompt goes to the worker, and what it says becomes messages.
//!
//! Text is streamed by edits, at most one a second, and the newest text wins. A turn ends with the worker's last update,
//! by `/new`, or with the bot.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    bot::{Bot, Shared},
    permission::Question,
    screen::Screen,
    wire::{Message, plain},
};
use crate::{
    agent::{Conversation, PromptError, Update, Workers},
    ids::Snowflake,
};

/// Discord shows typing for ten seconds.
const TYPING_EVERY: Duration = Duration::from_secs(8);
/// After so many messages in a row that could not be sent there is nobody to talk to.
const MAX_FAILURES: u32 = 5;

/// Begins a turn in a task of its own.
pub(super) fn begin(bot: &Shared, workers: &Workers, conversation: Conversation, prompt: String) {
    let (inner, workers) = (bot.clone(), workers.clone());
    bot.spawn(async move { run(inner, workers, conversation, prompt).await });
}

async fn run(bot: Shared, workers: Workers, conversation: Conversation, prompt: String) {
    let channel = conversation.id.0;
    let started = {
        let _typing = Typing::start(&bot, channel);
        workers.prompt(&conversation, prompt).await
    };
    let updates = match started {
        Ok(updates) => updates,
        Err(error) => {
            info!(conversation = %conversation.id, %error, "a prompt did not reach a worker");
            let text = not_started(&bot, &error);
            if let Err(error) = bot.rest.send(channel, &Message::text(text)).await {
                warn!(conversation = %conversation.id, %error, "nobody could be told");
            }
            return;
        }
    };
    let (number, stop) = bot.turns.begin(conversation.id);
    let _typing = Typing::start(&bot, channel);
    let mut screen = Screen::new(&bot, channel);
    let all_sent = show(&bot, &conversation, updates, &stop, &mut screen).await;
    bot.turns.finished(conversation.id, number);
    if !all_sent {
        warn!(conversation = %conversation.id, "nothing can be sent there: the turn is cancelled");
        workers.cancel(conversation.id).await;
    }
}

fn not_started(bot: &Bot, error: &PromptError) -> String {
    match error {
        PromptError::Busy => {
            "-# The agent is still working on the last prompt: wait, or `/stop` it.".to_owned()
        }
        PromptError::TooMany(n) => {
            format!(
                "-# {n} agents are running, which is the limit. Idle ones end by themselves: try again later."
            )
        }
        error => {
            format!("The agent could not be started: {}.", plain(&bot.scrubber.clean(&error.to_string())))
        }
    }
}

/// Shows the turn until it ends. `false` when nothing can be sent any more.
async fn show(
    bot: &Shared,
    conversation: &Conversation,
    mut updates: mpsc::Receiver<Update>,
    stop: &CancellationToken,
    screen: &mut Screen<'_>,
) -> bool {
    let mut questions: Vec<Question> = Vec::new();
    loop {
        let due = screen.due();
        let last = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = bot.shutdown.cancelled() => {
                screen.answer.note("The bot is stopping; this turn ends here.");
                true
            }
            () = tokio::time::sleep_until(due), if screen.dirty => {
                screen.flush().await;
                false
            }
            update = updates.recv() => match update {
                Some(Update::Permission(request)) => {
                    screen.answer.seal();
                    screen.flush().await;
                    questions.extend(Question::ask(bot, conversation, request).await);
                    false
                }
                update => screen.take(update),
            },
        };
        if last {
            break;
        }
        if screen.failures >= MAX_FAILURES {
            return false;
        }
    }
    for question in questions {
        question.close(bot).await;
    }
    screen.end().await
}

/// Shows that somebody is typing, until dropped.
struct Typing(tokio::task::JoinHandle<()>);

impl Typing {
    fn start(bot: &Shared, channel: Snowflake) -> Self {
        let bot = bot.clone();
        Self(tokio::spawn(async move {
            while bot.rest.typing(channel).await.is_ok() {
                tokio::time::sleep(TYPING_EVERY).await;
            }
        }))
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
