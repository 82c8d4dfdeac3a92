//! Sign-ins as another account than the session's (adr/0016): how they come, how they leave the
//! store, and how their grants end at the provider.
//!
//! A waiting sign-in is on the disk beside a session of another account, unchanged since it came.
//! It leaves by a choice, by a newer sign-in, by a logout, or at its expiry. Unless it was chosen,
//! the process that removes it revokes its grant, and reports the result. Nothing else is ever
//! revoked, except for grants that a user logged out.

use std::collections::BTreeSet;

use threadkey::broker::Revocation;

use super::{
    disk::{CHOICE, Stored},
    look::Looks,
    reference::{Meaning, Presented, Reference},
    steps::{Choice, Named, PROVIDERS, TENANTS},
};

/// The record of sign-ins that waited for a choice, and of revocations.
#[derive(Default)]
pub(super) struct Choices {
    /// Each one that was seen on the disk: its lineage and its family.
    pub(super) seen: Vec<(String, usize)>,
    /// Families that a user chose in time.
    chosen: BTreeSet<usize>,
    /// Families that no user chose, and which may be revoked for that reason.
    pub(super) unchosen: BTreeSet<usize>,
    /// Families that a user logged out with revocation.
    pub(super) logged_out: BTreeSet<usize>,
    /// Families that are gone without a report on their grant yet, and whether a report is due: it
    /// is not where a write may have dropped them for their age.
    pub(super) untold: Vec<(usize, bool)>,
    /// Set while a broker expires choices; whether it is alone with the store.
    lapsing: Option<Alone>,
    /// Families in the store with a known account, when the system was idle last, and since then.
    pub(super) stood: BTreeSet<usize>,
    pub(super) present: BTreeSet<usize>,
}

/// Whether no other process writes at the moment.
pub(super) type Alone = bool;

/// The session of a tenant and the sign-in that waits, before an action on them.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) session: Option<Stored>,
    pub(super) candidate: Option<Stored>,
}

// === impl Reference: checks of the disk ===

impl Reference {
    pub(super) fn family(&self, stored: &Stored) -> Option<usize> {
        self.by_access.get(&stored.access).map(|issue| self.issues[*issue].family)
    }

    /// Whether this is the known account of the family.
    pub(super) fn is_named(&self, family: usize, account: Option<&String>) -> bool {
        let family = &self.families[family];
        account.map_or(family.nameless, |account| *account == family.account)
    }

    /// Whether this family's sign-in waits or was dropped, so that nothing of it may be used.
    pub(super) fn was_not_chosen(&self, family: usize) -> bool {
        self.choices.seen.iter().any(|(_, seen)| *seen == family) && !self.choices.chosen.contains(&family)
    }

    /// Whether an exchange of a code for this tenant is in progress, or was when a process died.
    pub(super) fn is_exchanging(&self, tenant: usize) -> bool {
        let code = |presented: &Presented| matches!(presented, Presented::Code(_));
        self.requests
            .iter()
            .any(|request| request.tenant == tenant && !request.settled && code(&request.presented))
    }

    pub(super) fn can_be_chosen(&self, candidate: &Stored) -> bool {
        self.nows.iter().any(|now| candidate.can_be_chosen(*now))
    }

    /// Whether the waiting sign-in has been chosen since the last observation. Then it is the
    /// session, unchanged.
    pub(super) fn check_switched(&mut self, looks: &Looks<'_>) -> bool {
        let (Some(waited), Some(now)) = (looks.waited, looks.now) else { return false };
        let chosen = (Choice::Switch, now.lineage.clone());
        if waited.lineage != now.lineage || self.tenants[looks.tenant].choosing.as_ref() != Some(&chosen) {
            return false;
        }
        if waited != now {
            self.broken(format!("adr/0016: {waited:?} was chosen, and became {now:?}"));
        }
        if !self.can_be_chosen(now) {
            self.broken(format!("adr/0016: chosen at {:?}, when its time was over: {now:?}", self.nows));
        }
        true
    }

