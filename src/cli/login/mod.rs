//! `threadkey login`: a sign-in in the browser, whose answer a listener on loopback takes (RFC 8252),
//! and a paste where no browser reaches this machine.
//!
//! The listener and the question for a paste wait at the same time, and the first answer ends both.
//! Each ends in [`Broker::finish`], which checks the state and the issuer, and exchanges the code.
//! After a wrong paste the question comes again, and the listener goes on: the browser may still come
//! back.
//!
//! A process that dies here leaves the pending sign-in, which expires by itself; during the exchange
//! it leaves a journal, from which the next process continues. Ctrl-C cancels the sign-in at each
//! point. During the exchange the provider may still grant it; then the late result is dropped and
//! revoked, and the command waits for that. A second Ctrl-C ends it at once.

mod listener;
mod page;

use std::time::Duration;

use listener::{Answer, Listener, NoListener, Waiting};
use page::Page;
use tokio::time::sleep;

use super::{
    Exit, Failure,
    interrupts::Interrupts,
    messages::{as_option, signed_in_text},
    print_notice, print_result,
    prompt::{self, Echo},
    sign_in, stdin_is_terminal,
};
use crate::{
    broker::{
        AwaitedAnswers, Broker, FinishError, Finished, News, SignIn, StartError, StartOptions, WayBack,
    },
    ids::Tenant,
    oauth::{PasteError, Pasted},
    secret::Secret,
    session::{GrantKind, left_in_words},
    sys::{browser, clock::UnixTime},
};

/// The event that ends the wait.
enum Event {
    Answered(Answer),
    Pasted(Secret),
    Interrupted,
    /// Another process has finished or dropped the sign-in, or it has expired.
    Ended(News),
}

/// The result of an event.
enum Conclusion {
    Finished(Finished),
    /// The sign-in is over, and its end was reported.
    Reported,
    /// The sign-in is still open, and another paste can finish it.
    WrongPaste(String),
}

/// Signs a tenant in.
///
/// # Errors
/// The text to print and the exit code, if there is no new session in the end.
pub(super) async fn run(
    broker: &Broker,
    tenant: &Tenant,
    grant: Option<GrantKind>,
    no_browser: bool,
    now: UnixTime,
) -> Result<(), Failure> {
    let provider = broker.usable(&tenant.provider).await.map_err(StartError::from)?;
    let any_port = provider.redirect_any_port();
    let grant = grant.or_else(|| provider.grants().first().copied());
    let listener = match grant {
        None | Some(GrantKind::Code) => listener_on(provider.redirect_uri(), any_port, tenant).await?,
        Some(_) => None,
    };
    let way_back = match &listener {
        Some(listener) if any_port => WayBack::Listener(listener.redirect_uri().clone()),
        _ => WayBack::Paste,
    };
    let options = StartOptions { grant, way_back, ..StartOptions::default() };
    // Before the sign-in is there: from then on Ctrl-C cancels it.
    let mut interrupts = Interrupts::new()?;
    let started = tokio::select! {
        biased;
        () = interrupts.next() => {
            return Err(Failure::new(Exit::Usage, format!("interrupted: no sign-in for {tenant} was started")));
        }
        started = broker.start_with(tenant, tenant.principal, options) => started?,
    };
    let (Some(listener), Some(link)) = (listener, started.link()) else {
        let is_finished = sign_in::show(broker, &started, false, now).await?;
        if is_finished || !stdin_is_terminal() {
            return Ok(());
        }
        return match wait_and_conclude(broker, &started, None, &mut interrupts, now).await? {
            Some(finished) => sign_in::conclude(broker, finished).await,
            None => Ok(()),
        };
    };
    let port = listener.port();
    let mut waiting = listener.wait(link);
    let is_opened = !no_browser && browser::is_here() && browser::open(waiting.entrance()).is_ok();
    print_notice(&instructions(&started, is_opened, port, now));
    print_result(&format!("{link}\n"))?;
    let result = wait_and_conclude(broker, &started, Some(&mut waiting), &mut interrupts, now).await;
    waiting.end().await;
    match result? {
        // The page has gone out, so the question may take its time.
        Some(finished) => sign_in::conclude(broker, finished).await,
        None => Ok(()),
    }
}

/// Binds the listener. Returns `None` where a paste is the only way.
async fn listener_on(
    redirect_uri: &str,
    any_port: bool,
    tenant: &Tenant,
) -> Result<Option<Listener>, Failure> {
    let by_paste = format!(
        "`threadkey auth start {}{}` signs you in by a paste instead",
        tenant.provider,
        as_option(tenant.principal)
    );
    match Listener::bind(redirect_uri, any_port).await {
        Ok(listener) => Ok(Some(listener)),
        Err(NoListener::Elsewhere) => Ok(None),
        Err(NoListener::Taken(port)) => Err(Failure::new(
            Exit::Usage,
            format!(
                "port {port} of this machine, to which {} sends the browser back, is in use: end the program that listens there \
                 (another `threadkey login`?), and try again. {by_paste}",
                tenant.provider
            ),
        )),
        Err(NoListener::Failed(port, error)) => Err(Failure::new(
            Exit::Usage,
            format!("threadkey cannot listen on port {port} of this machine: {error}. {by_paste}"),
        )),
    }
}

