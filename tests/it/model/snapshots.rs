//! Observing the disk: its present content must follow from the previous one by the actions in
//! between.

use serde_json::Value;

use super::{
    disk::{Disk, Stored, fingerprint},
    reference::{Family, Meaning, Presented, Reference, Request, Tenancy},
    steps::TENANTS,
    tenant_name,
};

/// A tenant's part of the disk, at the previous observation and at this one.
pub(super) struct Snapshots<'a> {
    pub(super) tenant: usize,
    pub(super) before: Option<&'a Stored>,
    pub(super) now: Option<&'a Stored>,
    /// The sign-in that waited for a choice, and the one that waits now.
    pub(super) candidate_before: Option<&'a Stored>,
    pub(super) candidate: Option<&'a Stored>,
}

impl Reference {
    /// Reads the disk and compares it with the previous content and with the possible changes.
    pub(super) fn observe(&mut self) -> Option<Disk> {
        let disk = match Disk::read(&self.store) {
            Ok(disk) => disk,
            Err(error) => {
                self.violate(error);
                return None;
            }
        };
        if disk.planted() != self.planted.each_ref() {
            self.violate("promise 8: another program's entries beside the sessions are gone");
        }
        for (tenant, (provider, principal, _)) in TENANTS.iter().enumerate() {
            let name = tenant_name(*provider, principal);
            let (now, candidate) = (disk.session(&name), disk.candidate(&name));
            let tenancy = &mut self.tenants[tenant];
            let (before, candidate_before) = (tenancy.stored.take(), tenancy.candidate.take());
            let snapshots = Snapshots {
                tenant,
                before: before.as_ref(),
                now: now.as_ref(),
                candidate_before: candidate_before.as_ref(),
                candidate: candidate.as_ref(),
            };
            self.compare(&snapshots);
            self.compare_candidate(&snapshots);
            let pending = disk.pending(&name).map(|(state, all)| (state.to_owned(), all.clone()));
            self.compare_pending(tenant, pending.as_ref());
            let tenancy = &mut self.tenants[tenant];
            (tenancy.stored, tenancy.candidate, tenancy.pending) = (now, candidate, pending);
            tenancy.changes_observed = tenancy.changes;
        }
        Some(disk)
    }

    /// Takes the entries that another program has just written as the ones that have to stay.
    pub(super) fn planted(&mut self) {
        let Ok(disk) = Disk::read(&self.store) else { return };
        self.planted = disk.planted().map(Clone::clone);
        for (tenancy, (provider, principal, _)) in self.tenants.iter_mut().zip(TENANTS) {
            let name = tenant_name(provider, principal);
            (tenancy.stored, tenancy.candidate) = (disk.session(&name), disk.candidate(&name));
            tenancy.pending = disk.pending(&name).map(|(state, all)| (state.to_owned(), all.clone()));
        }
    }

    fn compare_pending(&mut self, tenant: usize, now: Option<&(String, Value)>) {
        let Some((state, now)) = now else { return };
        self.secrets.insert(state.clone());
        self.secrets.extend(now["verifier"].as_str().map(str::to_owned));
        match &self.tenants[tenant].pending {
            Some((before, was)) if before == state && without_the_count(was) != without_the_count(now) => {
                self.violate(format!("promise 8: the pending sign-in changed from {was} to {now}"));
            }
            _ => {}
        }
    }

    fn compare(&mut self, snapshots: &Snapshots<'_>) {
        let &Snapshots { tenant, before, now, .. } = snapshots;
        let switched = self.check_switched(snapshots);
        if let Some(before) = before
            && now.is_none_or(|now| now.lineage != before.lineage)
            && !switched
            && !self.may_have_changed(tenant)
        {
            self.violate(format!("promise 6: the session of {tenant} is gone without a logout: {before:?}"));
        }
        let Some(now) = now else { return };
        self.durable.insert(now.access.clone());
        self.check_stored(tenant, now);
        match before {
            Some(before) if before.lineage == now.lineage => self.check_successor(before, now),
            _ => {
                self.check_replacement(snapshots, switched);
                self.check_new_lineage(now);
            }
        }
    }

    /// Whether a sign-in or a logout since the last observation, or one that a dead process left
    /// behind, may have changed the session.
    pub(super) fn may_have_changed(&self, tenant: usize) -> bool {
        let Tenancy { changes, changes_observed, changing, .. } = self.tenants[tenant];
        changing || changes != changes_observed || self.was_orphaned(tenant)
    }

