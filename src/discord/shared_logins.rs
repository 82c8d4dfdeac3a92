//! Reports of changes of the logins that servers share: to the log channel if one is configured, or
//! else to the server's owner.
//!
//! The store is compared with its earlier state whenever it may have changed. So a change is
//! reported whichever process makes it. The record names the user who signed in. The user of another
//! change is the last one who acted for this login here; without one it came from another program.
//!
//! The state that was reported last is kept in the bot's file, so a change during a stop is reported at
//! the next start. It is written after the report: a bot that dies in between reports twice. A change
//! that Discord could not take for a while keeps its earlier state, and is reported later.
//! A login that the provider ends is reported by `session_notice`.

use std::{collections::BTreeMap, time::Duration};

use tracing::{info, warn};

use super::{
    acting_managers::Deed,
    bot::{Bot, BotHandle},
    conversations::{ReportedLogin, ReportedLogins},
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
    /// A login that the provider had ended is gone: by a logout, or swept long after its end.
    Removed,
}

type Logins = BTreeMap<Tenant, SharedLogin>;

/// The pause before a report that Discord did not take is sent again. A change of the store ends it.
const PAUSE: Duration = Duration::from_secs(60);

/// Reports all changes until the bot shuts down.
pub(super) async fn run(bot: BotHandle) {
    let mut changes = bot.broker.changes();
    let mut known = bot.conversations.reported_logins();
    // The reports that Discord did not take, with the manager who acted then.
    let mut undelivered: BTreeMap<Tenant, (Change, String)> = BTreeMap::new();
    loop {
        // An unreadable store changes nothing. `session_notice` logs it.
        if let Ok(logins) = bot.broker.shared_logins().await {
            let state = |(tenant, login): (&Tenant, &SharedLogin)| (tenant.clone(), state_of(login));
            let mut now: ReportedLogins = logins.iter().map(state).collect();
            let mut earlier = std::mem::take(&mut undelivered);
            for (before, (tenant, change)) in known
                .iter()
                .flat_map(|before| differences(before, &logins).into_iter().map(move |d| (before, d)))
            {
                let written = earlier.remove(&tenant).filter(|(of, _)| *of == change).map(|(_, text)| text);
                let Some(text) = written.or_else(|| describe(&bot, &tenant, &change)) else { continue };
                if !report(&bot, &tenant, &text).await {
                    // The earlier state stays, so the next look finds the change again.
                    match before.get(&tenant) {
                        Some(login) => now.insert(tenant.clone(), *login),
                        None => now.remove(&tenant),
                    };
                    undelivered.insert(tenant, (change, text));
                }
            }
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
            () = tokio::time::sleep(PAUSE), if !undelivered.is_empty() => {}
        }
    }
}

fn state_of(login: &SharedLogin) -> ReportedLogin {
    ReportedLogin { lineage: login.lineage, candidate: login.candidate, has_ended: login.has_ended }
}

/// The changes from the reported state to the present one.
fn differences(before: &ReportedLogins, now: &Logins) -> Vec<(Tenant, Change)> {
    let gone = before.iter().filter(|(tenant, _)| !now.contains_key(tenant));
    let gone = gone.map(|(tenant, login)| {
        (tenant.clone(), if login.has_ended { Change::Removed } else { Change::LoggedOut })
    });
    let new = now.iter().filter_map(|(tenant, login)| {
        let change = match before.get(tenant) {
            Some(before) if before.lineage == login.lineage => return None,
            Some(before) if before.candidate == Some(login.lineage) => Change::Switched,
            Some(_) | None => Change::SignedIn(login.signed_in_by),
        };
        Some((tenant.clone(), change))
    });
    gone.chain(new).collect()
}

/// Returns the text about a change, if it is to be reported.
fn describe(bot: &Bot, tenant: &Tenant, change: &Change) -> Option<String> {
    let acting = bot.acting_managers.take(tenant);
    let change = match acting {
        // The choice followed the sign-in so soon that both are one difference.
        Some((_, Deed::Switch)) if !matches!(change, Change::LoggedOut | Change::Removed) => {
            &Change::Switched
        }
        _ => change,
    };
    info!(%tenant, ?change, "a shared login has changed");
    text(tenant, change, acting.map(|(user, _)| user))
}