fn instructions(started: &SignIn, is_opened: bool, port: u16, now: UnixTime) -> String {
    let left = left_in_words(started.expires_at, now);
    let resumed = if started.resumed { "This sign-in is already under way. " } else { "" };
    let open = if is_opened {
        format!("Your browser opens the sign-in. If it does not, open this link within {left}.")
    } else {
        format!("Open this link in a browser on this machine within {left}.")
    };
    let elsewhere = if stdin_is_terminal() {
        "A browser on another machine (over SSH) ends on a page that does not load: paste its whole address here".to_owned()
    } else {
        format!(
            "A browser on another machine finds its way back through `ssh -N -L {port}:127.0.0.1:{port} HOST`"
        )
    };
    format!("{resumed}{open} This command ends by itself after the sign-in; Ctrl-C cancels it. {elsewhere}.")
}

/// Waits for an event and acts on it, until the sign-in is over. Returns the finished sign-in, unless it
/// was reported already.
async fn wait_and_conclude(
    broker: &Broker,
    started: &SignIn,
    mut waiting: Option<&mut Waiting>,
    interrupts: &mut Interrupts,
    now: UnixTime,
) -> Result<Option<Finished>, Failure> {
    loop {
        let event = wait(broker, started, waiting.as_deref_mut(), interrupts, now).await;
        match conclude_unless_interrupted(broker, started, event, interrupts).await? {
            Conclusion::Finished(finished) => return Ok(Some(finished)),
            Conclusion::Reported => return Ok(None),
            Conclusion::WrongPaste(problem) => print_notice(&problem),
        }
    }
}

/// Waits for the first event.
async fn wait(
    broker: &Broker,
    started: &SignIn,
    waiting: Option<&mut Waiting>,
    interrupts: &mut Interrupts,
    now: UnixTime,
) -> Result<Event, Failure> {
    let principal = started.tenant.principal;
    let awaited = broker.expects_code(principal, Some(&started.tenant.provider)).await?;
    let question = match waiting {
        Some(_) => {
            "If the browser does not come back by itself, paste the address of its last page, or the code:"
        }
        None => "Paste the code, or the whole address of the page that you ended on:",
    };
    let answer = async {
        match waiting {
            Some(waiting) => waiting.answer().await,
            None => None,
        }
    };
    tokio::select! {
        biased;
        Some(answer) = answer => Ok(Event::Answered(answer)),
        () = interrupts.next() => Ok(Event::Interrupted),
        event = at_terminal(question, &awaited) => event,
        ended = ended_elsewhere(broker, started, now) => Ok(Event::Ended(ended?)),
    }
}

/// Waits for a paste. Does not return without a terminal.
async fn at_terminal(question: &str, awaited: &AwaitedAnswers) -> Result<Event, Failure> {
    if !stdin_is_terminal() {
        return std::future::pending().await;
    }
    let paste = prompt::ask_unless_interrupted(question, Echo::Length, |text| awaited.include(text)).await?;
    Ok(paste.map_or(Event::Interrupted, Event::Pasted))
}

/// Waits until another process has finished or dropped the sign-in, or its time is over.
async fn ended_elsewhere(broker: &Broker, started: &SignIn, now: UnixTime) -> Result<News, Failure> {
    let mut changes = broker.changes();
    let left = started.expires_at.saturating_sub(now).max(0).unsigned_abs();
    let mut over = std::pin::pin!(sleep(Duration::from_secs(left)));
    let mut shown = started.shown.clone();
    loop {
        let progress = broker.sign_in_progress(&shown).await?;
        match (progress.news, progress.next) {
            (Some(news), _) => return Ok(news),
            (None, Some(next)) => shown = next,
            (None, None) => return Ok(News::Gone),
        }
        tokio::select! {
            () = changes.next() => {}
            () = &mut over => return Ok(News::Expired(started.shown.open_for())),
        }
    }
}

/// Acts on the event, and cancels the sign-in if the user interrupts that.
async fn conclude_unless_interrupted(
    broker: &Broker,
    started: &SignIn,
    event: Result<Event, Failure>,
    interrupts: &mut Interrupts,
) -> Result<Conclusion, Failure> {
    let Tenant { provider, principal } = &started.tenant;
    let mut concluded = Box::pin(conclude(broker, started, event));
    tokio::select! {
        biased;
        result = &mut concluded => return result,
        () = interrupts.next() => {}
    }
    if broker.cancel(*principal, Some(provider)).await?.is_empty() {
        // It has just ended.
        return concluded.await;
    }
    // The browser reads that the sign-in has ended.
    drop(concluded);
    print_notice(&format!(
        "The sign-in for {} is cancelled. {provider} may still grant it: threadkey waits for its answer, to revoke that grant. Ctrl-C \
         again ends this command at once.",
        started.tenant
    ));
    tokio::select! {
        () = broker.drained() => {}
        () = interrupts.next() => std::process::exit(Exit::Usage as i32),
    }
    Err(Failure::new(Exit::Usage, format!("interrupted: the sign-in for {} is cancelled", started.tenant)))
}

