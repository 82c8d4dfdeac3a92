//! A history: programs that sign in, refresh and log out on one machine, and end at any call.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use threadkey::{
    ids::{Lineage, Principal, Tenant},
    secret::{AccessToken, CodeVerifier, RefreshToken, State},
    session::{
        Applied, Binding, Change, Entry, Grant, Pending, Retry, RetryKind, Session,
        journal::{Answer, Intent, Journal, Spending},
    },
    store::{FileStore, FileStoreOptions, Purpose, Store, StoreError, TenantLock},
    sys::{
        clock::Clock,
        disk::{Disk as _, DiskFile, Open},
        lock::Mode,
    },
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::runtime::Runtime;

use super::machine::{End, How, Machine, Process, Sabotage, When};
use crate::support::random::Random;

const NOW: i64 = 1_795_358_672;
const PATH: &str = "/data/threadkey/auth.json";

/// More calls than any single step makes.
const CALLS: u64 = 90;

/// What went against an invariant.
pub(super) type Violation = String;

/// What a tenant's session comes down to, for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    lineage: Lineage,
    generation: u64,
    refresh_token: String,
}

/// What everybody outside the machine knows: the provider, and those who were told that something is done.
#[derive(Default)]
struct World {
    /// Per tenant: what the store may hold. One state, unless somebody ended in the middle of a change.
    possible: BTreeMap<Tenant, Vec<Option<Known>>>,
    minted: u64,
    /// Refresh tokens that were sent.
    sent: BTreeSet<String>,
    /// Those whose successor was acknowledged: by the journal or by the store.
    superseded: BTreeSet<String>,
    /// What one write brought, if it did.
    together: Option<Vec<(Tenant, Known)>>,
    /// Two programs change one tenant at once, and nobody can say which of them was first.
    contested: bool,
    violations: Vec<Violation>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    SignIn,
    Refresh,
    Logout,
}

/// The session that a change leaves.
enum After {
    Same,
    Is(Option<Known>),
}

/// One program: a store opened anew on the machine's disk.
#[derive(Clone)]
struct Program {
    process: Process,
    store: FileStore,
    world: Arc<Mutex<World>>,
}

/// The program has ended, or the store is unwell.
type Stopped = StoreError;

/// Walks the history of this seed.
pub(super) fn history(runtime: &Runtime, seed: u64, sabotage: Sabotage) -> Result<(), Violation> {
    let mut random = Random::new(seed);
    let machine = Machine::new(&mut random);
    Walk { random, sabotage, machine, world: Arc::default(), runtime }.go()
}

/// Where a walk's programs run.
pub(super) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made")
}

/// Whether what the store holds now cannot be undone any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

struct Walk<'a> {
    random: Random,
    sabotage: Sabotage,
    machine: Machine,
    world: Arc<Mutex<World>>,
    runtime: &'a Runtime,
}

// === impl Walk ===

