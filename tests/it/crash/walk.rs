//! A history: programs on one machine, on which users sign in and out and agents request tokens.
//! Each program ends at any call.

use std::{
    pin::pin,
    sync::mpsc::{Receiver, channel},
    task::Poll,
};

use threadkey::{
    ids::Tenant,
    session::Entry,
    sys::{
        clock::Clock,
        disk::{Disk as _, DiskFile, Open},
        lock::Mode,
    },
};

use super::{
    LIFETIME, NOW, PATH,
    faults::{End, How, Sabotage, When},
    machine::{Machine, Process},
    program::{Program, Step, TokenResult, number},
    world::Shared,
};
use crate::support::random::Random;

/// Longer than any pause that a failed refresh causes here.
const A_PAUSE: i64 = 30;

/// A broken invariant.
pub(super) type Violation = String;

/// Whether the store's present state is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Yes,
    No,
}

struct Walk {
    random: Random,
    sabotage: Sabotage,
    machine: Machine,
    world: Shared,
    clock: Clock,
}

/// Walks the history of this seed.
pub(super) fn history(seed: u64, sabotage: Sabotage) -> Result<(), Violation> {
    let mut random = Random::new(seed);
    let world = Shared::new(&mut random, &tenants());
    let journals = world.clone();
    let machine = Machine::new(&mut random, move |path, written| journals.lock().journalled(path, written));
    Walk { random, sabotage, machine, world, clock: Clock::fixed(NOW) }.run()
}

// === impl Walk ===

impl Walk {
    fn run(&mut self) -> Result<(), Violation> {
        let mut program = self.open()?;
        for _ in 0..2 + self.random.below(4) {
            self.step(&program)?;
            if !program.process.is_alive() {
                program = self.recover()?;
            }
        }
        // At the end nothing is in progress, and every acknowledged result outlives a power cut.
        self.machine.cut_power();
        program = self.recover()?;
        for tenant in tenants() {
            self.expect_continuation(&program, &tenant)?;
        }
        self.expect_new_sign_in(&program)?;
        self.verdict()
    }

    /// Takes one step, or two by two programs at once; each may end one of them or the machine.
    fn step(&mut self, program: &Program) -> Result<(), Violation> {
        let (tenant, step) = (self.tenant(), self.pick());
        let calls = calls(step);
        if self.random.one_in(2) {
            let how = if self.random.one_in(2) { How::Kill } else { How::PowerCut };
            let when = if self.random.one_in(2) { When::Before } else { When::After };
            program.process.ends(Some(End { at: 1 + self.random.below(calls), when, how }));
        }
        if self.random.one_in(6)
            && let Some((_blocker, held)) = self.hold_the_global_lock()
        {
            self.world.lock().begin_step(None);
            let ended = self.share_a_write(program, held);
            program.process.ends(None);
            let all_alive = program.process.is_alive();
            self.expect_no_error(&program.process, ended)?;
            // This check comes before the record of the shared write is dropped.
            self.expect_possible(program, Settled::No, all_alive)?;
            self.world.lock().end_step(all_alive);
            return self.verdict();
        }
        // The access tokens expire.
        self.clock.advance(i64::try_from(LIFETIME).expect("some seconds"));
        let guests = self.random.one_in(3).then(|| match self.random.below(2) {
            0 => (tenant.clone(), step),
            _ => (self.tenant(), self.pick()),
        });
        let contested = guests.as_ref().is_some_and(|(guests, _)| *guests == tenant);
        self.world.lock().begin_step(contested.then(|| tenant.clone()));
        let guest = match guests {
            Some((tenant, step)) => Some(self.start_guest(program, calls, tenant, step)?),
            None => None,
        };
        let ended = program.run(step, &tenant);
        let guest_ended = guest.map(|(process, answer)| {
            program.process.run_remaining_guest();
            (process, answer.recv().expect("the guest answers in every case"))
        });
        program.process.ends(None);
        self.expect_no_error(&program.process, ended)?;
        let mut all_alive = program.process.is_alive();
        if let Some((process, ended)) = guest_ended {
            self.expect_no_error(&process, ended)?;
            all_alive &= process.is_alive();
            process.kill();
        }
        let is_final = self.world.lock().end_step(all_alive);
        if is_final {
            self.expect_possible(program, Settled::Yes, true)?;
        }
        self.verdict()
    }

