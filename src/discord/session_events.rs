//! Reacts to changes of sessions: brings the messages of open sign-ins up to date, and starts the
//! notices of ended sessions.
//!
//! The broker reports this process's own changes as events. The changes of other processes are in
//! the store, which is read whenever it may have changed.

use std::collections::HashSet;

use tokio::sync::broadcast::error::RecvError;
use tracing::{error, warn};

use super::{
    bot::BotHandle,
    hold_prompt, session_notice,
    sign_in::{self, Stage},
};
use crate::{
    broker::Event,
    ids::{Lineage, Tenant},
};

/// Runs until the bot shuts down.
pub(super) async fn run(bot: BotHandle) {
    let mut events = bot.broker.events();
    let mut changes = bot.broker.changes();
    let mut asked = HashSet::new();
    bot.notice_due.notify_one();
    loop {
        tokio::select! {
            // Events come first: they carry more than the store.
            biased;
            () = bot.shutdown.cancelled() => return,
            event = events.recv() => match event {
                Ok(Event::Reported(tenant)) => ask_once(&bot, tenant, &mut asked).await,
                Ok(event) => on_event(&bot, event),
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "missed events of sessions; reading the store instead");
                    bot.notice_due.notify_one();
                    bot.open_messages.request_sync();
                }
                Err(RecvError::Closed) => return,
            },
            expired = bot.open_messages.expired() => {
                sign_in::show_expired(&bot, expired).await;
            }
            () = changes.next() => sign_in::sync_messages(&bot).await,
            () = bot.open_messages.sync_requested() => sign_in::sync_messages(&bot).await,
        }
    }
}

/// Asks the user about a report, once for each grant, in a task of its own.
async fn ask_once(bot: &BotHandle, tenant: Tenant, asked: &mut HashSet<(Tenant, Lineage)>) {
    let session = match bot.broker.session(&tenant).await {
        Ok(session) => session,
        Err(error) => return warn!(%tenant, %error, "cannot read the session of a report"),
    };
    let Some(session) = session.filter(|session| session.refresh_token.is_none()) else { return };
    if asked.insert((tenant.clone(), session.lineage)) {
        let task = bot.clone();
        bot.spawn(async move { session_notice::ask_about_report(&task, &tenant, &session).await });
    }
}

fn on_event(bot: &BotHandle, event: Event) {
    match event {
        Event::SignedIn(signed_in) => {
            let links = bot.open_messages.take_links(&signed_in.tenant);
            let (tenant, stage) = (signed_in.tenant.clone(), Stage::SignedIn(signed_in));
            sign_in::show_stage(bot, links, &stage);
            // A prompt waits even if no message of the sign-in is open.
            hold_prompt::apply(bot, &tenant, stage.prompt_fate());
        }
        Event::Undecided(undecided) => {
            let links = bot.open_messages.take_links(&undecided.tenant);
            sign_in::show_stage(bot, links, &Stage::AskedElsewhere(undecided));
        }
        Event::SignInConcluded(_) | Event::LoggedOut(_) => bot.open_messages.request_sync(),
        Event::Lapsed(kept) => {
            let task = bot.clone();
            bot.spawn(async move { sign_in::notify_expired_choice(&task, &kept).await });
        }
        Event::Ended { .. } | Event::Stuck { .. } => bot.notice_due.notify_one(),
        Event::Reported(_) | Event::Denied(_) | Event::Switched(_) | Event::Recovered { .. } => {}
        Event::SaveFailed(tenant) => {
            error!(%tenant, "cannot save a new token; it is kept in memory, and saving is retried. Check the store's disk");
        }
    }
}
