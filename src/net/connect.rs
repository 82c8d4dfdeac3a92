//! One connection: name, TCP, proxy and TLS, in this order and within one time limit.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use http::{
    StatusCode,
    header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT},
};
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_socks::{TargetAddr, tcp::Socks5Stream};

use super::{
    Reach, Stream, Unreachable,
    proxy::{Protocol, Proxy},
    resolver::Resolver,
    target::Target,
    tls,
};

/// The longest time for name lookup, TCP, proxy and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time after which the next address is tried beside the earlier ones (RFC 8305 §5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The problem of a step that took too long.
const TOO_SLOW: &str = "it did not answer within 5 s";

/// The resolver of a connection, and the addresses to which the connection may go.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    /// `None` allows every address.
    pub(super) reach: Option<&'a Reach>,
    pub(super) resolver: &'a Resolver,
}

/// Connects to a target. `tls` has the settings where the target or the proxy needs them.
pub(super) async fn open(
    target: &Target,
    proxy: Option<&Proxy>,
    tls: Option<Arc<ClientConfig>>,
    limits: Limits<'_>,
) -> Result<Stream, Unreachable> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let stream = match proxy {
        None => {
            let addresses = limits.addresses(target, deadline).await?;
            tcp(&addresses, deadline).await.map_err(|failure| failure.of(target))?
        }
        Some(proxy) => through(proxy, target, tls.clone(), limits, deadline).await?,
    };
    let Some(tls) = tls.filter(|_| target.tls) else { return Ok(stream) };
    let failed = |problem| Unreachable::Tls { address: target.to_string(), problem };
    match timeout_at(deadline, tls::handshake(stream, &target.host, tls)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(format!(
            "{target} did not complete the TLS handshake within 5 s. Check that the port serves TLS, and the network of this machine"
        ))),
    }
}

// === impl Limits ===

impl Limits<'_> {
    /// Resolves a target, once, and returns its addresses after the check.
    async fn addresses(&self, target: &Target, deadline: Instant) -> Result<Vec<SocketAddr>, Unreachable> {
        let addresses = resolve(self.resolver, &target.host, target.port, deadline).await;
        let addresses = addresses.map_err(|problem| TcpFailure::Name(problem).of(target))?;
        match self.reach {
            Some(reach) => reach.check(target, &addresses).map(|()| addresses),
            None => Ok(addresses),
        }
    }
}

// === TCP ===

/// The reason why no TCP connection was made.
enum TcpFailure {
    Name(String),
    Connect(String),
}

impl TcpFailure {
    fn of(self, target: &Target) -> Unreachable {
        match self {
            Self::Name(problem) => Unreachable::Name { host: target.host.clone(), problem },
            Self::Connect(problem) => Unreachable::Connect { address: target.to_string(), problem },
        }
    }

    fn of_proxy(self, proxy: &Proxy) -> Unreachable {
        let problem = match self {
            Self::Name(problem) => {
                format!(
                    "cannot be used: its name cannot be resolved ({problem}). Check the variable, and the DNS of this machine"
                )
            }
            Self::Connect(problem) => {
                format!("cannot be reached: {problem}. Check the variable, and that the proxy runs")
            }
        };
        refused(proxy, problem)
    }
}

async fn tcp(addresses: &[SocketAddr], deadline: Instant) -> Result<Stream, TcpFailure> {
    let stream = match timeout_at(deadline, first_to_connect(addresses)).await {
        Ok(connected) => connected.map_err(|error| TcpFailure::Connect(error.to_string()))?,
        Err(_) => return Err(TcpFailure::Connect(TOO_SLOW.to_owned())),
    };
    // Each write here is a whole message, and a delay of its last part would only cost time.
    let _ = stream.set_nodelay(true);
    Ok(Stream::new(stream))
}

