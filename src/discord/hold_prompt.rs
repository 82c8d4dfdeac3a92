//! Holds the prompt of a user who must sign in first, and runs or drops it at the end of the sign-in.
//! The prompts themselves are in [`super::held_prompts`].

use tracing::{debug, warn};

use super::{
    bot::{Bot, BotHandle, internal_error},
    buttons::Action,
    held_prompts::{Destination, HeldPrompt, Holding, PromptFate},
    open_thread,
    rights::{Place, Request},
    turn,
    wire::{Button, Message},
};
use crate::{
    agent::{Conversation, Workers},
    broker::WorkerTokens,
    ids::{Snowflake, Tenant},
    session::{PENDING_LIFETIME, in_words},
};

/// Returns the tenant that the owner of a conversation must sign in before an agent can work, if
/// there is one. An agent at work asks for a login itself, so its owner is not asked twice.
pub(super) async fn missing_login(
    bot: &Bot,
    workers: &Workers,
    conversation: &Conversation,
) -> Option<Tenant> {
    if workers.is_at_work(conversation.id) {
        return None;
    }
    let (holder, required) = (workers.holder(conversation), workers.required_providers(conversation));
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

/// Runs the prompt of a sign-in, drops it, or leaves it. Returns the sentence for the message of the
/// sign-in, or nothing.
pub(super) fn apply(bot: &BotHandle, tenant: &Tenant, fate: PromptFate) -> &'static str {
    if fate == PromptFate::Wait {
        return "";
    }
    let Some(prompt) = bot.held_prompts.take(tenant, bot.clock.now()) else { return "" };
    if fate == PromptFate::Drop {
        return "\nYour prompt was not sent. Send it again once you are signed in.";
    }
    run(bot, prompt);
    "\nYour prompt runs now."
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
    // The right may have ended since the user wrote the prompt.
    bot.rights
        .check(&request_of(bot, *user, destination))
        .await
        .map_err(|no| Message::text(no.to_string()))?;
    let conversation = match destination {
        Destination::Shown(conversation) => conversation.clone(),
        Destination::Quoted(conversation) => {
            let quoted = Message::text(open_thread::quoted(*user, text));
            let sent = bot.rest.send(conversation.id.0, &quoted).await;
            sent.map_err(|error| internal_error("send a prompt after a sign-in", &error))?;
            conversation.clone()
        }
        Destination::Channel { guild, channel, agent } => {
            open_thread::open(bot, *guild, *channel, *user, agent.clone(), text)
                .await
                .map_err(Message::text)?
        }
    };
    turn::begin(bot, workers, conversation, text.clone());
    Ok(())
}

/// The request that a held prompt makes when it runs.
fn request_of(bot: &Bot, user: Snowflake, destination: &Destination) -> Request {
    let place = match destination {
        Destination::Shown(conversation) | Destination::Quoted(conversation) => {
            let channel = conversation.id.0;
            bot.conversations.get(channel).map_or(Place::Outside, |record| Place::Server {
                guild: record.guild,
                channel,
                parent: Some(record.parent),
            })
        }
        Destination::Channel { guild, channel, .. } => {
            Place::Server { guild: *guild, channel: *channel, parent: None }
        }
    };
    Request { user, place, member: None, sees_channel: false }
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
