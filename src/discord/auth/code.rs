//! `/auth code` and the form behind "Enter code": finishing a sign-in.

use tokio::time::Instant;

use super::{
    super::{
        asked::Asked,
        bot::{Bot, trouble},
        wire::{Message, code, plain, relative},
    },
    choice, for_whom, known_providers,
    open::{OpenSignIn, show},
};
use crate::{
    broker::{FinishError, Finished, SignedIn},
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

/// What the person reads when it worked, whichever way it was finished.
pub(in crate::discord) fn signed_in(done: &SignedIn) -> Message {
    let provider = &done.tenant.provider;
    let mut text = match &done.account {
        Some(account) => format!("Signed in as {} at `{provider}`{}.", code(account), for_whom(&done.tenant)),
        None => format!("Signed in at `{provider}`{}.", for_whom(&done.tenant)),
    };
    if let Some(replaced) = &done.replaced {
        text.push_str(&format!("\nThis replaces the sign-in as {}.", code(replaced)));
    }
    if !done.renews {
        text.push_str(&format!(
            "\n`{provider}` gave nothing to renew it with: it ends {}, and then you sign in again.",
            relative(done.expires_at)
        ));
    }
    if let Some(dropped) = &done.dropped {
        text.push('\n');
        text.push_str(&choice::dropped_words(&done.tenant, dropped));
    }
    Message::text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_person_reads_as_whom_and_what_was_replaced_and_when_it_ends_for_good() {
        let mut done = SignedIn {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: Some("alice@example.com".into()),
            replaced: None,
            expires_at: 1_795_362_272,
            renews: true,
            dropped: None,
        };
        assert_eq!(signed_in(&done).content, "Signed in as `alice@example.com` at `acme`.");
        done.tenant = "acme/guild:9".parse().expect("a tenant");
        done.replaced = Some("bo`b".into());
        done.renews = false;
        assert_eq!(
            signed_in(&done).content,
            "Signed in as `alice@example.com` at `acme` for this server.\nThis replaces the sign-in as `bo'b`.\n`acme` gave nothing to renew it with: it ends <t:1795362272:R>, and then you sign in again."
        );
    }

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