impl Walk<'_> {
    fn go(&mut self) -> Result<(), Violation> {
        let mut program = self.open()?;
        for _ in 0..2 + self.random.below(4) {
            self.step(&program)?;
            if !program.process.is_alive() {
                program = self.recover()?;
            }
        }
        // In the end nothing is under way, and all that was acknowledged outlives a power cut.
        self.machine.cut_power();
        program = self.recover()?;
        for tenant in tenants() {
            self.runtime.block_on(program.refresh(&tenant)).map_err(unaided)?;
        }
        self.verdict()
    }

    /// One step, or two by two programs at once; perhaps the last of one of them, or of the machine.
    fn step(&mut self, program: &Program) -> Result<(), Violation> {
        let (tenant, step) = (self.tenant(), self.pick());
        if self.random.one_in(2) {
            let how = if self.random.one_in(2) { How::Kill } else { How::PowerCut };
            let when = if self.random.one_in(2) { When::Before } else { When::After };
            program.process.ends(Some(End { at: 1 + self.random.below(CALLS), when, how }));
        }
        world(&self.world).together = None;
        if self.random.one_in(4)
            && let Some((_blocker, held)) = self.hold_the_global_lock()
        {
            let ended = self.share_a_write(program, held);
            program.process.ends(None);
            self.expect_well(&program.process, ended)?;
            return self.verdict();
        }
        let guest = if self.random.one_in(3) { Some(self.invite(program, &tenant)?) } else { None };
        let ended = self.runtime.block_on(program.run(step, &tenant));
        let guest_ended = guest.map(|(process, answer)| {
            program.process.let_the_guest_in();
            (process, answer.recv().expect("the guest answers, whatever happens to it"))
        });
        program.process.ends(None);
        self.expect_well(&program.process, ended)?;
        let mut all_alive = program.process.is_alive();
        if let Some((process, ended)) = guest_ended {
            self.expect_well(&process, ended)?;
            all_alive &= process.is_alive();
            process.kill();
        }
        if std::mem::take(&mut world(&self.world).contested) && all_alive {
            self.expect_possible(program, Settled::Yes)?;
        }
        self.verdict()
    }

    /// Both tenants sign in or out while somebody else holds the global lock, so that one write brings it all.
    fn share_a_write(&mut self, program: &Program, held: Box<dyn DiskFile>) -> Result<(), Stopped> {
        world(&self.world).together = Some(Vec::new());
        let mut changes = Vec::new();
        for tenant in tenants() {
            let step = if self.random.one_in(4) { Step::Logout } else { Step::SignIn };
            changes.extend(program.changes(step, &tenant));
        }
        self.runtime.block_on(async {
            let mut changes = pin!(futures_util::future::join_all(changes));
            // Once each has been looked at, all are queued, in this order; unless the program has ended.
            let ended = futures_util::poll!(changes.as_mut());
            drop(held);
            let ended = if let Poll::Ready(ended) = ended { ended } else { changes.await };
            ended.into_iter().collect()
        })
    }

    /// The global lock, taken by another process; `None` before there is a store.
    fn hold_the_global_lock(&self) -> Option<(Process, Box<dyn DiskFile>)> {
        let process = self.machine.start(Sabotage::Nothing);
        let file = process.open(format!("{PATH}.global.lock").as_ref(), Open::ReadWrite).ok()?;
        file.try_lock(Mode::Exclusive).is_ok_and(|locked| locked).then_some((process, file))
    }

    /// Another program does a step of its own in the middle of `host`'s.
    fn invite(
        &mut self,
        host: &Program,
        hosts: &Tenant,
    ) -> Result<(Process, std::sync::mpsc::Receiver<Result<(), Stopped>>), Violation> {
        let guest = self.open()?;
        let (tenant, step) = (self.tenant(), self.pick());
        world(&self.world).contested = tenant == *hosts;
        let (answer, answered) = std::sync::mpsc::channel();
        let process = guest.process.clone();
        host.process.interrupted_at(self.random.below(CALLS), move || {
            let ended = runtime().block_on(guest.run(step, &tenant));
            let _ = answer.send(ended);
        });
        Ok((process, answered))
    }

    /// Who did not end had no reason to fail: this disk has no faults but its end.
    fn expect_well(&self, process: &Process, ended: Result<(), Stopped>) -> Result<(), Violation> {
        match ended {
            Err(error) if process.is_alive() => Err(format!("an error on a disk that is well: {error}")),
            _ => Ok(()),
        }
    }

    /// After an end: the file parses, holds what it may hold, and another program goes on.
    fn recover(&mut self) -> Result<Program, Violation> {
        let settled = if self.machine.power_up(&mut self.random) { Settled::Yes } else { Settled::No };
        let program = self.open()?;
        self.expect_possible(&program, settled)?;
        if self.random.one_in(2) {
            for tenant in tenants() {
                self.runtime.block_on(program.refresh(&tenant)).map_err(unaided)?;
            }
        }
        Ok(program)
    }

    fn expect_possible(&self, program: &Program, settled: Settled) -> Result<(), Violation> {
        let mut there = Vec::new();
        for tenant in tenants() {
            let entry = self.runtime.block_on(program.store.read(&tenant));
            let found = known(&entry.map_err(|error| format!("the file does not parse: {error}"))?);
            let mut world = world(&self.world);
            let possible = world.possible_of(&tenant);
            if !possible.contains(&found) {
                return Err(format!("{tenant} has {found:?}, and may have {possible:?}"));
            }
            if settled == Settled::Yes {
                *possible = vec![found.clone()];
            }
            let ours = world.together.iter().flatten().filter(|(of, _)| *of == tenant);
            there.extend(ours.map(|(_, known)| found.as_ref() == Some(known)));
        }
        world(&self.world).together = None;
        if there.contains(&true) && there.contains(&false) {
            return Err("one write brought a part of what shared it".into());
        }
        Ok(())
    }

    fn open(&self) -> Result<Program, Violation> {
        let process = self.machine.start(self.sabotage);
        let disk = Arc::new(process.clone());
        let options = FileStoreOptions::default();
        let store = FileStore::on_disk(disk, PATH.as_ref(), Clock::fixed(NOW), options).map_err(unaided)?;
        Ok(Program { process, store, world: self.world.clone() })
    }

    fn tenant(&mut self) -> Tenant {
        let [alice, bob] = tenants();
        if self.random.one_in(3) { bob } else { alice }
    }

    fn pick(&mut self) -> Step {
        match self.random.below(8) {
            0..3 => Step::SignIn,
            3..7 => Step::Refresh,
            _ => Step::Logout,
        }
    }

    fn verdict(&self) -> Result<(), Violation> {
        world(&self.world).violations.pop().map_or(Ok(()), Err)
    }
}

