//! The button "Try again" of the notice about a stuck session.

use super::super::{
    bot::{Bot, internal_error},
    wire::{Message, inline_code},
};
use crate::{broker::TokenError, ids::Tenant};

/// Refreshes the session at once, and returns the result as a message.
pub(in crate::discord) async fn try_again(bot: &Bot, tenant: &Tenant) -> Message {
    let provider = &tenant.provider;
    let text = match bot.broker.try_again(tenant).await {
        Ok(_) => format!("It works again: `{provider}` has refreshed your sign-in."),
        Err(TokenError::Store(error)) => return internal_error("try a stuck session again", &error),
        Err(TokenError::NoSession(_)) => {
            format!("You are not signed in at `{provider}`. `/auth start` signs you in.")
        }
        Err(TokenError::Ended { code, .. }) => format!(
            "Your sign-in at `{provider}` has ended ({}). `/auth start` signs you in again.",
            inline_code(&code)
        ),
        Err(TokenError::Misconfigured { code, .. }) => format!(
            "`{provider}` refuses me as a client ({}). I keep the sign-in. Only my operator can correct this: ask them to look at my log.",
            inline_code(&code)
        ),
        Err(TokenError::Unavailable { code, .. }) => format!(
            "`{provider}` still refuses ({}). I keep the sign-in and try once an hour. `/auth start` signs you in again.",
            inline_code(&code)
        ),
        Err(error @ TokenError::NoClientSecret { .. }) => {
            tracing::error!(%error, "a client's secret cannot be read");
            format!(
                "My client at `{provider}` has no secret at the moment. I keep your sign-in. Ask my operator to mend it."
            )
        }
        Err(error @ TokenError::Undiscovered { .. }) => {
            tracing::error!(%error, "the endpoints of a provider are not known");
            format!(
                "I cannot find out where `{provider}` takes requests now. I keep your sign-in. Ask my operator to look at my log."
            )
        }
        Err(TokenError::Held { .. }) => {
            format!("The refresh at `{provider}` is still in progress: look at `/auth status` in a moment.")
        }
        Err(
            error @ (TokenError::InProgress(_)
            | TokenError::Internal(_)
            | TokenError::UnknownProvider(_)
            | TokenError::ExchangeRefused { .. }
            | TokenError::ExchangeUnavailable { .. }
            | TokenError::EnvironmentRejected { .. }),
        ) => error.to_string(),
    };
    Message::text(text)
}
