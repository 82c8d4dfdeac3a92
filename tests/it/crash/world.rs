//! What everybody outside the machine knows: the provider, and those who were told that something is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use threadkey::{ids::Tenant, oauth::Sent, session::journal::Answer, store::Purpose};

use super::{NOW, ends::Written, walk::Violation};
use crate::support::random::Random;

/// The world, as programs, machine and walk share it. Its lock is the last one that anybody takes.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

/// Tokens, codes and grants are numbers, each minted once.
pub(super) struct World {
    seed: u64,
    minted: u64,
    /// Whether a refresh token that is presented twice ends its grant.
    strict: bool,
    /// From now on the provider answers whatever it is asked.
    pub(super) well: bool,
    /// How many requests came in.
    pub(super) requests: u64,
    records: BTreeMap<Tenant, Record>,
    grants: BTreeMap<u64, Granted>,
    codes: BTreeMap<u64, Code>,
    /// Refresh tokens that the provider may have taken, as far as a client can know, and those that it took.
    sent: BTreeSet<u64>,
    taken: BTreeSet<u64>,
    /// Those whose successor was acknowledged: by the journal or by the store.
    superseded: BTreeSet<u64>,
    /// Grants whose answer was in a journal, at one time.
    written: BTreeSet<u64>,
    /// Sign-ins whose grant the provider has ended.
    ended: BTreeSet<u64>,
    /// What one write brought, if it did.
    pub(super) together: Option<Vec<(Tenant, u64)>>,
    /// Of whom two programs are changing the record at once, so that nobody can say which of them was first.
    contested: Option<Tenant>,
    violations: Vec<Violation>,
}

#[derive(Default)]
struct Record {
    /// What the store may hold. One state, unless somebody ended in the middle of a change.
    possible: Vec<Option<u64>>,
    /// The `state` of the link that the person has, and the code that it brought last.
    link: Option<String>,
    code: Option<u64>,
    /// The provider's last answer, until it is in the journal.
    exchanged: Option<Reply>,
    refreshed: Option<Reply>,
    /// A grant that the sign-in's journal acknowledged, and that nobody was told of.
    answered: Option<u64>,
    /// Sign-ins that may still be committed, and the `state` that they are for.
    open: BTreeMap<u64, Option<String>>,
    during: During,
}

/// What a step did to a tenant.
#[derive(Default)]
struct During {
    before: BTreeSet<Option<u64>>,
    sign_ins: BTreeSet<u64>,
    signed_in: bool,
    logged_out: bool,
    logout_begun: bool,
    /// Somebody gave the sign-in up, or began to.
    given_up: bool,
    refreshed: BTreeSet<u64>,
    /// Sign-ins that somebody was served of, durable or not.
    seen: BTreeSet<u64>,
    /// The codes that were pasted.
    pasted: BTreeSet<u64>,
}

struct Granted {
    tenant: Tenant,
    parent: Option<u64>,
}

struct Code {
    tenant: Tenant,
    /// It may be spent, as far as a client can know.
    closed: bool,
    taken: bool,
    sent: u64,
}

#[derive(Clone, Copy)]
enum Reply {
    Granted(u64),
    /// The code is not spent, and who learns that may send it again.
    Unspent(u64),
}

