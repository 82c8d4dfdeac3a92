//! One program: a newly opened store on the machine's disk, and the broker on it.

use std::{
    future::Future,
    sync::{Arc, LazyLock},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use threadkey::{
    broker::{Broker, Event, FinishError, LogoutError, Revocation, StartError, TokenError},
    ids::{Lineage, Principal, Tenant},
    oauth::{Attempt, Client, Pasted, Provider, ProviderSettings, Providers, ScriptedProvider},
    secret::{AccessToken, CodeVerifier, RefreshToken, State},
    session::{Applied, Change, Entry, Grant, Pending, Session, Settlement, journal::Answer},
    store::{FileStore, FileStoreOptions, Purpose, Store as _},
    sys::clock::Clock,
};
use tokio::runtime::Runtime;

use super::{
    LIFETIME, NOW, PATH,
    faults::Sabotage,
    machine::{Machine, Process},
    walk::Violation,
    world::Shared,
};

/// A step of a user, or of a process that needs a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Starts a sign-in, or gets its link again, and pastes the code of that link.
    SignIn,
    Start,
    /// Pastes the last code once more, or a code of the open link.
    Code,
    Cancel,
    Token,
    Logout,
}

pub(super) struct Program {
    pub(super) process: Process,
    store: FileStore,
    broker: Broker,
    world: Shared,
    runtime: Option<Runtime>,
}

/// The result of a call for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenResult {
    Leased(u64),
    NoSession,
    Ended,
    Later,
}

/// Shared by all programs: creating it reads the system's certificates.
static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::new(Clock::fixed(NOW)).expect("TLS can be set up"));

static PROVIDERS: LazyLock<Providers> = LazyLock::new(|| {
    let settings = ProviderSettings {
        authorization_endpoint: "https://id.example/authorize".into(),
        token_endpoint: "https://id.example/token".into(),
        client_id: "threadkey".into(),
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        enforces_pkce: true,
        ..ProviderSettings::default()
    };
    let id = "codex".parse().expect("a provider's id");
    Providers::new([Provider::new(id, settings).expect("a provider")])
});

// === impl Program ===

impl Program {
    pub(super) fn open(
        machine: &Machine,
        sabotage: Sabotage,
        world: &Shared,
        clock: &Clock,
    ) -> Result<Self, Violation> {
        let process = machine.start(sabotage);
        let disk = Arc::new(process.clone());
        let store = FileStore::on_disk(disk, PATH.as_ref(), clock.clone(), FileStoreOptions::default())
            .map_err(|error| format!("the next program cannot open the store: {error}"))?;
        let client = CLIENT.answered_by(provider(process.clone(), world.clone(), clock.clone()));
        let broker = Broker::new(Arc::new(store.clone()), PROVIDERS.clone(), client, clock.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = Some(runtime.map_err(|error| format!("no runtime: {error}"))?);
        Ok(Self { process, store, broker, world: world.clone(), runtime })
    }

    /// Takes this step, to its end or the program's.
    pub(super) fn run(&self, step: Step, tenant: &Tenant) -> Result<(), Violation> {
        self.block_on(self.alive(async {
            let done = match step {
                Step::Start => self.start(tenant).await,
                Step::SignIn => match self.start(tenant).await {
                    Ok(()) => self.finish(tenant, Paste::OfTheLink).await.map(drop),
                    failed => failed,
                },
                Step::Code => self.finish(tenant, Paste::Again).await.map(drop),
                Step::Cancel => self.cancel(tenant).await,
                Step::Token => self.token(tenant).await.map(drop),
                Step::Logout => self.logout(tenant).await,
            };
            self.broker.drained().await;
            done
        }))
    }

    /// Signs in with a new code. Returns whether that succeeded.
    pub(super) fn sign_in(&self, tenant: &Tenant) -> Result<bool, Violation> {
        self.block_on(self.alive(async {
            self.start(tenant).await?;
            self.finish(tenant, Paste::OfTheLink).await
        }))
    }

    /// Pastes the last code once more.
    pub(super) fn finish_again(&self, tenant: &Tenant) -> Result<bool, Violation> {
        self.block_on(self.alive(self.finish(tenant, Paste::Again)))
    }

    pub(super) fn request_token(&self, tenant: &Tenant) -> Result<TokenResult, Violation> {
        self.block_on(self.alive(self.token(tenant)))
    }

    pub(super) fn read(&self, tenant: &Tenant) -> Result<Entry, Violation> {
        let entry = self.block_on(self.store.read(tenant));
        entry.map_err(|error| format!("the file does not parse: {error}"))
    }

    /// Returns the changes of a sign-in or a logout, one after the other, made directly on the
    /// store.
    pub(super) fn changes(
        &self,
        step: Step,
        tenant: &Tenant,
    ) -> Vec<BoxFuture<'static, Result<(), Violation>>> {
        if step == Step::Logout {
            self.world.lock().logging_out(tenant);
            let world = self.world.clone();
            let of = tenant.clone();
            let changed = self.change(tenant, Change::Logout);
            return vec![changed.map(when_done(move || world.lock().logged_out(&of))).boxed()];
        }
        let number = self.world.lock().beginning(tenant);
        let state = State::new(format!("state-{number}"));
        let lineage = Lineage(u128::from(number).to_be_bytes());
        let binding = provider_of(tenant).binding();
        let session = Box::new(Session::begin(lineage, grant(number), binding, NOW));
        let started = Change::Start(pending(tenant, state.clone()));
        let (world, of) = (self.world.clone(), tenant.clone());
        let begun = self.finish_sign_in(tenant, state, session);
        vec![
            self.change(tenant, Change::Cancel(None)).map(|done| done.map(drop)).boxed(),
            self.change(tenant, started).map(|done| done.map(drop)).boxed(),
            begun.map(when_done(move || world.lock().begun(&of, number))).boxed(),
        ]
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is taken when this is dropped").block_on(future)
    }

