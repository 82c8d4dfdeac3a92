//! `/auth code` and the form behind "Enter code": finishing a sign-in.

use tokio::time::Instant;

use super::{
    super::{
        asked::Asked,
        bot::{Bot, trouble},
        sign_ins::OpenSignIn,
        wire::{Message, plain},
    },
    choice,
    close::show,
    words::{known_providers, signed_in},
};
use crate::{
    broker::{FinishError, Finished},
    ids::{IdError, Principal, ProviderId},
    oauth::Pasted,
};

/// Finishes the sign-in of the person who asked with what they pasted, and answers. Without a provider the paste tells which.
pub(in crate::discord) async fn finish(bot: &Bot, asked: &Asked, provider: Option<&str>, pasted: &str) {
    let since = Instant::now();
    let undecided = match finished(bot, asked, provider, pasted).await {
        Ok(Finished::Undecided(undecided)) => undecided,
        Ok(Finished::SignedIn(done)) => {
            let mut told = signed_in(&done);
            if bot.workers.is_some() {
                told.content.push_str("\nAsk an agent with `/ask`.");
            }
            return bot.finish(asked, &told).await;
        }
        Err(told) => return bot.finish(asked, &told).await,
    };
    let question = choice::question(bot, asked.user, &undecided);
    let open = OpenSignIn::new(undecided.shown(), asked, since, question.custom_ids());
    show(bot, asked, open, &question).await;
}

async fn finished(
    bot: &Bot,
    asked: &Asked,
    provider: Option<&str>,
    pasted: &str,
) -> Result<Finished, Message> {
    let provider: Option<ProviderId> =
        provider.map(|p| p.trim().parse()).transpose().map_err(|error: IdError| failed(&error))?;
    let pasted = Pasted::parse(pasted).map_err(|error| failed(&error))?;
    let finished = bot.broker.finish(Principal::User(asked.user), provider.as_ref(), pasted).await;
    finished.map_err(|error| explain(bot, &error))
}

fn explain(bot: &Bot, error: &FinishError) -> Message {
    match error {
        FinishError::UnknownProvider(provider) => Message::text(format!(
            "There is no provider `{provider}`. {}",
            known_providers(bot.broker.providers().ids())
        )),
        FinishError::Store(error) => trouble("finishing a sign-in", error),
        FinishError::Internal(_) => trouble("finishing a sign-in", error),
        FinishError::Misconfigured { .. } => {
            tracing::error!(%error, "a provider refuses our client");
            failed(error)
        }
        error => failed(error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Message {
    Message::text(format!("Not signed in: {}.", plain(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_words_bring_no_markup_with_them() {
        let error = crate::oauth::PasteError::Denied {
            error: "access_denied".into(),
            description: Some("[click](https://evil.example) @everyone".into()),
        };
        let text = failed(&error).content;
        assert!(
            text.starts_with(
                "Not signed in: the sign-in was not allowed (access\\_denied: \\[click\\](https"
            ),
            "{text}"
        );
        assert!(!text.contains("@everyone"));
    }
}
