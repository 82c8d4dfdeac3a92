//! An agent's question for permission, as buttons for its owner alone.

use std::sync::{Arc, Mutex};

use tracing::warn;

use super::{
    bot::Bot,
    buttons::Action,
    wire::{Button, Message, plain, shorten},
};
use crate::{
    agent::{Conversation, PermissionRequest},
    ids::Snowflake,
};

/// Choices that fit on one message.
const MAX_OPTIONS: usize = 25;

/// A question that has been put.
pub(super) struct Question {
    channel: Snowflake,
    message: Snowflake,
    title: String,
    custom_ids: Vec<String>,
    answer: super::buttons::Answer,
}

impl Question {
    /// Puts the question. When that fails the answer is dropped, which refuses.
    pub(super) async fn ask(
        bot: &Bot,
        conversation: &Conversation,
        request: PermissionRequest,
    ) -> Option<Self> {
        let title = shorten(&plain(&bot.scrubber.clean(&request.title)), 1500);
        let answer = Arc::new(Mutex::new(Some(request.answer)));
        let (mut custom_ids, mut buttons) = (Vec::new(), Vec::new());
        for (option, label) in request.options.into_iter().take(MAX_OPTIONS) {
            let label = if label.trim().is_empty() { option.clone() } else { bot.scrubber.clean(&label) };
            let action =
                Action::Permit { option, label: label.clone(), title: title.clone(), answer: answer.clone() };
            let id = bot.buttons.add(conversation.owner, action);
            buttons.push(Button::press(&label, id.clone()));
            custom_ids.push(id);
        }
        let text = format!("The agent asks <@{}> for permission: {title}", conversation.owner);
        let message = Message::text(text).notifying(conversation.owner).buttons(buttons);
        match bot.rest.send(conversation.id.0, &message).await {
            Ok(message) => Some(Self { channel: conversation.id.0, message, title, custom_ids, answer }),
            Err(error) => {
                warn!(conversation = %conversation.id, %error, "a question for permission could not be put: refused");
                bot.buttons.remove(&custom_ids);
                None
            }
        }
    }

    /// The turn is over. If nobody has answered, the buttons go.
    pub(super) async fn close(self, bot: &Bot) {
        bot.buttons.remove(&self.custom_ids);
        if take(&self.answer).is_none() {
            return;
        }
        let text = format!("The agent asked for permission and got no answer: {}", self.title);
        if let Err(error) = bot.rest.edit(self.channel, self.message, &Message::text(text)).await {
            warn!(channel = %self.channel, %error, "the buttons of an old question could not be removed");
        }
    }
}

fn take(answer: &super::buttons::Answer) -> Option<tokio::sync::oneshot::Sender<String>> {
    answer.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

/// The owner has chosen. Gives the message in the place of the question; `None` when it was answered before or the
/// turn is over.
pub(super) fn choose(
    option: String,
    label: &str,
    title: &str,
    answer: &super::buttons::Answer,
) -> Option<Message> {
    take(answer)?.send(option).ok()?;
    Some(Message::text(format!("The agent asked for permission: {title}\n-# Answered: {}", plain(label))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_answered_once() {
        let (sender, mut receiver) = tokio::sync::oneshot::channel();
        let answer = Arc::new(Mutex::new(Some(sender)));
        let message =
            choose("allow".into(), "Allow", "write a file", &answer).expect("the first press counts");
        assert_eq!(message.content, "The agent asked for permission: write a file\n-# Answered: Allow");
        assert_eq!(receiver.try_recv().expect("an answer"), "allow");
        assert!(choose("reject".into(), "Reject", "write a file", &answer).is_none());
    }
}
