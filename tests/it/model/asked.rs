//! What callers are told: each result, looked at in the very moment in which the caller gets it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use threadkey::{
    broker::{FinishError, Finished, Lease, LoggedOut, LogoutError, TokenError},
    ids::{Principal, Tenant},
};

use super::{
    disk::{Stored, fingerprint},
    reference::{Meaning, Presented, Reference},
};

/// Whether a process lives. Nobody hears what a dying one still says.
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

/// What a caller asked for.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Get {
        min_ttl: i64,
    },
    /// It reported this token.
    Rejected(String),
}

/// A caller that waits.
pub(super) struct Asked {
    /// Of its process.
    alive: Alive,
    tenant: usize,
    question: Question,
    before: Option<Stored>,
    changes: u64,
    changing: bool,
    requests: usize,
}

/// An attempt to finish a sign-in.
pub(super) struct Finish {
    pub(super) tenant: usize,
    pub(super) code: String,
    /// With the `state`, only for who started that sign-in; a bare code may be sent, and PKCE makes the provider refuse it.
    pub(super) may_be_sent: bool,
    pub(super) may_sign_in: bool,
    /// How often it was sent before.
    pub(super) sent_before: usize,
}

impl Reference {
    /// Somebody asks.
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
            changes: tenancy.changes,
            changing: tenancy.changing,
            requests: self.requests.len(),
        }
    }

    /// Somebody is told.
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

    /// Whether somebody signed in or out meanwhile.
    fn disturbed(&self, asked: &Asked) -> bool {
        let tenancy = &self.tenants[asked.tenant];
        asked.changing || tenancy.changing || tenancy.changes != asked.changes
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

    /// Whether the store has gone on from this token, so that it may have been there for a moment in which nobody looked.
    fn superseded(&self, asked: &Asked, issue: usize) -> bool {
        let after = self.after(asked).and_then(|after| self.by_access.get(&after.access).copied());
        let same = after.is_some_and(|after| self.issues[after].family == self.issues[issue].family);
        if same { after > Some(issue) } else { self.disturbed(asked) }
    }

    /// The place of a token among all that were stored: by the lineage's first sight, then by issue.
    fn age(&self, token: &str) -> Option<(usize, usize)> {
        let issue = *self.by_access.get(token)?;
        let family = self.issues[issue].family;
        Some((self.lineages.iter().position(|(_, of)| *of == family)?, issue))
    }

    fn check_refusal(&mut self, asked: &Asked, error: &TokenError) {
        let Question::Get { min_ttl } = asked.question else { return self.check_reason(asked, error) };
        let served = match (&asked.before, self.after(asked)) {
            (Some(before), Some(after)) if before.same(after) => {
                // A verdict leaves the access token what is left of its life; all else leaves it what is asked for.
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

    /// Whether a request for what was stored before or after, or one since the question, came to this, or to nothing at all.
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

    // === signing in and out ===

    /// A sign-in or a logout begins.
    pub(super) fn changes(&mut self, tenant: usize) -> Option<Stored> {
        self.look();
        self.tenants[tenant].changes += 1;
        self.tenants[tenant].changing = true;
        self.tenants[tenant].stored.clone()
    }

    pub(super) fn told_logout(
        &mut self,
        tenant: usize,
        before: Option<&Stored>,
        told: &Result<LoggedOut, LogoutError>,
    ) {
        self.tenants[tenant].changes += 1;
        self.look();
        let after = self.tenants[tenant].stored.clone();
        let still = before.zip(after).is_some_and(|(before, after)| before.lineage == after.lineage);
        match told {
            Ok(done) => {
                self.said("a logout", format!("{done:?}"));
                if still {
                    self.broken("promise 5: logged out, and the session is still there");
                }
                let family = before.and_then(|before| self.by_access.get(&before.access));
                if let (LoggedOut::Revoked, Some(issue)) = (done, family) {
                    self.revoked.insert(self.issues[*issue].family);
                }
            }
            Err(error) => {
                self.said("a logout's error", format!("{error} {error:?}"));
                if still {
                    self.broken(format!("a logout that should have worked: {error}"));
                }
            }
        }
    }

    /// What somebody who pasted was told.
    pub(super) fn told_finish(&mut self, finish: &Finish, told: &Result<Finished, FinishError>) {
        let tenant = finish.tenant;
        self.tenants[tenant].changes += 1;
        self.look();
        let code = Presented::Code(finish.code.clone());
        let sent: Vec<_> = self.requests.iter().filter(|request| request.presented == code).collect();
        let taken = sent.iter().any(|request| request.meaning == Some(Meaning::Granted));
        if !finish.may_be_sent && sent.len() > finish.sent_before {
            self.broken("promise 12: a code is sent for somebody who did not start that sign-in");
        }
        match told {
            Ok(Finished::Undecided(undecided)) => {
                self.broken(format!("it waits for a choice between an account and itself: {undecided:?}"));
            }
            Ok(Finished::SignedIn(done)) => {
                self.said("a sign-in", format!("{done:?}"));
                if !finish.may_sign_in || !taken {
                    self.broken(format!(
                        "promise 12: signed in as {:?} without a code of one's own",
                        done.account
                    ));
                }
            }
            Err(error) => {
                self.said("a sign-in's error", format!("{error} {error:?}"));
                if matches!(error, FinishError::Internal(_) | FinishError::Store(_)) {
                    self.broken(format!("a sign-in broke: {error}"));
                }
            }
        }
    }

    /// Sign-ins that somebody gave up are no longer on the disk.
    pub(super) fn told_cancel(&mut self, who: Principal, dropped: &[Tenant]) {
        let disk = self.look();
        for tenant in dropped {
            let pending = disk.as_ref().and_then(|disk| disk.pending(&tenant.to_string()));
            if pending.is_some_and(|(_, pending)| pending["started_by"] == who.to_string()) {
                self.broken(format!("cancelled, and still under way: {tenant}"));
            }
        }
    }
}
