//! Reacts to changes of sessions: brings the messages of open sign-ins up to date, and starts the
//! notices of ended sessions.
//!
//! The broker reports this process's own changes as events. The changes of other processes are in
//! the store, which is read whenever it may have changed.

use tokio::sync::broadcast::error::RecvError;
use tracing::{error, warn};

use super::{
    bot::BotHandle,
    sign_in::{self, Stage},
};
use crate::broker::Event;

/// Runs until the bot shuts down.
pub(super) async fn run(bot: BotHandle) {
    let mut events = bot.broker.events();
    let mut changes = bot.broker.changes();
    bot.notice_due.notify_one();
    loop {
        tokio::select! {
            // Events come first: they carry more than the store.
            biased;
            () = bot.shutdown.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => on_event(&bot, event),
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "missed events of sessions; reading the store instead");
                    bot.notice_due.notify_one();
                    bot.open_messages.request_sync();
                }
                Err(RecvError::Closed) => return,
            },
            expired = bot.open_messages.expired() => {
                sign_in::show_stage(&bot, expired, &Stage::Expired);
            }
            () = changes.next() => sign_in::sync_messages(&bot).await,
            () = bot.open_messages.sync_requested() => sign_in::sync_messages(&bot).await,
        }
    }
}

fn on_event(bot: &BotHandle, event: Event) {
    match event {
        Event::SignedIn(signed_in) => {
            let links = bot.open_messages.take_links(&signed_in.tenant);
            sign_in::show_stage(bot, links, &Stage::SignedIn(signed_in));
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
        Event::Ended { .. } => bot.notice_due.notify_one(),
        Event::SaveFailed(tenant) => {
            error!(%tenant, "cannot save a new token; it is kept in memory, and saving is retried. Check the store's disk");
        }
    }
}
