//! Authorization responses in prompts: an agent never sees one (adr/0034).
//!
//! An agent can ask its owner to "sign in again" with a link of its own, and the owner then sends the
//! code into the conversation. So each prompt is searched first. A response to the user's own sign-in
//! finishes it; any other is explained.

use tracing::{error, info};

use super::{auth, bot::Bot, interaction::Interaction, wire::Message};
use crate::{
    broker::ResponseInText,
    ids::{Principal, Snowflake},
    oauth::Pasted,
};

const NOT_PASSED_ON: &str = "That was the answer to a sign-in, so I did not pass it on to the agent. Nobody but me should get it, and I never ask for it in a conversation.";

/// Returns the authorization response in a text of this user. A store that cannot be read counts as one:
/// its sign-ins are unknown.
pub(super) async fn find(bot: &Bot, user: Snowflake, text: &str) -> Option<ResponseInText> {
    match bot.broker.response_in(Principal::User(user), text).await {
        Ok(found) => found,
        Err(error) => {
            error!(%error, "cannot read the store, so prompts that may contain the answer to a sign-in are refused");
            Pasted::parse(text).ok().filter(|_| text.contains("code=") || text.contains("state="))?;
            Some(ResponseInText { own: None })
        }
    }
}

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

/// The answer to a text that finishes no sign-in.
pub(super) fn explanation() -> String {
    format!(
        "{NOT_PASSED_ON} It belongs to no sign-in that you have in progress here. If an agent gave you the link, do not use it: only `/auth start` begins a sign-in, and `/auth code` finishes it."
    )
}
