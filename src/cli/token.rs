//! `threadkey token`: reads the store, and leaves a refresh to a detached process
//! ([`detached_refresh`]).
//!
//! - The death of this process, or of its whole process group, loses no token. This process only
//!   reads. The refresh runs in a session of its own and ends in the store, with or without a
//!   caller.
//! - Several such processes meet at the tenant's lock. One that finds the lock held waits itself,
//!   and starts no process if the session that was committed meanwhile has a fresh token.
//! - Secrets go through pipes, never through arguments.

use std::{path::Path, time::Duration};

use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::{
    Exit, Failure, TokenArgs,
    args::{Format, RejectedFrom},
    cause::explained,
    detached_refresh::{self, RefreshReply, RefreshRequest, exit_from_code, read_reply},
    git_credential::{self, GitHost, GitOperation},
    lease::format_lease,
    print_notice, print_result,
    prompt::{self, Echo},
    read_input, stdin_is_terminal,
};
use crate::{
    broker::{CALLER_WAIT, Lease, Probing, StoredToken, TokenError, TokenPolicy, probe_lease, probed_token},
    ids::Tenant,
    oauth::{Client, Probed, Providers},
    secret::{AccessToken, Secret},
    session::{Change, Entry, Session, Wish},
    store::{Purpose, Store},
    sys::clock::Clock,
};

/// The parts of the program that `threadkey token` uses.
pub struct TokenContext<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// The providers.
    pub providers: &'a Providers,
    /// The clock.
    pub clock: &'a Clock,
    /// The absolute path of the configuration file: the detached process reads it again.
    pub config: &'a Path,
}

/// Reads the token of `--rejected -` from standard input.
///
/// # Errors
/// When the token cannot be read, is empty, or stands in the arguments.
pub async fn rejected_from_stdin(args: &TokenArgs) -> Result<Option<AccessToken>, Failure> {
    match args.rejected {
        None => return Ok(None),
        Some(RejectedFrom::Stdin) => {}
        Some(RejectedFrom::Arguments) => {
            let text = "write `--rejected -` and pass the token on standard input: other processes can read arguments";
            return Err(Failure::new(Exit::Usage, text));
        }
    }
    let token = if stdin_is_terminal() {
        let token =
            prompt::ask("The rejected access token:", Echo::Length, |token| !token.trim().is_empty()).await?;
        // A terminal wraps a long token. A token contains no white space (RFC 6750 §2.1).
        Secret::new(token.expose().split_whitespace().collect::<String>())
    } else {
        read_input()?
    };
    if token.is_empty() {
        return Err(Failure::new(Exit::Usage, "--rejected -: there was no token on standard input"));
    }
    Ok(Some(token.into()))
}

/// The task of one call: the token that it reports, and the form of its result.
pub struct Job {
    /// The token that the caller reports as rejected.
    pub rejected: Option<AccessToken>,
    /// The form of the result.
    pub output: Output,
}

/// The form of a result.
pub enum Output {
    /// That of the arguments.
    Formatted,
    /// A password for git, with this user name.
    GitPassword(String),
    /// None.
    Nothing,
}

/// Determines the task from the arguments, and for git from standard input. `None` if there is nothing to
/// do, because git asks for another host, or stores a password.
///
/// # Errors
/// When the arguments or the input are wrong.
pub fn job(
    args: &TokenArgs,
    rejected: Option<AccessToken>,
    hosts: impl FnOnce() -> Vec<GitHost>,
) -> Result<Option<Job>, Failure> {
    if args.format != Format::GitCredential {
        return Ok(Some(Job { rejected, output: Output::Formatted }));
    }
    Ok(git_credential::operation(args, &hosts())?.map(|operation| match operation {
        GitOperation::Get { username } => Job { rejected: None, output: Output::GitPassword(username) },
        GitOperation::Erase { rejected } => Job { rejected: Some(rejected), output: Output::Nothing },
    }))
}

/// Prints the token of a stored session if it is fresh, no refresh is due, and its use needs no
/// record. Otherwise returns `false`, and [`run`] gets the token.
///
/// # Errors
/// When the token does not fit the format, or cannot be written.
pub fn print_if_fresh(
    context: &TokenContext<'_>,
    tenant: &Tenant,
    session: Session,
    args: &TokenArgs,
    output: &Output,
) -> Result<bool, Failure> {
    let Some(policy) = policy(context, tenant, args.min_ttl()) else { return Ok(false) };
    if session.unused_since.is_some() || context.providers.environment_token(tenant).is_some() {
        return Ok(false);
    }
    let entry = Entry { session: Some(session), ..Entry::default() };
    match StoredToken::new(tenant, &entry, &policy, context.clock.now()) {
        StoredToken::Fresh(lease) => print(&lease, args, output).map(|()| true),
        _ => Ok(false),
    }
}

