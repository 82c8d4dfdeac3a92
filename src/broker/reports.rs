//! Which worker has reported which access token, and when its report last forced a refresh.
//!
//! A report refuses a token to its reporter alone: the reporter may be wrong, or hostile, and others
//! use the same session. Invariant: a conversation forces at most one refresh of a tenant in
//! [`REPORT_INTERVAL`], whatever the refresh brings. The reports are in memory: after a restart each
//! conversation may report anew, and [`FORCED_REFRESH_INTERVAL`](crate::session) still holds.

use std::time::Duration;

use dashmap::DashMap;

use super::later;
use crate::{
    ids::{ConversationId, Tenant},
    secret::Fingerprint,
    sys::clock::UnixTime,
};

/// The shortest time between two refreshes that one conversation forces.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The reports of all workers of this process.
#[derive(Debug, Default)]
pub(super) struct Reports(DashMap<(ConversationId, Tenant), Report>);

#[derive(Debug)]
struct Report {
    token: Fingerprint,
    at: UnixTime,
}

impl Reports {
    /// Returns the token that this conversation has reported last.
    pub(super) fn refused(&self, conversation: ConversationId, tenant: &Tenant) -> Option<Fingerprint> {
        self.0.get(&(conversation, tenant.clone())).map(|report| report.token.clone())
    }

    /// Records a report of the tenant's current access token. Returns whether it may force a refresh.
    pub(super) fn record(
        &self,
        conversation: ConversationId,
        tenant: &Tenant,
        token: Fingerprint,
        now: UnixTime,
    ) -> bool {
        let is_recent = |report: &Report| report.at <= now && now < later(report.at, REPORT_INTERVAL);
        let key = (conversation, tenant.clone());
        if let Some(mut report) = self.0.get_mut(&key)
            && is_recent(&report)
        {
            report.token = token;
            return false;
        }
        // Conversations end unnoticed here. Their reports go with the next one.
        self.0.retain(|_, report| is_recent(report));
        self.0.insert(key, Report { token, at: now });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Snowflake;

    const NOW: UnixTime = 1_795_358_672;

    #[test]
    fn a_conversation_forces_one_refresh_in_ten_minutes() {
        let reports = Reports::default();
        let tenant = "acme/guild:9".parse().expect("a tenant");
        let report = |conversation, token, now| {
            let conversation = ConversationId(Snowflake(conversation));
            reports.record(conversation, &tenant, Fingerprint::of(token), now)
        };
        assert!(report(1, "a", NOW));
        assert!(!report(1, "a", NOW + 599));
        assert!(!report(1, "b", NOW + 599), "another token counts as well");
        assert!(report(2, "a", NOW + 1), "another conversation has a report of its own");
        assert!(report(1, "b", NOW + 600));
        assert!(report(1, "b", NOW - 3600), "the clock stepped back");
    }

    #[test]
    fn the_reported_token_is_refused_to_its_reporter_alone() {
        let reports = Reports::default();
        let tenant: Tenant = "acme/guild:9".parse().expect("a tenant");
        let (one, other) = (ConversationId(Snowflake(1)), ConversationId(Snowflake(2)));
        reports.record(one, &tenant, Fingerprint::of("a"), NOW);
        assert_eq!(reports.refused(one, &tenant), Some(Fingerprint::of("a")));
        assert_eq!(reports.refused(other, &tenant), None);
        assert_eq!(reports.refused(one, &"acme/user:1".parse().expect("a tenant")), None);
    }
}
