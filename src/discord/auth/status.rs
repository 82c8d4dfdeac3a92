//! `/auth status`: the access token, the refresh, the last error and the current users of each
//! session.

use super::{
    super::{
        bot::{Bot, internal_error},
        interaction::Interaction,
        sign_in::{choice_buttons, choice_line, for_server, scope_list},
        wire::{Button, Embed, Field, Message, escape_markdown, inline_code, relative_time, shorten},
    },
    acting_for::{acts_for, visible},
};
use crate::{
    broker::{AccessState, RefreshState, Status, WorkerTokens, is_from_a_wrong_endpoint},
    ids::{Principal, Snowflake, Tenant},
    net::Unreachable,
    session::{RetryKind, is_known_expiry},
    store::StoreError,
};

/// Fields of an embed, and characters of each, so that all of them fit into Discord's limit for one
/// embed.
const MAX_FIELDS: usize = 12;
const MAX_FIELD: usize = 450;

/// Lists the sessions of the user, and on a server also those of the server.
pub(super) async fn command(bot: &Bot, interaction: &Interaction) {
    let message = match list(bot, interaction).await {
        Ok(message) => message,
        Err(error) => internal_error("read the status", &error),
    };
    bot.edit_reply(interaction, &message).await;
}

async fn list(bot: &Bot, interaction: &Interaction) -> Result<Message, StoreError> {
    let mut all = bot.broker.status(&visible(interaction.user, interaction.guild)).await?;
    for status in &mut all {
        // Other members of the server must not see the account of a sign-in that is not in use.
        status.undecided.take_if(|undecided| !acts_for(interaction, &undecided.tenant));
    }
    all.retain(|status| {
        status.generation > 0
            || status.pending_until.is_some()
            || status.undecided.is_some()
            || status.environment.is_some()
            || status.exchanged_from.is_some()
    });
    if all.is_empty() {
        return Ok(Message::text("You are not signed in anywhere. `/auth start` signs you in."));
    }
    let mut fields = Vec::new();
    for status in all.iter().take(MAX_FIELDS) {
        let usage = usage(bot, interaction.user, &status.tenant).await?;
        fields.push(field(status, &usage));
    }
    let description = match all.len().saturating_sub(MAX_FIELDS) {
        0 => String::new(),
        more => format!("These are the first {MAX_FIELDS}; there are {more} more."),
    };
    let message = Message::embed(Embed { title: "Where you are signed in".into(), description, fields });
    Ok(message.buttons(buttons(bot, interaction, &all)))
}

/// The buttons of the sign-ins that wait for a choice. With several of them, each button names its
/// provider.
fn buttons(bot: &Bot, interaction: &Interaction, all: &[Status]) -> Vec<Button> {
    let waiting: Vec<_> =
        all.iter().take(MAX_FIELDS).filter_map(|status| status.undecided.as_ref()).collect();
    let suffix = |tenant: &Tenant| match waiting.len() {
        1 => String::new(),
        _ => format!(": {}{}", tenant.provider, for_server(tenant)),
    };
    waiting
        .iter()
        .flat_map(|undecided| choice_buttons(bot, interaction.user, undecided, &suffix(&undecided.tenant)))
        .collect()
}

/// The conversations with a live worker that use a session.
struct Usage {
    /// The conversations of the user, as links.
    own: Vec<Snowflake>,
    /// The number of other users' conversations.
    others: usize,
}

async fn usage(bot: &Bot, user: Snowflake, tenant: &Tenant) -> Result<Usage, StoreError> {
    let mut usage = Usage { own: Vec::new(), others: 0 };
    for holder in bot.workers.as_ref().map(|workers| workers.holders()).unwrap_or_default() {
        if !WorkerTokens::uses(&bot.broker, &holder, tenant).await? {
            continue;
        }
        if holder.conversation.owner == user {
            usage.own.push(holder.conversation.id.0);
        } else {
            usage.others += 1;
        }
    }
    Ok(usage)
}

