//! `/auth logout`: removes a session, and on request asks the provider to end the grant.

use super::{
    super::{
        acting_managers::Deed,
        bot::{Bot, internal_error},
        command::Options,
        interaction::Interaction,
        sign_in::for_server,
        wire::Message,
    },
    acting_for::ActingFor,
};
use crate::{
    broker::{LoggedOut, LogoutError, Revocation},
    ids::Tenant,
};

/// Logs the user or the server out.
pub(super) async fn command(bot: &Bot, interaction: &Interaction, options: &Options) {
    let acting_for = ActingFor::shared(options.is_set("shared"));
    let revocation = if options.is_set("revoke") { Revocation::Revoke } else { Revocation::Keep };
    let message = match acting_for.tenant(interaction, options.required("provider")) {
        Ok(tenant) => {
            bot.acting_managers.record(&tenant, interaction.user, Deed::LogOut);
            log_out(bot, &tenant, revocation, acting_for).await
        }
        Err(refusal) => Message::text(refusal),
    };
    bot.edit_reply(interaction, &message).await;
}

async fn log_out(bot: &Bot, tenant: &Tenant, revocation: Revocation, acting_for: ActingFor) -> Message {
    match bot.broker.logout(tenant, revocation).await {
        Ok(result) => Message::text(result_text(tenant, result)),
        Err(LogoutError::NoSession(tenant)) => {
            let who = match acting_for {
                ActingFor::User => "You are",
                ActingFor::Server => "This server is",
            };
            Message::text(format!(
                "{who} not signed in at `{}`, so there is nothing to log out.",
                tenant.provider
            ))
        }
        Err(LogoutError::Store(error)) => internal_error("log out", &error),
    }
}

fn result_text(tenant: &Tenant, result: LoggedOut) -> String {
    let provider = &tenant.provider;
    let logged_out = format!("Logged out of `{provider}`{}", for_server(tenant));
    match result {
        LoggedOut::LocallyOnly => format!(
            "{logged_out}: I have deleted the session here. At `{provider}` itself the access stays valid until you remove it there. With the option `revoke`, `/auth logout` asks `{provider}` to end it."
        ),
        LoggedOut::Revoked => format!("{logged_out}, and `{provider}` has ended the access."),
        LoggedOut::RevocationFailed => format!(
            "{logged_out}: I have deleted the session here. `{provider}` did not confirm the end of the access, so it may still work: remove it in your account there."
        ),
        LoggedOut::CannotRevoke => format!(
            "{logged_out}: I have deleted the session here. `{provider}` offers no way to end the access from here: remove it in your account there."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_reports_whether_the_grant_still_works() {
        let tenant: Tenant = "acme/user:5".parse().expect("a tenant");
        assert!(result_text(&tenant, LoggedOut::LocallyOnly).contains("the access stays valid"));
        assert_eq!(
            result_text(&tenant, LoggedOut::Revoked),
            "Logged out of `acme`, and `acme` has ended the access."
        );
        assert!(result_text(&tenant, LoggedOut::RevocationFailed).contains("may still work"));
        assert!(result_text(&tenant, LoggedOut::CannotRevoke).contains("no way to end the access"));
    }
}