/// Acts on the event.
async fn conclude(
    broker: &Broker,
    started: &SignIn,
    event: Result<Event, Failure>,
) -> Result<Conclusion, Failure> {
    let Tenant { provider, principal } = &started.tenant;
    let over =
        |text: &str| Err(Failure::new(Exit::NoSession, format!("the sign-in for {} {text}", started.tenant)));
    match event? {
        Event::Answered(answer) => answered(broker, &started.tenant, answer).await.map(Conclusion::Finished),
        Event::Pasted(paste) => {
            let finished = match Pasted::parse(paste.expose()) {
                Ok(pasted) => broker.finish(*principal, Some(provider), pasted).await,
                Err(error) => Err(error.into()),
            };
            let asks_again = finished.as_ref().is_err_and(is_wrong_paste);
            match finished.map_err(|error| sign_in::explained(error, broker)) {
                Ok(finished) => Ok(Conclusion::Finished(finished)),
                Err(failure) if asks_again => Ok(Conclusion::WrongPaste(failure.text)),
                Err(failure) => Err(failure),
            }
        }
        Event::Interrupted => {
            broker.cancel(*principal, Some(provider)).await?;
            Err(Failure::new(
                Exit::Usage,
                format!("interrupted: the sign-in for {} is cancelled", started.tenant),
            ))
        }
        Event::Ended(News::SignedIn(signed_in)) => {
            print_notice(&signed_in_text(&signed_in));
            Ok(Conclusion::Reported)
        }
        Event::Ended(News::Undecided(undecided)) => Ok(Conclusion::Finished(Finished::Undecided(undecided))),
        Event::Ended(News::Cancelled) => over("was cancelled"),
        Event::Ended(News::Replaced) => over("was replaced by a newer one"),
        Event::Ended(News::LoggedOut) => over("was dropped by a logout"),
        Event::Ended(_) => over("has expired: start it again"),
    }
}

/// Exchanges the code of the browser's answer, and shows the result in the browser.
async fn answered(broker: &Broker, tenant: &Tenant, answer: Answer) -> Result<Finished, Failure> {
    let finished = match Pasted::parse(&answer.address) {
        Ok(pasted) => broker.finish(tenant.principal, Some(&tenant.provider), pasted).await,
        Err(error) => Err(error.into()),
    };
    let (page, result) = match finished {
        Ok(finished) => (page_of(&finished), Ok(finished)),
        Err(error) => {
            if is_refused(&error) {
                broker.cancel(tenant.principal, Some(&tenant.provider)).await?;
            }
            (Page::failed(sentence(&error.to_string())), Err(sign_in::explained(error, broker)))
        }
    };
    // A browser that has gone does not matter.
    let _ = answer.page.send(page);
    result
}

/// Whether the user or the provider has refused the sign-in, so that its link is of no more use.
fn is_refused(error: &FinishError) -> bool {
    matches!(error, FinishError::Paste(PasteError::Denied { .. }) | FinishError::RequestRefused { .. })
}

/// Whether the sign-in is still open, and the user can paste something else.
fn is_wrong_paste(error: &FinishError) -> bool {
    match error {
        FinishError::Paste(problem) => !matches!(problem, PasteError::Denied { .. }),
        FinishError::StateMismatch
        | FinishError::StateNeeded(_)
        | FinishError::IssuerMismatch { .. }
        | FinishError::IssuerMissing(_)
        | FinishError::CodeSpent(_)
        | FinishError::Refused { .. }
        | FinishError::Unreachable { .. } => true,
        _ => false,
    }
}

fn page_of(finished: &Finished) -> Page {
    match finished {
        Finished::SignedIn(signed_in) => {
            Page::done(format!("{} You can close this page.", signed_in_text(signed_in)))
        }
        Finished::Undecided(undecided) => Page::choose(format!(
            "You have signed in as {}, and {} is signed in as {}. Choose in the terminal which account is used.",
            undecided.account.as_deref().unwrap_or("an unnamed account"),
            undecided.tenant.provider,
            undecided.current.as_deref().unwrap_or("another account"),
        )),
    }
}

/// Makes a sentence of an error's text.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_redirect_uri_on_loopback_with_a_users_port_has_a_listener() {
        for elsewhere in [
            "https://platform.claude.com/oauth/code/callback",
            "https://127.0.0.1:28471/callback",
            "http://127.0.0.1:1/callback",
            "http://localhost/callback",
        ] {
            assert!(
                matches!(Listener::bind(elsewhere, false).await, Err(NoListener::Elsewhere)),
                "{elsewhere}"
            );
        }
        let free = Listener::bind("http://127.0.0.1:1/callback", true).await.expect("any port is fine");
        let expected = format!("http://127.0.0.1:{}/callback", free.port());
        assert_eq!(free.redirect_uri().as_str(), expected);
        assert!(
            matches!(Listener::bind(&expected, false).await, Err(NoListener::Taken(port)) if port == free.port())
        );
    }
}
