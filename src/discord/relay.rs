//! The relay between serenity and Discord's gateway.
//!
//! serenity dials the gateway by itself: without a proxy, and with certificates that are compiled
//! into it. So it dials this relay on loopback instead, and the relay opens the real connection
//! with [`Outward`]. The relay takes the WebSocket handshake apart only to replace the host. After
//! it, bytes pass unchanged both ways: frames, compression, close codes and the pace of a slow
//! reader.
//!
//! serenity never uses the `resume_gateway_url` of READY: it resumes at the address that it
//! identified at. So a resumption takes the relay too.
//!
//! Invariants:
//! - The relay forwards to one host, which it got at its start.
//! - A connection needs the random path of this run. Other local processes do not know it.
//! - A connection without a valid handshake loses its place to a newer one, so idle connections of
//!   other processes cannot shut the bot out.
//! - The relay and its connections end when [`Relay`] is dropped.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{
    HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONNECTION, HOST, UPGRADE},
};
use http_body_util::{Either, Empty, Full};
use hyper::{
    body::{Bytes, Incoming},
    client, server,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use url::Url;

use crate::{
    net::{Outward, Stream, Trust, Unreachable},
    secret::Secret,
    sys::random,
};

/// The most connections that have not shown the secret path yet.
const MAX_STRANGERS: usize = 64;
/// The longest time for the first lines of a connection.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The longest time for the gateway's answer to the handshake.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// The time in which the second direction of a connection may end after the first one.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// A running relay. Dropping it ends it.
pub(super) struct Relay {
    address: String,
    trouble: watch::Receiver<Option<Unreachable>>,
    /// It owns all connections.
    _task: AbortOnDropHandle<()>,
}

/// The parts that each connection needs.
struct Upstream {
    gateway: Url,
    outward: Outward,
    trust: Trust,
    path: Secret,
    strangers: Strangers,
    /// Whether an attempt without the secret path is in the log. One line is enough.
    has_warned: AtomicBool,
    /// The reason why the newest attempt failed, if no later one succeeded.
    trouble: watch::Sender<Option<Unreachable>>,
}

/// The connections that have not shown the secret path yet, oldest first.
#[derive(Default)]
struct Strangers(Mutex<BTreeMap<u64, AbortHandle>>);

impl Strangers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts and adds the newest connection, and ends the oldest one if there are too many. The
    /// lock is held meanwhile, so that the connection cannot remove itself too early.
    fn add(&self, number: u64, start: impl FnOnce() -> AbortHandle) {
        let mut waiting = self.lock();
        waiting.insert(number, start());
        if waiting.len() > MAX_STRANGERS
            && let Some((_, oldest)) = waiting.pop_first()
        {
            oldest.abort();
        }
    }

    fn remove(&self, number: u64) {
        self.lock().remove(&number);
    }
}

/// The answer to serenity: the gateway's own, or a refusal.
type Answer = Response<Either<Incoming, Full<Bytes>>>;

impl Relay {
    /// Opens a port on loopback that leads to `gateway`. Must be called within a Tokio runtime.
    pub(super) async fn start(gateway: Url, outward: Outward, trust: Trust) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let path = Secret::new(random::token());
        let address = format!("ws://{}/{}", listener.local_addr()?, path.expose());
        let (trouble, reported) = watch::channel(None);
        let upstream = Arc::new(Upstream {
            gateway,
            outward,
            trust,
            path,
            strangers: Strangers::default(),
            has_warned: AtomicBool::new(false),
            trouble,
        });
        Ok(Self {
            address,
            trouble: reported,
            _task: AbortOnDropHandle::new(tokio::spawn(serve(listener, upstream))),
        })
    }

    /// Returns the address for serenity. It contains the secret path.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the reason why the gateway cannot be reached, if it cannot.
    pub(super) fn trouble(&self) -> watch::Receiver<Option<Unreachable>> {
        self.trouble.clone()
    }
}

async fn serve(listener: TcpListener, upstream: Arc<Upstream>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    number += 1;
                    let connection = relay(stream, upstream.clone(), number);
                    upstream.strangers.add(number, || connections.spawn(connection));
                }
                // A shortage of descriptors: a pause keeps this from becoming a busy loop.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection of serenity until it ends.
async fn relay(stream: TcpStream, upstream: Arc<Upstream>, number: u64) {
    let _ = stream.set_nodelay(true);
    let (paired, pair) = oneshot::channel();
    let paired = Arc::new(Mutex::new(Some(paired)));
    let service = service_fn(|mut request: Request<Incoming>| {
        let (upstream, paired) = (upstream.clone(), paired.clone());
        async move {
            if !upstream.is_bot(&request) {
                return Ok::<_, Infallible>(refuse(StatusCode::FORBIDDEN, "this is not a way to Discord"));
            }
            upstream.strangers.remove(number);
            let downstream = hyper::upgrade::on(&mut request);
            let answer = match upstream.forward(request).await {
                Ok((answer, connection)) => {
                    let paired = paired.lock().ok().and_then(|mut paired| paired.take());
                    if let Some(paired) = paired {
                        let _ = paired.send((downstream, connection));
                    }
                    answer.map(Either::Left)
                }
                Err(refusal) => refusal,
            };
            Ok(answer)
        }
    });
    let handshake = server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let shaken = handshake.await;
    upstream.strangers.remove(number);
    if shaken.is_err() {
        return;
    }
    // The gateway's side is driven from here on. Without an upgrade there is nothing to pass on.
    let Ok((downstream, connection)) = pair.await else { return };
    connection.pass_on(downstream).await;
}

