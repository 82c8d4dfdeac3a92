//! The log of the token endpoint, the source of [`Events`].

use crate::events::{Counts, Events, Outcome, TokenRequest};

/// The newest requests that are kept; counts go on for ever.
const KEPT: usize = 10_000;

#[derive(Default)]
pub(super) struct Log {
    events: Events,
    arrived: u64,
}

impl Log {
    /// Notes a request that came in, and gives its number.
    pub(super) fn arrived(
        &mut self,
        grant_type: &str,
        account: Option<String>,
        presented: Option<String>,
    ) -> u64 {
        self.arrived += 1;
        if self.events.requests.len() == KEPT {
            self.events.requests.drain(..KEPT / 10);
        }
        self.events.requests.push(TokenRequest {
            seq: self.arrived,
            grant_type: grant_type.to_owned(),
            account,
            presented,
            issued: None,
            outcome: Outcome::Pending,
            status: None,
            error: None,
        });
        self.arrived
    }

    /// Records the result of the request `seq`.
    pub(super) fn decided(&mut self, seq: u64, outcome: Outcome, change: impl FnOnce(&mut TokenRequest)) {
        let found = self.events.requests.iter_mut().find(|request| request.seq == seq);
        let Some(request) = found else {
            return;
        };
        request.outcome = outcome;
        change(request);
        let account = request.account.clone();
        self.count(account.as_deref(), |counts| match outcome {
            Outcome::SignedIn => counts.sign_ins += 1,
            Outcome::Refreshed => counts.refreshes += 1,
            Outcome::Reused => counts.reuses += 1,
            Outcome::Failed => counts.failed += 1,
            Outcome::Exchanged | Outcome::Pending => {}
        });
    }

    /// Records that a grant of `account` was revoked.
    pub(super) fn revoked(&mut self, account: &str) {
        self.count(Some(account), |counts| counts.revoked += 1);
    }

    pub(super) fn events(&self) -> Events {
        self.events.clone()
    }

    pub(super) fn count_arrived(&self) -> u64 {
        self.arrived
    }

    fn count(&mut self, account: Option<&str>, add: impl Fn(&mut Counts)) {
        add(&mut self.events.total);
        if let Some(account) = account {
            add(self.events.accounts.entry(account.to_owned()).or_default());
        }
    }
}
