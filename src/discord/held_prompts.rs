//! The prompts of users who must sign in first.
//!
//! An agent without any login of its owner can do nothing. So the owner gets the sign-in card, and
//! the prompt waits here until the sign-in is finished, in this process or in another one.
//!
//! Invariants:
//! - A prompt stays in memory alone. It runs once, for the user who wrote it, and not after
//!   [`PENDING_LIFETIME`].
//! - A tenant has one prompt. A newer one replaces it, and its user reads that.
//! - The end of the sign-in without a login drops the prompt. The message of the sign-in reports it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing::{debug, warn};

use super::{
    bot::{Bot, BotHandle, internal_error},
    buttons::Action,
    open_thread,
    sign_in::Stage,
    turn,
    wire::{Button, Message},
};
use crate::{
    agent::{Conversation, Workers},
    broker::WorkerTokens,
    ids::{Snowflake, Tenant},
    session::{PENDING_LIFETIME, in_words},
    sys::clock::UnixTime,
};

/// The number of prompts that are kept. Each is at most 4,000 characters long.
const MAX: usize = 500;

/// The place where a prompt runs.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    /// A conversation in which the prompt is visible already.
    Shown(Conversation),
    /// A conversation in which the prompt must be quoted first.
    Quoted(Conversation),
    /// A channel, in which a thread is opened.
    Channel { guild: Snowflake, channel: Snowflake },
}

/// A prompt that waits for a sign-in.
#[derive(Clone, Debug)]
pub(super) struct HeldPrompt {
    pub(super) user: Snowflake,
    pub(super) destination: Destination,
    pub(super) text: String,
}

/// The result of [`HeldPrompts::hold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holding {
    /// The prompt waits.
    Held,
    /// The prompt waits, and an earlier one is dropped.
    Replaced,
    /// Too many prompts wait, so this one does not.
    Full,
}

/// All held prompts.
#[derive(Debug, Default)]
pub(super) struct HeldPrompts(Mutex<BTreeMap<Tenant, (HeldPrompt, UnixTime)>>);

impl HeldPrompts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Tenant, (HeldPrompt, UnixTime)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a prompt until the sign-in of `tenant`.
    fn hold(&self, tenant: &Tenant, prompt: HeldPrompt, now: UnixTime) -> Holding {
        let mut all = self.lock();
        all.retain(|_, (_, until)| *until > now);
        if all.len() >= MAX && !all.contains_key(tenant) {
            return Holding::Full;
        }
        let until = now.saturating_add(PENDING_LIFETIME.as_secs().try_into().unwrap_or(UnixTime::MAX));
        match all.insert(tenant.clone(), (prompt, until)) {
            Some(_) => Holding::Replaced,
            None => Holding::Held,
        }
    }

    fn take(&self, tenant: &Tenant, now: UnixTime) -> Option<HeldPrompt> {
        let (prompt, until) = self.lock().remove(tenant)?;
        (until > now).then_some(prompt)
    }

    /// Whether a prompt of this user waits.
    pub(super) fn has_any_of(&self, user: Snowflake) -> bool {
        self.lock().values().any(|(prompt, _)| prompt.user == user)
    }

    /// Drops all prompts of a user. Returns whether there was one.
    pub(super) fn drop_all_of(&self, user: Snowflake) -> bool {
        let mut all = self.lock();
        let before = all.len();
        all.retain(|_, (prompt, _)| prompt.user != user);
        all.len() < before
    }

    fn tenants(&self) -> Vec<Tenant> {
        self.lock().keys().cloned().collect()
    }
}

/// Returns the tenant that the owner of a conversation must sign in before an agent can work, if
/// there is one.
pub(super) async fn missing_login(
    bot: &Bot,
    workers: &Workers,
    conversation: &Conversation,
) -> Option<Tenant> {
    let (holder, required) = (workers.holder(conversation), workers.required_providers());
    match WorkerTokens::missing_login(&bot.broker, &holder, &required).await {
        Ok(missing) => missing,
        Err(error) => {
            // The agent's own request for a token reports the same.
            warn!(%error, "cannot read whether a user is signed in");
            None
        }
    }
}

/// Keeps the prompt, and returns the sentence about it for its user.
pub(super) fn hold(bot: &Bot, tenant: &Tenant, prompt: HeldPrompt) -> &'static str {
    let holding = bot.held_prompts.hold(tenant, prompt, bot.clock.now());
    // The user may have signed in since the caller looked.
    bot.open_messages.request_sync();
    match holding {
        Holding::Held => "Your prompt waits for this sign-in, and runs once you are signed in.",
        Holding::Replaced => {
            "Your prompt waits for this sign-in, and runs once you are signed in. It replaces your earlier one."
        }
        Holding::Full => "Too many prompts wait for a sign-in, so send yours again once you are signed in.",
    }
}

/// Keeps a prompt that no interaction carried, and asks its user to sign in with a button. Only the
/// answer to the button shows the link.
pub(super) fn request(bot: &Bot, tenant: &Tenant, prompt: HeldPrompt) -> Message {
    let user = prompt.user;
    let sentence = hold(bot, tenant, prompt);
    let button = Button::press("Sign in", bot.buttons.add(user, Action::SignIn(tenant.clone())));
    let text = format!(
        "<@{user}> Sign in to `{}` first: press **Sign in**, and only you see the link. {sentence} It waits {}.",
        tenant.provider,
        in_words(PENDING_LIFETIME)
    );
    Message::text(text).buttons(vec![button]).notifying(user)
}

