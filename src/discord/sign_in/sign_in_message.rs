//! The message of one sign-in at each stage, and the only code that writes it.

use std::time::Duration;

use tracing::warn;

use super::{
    super::{
        bot::{Bot, BotHandle},
        held_prompts::PromptFate,
        hold_prompt,
        interaction::Interaction,
        wire::{Message, inline_code},
    },
    account_choice::{kept_text, question},
    messages::{account_name, for_server, signed_in},
    open_messages::OpenMessage,
};
use crate::{
    broker::{Finished, Kept, News, SignedIn, Undecided},
    ids::{ProviderId, Snowflake, Tenant},
    session::{failure, in_words},
    sys::clock::UnixTime,
};

/// A stage of a sign-in after its link was shown.
#[derive(Clone, Debug)]
pub(in crate::discord) enum Stage {
    /// The sign-in is the session.
    SignedIn(SignedIn),
    /// The user chose the sign-in, and it has replaced the session.
    Switched(SignedIn),
    /// The sign-in is as another account, and this message asks its user to choose.
    Question(Undecided),
    /// The sign-in is as another account, and another message asks its user to choose.
    AskedElsewhere(Undecided),
    /// The user chose the session, and the sign-in is dropped.
    Kept(Kept),
    /// The session stays, as another process or the end of the time to choose has decided.
    NotChosen {
        account: Option<String>,
        current: Option<String>,
    },
    /// Neither the sign-in nor the session beside it exists any more.
    ChoiceGone,
    Cancelled,
    /// Its time is over, after it was open for this long.
    Expired(Duration),
    /// Its page was opened late, and its digits can still be typed until this time.
    DigitsLeft(UnixTime),
    /// The way back through the browser ended, for this reason.
    Failed(String),
    /// The provider has ended the sign-in without tokens.
    Ended {
        code: String,
    },
    /// Another sign-in has replaced this one.
    Replaced,
    /// A logout of the tenant has dropped the sign-in.
    LoggedOut,
}

impl Stage {
    /// Returns the message of this stage, with buttons for `user` alone.
    pub(in crate::discord) fn message(&self, bot: &Bot, user: Snowflake, tenant: &Tenant) -> Message {
        match self {
            Self::Question(undecided) => question(bot, user, undecided),
            stage => Message::text(stage.text(tenant)),
        }
    }

    /// Returns the meaning of this stage for a prompt that waits for the sign-in.
    pub(in crate::discord) fn prompt_fate(&self) -> PromptFate {
        match self {
            Self::SignedIn(_) | Self::Switched(_) => PromptFate::Run,
            Self::Kept(_)
            | Self::NotChosen { .. }
            | Self::ChoiceGone
            | Self::Cancelled
            | Self::Expired(_)
            | Self::Failed(_)
            | Self::Ended { .. }
            | Self::LoggedOut => PromptFate::Drop,
            // The sign-in goes on elsewhere.
            Self::Question(_) | Self::AskedElsewhere(_) | Self::Replaced | Self::DigitsLeft(_) => {
                PromptFate::Wait
            }
        }
    }

    fn text(&self, tenant: &Tenant) -> String {
        let provider = &tenant.provider;
        match self {
            Self::SignedIn(result) => signed_in(result),
            Self::Switched(result) if result.replaced.is_some() => format!(
                "{} Its access stays valid at `{provider}` until you remove it in that account there.",
                signed_in(result)
            ),
            Self::Switched(result) => signed_in(result),
            Self::Question(undecided) | Self::AskedElsewhere(undecided) => format!(
                "Your sign-in as {} waits for your choice: choose in the newest answer, or with `/auth status`.",
                account_name(undecided.account.as_deref())
            ),
            Self::Kept(kept) => kept_text(kept),
            Self::NotChosen { account, current } => format!(
                "`{provider}`{} stays with {}. The sign-in as {} was not chosen and is dropped.",
                for_server(tenant),
                account_name(current.as_deref()),
                account_name(account.as_deref())
            ),
            Self::ChoiceGone => "Nothing waits for your choice any more: it was decided, replaced by a newer sign-in, or it has expired. `/auth status` shows the current state.".to_owned(),
            Self::DigitsLeft(until) => format!(
                "Your sign-in to `{provider}` waits for the six digits of its page. Type them with `/auth code` before <t:{until}:t>."
            ),
            Self::Failed(code) => failed(provider, code),
            Self::Cancelled => format!("This sign-in to `{provider}` was cancelled."),
            Self::Expired(open_for) => format!(
                "This sign-in to `{provider}` has expired: it was open for {}. `/auth start` begins another one.",
                in_words(*open_for)
            ),
            Self::Ended { code } => ended_text(tenant, code),
            Self::Replaced => format!(
                "This link to sign in to `{provider}` no longer works: another sign-in has replaced it. Use `/auth start` to continue."
            ),
            Self::LoggedOut => format!(
                "This sign-in to `{provider}` is dropped, because `{provider}` was logged out here. `/auth start` gives you a new link."
            ),
        }
    }
}

