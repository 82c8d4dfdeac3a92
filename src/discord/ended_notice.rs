//! Tells the person of an ended session, once: by direct message, else by their newest interaction, else in their youngest
//! thread without anything secret. Where nothing works they are told at their next command.
//!
//! A verdict that this process hears is told at once. So is one that another process wrote into the store, `threadkey token` in a
//! terminal for example: whenever the store may have changed, it is looked through.

use std::{collections::HashSet, time::Duration};

use tracing::{info, warn};

use super::{
    bot::{Bot, Shared},
    buttons::Action,
    rest::RestError,
    wire::{Button, Message, code},
};
use crate::{
    ids::{Lineage, Principal, Snowflake, Tenant},
    session::Session,
};

/// How soon a store that could not be read is tried again. What was wrong with it may get well without an event.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Runs until the bot shuts down. One at a time, so that nobody is told twice.
pub(super) async fn notify(bot: Shared) {
    // Who was tried and is still on the list. Only a reason brings them up again, not the time: no way to reach them may be
    // open, or the store cannot be written and they were told already.
    let mut tried: HashSet<(Tenant, Lineage)> = HashSet::new();
    let mut unreadable = false;
    let mut changes = bot.broker.changes();
    loop {
        tokio::select! {
            () = bot.shutdown.cancelled() => return,
            () = bot.notify.notified() => tried.clear(),
            () = changes.next() => {}
            () = tokio::time::sleep(TRY_AGAIN), if unreadable => {}
        }
        let ended = match bot.broker.ended_unnotified().await {
            Ok(ended) => ended,
            Err(error) => {
                if !std::mem::replace(&mut unreadable, true) {
                    warn!(%error, "which sessions have ended cannot be read; it is tried again every {} s", TRY_AGAIN.as_secs());
                }
                continue;
            }
        };
        if std::mem::take(&mut unreadable) {
            bot.open.look();
        }
        tried.retain(|one| ended.iter().any(|(tenant, session)| *one == (tenant.clone(), session.lineage)));
        for (tenant, session) in ended {
            if bot.shutdown.is_cancelled() {
                return;
            }
            if tried.insert((tenant.clone(), session.lineage)) {
                tell(&bot, &tenant, &session).await;
            }
        }
    }
}

async fn tell(bot: &Bot, tenant: &Tenant, session: &Session) {
    let told = match tenant.principal {
        Principal::User(user) => tell_user(bot, user, tenant, session).await,
        Principal::Guild(guild) => tell_guild(bot, guild, tenant, session).await,
        // Whoever works in a terminal sees it there.
        Principal::Local => return,
    };
    let Some(how) = told else {
        warn!(%tenant, "nobody could be told that this session has ended; the next command will");
        return;
    };
    info!(%tenant, how, "the person of an ended session was told");
    if let Err(error) = bot.broker.notified(tenant, session).await {
        warn!(%tenant, %error, "that they were told could not be noted, so they may be told again");
    }
}

fn text(tenant: &Tenant, session: &Session) -> String {
    let word = session.ended.as_ref().map_or("invalid_grant", |ended| ended.code.as_str());
    let whose =
        session.account.as_deref().map(|account| format!(" as {}", code(account))).unwrap_or_default();
    format!(
        "Your sign-in at `{}`{whose} has ended: the provider no longer renews it ({}). Agents that need it wait until you sign in again.",
        tenant.provider,
        code(word)
    )
}

async fn tell_user(bot: &Bot, user: Snowflake, tenant: &Tenant, session: &Session) -> Option<&'static str> {
    let button = bot.buttons.add(user, Action::SignIn(tenant.clone()));
    let message =
        Message::text(text(tenant, session)).buttons(vec![Button::press("Sign in again", button.clone())]);
    if reached(bot.rest.direct(user, &message).await) {
        bot.waiting.set(user, false);
        return Some("direct message");
    }
    if let Some(token) = bot.people.token(user)
        && reached(bot.rest.followup(&token, &message).await)
    {
        bot.waiting.set(user, false);
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
        && reached(bot.rest.send(thread, &public).await.map(|_| ()))
    {
        bot.waiting.set(user, false);
        return Some("thread");
    }
    bot.waiting.set(user, true);
    None
}

/// Who signed a server in is not on record; its owner can do it again.
async fn tell_guild(bot: &Bot, guild: Snowflake, tenant: &Tenant, session: &Session) -> Option<&'static str> {
    let owner = match bot.rest.guild_owner(guild).await {
        Ok(owner) => owner,
        Err(error) => {
            warn!(%tenant, %error, "the server's owner cannot be found");
            return None;
        }
    };
    let message = Message::text(format!(
        "For your server: {} On the server, `/auth start` with `shared` signs it in again.",
        text(tenant, session)
    ));
    let mut told = reached(bot.rest.direct(owner, &message).await);
    if !told && let Some(token) = bot.people.token(owner) {
        told = reached(bot.rest.followup(&token, &message).await);
    }
    bot.waiting.set(owner, !told);
    told.then_some("server owner")
}

fn reached(result: Result<(), RestError>) -> bool {
    if let Err(error) = &result {
        info!(%error, "one way to tell a person did not work");
    }
    result.is_ok()
}
