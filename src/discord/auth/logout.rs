//! `/auth logout`: removes a session, and asks the provider to end the grant.
//!
//! Some providers end all grants of an account at once. Where another sign-in here has the same
//! account, the user chooses between two buttons first. The question names only the sign-ins that the
//! user may see.

use super::{
    super::{
        acting_managers::Deed,
        bot::{Bot, internal_error},
        buttons::Action,
        command::Options,
        interaction::Interaction,
        sign_in::{for_server, unknown_provider},
        wire::{Button, Message, Response},
    },
    acting_for::{ActingFor, acts_for, visible},
};
use crate::{
    broker::{LoggedOut, LogoutError, Revocation},
    ids::{Principal, Snowflake, Tenant},
    oauth::Withheld,
};

/// Logs the user or the server out.
pub(super) async fn command(bot: &Bot, interaction: &Interaction, options: &Options) {
    let acting_for = ActingFor::shared(options.is_set("shared"));
    let revocation = wanted(options.switch("keep_grant"), options.switch("revoke"));
    let message = match acting_for.tenant(bot, interaction, options.text("provider")) {
        Ok(tenant) => log_out(bot, interaction, &tenant, revocation).await,
        Err(refusal) => Message::text(refusal),
    };
    bot.edit_reply(interaction, &message).await;
}

/// Logs out after the question, as the user chose.
pub(in crate::discord) async fn log_out_as_chosen(
    bot: &Bot,
    interaction: &Interaction,
    tenant: &Tenant,
    revocation: Revocation,
) {
    if !acts_for(interaction, tenant) {
        let refusal = "Only members with the permission Manage Server can log this server out, and only in the server itself.";
        return bot.reply(interaction, refusal).await;
    }
    // The update removes the buttons while the provider is asked.
    if !bot.respond(interaction, &Response::Update(Message::text("One moment …"))).await {
        return;
    }
    let message = log_out(bot, interaction, tenant, revocation).await;
    bot.edit_reply(interaction, &message).await;
}

/// The wish of a call. `revoke` is the option of earlier versions, in which a logout kept the grant
/// by default.
fn wanted(keep_grant: Option<bool>, revoke: Option<bool>) -> Revocation {
    match (keep_grant, revoke) {
        (Some(true), _) => Revocation::Keep,
        (_, Some(true)) => Revocation::Revoke,
        (None, Some(false)) => Revocation::Keep,
        (Some(false), Some(false)) | (_, None) => Revocation::UnlessShared,
    }
}

async fn log_out(bot: &Bot, interaction: &Interaction, tenant: &Tenant, revocation: Revocation) -> Message {
    bot.acting_managers.record(tenant, interaction.user, Deed::LogOut);
    let site = bot.broker.providers().get(&tenant.provider).map(|provider| provider.site());
    let slow_revocation = bot.broker.outlasts_removal(tenant);
    let mut logout = std::pin::pin!(bot.broker.logout(tenant, revocation));
    let logged_out = tokio::select! {
        biased;
        logged_out = logout.as_mut() => logged_out,
        () = slow_revocation => {
            let provider = &tenant.provider;
            let text = format!(
                "Logged out of `{provider}`{}: I have deleted the session here. I am waiting for `{provider}` to end the access …",
                for_server(tenant)
            );
            bot.edit_reply(interaction, &Message::text(text)).await;
            logout.await
        }
    };
    match logged_out {
        Ok(result) => Message::text(result_text(tenant, site.as_deref(), &result)),
        Err(LogoutError::NoSession(tenant)) if !bot.broker.providers().contains(&tenant.provider) => {
            unknown_provider(bot, &tenant.provider)
        }
        Err(LogoutError::NoSession(tenant)) => {
            let who = match tenant.principal {
                Principal::Guild(_) => "This server is",
                Principal::User(_) | Principal::Local => "You are",
            };
            Message::text(format!(
                "{who} not signed in at `{}`, so there is nothing to log out.",
                tenant.provider
            ))
        }
        Err(error @ (LogoutError::Exchanged { .. } | LogoutError::FromEnvironment { .. })) => {
            Message::text(format!("{error}."))
        }
        Err(LogoutError::Shared { tenant, others }) => {
            let visible = visible(interaction.user, interaction.guild);
            let text = question(&tenant, &sharing(&others, &visible));
            Message::text(text).buttons(buttons(bot, interaction.user, &tenant))
        }
        Err(LogoutError::Store(error)) => internal_error("log out", &error),
    }
}

fn buttons(bot: &Bot, user: Snowflake, tenant: &Tenant) -> Vec<Button> {
    [(Revocation::Revoke, "End the access"), (Revocation::Keep, "Log out here only")]
        .map(|(revocation, label)| {
            let action = Action::LogOut { tenant: tenant.clone(), revocation };
            Button::press(label, bot.buttons.add(user, action))
        })
        .into()
}

fn question(tenant: &Tenant, sharing: &str) -> String {
    let provider = &tenant.provider;
    format!(
        "Nothing has changed yet. The account of `{provider}`{} is in use here by {sharing} too, and some providers end every sign-in of an account at once.\n**End the access** logs you out and asks `{provider}` to end the access. **Log out here only** deletes the session here and leaves the access as it is.",
        for_server(tenant)
    )
}