fn refuse(status: StatusCode, reason: &'static str) -> Answer {
    let mut refusal = Response::new(Either::Right(Full::from(reason)));
    *refusal.status_mut() = status;
    refusal
}

/// The connection to the gateway after its answer.
struct Connection {
    upgrade: OnUpgrade,
    /// Moves the bytes of the handshake. It ends with the upgrade.
    driver: AbortOnDropHandle<()>,
}

impl Connection {
    async fn pass_on(self, downstream: OnUpgrade) {
        if let (Ok(downstream), Ok(upstream)) = (downstream.await, self.upgrade.await) {
            exchange(TokioIo::new(downstream), TokioIo::new(upstream)).await;
        }
        drop(self.driver);
    }
}

impl Upstream {
    /// Whether a handshake has the secret path.
    fn is_bot(&self, request: &Request<Incoming>) -> bool {
        let is_bot = request.uri().path().strip_prefix('/') == Some(self.path.expose());
        if !is_bot && !self.has_warned.swap(true, Ordering::Relaxed) {
            warn!(
                "a local process tried to use the bot's connection to Discord's gateway, without the secret that it needs"
            );
        }
        is_bot
    }

    /// Sends serenity's handshake to the gateway, and returns the gateway's answer.
    async fn forward(&self, request: Request<Incoming>) -> Result<(Response<Incoming>, Connection), Answer> {
        let stream = match self.outward.open(&self.gateway, &self.trust).await {
            Ok(stream) => stream,
            Err(cause) => {
                self.report(Some(cause));
                return Err(refuse(StatusCode::BAD_GATEWAY, "the gateway cannot be reached"));
            }
        };
        let lost = |_| refuse(StatusCode::BAD_GATEWAY, "the gateway hung up");
        let request = self
            .addressed(request)
            .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "the handshake cannot be passed on"))?;
        let (mut sender, connection) =
            client::conn::http1::handshake(TokioIo::<Stream>::new(stream)).await.map_err(lost)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        }));
        let answer = timeout(ANSWER_WITHIN, sender.send_request(request)).await;
        let late = |_| refuse(StatusCode::GATEWAY_TIMEOUT, "the gateway does not answer");
        let mut answer = answer.map_err(late)?.map_err(lost)?;
        self.report(None);
        let upgrade = hyper::upgrade::on(&mut answer);
        Ok((answer, Connection { upgrade, driver }))
    }

    /// Returns the handshake with the gateway's host and path instead of the relay's. Its query
    /// names the version of the gateway.
    fn addressed(&self, request: Request<Incoming>) -> Option<Request<Empty<Bytes>>> {
        let (mut parts, _) = request.into_parts();
        let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
        parts.uri = format!("{}{query}", self.gateway.path()).parse::<Uri>().ok()?;
        let host = self.gateway.host_str()?;
        let host = self.gateway.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        parts.headers.insert(HOST, HeaderValue::try_from(host).ok()?);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        parts.extensions.clear();
        Some(Request::from_parts(parts, Empty::new()))
    }

    /// Logs a new reason, and the end of an old one.
    fn report(&self, cause: Option<Unreachable>) {
        self.trouble.send_if_modified(|known| {
            if *known == cause {
                return false;
            }
            match &cause {
                Some(cause) => warn!(%cause, "Discord's gateway cannot be reached; trying again"),
                None => info!("Discord's gateway can be reached again"),
            }
            *known = cause;
            true
        });
    }
}

/// Passes bytes on both ways until one direction ends, and then the rest of the other for a
/// moment. A peer that has gone silently would never end it.
async fn exchange(
    downstream: impl AsyncRead + AsyncWrite + Unpin,
    upstream: impl AsyncRead + AsyncWrite + Unpin,
) {
    let (mut from_bot, mut to_bot) = tokio::io::split(downstream);
    let (mut from_gateway, mut to_gateway) = tokio::io::split(upstream);
    let up = async {
        let _ = tokio::io::copy(&mut from_bot, &mut to_gateway).await;
        let _ = to_gateway.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_gateway, &mut to_bot).await;
        let _ = to_bot.shutdown().await;
    };
    tokio::pin!(up, down);
    let _ = tokio::select! {
        () = &mut up => timeout(CLOSE_WITHIN, down).await,
        () = &mut down => timeout(CLOSE_WITHIN, up).await,
    };
}

#[cfg(test)]
mod tests;
