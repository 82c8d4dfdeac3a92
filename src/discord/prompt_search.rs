//! Searches each prompt for an authorization response, because an agent never sees one (adr/0034).
//!
//! An agent can ask its owner to "sign in again" with a link of its own, and the owner then sends the
//! code into the conversation.

use tracing::error;

use super::bot::Bot;
use crate::{
    broker::ResponseInText,
    ids::{Principal, Snowflake},
    oauth::Pasted,
};

pub(super) const NOT_PASSED_ON: &str = "That was the answer to a sign-in, so I did not pass it on to the agent. Nobody but me should get it, and I never ask for it in a conversation.";

/// Returns the authorization response in a text of this user. A store that cannot be read counts as one:
/// its sign-ins are unknown.
pub(super) async fn authorization_response(bot: &Bot, user: Snowflake, text: &str) -> Option<ResponseInText> {
    match bot.broker.response_in(Principal::User(user), text).await {
        Ok(found) => found,
        Err(error) => {
            error!(%error, "cannot read the store, so prompts that may contain the answer to a sign-in are refused");
            Pasted::parse(text).ok().filter(|_| text.contains("code=") || text.contains("state="))?;
            Some(ResponseInText { own: None })
        }
    }
}

/// The answer to a text that finishes no sign-in.
pub(super) fn explanation() -> String {
    format!(
        "{NOT_PASSED_ON} It belongs to no sign-in that you have in progress here. If an agent gave you the link, do not use it: only `/auth start` begins a sign-in, and `/auth code` finishes it."
    )
}
