//! Answers prompts that contain an authorization response ([`prompt_search`](super::prompt_search)). A
//! response to the user's own sign-in finishes it; any other is explained.

use tracing::info;

use super::{
    auth,
    bot::Bot,
    interaction::Interaction,
    prompt_search::{NOT_PASSED_ON, explanation},
    wire::Message,
};
use crate::{
    broker::ResponseInText,
    ids::{Principal, Snowflake},
};

/// Answers `/ask` with such a text. The answer is visible to its user alone.
pub(super) async fn answer_command(bot: &Bot, interaction: &Interaction, found: &ResponseInText, text: &str) {
    if !bot.defer(interaction).await {
        return;
    }
    if found.own.is_none() {
        return bot.edit_reply(interaction, &Message::text(explanation())).await;
    }
    auth::finish(bot, interaction, None, text).await;
    let note = Message::text(NOT_PASSED_ON);
    if let Err(error) = bot.rest.followup(&interaction.token, &note).await {
        info!(%error, "cannot explain why a prompt was not passed on");
    }
}

/// Answers a message with such a text, and deletes it if the bot may.
pub(super) async fn answer_message(
    bot: &Bot,
    user: Snowflake,
    (channel, message): (Snowflake, Snowflake),
    found: &ResponseInText,
    text: &str,
) {
    // Others may see the channel until then, so nothing waits for the provider.
    let is_deleted = bot.rest.delete(channel, message).await.is_ok();
    let mut answer = match &found.own {
        None => explanation(),
        // A server's login is finished only by its managers on that server: `/auth code` checks that.
        Some(tenant) if !matches!(tenant.principal, Principal::User(_)) => {
            format!("{NOT_PASSED_ON} To finish the sign-in, use `/auth code` on its server.")
        }
        Some(tenant) => match auth::finish_by_message(bot, user, text).await {
            Ok(()) => format!(
                "{NOT_PASSED_ON} Your sign-in to `{}` is finished with it. `/auth status` shows the result.",
                tenant.provider
            ),
            Err(failure) => format!("{NOT_PASSED_ON} {}", failure.content),
        },
    };
    answer.push_str(if is_deleted {
        " I deleted your message."
    } else {
        " Please delete your message, because I may not."
    });
    if let Err(error) = bot.rest.send(channel, &Message::text(answer)).await {
        info!(%channel, %error, "cannot explain why a prompt was not passed on");
    }
}
