//! `threadkey auth`: the sign-in of Discord, from a terminal.

use std::path::Path;

use zeroize::Zeroizing;

use super::{
    AuthCommand, Exit, Failure, LoginArgs, RefreshHintArgs, StartArgs, StatusArgs, args::PrincipalArgs,
    choice, demand, login, logout, messages::as_option, print_notice, print_result, provider_name, sign_in,
    status,
};
use crate::{
    broker::{Broker, Restored, StartOptions},
    ids::{Principal, ProviderId, Tenant},
    session::GrantKind,
    store,
    sys::{clock::UnixTime, files},
};

/// Runs one of the `auth` commands. The texts use `now`; no decision depends on it.
///
/// # Errors
/// The text to print and the exit code.
pub async fn run(broker: &Broker, command: AuthCommand, now: UnixTime) -> Result<(), Failure> {
    choice::drop_expired(broker).await;
    let tenant_of = |provider: Option<ProviderId>, acting_as: &PrincipalArgs| {
        let provider = provider_name::configured(broker.providers(), provider.as_ref())?;
        Ok::<_, Failure>(Tenant::new(provider, acting_as.principal))
    };
    match command {
        AuthCommand::Start { args: StartArgs { provider, acting_as, grant, json }, scopes } => {
            let tenant = tenant_of(provider, &acting_as)?;
            demand::scopes(broker, &tenant, &scopes).await?;
            start(broker, &tenant, grant, json, now).await.map(drop)
        }
        AuthCommand::Login(LoginArgs {
            start: StartArgs { provider, acting_as, grant, json },
            no_browser,
        }) => {
            let tenant = tenant_of(provider, &acting_as)?;
            if json {
                return start(broker, &tenant, grant, json, now).await.map(drop);
            }
            login::run(broker, &tenant, grant, no_browser, now).await
        }
        AuthCommand::Code { provider, acting_as } => {
            if let Some(named) = &provider {
                provider_name::configured(broker.providers(), Some(named))?;
            }
            sign_in::finish(broker, acting_as.principal, provider.as_ref()).await
        }
        AuthCommand::Switch { provider, acting_as } => {
            choice::switch(broker, &tenant_of(provider, &acting_as)?).await
        }
        AuthCommand::Keep { provider, acting_as } => {
            choice::keep(broker, &tenant_of(provider, &acting_as)?).await
        }
        AuthCommand::Status(StatusArgs { acting_as, json }) => {
            print_status(broker, acting_as.principal, json, now).await
        }
        AuthCommand::List { json } => list(broker, json, now).await,
        AuthCommand::Logout(args) => logout::run(broker, args).await,
        AuthCommand::Restore { file } => restore(broker, &file).await,
        AuthCommand::Cancel { provider, acting_as } => {
            cancel(broker, acting_as.principal, provider.as_ref()).await
        }
        AuthCommand::RefreshHint(args) => Err(refresh_hint(&args)),
    }
}

/// Leads a user who wants to refresh to the command that does so.
fn refresh_hint(args: &RefreshHintArgs) -> Failure {
    let provider = args.provider.as_ref().map(|provider| format!(" {provider}")).unwrap_or_default();
    let token = format!("threadkey token{provider}{}", as_option(args.acting_as.principal));
    let text = format!(
        "there is no command for a refresh, because `{token}` refreshes where one is needed. If a resource has rejected the token, \
         `{token} --rejected -` reads it from standard input and prints another one"
    );
    Failure::new(Exit::Usage, text)
}

async fn list(broker: &Broker, json: bool, now: UnixTime) -> Result<(), Failure> {
    let statuses = broker.status_of_all().await?;
    if json {
        return print_result(&status::json(&statuses)?);
    }
    if statuses.is_empty() {
        print_notice("There is no session yet. `threadkey auth start` signs you in.");
    }
    print_result(&status::table(&statuses, now))
}

/// Starts a sign-in, and waits for its end if no code comes back. Returns whether it is finished.
async fn start(
    broker: &Broker,
    tenant: &Tenant,
    grant: Option<GrantKind>,
    json: bool,
    now: UnixTime,
) -> Result<bool, Failure> {
    let options = StartOptions { grant, ..StartOptions::default() };
    let started = broker.start_with(tenant, tenant.principal, options).await?;
    sign_in::show(broker, &started, json, now).await
}

async fn restore(broker: &Broker, file: &Path) -> Result<(), Failure> {
    let text = files::read_text(file)
        .map(Zeroizing::new)
        .map_err(|error| Failure::new(Exit::Usage, format!("{} cannot be read: {error}", file.display())))?;
    let (tenant, intent, answer) = store::read_rescue(file, text.as_bytes())?;
    let delete = format!("Delete {}: it holds secrets.", file.display());
    match broker.restore(&tenant, intent, answer).await? {
        Restored::Session => print_notice(&format!("The session {tenant} is restored. {delete}")),
        Restored::Undecided(undecided) => {
            print_notice(&format!("The sign-in is restored. {delete}"));
            return choice::ask(broker, &undecided).await;
        }
        Restored::AwaitsReload => print_notice(&format!(
            "The answer for {tenant} is saved. Its user must reload the page of the sign-in in the browser: it shows \
             the six digits. {delete}"
        )),
    }
    Ok(())
}

async fn print_status(
    broker: &Broker,
    principal: Principal,
    json: bool,
    now: UnixTime,
) -> Result<(), Failure> {
    let statuses = broker.status(&[principal]).await?;
    if json {
        return print_result(&status::json(&statuses)?);
    }
    if statuses.is_empty() {
        print_notice(&format!(
            "There is no session for {principal}. Sign in with `threadkey auth start PROVIDER{}`; `threadkey auth list` shows the \
             sessions of all principals.",
            as_option(principal)
        ));
    }
    print_result(&status::text(&statuses, now))
}

async fn cancel(broker: &Broker, principal: Principal, provider: Option<&ProviderId>) -> Result<(), Failure> {
    let cancelled = broker.cancel(principal, provider).await?;
    if cancelled.is_empty() {
        // The section of a provider may be removed while a sign-in is under way.
        if let Some(named) = provider {
            provider_name::configured(broker.providers(), Some(named))?;
        }
        print_notice("No sign-in was under way.");
    }
    for tenant in cancelled {
        print_notice(&format!("The sign-in for {tenant} is cancelled."));
    }
    Ok(())
}