/// Returns the policy for the tenant's provider. A fresh token needs no endpoint, so the provider's
/// need not be known. `None` for a provider that is not configured.
fn policy(context: &TokenContext<'_>, tenant: &Tenant, min_ttl: Duration) -> Option<TokenPolicy> {
    let wish = Wish::living(min_ttl);
    match context.providers.undiscovered(&tenant.provider) {
        Some(undiscovered) => Some(TokenPolicy::of_undiscovered(&undiscovered, wish)),
        None => Some(TokenPolicy::new(&*context.providers.get(&tenant.provider)?, wish)),
    }
}

/// Gets a token and prints it.
///
/// # Errors
/// The text to print and the exit code. After 30 s this is [`Exit::Later`], and the refresh goes
/// on.
pub async fn run(
    context: &TokenContext<'_>,
    tenant: &Tenant,
    args: &TokenArgs,
    job: Job,
) -> Result<(), Failure> {
    let lease = match job.rejected {
        None if args.probe => probed_token(&OfStore::new(context, tenant, args.min_ttl())?).await?,
        rejected => get(context, tenant, args.min_ttl(), rejected).await?,
    };
    print(&lease, args, &job.output)
}

/// Prints a token in the format of the arguments. A token that lives shorter than the arguments ask
/// for is printed with a warning, because no longer one can be had.
///
/// # Errors
/// When the token does not fit the format, or cannot be written.
pub fn print(lease: &Lease, args: &TokenArgs, output: &Output) -> Result<(), Failure> {
    let text = match output {
        Output::Nothing => return Ok(()),
        Output::GitPassword(username) => git_credential::answer(lease, username)?,
        Output::Formatted => format_lease(lease, args.format)?,
    };
    let text = Zeroizing::new(text);
    if let Some(wanted) = args.min_ttl.filter(|wanted| lease.expires_in < *wanted) {
        print_notice(&format!(
            "threadkey: warning: this token of {} lives for {} s more, and --min-ttl asks for {} s. At most half of a token's lifetime counts",
            lease.tenant,
            lease.expires_in.as_secs(),
            wanted.as_secs()
        ));
    }
    print_result(&text)
}

/// Gets a token, another one than `rejected`.
pub(super) async fn get(
    context: &TokenContext<'_>,
    tenant: &Tenant,
    min_ttl: Duration,
    rejected: Option<AccessToken>,
) -> Result<Lease, Failure> {
    let deadline = Instant::now() + CALLER_WAIT;
    if context.providers.exchange(&tenant.provider).is_some() {
        // The session of another provider may need a refresh first, which must outlive this process.
        let rejected = rejected.map(|token| token.expose().to_owned());
        return by_detached(context, tenant, min_ttl, RefreshRequest { rejected }, deadline).await;
    }
    if let Some(token) = context.providers.environment_token(tenant) {
        return Ok(Lease::from_environment(tenant, &token, rejected.as_ref(), context.clock.now())?);
    }
    let Some(policy) = policy(context, tenant, min_ttl) else {
        return Err(TokenError::UnknownProvider(tenant.provider.clone()).into());
    };
    // The detached process discovers the endpoints if they are not known.
    let provider = context.providers.get(&tenant.provider);
    let explained = |error: TokenError| match &provider {
        Some(provider) => explained(error, provider, None),
        None => error.into(),
    };
    let entry = context.store.read(tenant).await?;
    let request = RefreshRequest { rejected: reported(&entry, rejected.as_ref()) };
    if request.rejected.is_none() {
        match StoredToken::new(tenant, &entry, &policy, context.clock.now()) {
            StoredToken::Fresh(lease) => {
                note_use(context, tenant, &entry).await;
                return Ok(lease);
            }
            StoredToken::RefreshDue(lease) => {
                note_use(context, tenant, &entry).await;
                refresh_in_background(context, tenant, min_ttl).await;
                return Ok(lease);
            }
            StoredToken::Refused { error, .. } => {
                end_if_exhausted(context, tenant, &entry).await;
                return Err(explained(error));
            }
            StoredToken::Refresh | StoredToken::RecoverSignIn => {}
        }
        // Another process may refresh already. This process can wait for it: its death loses
        // nothing.
        match timeout_at(deadline, context.store.wait_unlocked(tenant)).await {
            Ok(unlocked) => unlocked?,
            Err(_) => return Err(still_in_progress(context, tenant).await.into()),
        }
        let entry = context.store.read(tenant).await?;
        match StoredToken::new(tenant, &entry, &policy, context.clock.now()) {
            StoredToken::Fresh(lease) | StoredToken::RefreshDue(lease) => return Ok(lease),
            StoredToken::Refused { error, .. } => return Err(explained(error)),
            StoredToken::Refresh | StoredToken::RecoverSignIn => {}
        }
    }
    by_detached(context, tenant, min_ttl, request, deadline).await
}

/// The steps of [`probed_token`] without a broker.
struct OfStore<'a> {
    context: &'a TokenContext<'a>,
    tenant: &'a Tenant,
    min_ttl: Duration,
    client: Client,
}

impl<'a> OfStore<'a> {
    fn new(context: &'a TokenContext<'a>, tenant: &'a Tenant, min_ttl: Duration) -> Result<Self, Failure> {
        Ok(Self { context, tenant, min_ttl, client: Client::new(context.clock.clone())? })
    }
}

