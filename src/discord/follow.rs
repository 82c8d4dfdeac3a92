//! Follows what happens to sessions, and tells: sign-in messages that are out are brought up to date, and persons of
//! ended sessions are told.

use tokio::sync::broadcast::error::RecvError;
use tracing::{error, warn};

use super::{
    auth::{self, Outcome},
    bot::Shared,
};
use crate::broker::Event;

/// Runs until the bot shuts down.
pub(super) async fn follow(bot: Shared) {
    let mut events = bot.broker.events();
    bot.notify.notify_one();
    loop {
        tokio::select! {
            () = bot.shutdown.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => on_event(&bot, event),
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "events of sessions came too fast: some sign-in messages may not be brought up to date");
                    bot.notify.notify_one();
                }
                Err(RecvError::Closed) => return,
            },
            ended = bot.open.ended() => {
                let inner = bot.clone();
                bot.spawn(async move { auth::close_all(&inner, ended, &Outcome::Expired).await });
            }
        }
    }
}

fn on_event(bot: &Shared, event: Event) {
    match event {
        Event::SignedIn(done) => {
            let inner = bot.clone();
            bot.spawn(async move {
                let outcome = Outcome::SignedIn(auth::signed_in(&done));
                auth::close(&inner, &done.tenant, &outcome).await;
            });
        }
        Event::Undecided(undecided) => {
            let inner = bot.clone();
            bot.spawn(async move {
                let outcome = Outcome::Undecided(auth::waits(&undecided));
                auth::close(&inner, &undecided.tenant, &outcome).await;
            });
        }
        Event::Lapsed(kept) => {
            let inner = bot.clone();
            bot.spawn(async move { auth::lapsed(&inner, &kept).await });
        }
        Event::Ended { .. } => bot.notify.notify_one(),
        Event::LoggedOut(_) => {}
        Event::SaveFailed(tenant) => {
            error!(%tenant, "a new token could not be saved; it is held and tried again");
        }
    }
}
