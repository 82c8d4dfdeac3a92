//! The results of token calls, each checked at the moment at which its caller gets it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use threadkey::broker::{Lease, TokenError};

use super::{
    disk::Stored,
    reference::{Meaning, Presented, Reference},
};

/// Whether a process lives. Results of a dying process reach no caller.
#[derive(Clone, Default)]
pub(super) struct Alive(Arc<AtomicBool>);

impl Alive {
    pub(super) fn end(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The operation of a caller.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Get {
        min_ttl: i64,
    },
    /// The caller reported this token as rejected.
    Rejected(String),
}

/// A caller that waits for its result.
pub(super) struct Call {
    /// The life of the caller's process.
    alive: Alive,
    tenant: usize,
    operation: Operation,
    before: Option<Stored>,
    /// The numbers of sign-ins and logouts, and of choices.
    changes: (u64, u64),
    changing: bool,
    requests: usize,
}

impl Reference {
    /// Records the start of a call.
    pub(super) fn begin_call(&mut self, alive: Alive, tenant: usize, operation: Operation) -> Call {
        if let Operation::Rejected(token) = &operation {
            self.tenants[tenant].reported.insert(token.clone());
        }
        self.observe();
        let tenancy = &self.tenants[tenant];
        Call {
            alive,
            tenant,
            operation,
            before: tenancy.stored.clone(),
            changes: (tenancy.changes, tenancy.switches),
            changing: tenancy.changing,
            requests: self.requests.len(),
        }
    }

    /// Checks the result of a call.
    pub(super) fn check_token_result(&mut self, call: &Call, result: &Result<Lease, TokenError>) {
        if call.alive.has_ended() {
            return;
        }
        self.observe();
        match result {
            Ok(lease) => {
                self.record_text("a lease", format!("{lease:?}"));
                self.check_lease(call, lease);
            }
            Err(error) => {
                self.record_text("an error", format!("{error} {error:?}"));
                self.check_refusal(call, error);
            }
        }
    }

    fn after(&self, call: &Call) -> Option<&Stored> {
        self.tenants[call.tenant].stored.as_ref()
    }

    /// Whether a user signed in, logged out or chose another session during the call.
    fn changed_during(&self, call: &Call) -> bool {
        let tenancy = &self.tenants[call.tenant];
        call.changing || tenancy.changing || (tenancy.changes, tenancy.switches) != call.changes
    }

    fn check_lease(&mut self, call: &Call, lease: &Lease) {
        let token = lease.access_token.expose();
        let Some(&issue) = self.by_access.get(token) else {
            return self.violate("promise 12: a token is served that no provider issued");
        };
        let family = self.issues[issue].family;
        if self.families[family].tenant != call.tenant {
            self.violate(format!("promise 12: {} is served the token of another", lease.tenant));
        }
        if self.was_not_chosen(family) {
            self.violate(format!("adr/0016: {} is served a sign-in that no user chose", lease.tenant));
        }
        if !self.is_known_account(family, lease.account.as_ref()) {
            self.violate(format!("promise 12: {} is served under another name: {lease:?}", lease.tenant));
        }
        if !self.durable.contains(token) && !self.superseded(call, issue) {
            self.violate(format!(
                "promise 3: {} is served generation {} and it is not in the store: {:?}",
                lease.tenant,
                lease.generation,
                self.after(call)
            ));
        }
        if self.times.iter().all(|now| lease.expires_at <= *now) {
            self.violate(format!("{} is served an expired token", lease.tenant));
        }
        if matches!(&call.operation, Operation::Rejected(reported) if reported == token) {
            self.violate(format!("{} is given back the token that it reported as refused", lease.tenant));
        }
        let Some(before) = &call.before else { return };
        if self.age(&before.access) > self.age(token) {
            self.violate(format!("promise 2: {} is served an older token than the store held", lease.tenant));
        }
    }

    /// Whether the store has moved on from this token, so that it may have been there between two
    /// observations.
    fn superseded(&self, call: &Call, issue: usize) -> bool {
        let after = self.after(call).and_then(|after| self.by_access.get(&after.access).copied());
        let same = after.is_some_and(|after| self.issues[after].family == self.issues[issue].family);
        if same { after > Some(issue) } else { self.changed_during(call) }
    }

    /// Returns the rank of a token among all stored ones: by the lineage's first appearance, then
    /// by issue.
    fn age(&self, token: &str) -> Option<(usize, usize)> {
        let issue = *self.by_access.get(token)?;
        let family = self.issues[issue].family;
        Some((self.lineages.iter().position(|(_, of)| *of == family)?, issue))
    }

    fn check_refusal(&mut self, call: &Call, error: &TokenError) {
        let Operation::Get { min_ttl } = call.operation else { return self.check_reason(call, error) };
        let served = match (&call.before, self.after(call)) {
            (Some(before), Some(after)) if before.same(after) => {
                // A verdict leaves the access token the rest of its life; every other outcome
                // leaves it the requested life.
                let min_ttl = if matches!(error, TokenError::Ended { .. }) { 0 } else { min_ttl };
                self.times.iter().all(|now| after.fresh(*now, min_ttl))
            }
            _ => false,
        };
        if served {
            return self.violate(format!("promise 6: a token that works is kept back: {error}"));
        }
        self.check_reason(call, error);
    }

    fn check_reason(&mut self, call: &Call, error: &TokenError) {
        let reason = match error {
            TokenError::NoSession(_) => {
                call.before.is_none() || self.after(call).is_none() || self.changed_during(call)
            }
            TokenError::Ended { .. } => self.came(call, |meaning| *meaning == Meaning::Verdict),
            TokenError::Misconfigured { .. } => self.came(call, |meaning| *meaning == Meaning::Misconfigured),
            TokenError::Unavailable { code, .. } if code == "rejected_again" => {
                matches!(call.operation, Operation::Rejected(_))
                    && self.tenants[call.tenant].stored.as_ref().is_some_and(|stored| {
                        stored
                            .rejected
                            .as_ref()
                            .is_some_and(|(_, at)| self.times.iter().any(|now| *at <= *now && *now < at + 60))
                    })
            }
            TokenError::Unavailable { .. } => self.came(call, |meaning| *meaning != Meaning::Granted),
            TokenError::InProgress(_) => self.times.len() > 1 || self.changed_during(call),
            _ => false,
        };
        if !reason {
            let violation = format!("no reason for this result of {:?}: {error:?}", call.operation);
            self.violate(format!("{violation}; before {:?}, after {:?}", call.before, self.after(call)));
        }
    }

    /// Whether a request had this meaning or was lost with its sender. It is one since the call's
    /// start, or one for the token stored before or after the call.
    fn came(&self, call: &Call, to: impl Fn(&Meaning) -> bool) -> bool {
        let tokens = [call.before.as_ref(), self.after(call)];
        let left_behind = |stored: &&Stored| self.left_behind.contains(&stored.refresh);
        if to(&Meaning::Ambiguous) && tokens.iter().flatten().any(left_behind) {
            return true;
        }
        self.requests.iter().enumerate().any(|(number, request)| {
            let Presented::Refresh(token, _) = &request.presented else { return false };
            let concerns = tokens.iter().flatten().any(|stored| stored.refresh == *token)
                || (number >= call.requests && request.tenant == call.tenant);
            concerns && (request.orphan || request.meaning.as_ref().is_some_and(&to))
        })
    }
}