/// Drops the prompt of a sign-in that could not begin.
pub(super) fn forget(bot: &Bot, tenant: &Tenant) {
    bot.held_prompts.take(tenant, bot.clock.now());
}

/// Applies a stage of a sign-in to its prompt: runs it, drops it, or leaves it. Returns the sentence
/// for the message of the sign-in, or nothing.
pub(super) fn apply(bot: &BotHandle, tenant: &Tenant, stage: &Stage) -> &'static str {
    match stage {
        Stage::SignedIn(_) | Stage::Switched(_) => match bot.held_prompts.take(tenant, bot.clock.now()) {
            Some(prompt) => {
                run(bot, prompt);
                "\nYour prompt runs now."
            }
            None => "",
        },
        Stage::Kept(_)
        | Stage::NotChosen { .. }
        | Stage::ChoiceGone
        | Stage::Cancelled
        | Stage::Expired
        | Stage::LoggedOut => match bot.held_prompts.take(tenant, bot.clock.now()) {
            Some(_) => "\nYour prompt was not sent. Send it again once you are signed in.",
            None => "",
        },
        // The sign-in goes on elsewhere.
        Stage::Question(_) | Stage::AskedElsewhere(_) | Stage::Replaced => "",
    }
}

/// Runs the prompts whose users another process has signed in, where no message of the sign-in is
/// followed.
pub(super) async fn run_ready(bot: &BotHandle) {
    for tenant in bot.held_prompts.tenants() {
        if bot.open_messages.follows_link(&tenant) {
            // That message's stage decides about the prompt.
            continue;
        }
        match bot.broker.has_login(&tenant).await {
            Ok(true) => {
                if let Some(prompt) = bot.held_prompts.take(&tenant, bot.clock.now()) {
                    run(bot, prompt);
                }
            }
            Ok(false) => {}
            Err(error) => {
                return debug!(%error, "cannot read whether the users of held prompts are signed in");
            }
        }
    }
}

fn run(bot: &BotHandle, prompt: HeldPrompt) {
    let task = bot.clone();
    bot.spawn(async move {
        if let Err(refusal) = begin(&task, &prompt).await {
            report(&task, prompt.user, &refusal).await;
        }
    });
}

async fn begin(bot: &BotHandle, prompt: &HeldPrompt) -> Result<(), Message> {
    let Some(workers) = &bot.workers else { return Ok(()) };
    let HeldPrompt { user, destination, text } = prompt;
    let conversation = match destination {
        Destination::Shown(conversation) => conversation.clone(),
        Destination::Quoted(conversation) => {
            let quoted = Message::text(open_thread::quoted(*user, text));
            let sent = bot.rest.send(conversation.id.0, &quoted).await;
            sent.map_err(|error| internal_error("send a prompt after a sign-in", &error))?;
            conversation.clone()
        }
        Destination::Channel { guild, channel } => {
            open_thread::open(bot, *guild, *channel, *user, text).await.map_err(Message::text)?
        }
    };
    turn::begin(bot, workers, conversation, text.clone());
    Ok(())
}

/// Reports a prompt that could not run, where only its user sees it.
async fn report(bot: &Bot, user: Snowflake, refusal: &Message) {
    let message = Message::text(format!("Your prompt was not sent. {}", refusal.content));
    if let Some(token) = bot.tokens.newest(user)
        && bot.rest.followup(&token, &message).await.is_ok()
    {
        return;
    }
    if let Err(error) = bot.rest.direct(user, &message).await {
        warn!(%error, "cannot report a prompt that could not run after its sign-in");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(text: &str) -> HeldPrompt {
        let destination = Destination::Channel { guild: Snowflake(1), channel: Snowflake(2) };
        HeldPrompt { user: Snowflake(5), destination, text: text.to_owned() }
    }

    #[test]
    fn a_tenant_has_one_prompt_which_a_newer_one_replaces_and_time_ends() {
        let held = HeldPrompts::default();
        let tenant: Tenant = "acme/user:5".parse().expect("a tenant");
        assert_eq!(held.hold(&tenant, prompt("one"), 1000), Holding::Held);
        assert_eq!(held.hold(&tenant, prompt("two"), 1001), Holding::Replaced);
        assert_eq!(held.take(&tenant, 1002).expect("it waits").text, "two");
        assert!(held.take(&tenant, 1002).is_none(), "it runs once");
        held.hold(&tenant, prompt("three"), 1000);
        assert!(held.take(&tenant, 1000 + 900).is_none(), "its time is over");
        held.hold(&tenant, prompt("four"), 1000);
        assert!(!held.drop_all_of(Snowflake(6)) && held.drop_all_of(Snowflake(5)));
        assert!(held.tenants().is_empty());
    }

    #[test]
    fn the_number_of_held_prompts_is_bounded_and_old_ones_make_room() {
        let held = HeldPrompts::default();
        let tenant = |n: usize| format!("acme/user:{}", n + 1).parse().expect("a tenant");
        for n in 0..MAX {
            assert_eq!(held.hold(&tenant(n), prompt("p"), 1000), Holding::Held);
        }
        assert_eq!(held.hold(&tenant(MAX), prompt("p"), 1000), Holding::Full);
        assert_eq!(held.hold(&tenant(MAX), prompt("p"), 2000), Holding::Held);
    }
}
