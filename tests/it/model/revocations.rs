//! The ends of grants: the revocations that a provider is asked for, and the reports on them.

use std::collections::BTreeSet;

use threadkey::{
    broker::{GrantEnd, Revocation, Unchosen},
    ids::Tenant,
};

use super::{
    choice::SessionAndCandidate,
    disk::Stored,
    reference::{Family, Issue, Reference},
    steps::{PROVIDERS, TENANTS},
    world::tenant_id,
};

impl Reference {
    /// Checks a report on the end of an unchosen grant.
    pub(super) fn check_reported_end(&mut self, tenant: &Tenant, unchosen: &Unchosen) {
        let is = |family: usize| {
            let of = &self.families[family];
            let is_named = unchosen.account.as_ref().is_none_or(|account| *account == of.account);
            tenant_id(of.tenant) == *tenant && is_named
        };
        // Of several grants of one account, the report concerns one of which it is true, and
        // preferably one whose report is due.
        let likely = |family: usize| self.revoked.contains(&family) == (unchosen.grant == GrantEnd::Revoked);
        let unreported = self.choices.unreported.iter().enumerate().filter(|(_, (family, _))| is(*family));
        let Some((at, _)) = unreported.max_by_key(|(_, (family, owed))| (likely(*family), *owed)) else {
            return self.violate(format!(
                "adr/0016: {tenant} gets a report on a grant that is not gone: {unchosen:?}"
            ));
        };
        let (family, _) = self.choices.unreported.remove(at);
        self.check_end(family, unchosen.grant);
    }

    fn check_end(&mut self, family: usize, end: GrantEnd) {
        let account = self.families[family].account.clone();
        let is_in_use = |other: &usize| self.is_like(family, *other);
        match end {
            GrantEnd::Revoked if !self.revoked.contains(&family) => {
                self.violate(format!("adr/0016: {account}'s grant is reported as revoked, and is not"));
            }
            GrantEnd::MayLiveOn
                if !self.choices.present.iter().any(is_in_use) && !self.has_unknown_account(family) =>
            {
                self.violate(format!("adr/0016: {account}'s grant is left without a reason"));
            }
            _ => {}
        }
    }

    /// Whether an account of this grant's provider cannot be known, so that it may be any. A userinfo
    /// endpoint may give no answer.
    fn has_unknown_account(&self, family: usize) -> bool {
        let provider = TENANTS[self.families[family].tenant].0;
        let is_here = |of: &Family| TENANTS[of.tenant].0 == provider;
        let is_nameless = |of: &Family| of.nameless && is_here(of);
        let was_stored = self.choices.unknown.iter().any(|unknown| is_here(&self.families[*unknown]));
        was_stored || !PROVIDERS[provider].userinfo && self.families.iter().any(is_nameless)
    }

    /// Checks a logout's effect on the waiting sign-in: removed, and revoked or not.
    pub(super) fn check_candidate_logout(&mut self, candidate: Option<&Stored>, end: Option<GrantEnd>) {
        let family = candidate.and_then(|candidate| self.family(candidate));
        self.choices.unreported.retain(|(unreported, _)| Some(*unreported) != family);
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

    /// Checks a revocation at a provider: a user wanted it, or its tokens came too
    /// late, and the grant is in no store any more.
    pub(super) fn check_revocation(&mut self, provider: usize, token: &str) {
        self.observe();
        let family = self.by_refresh.get(token).copied();
        let Some(family) = family.or_else(|| Some(self.issues[*self.by_access.get(token)?].family)) else {
            return self.violate("promise 12: a token is revoked that no provider issued");
        };
        self.revoked.insert(family);
        let tenant = self.families[family].tenant;
        if TENANTS[tenant].0 != provider {
            self.violate(format!("promise 12: {} revokes a foreign grant", PROVIDERS[provider].name));
        }
        let stored = self.tenants.iter().flat_map(|tenancy| tenancy.stored.iter().chain(&tenancy.candidate));
        let here: BTreeSet<usize> = stored.filter_map(|stored| self.family(stored)).collect();
        let logged_out = self.choices.logged_out.contains(&family)
            || self.tenants[tenant].logging_out == Some(Revocation::Revoke);
        if here.contains(&family) {
            self.violate(format!("adr/0016: tenant {tenant}'s grant is revoked, and in the store"));
        } else if !logged_out && !self.choices.unchosen.contains(&family) && !self.has_late_answer(family) {
            self.violate(format!("adr/0016: a grant of tenant {tenant} is revoked without a reason"));
        }
        let shared = |other: &usize| here.contains(other) && self.is_like(family, *other);
        if self.choices.unchosen.contains(&family) && self.choices.present_when_idle.iter().any(shared) {
            self.violate(format!("adr/0016: revoked, and its account is in use elsewhere: tenant {tenant}"));
        }
    }

    /// Whether an answer for this grant was never in the store: it arrived after the logout of its
    /// session, or after the end of its sign-in. Where it names no new refresh token, the old one
    /// is revoked.
    fn has_late_answer(&self, family: usize) -> bool {
        let is_late = |issue: &Issue| issue.family == family && !self.durable.contains(&issue.access);
        self.issues.iter().any(is_late)
    }

    /// Records the start of a logout. A grant that is logged out with revocation may be revoked at
    /// any later time.
    pub(super) fn begin_logout(&mut self, tenant: usize, revocation: Revocation) -> SessionAndCandidate {
        let session_and_candidate = self.session_and_candidate(tenant);
        if revocation == Revocation::Revoke {
            let family = session_and_candidate.session.as_ref().and_then(|session| self.family(session));
            self.choices.logged_out.extend(family);
        }
        self.tenants[tenant].logging_out = Some(revocation);
        session_and_candidate
    }

    /// Checks, when the system is idle, that the end of each removed sign-in's grant was reported.
    pub(super) fn check_all_reported(&mut self) {
        for (family, _) in std::mem::take(&mut self.choices.unreported).into_iter().filter(|(_, owed)| *owed)
        {
            let of = &self.families[family];
            let violation =
                format!("adr/0016: {}'s grant left tenant {} without a report", of.account, of.tenant);
            self.violate(violation);
        }
        let stored = self.tenants.iter().flat_map(|tenancy| tenancy.stored.iter().chain(&tenancy.candidate));
        let named = stored.filter(|stored| stored.account.is_some());
        self.choices.present = named.filter_map(|stored| self.family(stored)).collect();
        self.choices.present_when_idle = self.choices.present.clone();
    }

    /// Waives the due reports after a process died, because it may have been the one to make them.
    pub(super) fn waive_reports(&mut self) {
        self.choices.unreported.iter_mut().for_each(|(_, owed)| *owed = false);
    }
}
