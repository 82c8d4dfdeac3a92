//! The results that users get when they sign in or out, choose, or view the status.

use threadkey::{
    broker::{
        ChoiceError, FinishError, Finished, GrantEnd, Kept, LoggedOut, LogoutError, Revocation, SignedIn,
        Status, Undecided,
    },
    ids::{Principal, Tenant},
};

use super::{
    choice::SessionAndCandidate,
    reference::{Meaning, Presented, Reference},
    world::tenant_id,
};

/// An attempt to finish a sign-in.
pub(super) struct Finish {
    pub(super) tenant: usize,
    pub(super) code: String,
    /// With the `state`, only the starter's paste may be sent. A bare code may be sent, and PKCE
    /// makes the provider refuse it.
    pub(super) may_be_sent: bool,
    pub(super) may_sign_in: bool,
    /// The number of times that the code was sent before.
    pub(super) sent_before: usize,
}

impl Reference {
    /// Records the start of a sign-in or a logout.
    pub(super) fn begin_change(&mut self, tenant: usize) {
        self.observe();
        self.tenants[tenant].changes += 1;
        self.tenants[tenant].changing = true;
    }

    pub(super) fn check_logout_result(
        &mut self,
        tenant: usize,
        before: &SessionAndCandidate,
        revocation: Revocation,
        result: &Result<LoggedOut, LogoutError>,
    ) {
        self.tenants[tenant].changes += 1;
        self.observe();
        self.tenants[tenant].logging_out = None;
        let (before, after) = (before, self.tenants[tenant].stored.as_ref());
        let session = before.session.as_ref();
        let still = session.zip(after).is_some_and(|(before, after)| before.lineage == after.lineage);
        match result {
            Ok(done) => {
                self.record_text("a logout", format!("{done:?}"));
                if still {
                    self.violate("promise 5: logged out, and the session is still there");
                }
                if (*done == LoggedOut::LocallyOnly) != (revocation == Revocation::Keep) {
                    self.violate(format!("a logout that was to {revocation:?}, and did otherwise: {done:?}"));
                }
                let unsettled = self.is_exchanging(tenant);
                let end = match done {
                    LoggedOut::Revoked => Some(GrantEnd::Revoked),
                    LoggedOut::RevocationFailed => Some(GrantEnd::MayLiveOn),
                    LoggedOut::LocallyOnly | LoggedOut::CannotRevoke(_) | LoggedOut::InUseElsewhere => None,
                };
                self.check_candidate_logout(before.candidate.as_ref(), end.filter(|_| !unsettled));
                let family = session.and_then(|session| self.family(session));
                let revoked = family.is_some_and(|family| self.revoked.contains(&family));
                let failed = *done == LoggedOut::RevocationFailed && before.candidate.is_none();
                if revocation == Revocation::Revoke && !unsettled && (!revoked || failed) {
                    self.violate(format!("a grant is not revoked that should be: {done:?}, {before:?}"));
                }
            }
            Err(error) => {
                self.record_text("a logout's error", format!("{error} {error:?}"));
                if still {
                    self.violate(format!("a logout that should have worked: {error}"));
                }
            }
        }
    }

    /// Checks the result of a paste.
    pub(super) fn check_finish_result(&mut self, finish: &Finish, result: &Result<Finished, FinishError>) {
        let tenant = finish.tenant;
        self.tenants[tenant].changes += 1;
        self.observe();
        let code = Presented::Code(finish.code.clone());
        let sent: Vec<_> = self.requests.iter().filter(|request| request.presented == code).collect();
        let taken = sent.iter().any(|request| request.meaning == Some(Meaning::Granted));
        let families: Vec<_> =
            sent.iter().filter_map(|request| Some(self.issues[request.issue?].family)).collect();
        let sent = sent.len();
        if !finish.may_be_sent && sent > finish.sent_before {
            self.violate("promise 12: a code is sent for a user who did not start that sign-in");
        }
        match result {
            Ok(finished) => {
                self.record_text("a sign-in", format!("{finished:?}"));
                let account = match finished {
                    Finished::SignedIn(done) => &done.account,
                    Finished::Undecided(undecided) => &undecided.account,
                };
                if !finish.may_sign_in || !taken {
                    self.violate(format!("promise 12: signed in as {account:?} without a code of one's own"));
                } else if !families.iter().any(|family| self.is_known_account(*family, account.as_ref())) {
                    self.violate(format!("promise 12: signed in as {account:?} by another account's code"));
                }
            }
            Err(error) => {
                self.record_text("a sign-in's error", format!("{error} {error:?}"));
                if matches!(error, FinishError::Internal(_) | FinishError::Store(_)) {
                    self.violate(format!("a sign-in broke: {error}"));
                }
            }
        }
    }

    /// Checks that cancelled sign-ins are no longer on the disk.
    pub(super) fn check_cancel_result(&mut self, user: Principal, dropped: &[Tenant]) {
        let disk = self.observe();
        for tenant in dropped {
            let pending = disk.as_ref().and_then(|disk| disk.pending(&tenant.to_string()));
            if pending.is_some_and(|(_, pending)| pending["started_by"] == user.to_string()) {
                self.violate(format!("cancelled, and still pending: {tenant}"));
            }
        }
    }

