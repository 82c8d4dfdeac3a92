//! Executing the steps.

use std::time::Duration;

use threadkey::secret::AccessToken;

use super::{
    reference::lock,
    steps::{PROCESSES, PROVIDERS, Step, TENANTS, USERS, Which, rotation},
    token_results::Operation,
    world::{World, tenant_id},
};
use crate::support::authserver::LifeState;

/// After this time everything has expired, and every pause is over.
const LATER: i64 = 10 * 3600;

/// After this time no waiting sign-in can be chosen any more, although its clock was hours ahead.
const TOO_LATE: i64 = 24 * 3600;

/// Executes the steps, one after the other; returns the promises that they broke.
pub(super) async fn run(steps: &[Step]) -> Result<(), String> {
    let mut world = World::start().await;
    for tenant in 0..TENANTS.len() {
        world.sign_in(tenant, tenant % PROCESSES, 0).await;
        world.settle().await;
    }
    world.plant();
    for (number, step) in steps.iter().enumerate() {
        world.execute(step).await;
        world.settle().await;
        world.verdict(|| format!("step {number}, {step:?}"))?;
    }
    world.end().await?;
    world.verdict(|| "at the end".into())
}

impl World {
    fn verdict(&self, at: impl Fn() -> String) -> Result<(), String> {
        let violations = std::mem::take(&mut lock(&self.reference).violations);
        if violations.is_empty() { Ok(()) } else { Err(format!("{}: {}", at(), violations.join("\n  and "))) }
    }

    async fn execute(&mut self, step: &Step) {
        match *step {
            Step::Get { tenant, processes, callers, min_ttl } => {
                self.request_tokens(tenant, processes, callers, min_ttl);
            }
            Step::GiveUp(which) => self.give_up(which),
            Step::Reject { tenant, process, which } => self.reject(tenant, process, which),
            Step::SignIn { tenant, process, account } => self.sign_in(tenant, process, account).await,
            Step::Start { tenant, process, user } => self.start_sign_in(tenant, process, USERS[user]).await,
            Step::Finish { tenant, process, user, account, paste, in_server } => {
                self.finish(tenant, process, USERS[user], account, paste, in_server);
            }
            Step::Cancel { process, user } => self.cancel(process, USERS[user]).await,
            Step::Logout { tenant, process, revoke } => self.logout(tenant, process, revoke).await,
            Step::Choose { tenant, process, choice, named } => {
                self.choose(tenant, process, choice, named).await;
            }
            Step::ExpireChoices { process } => self.expire_choices(process).await,
            Step::Status { process } => self.status(process).await,
            Step::Script { provider, fault } => self.servers[provider].script([fault.reply()]),
            Step::Hold { provider, before } => self.hold(provider, before),
            Step::Release { provider } => self.release_provider(provider),
            Step::Rotate { strict } => self.servers[2].set_rotation(rotation(strict)),
            Step::Clock(seconds) => self.step_clock(seconds),
            Step::Age { tenant, percent } => self.age(tenant, percent),
            Step::Rush { tenant } => {
                self.age(tenant, 100);
                self.request_tokens(tenant, 0b111, 1, 60);
            }
            Step::Restart { process } => self.restart(process).await,
            Step::Plant => self.plant(),
        }
    }

    /// Moves the clock to this percentage of the life of the tenant's token, unless that is in the
    /// past.
    fn age(&self, tenant: usize, percent: i64) {
        let stored = lock(&self.reference).tenants[tenant].stored.clone();
        let at =
            stored.map(|stored| stored.issued_at + (stored.expires_at - stored.issued_at) * percent / 100);
        if let Some(ahead) = at.map(|at| at - self.clock.now()).filter(|ahead| *ahead > 0) {
            self.step_clock(ahead);
        }
    }

    fn request_tokens(&mut self, tenant: usize, processes: u8, callers: u8, min_ttl: i64) {
        for process in (0..PROCESSES).filter(|process| processes & (1 << process) != 0) {
            (0..callers).for_each(|_| self.get(tenant, process, min_ttl));
        }
    }

