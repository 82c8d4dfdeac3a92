//! The outside of the machine: the provider, and the users who received acknowledgements.

mod provider;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use threadkey::ids::{Tenant, UnixTime};

use super::{NOW, walk::Violation};
use crate::support::random::Random;

/// The world, shared by programs, machine and walk. Its lock is the last one in every lock order.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

/// Tokens, codes and grants are numbers, each minted once.
pub(super) struct World {
    seed: u64,
    minted: u64,
    /// Whether a refresh token that is presented twice ends its grant.
    strict: bool,
    /// From now on the provider answers every request.
    pub(super) healthy: bool,
    /// The time of the current request to the provider.
    pub(super) now: UnixTime,
    /// The number of requests that came in.
    pub(super) requests: u64,
    records: BTreeMap<Tenant, Record>,
    grants: BTreeMap<u64, Granted>,
    codes: BTreeMap<u64, Code>,
    /// Refresh tokens that the provider may have taken, as far as a client can know; and those that
    /// it took.
    sent: BTreeSet<u64>,
    taken: BTreeSet<u64>,
    /// Refresh tokens whose successor was acknowledged, by the journal or by the store.
    superseded: BTreeSet<u64>,
    /// Grants whose answer was in a journal at some time.
    written: BTreeSet<u64>,
    /// Sign-ins whose grant the provider has ended.
    ended: BTreeSet<u64>,
    /// The sessions that one shared write brings.
    pub(super) shared_write: Option<Vec<(Tenant, u64)>>,
    /// The tenant whose record two programs change at once, so that their order is unknown.
    contested: Option<Tenant>,
    violations: Vec<Violation>,
}

#[derive(Default)]
struct Record {
    /// The states that the store may hold: one, unless a program ended in the middle of a change.
    possible: Vec<Option<u64>>,
    /// The `state` of the user's link, and the code that it returned last.
    link: Option<String>,
    code: Option<u64>,
    /// The number of answers that did not accept a code of that link.
    not_accepted: u32,
    /// The provider's last answer, until it is in the journal.
    exchanged: Option<Reply>,
    refreshed: Option<Reply>,
    /// A grant that the sign-in's journal acknowledged and no user has been notified of.
    answered: Option<u64>,
    /// Sign-ins that may still be committed, and the `state` that each belongs to.
    open: BTreeMap<u64, Option<String>>,
    during: During,
}

/// The effects of one step on a tenant.
#[derive(Default)]
struct During {
    before: BTreeSet<Option<u64>>,
    sign_ins: BTreeSet<u64>,
    signed_in: bool,
    logged_out: bool,
    logout_begun: bool,
    /// A user cancelled the sign-in, or began to.
    abandoned: bool,
    refreshed: BTreeSet<u64>,
    /// Sign-ins whose tokens were served, durable or not.
    seen: BTreeSet<u64>,
    /// The codes that were pasted.
    pasted: BTreeSet<u64>,
    /// The pause that a user has to make after codes that were not accepted, in seconds.
    pause: Option<i64>,
}

struct Granted {
    tenant: Tenant,
    parent: Option<u64>,
    at: UnixTime,
}

struct Code {
    tenant: Tenant,
    /// The code may be spent, as far as a client can know.
    closed: bool,
    taken: bool,
    sent: u64,
}

