//! The managers who are changing the shared login of their server now. The report of the change names
//! them.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::bounded_map::BoundedMap;
use crate::ids::{Principal, Snowflake, Tenant};

/// The number of managers that are remembered until their change is in the store.
const MAX: usize = 1_000;
/// How long a manager is remembered. A command that changed nothing must not claim a later change.
const ACTING_FOR: Duration = Duration::from_secs(30);

/// The change that a manager makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Switch,
    LogOut,
}

/// See the module.
#[derive(Debug)]
pub(super) struct ActingManagers(Mutex<BoundedMap<Tenant, (Snowflake, Deed, Instant)>>);

impl ActingManagers {
    pub(super) fn new() -> Self {
        Self(Mutex::new(BoundedMap::new(MAX)))
    }

    /// Records that a user is about to change this login, if it is a server's.
    pub(super) fn record(&self, tenant: &Tenant, user: Snowflake, deed: Deed) {
        if matches!(tenant.principal, Principal::Guild(_)) {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(tenant.clone(), (user, deed, Instant::now()));
        }
    }

    /// Takes the manager who has just changed this login.
    pub(super) fn take(&self, tenant: &Tenant) -> Option<(Snowflake, Deed)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (user, deed, since) = all.remove(tenant)?;
        (since.elapsed() < ACTING_FOR).then_some((user, deed))
    }
}
