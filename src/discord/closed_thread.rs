//! The notice about a thread into which the bot cannot write: it is archived or locked, or the bot lost
//! a permission.

use tracing::info;

use super::{bot::Bot, wire::Message};
use crate::agent::Conversation;

/// Notifies the owner of a conversation once, outside it: by direct message, else with the newest
/// interaction token.
pub(super) async fn notify(bot: &Bot, conversation: &Conversation) {
    let (thread, owner) = (conversation.id.0, conversation.owner);
    // The same pair is used for hints inside the channel, which cannot be sent here anyway.
    if bot.conversations.get(thread).is_none() || !bot.hint_is_due(thread, owner) {
        return;
    }
    let text = format!(
        "I cannot write in <#{thread}>, so your agent there does nothing. The thread is archived or locked, or I lost a permission in it. Ask a moderator to unlock it, or to give me **Send Messages in Threads** or **Manage Threads**, and send your message again. `/ask` in a channel opens a new thread."
    );
    let message = Message::text(text);
    let Err(error) = bot.rest.direct(owner, &message).await else { return };
    if let Some(token) = bot.tokens.newest(owner)
        && bot.rest.followup(&token, &message).await.is_ok()
    {
        return;
    }
    info!(%thread, %error, "cannot notify the owner of a closed thread");
}
