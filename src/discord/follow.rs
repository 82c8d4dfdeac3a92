//! Follows what happens to sessions, and tells: sign-in messages that are out are brought up to date, and persons of
//! ended sessions are told.
//!
//! What this process does it hears as an event. What others do is in the store, and is looked for whenever that may have changed.

use tokio::sync::broadcast::error::RecvError;
use tracing::{error, warn};

use super::{
    auth::{self, Outcome},
    bot::Shared,
};
use crate::{broker::Event, ids::Tenant};

/// Runs until the bot shuts down.
pub(super) async fn follow(bot: Shared) {
    let mut events = bot.broker.events();
    let mut changes = bot.broker.changes();
    bot.notify.notify_one();
    loop {
        tokio::select! {
            // Events first: they know more than the store that is looked at.
            biased;
            () = bot.shutdown.cancelled() => return,
            event = events.recv() => match event {
                Ok(event) => on_event(&bot, event),
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "events of sessions came too fast; how they stand is read instead");
                    bot.notify.notify_one();
                    bot.open.look();
                }
                Err(RecvError::Closed) => return,
            },
            ended = bot.open.ended() => {
                let inner = bot.clone();
                bot.spawn(async move { auth::close_all(&inner, ended, &Outcome::Expired).await });
            }
            () = changes.next() => auth::look(&bot).await,
            () = bot.open.to_look() => auth::look(&bot).await,
        }
    }
}

fn on_event(bot: &Shared, event: Event) {
    match event {
        Event::SignedIn(done) => close(bot, &done.tenant, Outcome::Told(auth::signed_in(&done))),
        Event::Undecided(undecided) => close(bot, &undecided.tenant, Outcome::Told(auth::waits(&undecided))),
        Event::SignInConcluded(_) => bot.open.look(),
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

/// The links of a tenant say what came of them.
fn close(bot: &Shared, tenant: &Tenant, outcome: Outcome) {
    // At once, so that nobody else has something to say of them.
    let links = bot.open.links_of(tenant);
    let inner = bot.clone();
    bot.spawn(async move { auth::close_all(&inner, links, &outcome).await });
}