    fn check_new_lineage(&mut self, now: &Stored) {
        let Some(family) = self.by_access.get(&now.access).map(|issue| self.issues[*issue].family) else {
            return;
        };
        if self.lineages.iter().any(|(lineage, of)| *lineage == now.lineage || *of == family) {
            self.violate(format!("promise 5: a session that was gone is back: {now:?}"));
        }
        self.lineages.push((now.lineage.clone(), family));
    }

    fn check_successor(&mut self, before: &Stored, now: &Stored) {
        if now.unknown != before.unknown {
            self.violate(format!("promise 8: unknown fields changed: {before:?} became {now:?}"));
        }
        if before.subject.is_some() && now.subject != before.subject {
            self.violate(format!("adr/0047: the subject of a grant changed: {before:?} became {now:?}"));
        }
        let tokens = |stored: &Stored| {
            (stored.access.clone(), stored.refresh.clone(), stored.issued_at, stored.expires_at)
        };
        let refreshed = tokens(before) != tokens(now);
        if now.generation < before.generation || refreshed != (now.generation > before.generation) {
            self.violate(format!("promise 5: generations do not fit: {before:?} became {now:?}"));
        }
        if self.by_access.get(&now.access) < self.by_access.get(&before.access) {
            self.violate(format!("promise 5: an older token took a newer one's place: {now:?}"));
        }
    }

    /// Checks that a stored session belongs to one tenant, comes from one answer, and names its
    /// account.
    pub(super) fn check_grant(&mut self, tenant: usize, now: &Stored) {
        let Some(issue) = self.by_access.get(&now.access).map(|issue| &self.issues[*issue]) else {
            return self
                .violate(format!("promise 5: a session with a token that no provider issued: {now:?}"));
        };
        let family = issue.family;
        let Family { tenant: of, account, .. } = &self.families[family];
        if *of != tenant {
            self.violate(format!("promise 12: tenant {tenant} has the session of another: {now:?}"));
        } else if !self.is_known_account(family, now.account.as_ref()) {
            self.violate(format!("promise 12: a session of {account} under another name: {now:?}"));
        } else if !self.is_known_subject(family, now.subject.as_ref()) {
            self.violate(format!("adr/0047: a session of {account} with the subject of another: {now:?}"));
        } else if issue.refresh != now.refresh {
            self.violate(format!("promise 5: tokens of two answers in one session: {now:?}"));
        } else if self.lineages.iter().any(|(lineage, of)| *lineage == now.lineage && *of != family) {
            self.violate(format!("promise 5: a token of another sign-in in {now:?}"));
        }
    }

    /// Checks that a stored session records only events that happened.
    fn check_stored(&mut self, tenant: usize, now: &Stored) {
        self.check_grant(tenant, now);
        let came = |meaning: fn(&Request) -> bool| {
            let of = |request: &Request| matches!(&request.presented, Presented::Refresh(token, _) if *token == now.refresh);
            self.requests.iter().any(|request| of(request) && meaning(request))
        };
        let verdict = came(|request| request.meaning == Some(Meaning::Verdict));
        let trouble =
            came(|request| request.orphan || !matches!(request.meaning, None | Some(Meaning::Granted)))
                || self.left_behind.contains(&now.refresh);
        if now.ended.as_ref().is_some_and(|(_, of)| !verdict || *of != fingerprint(&now.refresh)) {
            self.violate(format!("promise 6: ended without a verdict on its refresh token: {now:?}"));
        }
        if now.retry.is_some() && !trouble {
            self.violate(format!("promise 6: held back without a failure: {now:?}"));
        }
        let reported = &self.tenants[tenant].reported;
        if now
            .rejected
            .as_ref()
            .is_some_and(|(of, _)| !reported.iter().any(|token| fingerprint(token) == *of))
        {
            self.violate(format!("promise 12: noted as rejected without a report: {now:?}"));
        }
    }
}

/// A pending sign-in without the number of its wrong codes, which refused codes raise.
fn without_the_count(pending: &Value) -> Value {
    let mut rest = pending.clone();
    if let Some(members) = rest.as_object_mut() {
        members.remove("wrong_codes");
    }
    rest
}