    fn change(&self, tenant: &Tenant, change: Change) -> BoxFuture<'static, Result<Applied, Violation>> {
        let (store, tenant) = (self.store.clone(), tenant.clone());
        async move {
            store
                .change(&tenant, change)
                .await
                .map(|changed| changed.applied)
                .map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn finish_sign_in(
        &self,
        tenant: &Tenant,
        state: State,
        session: Box<Session>,
    ) -> BoxFuture<'static, Result<Applied, Violation>> {
        // The lock is taken first, so that the change is queued as soon as it is polled.
        let locked = self.block_on(self.alive(async {
            let lock = self.store.try_lock(tenant, Purpose::SignIn).await;
            lock.map_err(|error| error.to_string())
        }));
        async move {
            let Some(mut lock) = locked? else { return Err("the sign-in's lock is held".into()) };
            let settled = lock.settle(Settlement::SignIn { state, session }).await;
            settled.map(|changed| changed.applied).map_err(|error| error.to_string())
        }
        .boxed()
    }

    /// Runs `work` unless the program ends. After its end nothing of it continues, and no caller
    /// gets its result.
    async fn alive<T>(&self, work: impl Future<Output = Result<T, Violation>>) -> Result<T, Violation> {
        let mut events = self.broker.events();
        let failed = async {
            loop {
                if let Ok(Event::SaveFailed(tenant)) = events.recv().await {
                    return format!("{tenant}'s answer cannot be saved, and is retried forever");
                }
            }
        };
        tokio::select! {
            biased;
            () = self.process.ended() => Err("the program has ended".into()),
            failed = failed => Err(failed),
            done = work => done,
        }
    }