/// How the provider treats a request.
enum Treatment {
    Unavailable,
    Unreachable,
    LostBefore,
    LostAfter,
    Refused,
    Answered,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(random: &mut Random, tenants: &[Tenant]) -> Self {
        let empty = || Record { possible: vec![None], ..Record::default() };
        Self(Arc::new(Mutex::new(World {
            seed: random.next(),
            minted: 0,
            strict: random.one_in(4),
            well: false,
            requests: 0,
            records: tenants.iter().map(|tenant| (tenant.clone(), empty())).collect(),
            grants: BTreeMap::new(),
            codes: BTreeMap::new(),
            sent: BTreeSet::new(),
            taken: BTreeSet::new(),
            superseded: BTreeSet::new(),
            written: BTreeSet::new(),
            ended: BTreeSet::new(),
            together: None,
            contested: None,
            violations: Vec::new(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl World: the provider ===

impl World {
    pub(super) fn mint(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }

    /// Whether this refresh token may be spent.
    pub(super) fn was_sent(&self, token: u64) -> bool {
        self.sent.contains(&token)
    }

    /// The token endpoint, for a refresh (RFC 6749 §6). `doubt_on_record`: the store says that it may be spent.
    pub(super) fn refresh(&mut self, token: u64, doubt_on_record: bool) -> Sent {
        self.requests += 1;
        if self.superseded.contains(&token) {
            self.violate(format!("refresh token {token} was sent, whose successor was acknowledged"));
        } else if self.sent.contains(&token) && !doubt_on_record {
            self.violate(format!(
                "refresh token {token} was sent again, and nothing said that it had been sent before"
            ));
        }
        let treatment = self.treatment(token, self.requests);
        let tenant = self.grants[&token].tenant.clone();
        self.record(&tenant).refreshed = None;
        match treatment {
            Treatment::Unavailable => return answer(503, String::new()),
            Treatment::Unreachable => return Sent::NotSent("connect"),
            _ => {}
        }
        self.sent.insert(token);
        if let Treatment::LostBefore = treatment {
            return Sent::Unknown("reset");
        }
        let again = !self.taken.insert(token);
        if self.strict && again {
            let root = self.root(token);
            self.ended.insert(root);
        }
        if self.ended.contains(&self.root(token)) {
            return refused();
        }
        let number = self.grant(&tenant, Some(token));
        if let Treatment::LostAfter = treatment {
            return Sent::Unknown("timeout");
        }
        let record = self.record(&tenant);
        record.possible.push(Some(number));
        record.refreshed = Some(Reply::Granted(number));
        record.during.refreshed.insert(number);
        granted(number)
    }

    /// The token endpoint, for a code (RFC 6749 §4.1.3).
    pub(super) fn exchange(&mut self, code: u64) -> Sent {
        self.requests += 1;
        let Some(Code { tenant, closed, taken, sent }) = self.codes.get_mut(&code) else { return refused() };
        *sent += 1;
        let (tenant, closed, taken, sent) = (tenant.clone(), *closed, *taken, *sent);
        if closed {
            self.violate(format!("code {code} was sent again, and nobody knew that it was not spent"));
        }
        // The journal remembers the code that was sent last.
        self.forget_codes_of(&tenant);
        let treatment = self.treatment(code, sent);
        self.record(&tenant).open.clear();
        self.record(&tenant).exchanged = Some(Reply::Unspent(code));
        if let Treatment::Unreachable = treatment {
            return Sent::NotSent("connect");
        }
        self.code(code).closed = true;
        match treatment {
            Treatment::Unavailable => return answer(503, String::new()),
            Treatment::LostBefore => return Sent::Unknown("reset"),
            Treatment::Refused => return refused(),
            _ if taken => return refused(),
            _ => self.code(code).taken = true,
        }
        if let Treatment::LostAfter = treatment {
            return Sent::Unknown("timeout");
        }
        let number = self.grant(&tenant, None);
        let record = self.record(&tenant);
        record.possible.push(Some(number));
        record.exchanged = Some(Reply::Granted(number));
        record.open.insert(number, record.link.clone());
        record.during.sign_ins.insert(number);
        granted(number)
    }

    /// An answer is in this journal.
    pub(super) fn journalled(&mut self, path: &Path, written: Written) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
        let purposes = [(Purpose::Refresh, ".lock"), (Purpose::SignIn, ".signin.lock")];
        let is = |tenant: &Tenant, end: &str| name.strip_suffix(end) == Some(&tenant.file_name());
        let found = self.records.keys().find_map(|tenant| {
            let (purpose, _) = purposes.iter().find(|(_, end)| is(tenant, end))?;
            Some((tenant.clone(), *purpose))
        });
        let Some((tenant, purpose)) = found else { return };
        let record = self.record(&tenant);
        let reply = match purpose {
            Purpose::Refresh => record.refreshed,
            Purpose::SignIn => record.exchanged,
        };
        if let Some(Reply::Granted(number)) = reply {
            self.written.insert(number);
        }
        let record = self.record(&tenant);
        if written == Written::Volatile {
            // Whoever is next knows it, unless the power fails first.
            if let Some(Reply::Unspent(code)) = reply {
                self.code(code).closed = false;
            }
            return;
        }
        match purpose {
            Purpose::Refresh => record.refreshed = None,
            Purpose::SignIn => record.exchanged = None,
        }
        match (purpose, reply) {
            (Purpose::SignIn, Some(Reply::Granted(number))) => record.answered = Some(number),
            (Purpose::Refresh, Some(Reply::Granted(number))) => self.supersede_parent(number),
            (_, Some(Reply::Unspent(code))) => self.code(code).closed = false,
            (_, None) => {}
        }
    }

    /// The same request is treated the same, whoever is first.
    fn treatment(&self, presented: u64, time: u64) -> Treatment {
        if self.well {
            return Treatment::Answered;
        }
        match Random::new(self.seed ^ (presented << 16) ^ time).below(12) {
            0 => Treatment::Unavailable,
            1 => Treatment::Unreachable,
            2 => Treatment::LostBefore,
            3 => Treatment::LostAfter,
            4 => Treatment::Refused,
            _ => Treatment::Answered,
        }
    }

    fn grant(&mut self, tenant: &Tenant, parent: Option<u64>) -> u64 {
        let number = self.mint();
        self.grants.insert(number, Granted { tenant: tenant.clone(), parent });
        number
    }

    fn forget_codes_of(&mut self, tenant: &Tenant) {
        self.codes.values_mut().filter(|code| code.tenant == *tenant).for_each(|code| code.closed = false);
    }

    fn code(&mut self, number: u64) -> &mut Code {
        self.codes.get_mut(&number).expect("it was handed out")
    }

    fn supersede_parent(&mut self, number: u64) {
        self.superseded.extend(self.grants[&number].parent);
    }

    /// The sign-in that a token goes back to.
    pub(super) fn root(&self, mut number: u64) -> u64 {
        while let Some(parent) = self.grants[&number].parent {
            number = parent;
        }
        number
    }

    /// The generation of the session that holds this token.
    pub(super) fn generation(&self, mut number: u64) -> u64 {
        let mut generation = 1;
        while let Some(parent) = self.grants.get(&number).and_then(|grant| grant.parent) {
            number = parent;
            generation += 1;
        }
        generation
    }
}

// === impl World: the persons ===

impl World {
    /// The person has a link.
    pub(super) fn linked(&mut self, tenant: &Tenant, state: String) {
        let record = self.record(tenant);
        if record.link.as_ref() != Some(&state) {
            record.code = None;
        }
        record.link = Some(state);
    }

    /// Follows the link again, and then has a new code.
    pub(super) fn follow_the_link(&mut self, tenant: &Tenant) {
        let code = self.mint();
        self.codes.insert(code, Code { tenant: tenant.clone(), closed: false, taken: false, sent: 0 });
        self.record(tenant).code = Some(code);
    }

    /// What the person has to paste: `state` and code.
    pub(super) fn paste(&mut self, tenant: &Tenant) -> Option<(String, u64)> {
        let record = self.record(tenant);
        record.during.pasted.extend(record.code);
        record.link.clone().zip(record.code)
    }

    pub(super) fn signed_in(&mut self, tenant: &Tenant) {
        let contested = self.is_contested(tenant);
        let record = self.record(tenant);
        record.during.signed_in = true;
        // One that was being given up when its program ended may have been left as it was.
        let answered = record.answered.take().or(record.open.keys().next_back().copied());
        (record.link, record.code) = (None, None);
        record.during.sign_ins.extend(record.open.keys());
        match answered {
            Some(number) if !contested => {
                record.open.clear();
                self.settle(tenant, Some(number));
            }
            Some(_) => {}
            None if contested => {}
            None => self.violate(format!("{tenant} was told of a sign-in whose answer was in no journal")),
        }
    }

    pub(super) fn leased(&mut self, tenant: &Tenant, number: u64) {
        let Some(root) = self.grants.contains_key(&number).then(|| self.root(number)) else {
            return self.violate(format!("{tenant} got a token {number} that was never granted"));
        };
        self.supersede_parent(number);
        if !self.written.contains(&number) {
            self.violate(format!("{tenant} got token {number}, whose answer was in no journal"));
        }
        let contested = self.is_contested(tenant);
        let record = self.record(tenant);
        if !record.possible.contains(&Some(number)) {
            let possible = format!("{:?}", record.possible);
            return self.violate(format!("{tenant} got token {number}, and may have {possible}"));
        }
        if !record.during.before.contains(&Some(root)) {
            record.during.seen.insert(root);
        }
        if record.answered == Some(root) {
            record.answered = None;
        }
        // What was there before may be the work of a program that ended between its rename and its fsync: a look at it does
        // not make it durable.
        if !contested && self.record(tenant).during.refreshed.contains(&number) {
            self.settle(tenant, Some(number));
        }
    }

    /// The session has ended, the provider says.
    pub(super) fn told_of_an_end(&mut self, tenant: &Tenant) {
        let possible = self.record(tenant).possible.clone();
        if !possible.into_iter().flatten().any(|number| self.ended.contains(&self.root(number))) {
            self.violate(format!("{tenant} was told of an end that no provider spoke of"));
        }
    }

    pub(super) fn logging_out(&mut self, tenant: &Tenant) {
        let record = self.record(tenant);
        record.answered = None;
        record.during.logout_begun = true;
        record.during.given_up = true;
        record.possible.push(None);
    }

    pub(super) fn logged_out(&mut self, tenant: &Tenant) {
        self.record(tenant).during.logged_out = true;
        if !self.is_contested(tenant) {
            self.record(tenant).open.clear();
            self.settle(tenant, None);
        }
    }

    /// Gives up what the sign-in's journal may hold.
    pub(super) fn cancelling(&mut self, tenant: &Tenant) {
        let record = self.record(tenant);
        record.answered = None;
        record.during.given_up = true;
    }

    /// What was under way is dropped, so nothing comes of it any more.
    pub(super) fn cancelled(&mut self, tenant: &Tenant) {
        if !self.is_contested(tenant) {
            let record = self.record(tenant);
            let link = record.link.take();
            let gone = |number: &u64| record.open.get(number).is_some_and(|state| *state == link);
            record.possible.retain(|state| !state.as_ref().is_some_and(gone));
            record.open.retain(|_, state| *state != link);
        }
    }

    /// A write is about to bring a new session.
    pub(super) fn beginning(&mut self, tenant: &Tenant) -> u64 {
        let number = self.grant(tenant, None);
        let record = self.record(tenant);
        record.answered = None;
        record.possible.push(Some(number));
        record.during.sign_ins.insert(number);
        self.written.insert(number);
        self.together.get_or_insert_default().push((tenant.clone(), number));
        number
    }

    pub(super) fn begun(&mut self, tenant: &Tenant, number: u64) {
        let record = self.record(tenant);
        (record.link, record.code) = (None, None);
        record.during.signed_in = true;
        record.open.clear();
        self.settle(tenant, Some(number));
    }
}

// === impl World: the walk ===

impl World {
    pub(super) fn begin_step(&mut self, contested: Option<Tenant>) {
        self.contested = contested;
        self.together = None;
        let tenants: Vec<_> = self.records.keys().cloned().collect();
        for tenant in tenants {
            let roots: Vec<_> = self.record(&tenant).possible.clone();
            let before = roots.into_iter().map(|state| state.map(|number| self.root(number))).collect();
            self.record(&tenant).during = During { before, ..During::default() };
        }
    }

    /// After a step, of which every program has told what it has, or has ended: what cannot be any more is struck out. Says
    /// whether two have told what they made of one record, so that what it is now is what it is for good.
    pub(super) fn end_step(&mut self, all_alive: bool) -> bool {
        let contested = self.contested.take();
        let mut told = false;
        let tenants: Vec<_> = self.records.keys().cloned().collect();
        for tenant in tenants {
            let record = self.record(&tenant);
            let during = std::mem::take(&mut record.during);
            let During {
                before, sign_ins, signed_in, logged_out, logout_begun, given_up, seen, pasted, ..
            } = during;
            told |= contested.as_ref() == Some(&tenant) && (signed_in || logged_out);
            let untold =
                |number: &u64| all_alive && !signed_in && sign_ins.contains(number) && !seen.contains(number);
            if record.answered.as_ref().is_some_and(untold) || (given_up && contested.is_some()) {
                record.answered = None;
            }
            record.open.retain(|number, _| !untold(number));
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
                // One was given up for the other in the journal, by a program that ended before it sent it.
                self.forget_codes_of(&tenant);
            }
        }
        told && all_alive
    }

    pub(super) fn possible(&mut self, tenant: &Tenant) -> Vec<Option<u64>> {
        self.record(tenant).possible.clone()
    }

    /// The tenant is in this state for good, but for what a journal may still bring.
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

    /// The grant that the sign-in's journal holds, if nobody was told of it.
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

fn answer(status: u16, body: String) -> Sent {
    Sent::Answer(Answer { status, retry_after: None, body: body.into_bytes().into(), at: NOW })
}

fn refused() -> Sent {
    answer(400, r#"{"error":"invalid_grant"}"#.into())
}

/// RFC 6749 §5.1.
fn granted(number: u64) -> Sent {
    let body = format!(
        r#"{{"access_token":"access-{number}","token_type":"Bearer","refresh_token":"refresh-{number}","expires_in":{}}}"#,
        super::LIFETIME
    );
    answer(200, body)
}
