//! The world in which the steps are executed: the providers, the store, the processes that share
//! it, and the time.

use std::{future::Future, path::Path, path::PathBuf, sync::Arc, time::Duration};

use threadkey::{
    broker::{Broker, Event},
    ids::Tenant,
    oauth::{Client, Provider, ProviderSettings, Providers},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};
use tokio::{runtime::Runtime, sync::broadcast::Receiver, task::JoinHandle, time::timeout};

use super::{
    reference::{Meaning, Presented, Reference, Shared, lock},
    steps::{PROCESSES, PROVIDERS, Quirks, TENANTS, rotation},
    tenant_name,
    token_results::Alive,
};
use crate::fixtures;
use crate::support::authserver::{self, AuthServer, LifeState, Lifetimes, Moment, Rotation};

const NOW: i64 = 1_795_358_672;

/// The bound of every wait; a test that reaches it fails.
pub(super) const WAIT: Duration = Duration::from_secs(30);

/// A process: its work runs on its own threads, and ends with them.
pub(super) struct Process {
    pub(super) broker: Broker,
    pub(super) alive: Alive,
    events: Receiver<Event>,
    runtime: Option<Runtime>,
}

/// A caller in some process that waits for its result.
struct Waiting {
    process: usize,
    provider: usize,
    task: JoinHandle<()>,
}

pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) path: PathBuf,
    pub(super) servers: Vec<AuthServer>,
    pub(super) processes: Vec<Process>,
    pub(super) reference: Shared,
    /// The newest sign-in link of each tenant.
    pub(super) links: Vec<Option<String>>,
    /// The previously pasted address of each tenant.
    pub(super) pasted: Vec<Option<String>>,
    pub(super) plants: usize,
    client: Client,
    held: Vec<bool>,
    waiting: Vec<Waiting>,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn start() -> Self {
        let clock = Clock::fixed(NOW);
        let folder = folder();
        let path = folder.path().join("auth.json");
        let reference: Shared = Arc::new(std::sync::Mutex::new(Reference::new(path.clone(), clock.clone())));
        let mut servers = Vec::new();
        for (number, quirks) in PROVIDERS.iter().enumerate() {
            servers.push(server(number, quirks, &reference).await);
        }
        let client = Client::new(clock.clone()).unwrap();
        let mut world = Self {
            clock,
            path,
            servers,
            processes: Vec::new(),
            reference,
            links: vec![None; TENANTS.len()],
            pasted: vec![None; TENANTS.len()],
            plants: 0,
            client,
            held: vec![false; PROVIDERS.len()],
            waiting: Vec::new(),
            _folder: folder,
        };
        world.processes = (0..PROCESSES).map(|_| world.process()).collect();
        world
    }

    fn process(&self) -> Process {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = FileStore::open(&self.path, self.clock.clone(), FileStoreOptions::default()).unwrap();
        let providers = PROVIDERS.iter().zip(&self.servers).map(|(quirks, server)| provider(quirks, server));
        let broker =
            Broker::new(Arc::new(store), Providers::new(providers), self.client.clone(), self.clock.clone());
        Process { events: broker.events(), broker, alive: Alive::default(), runtime: Some(runtime) }
    }

    /// Runs something in a process, until that process dies.
    pub(super) fn run<T: Send + 'static>(
        &self,
        process: usize,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let runtime = self.processes[process].runtime.as_ref();
        runtime.expect("only a dead process has none").spawn(work)
    }

    /// Runs a caller that may have to wait for its tenant's provider.
    pub(super) fn wait_for(
        &mut self,
        process: usize,
        tenant: usize,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.run(process, work);
        self.waiting.push(Waiting { process, provider: TENANTS[tenant].0, task });
    }

    /// Runs work that never waits for a provider, to its end; a long wait is a failure.
    pub(super) async fn at_once(&self, process: usize, work: impl Future<Output = ()> + Send + 'static) {
        match timeout(WAIT, self.run(process, work)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => lock(&self.reference).violate(format!("a call broke: {error}")),
            Err(_) => lock(&self.reference).violate("promise 9: a call that needs no provider waits for one"),
        }
    }

    pub(super) fn give_up(&mut self, which: usize) {
        if !self.waiting.is_empty() {
            let which = which % self.waiting.len();
            self.waiting.swap_remove(which).task.abort();
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    // === the providers and the clock ===

    pub(super) fn hold(&mut self, provider: usize, before: bool) {
        self.held[provider] = true;
        if before { self.servers[provider].hold_before() } else { self.servers[provider].hold() }
    }

    pub(super) fn release_provider(&mut self, provider: usize) {
        self.held[provider] = false;
        self.servers[provider].release();
    }

    pub(super) fn anything_held(&self) -> bool {
        self.held.contains(&true)
    }

    pub(super) fn step_clock(&self, seconds: i64) {
        self.clock.advance(seconds);
        if let Ok(ahead) = u64::try_from(seconds) {
            self.servers.iter().for_each(|server| server.advance(Duration::from_secs(ahead)));
        }
        lock(&self.reference).clock_stepped();
    }

    /// Ends the process in the middle of its work. System calls in progress are completed, as after
    /// kill -9.
    pub(super) async fn restart(&mut self, process: usize) {
        self.processes[process].alive.end();
        let runtime = self.processes[process].runtime.take();
        lock(&self.reference).process_died();
        let dead = tokio::task::spawn_blocking(move || {
            runtime.into_iter().for_each(|runtime| runtime.shutdown_timeout(WAIT));
        });
        dead.await.unwrap();
        lock(&self.reference).process_died();
        self.take_events(process);
        lock(&self.reference).waive_reports();
        self.waiting.retain(|waiting| waiting.process != process);
        self.processes[process] = self.process();
    }

    // === idling ===

    /// Lets everything go on until it is done, or until held providers prevent that.
    pub(super) async fn settle(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for caller in &mut waiting {
            let server = &self.servers[caller.provider];
            let done = async {
                if self.held[caller.provider] {
                    tokio::select! {
                        done = &mut caller.task => Some(done),
                        () = server.wait_for_held(1) => None,
                    }
                } else {
                    Some((&mut caller.task).await)
                }
            };
            match timeout(WAIT, done).await {
                Ok(Some(Err(error))) if error.is_panic() => {
                    lock(&self.reference).violate(format!("a caller's task broke: {error}"));
                }
                Ok(_) => {}
                Err(_) => lock(&self.reference).violate("promise 9: a caller waits, and nothing is held"),
            }
        }
        waiting.retain(|caller| !caller.task.is_finished());
        self.waiting = waiting;
        if !self.anything_held() {
            self.drain().await;
        }
        (0..PROCESSES).for_each(|process| self.take_events(process));
        let mut reference = lock(&self.reference);
        reference.observe();
        if !self.anything_held() {
            reference.check_all_reported();
        }
        reference.check_texts();
    }

    async fn drain(&self) {
        for process in &self.processes {
            if timeout(WAIT, process.broker.drained()).await.is_err() {
                lock(&self.reference).violate("promise 9: a refresh is in progress, and nothing is held");
            }
        }
        let dead: Vec<String> = self
            .servers
            .iter()
            .flat_map(AuthServer::lives)
            .filter(|life| life.state == LifeState::Live)
            .map(|life| life.fingerprint)
            .collect();
        lock(&self.reference).check_idle(&dead);
    }

    /// Takes in the events of a process.
    fn take_events(&mut self, process: usize) {
        let mut reference = lock(&self.reference);
        while let Ok(event) = self.processes[process].events.try_recv() {
            reference.record_text("an event", format!("{event:?}"));
            reference.check_event(&event);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let runtimes = self.processes.iter_mut().filter_map(|process| process.runtime.take());
        runtimes.for_each(Runtime::shutdown_background);
    }
}

/// Uses memory where the system offers it: the disk is the subject of other tests.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.or_else(|_| tempfile::tempdir()).unwrap()
}

async fn server(number: usize, quirks: &Quirks, reference: &Shared) -> AuthServer {
    let server = AuthServer::start(authserver::Options::default()).await;
    server.set_lifetimes(Lifetimes {
        access_token: Duration::from_secs(quirks.lifetime.unsigned_abs()),
        refresh_token: Duration::from_secs(10 * 365 * 86_400),
        ..Lifetimes::default()
    });
    server.set_rotation(match quirks.name {
        "graceful" => Rotation::Grace(Duration::from_secs(quirks.reuse_grace.unsigned_abs())),
        "plain" => rotation(false),
        _ => Rotation::Strict,
    });
    let reference = reference.clone();
    server.watch(move |moment| {
        let mut reference = lock(&reference);
        match moment {
            Moment::Arrived { seq, form } => reference.arrived(number, seq, form),
            Moment::Decided { seq, reply, decided } => reference.decided(number, seq, reply, decided),
            Moment::Answering { seq } => reference.answering(number, seq),
            Moment::Revoked { token } => reference.check_revocation(number, token),
        }
    });
    server
}

fn provider(quirks: &Quirks, server: &AuthServer) -> Provider {
    let settings = ProviderSettings {
        reuse_grace: Duration::from_secs(quirks.reuse_grace.unsigned_abs()),
        refresh_revokes_access: quirks.refresh_revokes_access,
        userinfo_endpoint: quirks.userinfo.then(|| server.userinfo_endpoint()),
        ..fixtures::settings(server)
    };
    Provider::new(quirks.name.parse().unwrap(), settings).unwrap()
}

pub(super) fn tenant_id(tenant: usize) -> Tenant {
    let (provider, principal, _) = TENANTS[tenant];
    Tenant::new(PROVIDERS[provider].name.parse().unwrap(), principal.parse().unwrap())
}

// === impl Reference: checks of the idle system ===

impl Reference {
    /// Checks the idle system: issued tokens are in the store, and verdicts are noted. `live` are
    /// the fingerprints of the refresh tokens that the providers still accept.
    fn check_idle(&mut self, live: &[String]) {
        self.times = vec![self.clock.now()];
        self.late.clear();
        self.observe();
        for number in 0..self.requests.len() {
            if self.requests[number].answered.is_some() {
                self.requests[number].settled = true;
            } else if !self.requests[number].orphan {
                self.violate("a request is in progress although the system is idle");
            }
        }
        for tenant in 0..TENANTS.len() {
            self.tenants[tenant].changing = false;
            self.check_nothing_lost(tenant);
        }
        let revoked = |issue: &&super::reference::Issue| self.revoked.contains(&issue.family);
        let alive = self
            .issues
            .iter()
            .filter(revoked)
            .any(|issue| live.contains(&crate::support::events::fingerprint(&issue.refresh)));
        if alive {
            self.violate("a grant that was revoked has a refresh token that works");
        }
    }

    fn check_nothing_lost(&mut self, tenant: usize) {
        let Some(stored) = self.tenants[tenant].stored.clone() else { return };
        let Some(&held) = self.by_access.get(&stored.access) else { return };
        let family = self.issues[held].family;
        let came_back = |request: &&super::reference::Request| {
            request.meaning == Some(Meaning::Granted) && request.answered.is_some() && !request.orphan
        };
        let newest = self.requests.iter().filter(came_back).filter_map(|request| request.issue);
        let newest = newest.filter(|issue| self.issues[*issue].family == family).max();
        if newest > Some(held) {
            self.violate(format!("promise 11: a token that came back is lost: {stored:?}"));
        }
        let ended = self.requests.iter().any(|request| {
            matches!(&request.presented, Presented::Refresh(token, _) if *token == stored.refresh)
                && request.meaning == Some(Meaning::Verdict)
                && !request.orphan
        });
        if ended && stored.ended.is_none() {
            self.violate(format!(
                "the provider's verdict on {} is not noted: {stored:?}",
                tenant_name_of(tenant)
            ));
        }
    }

    fn check_event(&mut self, event: &Event) {
        match event {
            Event::Ended { tenant, .. } => {
                let Some(index) = (0..TENANTS.len()).find(|index| tenant_id(*index) == *tenant) else {
                    return;
                };
                self.tenants[index].ended_events += 1;
                let verdicts = self
                    .requests
                    .iter()
                    .filter(|request| request.tenant == index && request.meaning == Some(Meaning::Verdict));
                if self.tenants[index].ended_events > verdicts.count() {
                    self.violate(format!("promise 6: {tenant} is reported as ended without a verdict"));
                }
            }
            Event::SaveFailed(tenant) => self.violate(format!("{tenant} could not be saved on a good disk")),
            Event::Undecided(undecided) => {
                self.check_undecided(undecided);
                undecided
                    .dropped
                    .iter()
                    .for_each(|dropped| self.check_reported_end(&undecided.tenant, dropped));
            }
            Event::SignedIn(done) => {
                done.dropped.iter().for_each(|dropped| self.check_reported_end(&done.tenant, dropped));
            }
            Event::Lapsed(kept) => self.check_reported_end(&kept.tenant, &kept.unchosen),
            Event::Stuck { tenant, .. } => {
                self.violate(format!("{tenant} is stuck, and the provider refuses nothing"))
            }
            Event::LoggedOut(_)
            | Event::SignInConcluded(_)
            | Event::Reported(_)
            | Event::Denied(_)
            | Event::Switched(_)
            | Event::Recovered { .. } => {}
        }
    }
}

fn tenant_name_of(tenant: usize) -> String {
    let (provider, principal, _) = TENANTS[tenant];
    tenant_name(provider, principal)
}
