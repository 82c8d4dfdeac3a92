//! The entry point of all interactions: first the user's rights, then the acknowledgement, then the
//! handler.

use serenity::all::{
    ActionRowComponent, CommandInteraction, ComponentInteraction, Interaction as Received, ModalInteraction,
};

use super::{
    auth,
    bot::BotHandle,
    buttons::{Action, PressError},
    commands::{self, Acknowledgement, Call},
    interaction::Interaction,
    permission, questions,
    rights::Refusal,
    sign_in,
    wire::{MODAL_FIELD, Response},
};
use crate::ids::{AgentName, ProviderId, Tenant};

const OUTDATED: &str = "I do not know this command any more. Reload Discord (Ctrl+R) and try again.";
/// The answer to a manager's button in another place, or after the permission was taken away.
const MANAGERS_ONLY: &str = "This button is for a whole server. Only a member with the permission Manage Server can use it, and only in that server. A manager of the server can give you the permission.";
const FORGOTTEN: &str = "This button no longer works: its sign-in or its question has ended, or I have restarted since. If your sign-in is still open, use `/auth code`, or `/auth start` to see its link again. If a sign-in waits for your choice, `/auth status` shows it.";

/// Handles an interaction.
pub(super) async fn handle(bot: &BotHandle, received: &Received) {
    match received {
        Received::Command(received) => command(bot, received).await,
        Received::Autocomplete(received) => autocomplete(bot, received).await,
        Received::Component(received) => component(bot, received).await,
        Received::Modal(received) => modal(bot, received).await,
        _ => {}
    }
}

/// Whether the user may do this here. If not, the user gets the reason.
async fn is_allowed(bot: &BotHandle, interaction: &Interaction) -> bool {
    answer_refusal(bot, interaction, bot.rights.check(&interaction.request()).await).await
}

/// As [`is_allowed`], for the form of a button, which must be answered at once. A right that is not
/// known opens the form: its submission is checked.
async fn may_open_form(bot: &BotHandle, interaction: &Interaction) -> bool {
    let known = match bot.rights.check_from_memory(&interaction.request()) {
        Err(Refusal::Unchecked) => Ok(()),
        known => known,
    };
    answer_refusal(bot, interaction, known).await
}

async fn answer_refusal(bot: &BotHandle, interaction: &Interaction, result: Result<(), Refusal>) -> bool {
    match result {
        Ok(()) => true,
        Err(refusal) => {
            bot.reply(interaction, refusal.to_string()).await;
            false
        }
    }
}

async fn command(bot: &BotHandle, received: &CommandInteraction) {
    let interaction = Interaction::from(received).within(|guild| bot.rights.is_in(guild));
    if !is_allowed(bot, &interaction).await {
        return;
    }
    match Call::read(&received.data) {
        None => bot.reply(&interaction, OUTDATED).await,
        Some(call) => {
            let is_acknowledged = match call.acknowledgement {
                Acknowledgement::BeforeHandler => bot.defer(&interaction).await,
                Acknowledgement::ByHandler => true,
            };
            if is_acknowledged {
                (call.row.handler)(bot, &interaction, &call.options).await;
            }
        }
    }
    // The notice of an ended session that has not reached this user can be sent now, with the new
    // interaction token.
    if bot.unreached.contains(interaction.user) {
        bot.notice_due.notify_one();
    }
}

async fn autocomplete(bot: &BotHandle, received: &CommandInteraction) {
    let interaction = Interaction::from(received).within(|guild| bot.rights.is_in(guild));
    let is_allowed = bot.rights.check_from_memory(&interaction.request()).is_ok();
    let choices = match received.data.autocomplete() {
        Some(option) if is_allowed && option.name == "provider" => {
            commands::complete(bot.broker.providers().ids().map(ProviderId::as_str), option.value)
        }
        Some(option) if is_allowed && option.name == "agent" => {
            let names = bot.workers.iter().flat_map(|workers| workers.agents().names());
            commands::complete(names.map(AgentName::as_str), option.value)
        }
        _ => Vec::new(),
    };
    bot.respond(&interaction, &Response::Choices(choices)).await;
}