fn field(status: &Status, usage: &Usage) -> Field {
    let name = match status.tenant.principal {
        Principal::Guild(_) => format!("{} (this server)", status.tenant.provider),
        Principal::User(_) | Principal::Local => status.tenant.provider.to_string(),
    };
    let mut lines = Vec::new();
    if let Some(account) = &status.account {
        lines.push(format!("Account: {}", inline_code(account)));
    }
    if status.environment.is_some() {
        lines.push("My operator gave me a token for you in my environment. Your agents get it in place of a sign-in's.".to_owned());
    }
    if let Some(from) = &status.exchanged_from {
        lines.push(format!("Each token comes in return for that of your sign-in at `{}`.", from.provider));
    }
    if status.generation > 0 {
        lines.push(format!("Access token: {}", access_text(status.access)));
        lines.push(format!("Refresh: {}", refresh_text(&status.refresh)));
    }
    if let Some(end) = status.login_ends.absolute {
        lines.push(format!("The sign-in ends {}, however much it is used.", relative_time(end)));
    }
    if let Some(end) = status.login_ends.idle {
        lines.push(format!("The sign-in ends {}, unless it is refreshed before.", relative_time(end)));
    }
    if !status.missing_scopes.is_empty() {
        lines.push(format!("Not granted: {}", scope_list(&status.missing_scopes)));
    }
    if status.has_unread_answer {
        lines.push("The provider's last answer could not be used. It is kept: my operator finds it with `threadkey doctor`.".to_owned());
    }
    if let Some((error, kind, at)) = &status.last_error {
        lines.push(format!(
            "Last error: {} {}, {}",
            inline_code(error),
            relative_time(*at),
            retry_text(*kind, error)
        ));
    }
    if let Some(refusals) = &status.refusals {
        lines.push(format!(
            "The provider has refused {}, first {} ({}). I keep trying; if it lasts, sign in again with `/auth start`.",
            refusals.in_words(),
            relative_time(refusals.since),
            inline_code(&refusals.code)
        ));
    }
    lines.extend(usage_text(usage));
    if let Some(until) = status.pending_until {
        lines.push(format!("A sign-in is open and expires {}.", relative_time(until)));
    }
    lines.extend(status.undecided.as_ref().map(choice_line));
    Field { name, value: shorten(&lines.join("\n"), MAX_FIELD) }
}

fn access_text(state: AccessState) -> String {
    match state {
        AccessState::None => "none".into(),
        AccessState::Valid(until) if !is_known_expiry(until) => "works; the provider names no end".into(),
        AccessState::Valid(until) => format!("works, expires {}", relative_time(until)),
        AccessState::Expired(at) => format!("expired {}", relative_time(at)),
        AccessState::Rejected => "rejected by the provider before it expired".into(),
    }
}

fn refresh_text(state: &RefreshState) -> String {
    match state {
        RefreshState::None => "not possible; sign in again when the access token has expired".into(),
        RefreshState::Ready => "ready".into(),
        RefreshState::HeldBack(until) => format!("waiting, next try {}", relative_time(*until)),
        RefreshState::RejectedAgain(until) => format!(
            "ready; the last one brought the rejected access token back, the next one can be forced {}",
            relative_time(*until)
        ),
        RefreshState::Stuck(code) => format!(
            "**stuck**: refused for hours ({}), most likely ended. I try once an hour; sign in again if you need it sooner",
            escape_markdown(code)
        ),
        RefreshState::Uncertain(code) => {
            format!("uncertain ({}): the last one got no answer", escape_markdown(code))
        }
        RefreshState::Withheld => {
            "**not possible**: the configured addresses of this provider have changed. Sign in again".into()
        }
        RefreshState::Ended(code) => {
            format!("**ended** by the provider ({}): sign in again", escape_markdown(code))
        }
    }
}

fn retry_text(kind: RetryKind, code: &str) -> &'static str {
    match kind {
        RetryKind::Unspent if is_from_a_wrong_endpoint(code) => {
            "nothing was lost; ask my operator to check the address of the token endpoint"
        }
        RetryKind::Unspent if Unreachable::STEPS.contains(&code) => {
            "nothing was lost; if it stays so, ask my operator to check the network and the address"
        }
        RetryKind::Unspent => "nothing was lost",
        RetryKind::Ambiguous => "it is unknown whether the refresh token was used",
        RetryKind::Stuck => "the sign-in is kept",
        RetryKind::RejectedAgain => "the access token still serves other callers",
        RetryKind::Misconfigured => "ask my operator to correct the configuration",
    }
}