async fn resolve(
    resolver: &Resolver,
    host: &str,
    port: u16,
    deadline: Instant,
) -> Result<Vec<SocketAddr>, String> {
    match timeout_at(deadline, resolver.look_up(host, port)).await {
        Ok(Ok(found)) => {
            let addresses = alternating(found);
            if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the DNS server did not answer within 5 s".to_owned()),
    }
}

/// Orders addresses so that the two families alternate, beginning with the system's first choice
/// (RFC 8305 §4).
fn alternating(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut preferred = preferred.into_iter();
    let mut other = other.into_iter();
    let mut ordered = Vec::new();
    loop {
        let pair = [preferred.next(), other.next()];
        if pair.iter().all(Option::is_none) {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Connects to the first address that answers. Each attempt starts when the earlier ones have
/// failed, or 250 ms after the last one (RFC 8305 §5).
pub(super) async fn first_to_connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        match waiting.next() {
            Some(address) => attempts.push(TcpStream::connect(*address)),
            None if attempts.is_empty() => return Err(failure),
            None => {}
        }
        let next_is_due = async {
            match waiting.len() {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(NEXT_ADDRESS).await,
            }
        };
        tokio::select! {
            Some(connected) = attempts.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            },
            () = next_is_due => {}
        }
    }
}

// === proxies ===

fn refused(proxy: &Proxy, problem: impl Into<String>) -> Unreachable {
    Unreachable::Proxy { proxy: proxy.to_string(), problem: problem.into() }
}

/// Connects to a target through a proxy.
async fn through(
    proxy: &Proxy,
    target: &Target,
    tls: Option<Arc<ClientConfig>>,
    limits: Limits<'_>,
    deadline: Instant,
) -> Result<Stream, Unreachable> {
    if let Some(reach) = limits.reach.filter(|_| proxy.protocol != Protocol::Socks5) {
        reach.check_listed(target, &proxy.to_string())?;
    }
    let of_proxy = |failure: TcpFailure| failure.of_proxy(proxy);
    let addresses = resolve(limits.resolver, &proxy.host, proxy.port, deadline).await;
    let addresses = addresses.map_err(TcpFailure::Name).map_err(of_proxy)?;
    let stream = tcp(&addresses, deadline).await.map_err(of_proxy)?;
    let negotiated = async {
        match proxy.protocol {
            Protocol::Http | Protocol::Https => {
                let stream = match tls.filter(|_| proxy.uses_tls()) {
                    None => stream,
                    Some(tls) => tls::handshake(stream, &proxy.host, tls)
                        .await
                        .map_err(|problem| refused(proxy, format!("cannot be used, because {problem}")))?,
                };
                tunnel(stream, proxy, target).await
            }
            Protocol::Socks5 => {
                let addresses = limits.addresses(target, deadline).await?;
                // SOCKS takes one address. More proxies reach IPv4 than IPv6.
                let address = addresses.iter().find(|address| address.is_ipv4()).unwrap_or(&addresses[0]);
                socks(stream, proxy, target, TargetAddr::Ip(*address)).await
            }
            Protocol::Socks5h => {
                let address = match target.host.parse() {
                    Ok(ip) => TargetAddr::Ip(SocketAddr::new(ip, target.port)),
                    Err(_) => TargetAddr::Domain(target.host.clone().into(), target.port),
                };
                socks(stream, proxy, target, address).await
            }
        }
    };
    match timeout_at(deadline, negotiated).await {
        Ok(result) => result,
        Err(_) => Err(refused(
            proxy,
            format!(
                "opened no connection to {target} within 5 s. Check with its operator that it reaches that host"
            ),
        )),
    }
}

/// Opens a tunnel by HTTP CONNECT (RFC 9110 §9.3.6).
async fn tunnel(stream: Stream, proxy: &Proxy, target: &Target) -> Result<Stream, Unreachable> {
    let broken = |error: hyper::Error| {
        refused(proxy, format!("does not answer as an HTTP proxy does ({error}). Check the variable"))
    };
    let authority = target.to_string();
    let mut request = http::Request::connect(&authority)
        .header(HOST, &authority)
        .header(USER_AGENT, concat!("threadkey/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| refused(proxy, format!("cannot be asked for {target}: it is not a valid host name")))?;
    if let Some((user, password)) = &proxy.credentials {
        let basic = STANDARD.encode(format!("{}:{}", user.expose(), password.expose()));
        if let Ok(mut basic) = HeaderValue::try_from(format!("Basic {basic}")) {
            basic.set_sensitive(true);
            request.headers_mut().insert(PROXY_AUTHORIZATION, basic);
        }
    }
    match ask(stream, request).await.map_err(broken)? {
        Ok(tunnel) => Ok(Stream::new(TokioIo::new(tunnel))),
        Err(status) => Err(refused(proxy, answer(status, proxy, target))),
    }
}

/// Sends the request for a tunnel, and returns the tunnel or the status of the refusal.
async fn ask(
    stream: Stream,
    request: http::Request<Empty<Bytes>>,
) -> hyper::Result<Result<Upgraded, StatusCode>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let asking = async move {
        let response = sender.send_request(request).await?;
        match response.status() {
            status if status.is_success() => hyper::upgrade::on(response).await.map(Ok),
            status => Ok(Err(status)),
        }
    };
    while_driven(asking, connection.with_upgrades()).await
}

/// Describes a proxy's refusal.
fn answer(status: StatusCode, proxy: &Proxy, target: &Target) -> String {
    let number = status.as_u16();
    match number {
        407 if proxy.credentials.is_some() => format!(
            "answered {number}: it does not accept the user name and password. Correct them in the variable"
        ),
        407 => format!(
            "answered {number}: it needs a user name and a password. Write them into the variable, as USER:PASSWORD@ before the host"
        ),
        502..=504 => format!(
            "answered {number}: it cannot reach {target}. Check the host in the configuration, or ask the operator of the proxy"
        ),
        _ => format!("answered {number}: it refuses a connection to {target}. Its operator can allow it"),
    }
}

/// Asks a SOCKS 5 proxy (RFC 1928) for a connection.
async fn socks(
    stream: Stream,
    proxy: &Proxy,
    target: &Target,
    address: TargetAddr<'static>,
) -> Result<Stream, Unreachable> {
    use tokio_socks::Error;
    let connected = match &proxy.credentials {
        None => Socks5Stream::connect_with_socket(stream, address).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, address, user.expose(), password.expose())
                .await
        }
    };
    let problem = match connected {
        Ok(stream) => return Ok(Stream::new(stream)),
        Err(Error::PasswordAuthFailure(_)) => {
            "does not accept the user name and password. Correct them in the variable".to_owned()
        }
        Err(Error::InvalidAuthValues(_)) => {
            "needs a user name and a password of 1 to 255 bytes each. Correct them in the variable".to_owned()
        }
        Err(Error::NoAcceptableAuthMethods) if proxy.credentials.is_none() => {
            "needs a user name and a password. Write them into the variable, as USER:PASSWORD@ before the host"
                .to_owned()
        }
        Err(Error::NoAcceptableAuthMethods) => {
            "does not accept a user name and password. Remove them from the variable".to_owned()
        }
        Err(Error::ConnectionNotAllowedByRuleset) => {
            format!("does not allow a connection to {target}. Its operator can allow it")
        }
        Err(
            error @ (Error::GeneralSocksServerFailure
            | Error::NetworkUnreachable
            | Error::HostUnreachable
            | Error::ConnectionRefused
            | Error::TtlExpired),
        ) => format!(
            "cannot reach {target} ({error}). Check the host in the configuration, or ask the operator of the proxy"
        ),
        Err(error) => format!("does not answer as a SOCKS 5 proxy does ({error}). Check the variable"),
    };
    Err(refused(proxy, problem))
}

/// Runs an exchange on an HTTP connection, which needs to be driven beside it.
pub(crate) async fn while_driven<T>(exchange: impl Future<Output = T>, connection: impl Future) -> T {
    match select(pin!(exchange), pin!(connection)).await {
        Either::Left((done, _)) => done,
        Either::Right((_, exchange)) => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_families_of_addresses_alternate() {
        let given = ["[::1]:1", "[::2]:1", "127.0.0.1:1", "127.0.0.2:1", "127.0.0.3:1"];
        let ordered = alternating(given.iter().map(|text| text.parse().expect("an address")).collect());
        let ordered: Vec<_> = ordered.iter().map(ToString::to_string).collect();
        assert_eq!(ordered, ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "127.0.0.3:1"]);
        assert_eq!(alternating(Vec::new()), []);
    }
}
