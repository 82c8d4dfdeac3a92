//! `/auth status`: access token, refresh and last error apart, and who uses it now.

use super::{
    super::{
        asked::Asked,
        bot::{Bot, trouble},
        wire::{Button, Embed, Field, Message, code, plain, relative, shorten},
    },
    choice,
    whom::visible,
    words::for_whom,
};
use crate::{
    broker::{AccessState, RefreshState, Status, WorkerTokens},
    ids::{Principal, Snowflake, Tenant},
    session::RetryKind,
    store::StoreError,
};

/// Fields of an embed, and what all its text may add up to.
const MAX_FIELDS: usize = 12;
const MAX_FIELD: usize = 450;

/// Shows how the person's sessions stand, and in a server that server's too.
pub(in crate::discord) async fn status(bot: &Bot, asked: &Asked) -> Message {
    let mut all = match bot.broker.status(&visible(asked.user, asked.guild)).await {
        Ok(all) => all,
        Err(error) => return trouble("reading the status", &error),
    };
    for status in &mut all {
        // Others of a server need not know as whom somebody signed in.
        status.undecided.take_if(|undecided| !choice::may_choose(asked, &undecided.tenant));
    }
    all.retain(|status| {
        status.generation > 0 || status.pending_until.is_some() || status.undecided.is_some()
    });
    if all.is_empty() {
        return Message::text("You are signed in nowhere. `/auth start` signs you in.");
    }
    let mut fields = Vec::new();
    for status in all.iter().take(MAX_FIELDS) {
        match users(bot, asked.user, &status.tenant).await {
            Ok(users) => fields.push(field(status, &users)),
            Err(error) => return trouble("reading the status", &error),
        }
    }
    let description = match all.len().saturating_sub(MAX_FIELDS) {
        0 => String::new(),
        more => format!("The first {MAX_FIELDS}; there are {more} more."),
    };
    let message = Message::embed(Embed { title: "Where you are signed in".into(), description, fields });
    message.buttons(choices(bot, asked, &all))
}

/// The buttons for what waits for a choice, with the provider's name where there are several.
fn choices(bot: &Bot, asked: &Asked, all: &[Status]) -> Vec<Button> {
    let waiting: Vec<_> =
        all.iter().take(MAX_FIELDS).filter_map(|status| status.undecided.as_ref()).collect();
    let of = |tenant: &Tenant| match waiting.len() {
        1 => String::new(),
        _ => format!(": {}{}", tenant.provider, for_whom(tenant)),
    };
    waiting
        .iter()
        .flat_map(|undecided| choice::buttons(bot, asked.user, undecided, &of(&undecided.tenant)))
        .collect()
}

/// Which conversations with a live worker use a tenant: those of the person who asks by name, the others as a number.
struct Users {
    own: Vec<Snowflake>,
    others: usize,
}

async fn users(bot: &Bot, asking: Snowflake, tenant: &Tenant) -> Result<Users, StoreError> {
    let mut users = Users { own: Vec::new(), others: 0 };
    for holder in bot.workers.as_ref().map(|workers| workers.holders()).unwrap_or_default() {
        if !WorkerTokens::uses(&bot.broker, &holder, tenant).await? {
            continue;
        }
        if holder.conversation.owner == asking {
            users.own.push(holder.conversation.id.0);
        } else {
            users.others += 1;
        }
    }
    Ok(users)
}

fn field(status: &Status, users: &Users) -> Field {
    let name = match status.tenant.principal {
        Principal::Guild(_) => format!("{} (this server)", status.tenant.provider),
        Principal::User(_) | Principal::Local => status.tenant.provider.to_string(),
    };
    let mut lines = Vec::new();
    if let Some(account) = &status.account {
        lines.push(format!("Account: {}", code(account)));
    }
    if status.generation > 0 {
        lines.push(format!("Access token: {}", access(status.access)));
        lines.push(format!("Refresh: {}", refresh(&status.refresh)));
    }
    if let Some((error, kind, at)) = &status.last_error {
        lines.push(format!("Last error: {} {}, {}", code(error), relative(*at), kind_words(*kind)));
    }
    lines.extend(used_by(users));
    if let Some(until) = status.pending_until {
        lines.push(format!("A sign-in is open; it expires {}.", relative(until)));
    }
    lines.extend(status.undecided.as_ref().map(choice::status_line));
    Field { name, value: shorten(&lines.join("\n"), MAX_FIELD) }
}