    /// Signs both tenants in or out while another process holds the global lock, so that one write
    /// carries all changes.
    fn share_a_write(&mut self, program: &Program, held: Box<dyn DiskFile>) -> Result<(), Violation> {
        let mut changes = Vec::new();
        for tenant in tenants() {
            let step = if self.random.one_in(4) { Step::Logout } else { Step::SignIn };
            changes.extend(program.changes(step, &tenant));
        }
        program.block_on(async {
            let mut changes = pin!(futures_util::future::join_all(changes));
            // One poll each queues all changes in this order, unless the program has ended.
            let ended = futures_util::poll!(changes.as_mut());
            drop(held);
            let ended = if let Poll::Ready(ended) = ended { ended } else { changes.await };
            ended.into_iter().collect()
        })
    }

    /// Takes the global lock for another process; `None` before the store exists.
    fn hold_the_global_lock(&self) -> Option<(Process, Box<dyn DiskFile>)> {
        let process = self.machine.start(Sabotage::Nothing);
        let file = process.open(format!("{PATH}.global.lock").as_ref(), Open::ReadWrite).ok()?;
        file.try_lock(Mode::Exclusive).is_ok_and(|locked| locked).then_some((process, file))
    }

    /// Starts another program that takes a step in the middle of `host`'s.
    fn start_guest(
        &mut self,
        host: &Program,
        calls: u64,
        tenant: Tenant,
        step: Step,
    ) -> Result<(Process, Receiver<Result<(), Violation>>), Violation> {
        let guest = self.open()?;
        let (answer, answered) = channel();
        let process = guest.process.clone();
        host.process.interrupted_at(self.random.below(calls), move || {
            let ended = guest.run(step, &tenant);
            drop(guest);
            let _ = answer.send(ended);
        });
        Ok((process, answered))
    }

    /// Asserts that a living program had no error: this disk has no faults, only ends.
    fn expect_no_error(&self, process: &Process, ended: Result<(), Violation>) -> Result<(), Violation> {
        match ended {
            Err(error) if process.is_alive() => Err(format!("an error on a disk that is healthy: {error}")),
            _ => Ok(()),
        }
    }

    /// Recovers after an end: the file parses, holds a possible state, and another program
    /// continues.
    fn recover(&mut self) -> Result<Program, Violation> {
        let settled = if self.machine.power_up(&mut self.random) { Settled::Yes } else { Settled::No };
        let program = self.open()?;
        self.expect_possible(&program, settled, false)?;
        if self.random.one_in(2) {
            for tenant in tenants() {
                self.expect_continuation(&program, &tenant)?;
            }
        }
        Ok(program)
    }

    /// Asserts that the next caller gets the answers in the journals, with nothing sent. A refresh
    /// that was in progress does not prevent that.
    fn expect_continuation(&mut self, program: &Program, tenant: &Tenant) -> Result<(), Violation> {
        self.world.lock().begin_step(None);
        self.world.lock().healthy = true;
        let there = known(&program.read(tenant)?);
        let answered = self.world.lock().answered(tenant);
        let before = self.world.lock().requests;
        let root = |state: Option<u64>| state.map(|number| self.world.lock().root(number));
        if let Some(answered) = answered
            && root(there) != Some(answered)
        {
            match there {
                None => _ = program.request_token(tenant)?,
                Some(_) => _ = program.finish_again(tenant)?,
            }
            let now = known(&program.read(tenant)?);
            let sent = self.world.lock().requests - before;
            // Only an access token that expired in the journal is refreshed, at once.
            let ends_at =
                self.world.lock().given_at(answered) + i64::try_from(LIFETIME).expect("some seconds");
            let renewals = u64::from(self.clock.now() >= ends_at);
            if root(now) != Some(answered) || sent > renewals {
                return Err(format!("{answered} was answered, and {now:?} came of it with {sent} requests"));
            }
        }
        self.clock.advance(i64::try_from(LIFETIME).expect("some seconds"));
        let mut result = program.request_token(tenant)?;
        if result == TokenResult::Later {
            self.clock.advance(A_PAUSE);
            result = program.request_token(tenant)?;
        }
        let mut world = self.world.lock();
        world.healthy = false;
        world.end_step(true);
        match (there.or(answered), result) {
            (_, TokenResult::Later) => {
                Err(format!("{tenant} gets no token although the provider is healthy"))
            }
            (Some(session), TokenResult::NoSession) => {
                Err(format!("{tenant} had {session}, and has nothing"))
            }
            _ => Ok(()),
        }
    }