// === impl Program ===

impl Program {
    async fn run(&self, step: Step, tenant: &Tenant) -> Result<(), Stopped> {
        if let Step::Refresh = step {
            return self.refresh(tenant).await;
        }
        for change in self.changes(step, tenant) {
            change.await?;
        }
        Ok(())
    }

    /// What a sign-in or a logout changes, one after the other.
    fn changes(&self, step: Step, tenant: &Tenant) -> Vec<BoxFuture<'static, Result<(), Stopped>>> {
        let make = |change, after: After| {
            let (program, tenant) = (self.clone(), tenant.clone());
            async move { program.change(&tenant, change, after).await }.boxed()
        };
        let Step::SignIn = step else { return vec![make(Change::Logout, After::Is(None))] };
        let number = world(&self.world).mint();
        let lineage = Lineage(u128::from(number).to_be_bytes());
        let known = Known { lineage, generation: 1, refresh_token: refresh_token(number) };
        if let Some(together) = &mut world(&self.world).together {
            together.push((tenant.clone(), known.clone()));
        }
        let state = State::new(format!("state-{number}"));
        let session = Box::new(Session::begin(lineage, grant(number), binding(), NOW));
        vec![
            make(Change::Cancel(None), After::Same),
            make(Change::Start(pending(state.clone())), After::Same),
            make(Change::SignIn { state, session }, After::Is(Some(known))),
        ]
    }

    /// The caller's side of a refresh, by the rules that the broker keeps.
    async fn refresh(&self, tenant: &Tenant) -> Result<(), Stopped> {
        let Some(mut lock) = self.store.try_lock(tenant, Purpose::Refresh).await? else { return Ok(()) };
        for _ in 0..3 {
            let Some(session) = self.store.read(tenant).await?.session else { return Ok(()) };
            let spent = session.to_spend().expect("the provider always gives one");
            match lock.journal().await? {
                Journal::Empty => {}
                Journal::Answered(intent, answer) if intent.spending == Spending::Refresh(spent.clone()) => {
                    let number =
                        std::str::from_utf8(&answer.body).expect("a number").parse().expect("a number");
                    self.commit(tenant, lock.as_mut(), &session, number).await?;
                    continue;
                }
                Journal::Intended(intent) if intent.spending == Spending::Refresh(spent.clone()) => {
                    let retry = Retry {
                        set_at: NOW,
                        not_before: NOW,
                        attempts: 1,
                        code: "ambiguous_no_answer".into(),
                    };
                    lock.commit(Change::HoldBack { spent, retry }).await?;
                    lock.clear().await?;
                    continue;
                }
                Journal::Intended(_) | Journal::Answered(..) => lock.clear().await?,
            }
            let spending = Spending::Refresh(spent);
            let token_endpoint = session.binding.token_endpoint.clone();
            lock.intend(&Intent { spending, at: NOW, token_endpoint }).await?;
            let number = world(&self.world).send(&session);
            let body = number.to_string().into_bytes().into();
            lock.record(&Answer { status: 200, retry_after: None, body, at: NOW }).await?;
            world(&self.world).supersede(&session);
            return self.commit(tenant, lock.as_mut(), &session, number).await;
        }
        Ok(())
    }

    async fn commit(
        &self,
        tenant: &Tenant,
        lock: &mut dyn TenantLock,
        old: &Session,
        number: u64,
    ) -> Result<(), Stopped> {
        let spent = old.to_spend().expect("it was sent");
        let known = Known {
            lineage: old.lineage,
            generation: old.generation + 1,
            refresh_token: refresh_token(number),
        };
        world(&self.world).begin(tenant, Some(known.clone()));
        if lock.commit(Change::Refreshed { spent, grant: Box::new(grant(number)) }).await? == Applied::Done {
            let mut world = world(&self.world);
            world.supersede(old);
            world.end(tenant, Some(known));
        }
        lock.clear().await
    }

    async fn change(&self, tenant: &Tenant, change: Change, after: After) -> Result<(), Stopped> {
        if let After::Is(state) = &after {
            world(&self.world).begin(tenant, state.clone());
        }
        let applied = self.store.change(tenant, change).await?;
        if let (Applied::Done, After::Is(state)) = (applied, after) {
            world(&self.world).end(tenant, state);
        }
        Ok(())
    }
}

