//! `threadkey token`: reads, and where a refresh is needed leaves it to a detached process.
//!
//! Whoever kills this process, or its whole group, kills a reader: the refresh is in a session of its own, and ends in the
//! store whether or not somebody still waits. Several such processes meet at the tenant's lock. The secret parts go
//! through pipes, never through arguments. Who finds the lock held waits for it itself, and starts no process if what was committed
//! meanwhile serves.

use std::{ffi::OsString, os::fd::OwnedFd, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::unix::pipe,
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    Exit, Failure, RefreshArgs, TokenArgs,
    args::{Format, RejectedFrom},
    choice,
    lease::{TokenDto, formatted},
    read_line, write_out,
};
use crate::{
    broker::{Broker, CALLER_WAIT, Lease, StoredToken, TokenError, TokenPolicy},
    ids::Tenant,
    oauth::Providers,
    secret::AccessToken,
    session::{Entry, Session},
    store::{Purpose, Store, StoreError},
    sys::{clock::Clock, detach},
};

/// The longest line that comes back from the detached process, in bytes.
const MAX_RESULT: u64 = 512 * 1024;

/// What `token` works on.
pub struct Desk<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The providers.
    pub providers: &'a Providers,
    /// The time.
    pub clock: &'a Clock,
    /// The configuration file, as an absolute path: the detached process reads it again.
    pub config: &'a Path,
}

/// What the detached process is told on its standard input.
#[derive(Default, Serialize, Deserialize)]
struct Order {
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<String>,
}

/// What it says on its standard output, in one line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Token(TokenDto),
    Failed { exit: u8, text: String },
}

