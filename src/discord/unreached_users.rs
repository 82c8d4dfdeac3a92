//! The users whom no notice of an ended session has reached yet. Their next command tries again.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use crate::ids::Snowflake;

/// The number of users that are remembered.
const MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnreachedUsers(Mutex<BTreeSet<Snowflake>>);

impl UnreachedUsers {
    /// Records whether a notice for this user is still undelivered.
    pub(super) fn set(&self, user: Snowflake, is_unreached: bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if is_unreached && all.len() < MAX {
            all.insert(user);
        } else if !is_unreached {
            all.remove(&user);
        }
    }

    /// Whether a notice for this user is undelivered.
    pub(super) fn contains(&self, user: Snowflake) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&user)
    }
}