impl From<Finished> for Stage {
    fn from(finished: Finished) -> Self {
        match finished {
            Finished::SignedIn(result) => Self::SignedIn(result),
            Finished::Undecided(undecided) => Self::Question(undecided),
        }
    }
}

impl From<News> for Stage {
    fn from(news: News) -> Self {
        match news {
            News::SignedIn(result) => Self::SignedIn(result),
            News::Undecided(undecided) => Self::Question(undecided),
            News::NotChosen { account, current } => Self::NotChosen { account, current },
            News::Gone => Self::ChoiceGone,
            News::Failed(code) => Self::Failed(code),
            News::Cancelled => Self::Cancelled,
            News::Expired(open_for) => Self::Expired(open_for),
            News::Ended { code } => Self::Ended { code },
            News::Replaced => Self::Replaced,
            News::LoggedOut => Self::LoggedOut,
        }
    }
}

/// Reports that the way back through the browser ended.
fn failed(provider: &ProviderId, code: &str) -> String {
    let why = match code {
        failure::DENIED => format!("the access was denied at `{provider}`"),
        failure::WRONG_DIGITS => "other digits than those of the page were typed three times".to_owned(),
        failure::NO_DIGITS => "no digits were typed in time".to_owned(),
        failure::INTERRUPTED => "I was restarted during it".to_owned(),
        failure::NOT_ENTITLED => "you may no longer use me for that".to_owned(),
        failure::WRONG_ISSUER | failure::WRONG_CALLBACK => {
            format!("the answer did not come from `{provider}`")
        }
        code => format!("`{provider}` did not complete it ({})", inline_code(code)),
    };
    format!("Not signed in at `{provider}`: {why}. `/auth start` gives you a new link.")
}

/// Returns the end of a sign-in that the provider decided.
fn ended_text(tenant: &Tenant, code: &str) -> String {
    let provider = &tenant.provider;
    let why = match code {
        "access_denied" => "the access was refused there".to_owned(),
        "expired_token" => "its code has expired there".to_owned(),
        code => format!("`{provider}` ended it (`{}`)", code.replace('`', "'")),
    };
    format!("This sign-in to `{provider}` was not finished: {why}. `/auth start` begins another one.")
}

/// Sends the first message of a sign-in as the answer to `interaction`, and follows it from then
/// on.
pub(in crate::discord) async fn open(
    bot: &Bot,
    interaction: &Interaction,
    open: OpenMessage,
    message: &Message,
) {
    let writing = open.writing.clone();
    let _writing = writing.lock().await;
    bot.open_messages.follow(open);
    bot.edit_reply(interaction, message).await;
}

/// Writes a stage into messages that are no longer followed.
pub(in crate::discord) fn show_stage(bot: &BotHandle, messages: Vec<OpenMessage>, stage: &Stage) {
    for open in messages {
        let mut message = stage.message(bot, open.user, open.shown.tenant());
        message.content.push_str(hold_prompt::apply(bot, open.shown.tenant(), stage.prompt_fate()));
        rewrite(bot, open, message);
    }
}

/// Writes the end of the link into messages that are no longer followed.
pub(in crate::discord) async fn show_expired(bot: &BotHandle, expired: Vec<OpenMessage>) {
    for open in expired {
        let stage = match bot.broker.digits_until(open.shown.tenant()).await {
            Ok(Some(until)) => Stage::DigitsLeft(until),
            Ok(None) | Err(_) => Stage::Expired(open.shown.open_for()),
        };
        show_stage(bot, vec![open], &stage);
    }
}

/// Replaces a message by `message`, in a task of its own. The earlier buttons stop working at once.
pub(super) fn rewrite(bot: &BotHandle, open: OpenMessage, message: Message) {
    bot.buttons.remove(&open.custom_ids);
    let task = bot.clone();
    bot.spawn(async move {
        let _writing = open.writing.lock().await;
        if let Err(error) = task.rest.edit_original(&open.token, &message).await {
            warn!(%error, tenant = %open.shown.tenant(), "cannot update a sign-in message");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_sign_in_names_its_lifetime_and_the_command_for_a_new_one() {
        let tenant: Tenant = "acme/user:1".parse().expect("a tenant");
        for (open_for, words) in [(900, "15 minutes"), (300, "5 minutes"), (30, "30 seconds")] {
            assert_eq!(
                Stage::Expired(Duration::from_secs(open_for)).text(&tenant),
                format!(
                    "This sign-in to `acme` has expired: it was open for {words}. `/auth start` begins another one."
                )
            );
        }
    }
}