    /// Asserts that a new sign-in works at once, whatever happened before, and that its session
    /// works. After three codes that were not accepted, the user first waits as long as the error says.
    fn expect_new_sign_in(&mut self, program: &Program) -> Result<(), Violation> {
        let tenant = self.tenant();
        self.world.lock().begin_step(None);
        self.world.lock().healthy = true;
        let mut is_signed_in = program.sign_in(&tenant)?;
        let pause = self.world.lock().pause(&tenant);
        if let Some(pause) = pause.filter(|_| !is_signed_in) {
            self.clock.advance(pause);
            is_signed_in = program.sign_in(&tenant)?;
        }
        if !is_signed_in {
            return Err(format!("{tenant} cannot sign in although the provider is healthy"));
        }
        self.clock.advance(i64::try_from(LIFETIME).expect("some seconds"));
        match program.request_token(&tenant)? {
            TokenResult::Leased(_) => Ok(()),
            result => Err(format!("{tenant} has just signed in, and gets {result:?}")),
        }
    }

    fn expect_possible(&self, program: &Program, settled: Settled, alive: bool) -> Result<(), Violation> {
        let mut there = Vec::new();
        for tenant in tenants() {
            let entry = program.read(&tenant);
            if !alive && !program.process.is_alive() {
                return Ok(());
            }
            let entry = entry?;
            let found = known(&entry);
            let mut world = self.world.lock();
            let possible = world.possible(&tenant);
            if !possible.contains(&found) {
                return Err(format!("{tenant} has {found:?}, and may have {possible:?}"));
            }
            if let (Some(session), Some(number)) = (&entry.session, found)
                && session.generation != world.generation(number)
            {
                return Err(format!("{tenant} has {found:?} in generation {}", session.generation));
            }
            if settled == Settled::Yes {
                world.settle(&tenant, found);
            }
            let ours = world.shared_write.iter().flatten().filter(|(of, _)| *of == tenant);
            there.extend(ours.map(|(_, known)| found == Some(*known)));
        }
        self.world.lock().shared_write = None;
        if there.contains(&true) && there.contains(&false) {
            return Err("one write brought only some of its changes".into());
        }
        Ok(())
    }

    fn open(&self) -> Result<Program, Violation> {
        Program::open(&self.machine, self.sabotage, &self.world, &self.clock)
    }

    fn tenant(&mut self) -> Tenant {
        let [alice, bob] = tenants();
        if self.random.one_in(3) { bob } else { alice }
    }

    fn pick(&mut self) -> Step {
        match self.random.below(16) {
            0..4 => Step::SignIn,
            4 => Step::Start,
            5..8 => Step::Code,
            8 => Step::Cancel,
            9..15 => Step::Token,
            _ => Step::Logout,
        }
    }

    fn verdict(&self) -> Result<(), Violation> {
        self.world.lock().verdict()
    }
}

/// Returns about the number of calls that such a step makes without obstacles.
fn calls(step: Step) -> u64 {
    match step {
        Step::SignIn => 125,
        Step::Code | Step::Token => 90,
        Step::Start => 50,
        Step::Cancel | Step::Logout => 40,
    }
}

fn known(entry: &Entry) -> Option<u64> {
    let session = entry.session.as_ref()?;
    number(session.refresh_token.as_ref().expect("the provider always gives one").expose())
}

fn tenants() -> [Tenant; 2] {
    ["codex/user:803", "codex/user:804"].map(|text| text.parse().expect("a tenant"))
}
