//! A sign-in that needs no code on this terminal: it is shown, and polled until it has ended.

use serde::Serialize;
use url::Url;

use super::{
    Exit, Failure, choice, interrupts::Interrupts, json_line, messages::signed_in_text, print_notice,
    print_result,
};
use crate::{
    broker::{Broker, Finished, News, Polled, SignIn, View},
    session::left_in_words,
    sys::clock::UnixTime,
};

#[derive(Serialize)]
struct DeviceJson<'a> {
    verification_uri: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_uri_complete: Option<&'a str>,
    user_code: &'a str,
    /// Unix seconds.
    expires_at: UnixTime,
}

#[derive(Serialize)]
struct ElsewhereJson<'a> {
    binding_message: &'a str,
    /// Unix seconds.
    expires_at: UnixTime,
}

/// Shows the sign-in and waits for its end. Ctrl-C cancels it.
///
/// # Errors
/// The text to print and the exit code, if there is no new session in the end.
pub(super) async fn finish(
    broker: &Broker,
    sign_in: &SignIn,
    json: bool,
    now: UnixTime,
) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    show(sign_in, json, now)?;
    let tenant = &sign_in.tenant;
    let polled = tokio::select! {
        polled = broker.poll_to_end(&sign_in.shown) => polled?,
        () = interrupts.next() => {
            broker.cancel(tenant.principal, Some(&tenant.provider)).await?;
            // A poll that is under way may still bring the tokens. They are dropped and revoked then.
            return Err(Failure::new(Exit::NoSession, format!("the sign-in for {tenant} is cancelled")));
        }
    };
    match polled {
        Polled::Finished(finished) => match *finished {
            Finished::SignedIn(signed_in) => {
                print_notice(&signed_in_text(&signed_in));
                Ok(())
            }
            Finished::Undecided(undecided) => choice::ask(broker, &undecided).await,
        },
        Polled::Ended(code) => Err(ended(sign_in, &code)),
        Polled::Waiting(_) | Polled::Gone => gone(broker, sign_in).await,
    }
}

/// Reports the end of a sign-in that another process or the time has brought.
async fn gone(broker: &Broker, sign_in: &SignIn) -> Result<(), Failure> {
    let tenant = &sign_in.tenant;
    let over = |text: &str| Err(Failure::new(Exit::NoSession, format!("the sign-in for {tenant} {text}")));
    match broker.sign_in_progress(&sign_in.shown).await?.news {
        Some(News::SignedIn(signed_in)) => {
            print_notice(&signed_in_text(&signed_in));
            Ok(())
        }
        Some(News::Undecided(undecided)) => choice::ask(broker, &undecided).await,
        Some(News::Ended { code }) => Err(ended(sign_in, &code)),
        Some(News::Cancelled) => over("was cancelled"),
        Some(News::Replaced) => over("was replaced by a newer one"),
        Some(News::LoggedOut) => over("was dropped by a logout"),
        _ => over("has expired: start it again"),
    }
}

fn ended(sign_in: &SignIn, code: &str) -> Failure {
    let provider = &sign_in.tenant.provider;
    let why = match code {
        "access_denied" => format!("the access was refused at {provider}"),
        "expired_token" => format!("its code has expired at {provider}"),
        code => format!("{provider} ended it ({code})"),
    };
    let text = format!(
        "the sign-in for {} was not finished: {why}. Start it again to be asked once more",
        sign_in.tenant
    );
    Failure::new(Exit::NoSession, text)
}

fn show(sign_in: &SignIn, json: bool, now: UnixTime) -> Result<(), Failure> {
    let expires_at = sign_in.expires_at;
    let left = left_in_words(expires_at, now);
    let resumed = if sign_in.resumed { "This sign-in is already under way. " } else { "" };
    match &sign_in.view {
        View::DeviceCode { user_code, verification_uri, verification_uri_complete } => {
            let complete = verification_uri_complete.as_ref().map(Url::as_str);
            if json {
                return print_result(&json_line(&DeviceJson {
                    verification_uri: verification_uri.as_str(),
                    verification_uri_complete: complete,
                    user_code,
                    expires_at,
                })?);
            }
            print_notice(&format!(
                "{resumed}Open this page within {left} and enter the code {user_code}. Enter only a code that you asked for \
                 yourself: a user who sends you a code wants to use your account. This command waits; Ctrl-C cancels the sign-in."
            ));
            print_result(&format!("{}\n{user_code}\n", complete.unwrap_or(verification_uri.as_str())))
        }
        View::Elsewhere { binding_message } => {
            if json {
                return print_result(&json_line(&ElsewhereJson { binding_message, expires_at })?);
            }
            print_notice(&format!(
                "{resumed}{} asks you on your own device. Allow the access there within {left}, if the message is the one \
                 below. This command waits; Ctrl-C cancels the sign-in.",
                sign_in.tenant.provider
            ));
            print_result(&format!("{binding_message}\n"))
        }
        _ => Ok(()),
    }
}