/// The token that `--rejected -` reads.
///
/// # Errors
/// When it cannot be read, or there is none.
pub fn rejected_from_stdin(args: &TokenArgs) -> Result<Option<AccessToken>, Failure> {
    match args.rejected {
        None => return Ok(None),
        Some(RejectedFrom::Stdin) => {}
        Some(RejectedFrom::Arguments) => {
            let text = "write `--rejected -` and give the token on the standard input: other processes can see arguments";
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    let token = read_line("The rejected access token:")?;
    if token.is_empty() {
        return Err(Failure::new(Exit::Usage, "--rejected -: there was no token on the standard input"));
    }
    Ok(Some(token.into()))
}

/// The session serves and nothing is due: prints its token. `false` when [`run`] has to see to it.
///
/// # Errors
/// When the token does not fit the format, or cannot be written.
pub fn served_at_once(desk: &Desk<'_>, session: Session, args: &TokenArgs) -> Result<bool, Failure> {
    let tenant = args.tenant();
    let Some(provider) = desk.providers.get(&tenant.provider) else { return Ok(false) };
    let entry = Entry { session: Some(session), ..Entry::default() };
    let policy = TokenPolicy::new(provider, args.min_ttl);
    match StoredToken::new(&tenant, &entry, policy, desk.clock.now()) {
        StoredToken::Fresh(lease) => print(&lease, args.format).map(|()| true),
        _ => Ok(false),
    }
}

/// Gets a token and prints it.
///
/// # Errors
/// The sentence and the code to end with; after 30 s [`Exit::Later`], while the refresh goes on.
pub async fn run(desk: &Desk<'_>, args: &TokenArgs, rejected: Option<AccessToken>) -> Result<(), Failure> {
    let tenant = args.tenant();
    print(&get(desk, &tenant, args.min_ttl, rejected).await?, args.format)
}

/// Prints a token in the format that was asked for.
///
/// # Errors
/// When it does not fit the format, or cannot be written.
pub fn print(lease: &Lease, format: Format) -> Result<(), Failure> {
    write_out(&Zeroizing::new(formatted(lease, format)?))
}

async fn get(
    desk: &Desk<'_>,
    tenant: &Tenant,
    min_ttl: Duration,
    rejected: Option<AccessToken>,
) -> Result<Lease, Failure> {
    let Some(provider) = desk.providers.get(&tenant.provider) else {
        return Err(TokenError::UnknownProvider(tenant.provider.clone()).into());
    };
    let deadline = Instant::now() + CALLER_WAIT;
    let policy = TokenPolicy::new(provider, min_ttl);
    let entry = desk.store.read(tenant).await?;
    let order = Order { rejected: newly_rejected(&entry, rejected.as_ref()) };
    if order.rejected.is_none() {
        match StoredToken::new(tenant, &entry, policy, desk.clock.now()) {
            StoredToken::Fresh(lease) => return Ok(lease),
            StoredToken::RefreshDue(lease) => {
                refresh_in_background(desk, tenant, min_ttl).await;
                return Ok(lease);
            }
            StoredToken::Refused { error, .. } => return Err(error.into()),
            StoredToken::Refresh | StoredToken::RecoverSignIn => {}
        }
        // Somebody may be at it. Who only waits needs no process of its own for that: there is nothing to lose by its death.
        let free = timeout_at(deadline, desk.store.wait_unlocked(tenant)).await;
        free.map_err(|_| TokenError::InProgress(tenant.clone()))??;
        let entry = desk.store.read(tenant).await?;
        match StoredToken::new(tenant, &entry, policy, desk.clock.now()) {
            StoredToken::Fresh(lease) | StoredToken::RefreshDue(lease) => return Ok(lease),
            StoredToken::Refused { error, .. } => return Err(error.into()),
            StoredToken::Refresh | StoredToken::RecoverSignIn => {}
        }
    }
    let result = detach(desk.config, tenant, min_ttl, &order).map_err(|error| {
        Failure::new(
            Exit::Internal,
            format!("the process that refreshes {tenant} cannot be started: {error}"),
        )
    })?;
    match timeout_at(deadline, told(result)).await {
        Err(_) => Err(TokenError::InProgress(tenant.clone()).into()),
        Ok(Some(Told::Failed { exit, text })) => Err(Failure::new(exit_from(exit), text)),
        Ok(Some(Told::Token(token))) => token.into_lease().ok_or_else(|| ended_without_result(tenant)),
        Ok(None) => Err(ended_without_result(tenant)),
    }
}

fn ended_without_result(tenant: &Tenant) -> Failure {
    let text = format!(
        "the process that refreshed {tenant} ended without a result; its journal keeps what was under way: ask again"
    );
    Failure::new(Exit::Later, text)
}

/// The rejected token, if it is the current one and that is news. A stored one that differs is simply taken instead.
fn newly_rejected(entry: &Entry, rejected: Option<&AccessToken>) -> Option<String> {
    let session = entry.session.as_ref()?;
    let news = rejected.filter(|token| session.access_token == **token && !session.is_rejected())?;
    Some(news.expose().to_owned())
}

/// Starts the refresh that is due before the token ends, unless somebody is at it. This one is served in any case, so
/// nothing here is an error for the caller.
async fn refresh_in_background(desk: &Desk<'_>, tenant: &Tenant, min_ttl: Duration) {
    match desk.store.try_lock(tenant, Purpose::Refresh).await {
        Ok(Some(free)) => drop(free),
        Ok(None) => return,
        Err(error) => return note(tenant, &error),
    }
    if let Err(error) = detach(desk.config, tenant, min_ttl, &Order::default()) {
        tracing::warn!(%tenant, %error, "the background refresh could not be started");
    }
}

fn note(tenant: &Tenant, error: &StoreError) {
    tracing::warn!(%tenant, %error, "no background refresh: nothing is spent where nothing can be saved");
}

fn detach(config: &Path, tenant: &Tenant, min_ttl: Duration, order: &Order) -> std::io::Result<OwnedFd> {
    let mut input = Zeroizing::new(serde_json::to_vec(order)?);
    input.push(b'\n');
    let arguments: [OsString; 7] = [
        "--config".into(),
        config.into(),
        "__refresh".into(),
        "--tenant".into(),
        tenant.to_string().into(),
        "--min-ttl".into(),
        min_ttl.as_secs().to_string().into(),
    ];
    detach::spawn(&arguments, &input)
}

async fn told(result: OwnedFd) -> Option<Told> {
    let pipe = pipe::Receiver::from_owned_fd(result).ok()?;
    let mut line = Zeroizing::new(Vec::new());
    BufReader::new(pipe.take(MAX_RESULT)).read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

fn exit_from(code: u8) -> Exit {
    [Exit::Usage, Exit::NoSession, Exit::Ended, Exit::Later, Exit::Store]
        .into_iter()
        .find(|exit| *exit as u8 == code)
        .unwrap_or(Exit::Internal)
}

// === the detached process ===

/// The detached process: asks for the token, and tells the result on the standard output, where perhaps nobody listens any
/// more. What is under way then has still to be waited for.
pub async fn refresh(broker: &Broker, args: &RefreshArgs) {
    // Before the sweep of the commit, which revokes nothing.
    choice::expire(broker).await;
    let result = match order() {
        Ok(Order { rejected: Some(token) }) => broker.rejected(&args.tenant, &AccessToken::new(token)).await,
        // Not before the caller: the decision to refresh at three quarters of the life is the broker's own.
        Ok(Order { rejected: None }) => broker.token(&args.tenant, Duration::from_secs(args.min_ttl)).await,
        Err(failure) => return refresh_failed(&failure),
    };
    match result {
        Ok(lease) => tell(&Told::Token(TokenDto::from(&lease))),
        Err(error) => refresh_failed(&error.into()),
    }
}

/// Tells the caller of the detached process that it could not even begin.
pub fn refresh_failed(failure: &Failure) {
    tell(&Told::Failed { exit: failure.exit as u8, text: failure.text.clone() });
}

fn tell(told: &Told) {
    if let Ok(mut line) = serde_json::to_string(told).map(Zeroizing::new) {
        line.push('\n');
        // A caller that is gone is no reason to stop: what counts is in the store.
        let _ = write_out(&line);
    }
}

fn order() -> Result<Order, Failure> {
    let input = read_line("")?;
    serde_json::from_str(input.expose()).map_err(|_| {
        Failure::new(
            Exit::Internal,
            "the refresh process got no order: it is not meant to be started by hand",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::test_session;

    #[test]
    fn only_the_current_token_is_reported_as_rejected_and_only_once() {
        let mut entry = Entry { session: Some(test_session(1_795_358_672, 3600)), ..Entry::default() };
        let current = AccessToken::new("access-7");
        assert_eq!(newly_rejected(&entry, Some(&current)).as_deref(), Some("access-7"));
        assert_eq!(newly_rejected(&entry, Some(&AccessToken::new("access-6"))), None);
        assert_eq!(newly_rejected(&entry, None), None);
        if let Some(session) = &mut entry.session {
            session.rejected =
                Some(crate::session::Rejected { fingerprint: current.fingerprint(), at: 1_795_358_672 });
        }
        assert_eq!(newly_rejected(&entry, Some(&current)), None);
    }

    #[test]
    fn every_exit_code_survives_the_way_through_the_pipe() {
        for exit in [Exit::Internal, Exit::Usage, Exit::NoSession, Exit::Ended, Exit::Later, Exit::Store] {
            assert_eq!(exit_from(exit as u8), exit);
        }
    }
}
