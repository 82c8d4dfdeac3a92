//! Brings the messages of open sign-ins up to date with the store, which other processes and other
//! commands change.

use std::collections::HashSet;

use tracing::debug;

use super::{
    super::{bot::BotHandle, hold_prompt},
    sign_in_message::{Stage, rewrite},
};
use crate::broker::Progress;

/// Rewrites each message whose sign-in has reached another stage. Only one task calls this, so that
/// two calls never overlap.
pub(in crate::discord) async fn sync_messages(bot: &BotHandle) {
    let mut asked = HashSet::new();
    for (key, user, shown) in bot.open_messages.all_shown() {
        let Progress { news, next } = match bot.broker.sign_in_progress(&shown).await {
            Ok(progress) => progress,
            // `session_notice` logs an unreadable store, and requests another sync once the store can
            // be read again.
            Err(error) => return debug!(%error, "cannot read the state of the open sign-ins"),
        };
        let Some(news) = news else {
            bot.open_messages.keep(key, next);
            continue;
        };
        let (stage, next) = match Stage::from(news) {
            // One question for each tenant is enough. The newest message comes first, and gets it.
            Stage::Question(undecided) if !asked.insert(undecided.tenant.clone()) => {
                (Stage::AskedElsewhere(undecided), None)
            }
            stage => (stage, next),
        };
        let mut message = stage.message(bot, user, shown.tenant());
        message.content.push_str(hold_prompt::apply(bot, shown.tenant(), stage.prompt_fate()));
        let custom_ids = message.custom_ids();
        match bot.open_messages.advance(key, next, custom_ids.clone()) {
            Some(open) => rewrite(bot, open, message),
            // An event has taken the message in the meantime.
            None => bot.buttons.remove(&custom_ids),
        }
    }
    hold_prompt::run_ready(bot).await;
}
