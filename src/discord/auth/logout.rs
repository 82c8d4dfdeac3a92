//! `/auth logout`: forgets a session, and on request ends the grant at the provider too.

use super::{
    super::{
        asked::Asked,
        bot::{Bot, trouble},
        wire::Message,
    },
    whom::{For, tenant},
    words::for_whom,
};
use crate::{
    broker::{LoggedOut, LogoutError, Revocation},
    ids::Tenant,
};

/// Whether the grant ends at the provider too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discord) enum Revoke {
    No,
    Yes,
}

/// Logs out.
pub(in crate::discord) async fn logout(
    bot: &Bot,
    asked: &Asked,
    provider: &str,
    revoke: Revoke,
    whom: For,
) -> Message {
    let tenant = match tenant(asked, provider, whom) {
        Ok(tenant) => tenant,
        Err(refusal) => return Message::text(refusal),
    };
    let revocation = match revoke {
        Revoke::No => Revocation::Keep,
        Revoke::Yes => Revocation::Revoke,
    };
    match bot.broker.logout(&tenant, revocation).await {
        Ok(done) => Message::text(words(&tenant, done)),
        Err(LogoutError::NoSession(tenant)) => Message::text(match whom {
            For::Themself => {
                format!("You are not signed in at `{}`, so there is nothing to log out.", tenant.provider)
            }
            For::Server => {
                format!(
                    "This server is not signed in at `{}`, so there is nothing to log out.",
                    tenant.provider
                )
            }
        }),
        Err(LogoutError::Store(error)) => trouble("logging out", &error),
    }
}

fn words(tenant: &Tenant, done: LoggedOut) -> String {
    let provider = &tenant.provider;
    let begin = format!("Logged out of `{provider}`{}", for_whom(tenant));
    match done {
        LoggedOut::LocallyOnly => format!(
            "{begin}: I have forgotten it. At `{provider}` itself the access lives on until you remove it there; `revoke` would have asked `{provider}` to end it."
        ),
        LoggedOut::Revoked => format!("{begin}, and `{provider}` has ended the access."),
        LoggedOut::RevocationFailed => format!(
            "{begin}: I have forgotten it. `{provider}` did not confirm that it has ended the access, so it may live on: remove it in your account there."
        ),
        LoggedOut::CannotRevoke => format!(
            "{begin}: I have forgotten it. `{provider}` offers no way to end the access from here: remove it in your account there."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_says_whether_the_grant_lives_on() {
        let tenant: Tenant = "acme/user:5".parse().expect("a tenant");
        assert!(words(&tenant, LoggedOut::LocallyOnly).contains("the access lives on"));
        assert_eq!(
            words(&tenant, LoggedOut::Revoked),
            "Logged out of `acme`, and `acme` has ended the access."
        );
        assert!(words(&tenant, LoggedOut::RevocationFailed).contains("may live on"));
        assert!(words(&tenant, LoggedOut::CannotRevoke).contains("no way to end the access"));
    }
}
