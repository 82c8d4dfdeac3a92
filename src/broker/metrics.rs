//! The figures that the broker counts: refreshes, and waits for them.
//!
//! No label names a user, an account or a secret. A provider's name is the operator's own word. The
//! codes of providers are no labels, because they are not a small set.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::time::Instant;

use crate::{ids::ProviderId, oauth::Outcome};

/// The bounds of durations, in seconds. A provider's answer is awaited for up to 180 s.
const SECONDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 180.0];

type Labels<const N: usize> = [(&'static str, String); N];

/// A family of histograms of durations.
pub type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// The broker's figures. Clones share them.
#[derive(Clone, Debug)]
pub struct BrokerMetrics {
    refreshes: Family<Labels<2>, Counter>,
    refresh_seconds: Durations<Labels<2>>,
    waiters: Gauge,
    lock_wait_seconds: Histogram,
}

/// A wait, which is counted until it is dropped.
pub(super) struct Waiting(Gauge);

/// A wait for another process's lock, which is measured when it is dropped.
pub(super) struct LockWait {
    started: Instant,
    seconds: Histogram,
}

/// A histogram of durations, in seconds.
pub fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

impl Default for BrokerMetrics {
    fn default() -> Self {
        Self {
            refreshes: Family::default(),
            refresh_seconds: Family::new_with_constructor(durations),
            waiters: Gauge::default(),
            lock_wait_seconds: durations(),
        }
    }
}

impl BrokerMetrics {
    /// Registers the figures.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("refreshes", "Refresh requests by outcome", self.refreshes.clone());
        registry.register(
            "refresh_duration_seconds",
            "Time from a refresh request to its answer",
            self.refresh_seconds.clone(),
        );
        registry.register("waiters", "Callers that wait for a refresh", self.waiters.clone());
        registry.register(
            "lock_wait_seconds",
            "Waits for a lock that another process held",
            self.lock_wait_seconds.clone(),
        );
    }

    /// Counts the outcome of a refresh. `took` is absent for an answer that another process left.
    pub(super) fn refreshed(&self, provider: &ProviderId, outcome: &Outcome, took: Option<Duration>) {
        let labels = [("provider", provider.to_string()), ("outcome", name(outcome).to_owned())];
        self.refreshes.get_or_create(&labels).inc();
        if let Some(took) = took {
            self.refresh_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.waiters.inc();
        Waiting(self.waiters.clone())
    }

    pub(super) fn lock_wait(&self) -> LockWait {
        LockWait { started: Instant::now(), seconds: self.lock_wait_seconds.clone() }
    }
}

fn name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Granted(_) => "refreshed",
        Outcome::Unspent { .. } => "unspent",
        Outcome::Ambiguous { .. } => "ambiguous",
        Outcome::Ended { .. } | Outcome::Foreign { .. } => "ended",
        Outcome::Refused { .. } => "refused",
        Outcome::Misconfigured { .. } => "misconfigured",
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for LockWait {
    fn drop(&mut self) {
        self.seconds.observe(self.started.elapsed().as_secs_f64());
    }
}
