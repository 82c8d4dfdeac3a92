//! The ends of grants: the revocations that a provider is asked for, and the reports on them.

use std::collections::BTreeSet;

use threadkey::{
    broker::{GrantEnd, Revocation, Unchosen},
    ids::Tenant,
};

use super::{
    choice::Standing,
    disk::Stored,
    reference::Reference,
    steps::{PROVIDERS, TENANTS},
    world::tenant_id,
};

impl Reference {
    /// Checks a report on the end of an unchosen grant.
    pub(super) fn told_end(&mut self, tenant: &Tenant, unchosen: &Unchosen) {
        let is = |family: usize| {
            let of = &self.families[family];
            tenant_id(of.tenant) == *tenant && Some(&of.account) == unchosen.account.as_ref()
        };
        // Of several grants of one account, the report concerns one of which it is true, and
        // preferably one whose report is due.
        let likely = |family: usize| self.revoked.contains(&family) == (unchosen.grant == GrantEnd::Revoked);
        let untold = self.choices.untold.iter().enumerate().filter(|(_, (family, _))| is(*family));
        let Some((at, _)) = untold.max_by_key(|(_, (family, owed))| (likely(*family), *owed)) else {
            return self.broken(format!("adr/0016: {tenant} is told of what did not leave: {unchosen:?}"));
        };
        let (family, _) = self.choices.untold.remove(at);
        self.check_end(family, unchosen.grant);
    }

    fn check_end(&mut self, family: usize, end: GrantEnd) {
        let account = self.families[family].account.clone();
        match end {
            GrantEnd::Revoked if !self.revoked.contains(&family) => {
                self.broken(format!("adr/0016: {account}'s grant is said to be revoked, and is not"));
            }
            GrantEnd::MayLiveOn if !self.choices.present.iter().any(|other| self.is_like(family, *other)) => {
                self.broken(format!("adr/0016: {account}'s grant is left, and nothing was in the way"));
            }
            _ => {}
        }
    }

    /// Checks a logout's effect on the waiting sign-in: removed, and revoked or not.
    pub(super) fn told_logged_out(&mut self, candidate: Option<&Stored>, end: Option<GrantEnd>) {
        let family = candidate.and_then(|candidate| self.family(candidate));
        self.choices.untold.retain(|(untold, _)| Some(*untold) != family);
        if let (Some(family), Some(end)) = (family, end) {
            self.check_end(family, end);
        }
    }

    /// Whether these are two grants of one account at one provider.
    fn is_like(&self, family: usize, other: usize) -> bool {
        let of = |family: usize| {
            let family = &self.families[family];
            (TENANTS[family.tenant].0, &family.account)
        };
        family != other && of(family) == of(other)
    }

    /// Checks a revocation at a provider: a user wanted it, and the grant is in no store any more.
    pub(super) fn was_revoked(&mut self, provider: usize, token: &str) {
        self.look();
        let family = self.by_refresh.get(token).copied();
        let Some(family) = family.or_else(|| Some(self.issues[*self.by_access.get(token)?].family)) else {
            return self.broken("promise 12: what nobody issued is revoked");
        };
        self.revoked.insert(family);
        let tenant = self.families[family].tenant;
        if TENANTS[tenant].0 != provider {
            self.broken(format!("promise 12: {} revokes what is not its own", PROVIDERS[provider].name));
        }
        let stored = self.tenants.iter().flat_map(|tenancy| tenancy.stored.iter().chain(&tenancy.candidate));
        let here: BTreeSet<usize> = stored.filter_map(|stored| self.family(stored)).collect();
        let logged_out = self.choices.logged_out.contains(&family)
            || self.tenants[tenant].logging_out == Some(Revocation::Revoke);
        if here.contains(&family) {
            self.broken(format!("adr/0016: tenant {tenant}'s grant is revoked, and in the store"));
        } else if !logged_out && !self.choices.unchosen.contains(&family) {
            self.broken(format!("adr/0016: a grant of tenant {tenant} is revoked, and nobody wanted that"));
        }
        let shared = |other: &usize| here.contains(other) && self.is_like(family, *other);
        if self.choices.unchosen.contains(&family) && self.choices.stood.iter().any(shared) {
            self.broken(format!("adr/0016: revoked, and its account is in use elsewhere: tenant {tenant}"));
        }
    }

    /// Records the start of a logout. A grant that is logged out with revocation may be revoked at
    /// any later time.
    pub(super) fn logs_out(&mut self, tenant: usize, revocation: Revocation) -> Standing {
        let standing = self.standing(tenant);
        if revocation == Revocation::Revoke {
            let family = standing.session.as_ref().and_then(|session| self.family(session));
            self.choices.logged_out.extend(family);
        }
        self.tenants[tenant].logging_out = Some(revocation);
        standing
    }

    /// Checks, when the system is idle, that the end of each removed sign-in's grant was reported.
    pub(super) fn check_all_told(&mut self) {
        for (family, _) in std::mem::take(&mut self.choices.untold).into_iter().filter(|(_, owed)| *owed) {
            let of = &self.families[family];
            let what =
                format!("adr/0016: {}'s grant left tenant {}, and nobody was told", of.account, of.tenant);
            self.broken(what);
        }
        let stored = self.tenants.iter().flat_map(|tenancy| tenancy.stored.iter().chain(&tenancy.candidate));
        let named = stored.filter(|stored| stored.account.is_some());
        self.choices.present = named.filter_map(|stored| self.family(stored)).collect();
        self.choices.stood = self.choices.present.clone();
    }

    /// Waives the due reports after a process died, because it may have been the one to make them.
    pub(super) fn nobody_has_to_be_told(&mut self) {
        self.choices.untold.iter_mut().for_each(|(_, owed)| *owed = false);
    }
}
