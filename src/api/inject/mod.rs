//! The injecting proxy: it forwards a worker's requests to a configured upstream, with the owner's
//! access token in the place of the worker's secret.
//!
//! Invariants:
//!
//! - Scheme, host and path prefix of a forwarded request come from the configuration
//!   (`inject::target`). No redirect is followed.
//! - No secret of the worker reaches an upstream, its capability included (`inject::presented`,
//!   `inject::headers`).
//! - Each request passes the rule of [`WorkerTokens`], as a token call does. The token goes to the
//!   upstream alone.
//! - A request in progress ends with the right to its token (`inject::grants_in_use`).
//! - Both bodies stream, part by part. A request's body is kept up to a limit, for one replay after the
//!   upstream has rejected the token (`inject::body`).
//! - A port and its sockets serve one worker. They are closed when its capability is void, and all of
//!   their requests are cut then (`inject::port`).
//!
//! A caller that leaves ends its request to the upstream, and an upstream that fails ends the answer
//! to its caller: each side holds the other one's connection and drops it.

mod body;
mod client;
mod forward;
mod grants_in_use;
mod headers;
mod port;
mod presented;
mod route;
mod served_worker;
mod target;

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use route::{Credential, InjectRoute, RouteHeaders};

use client::Upstream;
use port::{Entrance, Port, accept};

use crate::{
    agent::{InjectAccess, InjectPorts, InjectWorker},
    broker::WorkerTokens,
    ids::RouteName,
    net::{Outward, TlsError},
    secret::InjectSecret,
    sys::{random, socket::bind_in_own_folder},
};

/// How long requests in progress may take after the shutdown began.
const DRAIN: Duration = Duration::from_secs(30);

/// The injecting proxy of all workers.
pub struct InjectServer {
    routes: BTreeMap<RouteName, InjectRoute>,
    outward: Outward,
    tokens: WorkerTokens,
    connections: TaskTracker,
    shutdown: CancellationToken,
}

impl InjectServer {
    /// Takes the routes, and connects to nothing yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(routes: Vec<InjectRoute>, tokens: WorkerTokens) -> Result<Self, TlsError> {
        Ok(Self {
            routes: routes.into_iter().map(|route| (route.name.clone(), route)).collect(),
            outward: Outward::from_environment()?,
            tokens,
            connections: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        })
    }

    /// Accepts no more connections, and waits for the requests in progress, for at most 30 s.
    pub async fn drain(&self) {
        self.shutdown.cancel();
        self.connections.close();
        if self.tokens.clock().within(DRAIN, self.connections.wait()).await.is_none() {
            tracing::warn!("requests of agents by the injecting proxy were cut off by the shutdown");
        }
    }
}

#[async_trait]
impl InjectPorts for InjectServer {
    async fn open(&self, worker: InjectWorker) -> io::Result<InjectAccess> {
        let InjectWorker { serves, capability, voided, sockets, open, process } = worker;
        let new_secret = || InjectSecret::new(random::token());
        let secret = new_secret();
        let routes: BTreeMap<_, _> = self.routes.keys().map(|name| (name.clone(), new_secret())).collect();
        let upstream = |route: &InjectRoute| (route.name.clone(), Upstream::new(route, &self.outward));
        let port = Arc::new(Port::new(
            self.routes.values().map(upstream).collect(),
            self.tokens.clone(),
            (serves, process, capability),
            voided,
            self.shutdown.clone(),
            routes.iter().map(|(name, secret)| (secret, Some(name.clone()))).chain([(&secret, None)]),
        ));
        let watched = port.clone();
        tokio::spawn(async move { watched.watch_rights().await });
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let number = listener.local_addr()?.port();
        let paths = sockets.clone();
        let bound = tokio::task::spawn_blocking(move || {
            let bind = |(route, path): (&RouteName, &PathBuf)| {
                bind_in_own_folder(path).map(|bound| (route.clone(), bound))
            };
            paths.iter().map(bind).collect::<Result<Vec<_>, _>>()
        });
        let bound = bound.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        for (route, (listener, socket)) in bound {
            let listener = UnixListener::from_std(listener)?;
            let entrance = Entrance::Socket { is_open: open.contains(&route), route };
            let accepting = accept(listener, entrance, port.clone(), self.connections.clone());
            self.connections.spawn(async move {
                accepting.await;
                drop(socket);
            });
        }
        self.connections.spawn(accept(listener, Entrance::Port, port, self.connections.clone()));
        Ok(InjectAccess { port: number, secret, routes, sockets })
    }
}
