//! Sign-ins as another account than the session's (adr/0016): how they come, how they leave the
//! store, and how their grants end at the provider.
//!
//! A waiting sign-in is on the disk beside a session of another account, unchanged since it came.
//! It leaves by a choice, by a newer sign-in, by a logout, or at its expiry. Unless it was chosen,
//! the process that removes it revokes its grant, and reports the result. Nothing else is ever
//! revoked, except for grants that a user logged out.

use std::collections::BTreeSet;

use serde_json::Value;
use threadkey::broker::Revocation;

use super::{
    disk::{CHOICE, PENDING, Stored},
    reference::{Meaning, Presented, Reference},
    snapshots::Snapshots,
    steps::{Choice, Named, TENANTS},
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
    pub(super) unreported: Vec<(usize, bool)>,
    /// Set while a broker expires choices; whether it is alone with the store.
    expiring: Option<Alone>,
    /// Families in the store with a known account, when the system was idle last, and since then.
    pub(super) present_when_idle: BTreeSet<usize>,
    pub(super) present: BTreeSet<usize>,
    /// Families that were in the store with an unknown account.
    pub(super) unknown: BTreeSet<usize>,
}

/// Whether no other process writes at the moment.
pub(super) type Alone = bool;

/// The session of a tenant and the sign-in that candidate, before an action on them.
#[derive(Clone, Debug)]
pub(super) struct SessionAndCandidate {
    pub(super) session: Option<Stored>,
    pub(super) candidate: Option<Stored>,
}

// === impl Reference: checks of the disk ===

impl Reference {
    pub(super) fn family(&self, stored: &Stored) -> Option<usize> {
        self.by_access.get(&stored.access).map(|issue| self.issues[*issue].family)
    }

    /// Whether this is the known account of the family.
    pub(super) fn is_known_account(&self, family: usize, account: Option<&String>) -> bool {
        let family = &self.families[family];
        account.map_or(family.nameless, |account| *account == family.account)
    }

    /// Whether this is the subject of the family, or none. An answer without an id token names none, and
    /// a later refresh may.
    pub(super) fn is_known_subject(&self, family: usize, subject: Option<&String>) -> bool {
        let family = &self.families[family];
        let is_right = |subject: &String| format!("{subject}@example.com") == family.account;
        subject.map_or(family.nameless, is_right)
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
        self.times.iter().any(|now| candidate.can_be_chosen(*now))
    }

    /// Whether the waiting sign-in has been chosen since the last observation. Then it is the
    /// session, unchanged.
    pub(super) fn check_switched(&mut self, snapshots: &Snapshots<'_>) -> bool {
        let (Some(candidate_before), Some(now)) = (snapshots.candidate_before, snapshots.now) else {
            return false;
        };
        let chosen = (Choice::Switch, now.lineage.clone());
        if candidate_before.lineage != now.lineage
            || self.tenants[snapshots.tenant].choosing.as_ref() != Some(&chosen)
        {
            return false;
        }
        if candidate_before != now {
            self.violate(format!("adr/0016: {candidate_before:?} was chosen, and became {now:?}"));
        }
        if !self.can_be_chosen(now) {
            self.violate(format!("adr/0016: chosen at {:?}, after its expiry: {now:?}", self.times));
        }
        true
    }

