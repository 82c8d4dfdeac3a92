//! Notifies the user of an ended or stuck session once: by direct message, else with the newest
//! interaction token, else in their newest thread without anything secret. If each way fails, the
//! user's next command tries again.
//!
//! A verdict that this process receives is an event, and leads to a notice at once. Other
//! processes, such as `threadkey token` in a terminal, write theirs into the store: it is searched
//! whenever it may have changed.
//!
//! A report that an agent's resource rejects the access token is not in the store: the report may be
//! wrong. If only a sign-in helps, its user is asked, once for each grant while this process lives.

use std::{collections::HashSet, time::Duration};

use tracing::{info, warn};

use super::{
    bot::{Bot, BotHandle},
    buttons::Action,
    rest::RestError,
    shared_logins,
    wire::{Button, Message, date, inline_code, relative_time},
};
use crate::{
    broker::Trouble,
    ids::{Lineage, Principal, Snowflake, Tenant},
    session::{Ended, Session},
};

/// The pause before an unreadable store is read again. It may become readable without an event.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// The longest pause until a login's end is looked at again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Runs until the bot shuts down. One task sends all notices, so that no user gets two of the same.
pub(super) async fn run(bot: BotHandle) {
    // Sessions, each with whether it is about a coming end, whose notice was tried and that are still listed: the user could not be reached, or
    // the store could not record the notice. Only `notice_due` tries them again, never time alone.
    let mut tried: HashSet<(Tenant, Lineage, bool)> = HashSet::new();
    let mut unreadable = false;
    let mut next_in = None;
    let mut changes = bot.broker.changes();
    loop {
        tokio::select! {
            () = bot.shutdown.cancelled() => return,
            () = bot.notice_due.notified() => tried.clear(),
            () = changes.next() => {}
            () = tokio::time::sleep(TRY_AGAIN), if unreadable => {}
            () = until_due(next_in) => {}
        }
        let unnotified = match bot.broker.unnotified().await {
            Ok(unnotified) => unnotified,
            Err(error) => {
                if !std::mem::replace(&mut unreadable, true) {
                    warn!(%error, "cannot read the store for sessions in trouble; trying again every {} s", TRY_AGAIN.as_secs());
                }
                continue;
            }
        };
        next_in = unnotified.next_in;
        let troubled = unnotified.troubled;
        if std::mem::take(&mut unreadable) {
            bot.open_messages.request_sync();
        }
        let key = |tenant: &Tenant, session: &Session, trouble: &Trouble| {
            (tenant.clone(), session.lineage, matches!(trouble, Trouble::Ending(_)))
        };
        let is_listed = |one: &(Tenant, Lineage, bool)| {
            troubled.iter().any(|(tenant, session, trouble)| *one == key(tenant, session, trouble))
        };
        tried.retain(is_listed);
        for (tenant, session, trouble) in troubled {
            if bot.shutdown.is_cancelled() {
                return;
            }
            if tried.insert(key(&tenant, &session, &trouble)) {
                notify(&bot, &tenant, &session, trouble).await;
            }
        }
    }
}

/// Waits until the next end of a login comes near; for ever without one. Not every system reports a
/// clock that is set, so it returns once an hour as well.
async fn until_due(due_in: Option<Duration>) {
    match due_in {
        Some(due_in) => tokio::time::sleep(due_in.min(LONGEST_PAUSE)).await,
        None => std::future::pending().await,
    }
}

async fn notify(bot: &Bot, tenant: &Tenant, session: &Session, trouble: Trouble) {
    let Some(way) = send(bot, tenant, session, &Notice::Trouble(trouble.clone())).await else {
        if tenant.principal != Principal::Local {
            warn!(%tenant, "cannot notify any user of this session's trouble; trying again at the user's next command");
        }
        return;
    };
    match trouble {
        Trouble::Ended(_) => info!(%tenant, way, "notified the user of an ended session"),
        Trouble::Stuck { .. } => info!(%tenant, way, "notified the user of a stuck session"),
        Trouble::Ending(_) => info!(%tenant, way, "notified the user of a session that ends soon"),
    }
    if let Err(error) = bot.broker.notified(tenant, session, &trouble).await {
        warn!(%tenant, %error, "cannot record that the user was notified, so a second notice may follow");
    }
}

/// Asks the user about a report that only a new sign-in can answer.
pub(super) async fn ask_about_report(bot: &Bot, tenant: &Tenant, session: &Session) {
    if let Some(way) = send(bot, tenant, session, &Notice::Reported).await {
        info!(%tenant, way, "asked the user about a rejected access token");
    }
}

/// The reason for a notice.
enum Notice {
    Trouble(Trouble),
    Reported,
}

