//! `/auth code` and the form of the button "Enter code": both finish a sign-in.

use tokio::time::Instant;

use super::super::{
    bot::{Bot, internal_error},
    command::Options,
    interaction::Interaction,
    sign_in::{self, OpenMessage, Stage, undiscovered, unknown_provider},
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
    let has_prompt = bot.held_prompts.has_any_of(interaction.user);
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
    if bot.workers.is_some() && !has_prompt {
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
    finish_pasted(bot, user, None, None, pasted).await.map(drop)
}

async fn try_finish(
    bot: &Bot,
    interaction: &Interaction,
    provider: Option<&str>,
    pasted: &str,
) -> Result<Finished, Message> {
    let provider: Option<ProviderId> =
        provider.map(|p| p.trim().parse()).transpose().map_err(|error: IdError| not_signed_in(&error))?;
    finish_pasted(bot, interaction.user, interaction.managed_guild(), provider.as_ref(), pasted).await
}

/// `managed` is the server in which the user acts, if the user manages it.
async fn finish_pasted(
    bot: &Bot,
    user: Snowflake,
    managed: Option<Snowflake>,
    provider: Option<&ProviderId>,
    pasted: &str,
) -> Result<Finished, Message> {
    let pasted = Pasted::parse(pasted).map_err(|error| not_signed_in(&error))?;
    let finished = bot.broker.finish_in(Principal::User(user), managed, provider, pasted).await;
    finished.map_err(|error| explain(bot, &error))
}

fn explain(bot: &Bot, error: &FinishError) -> Message {
    match error {
        FinishError::UnknownProvider(provider) => unknown_provider(bot, provider),
        FinishError::Undiscovered { provider, problem } => undiscovered(provider, problem),
        FinishError::Store(error) => internal_error("finish a sign-in", error),
        FinishError::Internal(_) => internal_error("finish a sign-in", error),
        FinishError::Held { provider, .. } => {
            // The operator can mend it, and the user can only wait.
            tracing::warn!(%error, "a sign-in waits for another process");
            not_signed_in(&FinishError::Busy(provider.clone()))
        }
        FinishError::Misconfigured { .. }
        | FinishError::RequestRefused { .. }
        | FinishError::WrongEndpoint { .. }
        | FinishError::Unreachable { .. } => {
            tracing::error!(%error, "a sign-in fails until the configuration or the network is corrected");
            not_signed_in(&operators_text(error))
        }
        FinishError::NoClientSecret { provider, .. } => {
            tracing::error!(%error, "a client's secret cannot be read");
            Message::text(format!(
                "Not signed in: my client at `{provider}` has no secret at the moment. Your code was not sent, and your sign-in is still open. Ask my operator to mend it."
            ))
        }
        FinishError::NonceMissing(_) => {
            tracing::error!(%error, "a provider's id token has no nonce");
            not_signed_in(error)
        }
        error => not_signed_in(error),
    }
}

/// The text for a user about a mistake that only the operator can mend. The log has the details.
fn operators_text(error: &FinishError) -> String {
    let ask = "Only my operator can correct this: ask them to look at my log";
    match error {
        FinishError::Misconfigured { provider, code } => {
            format!("{provider} refuses me as a client ({code}). {ask}")
        }
        FinishError::RequestRefused { provider, error, .. } => {
            format!("{provider} refuses my request to sign you in ({error}). {ask}")
        }
        FinishError::WrongEndpoint { provider, code, .. } => format!(
            "I have a wrong address of {provider} ({code}). Your code was not used, and your sign-in is still open. {ask}"
        ),
        FinishError::Unreachable { provider, code, .. } => format!(
            "I cannot reach {provider} ({code}). Your code was not used, and your sign-in is still open: try again in a moment. If it \
             stays so, ask my operator to look at my log"
        ),
        error => error.to_string(),
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

    #[test]
    fn a_user_is_referred_to_the_operator_without_internals() {
        let provider: ProviderId = "acme".parse().expect("an id");
        let endpoint = "http://10.0.0.7/token".to_owned();
        let cause =
            crate::net::Unreachable::Name { host: "id.internal".into(), problem: "no such host".into() };
        let errors = [
            FinishError::Misconfigured { provider: provider.clone(), code: "invalid_client".into() },
            FinishError::RequestRefused {
                provider: provider.clone(),
                error: "invalid_scope".into(),
                description: Some("unknown scope reed".into()),
            },
            FinishError::WrongEndpoint { provider: provider.clone(), code: "http_404".into(), endpoint },
            FinishError::Unreachable { provider, code: "dns".into(), cause: Some(cause) },
        ];
        for error in errors {
            let text = operators_text(&error);
            assert!(text.contains("my operator") && text.contains("log"), "{text}");
            assert!(
                !text.contains("10.0.0.7") && !text.contains("internal") && !text.contains("providers."),
                "{text}"
            );
        }
    }
}
