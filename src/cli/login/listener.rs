//! The listener to which the browser brings the provider's answer (RFC 8252 §7.3).
//!
//! It listens on loopback alone and takes one answer: the first with the state of its sign-in. The
//! answer's page waits for the exchange, so it reports success only after that. All other requests
//! (favicons, an answer to another sign-in, a page that guesses the address) change nothing.
//!
//! # Other users of the machine
//!
//! Each of them can connect to loopback. Only the `state` keeps their answers out: a code of *their*
//! account would sign this terminal in as them. PKCE does not help, because the provider's link has the
//! challenge too. (A stolen code is of no use: the verifier never leaves this process.) So the link with
//! the state must not reach them.
//!
//! Each of them can also read the arguments of the process that opens the browser. So these hold a
//! local address without the state, which leads to the provider. It works once, and for no other user:
//! the kernel names the owner of each connection ([`connection_owner`]), and a connection of another
//! user gets no link, and its answers are not read. The same holds for a connection whose owner the
//! kernel's list lacks. So a reader of the arguments gains nothing, whether it comes before the browser
//! or after it. Where the kernel has no such list, the address works once.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    serve::IncomingStream,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::page::Page;
use crate::{
    net::is_loopback,
    sys::{connection_owner, random},
};

/// Ports below this one belong to the services of the system, and no program of a user can listen on
/// them.
const FIRST_PORT_OF_USERS: u16 = 1024;

/// The time that the last page gets to reach the browser.
const LAST_PAGE: Duration = Duration::from_secs(3);

/// The bound sockets of a redirect URI.
pub(super) struct Listener {
    sockets: Vec<TcpListener>,
    redirect_uri: Url,
    port: u16,
}

/// The reason why there is no listener.
#[derive(Debug)]
pub(super) enum NoListener {
    /// The redirect URI is no address on which a program of a user can listen.
    Elsewhere,
    /// Another program has the port.
    Taken(u16),
    /// The system refuses.
    Failed(u16, io::Error),
}

/// A listener that waits for the answer. Dropping it ends it at once.
pub(super) struct Waiting {
    answers: mpsc::Receiver<Answer>,
    ended: CancellationToken,
    servers: JoinSet<io::Result<()>>,
    entrance: String,
}

/// The provider's answer, and where its page goes.
pub(super) struct Answer {
    /// The whole address, with the code.
    pub(super) address: Zeroizing<String>,
    /// The page that the browser shows.
    pub(super) page: oneshot::Sender<Page>,
}

struct Shared {
    redirect_uri: Url,
    hosts: Vec<String>,
    state: crate::secret::State,
    entrance: String,
    /// The provider's page, until the browser has asked for it.
    link: Mutex<Option<Url>>,
    is_answered: AtomicBool,
    answers: mpsc::Sender<Answer>,
}

// === impl Listener ===

impl Listener {
    /// Listens on the redirect URI; with `any_port` on a free port in place of its own.
    pub(super) async fn bind(redirect_uri: &str, any_port: bool) -> Result<Self, NoListener> {
        let Ok(mut redirect_uri) = Url::parse(redirect_uri) else { return Err(NoListener::Elsewhere) };
        let port = redirect_uri.port_or_known_default().unwrap_or_default();
        let is_usable = any_port || port >= FIRST_PORT_OF_USERS;
        if redirect_uri.scheme() != "http" || !is_loopback(&redirect_uri) || !is_usable {
            return Err(NoListener::Elsewhere);
        }
        let wanted = if any_port { 0 } else { port };
        let failed = |port: u16| {
            move |error: io::Error| match error.kind() {
                io::ErrorKind::AddrInUse => NoListener::Taken(port),
                _ => NoListener::Failed(port, error),
            }
        };
        let host = redirect_uri.host().map(|host| host.to_owned());
        let first: SocketAddr = match host {
            Some(Host::Ipv6(ip)) => (ip, wanted).into(),
            Some(Host::Ipv4(ip)) => (ip, wanted).into(),
            _ => (Ipv4Addr::LOCALHOST, wanted).into(),
        };
        let socket = TcpListener::bind(first).await.map_err(failed(wanted))?;
        let port = socket.local_addr().map_err(failed(wanted))?.port();
        let mut sockets = vec![socket];
        if matches!(host, Some(Host::Domain(_))) {
            // A browser may look for `localhost` on both. A program on the other one would get the code.
            match TcpListener::bind((Ipv6Addr::LOCALHOST, port)).await {
                Ok(socket) => sockets.push(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    return Err(NoListener::Taken(port));
                }
                Err(_) => {}
            }
        }
        if any_port {
            let _ = redirect_uri.set_port(Some(port));
        }
        Ok(Self { sockets, redirect_uri, port })
    }