impl Notice {
    fn text(&self, tenant: &Tenant, session: &Session) -> String {
        let provider = &tenant.provider;
        let account = session.account.as_deref().map(|account| format!(" as {}", inline_code(account)));
        let account = account.unwrap_or_default();
        match self {
            Self::Trouble(Trouble::Ended(code)) if code == Ended::EXHAUSTED => format!(
                "Your sign-in at `{provider}`{account} has ended: its access token has expired, and the provider gave no refresh token. Agents that need it wait until you sign in again."
            ),
            Self::Trouble(Trouble::Ended(code)) if code == Ended::REJECTED => format!(
                "Your sign-in at `{provider}`{account} has ended: the provider no longer accepts its access token, and gave no refresh token. Agents that need it wait until you sign in again."
            ),
            Self::Trouble(Trouble::Ended(code)) if code == Ended::OTHER_ACCOUNT => format!(
                "Your sign-in at `{provider}`{account} has ended: the provider answered its refresh with the tokens of another account, and I use none of them. Agents that need it wait until you sign in again."
            ),
            Self::Trouble(Trouble::Ended(code)) => format!(
                "Your sign-in at `{provider}`{account} has ended: the provider no longer refreshes it ({}). Agents that need it wait until you sign in again.",
                inline_code(code)
            ),
            Self::Trouble(Trouble::Stuck { code, since }) => format!(
                "Your sign-in at `{provider}`{account} is stuck: the provider has refused to refresh it since {} ({}), and refreshes other sign-ins. Most likely it has ended. I keep it and try once an hour.",
                relative_time(*since),
                inline_code(code)
            ),
            Self::Trouble(Trouble::Ending(end)) => format!(
                "Your sign-in at `{provider}`{account} ends on {} ({}), however much it is used: the provider ends each sign-in after some time. Sign in again before, and your agents go on without a break.",
                date(*end),
                relative_time(*end)
            ),
            Self::Reported => format!(
                "An agent reports that `{provider}` no longer accepts your access token{account}. I cannot check this, and there is no refresh token to get another one. If your agents have stopped working, sign in again."
            ),
        }
    }

    /// The notice in one public line, without the account and the error.
    fn public_text(&self, tenant: &Tenant) -> String {
        let state = match self {
            Self::Trouble(Trouble::Ended(_)) => "has ended",
            Self::Trouble(Trouble::Stuck { .. }) => "is stuck",
            Self::Trouble(Trouble::Ending(_)) => "ends soon",
            Self::Reported => "may have ended",
        };
        format!("your sign-in at `{}` {state}. `/auth start` signs you in again.", tenant.provider)
    }

    fn actions(&self, tenant: &Tenant) -> Vec<(&'static str, Action)> {
        let sign_in = ("Sign in again", Action::SignIn(tenant.clone()));
        match self {
            Self::Trouble(Trouble::Stuck { .. }) => {
                vec![("Try again", Action::TryAgain(tenant.clone())), sign_in]
            }
            Self::Trouble(Trouble::Ended(_) | Trouble::Ending(_)) | Self::Reported => vec![sign_in],
        }
    }
}

/// Sends a notice, and returns the way on which it reached a user.
async fn send(bot: &Bot, tenant: &Tenant, session: &Session, notice: &Notice) -> Option<&'static str> {
    match tenant.principal {
        Principal::User(user) => notify_user(bot, user, tenant, session, notice).await,
        Principal::Guild(guild) => notify_guild_owner(bot, guild, tenant, session, notice).await,
        // A terminal shows it at the next command.
        Principal::Local => None,
    }
}

async fn notify_user(
    bot: &Bot,
    user: Snowflake,
    tenant: &Tenant,
    session: &Session,
    notice: &Notice,
) -> Option<&'static str> {
    let mut buttons = Vec::new();
    let mut custom_ids = Vec::new();
    for (label, action) in notice.actions(tenant) {
        let custom_id = bot.buttons.add(user, action);
        buttons.push(Button::press(label, custom_id.clone()));
        custom_ids.push(custom_id);
    }
    let message = Message::text(notice.text(tenant, session)).buttons(buttons);
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
    bot.buttons.remove(&custom_ids);
    let public = Message::text(format!("<@{user}> {}", notice.public_text(tenant))).notifying(user);
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

/// Notifies the log channel, or else the server's owner, so that an owner can sign in again.
async fn notify_guild_owner(
    bot: &Bot,
    guild: Snowflake,
    tenant: &Tenant,
    session: &Session,
    notice: &Notice,
) -> Option<&'static str> {
    let text = notice.text(tenant, session);
    if shared_logins::log(bot, guild, &format!("{text} `/auth start` with `shared` signs it in again.")).await
    {
        return Some("log channel");
    }
    let owner = match bot.rest.guild_owner(guild).await {
        Ok(owner) => owner,
        Err(error) => {
            warn!(%tenant, %error, "cannot find the owner of the server");
            return None;
        }
    };
    let message = Message::text(format!(
        "For your server: {text} On the server, `/auth start` with `shared` signs it in again."
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
