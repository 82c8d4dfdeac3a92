//! `threadkey auth`: the sign-in of Discord, from a terminal.

use std::path::Path;

use serde::Serialize;
use url::Url;
use zeroize::Zeroizing;

use super::{
    AuthCommand, Exit, Failure, RefreshHintArgs, StartArgs, StatusArgs,
    args::PrincipalArgs,
    choice, demand, json_line, logout,
    messages::{as_option, signed_in_text},
    polled_sign_in, print_notice, print_result,
    prompt::{self, Echo},
    provider_name, read_input, status, stdin_is_terminal,
    token::with_cause,
};
use crate::{
    broker::{Broker, FinishError, Finished, StartOptions, View},
    ids::{Principal, ProviderId, Tenant},
    net::Proxies,
    oauth::Pasted,
    session::GrantKind,
    store,
    sys::{clock::UnixTime, files},
};

#[derive(Serialize)]
struct StartedJson<'a> {
    authorize_url: Option<&'a str>,
    /// Unix seconds.
    expires_at: i64,
}

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
        AuthCommand::Login(StartArgs { provider, acting_as, grant, json }) => {
            let tenant = tenant_of(provider, &acting_as)?;
            let is_finished = start(broker, &tenant, grant, json, now).await?;
            if is_finished || json || !stdin_is_terminal() {
                return Ok(());
            }
            finish(broker, tenant.principal, Some(&tenant.provider)).await
        }
        AuthCommand::Code { provider, acting_as } => {
            if let Some(named) = &provider {
                provider_name::configured(broker.providers(), Some(named))?;
            }
            finish(broker, acting_as.principal, provider.as_ref()).await
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
    let sign_in = broker.start_with(tenant, tenant.principal, options).await?;
    if !matches!(sign_in.view, View::Link(_)) {
        return polled_sign_in::finish(broker, &sign_in, json, now).await.map(|()| true);
    }
    if json {
        let authorize_url = sign_in.link().map(Url::as_str);
        let started = StartedJson { authorize_url, expires_at: sign_in.expires_at };
        return print_result(&json_line(&started)?).map(|()| false);
    }
    let resumed = if sign_in.resumed { "This sign-in is already under way. " } else { "" };
    let minutes = sign_in.expires_at.saturating_sub(now).max(0) / 60;
    print_notice(&format!(
        "{resumed}Open this link within {minutes} minutes and allow the access. The last page may be an error; that is \
         expected. Copy its whole address, or the code that it shows, and paste it into `threadkey auth code {}{}`.",
        tenant.provider,
        as_option(tenant.principal)
    ));
    match sign_in.link() {
        Some(url) => print_result(&format!("{url}\n")).map(|()| false),
        None => Ok(false),
    }
}

async fn restore(broker: &Broker, file: &Path) -> Result<(), Failure> {
    let text = files::read_text(file)
        .map(Zeroizing::new)
        .map_err(|error| Failure::new(Exit::Usage, format!("{} cannot be read: {error}", file.display())))?;
    let (tenant, intent, answer) = store::read_rescue(file, text.as_bytes())?;
    if let Some(undecided) = broker.restore(&tenant, intent, answer).await? {
        print_notice(&format!("The sign-in is restored. Delete {}: it holds secrets.", file.display()));
        return choice::ask(broker, &undecided).await;
    }
    print_notice(&format!("The session {tenant} is restored. Delete {}: it holds secrets.", file.display()));
    Ok(())
}

async fn finish(broker: &Broker, principal: Principal, provider: Option<&ProviderId>) -> Result<(), Failure> {
    let awaited = broker.expects_code(principal, provider).await?;
    let input = if stdin_is_terminal() {
        let question = "Paste the code, or the whole address of the page that you ended on:";
        prompt::ask(question, Echo::Length, |text| awaited.include(text)).await?
    } else {
        read_input()?
    };
    let pasted = Pasted::parse(input.expose())?;
    let finished = broker.finish(principal, provider, pasted).await.map_err(|error| explained(error, broker));
    match finished? {
        Finished::SignedIn(signed_in) => {
            print_notice(&signed_in_text(&signed_in));
            Ok(())
        }
        Finished::Undecided(undecided) => choice::ask(broker, &undecided).await,
    }
}

/// Adds the next step if the provider cannot be reached.
fn explained(error: FinishError, broker: &Broker) -> Failure {
    if let FinishError::Unreachable { provider, .. } = &error {
        let provider = broker.providers().get(provider);
        // Only the operator can correct a variable that names no proxy.
        let problem = provider.and_then(|p| Proxies::from_environment().problem(p.token_endpoint()));
        let mut failure = Failure::from(error);
        failure.text.push_str(". `threadkey doctor` checks it");
        if problem.is_some() {
            failure.exit = Exit::Usage;
        }
        return failure;
    }
    let unreachable = match &error {
        FinishError::Unavailable { provider, code } => Some((provider.clone(), code.clone())),
        _ => None,
    };
    let failure = Failure::from(error);
    let Some((id, step)) = unreachable else { return failure };
    match broker.providers().get(&id) {
        Some(provider) => with_cause(failure, &step, &provider, broker.trouble(&id)),
        None => failure,
    }
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