    /// Checks a session that came from a new sign-in: no user had to choose it.
    pub(super) fn check_replacement(&mut self, looks: &Looks<'_>, switched: bool) {
        let Some(now) = looks.now.filter(|_| !switched) else { return };
        if self.choices.seen.iter().any(|(lineage, _)| *lineage == now.lineage) {
            return self.broken(format!("adr/0016: the session is a sign-in that nobody chose: {now:?}"));
        }
        let Some(before) = looks.before else { return };
        let goes_on = self.tenants[looks.tenant].logging_out.is_none() && !self.had_a_verdict(before);
        // A session without an account cannot be compared; but the account has to be requested
        // before.
        let asked = PROVIDERS[TENANTS[looks.tenant].0].userinfo && !self.was_orphaned(looks.tenant);
        let other = match (&before.account, &now.account) {
            (Some(before), Some(now)) => before != now,
            (Some(_), None) => asked,
            (None, _) => false,
        };
        if goes_on && other {
            self.broken(format!("adr/0016: {before:?} went on, and nobody chose {now:?} in its place"));
        }
    }

    /// Whether a process died while it exchanged a code for this tenant.
    pub(super) fn was_orphaned(&self, tenant: usize) -> bool {
        let code = |presented: &Presented| matches!(presented, Presented::Code(_));
        self.requests
            .iter()
            .any(|request| request.tenant == tenant && request.orphan && code(&request.presented))
    }

    fn had_a_verdict(&self, stored: &Stored) -> bool {
        let family = self.family(stored);
        self.requests.iter().any(|request| {
            let of = match &request.presented {
                Presented::Refresh(token, _) => self.by_refresh.get(token).copied(),
                Presented::Code(_) => None,
            };
            of.is_some() && of == family && request.meaning == Some(Meaning::Verdict)
        })
    }

    pub(super) fn compare_candidate(&mut self, looks: &Looks<'_>) {
        let lineage = |stored: &Stored| stored.lineage.clone();
        let stays = looks.waited.map(lineage) == looks.waits.map(lineage);
        if stays && looks.waited != looks.waits {
            self.broken(format!("adr/0016: what waits changed: {:?} to {:?}", looks.waited, looks.waits));
        }
        if stays && looks.waits.is_some() && looks.before.map(lineage) != looks.now.map(lineage) {
            let now = looks.now;
            self.broken(format!("adr/0016: {:?} still waits, and somebody signed in: {now:?}", looks.waits));
        }
        if let Some(waited) = looks.waited.filter(|_| !stays) {
            self.left(looks, waited);
        }
        if let Some(waits) = looks.waits {
            if !stays {
                self.check_new_candidate(looks, waits);
            }
            let account = looks.now.and_then(|now| now.account.as_ref());
            if account.is_none() || waits.account.is_none() || account == waits.account.as_ref() {
                let now = looks.now;
                self.broken(format!("adr/0016: a choice between {now:?} and {waits:?}"));
            }
        }
        let named = [looks.now, looks.waits].into_iter().flatten().filter(|stored| stored.account.is_some());
        let families: Vec<_> = named.filter_map(|stored| self.family(stored)).collect();
        self.choices.present.extend(families);
    }

    fn check_new_candidate(&mut self, looks: &Looks<'_>, waits: &Stored) {
        self.check_grant(looks.tenant, waits);
        if !self.may_have_changed(looks.tenant) {
            self.broken(format!("adr/0016: nobody signed in, and there waits {waits:?}"));
        }
        let Stored { generation, rejected, retry, ended, .. } = waits;
        if (*generation, rejected, retry, ended) != (1, &None, &None, &None) {
            self.broken(format!("adr/0016: what waits was used: {waits:?}"));
        }
        if let (Some(before), Some(now)) = (looks.before, looks.now)
            && before.same(now)
            && before.ended.is_some()
        {
            self.broken(format!("adr/0016: {waits:?} waits for a choice against an ended session"));
        }
        let Some(family) = self.family(waits) else { return };
        let is = |(lineage, of): &(String, usize)| *lineage == waits.lineage || *of == family;
        if self.choices.seen.iter().any(is) || self.lineages.iter().any(is) {
            self.broken(format!("promise 5: a sign-in that was gone waits for a choice: {waits:?}"));
        }
        self.choices.seen.push((waits.lineage.clone(), family));
    }

