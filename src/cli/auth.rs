//! `threadkey auth`: the same sign-in as on Discord, from a terminal.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::sync::broadcast;
use zeroize::Zeroizing;

use super::{
    AuthCommand, Exit, Failure, choice, read_line, say, status,
    words::{as_principal, signed_in_words},
    write_out,
};
use crate::{
    broker::{Broker, Event, Finished, LoggedOut, Revocation},
    ids::{Principal, ProviderId, Tenant},
    oauth::Pasted,
    store,
    sys::{clock::UnixTime, files},
};

/// After this long without an answer of the provider it is said what is being waited for.
const IMPATIENT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct StartedDto<'a> {
    authorize_url: &'a str,
    /// Unix seconds.
    expires_at: i64,
}

/// Does one of the `auth` commands. `now` is only for words.
///
/// # Errors
/// The sentence and the code to end with.
pub async fn run(broker: &Broker, command: AuthCommand, now: UnixTime) -> Result<(), Failure> {
    choice::expire(broker).await;
    match command {
        AuthCommand::Start { provider, whose, json } => {
            start(broker, &Tenant::new(provider, whose.principal), json, now).await
        }
        AuthCommand::Code { provider, whose } => code(broker, whose.principal, provider.as_ref()).await,
        AuthCommand::Switch { provider, whose } => {
            choice::switch(broker, &Tenant::new(provider, whose.principal)).await
        }
        AuthCommand::Keep { provider, whose } => {
            choice::keep(broker, &Tenant::new(provider, whose.principal)).await
        }
        AuthCommand::Status { whose, json } => show(broker, whose.principal, json, now).await,
        AuthCommand::Logout { provider, whose, revoke } => {
            let revocation = if revoke { Revocation::Revoke } else { Revocation::Keep };
            logout(broker, &Tenant::new(provider, whose.principal), revocation).await
        }
        AuthCommand::Restore { file } => restore(broker, &file).await,
        AuthCommand::Cancel { provider, whose } => cancel(broker, whose.principal, provider.as_ref()).await,
    }
}

async fn start(broker: &Broker, tenant: &Tenant, json: bool, now: UnixTime) -> Result<(), Failure> {
    let sign_in = broker.start(tenant, tenant.principal).await?;
    if json {
        let dto =
            StartedDto { authorize_url: sign_in.authorize_url.as_str(), expires_at: sign_in.expires_at };
        let text = serde_json::to_string(&dto)
            .map_err(|e| Failure::new(Exit::Internal, format!("the result cannot be written: {e}")))?;
        return write_out(&(text + "\n"));
    }
    let again = if sign_in.resumed { "This sign-in is under way already. " } else { "" };
    let minutes = sign_in.expires_at.saturating_sub(now).max(0) / 60;
    say(&format!(
        "{again}Open this link and allow the access; it is good for {minutes} minutes. The page that you end on may be \
         an error: that is fine. Copy its whole address (or the code it shows) and give it to `threadkey auth code {}{}`.",
        tenant.provider,
        as_principal(tenant.principal)
    ));
    write_out(&format!("{}\n", sign_in.authorize_url))
}

async fn restore(broker: &Broker, file: &Path) -> Result<(), Failure> {
    let text = files::read_text(file)
        .map(Zeroizing::new)
        .map_err(|error| Failure::new(Exit::Usage, format!("{} cannot be read: {error}", file.display())))?;
    let (tenant, intent, answer) = store::read_rescue(file, text.as_bytes())?;
    if let Some(undecided) = broker.restore(&tenant, intent, answer).await? {
        say(&format!("The sign-in is restored. Delete {}: it holds secrets.", file.display()));
        return choice::ask(broker, &undecided).await;
    }
    say(&format!("The session {tenant} is restored. Delete {}: it holds secrets.", file.display()));
    Ok(())
}

async fn code(broker: &Broker, who: Principal, provider: Option<&ProviderId>) -> Result<(), Failure> {
    broker.expects_code(who, provider).await?;
    let input = read_line("Code, or the whole address of the page that you ended on:")?;
    let pasted = Pasted::parse(input.expose())?;
    match broker.finish(who, provider, pasted).await? {
        Finished::SignedIn(signed_in) => {
            say(&signed_in_words(&signed_in));
            Ok(())
        }
        Finished::Undecided(undecided) => choice::ask(broker, &undecided).await,
    }
}

async fn show(broker: &Broker, who: Principal, json: bool, now: UnixTime) -> Result<(), Failure> {
    let all = broker.status(&[who]).await?;
    if json {
        return write_out(&status::json(&all)?);
    }
    if all.is_empty() {
        say(&format!("Nobody is signed in as {who}: begin with `threadkey auth start PROVIDER`."));
    }
    write_out(&status::text(&all, now))
}

async fn logout(broker: &Broker, tenant: &Tenant, revocation: Revocation) -> Result<(), Failure> {
    let provider = &tenant.provider;
    let removed = removed_a_while_ago(broker.events());
    let mut logout = std::pin::pin!(broker.logout(tenant, revocation));
    let logged_out = tokio::select! {
        biased;
        logged_out = logout.as_mut() => logged_out,
        () = removed => {
            // Whoever interrupts it now knows what is done and what is not.
            say(&format!("{tenant} is logged out here. {provider} is still asked to end the grant …"));
            logout.await
        }
    };
    say(&match logged_out? {
        LoggedOut::LocallyOnly => format!(
            "{tenant} is logged out here. The grant lives on at {provider}: end it there too, or use --revoke next time."
        ),
        LoggedOut::Revoked => format!("{tenant} is logged out here, and {provider} has ended the grant."),
        LoggedOut::RevocationFailed => format!(
            "{tenant} is logged out here, but {provider} did not confirm the revocation: end the grant in your account there."
        ),
        LoggedOut::CannotRevoke => format!(
            "{tenant} is logged out here. {provider} has no revocation_endpoint configured: end the grant in your account there."
        ),
    });
    Ok(())
}

async fn removed_a_while_ago(mut events: broadcast::Receiver<Event>) {
    while !matches!(events.recv().await, Ok(Event::LoggedOut(_))) {}
    tokio::time::sleep(IMPATIENT).await;
}

async fn cancel(broker: &Broker, who: Principal, provider: Option<&ProviderId>) -> Result<(), Failure> {
    let dropped = broker.cancel(who, provider).await?;
    if dropped.is_empty() {
        say("No sign-in was under way.");
    }
    for tenant in dropped {
        say(&format!("The sign-in for {tenant} is cancelled."));
    }
    Ok(())
}
