//! Notifies the user of an ended session once: by direct message, else with the newest interaction
//! token, else in their newest thread without anything secret. If all of these fail, the user's
//! next command tries again.
//!
//! A verdict that this process receives is an event, and leads to a notice at once. Other
//! processes, such as `threadkey token` in a terminal, write theirs into the store: it is searched
//! whenever it may have changed.

use std::{collections::HashSet, time::Duration};

use tracing::{info, warn};

use super::{
    bot::{Bot, BotHandle},
    buttons::Action,
    rest::RestError,
    wire::{Button, Message, inline_code},
};
use crate::{
    ids::{Lineage, Principal, Snowflake, Tenant},
    session::Session,
};

/// The pause before an unreadable store is read again. It may become readable without an event.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Runs until the bot shuts down. One task sends all notices, so that no user gets two of the same.
pub(super) async fn run(bot: BotHandle) {
    // Sessions whose notice was tried and that are still listed: the user could not be reached, or
    // the store could not record the notice. Only `notice_due` tries them again, never time alone.
    let mut tried: HashSet<(Tenant, Lineage)> = HashSet::new();
    let mut unreadable = false;
    let mut changes = bot.broker.changes();
    loop {
        tokio::select! {
            () = bot.shutdown.cancelled() => return,
            () = bot.notice_due.notified() => tried.clear(),
            () = changes.next() => {}
            () = tokio::time::sleep(TRY_AGAIN), if unreadable => {}
        }
        let ended = match bot.broker.ended_unnotified().await {
            Ok(ended) => ended,
            Err(error) => {
                if !std::mem::replace(&mut unreadable, true) {
                    warn!(%error, "cannot read the store for ended sessions; trying again every {} s", TRY_AGAIN.as_secs());
                }
                continue;
            }
        };
        if std::mem::take(&mut unreadable) {
            bot.open_messages.request_sync();
        }
        tried.retain(|one| ended.iter().any(|(tenant, session)| *one == (tenant.clone(), session.lineage)));
        for (tenant, session) in ended {
            if bot.shutdown.is_cancelled() {
                return;
            }
            if tried.insert((tenant.clone(), session.lineage)) {
                notify(&bot, &tenant, &session).await;
            }
        }
    }
}

async fn notify(bot: &Bot, tenant: &Tenant, session: &Session) {
    let way = match tenant.principal {
        Principal::User(user) => notify_user(bot, user, tenant, session).await,
        Principal::Guild(guild) => notify_guild_owner(bot, guild, tenant, session).await,
        // A terminal shows it at the next command.
        Principal::Local => return,
    };
    let Some(way) = way else {
        warn!(%tenant, "cannot notify any user that this session has ended; trying again at the user's next command");
        return;
    };
    info!(%tenant, way, "notified the user of an ended session");
    if let Err(error) = bot.broker.notified(tenant, session).await {
        warn!(%tenant, %error, "cannot record that the user was notified, so a second notice may follow");
    }
}

fn text(tenant: &Tenant, session: &Session) -> String {
    let reason = session.ended.as_ref().map_or("invalid_grant", |ended| ended.code.as_str());
    let account =
        session.account.as_deref().map(|account| format!(" as {}", inline_code(account))).unwrap_or_default();
    format!(
        "Your sign-in at `{}`{account} has ended: the provider no longer refreshes it ({}). Agents that need it wait until you sign in again.",
        tenant.provider,
        inline_code(reason)
    )
}

async fn notify_user(bot: &Bot, user: Snowflake, tenant: &Tenant, session: &Session) -> Option<&'static str> {
    let button = bot.buttons.add(user, Action::SignIn(tenant.clone()));
    let message =
        Message::text(text(tenant, session)).buttons(vec![Button::press("Sign in again", button.clone())]);
    if is_sent(bot.rest.direct(user, &message).await) {
        bot.unreached.set(user, false);
        return Some("direct message");
    }
    if let Some(token) = bot.tokens.newest(user)
        && is_sent(bot.rest.followup(&token, &message).await)
    {
        bot.unreached.set(user, false);
        return Some("followup");
    }
    bot.buttons.remove(&[button]);
    let public = Message::text(format!(
        "<@{user}> your sign-in at `{}` has ended. `/auth start` signs you in again.",
        tenant.provider
    ))
    .notifying(user);
    let thread = bot.conversations.newest_of(user).map(|(thread, _)| thread);
    if let Some(thread) = thread
        && is_sent(bot.rest.send(thread, &public).await.map(|_| ()))
    {
        bot.unreached.set(user, false);
        return Some("thread");
    }
    bot.unreached.set(user, true);
    None
}

/// Notifies the server's owner, who can sign in again. The store does not record the user who
/// signed the server in.
async fn notify_guild_owner(
    bot: &Bot,
    guild: Snowflake,
    tenant: &Tenant,
    session: &Session,
) -> Option<&'static str> {
    let owner = match bot.rest.guild_owner(guild).await {
        Ok(owner) => owner,
        Err(error) => {
            warn!(%tenant, %error, "cannot find the owner of the server");
            return None;
        }
    };
    let message = Message::text(format!(
        "For your server: {} On the server, `/auth start` with `shared` signs it in again.",
        text(tenant, session)
    ));
    let mut sent = is_sent(bot.rest.direct(owner, &message).await);
    if !sent && let Some(token) = bot.tokens.newest(owner) {
        sent = is_sent(bot.rest.followup(&token, &message).await);
    }
    bot.unreached.set(owner, !sent);
    sent.then_some("server owner")
}

fn is_sent(result: Result<(), RestError>) -> bool {
    if let Err(error) = &result {
        info!(%error, "one way to notify a user failed");
    }
    result.is_ok()
}
