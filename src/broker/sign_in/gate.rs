//! Keeps the recovery of a sign-in out of the way of its exchange, within this process.
//!
//! A request for a token without a session takes the lock of the tenant's sign-in for a moment: a dead
//! process may have left its result. A user who finishes the sign-in in that moment would be sent away,
//! because a held lock means that a code is being exchanged. Agents that wait for the sign-in make such
//! requests at the same time. So both pass this gate before they take the lock: the exchange waits here,
//! and the recovery gives way.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::ids::Tenant;

/// The gates of the tenants in use.
#[derive(Default)]
pub(in crate::broker) struct SignInGates(DashMap<Tenant, Arc<Mutex<()>>>);

impl SignInGates {
    fn gate(&self, tenant: &Tenant) -> Arc<Mutex<()>> {
        // A gate that is held or waited for has another owner.
        self.0.retain(|_, gate| Arc::strong_count(gate) > 1);
        self.0.entry(tenant.clone()).or_default().clone()
    }

    /// Waits until no recovery holds the gate.
    pub(super) async fn pass(&self, tenant: &Tenant) -> OwnedMutexGuard<()> {
        self.gate(tenant).lock_owned().await
    }

    /// Passes unless an exchange or another recovery is at the gate.
    pub(super) fn try_pass(&self, tenant: &Tenant) -> Option<OwnedMutexGuard<()>> {
        self.gate(tenant).try_lock_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_exchange_waits_at_the_gate_and_a_recovery_gives_way() {
        let gates = SignInGates::default();
        let tenant: Tenant = "acme/user:5".parse().expect("a tenant");
        let recovery = gates.try_pass(&tenant).expect("the gate is open");
        let mut exchange = Box::pin(gates.pass(&tenant));
        assert!(futures_util::poll!(&mut exchange).is_pending());
        drop(recovery);
        assert!(gates.try_pass(&tenant).is_none(), "the exchange is next");
        let other: Tenant = "acme/user:6".parse().expect("a tenant");
        assert!(gates.try_pass(&other).is_some(), "another tenant has a gate of its own");
        drop(exchange.await);
        assert!(gates.try_pass(&tenant).is_some());
        assert_eq!(gates.0.len(), 1, "gates that nothing uses are dropped");
    }
}
