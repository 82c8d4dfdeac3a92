//! The press of "Switch" or "Keep", and the notice of a choice that its user did not make in time.

use super::{
    super::{
        acting_managers::Deed,
        bot::{Bot, BotHandle, internal_error},
        buttons::Choice,
        hold_prompt,
        interaction::Interaction,
        wire::{Message, Response},
    },
    account_choice::kept_text,
    sign_in_message::Stage,
};
use crate::{
    broker::{ChoiceError, GrantEnd, Kept},
    ids::{Lineage, Principal, Tenant},
};

/// Makes the choice of a press, and writes the result in place of the question.
pub(in crate::discord) async fn choose(
    bot: &BotHandle,
    interaction: &Interaction,
    custom_id: &str,
    tenant: &Tenant,
    lineage: Lineage,
    choice: Choice,
) {
    // From here on the press owns the message: its interaction token is the newest.
    bot.open_messages.release(custom_id);
    // The update removes the buttons while the provider is asked.
    if !bot.respond(interaction, &Response::Update(Message::text("One moment …"))).await {
        return;
    }
    bot.tokens.remember(interaction.user, interaction.token.clone());
    if choice == Choice::Switch {
        bot.acting_managers.record(tenant, interaction.user, Deed::Switch);
    }
    let chosen = match choice {
        Choice::Switch => bot.broker.switch(tenant, lineage).await.map(Stage::Switched),
        Choice::Keep => bot.broker.keep(tenant, lineage).await.map(Stage::Kept),
    };
    let message = match chosen {
        Ok(stage) => {
            let mut message = stage.message(bot, interaction.user, tenant);
            message.content.push_str(hold_prompt::apply(bot, tenant, stage.prompt_fate()));
            message
        }
        Err(ChoiceError::Gone(_)) => Stage::ChoiceGone.message(bot, interaction.user, tenant),
        Err(ChoiceError::Store(error)) => internal_error("choose between two sign-ins", &error),
    };
    bot.edit_reply(interaction, &message).await;
}

/// Notifies the user of a choice that was not made in time, if the dropped grant may still work at
/// the provider.
pub(in crate::discord) async fn notify_expired_choice(bot: &Bot, kept: &Kept) {
    if kept.unchosen.grant == GrantEnd::Revoked {
        return;
    }
    let tenant = &kept.tenant;
    let user = match tenant.principal {
        Principal::User(user) => Ok(user),
        // The store does not record the user who signed the server in. The server's owner can
        // remove the access.
        Principal::Guild(guild) => bot.rest.guild_owner(guild).await,
        Principal::Local => return,
    };
    let message = Message::text(format!("You did not choose in time. {}", kept_text(kept)));
    let sent = match user {
        Ok(user) => bot.rest.direct(user, &message).await,
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::info!(%tenant, %error, "cannot notify the user of a choice that was not made in time");
    }
}
