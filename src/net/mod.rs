//! The way out of this machine: the certificates that are trusted, the choice of a proxy, and the
//! connector that uses both.
//!
//! Invariants:
//! - Every connection to another machine has the same trust and the same proxies, whatever travels
//!   on it: a request to a provider, Discord's REST calls, or Discord's gateway.
//! - Loopback never goes through a proxy, because a proxy's loopback is another machine.
//! - [`Outward::open`] returns a stream or the cause of its failure. Until it returns a stream, no
//!   byte of the caller's request has left this machine.
//! - A connection that a server's document leads to is limited by a [`Reach`]: its name is resolved
//!   once, and only checked addresses are connected to.
//! - No error, log line or `Debug` output contains the credentials of a proxy.

mod connect;
mod proxy;
mod reach;
mod resolver;
mod server_tls;
mod stream;
mod target;
mod tls;
mod trust;
mod unreachable;

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use rustls::{ClientConfig, ConfigBuilder, WantsVerifier};
use url::Url;

use connect::Limits;
pub(crate) use connect::while_driven;
pub use proxy::{Proxies, ProxyError};
pub use reach::{Reach, is_public};
#[cfg(feature = "test-util")]
pub use resolver::ScriptedNames;
pub use server_tls::{IdentityError, ServerIdentity, ServerTls};
pub use stream::Stream;
pub use target::is_loopback;
pub use trust::{CaFileError, NoAuthorities, Trust};
pub use unreachable::Unreachable;

use proxy::Proxy;
use resolver::Resolver;
use target::Target;

/// TLS cannot be set up. This is a defect of the build.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TlsError(rustls::Error);

/// The connector, and the builder of HTTP clients for libraries that connect by themselves. Clones
/// share everything.
#[derive(Clone)]
pub struct Outward {
    proxies: Arc<Proxies>,
    tls: ConfigBuilder<ClientConfig, WantsVerifier>,
    resolver: Resolver,
}

impl Outward {
    /// Uses the proxies of this process's environment.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn from_environment() -> Result<Self, TlsError> {
        Self::new(Proxies::from_environment())
    }

    /// Uses these proxies.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(proxies: Proxies) -> Result<Self, TlsError> {
        let tls = tls::builder().map_err(TlsError)?;
        Ok(Self { proxies: Arc::new(proxies), tls, resolver: Resolver::default() })
    }

    /// Returns the same way out, except that `names` resolves all names.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn resolving_by(self, names: ScriptedNames) -> Self {
        Self { resolver: Resolver::scripted(names), ..self }
    }

    /// Returns the proxies.
    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Connects to the host of a URL within 5 s: `https` and `wss` by TLS, `http` and `ws` without.
    ///
    /// # Errors
    /// The cause of the failure. No byte has reached the host, except those of a TLS handshake.
    pub fn open<'a>(&'a self, url: &'a Url, trust: &'a Trust) -> BoxFuture<'a, Result<Stream, Unreachable>> {
        self.connect(url, trust, None)
    }

    /// Connects as [`Outward::open`] does, to the addresses that `reach` allows.
    ///
    /// # Errors
    /// [`Unreachable::Private`] and [`Unreachable::Unlisted`] before any byte leaves to the host, and
    /// the errors of [`Outward::open`].
    pub fn open_within<'a>(
        &'a self,
        url: &'a Url,
        trust: &'a Trust,
        reach: &'a Reach,
    ) -> BoxFuture<'a, Result<Stream, Unreachable>> {
        self.connect(url, trust, Some(reach))
    }

    fn connect<'a>(
        &'a self,
        url: &'a Url,
        trust: &'a Trust,
        reach: Option<&'a Reach>,
    ) -> BoxFuture<'a, Result<Stream, Unreachable>> {
        Box::pin(async move {
            let target = Target::of(url).ok_or_else(|| Unreachable::Connect {
                address: url.host_str().unwrap_or_default().to_owned(),
                problem: "the URL names no host and port".to_owned(),
            })?;
            let proxy = self.proxies.choose(url)?;
            let tls = (target.tls || proxy.is_some_and(Proxy::uses_tls)).then(|| trust.config(&self.tls));
            // Without a certificate to trust no connection is needed to know the outcome.
            let tls = tls
                .transpose()
                .map_err(|cause| Unreachable::NoAuthorities { host: target.host.clone(), cause })?;
            connect::open(&target, proxy, tls, Limits { reach, resolver: &self.resolver }).await
        })
    }

    /// Returns the builder of an HTTP client that connects as [`Outward::open`] does.
    ///
    /// The client has no certificates if there are none to trust. [`Outward::open`] then reports
    /// the cause.
    pub fn http_client(&self, trust: &Trust) -> reqwest::ClientBuilder {
        let tls = trust.config_or_empty(&self.tls);
        let proxies = self.proxies.clone();
        reqwest::Client::builder()
            .use_preconfigured_tls(ClientConfig::clone(&tls))
            .proxy(reqwest::Proxy::custom(move |url| proxies.address_for(url)))
    }
}

impl fmt::Debug for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outward").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
