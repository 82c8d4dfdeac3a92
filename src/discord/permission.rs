//! An agent's permission question, as buttons for the owner of its conversation alone.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tracing::warn;

use super::{
    bot::Bot,
    buttons::{Action, PermissionReply},
    wire::{Button, Message, escape_markdown, shorten},
};
use crate::{
    agent::{Conversation, PermissionRequest},
    ids::Snowflake,
};

/// Options that fit on one message.
const MAX_OPTIONS: usize = 25;

/// A question on Discord.
pub(super) struct PermissionQuestion {
    channel: Snowflake,
    message: Snowflake,
    title: String,
    custom_ids: Vec<String>,
    reply: PermissionReply,
}

impl PermissionQuestion {
    /// Asks the question. If that fails, the reply channel is dropped, and the agent takes that as
    /// a refusal.
    pub(super) async fn ask(
        bot: &Bot,
        conversation: &Conversation,
        request: PermissionRequest,
    ) -> Option<Self> {
        let title = shorten(&escape_markdown(&bot.scrubber.clean(&request.title)), 1500);
        let reply = Arc::new(Mutex::new(Some(request.answer)));
        let (mut custom_ids, mut buttons) = (Vec::new(), Vec::new());
        for (option, label) in request.options.into_iter().take(MAX_OPTIONS) {
            let label = if label.trim().is_empty() { option.clone() } else { bot.scrubber.clean(&label) };
            let action =
                Action::Permit { option, label: label.clone(), title: title.clone(), reply: reply.clone() };
            let id = bot.buttons.add(conversation.owner, action);
            buttons.push(Button::press(&label, id.clone()));
            custom_ids.push(id);
        }
        let text = format!("The agent asks <@{}> for permission: {title}", conversation.owner);
        let message = Message::text(text).notifying(conversation.owner).buttons(buttons);
        match bot.rest.send(conversation.id.0, &message).await {
            Ok(message) => Some(Self { channel: conversation.id.0, message, title, custom_ids, reply }),
            Err(error) => {
                warn!(conversation = %conversation.id, %error, "cannot send an agent's permission question, so it is refused");
                bot.buttons.remove(&custom_ids);
                None
            }
        }
    }

    /// Removes the buttons at the end of the turn, unless the question is already answered.
    pub(super) async fn close(self, bot: &Bot) {
        bot.buttons.remove(&self.custom_ids);
        if take(&self.reply).is_none() {
            return;
        }
        let text = format!("The agent asked for permission and got no answer: {}", self.title);
        if let Err(error) = bot.rest.edit(self.channel, self.message, &Message::text(text)).await {
            warn!(channel = %self.channel, %error, "cannot remove the buttons of an old permission question");
        }
    }
}

fn take(reply: &PermissionReply) -> Option<oneshot::Sender<String>> {
    reply.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

/// Sends the owner's choice to the agent. Returns the message that replaces the question, or `None`
/// when the question is already answered or its turn has ended.
pub(super) fn choose(option: String, label: &str, title: &str, reply: &PermissionReply) -> Option<Message> {
    take(reply)?.send(option).ok()?;
    Some(Message::text(format!(
        "The agent asked for permission: {title}\n-# Answered: {}",
        escape_markdown(label)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_press_answers_a_question() {
        let (sender, mut receiver) = oneshot::channel();
        let reply = Arc::new(Mutex::new(Some(sender)));
        let message =
            choose("allow".into(), "Allow", "write a file", &reply).expect("the first press counts");
        assert_eq!(message.content, "The agent asked for permission: write a file\n-# Answered: Allow");
        assert_eq!(receiver.try_recv().expect("an answer"), "allow");
        assert!(choose("reject".into(), "Reject", "write a file", &reply).is_none());
    }
}
