//! Sign-ins that went on elsewhere, in a terminal or in another conversation: their messages follow.

use std::collections::HashSet;

use tracing::debug;

use super::{
    super::{bot::Shared, wire::Message},
    choice,
    close::{Outcome, close_all},
    words::signed_in,
};
use crate::{
    broker::{News, Progress},
    ids::{Snowflake, Tenant},
};

/// Brings the messages up to date whose sign-ins have gone on, in whichever process.
pub(in crate::discord) async fn look(bot: &Shared) {
    let mut asked = HashSet::new();
    for (key, person, shown) in bot.open.shown() {
        let Progress { news, next } = match bot.broker.sign_in_progress(&shown).await {
            Ok(progress) => progress,
            // Whoever tells of ended sessions says so in the log, and has this looked at again once it can be read.
            Err(error) => return debug!(%error, "how the open sign-ins stand cannot be read"),
        };
        let Some(news) = news else {
            bot.open.stay(key, next);
            continue;
        };
        // One question is enough: the newest message has it, and comes first.
        let elsewhere = matches!(&news, News::Undecided(one) if !asked.insert(one.tenant.clone()));
        let (outcome, next) = match news {
            News::Undecided(undecided) if elsewhere => (Outcome::Told(choice::waits(&undecided)), None),
            news => (outcome(bot, person, shown.tenant(), news), next),
        };
        let custom_ids = outcome.custom_ids();
        match bot.open.turn(key, next, custom_ids.clone()) {
            Some(message) => {
                let inner = bot.clone();
                bot.spawn(async move { close_all(&inner, vec![message], &outcome).await });
            }
            None => bot.buttons.remove(&custom_ids),
        }
    }
}

fn outcome(bot: &Shared, person: Snowflake, tenant: &Tenant, news: News) -> Outcome {
    match news {
        News::SignedIn(done) => Outcome::Told(signed_in(&done)),
        News::Undecided(undecided) => Outcome::Told(choice::question(bot, person, &undecided)),
        News::NotChosen { account, current } => {
            let (account, current) = (account.as_deref(), current.as_deref());
            Outcome::Told(choice::not_chosen(tenant, account, current))
        }
        News::Gone => Outcome::Told(Message::text(choice::GONE)),
        News::Cancelled => Outcome::Cancelled,
        News::Expired => Outcome::Expired,
        News::Replaced => Outcome::Replaced,
        News::LoggedOut => Outcome::LoggedOut,
    }
}
