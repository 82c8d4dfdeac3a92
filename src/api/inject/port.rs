//! One worker's port and sockets: the requests that are allowed, and the number of connections.
//!
//! Every process of this machine can connect to the port. So connections are counted in two pools, as
//! those of the token API are ([`crate::api::shares`]): a connection is an arrival until it presents
//! the worker's secret, and has ten seconds for that. Then it is one of the worker's own, which no
//! arrival can displace. A new connection takes the oldest one's place in a full pool.
//!
//! A socket for an MCP server is open: the worker's own processes need no secret there. The kernel
//! names the process that connects, and [`ancestry`] finds out whether it is the worker's.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, Response, header},
    response::IntoResponse as _,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use super::{
    body::Budget,
    client::Upstream,
    forward::Forwarding,
    grants_in_use::GrantsInUse,
    presented::{self, Secrets},
    served_worker::ServedWorker,
};
use crate::{
    agent::Served,
    api::{
        browsers::names_loopback,
        problem::Problem,
        shares::{Place, Pool},
        stream::ProblemStream,
    },
    broker::WorkerTokens,
    ids::RouteName,
    net::is_loopback,
    secret::{Capability, Fingerprint, InjectSecret, Secret},
    sys::ancestry,
};

/// How many connections without a presented secret have a place.
const ARRIVALS: usize = 128;
/// How many connections of the worker have a place.
const CONNECTIONS: usize = 256;
/// How long a connection may take to present the secret.
const SECRET_WITHIN: Duration = Duration::from_secs(10);
/// How long a later request's head may take, with the pause before it.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// The longest request head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The pause after a failed accept, which mostly means a lack of resources.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The way on which a request arrives.
#[derive(Clone, Debug)]
pub(super) enum Entrance {
    /// The TCP port, with all routes under `/inject/NAME`.
    Port,
    /// A Unix socket, with one route at its root.
    Socket {
        /// The route.
        route: RouteName,
        /// Whether the worker's own processes need no secret.
        is_open: bool,
    },
}

/// The port of one worker, with its sockets.
pub(super) struct Port {
    pub(super) upstreams: BTreeMap<RouteName, Upstream>,
    worker: ServedWorker,
    /// The worker's secrets, each with the only route that it opens, if there is one.
    secrets: HashMap<Fingerprint, Option<RouteName>>,
    /// The number of the worker's first process, once that runs.
    process: Arc<OnceLock<u32>>,
    /// Fires when the worker's capability is void.
    voided: CancellationToken,
    arrivals: Pool<()>,
    admitted: Pool<()>,
}

/// A connection's place, first among the arrivals.
struct Seat {
    place: Mutex<Option<Place<()>>>,
    is_admitted: AtomicBool,
    /// Whether the peer needs no secret.
    is_own: bool,
    /// Fires when the place among the arrivals is lost.
    is_displaced: CancellationToken,
    /// Fires when the place among the worker's own connections is lost.
    is_dismissed: CancellationToken,
}

impl Seat {
    /// Takes a place among the arrivals.
    fn new(arrivals: &Pool<()>, is_own: bool) -> Self {
        let is_displaced = CancellationToken::new();
        Self {
            place: Mutex::new(Some(arrivals.enter((), is_displaced.clone()))),
            is_admitted: AtomicBool::new(false),
            is_own,
            is_displaced,
            is_dismissed: CancellationToken::new(),
        }
    }

    /// Moves the connection from the arrivals to the worker's own ones. Its loss of an arrival's place,
    /// even just before, counts no longer.
    fn admit(&self, admitted: &Pool<()>) {
        if !self.is_admitted.swap(true, Ordering::Relaxed) {
            let place = admitted.enter((), self.is_dismissed.clone());
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        }
    }

    /// Waits until the connection has lost its place.
    async fn lost(&self) {
        let displaced = async {
            self.is_displaced.cancelled().await;
            if self.is_admitted.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = displaced => {}
            () = self.is_dismissed.cancelled() => {}
        }
    }
}