fn usage_text(usage: &Usage) -> Option<String> {
    let mut parts: Vec<String> = usage.own.iter().take(8).map(|thread| format!("<#{thread}>")).collect();
    if usage.own.len() > 8 {
        parts.push(format!("{} more of yours", usage.own.len() - 8));
    }
    match usage.others {
        0 => {}
        1 => parts.push("1 conversation of another user".into()),
        n => parts.push(format!("{n} conversations of other users")),
    }
    (!parts.is_empty()).then(|| format!("In use by: {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{LoginEnds, Refusals};

    #[test]
    fn a_status_lists_access_token_refresh_and_last_error_on_separate_lines() {
        let status = Status {
            tenant: "acme/guild:9".parse().expect("a tenant"),
            account: Some("team@example.com".into()),
            access: AccessState::Valid(1000),
            issued_at: None,
            scope: None,
            refresh: RefreshState::Ended("invalid_grant".into()),
            last_error: Some(("timeout".into(), RetryKind::Unspent, 900)),
            refusals: Some(Refusals { code: "http_400".into(), since: 800, times: 7, notified_at: None }),
            pending_until: Some(2000),
            undecided: None,
            login_ends: LoginEnds::default(),
            missing_scopes: vec![],
            has_unread_answer: false,
            generation: 3,
            environment: None,
            exchanged_from: None,
        };
        let field = field(&status, &Usage { own: vec![Snowflake(7)], others: 2 });
        assert_eq!(field.name, "acme (this server)");
        assert_eq!(
            field.value,
            "Account: `team@example.com`\nAccess token: works, expires <t:1000:R>\nRefresh: **ended** by the provider (invalid\\_grant): sign in again\nLast error: `timeout` <t:900:R>, nothing was lost\nThe provider has refused 7 times, first <t:800:R> (`http_400`). I keep trying; if it lasts, sign in again with `/auth start`.\nIn use by: <#7>, 2 conversations of other users\nA sign-in is open and expires <t:2000:R>."
        );
    }

    #[test]
    fn the_ends_of_a_sign_in_have_lines_of_their_own() {
        let status = Status {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: None,
            access: AccessState::Valid(1000),
            issued_at: None,
            scope: None,
            refresh: RefreshState::Ready,
            last_error: None,
            refusals: None,
            pending_until: None,
            undecided: None,
            login_ends: LoginEnds { absolute: Some(5000), idle: Some(4000) },
            missing_scopes: vec![],
            has_unread_answer: false,
            generation: 3,
            environment: None,
            exchanged_from: None,
        };
        assert_eq!(
            field(&status, &Usage { own: vec![], others: 0 }).value,
            "Access token: works, expires <t:1000:R>\nRefresh: ready\nThe sign-in ends <t:5000:R>, however much it is used.\nThe sign-in ends <t:4000:R>, unless it is refreshed before."
        );
    }

    #[test]
    fn a_status_names_the_environment_and_the_exchange_as_sources() {
        let sources = |environment: Option<&str>, exchanged_from: Option<&str>| {
            let status = Status {
                tenant: "docs/user:5".parse().expect("a tenant"),
                account: None,
                access: AccessState::None,
                refresh: RefreshState::None,
                last_error: None,
                refusals: None,
                pending_until: None,
                undecided: None,
                login_ends: LoginEnds::default(),
                missing_scopes: vec![],
                has_unread_answer: false,
                generation: 0,
                issued_at: None,
                scope: None,
                environment: environment.map(str::to_owned),
                exchanged_from: exchanged_from.map(|from| from.parse().expect("a tenant")),
            };
            field(&status, &Usage { own: vec![], others: 0 }).value
        };
        // The name of the variable is the operator's.
        assert_eq!(
            sources(Some("DOCS_TOKEN"), None),
            "My operator gave me a token for you in my environment. Your agents get it in place of a sign-in's."
        );
        assert_eq!(
            sources(None, Some("acme/user:5")),
            "Each token comes in return for that of your sign-in at `acme`."
        );
    }

    #[test]
    fn a_sign_in_under_way_without_a_session_is_the_only_line() {
        let status = Status {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: None,
            access: AccessState::None,
            issued_at: None,
            scope: None,
            refresh: RefreshState::None,
            last_error: None,
            refusals: None,
            pending_until: Some(2000),
            undecided: None,
            login_ends: LoginEnds::default(),
            missing_scopes: vec![],
            has_unread_answer: false,
            generation: 0,
            environment: None,
            exchanged_from: None,
        };
        assert_eq!(
            field(&status, &Usage { own: vec![], others: 0 }).value,
            "A sign-in is open and expires <t:2000:R>."
        );
    }

    #[test]
    fn a_sign_in_that_waits_for_a_choice_is_the_last_line() {
        let status = Status {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: Some("alice@example.com".into()),
            access: AccessState::Valid(1000),
            issued_at: None,
            scope: None,
            refresh: RefreshState::Ready,
            last_error: None,
            refusals: None,
            pending_until: None,
            undecided: Some(crate::discord::sign_in::undecided("acme/user:5")),
            login_ends: LoginEnds::default(),
            missing_scopes: vec![],
            has_unread_answer: false,
            generation: 3,
            environment: None,
            exchanged_from: None,
        };
        let value = field(&status, &Usage { own: vec![], others: 0 }).value;
        let last = "You signed in as `bo'b@example.com` too: choose **Switch** or **Keep** before <t:1795359572:t> (<t:1795359572:R>).";
        assert_eq!(value.lines().last(), Some(last));
    }
}