/// Names the sign-ins that the user may see, and counts the others.
fn sharing(others: &[Tenant], visible: &[Principal]) -> String {
    let (seen, hidden): (Vec<_>, Vec<_>) =
        others.iter().partition(|tenant| visible.contains(&tenant.principal));
    let mut parts: Vec<String> = seen
        .iter()
        .take(5)
        .map(|tenant| match tenant.principal {
            Principal::Guild(_) => format!("this server's sign-in at `{}`", tenant.provider),
            Principal::User(_) | Principal::Local => format!("your sign-in at `{}`", tenant.provider),
        })
        .collect();
    match hidden.len() + seen.len().saturating_sub(5) {
        0 => {}
        1 => parts.push("another sign-in".to_owned()),
        more => parts.push(format!("{more} other sign-ins")),
    }
    parts.join(" and ")
}

fn result_text(tenant: &Tenant, site: Option<&str>, result: &LoggedOut) -> String {
    let provider = &tenant.provider;
    let logged_out = format!("Logged out of `{provider}`{}", for_server(tenant));
    let there = site.map_or_else(|| "there".to_owned(), |site| format!("at `{site}`"));
    let remove = format!("remove it in your account {there}");
    match result {
        LoggedOut::LocallyOnly => format!(
            "{logged_out}: I have deleted the session here. At `{provider}` itself the access stays valid until you {remove}. A refresh that another program has under way at this moment ends it."
        ),
        LoggedOut::Revoked => format!("{logged_out}, and `{provider}` has ended the access."),
        LoggedOut::RevocationFailed => format!(
            "{logged_out}: I have deleted the session here. `{provider}` did not confirm the end of the access, so it may still work: {remove}."
        ),
        LoggedOut::InUseElsewhere => format!(
            "{logged_out}: I have deleted the session here. Another sign-in with the same account was made meanwhile, so I did not ask `{provider}` to end the access: if you no longer need it, {remove}."
        ),
        LoggedOut::CannotRevoke(Withheld::NotConfigured(_)) => format!(
            "{logged_out}: I have deleted the session here. The access lives on, because I know no way to end it at `{provider}`: {remove}."
        ),
        LoggedOut::CannotRevoke(Withheld::Changed { .. } | Withheld::Unbound { .. }) => format!(
            "{logged_out}: I have deleted the session here. The access lives on: the addresses of `{provider}` in my configuration have changed since the sign-in, so I did not send your tokens there. To end the access, {remove}."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::Endpoint;

    fn tenant(text: &str) -> Tenant {
        text.parse().expect("a tenant")
    }

    #[test]
    fn each_result_of_a_logout_reports_whether_and_where_the_grant_still_works() {
        let text = |result: LoggedOut| result_text(&tenant("acme/user:5"), Some("id.example"), &result);
        assert_eq!(text(LoggedOut::Revoked), "Logged out of `acme`, and `acme` has ended the access.");
        let changed =
            Withheld::Changed { was: "https://id.example/r".into(), now: "https://new.example/r".into() };
        for (result, word) in [
            (LoggedOut::LocallyOnly, "the access stays valid"),
            (LoggedOut::LocallyOnly, "A refresh that another program has under way at this moment ends it."),
            (LoggedOut::RevocationFailed, "may still work"),
            (LoggedOut::InUseElsewhere, "I did not ask"),
            (LoggedOut::CannotRevoke(Withheld::NotConfigured(Endpoint::Revocation)), "The access lives on"),
            (LoggedOut::CannotRevoke(changed), "have changed since the sign-in"),
        ] {
            let text = text(result);
            assert!(
                text.contains(word) && text.contains("remove it in your account at `id.example`"),
                "{text}"
            );
            assert!(!text.contains("new.example"), "a user sees no internals: {text}");
        }
    }

    #[test]
    fn a_logout_question_names_only_the_sign_ins_that_the_user_may_see() {
        let others = ["acme/guild:9", "big-acme/user:5", "acme/user:6", "acme/guild:8"].map(tenant);
        let visible = visible(Snowflake(5), Some(Snowflake(9)));
        assert_eq!(
            sharing(&others, &visible),
            "this server's sign-in at `acme` and your sign-in at `big-acme` and 2 other sign-ins"
        );
        assert_eq!(sharing(&others[2..3], &visible), "another sign-in");
    }

    #[test]
    fn the_option_revoke_of_earlier_versions_keeps_its_meaning() {
        assert_eq!(wanted(None, None), Revocation::UnlessShared);
        assert_eq!(wanted(Some(false), None), Revocation::UnlessShared);
        assert_eq!(wanted(Some(true), None), Revocation::Keep);
        assert_eq!(wanted(None, Some(true)), Revocation::Revoke);
        assert_eq!(wanted(None, Some(false)), Revocation::Keep);
        assert_eq!(wanted(Some(true), Some(true)), Revocation::Keep, "keeping can be corrected later");
    }
}