impl Port {
    pub(super) fn new<'a>(
        upstreams: BTreeMap<RouteName, Upstream>,
        tokens: WorkerTokens,
        (serves, process, capability): (Served, Arc<OnceLock<u32>>, Option<Capability>),
        voided: CancellationToken,
        shutdown: CancellationToken,
        secrets: impl Iterator<Item = (&'a InjectSecret, Option<RouteName>)>,
    ) -> Self {
        let grants = GrantsInUse::new(tokens.clone(), serves.clone());
        let scopes: Vec<_> = secrets.collect();
        let own = scopes.iter().map(|(secret, _)| Secret::new(secret.expose()));
        let capability = capability.map(|capability| Secret::new(capability.expose()));
        let secrets = Secrets::new(own.chain(capability));
        Self {
            upstreams,
            worker: ServedWorker { tokens, serves, grants, secrets, budget: Budget::new(), shutdown },
            secrets: scopes.into_iter().map(|(secret, route)| (secret.fingerprint(), route)).collect(),
            process,
            voided,
            arrivals: Pool::new(ARRIVALS),
            admitted: Pool::new(CONNECTIONS),
        }
    }

    /// Ends the requests in progress whose rights end, until the worker's capability is void.
    pub(super) async fn watch_rights(&self) {
        tokio::select! {
            () = self.voided.cancelled() => {}
            () = self.worker.grants.watch() => {}
        }
    }

    /// Answers a request. An error is not yet a response.
    async fn answer(
        &self,
        entrance: &Entrance,
        seat: &Seat,
        request: Request<Body>,
    ) -> Result<Response<Body>, Problem> {
        let (name, base, rest) = locate(entrance, request.uri())?;
        check_host(entrance, &request)?;
        let opens = |text: &str| {
            let scope = self.secrets.get(&Fingerprint::of(text));
            scope.is_some_and(|only| only.as_ref().is_none_or(|only| only.as_str() == name))
        };
        let secret = presented::find(request.headers(), request.uri(), opens);
        if secret.is_none() && !seat.is_own {
            return Err(Problem::no_inject_secret());
        }
        seat.admit(&self.admitted);
        let Some(upstream) = name.parse().ok().and_then(|name: RouteName| self.upstreams.get(&name)) else {
            let known: Vec<_> = self.upstreams.keys().map(RouteName::as_str).collect();
            return Err(Problem::unknown_route(&known));
        };
        let forwarding = Forwarding { upstream, base: &base, rest: &rest, secret };
        forwarding.run(&self.worker, request).await
    }

    /// Whether a process is one of the worker's own.
    fn owns(&self, process: Option<i32>) -> bool {
        match (process, self.process.get()) {
            (Some(process), Some(first)) => ancestry::belongs_to(process, *first),
            _ => false,
        }
    }
}

/// Returns the route's name, the path at which it is served, and the rest of the path.
fn locate(entrance: &Entrance, uri: &hyper::Uri) -> Result<(String, String, String), Problem> {
    // An absolute form names a host of its own (RFC 9112 §3.2.2), and CONNECT only that.
    if uri.scheme().is_some() || uri.authority().is_some() || !uri.path().starts_with('/') {
        return Err(Problem::invalid_request("send the path alone as the target, as to any server"));
    }
    match entrance {
        Entrance::Socket { route, .. } => {
            Ok((route.as_str().to_owned(), String::new(), uri.path().to_owned()))
        }
        Entrance::Port => {
            let after = uri.path().strip_prefix("/inject/").unwrap_or_default();
            let (name, rest) = after.split_at(after.find('/').unwrap_or(after.len()));
            Ok((name.to_owned(), format!("/inject/{name}"), rest.to_owned()))
        }
    }
}

