//! The parts of the process that the routes use.

use std::sync::Arc;

use tokio::sync::watch;

use super::{metrics::Metrics, operators::OperatorKeys, via::Via};
use crate::{
    agent::Capabilities,
    broker::{Broker, WorkerTokens},
};

/// The state of all routes that are served on one way. All requests share it.
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
    /// The way by which requests arrive.
    pub(super) via: Via,
}
