//! The network between the program and its servers: certificates, TLS in front of a plain server,
//! and proxies that resolve names by themselves. All of it is on loopback.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// Returns an address of loopback for a server that starts later. Its port lies below those that the kernel
/// gives to connections, so that none of them takes it meanwhile. Each call returns another one.
pub fn free_address() -> SocketAddr {
    const PORTS: Range<u16> = 10_000..30_000;
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let free = PORTS.into_iter().find_map(|_| {
        // Processes that run side by side begin at different places.
        let at = std::process::id() + CALLS.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + u16::try_from(at % PORTS.len() as u32).expect("a short number");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        std::net::TcpListener::bind(address).is_ok().then_some(address)
    });
    free.expect("a free port")
}

/// A certificate authority that no system knows.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A server's certificate and its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "A company's own CA");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The authority's certificate, as `ca_file` takes it.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The same in its binary form.
    pub fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// Issues a certificate for these names or addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.signed(names, |_| ())
    }

    /// Issues a certificate that has expired.
    pub fn issue_expired(&self, names: &[&str]) -> Identity {
        self.signed(names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    fn signed(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Identity { certificate: certificate.der().clone(), key }
    }
}

impl Identity {
    pub fn acceptor(self) -> TlsAcceptor {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate], self.key)
            .expect("the key belongs to the certificate");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Puts TLS in front of a plain server. Returns its address.
pub async fn with_tls(identity: Identity, server: SocketAddr) -> SocketAddr {
    with_tls_at("127.0.0.1:0", identity, server).await
}

/// Puts TLS at this address in front of a plain server. Returns the address with its port.
pub async fn with_tls_at(at: &str, identity: Identity, server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(at).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let acceptor = identity.acceptor();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    address
}

/// A proxy that resolves only the names of the tests.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    names: BTreeMap<String, SocketAddr>,
    /// User name and password.
    credentials: Option<(&'static str, &'static str)>,
    /// The status with which an HTTP proxy refuses every tunnel.
    refusal: Option<u16>,
    is_old: bool,
    seen: Mutex<Vec<String>>,
}

/// The protocol and the behaviour of a [`Proxy`].
#[derive(Default)]
pub struct ProxyOptions {
    /// SOCKS 5 instead of HTTP.
    pub socks: bool,
    /// The user name and password that the proxy demands.
    pub credentials: Option<(&'static str, &'static str)>,
    /// The status with which an HTTP proxy refuses every tunnel.
    pub refusal: Option<u16>,
    /// TLS in front of the proxy.
    pub identity: Option<Identity>,
    /// An HTTP proxy answers in the form of HTTP/1.0, as many do.
    pub is_old: bool,
}

impl Proxy {
    /// Starts a proxy that leads these names, as `host:port`, to these addresses.
    pub async fn start(options: ProxyOptions, names: &[(&str, SocketAddr)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let plain = listener.local_addr().expect("it is bound");
        let address = match options.identity {
            Some(identity) => with_tls(identity, plain).await,
            None => plain,
        };
        let proxy = Self(Arc::new(Inner {
            address,
            names: names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect(),
            credentials: options.credentials,
            refusal: options.refusal,
            is_old: options.is_old,
            seen: Mutex::default(),
        }));
        let serving = proxy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let proxy = serving.clone();
                tokio::spawn(async move {
                    if options.socks { proxy.socks(stream).await } else { proxy.http(stream).await }
                });
            }
        });
        proxy
    }

    /// The proxy's address.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The targets of all requests so far, as `host:port`.
    pub fn seen(&self) -> Vec<String> {
        self.0.seen.lock().expect("no panic in it").clone()
    }

    /// How many requests there were for a target.
    pub fn count(&self, target: &str) -> usize {
        self.seen().iter().filter(|seen| *seen == target).count()
    }

    async fn pass(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, target: &str, done: &[u8]) -> bool {
        let Some(address) = self.0.names.get(target) else { return false };
        let Ok(mut server) = TcpStream::connect(address).await else { return false };
        if stream.write_all(done).await.is_ok() {
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
        }
        true
    }

    /// Serves one HTTP CONNECT (RFC 9110 §9.3.6).
    async fn http(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).expect("ASCII");
        let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
        let target = target.unwrap_or_default().to_owned();
        self.0.seen.lock().expect("no panic in it").push(target.clone());
        let expected = self.0.credentials.map(|(user, password)| {
            use base64::Engine as _;
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            format!("proxy-authorization: Basic {basic}\r\n").to_lowercase()
        });
        let done: &[u8] = if self.0.is_old {
            b"HTTP/1.0 200 Connection established\r\nProxy-agent: old\r\n\r\n"
        } else {
            b"HTTP/1.1 200 Connection established\r\n\r\n"
        };
        let status = match (self.0.refusal, expected) {
            (Some(status), _) => status,
            (None, Some(line)) if !head.to_lowercase().contains(&line) => 407,
            _ if self.pass(&mut stream, &target, done).await => {
                return;
            }
            _ => 502,
        };
        let answer = format!("HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    }

    /// Serves one SOCKS 5 CONNECT (RFC 1928, RFC 1929).
    async fn socks(&self, mut stream: TcpStream) {
        if self.negotiate(&mut stream).await.is_err() {
            let _ = stream.shutdown().await;
        }
    }

    async fn negotiate(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let methods = [stream.read_u8().await?, stream.read_u8().await?][1];
        let mut offered = vec![0; methods.into()];
        stream.read_exact(&mut offered).await?;
        let wanted = if self.0.credentials.is_some() { 2 } else { 0 };
        if !offered.contains(&wanted) {
            return stream.write_all(&[5, 0xff]).await;
        }
        stream.write_all(&[5, wanted]).await?;
        if let Some((user, password)) = self.0.credentials {
            stream.read_u8().await?;
            let given = [text(stream).await?, text(stream).await?];
            let accepted = given == [user, password];
            stream.write_all(&[1, u8::from(!accepted)]).await?;
            if !accepted {
                return Ok(());
            }
        }
        let mut request = [0; 4];
        stream.read_exact(&mut request).await?;
        let host = match request[3] {
            1 => std::net::Ipv4Addr::from(stream.read_u32().await?).to_string(),
            3 => text(stream).await?,
            _ => return Ok(()),
        };
        let target = format!("{host}:{}", stream.read_u16().await?);
        self.0.seen.lock().expect("no panic in it").push(target.clone());
        let reply = |code| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
        if !self.pass(&mut *stream, &target, &reply(0)).await {
            stream.write_all(&reply(4)).await?;
        }
        Ok(())
    }
}

/// Reads a text after its length.
async fn text(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).expect("ASCII"))
}
