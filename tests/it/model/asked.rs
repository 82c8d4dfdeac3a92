//! The results of token calls, each checked at the moment at which its caller gets it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use threadkey::broker::{Lease, TokenError};

use super::{
    disk::{Stored, fingerprint},
    reference::{Meaning, Presented, Reference},
};

/// Whether a process lives. Results of a dying process reach no caller.
#[derive(Clone, Default)]
pub(super) struct Alive(Arc<AtomicBool>);

impl Alive {
    pub(super) fn end(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The operation of a caller.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Get {
        min_ttl: i64,
    },
    /// The caller reported this token as rejected.
    Rejected(String),
}

/// A caller that waits for its result.
pub(super) struct Asked {
    /// The life of the caller's process.
    alive: Alive,
    tenant: usize,
    question: Question,
    before: Option<Stored>,
    /// The numbers of sign-ins and logouts, and of choices.
    changes: (u64, u64),
    changing: bool,
    requests: usize,
}

impl Reference {
    /// Records the start of a call.
    pub(super) fn asks(&mut self, alive: Alive, tenant: usize, question: Question) -> Asked {
        if let Question::Rejected(token) = &question {
            self.tenants[tenant].reported.insert(token.clone());
        }
        self.look();
        let tenancy = &self.tenants[tenant];
        Asked {
            alive,
            tenant,
            question,
            before: tenancy.stored.clone(),
            changes: (tenancy.changes, tenancy.switches),
            changing: tenancy.changing,
            requests: self.requests.len(),
        }
    }

    /// Checks the result of a call.
    pub(super) fn told_token(&mut self, asked: &Asked, told: &Result<Lease, TokenError>) {
        if asked.alive.is_over() {
            return;
        }
        self.look();
        match told {
            Ok(lease) => {
                self.said("a lease", format!("{lease:?}"));
                self.check_lease(asked, lease);
            }
            Err(error) => {
                self.said("an error", format!("{error} {error:?}"));
                self.check_refusal(asked, error);
            }
        }
    }

    fn after(&self, asked: &Asked) -> Option<&Stored> {
        self.tenants[asked.tenant].stored.as_ref()
    }

    /// Whether a user signed in, logged out or chose another session during the call.
    fn disturbed(&self, asked: &Asked) -> bool {
        let tenancy = &self.tenants[asked.tenant];
        asked.changing || tenancy.changing || (tenancy.changes, tenancy.switches) != asked.changes
    }

    fn check_lease(&mut self, asked: &Asked, lease: &Lease) {
        let token = lease.access_token.expose();
        let Some(&issue) = self.by_access.get(token) else {
            return self.broken("promise 12: a token is served that nobody issued");
        };
        let family = self.issues[issue].family;
        if self.families[family].tenant != asked.tenant {
            self.broken(format!("promise 12: {} is served the token of another", lease.tenant));
        }
        if self.was_not_chosen(family) {
            self.broken(format!("adr/0016: {} is served a sign-in that nobody chose", lease.tenant));
        }
        if !self.is_named(family, lease.account.as_ref()) {
            self.broken(format!("promise 12: {} is served under another name: {lease:?}", lease.tenant));
        }
        if !self.durable.contains(token) && !self.superseded(asked, issue) {
            self.broken(format!(
                "promise 3: {} is served generation {} and it is not in the store: {:?}",
                lease.tenant,
                lease.generation,
                self.after(asked)
            ));
        }
        if self.nows.iter().all(|now| lease.expires_at <= *now) {
            self.broken(format!("{} is served an expired token", lease.tenant));
        }
        if matches!(&asked.question, Question::Rejected(reported) if reported == token) {
            self.broken(format!("{} is given back the token that it reported as refused", lease.tenant));
        }
        let Some(before) = &asked.before else { return };
        if before.rejected.as_ref().is_some_and(|(of, _)| *of == fingerprint(token)) {
            self.broken(format!("{} is served a token that was refused before it asked", lease.tenant));
        }
        if self.age(&before.access) > self.age(token) {
            self.broken(format!("promise 2: {} is served an older token than the store held", lease.tenant));
        }
    }