    async fn start(&self, tenant: &Tenant) -> Result<(), Violation> {
        match self.broker.start(tenant, tenant.principal).await {
            Ok(started) => {
                let state = started.link().unwrap().query_pairs().find(|(name, _)| name == "state");
                let (_, state) = state.ok_or("a link without a state")?;
                self.world.lock().linked(tenant, state.into_owned());
                Ok(())
            }
            // Another program starts and cancels sign-ins at the same time.
            Err(StartError::Busy { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn finish(&self, tenant: &Tenant, paste: Paste) -> Result<bool, Violation> {
        let pasted = {
            let mut world = self.world.lock();
            if paste == Paste::OfTheLink || world.paste(tenant).is_none() {
                world.follow_the_link(tenant);
            }
            world.paste(tenant)
        };
        let Some((state, code)) = pasted else { return Ok(false) };
        let pasted =
            Pasted::parse(&format!("code=code-{code}&state={state}")).map_err(|error| error.to_string())?;
        match self.broker.finish(tenant.principal, None, pasted).await {
            Ok(_) => {
                self.world.lock().signed_in(tenant);
                Ok(true)
            }
            Err(error @ (FinishError::Store(_) | FinishError::Internal(_))) => Err(error.to_string()),
            Err(
                error @ (FinishError::Misconfigured { .. }
                | FinishError::Mismatch { .. }
                | FinishError::NonceMissing(_)),
            ) => Err(error.to_string()),
            Err(FinishError::TooManyCodes { retry_after, .. }) => {
                self.world.lock().paused(tenant, retry_after);
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    async fn cancel(&self, tenant: &Tenant) -> Result<(), Violation> {
        self.world.lock().cancelling(tenant);
        let dropped = self.broker.cancel(tenant.principal, None).await.map_err(|error| error.to_string())?;
        if dropped.contains(tenant) {
            self.world.lock().cancelled(tenant);
        }
        Ok(())
    }

    async fn logout(&self, tenant: &Tenant) -> Result<(), Violation> {
        self.world.lock().logging_out(tenant);
        match self.broker.logout(tenant, Revocation::Keep).await {
            Ok(_) => self.world.lock().logged_out(tenant),
            Err(LogoutError::NoSession(_)) => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    async fn token(&self, tenant: &Tenant) -> Result<TokenResult, Violation> {
        match self.broker.token(tenant, threadkey::broker::DEFAULT_MIN_TTL).await {
            Ok(lease) => {
                let number = number(lease.access_token.expose()).ok_or("a token without a number")?;
                self.world.lock().leased(tenant, number);
                Ok(TokenResult::Leased(number))
            }
            Err(TokenError::NoSession(_)) => Ok(TokenResult::NoSession),
            Err(TokenError::Ended { .. }) => {
                self.world.lock().reported_ended(tenant);
                Ok(TokenResult::Ended)
            }
            Err(TokenError::Unavailable { .. } | TokenError::InProgress(_)) => Ok(TokenResult::Later),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Program {
    /// Drops the program's unfinished work with it.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Reports durable changes only: a stale change needed no write, and may have met a state that no
/// program has made durable.
fn when_done(report: impl FnOnce()) -> impl FnOnce(Result<Applied, Violation>) -> Result<(), Violation> {
    move |changed| {
        if changed? == Applied::Done {
            report();
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Paste {
    Again,
    OfTheLink,
}

/// The provider as seen by this program: an ended program sends nothing and receives nothing.
fn provider(process: Process, world: Shared, clock: Clock) -> ScriptedProvider {
    Arc::new(move |body| {
        let form: Vec<_> = url::form_urlencoded::parse(body).into_owned().collect();
        let field =
            |wanted: &str| form.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let now = clock.now();
        world.lock().now = now;
        let sent = match (process.is_alive(), field("code"), field("refresh_token")) {
            (true, Some(code), None) => number(code).map(|code| world.lock().exchange(code)),
            (true, None, Some(token)) => number(token).map(|token| {
                let again = world.lock().was_sent(token);
                // A session that was replaced after its token was read gives no evidence any more.
                let doubt = again && !process.store_trusts(PATH.as_ref(), &refresh_token(token));
                world.lock().refresh(token, doubt)
            }),
            _ => None,
        };
        async move {
            match sent {
                Some(Attempt::Answered(answer)) => Attempt::Answered(Answer { at: now, ..answer }),
                Some(sent) => sent,
                None => std::future::pending().await,
            }
        }
        .boxed()
    })
}

fn provider_of(tenant: &Tenant) -> std::sync::Arc<Provider> {
    PROVIDERS.get(&tenant.provider).expect("there is one")
}

/// Returns the number in `access-7`, `refresh-7` or `code-7`.
pub(super) fn number(token: &str) -> Option<u64> {
    token.rsplit_once('-')?.1.parse().ok()
}

fn refresh_token(number: u64) -> String {
    format!("refresh-{number}")
}

fn grant(number: u64) -> Grant {
    Grant {
        access_token: AccessToken::new(format!("access-{number}")),
        refresh_token: Some(RefreshToken::new(refresh_token(number))),
        token_type: "Bearer".into(),
        scope: None,
        expires_in: Some(std::time::Duration::from_secs(LIFETIME)),
        account: None,
        refresh_expires_at: None,
        identity: None,
    }
}

fn pending(tenant: &Tenant, state: State) -> Pending {
    let Principal::User(_) = tenant.principal else { unreachable!("every tenant is a user") };
    Pending {
        verifier: CodeVerifier::new("verifier"),
        state,
        nonce: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        created_at: NOW,
        started_by: tenant.principal,
        lineage_seen: None,
        binding: provider_of(tenant).binding(),
        scopes: vec![],
        wrong_codes: None,
        browser: None,
        polling: None,
    }
}
