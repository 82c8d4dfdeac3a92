//! Reports of changes of the logins that servers share: to the log channel if one is configured, or
//! else to the server's owner.
//!
//! The store is compared with its earlier state whenever it may have changed. So a change is
//! reported whichever process makes it. The record names the user who signed in. The user of another
//! change is the last one who acted for this login here; without one it came from another program.
//!
//! The state that was reported last is kept in the bot's file, so a change during a stop is reported at
//! the next start. It is written after the report: a bot that dies in between reports twice.
//! A login that the provider ends is reported by `session_notice`.

use std::collections::BTreeMap;

use tracing::{info, warn};

use super::{
    acting_managers::Deed,
    bot::{Bot, BotHandle},
    conversations::ReportedLogins,
    wire::{Embed, Message, escape_markdown, shorten},
};
use crate::{
    broker::SharedLogin,
    ids::{Principal, Snowflake, Tenant},
};

/// A change of a shared login.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// A new sign-in is in use, made by this principal.
    SignedIn(Option<Principal>),
    /// The sign-in as another account was chosen.
    Switched,
    LoggedOut,
}

type Logins = BTreeMap<Tenant, SharedLogin>;

/// Reports all changes until the bot shuts down.
pub(super) async fn run(bot: BotHandle) {
    let mut changes = bot.broker.changes();
    let mut known = bot.conversations.reported_logins();
    loop {
        // An unreadable store changes nothing. `session_notice` logs it.
        if let Ok(now) = bot.broker.shared_logins().await {
            for (tenant, change) in known.iter().flat_map(|before| differences(before, &now)) {
                report(&bot, &tenant, &change).await;
            }
            let now = now.into_iter().map(|(tenant, login)| (tenant, (login.lineage, login.candidate)));
            let now: ReportedLogins = now.collect();
            if known.as_ref() != Some(&now) {
                if let Err(error) = bot.conversations.record_reported_logins(now.clone()).await {
                    warn!(%error, "the reported shared logins cannot be recorded; the next start may report a change again");
                }
                known = Some(now);
            }
        }
        tokio::select! {
            () = bot.shutdown.cancelled() => return,
            () = changes.next() => {}
        }
    }
}

/// The changes from the reported state to the present one.
fn differences(before: &ReportedLogins, now: &Logins) -> Vec<(Tenant, Change)> {
    let gone = before.keys().filter(|tenant| !now.contains_key(tenant));
    let gone = gone.map(|tenant| (tenant.clone(), Change::LoggedOut));
    let new = now.iter().filter_map(|(tenant, login)| {
        let change = match before.get(tenant) {
            Some((lineage, _)) if *lineage == login.lineage => return None,
            Some((_, candidate)) if *candidate == Some(login.lineage) => Change::Switched,
            Some(_) | None => Change::SignedIn(login.signed_in_by),
        };
        Some((tenant.clone(), change))
    });
    gone.chain(new).collect()
}

async fn report(bot: &Bot, tenant: &Tenant, change: &Change) {
    let Principal::Guild(guild) = tenant.principal else { return };
    let acting = bot.acting_managers.take(tenant);
    let change = match acting {
        // The choice followed the sign-in so soon that both are one difference.
        Some((_, Deed::Switch)) if *change != Change::LoggedOut => &Change::Switched,
        _ => change,
    };
    let text = text(tenant, change, acting.map(|(user, _)| user));
    info!(%tenant, ?change, "a shared login has changed");
    if log(bot, guild, &text).await {
        return;
    }
    let owner = match bot.rest.guild_owner(guild).await {
        Ok(owner) => owner,
        Err(error) => {
            return warn!(%tenant, %error, "cannot report a change of a shared login: the server's owner is unknown");
        }
    };
    let message = message(bot, guild, &text).await;
    if let Err(error) = bot.rest.direct(owner, &message).await {
        warn!(%tenant, %error, "cannot report a change of a shared login to the server's owner. Set discord.log_channel");
    }
}

