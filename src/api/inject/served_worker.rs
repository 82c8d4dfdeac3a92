//! The worker whose requests a port forwards.

use tokio_util::sync::CancellationToken;

use super::{body::Budget, grants_in_use::GrantsInUse, presented::Secrets};
use crate::{agent::Holder, broker::WorkerTokens};

/// A worker, as its requests need it.
pub(super) struct ServedWorker {
    pub(super) tokens: WorkerTokens,
    /// Its rights.
    pub(super) holder: Holder,
    /// The grants that its requests use.
    pub(super) grants: GrantsInUse,
    /// Its secrets, which reach no upstream.
    pub(super) secrets: Secrets,
    /// The memory for the bodies that are kept.
    pub(super) budget: Budget,
    /// Fires when the shutdown begins.
    pub(super) shutdown: CancellationToken,
}