    /// Whether the store has moved on from this token, so that it may have been there between two
    /// observations.
    fn superseded(&self, asked: &Asked, issue: usize) -> bool {
        let after = self.after(asked).and_then(|after| self.by_access.get(&after.access).copied());
        let same = after.is_some_and(|after| self.issues[after].family == self.issues[issue].family);
        if same { after > Some(issue) } else { self.disturbed(asked) }
    }

    /// Returns the rank of a token among all stored ones: by the lineage's first appearance, then
    /// by issue.
    fn age(&self, token: &str) -> Option<(usize, usize)> {
        let issue = *self.by_access.get(token)?;
        let family = self.issues[issue].family;
        Some((self.lineages.iter().position(|(_, of)| *of == family)?, issue))
    }

    fn check_refusal(&mut self, asked: &Asked, error: &TokenError) {
        let Question::Get { min_ttl } = asked.question else { return self.check_reason(asked, error) };
        let served = match (&asked.before, self.after(asked)) {
            (Some(before), Some(after)) if before.same(after) => {
                // A verdict leaves the access token the rest of its life; every other outcome
                // leaves it the requested life.
                let min_ttl = if matches!(error, TokenError::Ended { .. }) { 0 } else { min_ttl };
                self.nows.iter().all(|now| after.fresh(*now, min_ttl))
            }
            _ => false,
        };
        if served {
            return self.broken(format!("promise 6: a token that works is kept back: {error}"));
        }
        self.check_reason(asked, error);
    }

    fn check_reason(&mut self, asked: &Asked, error: &TokenError) {
        let reason = match error {
            TokenError::NoSession(_) => {
                asked.before.is_none() || self.after(asked).is_none() || self.disturbed(asked)
            }
            TokenError::Ended { .. } => self.came(asked, |meaning| *meaning == Meaning::Verdict),
            TokenError::Misconfigured { .. } => {
                self.came(asked, |meaning| *meaning == Meaning::Misconfigured)
            }
            TokenError::Unavailable { code, .. } if code == "rejected_again" => {
                matches!(asked.question, Question::Rejected(_))
                    && self.tenants[asked.tenant].stored.as_ref().is_some_and(|stored| {
                        stored
                            .rejected
                            .as_ref()
                            .is_some_and(|(_, at)| self.nows.iter().any(|now| *at <= *now && *now < at + 60))
                    })
            }
            TokenError::Unavailable { .. } => self.came(asked, |meaning| *meaning != Meaning::Granted),
            TokenError::InProgress(_) => self.nows.len() > 1 || self.disturbed(asked),
            _ => false,
        };
        if !reason {
            let what = format!("no reason for this answer to {:?}: {error:?}", asked.question);
            self.broken(format!("{what}; before {:?}, after {:?}", asked.before, self.after(asked)));
        }
    }

    /// Whether a request for the stored token before or after the call, or one since its start, had
    /// this meaning or was lost with its sender.
    fn came(&self, asked: &Asked, to: impl Fn(&Meaning) -> bool) -> bool {
        let tokens = [asked.before.as_ref(), self.after(asked)];
        let left_behind = |stored: &&Stored| self.left_behind.contains(&stored.refresh);
        if to(&Meaning::Ambiguous) && tokens.iter().flatten().any(left_behind) {
            return true;
        }
        self.requests.iter().enumerate().any(|(number, request)| {
            let Presented::Refresh(token, _) = &request.presented else { return false };
            let concerns = tokens.iter().flatten().any(|stored| stored.refresh == *token)
                || (number >= asked.requests && request.tenant == asked.tenant);
            concerns && (request.orphan || request.meaning.as_ref().is_some_and(&to))
        })
    }
}
