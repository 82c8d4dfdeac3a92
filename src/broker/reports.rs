//! Which caller has reported which access token, and when its report last forced a refresh.
//!
//! A report refuses a token to its reporter alone: the reporter may be wrong, or hostile, and others
//! use the same session. Invariant: a conversation, or an operator key, forces at most one refresh of a
//! tenant in [`REPORT_INTERVAL`], whatever the refresh brings. The refusal ends with that time, and a further
//! report meanwhile refuses nothing: an endpoint that never accepts a token takes no login for good.
//! The reports are in memory: after a restart each conversation may report anew, and
//! [`FORCED_REFRESH_INTERVAL`](crate::session) still holds.
//!
//! A worker sends requests in parallel, and all of them meet a dead token. The first one reports it.
//! The others wait until that report has its result ([`Reports::settled`]): before it is in the store,
//! they would be refused the token without a refresh.

use std::time::Duration;

use dashmap::{DashMap, mapref::one::Ref};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::later;
use crate::{
    ids::{ConversationId, Tenant},
    secret::Fingerprint,
    sys::clock::UnixTime,
};

/// The shortest time between two refreshes that one reporter forces.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// The party whose reports are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reporter {
    /// The workers of a conversation.
    Conversation(ConversationId),
    /// The programs with the operator key of this name.
    OperatorKey(String),
    /// The command in the terminal of this process.
    Terminal,
}

/// The reports of all callers of this process.
#[derive(Debug, Default)]
pub(super) struct Reports(DashMap<(Reporter, Tenant), Report>);

#[derive(Debug)]
struct Report {
    /// The token that its reporter does not get again, if the report refuses it.
    refused: Option<Fingerprint>,
    at: UnixTime,
    /// Fires when the report has its result.
    settled: CancellationToken,
}

/// A report in progress, until dropped.
#[derive(Debug)]
pub(super) struct Reporting(#[expect(dead_code, reason = "its drop ends the report")] DropGuard);

impl Reports {
    /// Returns the token that this reporter has refused within [`REPORT_INTERVAL`].
    pub(super) fn refused(&self, reporter: &Reporter, tenant: &Tenant, now: UnixTime) -> Option<Fingerprint> {
        let report = self.of(reporter, tenant).filter(|report| report.is_recent(now))?;
        report.refused.clone()
    }

    /// Waits until this reporter's report, if one is in progress, has its result.
    pub(super) async fn settled(&self, reporter: &Reporter, tenant: &Tenant) {
        let settled = self.of(reporter, tenant).map(|report| report.settled.clone());
        if let Some(settled) = settled {
            settled.cancelled().await;
        }
    }

    fn of(&self, reporter: &Reporter, tenant: &Tenant) -> Option<Ref<'_, (Reporter, Tenant), Report>> {
        // Mostly there are none, and each request for a token asks.
        if self.0.is_empty() { None } else { self.0.get(&(reporter.clone(), tenant.clone())) }
    }

    /// Records a report of the tenant's current access token, and the token if its reporter refuses
    /// it. Returns the report if it may force a refresh. Others with the same reporter wait for its drop.
    pub(super) fn record(
        &self,
        reporter: &Reporter,
        tenant: &Tenant,
        refused: Option<Fingerprint>,
        now: UnixTime,
    ) -> Option<Reporting> {
        let key = (reporter.clone(), tenant.clone());
        if self.0.get(&key).is_some_and(|report| report.is_recent(now)) {
            return None;
        }
        // Conversations end unnoticed here. Their reports go with the next one.
        self.0.retain(|_, report| report.is_recent(now));
        let settled = CancellationToken::new();
        self.0.insert(key, Report { refused, at: now, settled: settled.clone() });
        Some(Reporting(settled.drop_guard()))
    }
}

impl Report {
    fn is_recent(&self, now: UnixTime) -> bool {
        self.at <= now && now < later(self.at, REPORT_INTERVAL)
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
            let conversation = Reporter::Conversation(ConversationId(Snowflake(conversation)));
            reports.record(&conversation, &tenant, Some(Fingerprint::of(token)), now).is_some()
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
        let [one, other] = [1, 2].map(|id| Reporter::Conversation(ConversationId(Snowflake(id))));
        reports.record(&one, &tenant, Some(Fingerprint::of("a")), NOW);
        assert_eq!(reports.refused(&one, &tenant, NOW), Some(Fingerprint::of("a")));
        assert_eq!(reports.refused(&other, &tenant, NOW), None);
        assert_eq!(reports.refused(&one, &"acme/user:1".parse().expect("a tenant"), NOW), None);
    }

    #[test]
    fn a_refusal_ends_after_ten_minutes_and_a_second_report_refuses_nothing() {
        let reports = Reports::default();
        let tenant: Tenant = "acme/guild:9".parse().expect("a tenant");
        let one = Reporter::Conversation(ConversationId(Snowflake(1)));
        reports.record(&one, &tenant, Some(Fingerprint::of("a")), NOW);
        reports.record(&one, &tenant, Some(Fingerprint::of("b")), NOW + 599);
        assert_eq!(reports.refused(&one, &tenant, NOW + 599), Some(Fingerprint::of("a")));
        assert_eq!(reports.refused(&one, &tenant, NOW + 600), None);
    }
}