async fn component(bot: &BotHandle, received: &ComponentInteraction) {
    let interaction = Interaction::from(received).within(|guild| bot.rights.is_in(guild));
    let custom_id = &received.data.custom_id;
    let pressed = match bot.buttons.pressed(custom_id, interaction.user) {
        // The buttons of a question to an owner outlive a restart.
        Err(PressError::Unknown) => questions::pressed(bot, custom_id, interaction.user),
        known => known,
    };
    let is_allowed = match &pressed {
        Ok(Action::EnterCode(_) | Action::EnterDigits(_)) => may_open_form(bot, &interaction).await,
        _ => is_allowed(bot, &interaction).await,
    };
    if !is_allowed {
        return;
    }
    match pressed {
        Ok(action) if action.tenant().is_some_and(|tenant| !auth::acts_for(&interaction, tenant)) => {
            bot.reply(&interaction, MANAGERS_ONLY).await;
        }
        Ok(Action::EnterCode(tenant)) => {
            bot.respond(&interaction, &code_form(&tenant, custom_id)).await;
        }
        Ok(Action::EnterDigits(tenant)) => {
            bot.respond(&interaction, &digits_form(&tenant, custom_id)).await;
        }
        Ok(Action::SignIn(tenant)) => {
            if bot.defer(&interaction).await {
                auth::start(bot, &interaction, &tenant, "").await;
            }
        }
        Ok(Action::DeclineSignIn(tenant)) => questions::decline(bot, &interaction, &tenant).await,
        Ok(Action::TryAgain(tenant)) => {
            if bot.defer(&interaction).await {
                let message = auth::try_again(bot, &tenant).await;
                bot.edit_reply(&interaction, &message).await;
            }
        }
        Ok(Action::Choose { tenant, lineage, choice }) => {
            sign_in::choose(bot, &interaction, custom_id, &tenant, lineage, choice).await;
        }
        Ok(Action::LogOut { tenant, revocation }) => {
            auth::log_out_as_chosen(bot, &interaction, &tenant, revocation).await;
        }
        Ok(Action::Permit { option, label, asked, reply }) => {
            match permission::choose(option, &label, &asked, &reply) {
                Some(message) => {
                    bot.respond(&interaction, &Response::Update(message)).await;
                }
                None => {
                    bot.reply(&interaction, "This question is already answered, or its turn has ended.")
                        .await;
                }
            }
        }
        Err(error) => bot.reply(&interaction, explain(error)).await,
    }
}

fn explain(error: PressError) -> &'static str {
    match error {
        PressError::Unknown => FORGOTTEN,
        PressError::OtherUser => "This button belongs to another user.",
    }
}

/// The form for the code. It has the custom_id of its button, so that both lead to the same action.
fn code_form(tenant: &Tenant, custom_id: &str) -> Response {
    Response::Modal {
        custom_id: custom_id.to_owned(),
        title: format!("Sign in to {}", tenant.provider),
        label: "Code, or full address of the last page".to_owned(),
        placeholder: "The code, or http://127.0.0.1/callback?code=…&state=…".to_owned(),
    }
}

/// The form for the digits.
fn digits_form(tenant: &Tenant, custom_id: &str) -> Response {
    Response::Modal {
        custom_id: custom_id.to_owned(),
        title: format!("Sign in to {}", tenant.provider),
        label: "The six digits of the last page".to_owned(),
        placeholder: "123 456".to_owned(),
    }
}

async fn modal(bot: &BotHandle, received: &ModalInteraction) {
    let interaction = Interaction::from(received).within(|guild| bot.rights.is_in(guild));
    if !is_allowed(bot, &interaction).await {
        return;
    }
    let tenant = match bot.buttons.pressed(&received.data.custom_id, interaction.user) {
        Ok(Action::EnterCode(tenant) | Action::EnterDigits(tenant)) => tenant,
        Ok(_) => return bot.reply(&interaction, FORGOTTEN).await,
        Err(error) => return bot.reply(&interaction, explain(error)).await,
    };
    if !bot.defer(&interaction).await {
        return;
    }
    let fields = received.data.components.iter().flat_map(|row| &row.components);
    let pasted = fields.filter_map(|field| match field {
        ActionRowComponent::InputText(input) if input.custom_id == MODAL_FIELD => input.value.as_deref(),
        _ => None,
    });
    let pasted = pasted.collect::<String>();
    auth::finish(bot, &interaction, Some(tenant.provider.as_str()), &pasted).await;
}