#[derive(Clone, Copy)]
enum Reply {
    Granted(u64),
    /// The code is not spent; a client that learns this may send it again.
    Unspent(u64),
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(random: &mut Random, tenants: &[Tenant]) -> Self {
        let empty = || Record { possible: vec![None], ..Record::default() };
        Self(Arc::new(Mutex::new(World {
            seed: random.next(),
            minted: 0,
            strict: random.one_in(4),
            healthy: false,
            now: NOW,
            requests: 0,
            records: tenants.iter().map(|tenant| (tenant.clone(), empty())).collect(),
            grants: BTreeMap::new(),
            codes: BTreeMap::new(),
            sent: BTreeSet::new(),
            taken: BTreeSet::new(),
            superseded: BTreeSet::new(),
            written: BTreeSet::new(),
            ended: BTreeSet::new(),
            shared_write: None,
            contested: None,
            violations: Vec::new(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl World: the walk ===

impl World {
    pub(super) fn begin_step(&mut self, contested: Option<Tenant>) {
        self.contested = contested;
        self.shared_write = None;
        let tenants: Vec<_> = self.records.keys().cloned().collect();
        for tenant in tenants {
            let roots: Vec<_> = self.record(&tenant).possible.clone();
            let before = roots.into_iter().map(|state| state.map(|number| self.root(number))).collect();
            self.record(&tenant).during = During { before, ..During::default() };
        }
    }

    /// Removes the impossible states after a step in which every program has reported its results
    /// or has ended. Returns whether two programs reported results for one record, so that its
    /// present state is final.
    pub(super) fn end_step(&mut self, all_alive: bool) -> bool {
        let contested = self.contested.take();
        let mut reported = false;
        let tenants: Vec<_> = self.records.keys().cloned().collect();
        for tenant in tenants {
            let record = self.record(&tenant);
            let during = std::mem::take(&mut record.during);
            let During {
                before, sign_ins, signed_in, logged_out, logout_begun, abandoned, seen, pasted, ..
            } = during;
            reported |= contested.as_ref() == Some(&tenant) && (signed_in || logged_out);
            let unreported =
                |number: &u64| all_alive && !signed_in && sign_ins.contains(number) && !seen.contains(number);
            if record.answered.as_ref().is_some_and(unreported) || (abandoned && contested.is_some()) {
                record.answered = None;
            }
            record.open.retain(|number, _| !unreported(number));
            let mut allowed = BTreeSet::new();
            if !signed_in && !logged_out {
                allowed = before;
            }
            if signed_in || !all_alive {
                allowed.extend(sign_ins.iter().copied().map(Some));
            }
            if logged_out || (!all_alive && logout_begun) {
                allowed.insert(None);
            }
            allowed.extend(seen.iter().copied().map(Some));
            let possible = std::mem::take(&mut record.possible);
            let is_allowed = |state: &Option<u64>| allowed.contains(&state.map(|number| self.root(number)));
            let possible = possible.into_iter().filter(is_allowed).collect();
            self.record(&tenant).possible = possible;
            if !all_alive && pasted.len() > 1 {
                // A program put one code in the journal in place of the other, and ended before it
                // sent it.
                self.forget_codes_of(&tenant);
            }
        }
        reported && all_alive
    }

    pub(super) fn possible(&mut self, tenant: &Tenant) -> Vec<Option<u64>> {
        self.record(tenant).possible.clone()
    }

    /// Makes this state of the tenant final, except for results that a journal may still bring.
    pub(super) fn settle(&mut self, tenant: &Tenant, found: Option<u64>) {
        let root = found.map(|number| self.root(number));
        let parents: BTreeMap<_, _> =
            self.grants.iter().map(|(number, grant)| (*number, grant.parent)).collect();
        let record = self.record(tenant);
        if let Some(root) = root {
            record.open.remove(&root);
            if record.answered == Some(root) {
                record.answered = None;
            }
        }
        let open = record.open.clone();
        let comes = |number: u64| match parents[&number] {
            Some(parent) => found == Some(parent),
            None => open.contains_key(&number),
        };
        record.possible.retain(|state| *state != found && state.is_some_and(comes));
        record.possible.push(found);
    }

    /// Returns the grant in the sign-in's journal that no user has been notified of.
    pub(super) fn answered(&mut self, tenant: &Tenant) -> Option<u64> {
        self.record(tenant).answered
    }

    pub(super) fn violate(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    pub(super) fn verdict(&mut self) -> Result<(), Violation> {
        self.violations.pop().map_or(Ok(()), Err)
    }

    fn is_contested(&self, tenant: &Tenant) -> bool {
        self.contested.as_ref() == Some(tenant)
    }

    fn record(&mut self, tenant: &Tenant) -> &mut Record {
        self.records.get_mut(tenant).expect("there are no others")
    }
}
