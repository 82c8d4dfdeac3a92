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
pub(super) struct Looks<'a> {
    pub(super) tenant: usize,
    pub(super) before: Option<&'a Stored>,
    pub(super) now: Option<&'a Stored>,
    /// The sign-in that waited for a choice, and the one that waits now.
    pub(super) waited: Option<&'a Stored>,
    pub(super) waits: Option<&'a Stored>,
}

impl Reference {
    /// Reads the disk and compares it with the previous content and with the possible changes.
    pub(super) fn look(&mut self) -> Option<Disk> {
        let disk = match Disk::read(&self.store) {
            Ok(disk) => disk,
            Err(error) => {
                self.broken(error);
                return None;
            }
        };
        if disk.planted() != self.planted.each_ref() {
            self.broken("promise 8: what another program wrote beside the sessions is gone");
        }
        for (tenant, (provider, principal, _)) in TENANTS.iter().enumerate() {
            let name = tenant_name(*provider, principal);
            let (now, waits) = (disk.session(&name), disk.candidate(&name));
            let tenancy = &mut self.tenants[tenant];
            let (before, waited) = (tenancy.stored.take(), tenancy.candidate.take());
            let looks = Looks {
                tenant,
                before: before.as_ref(),
                now: now.as_ref(),
                waited: waited.as_ref(),
                waits: waits.as_ref(),
            };
            self.compare(&looks);
            self.compare_candidate(&looks);
            let pending = disk.pending(&name).map(|(state, all)| (state.to_owned(), all.clone()));
            self.compare_pending(tenant, pending.as_ref());
            let tenancy = &mut self.tenants[tenant];
            (tenancy.stored, tenancy.candidate, tenancy.pending) = (now, waits, pending);
            tenancy.changes_looked = tenancy.changes;
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
            Some((before, was)) if before == state && was != now => {
                self.broken(format!("promise 8: the sign-in under way changed from {was} to {now}"));
            }
            _ => {}
        }
    }

    fn compare(&mut self, looks: &Looks<'_>) {
        let &Looks { tenant, before, now, .. } = looks;
        let switched = self.check_switched(looks);
        if let Some(before) = before
            && now.is_none_or(|now| now.lineage != before.lineage)
            && !switched
            && !self.may_have_changed(tenant)
        {
            self.broken(format!(
                "promise 6: the session of {tenant} is gone, and nobody logged out: {before:?}"
            ));
        }
        let Some(now) = now else { return };
        self.durable.insert(now.access.clone());
        self.check_stored(tenant, now);
        match before {
            Some(before) if before.lineage == now.lineage => self.check_successor(before, now),
            _ => {
                self.check_replacement(looks, switched);
                self.check_new_lineage(now);
            }
        }
    }

    /// Whether a sign-in or a logout since the last observation, or one that a dead process left
    /// behind, may have changed the session.
    pub(super) fn may_have_changed(&self, tenant: usize) -> bool {
        let Tenancy { changes, changes_looked, changing, .. } = self.tenants[tenant];
        changing || changes != changes_looked || self.was_orphaned(tenant)
    }

    fn check_new_lineage(&mut self, now: &Stored) {
        let Some(family) = self.by_access.get(&now.access).map(|issue| self.issues[*issue].family) else {
            return;
        };
        if self.lineages.iter().any(|(lineage, of)| *lineage == now.lineage || *of == family) {
            self.broken(format!("promise 5: a session that was gone is back: {now:?}"));
        }
        self.lineages.push((now.lineage.clone(), family));
    }

    fn check_successor(&mut self, before: &Stored, now: &Stored) {
        if now.unknown != before.unknown {
            self.broken(format!("promise 8: unknown fields changed: {before:?} became {now:?}"));
        }
        let tokens = |stored: &Stored| {
            (stored.access.clone(), stored.refresh.clone(), stored.issued_at, stored.expires_at)
        };
        let renewed = tokens(before) != tokens(now);
        if now.generation < before.generation || renewed != (now.generation > before.generation) {
            self.broken(format!("promise 5: generations do not fit: {before:?} became {now:?}"));
        }
        if self.by_access.get(&now.access) < self.by_access.get(&before.access) {
            self.broken(format!("promise 5: an older token took a newer one's place: {now:?}"));
        }
    }

    /// Checks that a stored session belongs to one tenant, comes from one answer, and names its
    /// account.
    pub(super) fn check_grant(&mut self, tenant: usize, now: &Stored) {
        let Some(issue) = self.by_access.get(&now.access).map(|issue| &self.issues[*issue]) else {
            return self.broken(format!("promise 5: a session with a token that nobody issued: {now:?}"));
        };
        let family = issue.family;
        let Family { tenant: of, account, .. } = &self.families[family];
        if *of != tenant {
            self.broken(format!("promise 12: tenant {tenant} has the session of another: {now:?}"));
        } else if !self.is_named(family, now.account.as_ref()) {
            self.broken(format!("promise 12: a session of {account} under another name: {now:?}"));
        } else if issue.refresh != now.refresh {
            self.broken(format!("promise 5: tokens of two answers in one session: {now:?}"));
        } else if self.lineages.iter().any(|(lineage, of)| *lineage == now.lineage && *of != family) {
            self.broken(format!("promise 5: a token of another sign-in in {now:?}"));
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
            self.broken(format!("promise 6: ended without a verdict on its refresh token: {now:?}"));
        }
        if now.retry.is_some() && !trouble {
            self.broken(format!("promise 6: held back, and nothing had gone wrong: {now:?}"));
        }
        let reported = &self.tenants[tenant].reported;
        if now
            .rejected
            .as_ref()
            .is_some_and(|(of, _)| !reported.iter().any(|token| fingerprint(token) == *of))
        {
            self.broken(format!("promise 12: refused by nobody, and yet noted so: {now:?}"));
        }
    }
}
