//! `/auth code` and the form of the button "Enter code": both finish a sign-in.

use tokio::time::Instant;

use super::super::{
    bot::{Bot, internal_error},
    command::Options,
    interaction::Interaction,
    sign_in::{self, OpenMessage, Stage, unknown_provider},
    wire::{Message, escape_markdown},
};
use crate::{
    broker::{FinishError, Finished},
    ids::{IdError, Principal, ProviderId, Snowflake},
    oauth::Pasted,
};

/// Finishes the sign-in that the pasted code belongs to.
pub(super) async fn command(bot: &Bot, interaction: &Interaction, options: &Options) {
    finish(bot, interaction, options.text("provider"), options.required("code")).await;
}

/// Finishes a sign-in of the user with a pasted text, and answers with its new stage. Without a
/// provider the text itself identifies the sign-in. Other messages of the sign-in follow the
/// broker's event.
pub(in crate::discord) async fn finish(
    bot: &Bot,
    interaction: &Interaction,
    provider: Option<&str>,
    pasted: &str,
) {
    let since = Instant::now();
    let finished = match try_finish(bot, interaction, provider, pasted).await {
        Ok(finished) => finished,
        Err(failure) => return bot.edit_reply(interaction, &failure).await,
    };
    let (tenant, shown) = match &finished {
        Finished::SignedIn(result) => (result.tenant.clone(), None),
        Finished::Undecided(undecided) => (undecided.tenant.clone(), Some(undecided.shown())),
    };
    let mut message = Stage::from(finished).message(bot, interaction.user, &tenant);
    if let Some(shown) = shown {
        let open = OpenMessage::new(shown, interaction, since, message.custom_ids());
        return sign_in::open(bot, interaction, open, &message).await;
    }
    if bot.workers.is_some() {
        message.content.push_str("\nAsk an agent with `/ask`.");
    }
    bot.edit_reply(interaction, &message).await;
}

/// Finishes a sign-in of the user with a text that was sent as a message. The messages of the sign-in
/// show the result. Returns the reason if it is not finished.
pub(in crate::discord) async fn finish_by_message(
    bot: &Bot,
    user: Snowflake,
    pasted: &str,
) -> Result<(), Message> {
    finish_pasted(bot, user, None, pasted).await.map(drop)
}

async fn try_finish(
    bot: &Bot,
    interaction: &Interaction,
    provider: Option<&str>,
    pasted: &str,
) -> Result<Finished, Message> {
    let provider: Option<ProviderId> =
        provider.map(|p| p.trim().parse()).transpose().map_err(|error: IdError| not_signed_in(&error))?;
    finish_pasted(bot, interaction.user, provider.as_ref(), pasted).await
}

async fn finish_pasted(
    bot: &Bot,
    user: Snowflake,
    provider: Option<&ProviderId>,
    pasted: &str,
) -> Result<Finished, Message> {
    let pasted = Pasted::parse(pasted).map_err(|error| not_signed_in(&error))?;
    let finished = bot.broker.finish(Principal::User(user), provider, pasted).await;
    finished.map_err(|error| explain(bot, &error))
}

fn explain(bot: &Bot, error: &FinishError) -> Message {
    match error {
        FinishError::UnknownProvider(provider) => unknown_provider(bot, provider),
        FinishError::Store(error) => internal_error("finish a sign-in", error),
        FinishError::Internal(_) => internal_error("finish a sign-in", error),
        FinishError::Held { provider, .. } => {
            // The operator can mend it, and the user can only wait.
            tracing::warn!(%error, "a sign-in waits for another process");
            not_signed_in(&FinishError::Busy(provider.clone()))
        }
        FinishError::Misconfigured { .. } => {
            tracing::error!(%error, "a provider refuses the configured client");
            not_signed_in(error)
        }
        FinishError::NonceMissing(_) => {
            tracing::error!(%error, "a provider's id token has no nonce");
            not_signed_in(error)
        }
        error => not_signed_in(error),
    }
}

fn not_signed_in(error: &dyn std::fmt::Display) -> Message {
    Message::text(format!("Not signed in: {}.", escape_markdown(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_cannot_put_markup_or_mentions_into_an_error() {
        let error = crate::oauth::PasteError::Denied {
            error: "access_denied".into(),
            description: Some("[click](https://evil.example) @everyone".into()),
        };
        let text = not_signed_in(&error).content;
        assert!(
            text.starts_with(
                "Not signed in: the sign-in was not allowed (access\\_denied: \\[click\\](https"
            ),
            "{text}"
        );
        assert!(!text.contains("@everyone"));
    }
}