/// Refuses the requests of web pages. A page on another site sends its `Origin`; with a name that
/// resolves to loopback it sends that name as `Host`.
fn check_host(entrance: &Entrance, request: &Request<Body>) -> Result<(), Problem> {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return Err(Problem::not_this_host());
    }
    // The usual names need no parser.
    if matches!(entrance, Entrance::Socket { .. }) || names_loopback(headers) {
        return Ok(());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Problem::not_this_host()) };
    let is_plain = |host: &&str| !host.contains(['/', '@', '?', '#', '\\', '%']);
    let url =
        host.to_str().ok().filter(is_plain).and_then(|host| Url::parse(&format!("http://{host}/")).ok());
    if url.is_some_and(|url| is_loopback(&url)) { Ok(()) } else { Err(Problem::not_this_host()) }
}

/// A listening socket.
pub(super) trait Listen: Send + Sync + 'static {
    /// Its connections.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for a connection. Returns it with the number of the process that opened it, if the system
    /// has it.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<i32>)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Option<i32>)> {
        let (stream, _) = self.accept().await?;
        // Each write is a whole part of a message.
        let _ = stream.set_nodelay(true);
        Ok((stream, None))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Option<i32>)> {
        let (stream, _) = self.accept().await?;
        let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
        Ok((stream, peer))
    }
}

/// Accepts connections until the worker's capability is void or the shutdown begins.
pub(super) async fn accept(
    listener: impl Listen,
    entrance: Entrance,
    port: Arc<Port>,
    connections: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = port.voided.cancelled() => return,
            () = port.worker.shutdown.cancelled() => return,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // At once: a number could belong to another process later.
                let is_own = matches!(entrance, Entrance::Socket { is_open: true, .. }) && port.owns(peer);
                connections.spawn(connection(stream, entrance.clone(), is_own, port.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the injecting proxy could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
}

/// Serves the requests of one connection.
pub(super) fn connection<S>(
    stream: S,
    entrance: Entrance,
    is_own: bool,
    port: Arc<Port>,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let seat = Arc::new(Seat::new(&port.arrivals, is_own));
    let reached = Arc::new(AtomicBool::new(false));
    let service = {
        let (port, seat, reached) = (port.clone(), seat.clone(), reached.clone());
        service_fn(move |request: Request<Incoming>| {
            reached.store(true, Ordering::Relaxed);
            let (port, seat, entrance) = (port.clone(), seat.clone(), entrance.clone());
            async move {
                let answered = port.answer(&entrance, &seat, request.map(Body::new)).await;
                Ok::<_, Infallible>(answered.unwrap_or_else(refusal))
            }
        })
    };
    async move {
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(ProblemStream::new(stream, reached)), service);
        let mut served = std::pin::pin!(served);
        let is_late = async {
            tokio::time::sleep(SECRET_WITHIN).await;
            if seat.is_admitted.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            // Whatever is in progress ends with the worker.
            () = port.voided.cancelled() => return,
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the injecting proxy ended early");
                }
                return;
            }
            () = seat.lost() => return,
            () = is_late => return,
            () = port.worker.shutdown.cancelled() => served.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            biased;
            () = port.voided.cancelled() => {}
            _ = served => {}
        }
    }
}

/// Returns the response of a problem.
fn refusal(problem: Problem) -> Response<Body> {
    let mut response = problem.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if headers.contains_key(header::WWW_AUTHENTICATE) {
        // git sends a password only to a server that asks for one.
        headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"threadkey\""));
    }
    response
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_connection_that_is_admitted_just_after_its_displacement_keeps_its_request() {
        let (arrivals, admitted) = (Pool::new(1), Pool::new(1));
        let seat = Seat::new(&arrivals, false);
        let _other = Seat::new(&arrivals, false);
        assert!(seat.lost().now_or_never().is_some(), "an arrival is displaced");
        seat.admit(&admitted);
        assert!(seat.lost().now_or_never().is_none());
        let second = Seat::new(&arrivals, false);
        second.admit(&admitted);
        assert!(seat.lost().now_or_never().is_some(), "another connection of the worker takes its place");
        assert!(second.lost().now_or_never().is_none());
    }
}