fn access(state: AccessState) -> String {
    match state {
        AccessState::None => "none".into(),
        AccessState::Valid(until) => format!("works, expires {}", relative(until)),
        AccessState::Expired(at) => format!("expired {}", relative(at)),
        AccessState::Rejected => "refused by the service before its time".into(),
    }
}

fn refresh(state: &RefreshState) -> String {
    match state {
        RefreshState::None => "not possible; sign in again when the access token has expired".into(),
        RefreshState::Ready => "ready".into(),
        RefreshState::HeldBack(until) => format!("waits, next try {}", relative(*until)),
        RefreshState::Uncertain(code) => {
            format!("uncertain ({}): the last one got no answer", plain(code))
        }
        RefreshState::Ended(code) => format!("**ended** by the provider ({}): sign in again", plain(code)),
    }
}

fn kind_words(kind: RetryKind) -> &'static str {
    match kind {
        RetryKind::Unspent => "nothing was lost",
        RetryKind::Ambiguous => "it is not known whether the refresh token was used",
        RetryKind::Misconfigured => "the operator has to mend the configuration",
    }
}

fn used_by(users: &Users) -> Option<String> {
    let mut parts: Vec<String> = users.own.iter().take(8).map(|thread| format!("<#{thread}>")).collect();
    if users.own.len() > 8 {
        parts.push(format!("{} more of yours", users.own.len() - 8));
    }
    match users.others {
        0 => {}
        1 => parts.push("a conversation of somebody else".into()),
        n => parts.push(format!("{n} conversations of others")),
    }
    (!parts.is_empty()).then(|| format!("In use by: {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_token_refresh_and_last_error_are_told_apart() {
        let status = Status {
            tenant: "acme/guild:9".parse().expect("a tenant"),
            account: Some("team@example.com".into()),
            access: AccessState::Valid(1000),
            refresh: RefreshState::Ended("invalid_grant".into()),
            last_error: Some(("timeout".into(), RetryKind::Unspent, 900)),
            pending_until: Some(2000),
            undecided: None,
            generation: 3,
        };
        let field = field(&status, &Users { own: vec![Snowflake(7)], others: 2 });
        assert_eq!(field.name, "acme (this server)");
        assert_eq!(
            field.value,
            "Account: `team@example.com`\nAccess token: works, expires <t:1000:R>\nRefresh: **ended** by the provider (invalid\\_grant): sign in again\nLast error: `timeout` <t:900:R>, nothing was lost\nIn use by: <#7>, 2 conversations of others\nA sign-in is open; it expires <t:2000:R>."
        );
    }

    #[test]
    fn a_sign_in_without_a_session_shows_only_that() {
        let status = Status {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: None,
            access: AccessState::None,
            refresh: RefreshState::None,
            last_error: None,
            pending_until: Some(2000),
            undecided: None,
            generation: 0,
        };
        assert_eq!(
            field(&status, &Users { own: vec![], others: 0 }).value,
            "A sign-in is open; it expires <t:2000:R>."
        );
    }
    #[test]
    fn a_sign_in_that_waits_for_a_choice_is_shown_as_one() {
        let status = Status {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: Some("alice@example.com".into()),
            access: AccessState::Valid(1000),
            refresh: RefreshState::Ready,
            last_error: None,
            pending_until: None,
            undecided: Some(choice::tests::undecided("acme/user:5")),
            generation: 3,
        };
        let value = field(&status, &Users { own: vec![], others: 0 }).value;
        let last = "You signed in as `bo'b@example.com` too: choose **Switch** or **Keep** before <t:1795359572:t> (<t:1795359572:R>).";
        assert_eq!(value.lines().last(), Some(last));
    }
}