    /// Checks that a waiting sign-in that is gone had a reason to go.
    fn left(&mut self, looks: &Looks<'_>, waited: &Stored) {
        let Some(family) = self.family(waited) else { return };
        if looks.now.is_some_and(|now| now.lineage == waited.lineage) {
            return;
        }
        let tenancy = &self.tenants[looks.tenant];
        let (kept, logging_out) = ((Choice::Keep, waited.lineage.clone()), tenancy.logging_out);
        let kept = tenancy.choosing.as_ref() == Some(&kept);
        let swept = self.nows.iter().any(|now| waited.may_be_swept(*now));
        let over = self.nows.iter().any(|now| !waited.can_be_chosen(*now));
        let lapsed = over && self.choices.lapsing.is_some_and(|alone| alone || !swept);
        let changed = self.may_have_changed(looks.tenant);
        let owed = kept || lapsed || (changed && !swept);
        if !owed && !swept {
            self.broken(format!("adr/0016: nobody decided, and it waits no more: {waited:?}"));
        }
        self.choices.untold.push((family, owed));
        if logging_out != Some(Revocation::Keep) || self.is_exchanging(looks.tenant) {
            self.choices.unchosen.insert(family);
        }
    }
}

// === impl Reference: actions ===

impl Reference {
    pub(super) fn standing(&mut self, tenant: usize) -> Standing {
        self.look();
        let tenancy = &self.tenants[tenant];
        Standing { session: tenancy.stored.clone(), candidate: tenancy.candidate.clone() }
    }

    /// Records the start of a choice.
    pub(super) fn chooses(&mut self, tenant: usize, choice: Choice, lineage: &str) -> Standing {
        let standing = self.standing(tenant);
        let named = standing.candidate.as_ref().filter(|candidate| candidate.lineage == lineage);
        if let Some(candidate) = named.filter(|candidate| self.can_be_chosen(candidate))
            && choice == Choice::Switch
        {
            let family = self.family(candidate);
            self.choices.chosen.extend(family);
        }
        self.tenants[tenant].switches += u64::from(choice == Choice::Switch);
        self.tenants[tenant].choosing = Some((choice, lineage.to_owned()));
        standing
    }

    /// Marks that a broker starts to expire choices, or has finished.
    pub(super) fn lapses(&mut self, alone: Option<Alone>) {
        self.look();
        self.choices.lapsing = alone;
    }

    /// Checks a broker's expiry of choices: none is left that has expired, and the broker returns
    /// when the next one expires.
    pub(super) fn check_lapsed(&mut self, alone: Alone, next: Option<i64>) {
        let now = self.clock.now();
        let waiting = self.tenants.iter().filter_map(|tenancy| tenancy.candidate.as_ref());
        let ends: Vec<_> =
            waiting.map(|waits| (waits.can_be_chosen(now), waits.issued_at + CHOICE)).collect();
        let first = ends.iter().map(|(_, end)| *end).min();
        if alone && (next != first || ends.iter().any(|(in_time, _)| !in_time)) {
            self.broken(format!("adr/0016: a broker looked at {now}, and again at {next:?}: {ends:?}"));
        }
    }

    /// Returns the lineage that a choice names.
    pub(super) fn named(&self, tenant: usize, named: Named) -> Option<String> {
        let waits =
            |tenant: usize| self.tenants[tenant].candidate.as_ref().map(|waits| waits.lineage.clone());
        match named {
            Named::Waiting => waits(tenant),
            Named::Before => {
                let waits = waits(tenant);
                let of_tenant = |(_, family): &&(String, usize)| self.families[*family].tenant == tenant;
                let mut gone = self.choices.seen.iter().rev().chain(&self.lineages).filter(of_tenant);
                gone.find(|(lineage, _)| Some(lineage) != waits.as_ref()).map(|(lineage, _)| lineage.clone())
            }
            Named::Session => self.tenants[tenant].stored.as_ref().map(|stored| stored.lineage.clone()),
            Named::Elsewhere => waits((tenant + 1) % TENANTS.len()),
        }
    }
}
