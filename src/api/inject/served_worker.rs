//! The worker, or the command in a terminal, whose requests a port forwards.

use tokio_util::sync::CancellationToken;

use super::{body::Budget, grants_in_use::GrantsInUse, presented::Secrets};
use crate::{agent::Served, broker::WorkerTokens};

/// A worker, or a command in a terminal, as its requests need it.
pub(super) struct ServedWorker {
    pub(super) tokens: WorkerTokens,
    /// The party, with its rights.
    pub(super) serves: Served,
    /// The grants that its requests use.
    pub(super) grants: GrantsInUse,
    /// Its secrets, which reach no upstream.
    pub(super) secrets: Secrets,
    /// The memory for the bodies that are kept.
    pub(super) budget: Budget,
    /// Fires when the shutdown begins.
    pub(super) shutdown: CancellationToken,
}
