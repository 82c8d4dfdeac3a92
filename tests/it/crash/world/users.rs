//! The users: their links and codes, and the results that they received.

use std::time::Duration;

use threadkey::ids::Tenant;

use super::{Code, World};

/// The number of codes of one link that may be wrong without a pause.
const FREE_CODES: u32 = 3;

impl World {
    /// Gives the user a link.
    pub(in crate::crash) fn linked(&mut self, tenant: &Tenant, state: String) {
        let record = self.record(tenant);
        if record.link.as_ref() != Some(&state) {
            (record.code, record.not_accepted) = (None, 0);
        }
        record.link = Some(state);
    }

    /// Follows the link again and gets a new code.
    pub(in crate::crash) fn follow_the_link(&mut self, tenant: &Tenant) {
        let code = self.mint();
        self.codes.insert(code, Code { tenant: tenant.clone(), closed: false, taken: false, sent: 0 });
        self.record(tenant).code = Some(code);
    }

    /// Returns the text that the user can paste: `state` and code.
    pub(in crate::crash) fn paste(&mut self, tenant: &Tenant) -> Option<(String, u64)> {
        let record = self.record(tenant);
        record.during.pasted.extend(record.code);
        record.link.clone().zip(record.code)
    }

    /// Records that a user has to wait before the next paste.
    pub(in crate::crash) fn paused(&mut self, tenant: &Tenant, pause: Duration) {
        let record = self.record(tenant);
        record.during.pause = i64::try_from(pause.as_secs()).ok();
        let not_accepted = record.not_accepted;
        if not_accepted < FREE_CODES {
            self.violate(format!("{tenant} has to wait after {not_accepted} codes that were not accepted"));
        }
    }

    /// Returns the pause that a user has to make, in seconds.
    pub(in crate::crash) fn pause(&mut self, tenant: &Tenant) -> Option<i64> {
        self.record(tenant).during.pause
    }

    pub(in crate::crash) fn signed_in(&mut self, tenant: &Tenant) {
        let contested = self.is_contested(tenant);
        let record = self.record(tenant);
        record.during.signed_in = true;
        // A sign-in that was being cancelled when its program ended may be unchanged.
        let answered = record.answered.take().or(record.open.keys().next_back().copied());
        (record.link, record.code) = (None, None);
        record.during.sign_ins.extend(record.open.keys());
        match answered {
            Some(number) if !contested => {
                record.open.clear();
                self.settle(tenant, Some(number));
            }
            Some(_) => {}
            None if contested => {}
            None => self.violate(format!("{tenant} got a sign-in whose answer was in no journal")),
        }
    }

    pub(in crate::crash) fn leased(&mut self, tenant: &Tenant, number: u64) {
        let Some(root) = self.grants.contains_key(&number).then(|| self.root(number)) else {
            return self.violate(format!("{tenant} got a token {number} that was never granted"));
        };
        self.supersede_parent(number);
        if !self.written.contains(&number) {
            self.violate(format!("{tenant} got token {number}, whose answer was in no journal"));
        }
        let contested = self.is_contested(tenant);
        let record = self.record(tenant);
        if !record.possible.contains(&Some(number)) {
            let possible = format!("{:?}", record.possible);
            return self.violate(format!("{tenant} got token {number}, and may have {possible}"));
        }
        if !record.during.before.contains(&Some(root)) {
            record.during.seen.insert(root);
        }
        if record.answered == Some(root) {
            record.answered = None;
        }
        // An earlier state may come from a program that ended between its rename and its fsync.
        // Reading it does not make it durable.
        if !contested && self.record(tenant).during.refreshed.contains(&number) {
            self.settle(tenant, Some(number));
        }
    }

    /// Records that the program reported the session as ended.
    pub(in crate::crash) fn reported_ended(&mut self, tenant: &Tenant) {
        let possible = self.record(tenant).possible.clone();
        if !possible.into_iter().flatten().any(|number| self.ended.contains(&self.root(number))) {
            self.violate(format!("{tenant} was reported as ended without a verdict"));
        }
    }

    pub(in crate::crash) fn logging_out(&mut self, tenant: &Tenant) {
        let record = self.record(tenant);
        record.answered = None;
        record.during.logout_begun = true;
        record.during.abandoned = true;
        record.possible.push(None);
    }

    pub(in crate::crash) fn logged_out(&mut self, tenant: &Tenant) {
        self.record(tenant).during.logged_out = true;
        if !self.is_contested(tenant) {
            self.record(tenant).open.clear();
            self.settle(tenant, None);
        }
    }

    /// Gives up any grant in the sign-in's journal.
    pub(in crate::crash) fn cancelling(&mut self, tenant: &Tenant) {
        let record = self.record(tenant);
        record.answered = None;
        record.during.abandoned = true;
    }

    /// Drops the pending sign-in, so that it has no later result.
    pub(in crate::crash) fn cancelled(&mut self, tenant: &Tenant) {
        if !self.is_contested(tenant) {
            let record = self.record(tenant);
            let link = record.link.take();
            let gone = |number: &u64| record.open.get(number).is_some_and(|state| *state == link);
            record.possible.retain(|state| !state.as_ref().is_some_and(gone));
            record.open.retain(|_, state| *state != link);
        }
    }

    /// Announces a write that will bring a new session.
    pub(in crate::crash) fn beginning(&mut self, tenant: &Tenant) -> u64 {
        let number = self.grant(tenant, None);
        let record = self.record(tenant);
        record.answered = None;
        record.possible.push(Some(number));
        record.during.sign_ins.insert(number);
        self.written.insert(number);
        self.shared_write.get_or_insert_default().push((tenant.clone(), number));
        number
    }

    pub(in crate::crash) fn begun(&mut self, tenant: &Tenant, number: u64) {
        let record = self.record(tenant);
        (record.link, record.code) = (None, None);
        record.during.signed_in = true;
        record.open.clear();
        self.settle(tenant, Some(number));
    }
}