    pub(super) fn check_switch_result(
        &mut self,
        tenant: usize,
        lineage: &str,
        before: &SessionAndCandidate,
        result: &Result<SignedIn, ChoiceError>,
    ) {
        self.observe();
        self.tenants[tenant].choosing = None;
        let waited = before.candidate.as_ref().filter(|candidate| candidate.lineage == lineage);
        match result {
            Ok(done) => {
                self.record_text("a switch", format!("{done:?}"));
                let held = before.session.as_ref().filter(|session| session.lineage == lineage);
                let Some(chosen) = waited.or(held) else {
                    return self.violate(format!("adr/0016: chosen, and it did not wait: {done:?}"));
                };
                let after = self.tenants[tenant].stored.as_ref();
                let is_there = after.is_some_and(|after| after.lineage == lineage);
                if !is_there && !self.is_exchanging(tenant) {
                    self.violate(format!("adr/0016: chosen, and it is not the session: {done:?}"));
                }
                let replaced = before.session.as_ref().filter(|_| held.is_none());
                let replaced = replaced.and_then(|session| session.account.as_ref());
                if (done.account.as_ref(), done.replaced.as_ref()) != (chosen.account.as_ref(), replaced) {
                    self.violate(format!("adr/0016: {done:?} is the result of a switch from {before:?}"));
                }
            }
            Err(error) => {
                self.record_text("a switch's error", format!("{error} {error:?}"));
                let in_time =
                    waited.is_some_and(|waited| self.times.iter().all(|now| waited.can_be_chosen(*now)));
                let gone = matches!(error, ChoiceError::Gone(_)) && (!in_time || self.is_exchanging(tenant));
                if !gone {
                    self.violate(format!(
                        "adr/0016: the waiting sign-in cannot be chosen: {error}; {before:?}"
                    ));
                }
            }
        }
    }

    pub(super) fn check_keep_result(
        &mut self,
        tenant: usize,
        lineage: &str,
        before: &SessionAndCandidate,
        result: &Result<Kept, ChoiceError>,
    ) {
        self.observe();
        self.tenants[tenant].choosing = None;
        let waited = before.candidate.as_ref().filter(|candidate| candidate.lineage == lineage);
        match result {
            Ok(kept) => {
                self.record_text("a kept session", format!("{kept:?}"));
                let Some(waited) = waited else {
                    return self.violate(format!("adr/0016: dropped, and it did not wait: {kept:?}"));
                };
                let after = &self.tenants[tenant];
                let waits = after.candidate.as_ref().is_some_and(|waits| waits.lineage == lineage);
                let stays = after.stored.as_ref().map(|stored| &stored.lineage)
                    == before.session.as_ref().map(|session| &session.lineage);
                if waits || !(stays || self.is_exchanging(tenant)) {
                    self.violate(format!("adr/0016: kept, and the disk differs: {before:?}"));
                }
                if kept.account != before.session.as_ref().and_then(|session| session.account.clone()) {
                    self.violate(format!("adr/0016: {kept:?} is the result of keeping {before:?}"));
                }
                if waited.account != kept.unchosen.account {
                    self.violate(format!("adr/0016: {waited:?} was dropped, and the result is {kept:?}"));
                }
                self.check_reported_end(&kept.tenant, &kept.unchosen);
            }
            Err(error) => {
                self.record_text("a kept session's error", format!("{error} {error:?}"));
                let gone = waited.is_none() || self.is_exchanging(tenant);
                if !(gone && matches!(error, ChoiceError::Gone(_))) {
                    self.violate(format!("adr/0016: the session cannot be kept: {error}; {before:?}"));
                }
            }
        }
    }

    pub(super) fn check_status(&mut self, before: &[SessionAndCandidate], result: &[Status]) {
        self.observe();
        for (tenant, before) in before.iter().enumerate() {
            let after = &self.tenants[tenant];
            if after.stored != before.session || after.candidate != before.candidate {
                continue;
            }
            let status = result.iter().find(|status| status.tenant == tenant_id(tenant));
            let account = before.session.as_ref().and_then(|session| session.account.as_ref());
            let shown = status.and_then(|status| status.undecided.as_ref());
            let shown = shown.map(|undecided| undecided.account.clone());
            let waits = |now: &i64| before.candidate.as_ref().filter(|waits| waits.can_be_chosen(*now));
            let mut possible =
                self.times.iter().map(waits).map(|waits| waits.map(|waits| waits.account.clone()));
            if status.and_then(|status| status.account.as_ref()) != account || !possible.any(|of| of == shown)
            {
                self.violate(format!("adr/0016: {before:?} is shown as {status:?}"));
            }
        }
    }

    /// Checks a report of a waiting sign-in.
    pub(super) fn check_undecided(&mut self, undecided: &Undecided) {
        let lineage = undecided.lineage.to_string();
        let Some((_, family)) = self.choices.seen.iter().find(|(seen, _)| *seen == lineage) else {
            return self.violate(format!("adr/0016: it does not wait for a choice: {undecided:?}"));
        };
        let Undecided { account, current, .. } = undecided;
        let of = &self.families[*family];
        let is_named = account.as_ref().is_none_or(|account| *account == of.account);
        let own = tenant_id(of.tenant) == undecided.tenant && is_named;
        if !own || current.is_none() || current == account {
            self.violate(format!(
                "adr/0016: {}'s choice is another one than {undecided:?}",
                undecided.tenant
            ));
        }
    }
}