impl Probing for OfStore<'_> {
    type Error = Failure;

    async fn token(&self) -> Result<Lease, Failure> {
        get(self.context, self.tenant, self.min_ttl, None).await
    }

    async fn another(&self, rejected: &AccessToken) -> Result<Lease, Failure> {
        get(self.context, self.tenant, self.min_ttl, Some(rejected.clone())).await
    }

    async fn living(&self) -> Option<Lease> {
        let providers = self.context.providers;
        let is_stored = providers.exchange(&self.tenant.provider).is_none()
            && providers.environment_token(self.tenant).is_none();
        if !is_stored {
            return None;
        }
        let session = self.context.store.read(self.tenant).await.ok()?.session?;
        Lease::of_living(self.tenant, &session, self.context.clock.now())
    }

    async fn probe(&self, lease: &Lease) -> Probed {
        let TokenContext { store, providers, clock, .. } = self.context;
        probe_lease(*store, providers, &self.client, lease, clock.now()).await
    }

    fn warn(&self, failure: &Failure) {
        print_notice(&format!(
            "threadkey: warning: the stored token of {} is printed, because no newer one can be had now: {failure}",
            self.tenant
        ));
    }
}

/// Gets a token from the detached process.
async fn by_detached(
    context: &TokenContext<'_>,
    tenant: &Tenant,
    min_ttl: Duration,
    request: RefreshRequest,
    deadline: Instant,
) -> Result<Lease, Failure> {
    let reply = detached_refresh::start(context.config, tenant, min_ttl, &request).map_err(|error| {
        Failure::new(
            Exit::Internal,
            format!("the process that refreshes {tenant} cannot be started: {error}"),
        )
    })?;
    match timeout_at(deadline, read_reply(reply)).await {
        Err(_) => Err(still_in_progress(context, tenant).await.into()),
        Ok(Some(RefreshReply::Failed { exit, text })) => Err(Failure::new(exit_from_code(exit), text)),
        Ok(Some(RefreshReply::Token(token))) => token.try_into().map_err(|_| no_result(tenant)),
        Ok(None) => Err(no_result(tenant)),
    }
}

/// Records the first use of a login that was kept alive without one. The caller gets its token in
/// any case.
async fn note_use(context: &TokenContext<'_>, tenant: &Tenant, entry: &Entry) {
    let Some(session) = entry.session.as_ref().filter(|session| session.unused_since.is_some()) else {
        return;
    };
    if let Err(error) = context.store.change(tenant, Change::HandedOut(session.lineage)).await {
        tracing::warn!(%tenant, %error, "the use of a login could not be recorded");
    }
}

/// Records the end of a session that only a new sign-in can replace, so that the bot notifies its
/// user. The caller gets its error in any case.
async fn end_if_exhausted(context: &TokenContext<'_>, tenant: &Tenant, entry: &Entry) {
    let now = context.clock.now();
    let is_new = |session: &&Session| session.is_exhausted(now) && session.ended.is_none();
    let Some(session) = entry.session.as_ref().filter(is_new) else { return };
    if let Err(error) = context.store.change(tenant, Change::Exhausted(session.lineage)).await {
        tracing::warn!(%tenant, %error, "the end of a session could not be recorded");
    }
}

async fn still_in_progress(context: &TokenContext<'_>, tenant: &Tenant) -> TokenError {
    TokenError::still_in_progress(tenant, context.store.lock_holder(tenant, Purpose::Refresh).await)
}

fn no_result(tenant: &Tenant) -> Failure {
    let text = format!(
        "the process that refreshed {tenant} ended without a result. Its journal has the state of the refresh: try again"
    );
    Failure::new(Exit::Later, text)
}

/// Returns the rejected token if it is the stored one. If the stored token differs, that one is used
/// instead.
fn reported(entry: &Entry, rejected: Option<&AccessToken>) -> Option<String> {
    let session = entry.session.as_ref()?;
    Some(rejected.filter(|token| session.access_token == **token)?.expose().to_owned())
}

/// Starts the refresh that is due before the token expires, unless another process holds the lock.
/// The caller has its token already, so an error is only logged.
async fn refresh_in_background(context: &TokenContext<'_>, tenant: &Tenant, min_ttl: Duration) {
    match context.store.try_lock(tenant, Purpose::Refresh).await {
        Ok(Some(lock)) => drop(lock),
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%tenant, %error, "no background refresh, because its result could not be saved");
            return;
        }
    }
    if let Err(error) = detached_refresh::start(context.config, tenant, min_ttl, &RefreshRequest::default()) {
        tracing::warn!(%tenant, %error, "the background refresh could not be started");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::test_session;

    #[test]
    fn only_the_stored_token_is_reported_as_rejected() {
        let entry = Entry { session: Some(test_session(1_795_358_672, 3600)), ..Entry::default() };
        let current = AccessToken::new("access-7");
        assert_eq!(reported(&entry, Some(&current)).as_deref(), Some("access-7"));
        assert_eq!(reported(&entry, Some(&AccessToken::new("access-6"))), None);
        assert_eq!(reported(&entry, None), None);
    }
}
