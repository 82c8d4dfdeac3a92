//! A sign-in on a terminal: its link, the paste, and its end.

use serde::Serialize;
use url::Url;

use super::{
    Exit, Failure,
    cause::with_cause,
    choice, json_line,
    messages::{as_option, signed_in_text},
    polled_sign_in, print_notice, print_result,
    prompt::{self, Echo},
    read_input, stdin_is_terminal,
};
use crate::{
    broker::{Broker, FinishError, Finished, SignIn, View},
    ids::{Principal, ProviderId},
    net::Proxies,
    oauth::Pasted,
    session::left_in_words,
    sys::clock::UnixTime,
};

#[derive(Serialize)]
struct StartedJson<'a> {
    authorize_url: Option<&'a str>,
    /// Unix seconds.
    expires_at: i64,
}

/// Shows a sign-in whose code is pasted later. Returns whether it is finished already.
pub(super) async fn show(
    broker: &Broker,
    sign_in: &SignIn,
    json: bool,
    now: UnixTime,
) -> Result<bool, Failure> {
    let tenant = &sign_in.tenant;
    if !matches!(sign_in.view, View::Link(_)) {
        return polled_sign_in::finish(broker, sign_in, json, now).await.map(|()| true);
    }
    if json {
        let authorize_url = sign_in.link().map(Url::as_str);
        let started = StartedJson { authorize_url, expires_at: sign_in.expires_at };
        return print_result(&json_line(&started)?).map(|()| false);
    }
    let resumed = if sign_in.resumed { "This sign-in is already under way. " } else { "" };
    let left = left_in_words(sign_in.expires_at, now);
    print_notice(&format!(
        "{resumed}Open this link within {left} and allow the access. The last page may be an error; that is \
         expected. Copy its whole address, or the code that it shows, and paste it into `threadkey auth code {}{}`.",
        tenant.provider,
        as_option(tenant.principal)
    ));
    match sign_in.link() {
        Some(url) => print_result(&format!("{url}\n")).map(|()| false),
        None => Ok(false),
    }
}

/// Asks for a code, or reads it from standard input, and finishes a sign-in with it.
pub(super) async fn finish(
    broker: &Broker,
    principal: Principal,
    provider: Option<&ProviderId>,
) -> Result<(), Failure> {
    let awaited = broker.expects_code(principal, provider).await?;
    let input = if stdin_is_terminal() {
        let question = "Paste the code, or the whole address of the page that you ended on:";
        prompt::ask(question, Echo::Length, |text| awaited.include(text)).await?
    } else {
        read_input()?
    };
    let pasted = Pasted::parse(input.expose())?;
    let finished = broker.finish(principal, provider, pasted).await.map_err(|error| explained(error, broker));
    conclude(broker, finished?).await
}

/// Reports a finished sign-in, and asks for the choice between two accounts.
pub(super) async fn conclude(broker: &Broker, finished: Finished) -> Result<(), Failure> {
    match finished {
        Finished::SignedIn(signed_in) => {
            print_notice(&signed_in_text(&signed_in));
            Ok(())
        }
        Finished::Undecided(undecided) => choice::ask(broker, &undecided).await,
    }
}

/// Adds the next step if the provider cannot be reached.
pub(super) fn explained(error: FinishError, broker: &Broker) -> Failure {
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
