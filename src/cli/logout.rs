//! `threadkey auth logout`: removes a session and ends its grant, after a question where another
//! session may end with it.

use super::{
    Exit, Failure, LogoutArgs, print_notice,
    prompt::{self, Echo},
    provider_name, stdin_is_terminal,
};
use crate::{
    broker::{Broker, LoggedOut, LogoutError, Revocation},
    ids::Tenant,
    oauth::Withheld,
};

/// Logs out as the arguments say, and asks on a terminal if they leave it open.
pub(super) async fn run(broker: &Broker, args: LogoutArgs) -> Result<(), Failure> {
    let providers = broker.providers();
    let provider = provider_name::named_or_only(providers, args.provider.as_ref())?;
    let tenant = Tenant::new(provider, args.acting_as.principal);
    let revocation = match (args.keep_grant, args.revoke) {
        (true, _) => Revocation::Keep,
        (false, true) => Revocation::Revoke,
        (false, false) => Revocation::UnlessShared,
    };
    let logged_out = match log_out(broker, &tenant, revocation).await {
        Err(error @ LogoutError::Shared { .. }) => {
            let revocation = ask(&error).await?;
            log_out(broker, &tenant, revocation).await
        }
        result => result,
    };
    match logged_out {
        Ok(logged_out) => {
            print_notice(&text(broker, &tenant, &logged_out));
            Ok(())
        }
        Err(LogoutError::NoSession(_)) if !providers.contains(&tenant.provider) => {
            Err(Failure::new(Exit::Usage, provider_name::unknown(providers, &tenant.provider)))
        }
        Err(error) => Err(error.into()),
    }
}

async fn log_out(broker: &Broker, tenant: &Tenant, revocation: Revocation) -> Result<LoggedOut, LogoutError> {
    let slow_revocation = broker.outlasts_removal(tenant);
    let mut logout = std::pin::pin!(broker.logout(tenant, revocation));
    tokio::select! {
        biased;
        logged_out = logout.as_mut() => logged_out,
        () = slow_revocation => {
            // A user who interrupts the command after this line knows that the session is removed.
            print_notice(&format!(
                "{tenant} is logged out here. Waiting for {} to end the grant …", tenant.provider
            ));
            logout.await
        }
    }
}

/// Asks whether the grant ends too. Without a terminal or a clear answer nothing is changed.
async fn ask(shared: &LogoutError) -> Result<Revocation, Failure> {
    let options = "--keep-grant logs out here alone, --revoke ends the grant as well";
    if !stdin_is_terminal() {
        return Err(Failure::new(Exit::Usage, format!("{shared}. {options}")));
    }
    print_notice(&format!("{shared}. `keep` logs out here alone, `revoke` ends the grant as well."));
    let answer = prompt::ask("Keep or revoke the grant?", Echo::Text, |text| parse(text).is_some()).await?;
    parse(answer.expose()).ok_or_else(|| {
        let text = format!("the answer was neither `keep` nor `revoke`, so nothing was changed. {options}");
        Failure::new(Exit::Usage, text)
    })
}

fn parse(answer: &str) -> Option<Revocation> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "keep" | "k" => Some(Revocation::Keep),
        "revoke" | "r" => Some(Revocation::Revoke),
        _ => None,
    }
}

fn text(broker: &Broker, tenant: &Tenant, logged_out: &LoggedOut) -> String {
    let provider = &tenant.provider;
    let site = broker.providers().get(provider).map(|provider| format!("at {}", provider.site()));
    let there = site.as_deref().unwrap_or("there");
    match logged_out {
        LoggedOut::LocallyOnly => format!(
            "{tenant} is logged out here. The grant stays valid at {provider} until you end it in your account {there}. A refresh that another process has under way at this moment ends it."
        ),
        LoggedOut::Revoked => format!("{tenant} is logged out here, and {provider} has ended the grant."),
        LoggedOut::RevocationFailed => format!(
            "{tenant} is logged out here, but {provider} did not confirm the revocation: end the grant in your account {there}."
        ),
        LoggedOut::InUseElsewhere => format!(
            "{tenant} is logged out here. Another session with the same account was made meanwhile, so the grant was not revoked. \
             It stays valid until you end it in your account {there}."
        ),
        LoggedOut::CannotRevoke(Withheld::NotConfigured(_)) => format!(
            "{tenant} is logged out here. The grant lives on, because {provider} has no revocation_endpoint configured: end it in \
             your account {there}."
        ),
        LoggedOut::CannotRevoke(withheld) => format!(
            "{tenant} is logged out here. The grant lives on, and its tokens were not sent to {provider}: {withheld}. End it in \
             your account {there}."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_word_or_its_first_letter_decides_about_the_grant() {
        for (answer, revocation) in [
            ("keep", Some(Revocation::Keep)),
            (" K\n", Some(Revocation::Keep)),
            ("Revoke", Some(Revocation::Revoke)),
            ("r", Some(Revocation::Revoke)),
            ("", None),
            ("y", None),
            ("no", None),
        ] {
            assert_eq!(parse(answer), revocation, "{answer:?}");
        }
    }
}
