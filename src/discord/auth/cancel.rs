//! `/auth cancel`: cancels the sign-ins that the user has under way.

use super::super::{
    bot::{Bot, internal_error},
    interaction::Interaction,
    sign_in::for_server,
    wire::Message,
};
use crate::{broker::CancelError, ids::Principal};

/// Cancels the sign-ins, and lists them. Their messages follow the store.
pub(super) async fn command(bot: &Bot, interaction: &Interaction) {
    let message = match bot.broker.cancel(Principal::User(interaction.user), None).await {
        Ok(cancelled) if cancelled.is_empty() => Message::text("You have no sign-in in progress."),
        Ok(cancelled) => {
            let names: Vec<_> =
                cancelled.iter().take(25).map(|t| format!("`{}`{}", t.provider, for_server(t))).collect();
            Message::text(format!("Cancelled the sign-in to {}.", names.join(", ")))
        }
        Err(CancelError::Store(error)) => internal_error("cancel a sign-in", &error),
    };
    let message = if bot.held_prompts.drop_all_of(interaction.user) {
        Message::text(format!("{} Your prompt was not sent.", message.content))
    } else {
        message
    };
    // Also after an error, because the first of several may be cancelled.
    bot.open_messages.request_sync();
    bot.edit_reply(interaction, &message).await;
}