    pub(super) fn redirect_uri(&self) -> &Url {
        &self.redirect_uri
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Waits for the answer to the sign-in that begins at `link`. Must be called within a Tokio
    /// runtime.
    pub(super) fn wait(self, link: &Url) -> Waiting {
        let state = link.query_pairs().find(|(name, _)| name == "state");
        let (sender, answers) = mpsc::channel(1);
        let ended = CancellationToken::new();
        let path = format!("/threadkey/{}", random::token());
        let entrance = self.redirect_uri.join(&path).map(String::from).unwrap_or_default();
        let authority = |host: &str| format!("{host}:{}", self.port);
        let shared = Arc::new(Shared {
            hosts: ["127.0.0.1", "localhost", "[::1]", self.redirect_uri.host_str().unwrap_or_default()]
                .map(authority)
                .to_vec(),
            redirect_uri: self.redirect_uri,
            state: crate::secret::State::new(state.map(|(_, state)| state.into_owned()).unwrap_or_default()),
            entrance: path,
            link: Mutex::new(Some(link.clone())),
            is_answered: AtomicBool::new(false),
            answers: sender,
        });
        let mut servers = JoinSet::new();
        for socket in self.sockets {
            let router = Router::new().fallback(respond).with_state(shared.clone());
            let router = router.into_make_service_with_connect_info::<Ends>();
            let server = axum::serve(socket, router).with_graceful_shutdown(ended.clone().cancelled_owned());
            servers.spawn(server.into_future());
        }
        Waiting { answers, ended, servers, entrance }
    }
}

// === impl Waiting ===

impl Waiting {
    /// The address at which the browser begins. It works once.
    pub(super) fn entrance(&self) -> &str {
        &self.entrance
    }

    /// Waits for the answer. May be cancelled.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// Stops listening, and waits until the last page has reached the browser.
    pub(super) async fn end(mut self) {
        self.ended.cancel();
        let _ = timeout(LAST_PAGE, async { while self.servers.join_next().await.is_some() {} }).await;
    }
}

// === impl Ends ===

/// The two addresses of a connection.
#[derive(Clone, Copy, Debug)]
struct Ends {
    ours: Option<SocketAddr>,
    theirs: SocketAddr,
}

impl Connected<IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self { ours: stream.io().local_addr().ok(), theirs: *stream.remote_addr() }
    }
}

impl Ends {
    fn may_be_of_two_users(self) -> bool {
        !self.ours.is_some_and(|ours| connection_owner::is_own_users(ours, self.theirs))
    }
}

// === the answer to each request ===

async fn respond(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let stray = |status, text| Page::stray(status, text).into_response();
    if ends.may_be_of_two_users() {
        tracing::warn!(
            "another user of this machine, or an unknown one, asked for a page of the sign-in; nothing was done"
        );
        let text = "This connection comes from another user of this machine than the one who signs in, or its user cannot be \
                    found. If your browser runs as another user or in another system, open the link that the terminal shows, and paste the address of its last page there.";
        return stray(StatusCode::FORBIDDEN, text);
    }
    if !shared.is_for_us(&parts.headers) {
        // Another site's name that leads to this machine (DNS rebinding).
        return stray(StatusCode::MISDIRECTED_REQUEST, "This address works only on loopback.");
    }
    if parts.method != Method::GET {
        return stray(StatusCode::METHOD_NOT_ALLOWED, "This address takes GET only.");
    }
    let path = parts.uri.path();
    if path == shared.entrance {
        return shared.enter();
    }
    if path != shared.redirect_uri.path() {
        return stray(StatusCode::NOT_FOUND, "There is no such page.");
    }
    let mut address = shared.redirect_uri.clone();
    address.set_query(parts.uri.query());
    shared.take(&address).await.into_response()
}

impl Shared {
    fn is_for_us(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        host.to_str().is_ok_and(|host| self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)))
    }

    /// Leads the browser to the provider, once.
    fn enter(&self) -> Response {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(link) = link else {
            let text = "This address was opened before, and it works once. The terminal shows the link of the provider.";
            return Page::stray(StatusCode::GONE, text).into_response();
        };
        let Ok(location) = HeaderValue::try_from(link.as_str()) else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let headers = [
            (header::LOCATION, location),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::CONNECTION, HeaderValue::from_static("close")),
        ];
        (StatusCode::SEE_OTHER, headers).into_response()
    }

    /// Takes the answer to this sign-in, once, and waits for its page.
    async fn take(&self, address: &Url) -> Page {
        let mut states = address.query_pairs().filter(|(name, _)| name == "state");
        let is_ours = match (states.next(), states.next()) {
            (Some((_, state)), None) => self.state.fingerprint() == crate::secret::Fingerprint::of(&state),
            _ => false,
        };
        if !is_ours {
            let text = "This answer belongs to another sign-in (its state is not the one of the terminal), so nothing was sent. The \
                        sign-in of the terminal still waits: use its link.";
            return Page::stray(StatusCode::BAD_REQUEST, text);
        }
        if self.is_answered.swap(true, Ordering::SeqCst) {
            let text = "This sign-in has its answer already. The terminal shows how it ended.";
            return Page::stray(StatusCode::GONE, text);
        }
        let (page, shown) = oneshot::channel();
        let answer = Answer { address: Zeroizing::new(address.as_str().to_owned()), page };
        let ended = || Page::failed("The sign-in in the terminal has ended. Start it again.");
        match self.answers.send(answer).await {
            Ok(()) => shown.await.unwrap_or_else(|_| ended()),
            Err(_) => ended(),
        }
    }
}