    fn get(&mut self, tenant: usize, process: usize, min_ttl: i64) {
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        let alive = self.processes[process].alive.clone();
        self.wait_for(process, tenant, async move {
            let call = lock(&reference).begin_call(alive, tenant, Operation::Get { min_ttl });
            let result = broker.token(&tenant_id(tenant), Duration::from_secs(min_ttl.unsigned_abs())).await;
            lock(&reference).check_token_result(&call, &result);
        });
    }

    fn reject(&mut self, tenant: usize, process: usize, which: Which) {
        let token = self.token(tenant, which);
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        let alive = self.processes[process].alive.clone();
        self.wait_for(process, tenant, async move {
            let call = lock(&reference).begin_call(alive, tenant, Operation::Rejected(token.clone()));
            let result = broker.rejected(&tenant_id(tenant), &AccessToken::new(token)).await;
            lock(&reference).check_token_result(&call, &result);
        });
    }

    fn token(&self, tenant: usize, which: Which) -> String {
        let reference = lock(&self.reference);
        let stored = reference.tenants[tenant].stored.as_ref().map(|stored| stored.access.clone());
        let before = reference.issues.iter().rev().find(|issue| {
            reference.families[issue.family].tenant == tenant
                && Some(&issue.access) != stored.as_ref()
                && reference.durable.contains(&issue.access)
        });
        match which {
            Which::Current => stored,
            Which::Before => before.map(|issue| issue.access.clone()),
            Which::Unknown => None,
        }
        .unwrap_or_else(|| "never-issued".into())
    }

    /// Plants only while no other process writes: this step tests the fate of foreign fields, not
    /// foreign locking.
    fn plant(&mut self) {
        if self.anything_held() {
            return;
        }
        self.plants += 1;
        let mut reference = lock(&self.reference);
        if let Some(disk) = reference.observe() {
            disk.plant(&self.path, self.plants);
            reference.planted();
        }
    }

    // === the end ===

    /// Lets the providers work again. Each session that lives at its provider must get a token
    /// without a user's help.
    async fn end(&mut self) -> Result<(), String> {
        for provider in 0..PROVIDERS.len() {
            self.servers[provider].unscript();
            self.release_provider(provider);
        }
        self.settle().await;
        self.verdict(|| "after the release of all providers".into())?;
        for process in 0..PROCESSES {
            self.restart(process).await;
        }
        self.settle().await;
        // The first look begins to watch the sign-ins that wait.
        self.expire_choices(0).await;
        self.step_clock(TOO_LATE);
        self.expire_choices(0).await;
        self.settle().await;
        lock(&self.reference).check_no_choice_is_left();
        for tenant in 0..TENANTS.len() {
            self.expect_token(tenant).await;
        }
        Ok(())
    }

    async fn expect_token(&mut self, tenant: usize) {
        for try_number in 0..3 {
            self.step_clock(LATER);
            self.settle().await;
            let Some(stored) = lock(&self.reference).tenants[tenant].stored.clone() else { return };
            let of = crate::support::events::fingerprint(&stored.refresh);
            let mut lives = self.servers[TENANTS[tenant].0].lives().into_iter();
            let lives_on = lives.any(|life| life.fingerprint == of && life.state == LifeState::Live);
            let (broker, id) = (self.processes[tenant % PROCESSES].broker.clone(), tenant_id(tenant));
            let alive = self.processes[tenant % PROCESSES].alive.clone();
            let call = lock(&self.reference).begin_call(alive, tenant, Operation::Get { min_ttl: 60 });
            let result = broker.token(&id, Duration::from_secs(60)).await;
            let mut reference = lock(&self.reference);
            reference.check_token_result(&call, &result);
            match result {
                Ok(_) => return,
                Err(threadkey::broker::TokenError::Ended { .. }) if !lives_on || stored.ended.is_some() => {
                    return;
                }
                Err(error) if try_number == 2 => {
                    reference.violate(format!("the login lives at its provider, and gets no token: {error}"));
                }
                Err(_) => {}
            }
        }
    }
}