// === impl World ===

impl World {
    fn possible_of(&mut self, tenant: &Tenant) -> &mut Vec<Option<Known>> {
        self.possible.entry(tenant.clone()).or_insert_with(|| vec![None])
    }

    /// From now on the tenant may be in this state.
    fn begin(&mut self, tenant: &Tenant, state: Option<Known>) {
        self.possible_of(tenant).push(state);
    }

    /// Somebody was told that the tenant is in this state.
    fn end(&mut self, tenant: &Tenant, state: Option<Known>) {
        if !self.contested {
            *self.possible_of(tenant) = vec![state];
        }
    }

    fn mint(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }

    /// The provider: takes the refresh token and gives the next.
    fn send(&mut self, session: &Session) -> u64 {
        let token = spent_token(session);
        if self.superseded.contains(&token) {
            self.violations.push(format!("{token} was sent, whose successor was acknowledged"));
        }
        let in_doubt = session.retry.as_ref().is_some_and(|retry| retry.kind() == RetryKind::Ambiguous);
        if !self.sent.insert(token.clone()) && !in_doubt {
            self.violations
                .push(format!("{token} was sent again, and nothing said that it had been sent before"));
        }
        self.mint()
    }

    fn supersede(&mut self, session: &Session) {
        self.superseded.insert(spent_token(session));
    }
}

fn world(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unaided(error: StoreError) -> Violation {
    format!("the next caller cannot go on: {error}")
}

fn known(entry: &Entry) -> Option<Known> {
    let session = entry.session.as_ref()?;
    let Session { lineage, generation, .. } = *session;
    Some(Known { lineage, generation, refresh_token: spent_token(session) })
}

fn spent_token(session: &Session) -> String {
    session.refresh_token.as_ref().expect("the provider always gives one").expose().to_owned()
}

fn tenants() -> [Tenant; 2] {
    ["codex/user:803", "codex/user:804"].map(|text| text.parse().expect("a tenant"))
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
        expires_in: Duration::from_secs(3600),
        account: None,
    }
}

fn binding() -> Binding {
    Binding {
        issuer: None,
        token_endpoint: "https://id.example/token".into(),
        client_id: "threadkey".into(),
        resource: None,
    }
}

fn pending(state: State) -> Pending {
    Pending {
        verifier: CodeVerifier::new("verifier"),
        state,
        nonce: None,
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        created_at: NOW,
        started_by: Principal::Local,
        lineage_seen: None,
        binding: binding(),
        scopes: vec![],
    }
}