    /// Checks a session that came from a new sign-in: no user had to choose it.
    pub(super) fn check_replacement(&mut self, snapshots: &Snapshots<'_>, switched: bool) {
        let Some(now) = snapshots.now.filter(|_| !switched) else { return };
        if self.choices.seen.iter().any(|(lineage, _)| *lineage == now.lineage) {
            return self.violate(format!("adr/0016: the session is a sign-in that no user chose: {now:?}"));
        }
        let Some(before) = snapshots.before else { return };
        let is_live = self.tenants[snapshots.tenant].logging_out.is_none() && !self.had_a_verdict(before);
        // An unknown account may be another one; beside an unknown one there is nothing to compare.
        let other = before.account.is_some() && before.account != now.account;
        if is_live && other {
            self.violate(format!("adr/0016: {before:?} was live, and no user chose {now:?} in its place"));
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

    pub(super) fn compare_candidate(&mut self, snapshots: &Snapshots<'_>) {
        let lineage = |stored: &Stored| stored.lineage.clone();
        let stays = snapshots.candidate_before.map(lineage) == snapshots.candidate.map(lineage);
        if stays && snapshots.candidate_before != snapshots.candidate {
            self.violate(format!(
                "adr/0016: the waiting sign-in changed: {:?} to {:?}",
                snapshots.candidate_before, snapshots.candidate
            ));
        }
        if stays
            && snapshots.candidate.is_some()
            && snapshots.before.map(lineage) != snapshots.now.map(lineage)
        {
            let now = snapshots.now;
            self.violate(format!(
                "adr/0016: {:?} still waits after a new sign-in: {now:?}",
                snapshots.candidate
            ));
        }
        if let Some(candidate_before) = snapshots.candidate_before.filter(|_| !stays) {
            self.check_candidate_gone(snapshots, candidate_before);
        }
        if let Some(candidate) = snapshots.candidate {
            if !stays {
                self.check_new_candidate(snapshots, candidate);
            }
            let account = snapshots.now.and_then(|now| now.account.as_ref());
            // A sign-in whose account is unknown may be another one's, so it waits as well.
            if account.is_none() || account == candidate.account.as_ref() {
                let now = snapshots.now;
                self.violate(format!("adr/0016: a choice between {now:?} and {candidate:?}"));
            }
        }
        for stored in [snapshots.now, snapshots.candidate].into_iter().flatten() {
            let Some(family) = self.family(stored) else { continue };
            let of_account = match stored.account {
                Some(_) => &mut self.choices.present,
                None => &mut self.choices.unknown,
            };
            of_account.insert(family);
        }
    }

    fn check_new_candidate(&mut self, snapshots: &Snapshots<'_>, candidate: &Stored) {
        self.check_grant(snapshots.tenant, candidate);
        if !self.may_have_changed(snapshots.tenant) {
            self.violate(format!("adr/0016: {candidate:?} waits without a sign-in"));
        }
        let Stored { generation, rejected, retry, ended, .. } = candidate;
        if (*generation, rejected, retry, ended) != (1, &None, &None, &None) {
            self.violate(format!("adr/0016: the waiting sign-in was used: {candidate:?}"));
        }
        if let (Some(before), Some(now)) = (snapshots.before, snapshots.now)
            && before.same(now)
            && before.ended.is_some()
        {
            self.violate(format!("adr/0016: {candidate:?} waits for a choice against an ended session"));
        }
        let Some(family) = self.family(candidate) else { return };
        let is = |(lineage, of): &(String, usize)| *lineage == candidate.lineage || *of == family;
        if self.choices.seen.iter().any(is) || self.lineages.iter().any(is) {
            self.violate(format!("promise 5: a sign-in that was gone waits for a choice: {candidate:?}"));
        }
        self.choices.seen.push((candidate.lineage.clone(), family));
    }

    /// Checks that a waiting sign-in that is gone had a reason to go.
    fn check_candidate_gone(&mut self, snapshots: &Snapshots<'_>, candidate_before: &Stored) {
        let Some(family) = self.family(candidate_before) else { return };
        if snapshots.now.is_some_and(|now| now.lineage == candidate_before.lineage) {
            return;
        }
        let tenancy = &self.tenants[snapshots.tenant];
        let (kept, logging_out) = ((Choice::Keep, candidate_before.lineage.clone()), tenancy.logging_out);
        let kept = tenancy.choosing.as_ref() == Some(&kept);
        let swept = self.times.iter().any(|now| candidate_before.may_be_swept(*now));
        let over = self.times.iter().any(|now| !candidate_before.can_be_chosen(*now));
        let expired = over && self.choices.expiring.is_some_and(|alone| alone || !swept);
        let changed = self.may_have_changed(snapshots.tenant);
        let owed = kept || expired || (changed && !swept);
        if !owed && !swept {
            self.violate(format!(
                "adr/0016: a waiting sign-in is gone without a decision: {candidate_before:?}"
            ));
        }
        self.choices.unreported.push((family, owed));
        if logging_out != Some(Revocation::Keep) || self.is_exchanging(snapshots.tenant) {
            self.choices.unchosen.insert(family);
        }
    }
}

// === impl Reference: actions ===

impl Reference {
    pub(super) fn session_and_candidate(&mut self, tenant: usize) -> SessionAndCandidate {
        self.observe();
        let tenancy = &self.tenants[tenant];
        SessionAndCandidate { session: tenancy.stored.clone(), candidate: tenancy.candidate.clone() }
    }

    /// Records the start of a choice.
    pub(super) fn begin_choice(
        &mut self,
        tenant: usize,
        choice: Choice,
        lineage: &str,
    ) -> SessionAndCandidate {
        let session_and_candidate = self.session_and_candidate(tenant);
        let named = session_and_candidate.candidate.as_ref().filter(|candidate| candidate.lineage == lineage);
        if let Some(candidate) = named.filter(|candidate| self.can_be_chosen(candidate))
            && choice == Choice::Switch
        {
            let family = self.family(candidate);
            self.choices.chosen.extend(family);
        }
        self.tenants[tenant].switches += u64::from(choice == Choice::Switch);
        self.tenants[tenant].choosing = Some((choice, lineage.to_owned()));
        session_and_candidate
    }

    /// Marks that a broker starts to expire choices, or has finished.
    pub(super) fn set_expiring(&mut self, alone: Option<Alone>) {
        self.observe();
        self.choices.expiring = alone;
    }

    /// Checks a broker's expiry of choices: none is left that is over beyond doubt. The broker looks
    /// again no later than the first one that can still be chosen ends, and no later than the first
    /// sign-in in progress ends.
    pub(super) fn check_expired_choices(&mut self, alone: Alone, next: Option<i64>) {
        let now = self.clock.now();
        let waiting: Vec<_> = self.tenants.iter().filter_map(|tenancy| tenancy.candidate.clone()).collect();
        let is_left = waiting.iter().any(|candidate| candidate.is_long_over(now));
        let first = waiting.iter().map(|candidate| candidate.issued_at + CHOICE).min();
        // A broker looks at a sign-in in progress when it ends: an answer may be in its journal.
        let created = |pending: &(String, Value)| pending.1["created_at"].as_i64();
        let pending = self.tenants.iter().filter_map(|tenancy| tenancy.pending.as_ref().and_then(created));
        let open = pending.filter(|created| now < created + PENDING && *created <= now + PENDING);
        let first_end = open.map(|created| created + PENDING).min();
        let looks_late = match (next, first) {
            (None, None) => false,
            (Some(next), Some(first)) => next > first.max(now + 2 * CHOICE),
            (Some(next), None) => Some(next) != first_end,
            (None, Some(_)) => true,
        } || first_end.is_some_and(|end| next.is_none_or(|next| next > end));
        if alone && (is_left || looks_late) {
            self.violate(format!(
                "adr/0027: a broker expired choices at {now}, and looks again at {next:?}: {waiting:?}"
            ));
        }
    }

    /// Checks that no sign-in waits any more.
    pub(super) fn check_no_choice_is_left(&mut self) {
        self.observe();
        let left: Vec<_> = self.tenants.iter().filter_map(|tenancy| tenancy.candidate.clone()).collect();
        if !left.is_empty() {
            self.violate(format!("adr/0027: a broker watched these for a day and kept them: {left:?}"));
        }
    }

    /// Returns the lineage that a choice names.
    pub(super) fn named(&self, tenant: usize, named: Named) -> Option<String> {
        let candidate = |tenant: usize| {
            self.tenants[tenant].candidate.as_ref().map(|candidate| candidate.lineage.clone())
        };
        match named {
            Named::Waiting => candidate(tenant),
            Named::Before => {
                let candidate = candidate(tenant);
                let of_tenant = |(_, family): &&(String, usize)| self.families[*family].tenant == tenant;
                let mut gone = self.choices.seen.iter().rev().chain(&self.lineages).filter(of_tenant);
                gone.find(|(lineage, _)| Some(lineage) != candidate.as_ref())
                    .map(|(lineage, _)| lineage.clone())
            }
            Named::Session => self.tenants[tenant].stored.as_ref().map(|stored| stored.lineage.clone()),
            Named::Elsewhere => candidate((tenant + 1) % TENANTS.len()),
        }
    }
}
