//! The parts of the process that the routes use.

use std::sync::Arc;

use tokio::sync::watch;

use super::{metrics::Metrics, operators::OperatorKeys};
use crate::{
    agent::Capabilities,
    broker::{Broker, WorkerTokens},
};

/// The state of all routes. Clones share it.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) broker: Broker,
    pub(super) capabilities: Arc<Capabilities>,
    pub(super) tokens: WorkerTokens,
    pub(super) operators: OperatorKeys,
    /// Whether the bot is connected to Discord, if there is one.
    pub(super) bot: Option<watch::Receiver<bool>>,
    /// Whether workers get tokens by the injecting proxy alone.
    pub(super) inject_only: bool,
    pub(super) metrics: Arc<Metrics>,
}
