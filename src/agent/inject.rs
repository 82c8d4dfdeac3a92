//! The workers' access to the injecting proxy, which the API on a higher floor serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Holder;
use crate::{
    ids::{Principal, ProviderId, RouteName},
    secret::{Capability, InjectSecret},
    tools::InjectValues,
};

/// Opens the injecting proxy for workers.
#[async_trait]
pub trait InjectPorts: Send + Sync + 'static {
    /// Opens a port of 127.0.0.1 and the sockets for one worker. They are closed, and all requests on
    /// them are cut, as soon as `worker.voided` fires.
    ///
    /// # Errors
    /// The system's.
    async fn open(&self, worker: InjectWorker) -> io::Result<InjectAccess>;
}

/// The party whose requests a port forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// A worker, with its rights.
    Worker(Holder),
    /// A command in a terminal, on this principal's login at these providers.
    Terminal {
        /// The principal.
        principal: Principal,
        /// The providers.
        providers: Vec<ProviderId>,
    },
}

/// The worker, or the command in a terminal, for which a port is opened.
#[derive(Clone, Debug)]
pub struct InjectWorker {
    /// The party, with its rights.
    pub serves: Served,
    /// The worker's capability, which no upstream may get. A command in a terminal has none.
    pub capability: Option<Capability>,
    /// Fires when the worker's capability is void.
    pub voided: CancellationToken,
    /// The paths of the sockets to serve. Each one serves one route at its root.
    pub sockets: BTreeMap<RouteName, PathBuf>,
    /// The routes whose sockets demand no secret of the worker's own processes.
    pub open: BTreeSet<RouteName>,
    /// The number of the worker's first process, once that runs.
    pub process: Arc<OnceLock<u32>>,
}

/// A worker's access to the injecting proxy.
#[derive(Clone)]
pub struct InjectAccess {
    /// The port of 127.0.0.1.
    pub port: u16,
    /// The secret for all routes.
    pub secret: InjectSecret,
    /// The routes, each with a secret that opens it alone.
    pub routes: BTreeMap<RouteName, InjectSecret>,
    /// The sockets. Each one serves one route at its root.
    pub sockets: BTreeMap<RouteName, PathBuf>,
}

impl InjectAccess {
    /// Returns the address under which a route is served, without a slash at its end.
    pub fn base_url(&self, route: &RouteName) -> String {
        format!("http://127.0.0.1:{}/inject/{}", self.port, route.as_str())
    }

    /// Returns the access to one route, for a tool.
    pub fn values(&self, route: &RouteName) -> Option<InjectValues> {
        let (base_url, secret) = (self.base_url(route), self.routes.get(route)?.clone());
        Some(InjectValues { base_url, secret, socket: self.sockets.get(route).cloned() })
    }
}

impl fmt::Debug for InjectAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InjectAccess").field("port", &self.port).finish_non_exhaustive()
    }
}