fn text(tenant: &Tenant, change: &Change, acting: Option<Snowflake>) -> String {
    let provider = &tenant.provider;
    let by = match (change, acting) {
        (Change::SignedIn(Some(Principal::User(user))), _) => Some(*user),
        (Change::SignedIn(_), _) => None,
        (Change::Switched | Change::LoggedOut, user) => user,
    };
    let by =
        by.map_or_else(|| "Another program on my operator's machine".to_owned(), |user| format!("<@{user}>"));
    match change {
        Change::SignedIn(_) => format!("{by} has signed this server in to `{provider}`."),
        Change::Switched => format!("{by} has switched this server to another account at `{provider}`."),
        Change::LoggedOut => format!("{by} has logged this server out of `{provider}`."),
    }
}

/// Writes a text about a server's login to the log channel. Returns whether it is there.
pub(super) async fn log(bot: &Bot, guild: Snowflake, text: &str) -> bool {
    let Some(channel) = bot.log_channel else { return false };
    let message = message(bot, guild, text).await;
    let sent = bot.rest.send(channel, &message).await;
    if let Err(error) = &sent {
        warn!(%channel, %error, "cannot write to discord.log_channel; the server's owner gets the report. Check the id and my permissions there");
    }
    sent.is_ok()
}

async fn message(bot: &Bot, guild: Snowflake, text: &str) -> Message {
    let name = bot.rights.guild(guild).await.map_or_else(|| guild.to_string(), |guild| guild.name);
    let title = shorten(&format!("Shared login of {}", escape_markdown(&name)), 200);
    Message::embed(Embed { title, description: text.to_owned(), fields: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Lineage;

    fn login(lineage: u8, candidate: Option<u8>) -> SharedLogin {
        let signed_in_by = Some(Principal::User(Snowflake(5)));
        let candidate = candidate.map(|lineage| Lineage([lineage; 16]));
        SharedLogin { lineage: Lineage([lineage; 16]), signed_in_by, candidate }
    }

    fn logins(one: Option<SharedLogin>) -> Logins {
        one.map(|login| ("acme/guild:9".parse().expect("a tenant"), login)).into_iter().collect()
    }

    #[test]
    fn each_change_of_a_shared_login_is_a_difference_and_a_refresh_is_none() {
        let of = |before: Option<SharedLogin>, now: Option<SharedLogin>| {
            let before = logins(before).into_iter();
            let before = before.map(|(tenant, login)| (tenant, (login.lineage, login.candidate))).collect();
            let all = differences(&before, &logins(now));
            all.into_iter().map(|(_, change)| change).collect::<Vec<_>>()
        };
        let by = Some(Principal::User(Snowflake(5)));
        assert_eq!(of(None, Some(login(1, None))), [Change::SignedIn(by)]);
        assert_eq!(of(Some(login(1, None)), Some(login(2, None))), [Change::SignedIn(by)]);
        assert_eq!(of(Some(login(1, Some(2))), Some(login(2, None))), [Change::Switched]);
        assert_eq!(of(Some(login(1, None)), None), [Change::LoggedOut]);
        assert_eq!(of(Some(login(1, None)), Some(login(1, Some(2)))), []);
    }

    #[test]
    fn a_report_names_the_user_and_the_provider() {
        let tenant: Tenant = "acme/guild:9".parse().expect("a tenant");
        let signed_in = Change::SignedIn(Some(Principal::User(Snowflake(5))));
        assert_eq!(text(&tenant, &signed_in, None), "<@5> has signed this server in to `acme`.");
        assert_eq!(
            text(&tenant, &Change::LoggedOut, Some(Snowflake(6))),
            "<@6> has logged this server out of `acme`."
        );
        assert_eq!(
            text(&tenant, &Change::Switched, None),
            "Another program on my operator's machine has switched this server to another account at `acme`."
        );
    }
}
