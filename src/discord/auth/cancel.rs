//! `/auth cancel`: drops the sign-ins that the person has under way.

use super::{
    super::{
        asked::Asked,
        bot::{Bot, trouble},
        wire::Message,
    },
    close::{Outcome, close},
    words::for_whom,
};
use crate::{broker::CancelError, ids::Principal};

/// Cancels them, and updates their messages.
pub(in crate::discord) async fn cancel(bot: &Bot, asked: &Asked) -> Message {
    let dropped = match bot.broker.cancel(Principal::User(asked.user), None).await {
        Ok(dropped) => dropped,
        Err(CancelError::Store(error)) => return trouble("cancelling a sign-in", &error),
    };
    for tenant in &dropped {
        close(bot, tenant, &Outcome::Cancelled).await;
    }
    if dropped.is_empty() {
        return Message::text("You have no sign-in under way.");
    }
    let names: Vec<_> = dropped.iter().take(25).map(|t| format!("`{}`{}", t.provider, for_whom(t))).collect();
    Message::text(format!("Cancelled the sign-in to {}.", names.join(", ")))
}