/// Reports a change. Returns whether the report has arrived, or can never arrive.
async fn report(bot: &Bot, tenant: &Tenant, text: &str) -> bool {
    let Principal::Guild(guild) = tenant.principal else { return true };
    if log(bot, guild, text).await {
        return true;
    }
    let owner = match bot.rest.guild_owner(guild).await {
        Ok(owner) => owner,
        Err(error) => {
            warn!(%tenant, %error, "cannot report a change of a shared login: the server's owner is unknown");
            return !error.is_temporary();
        }
    };
    let message = message(bot, guild, text).await;
    let sent = bot.rest.direct(owner, &message).await;
    if let Err(error) = &sent {
        warn!(%tenant, %error, "cannot report a change of a shared login to the server's owner. Set discord.log_channel");
    }
    !sent.is_err_and(|error| error.is_temporary())
}

/// The report of a change; `None` if no user changed anything.
fn text(tenant: &Tenant, change: &Change, acting: Option<Snowflake>) -> Option<String> {
    let provider = &tenant.provider;
    let by = match (change, acting) {
        (Change::SignedIn(Some(Principal::User(user))), _) => Some(*user),
        (Change::SignedIn(_), _) => None,
        (Change::Removed, None) => return None,
        (Change::Switched | Change::LoggedOut | Change::Removed, user) => user,
    };
    let by =
        by.map_or_else(|| "Another program on my operator's machine".to_owned(), |user| format!("<@{user}>"));
    Some(match change {
        Change::SignedIn(_) => format!("{by} has signed this server in to `{provider}`."),
        Change::Switched => format!("{by} has switched this server to another account at `{provider}`."),
        Change::LoggedOut | Change::Removed => {
            format!("{by} has logged this server out of `{provider}`.")
        }
    })
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
        SharedLogin { lineage: Lineage([lineage; 16]), signed_in_by, candidate, has_ended: false }
    }

    fn logins(one: Option<SharedLogin>) -> Logins {
        one.map(|login| ("acme/guild:9".parse().expect("a tenant"), login)).into_iter().collect()
    }

    #[test]
    fn each_change_of_a_shared_login_is_a_difference_and_a_refresh_is_none() {
        let of = |before: Option<SharedLogin>, now: Option<SharedLogin>| {
            let before = logins(before);
            let before = before.iter().map(|(tenant, login)| (tenant.clone(), state_of(login))).collect();
            let all = differences(&before, &logins(now));
            all.into_iter().map(|(_, change)| change).collect::<Vec<_>>()
        };
        let by = Some(Principal::User(Snowflake(5)));
        assert_eq!(of(None, Some(login(1, None))), [Change::SignedIn(by)]);
        assert_eq!(of(Some(login(1, None)), Some(login(2, None))), [Change::SignedIn(by)]);
        assert_eq!(of(Some(login(1, Some(2))), Some(login(2, None))), [Change::Switched]);
        assert_eq!(of(Some(login(1, None)), None), [Change::LoggedOut]);
        assert_eq!(of(Some(login(1, None)), Some(login(1, Some(2)))), []);
        let ended = SharedLogin { has_ended: true, ..login(1, None) };
        assert_eq!(of(Some(login(1, None)), Some(ended)), []);
        assert_eq!(of(Some(ended), None), [Change::Removed]);
    }

    #[test]
    fn a_report_names_the_user_and_the_provider() {
        let tenant: Tenant = "acme/guild:9".parse().expect("a tenant");
        let signed_in = Change::SignedIn(Some(Principal::User(Snowflake(5))));
        let text = |change: &Change, acting| text(&tenant, change, acting).expect("it is reported");
        assert_eq!(text(&signed_in, None), "<@5> has signed this server in to `acme`.");
        assert_eq!(
            text(&Change::LoggedOut, Some(Snowflake(6))),
            "<@6> has logged this server out of `acme`."
        );
        assert_eq!(
            text(&Change::Switched, None),
            "Another program on my operator's machine has switched this server to another account at `acme`."
        );
    }

    #[test]
    fn the_end_of_an_ended_login_is_reported_only_if_a_manager_removed_it() {
        let tenant: Tenant = "acme/guild:9".parse().expect("a tenant");
        assert_eq!(text(&tenant, &Change::Removed, None), None, "it may be swept");
        let by_a_manager = text(&tenant, &Change::Removed, Some(Snowflake(6)));
        assert_eq!(by_a_manager.as_deref(), Some("<@6> has logged this server out of `acme`."));
    }
}
