//! Where interactions arrive: first the allow-lists, then the acknowledgement, then the work.

use serenity::all::{
    ActionRowComponent, CommandInteraction, ComponentInteraction, Interaction, ModalInteraction,
};

use super::{
    ask,
    asked::Asked,
    auth::{self, For, Revoke},
    bot::Shared,
    buttons::{Action, Void},
    commands::{self, Typed},
    permission,
    wire::{MODAL_FIELD, Message, Response},
};
use crate::ids::Tenant;

const OUTDATED: &str = "I do not know this command any more. Reload Discord (Ctrl+R) and try again.";
const FORGOTTEN_FORM: &str = "I no longer know this button: what it was for is over, or I was restarted since. If a sign-in of yours is still open, use `/auth code`, or `/auth start` for its link. What waits for your choice is in `/auth status`.";

/// Takes an interaction in.
pub(super) async fn interaction(bot: &Shared, interaction: &Interaction) {
    match interaction {
        Interaction::Command(it) => command(bot, it).await,
        Interaction::Autocomplete(it) => autocomplete(bot, it).await,
        Interaction::Component(it) => component(bot, it).await,
        Interaction::Modal(it) => modal(bot, it).await,
        _ => {}
    }
}

/// Whether the lists allow it; otherwise the person has been told.
async fn is_allowed(bot: &Shared, asked: &Asked) -> bool {
    match bot.allow.check(asked.circumstances()) {
        Ok(()) => true,
        Err(refusal) => {
            bot.tell(asked, refusal.to_string()).await;
            false
        }
    }
}

/// Acknowledges; what follows is for the person who asked alone.
async fn defer(bot: &Shared, asked: &Asked) -> bool {
    let acknowledged = bot.respond(asked, &Response::Deferred).await;
    if acknowledged {
        bot.people.seen(asked.user, asked.token.clone());
    }
    acknowledged
}

async fn command(bot: &Shared, it: &CommandInteraction) {
    let asked = Asked::from(it);
    if !is_allowed(bot, &asked).await {
        return;
    }
    match Typed::read(it) {
        None => bot.tell(&asked, OUTDATED).await,
        Some(Typed::Ask { prompt }) => ask::ask(bot, &asked, prompt).await,
        Some(Typed::Stop) => ask::stop(bot, &asked).await,
        Some(Typed::New) => ask::new(bot, &asked).await,
        Some(typed) => {
            if defer(bot, &asked).await {
                sign_in_command(bot, &asked, typed).await;
            }
        }
    }
    // Whoever could not be told that a session has ended can be now.
    if bot.waiting.has(asked.user) {
        bot.notify.notify_one();
    }
}

/// `/auth …`, deferred.
async fn sign_in_command(bot: &Shared, asked: &Asked, typed: Typed) {
    let message = match typed {
        Typed::Start { provider, shared } => match auth::tenant(asked, &provider, For::shared(shared)) {
            Ok(tenant) => return auth::start(bot, asked, &tenant).await,
            Err(refusal) => Message::text(refusal),
        },
        Typed::Code { code, provider } => return auth::finish(bot, asked, provider.as_deref(), &code).await,
        Typed::Status => auth::status(bot, asked).await,
        Typed::Logout { provider, revoke, shared } => {
            let revoke = if revoke { Revoke::Yes } else { Revoke::No };
            auth::logout(bot, asked, &provider, revoke, For::shared(shared)).await
        }
        Typed::Cancel => auth::cancel(bot, asked).await,
        Typed::Ask { .. } | Typed::Stop | Typed::New => Message::text(OUTDATED),
    };
    bot.finish(asked, &message).await;
}

async fn autocomplete(bot: &Shared, it: &CommandInteraction) {
    let asked = Asked::from(it);
    let allowed = bot.allow.check(asked.circumstances()).is_ok();
    let choices = match it.data.autocomplete() {
        Some(option) if allowed && option.name == "provider" => {
            commands::complete(bot.broker.providers().ids(), option.value)
        }
        _ => Vec::new(),
    };
    bot.respond(&asked, &Response::Choices(choices)).await;
}

async fn component(bot: &Shared, it: &ComponentInteraction) {
    let asked = Asked::from(it);
    if !is_allowed(bot, &asked).await {
        return;
    }
    match bot.buttons.pressed(&it.data.custom_id, asked.user) {
        Ok(Action::EnterCode(tenant)) => {
            bot.respond(&asked, &form(&tenant, &it.data.custom_id)).await;
        }
        Ok(Action::SignIn(tenant)) => {
            if defer(bot, &asked).await {
                auth::start(bot, &asked, &tenant).await;
            }
        }
        Ok(Action::Choose { tenant, .. }) if !auth::may_choose(&asked, &tenant) => {
            bot.tell(
                &asked,
                "Only people who may manage this server (the permission Manage Server) can choose for it.",
            )
            .await;
        }
        Ok(Action::Choose { tenant, lineage, choice }) => {
            bot.open.leave(&it.data.custom_id);
            // In the question's place, so that its buttons are gone; the result follows there.
            if bot.respond(&asked, &Response::Update(Message::text("One moment …"))).await {
                bot.people.seen(asked.user, asked.token.clone());
                let message = auth::choose(bot, &tenant, lineage, choice).await;
                bot.finish(&asked, &message).await;
            }
        }
        Ok(Action::Permit { option, label, title, answer }) => {
            match permission::choose(option, &label, &title, &answer) {
                Some(message) => {
                    bot.respond(&asked, &Response::Update(message)).await;
                }
                None => bot.tell(&asked, "That question was answered before, or its turn is over.").await,
            }
        }
        Err(void) => bot.tell(&asked, excuse(void)).await,
    }
}

fn excuse(void: Void) -> &'static str {
    match void {
        Void::Unknown => FORGOTTEN_FORM,
        Void::Foreign => "This button is for somebody else.",
    }
}

/// The form for the code. It bears the button's id, so that it means the same.
fn form(tenant: &Tenant, custom_id: &str) -> Response {
    Response::Modal {
        custom_id: custom_id.to_owned(),
        title: format!("Sign in to {}", tenant.provider),
        label: "Code, or address of the page you ended on".to_owned(),
        placeholder: "The code, or http://127.0.0.1/callback?code=…&state=…".to_owned(),
    }
}

async fn modal(bot: &Shared, it: &ModalInteraction) {
    let asked = Asked::from(it);
    if !is_allowed(bot, &asked).await {
        return;
    }
    let tenant = match bot.buttons.pressed(&it.data.custom_id, asked.user) {
        Ok(Action::EnterCode(tenant)) => tenant,
        Ok(_) => return bot.tell(&asked, FORGOTTEN_FORM).await,
        Err(void) => return bot.tell(&asked, excuse(void)).await,
    };
    if !defer(bot, &asked).await {
        return;
    }
    let fields = it.data.components.iter().flat_map(|row| &row.components);
    let pasted = fields.filter_map(|field| match field {
        ActionRowComponent::InputText(input) if input.custom_id == MODAL_FIELD => input.value.as_deref(),
        _ => None,
    });
    let pasted = pasted.collect::<String>();
    auth::finish(bot, &asked, Some(tenant.provider.as_str()), &pasted).await;
}
