//! An authorization server in this process, for the playground and for tests that script its
//! faults.
//!
//! It is strict where the standards let a server be: exact redirect URIs, PKCE with S256 only (RFC
//! 7636), codes for a single use (RFC 6749 §4.1.2), refresh tokens that rotate, and a family that
//! dies when a spent one comes back (RFC 9700 §4.14.2). It answers `iss` (RFC 9207), metadata (RFC
//! 8414), userinfo and revocation (RFC 7009).
//!
//! It listens on loopback only, and its `id_token` is unsigned (`alg: none`): OpenID Connect Core
//! §3.1.3.7 lets a client trust one that came straight from the token endpoint, and no other party
//! should trust it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch::Receiver;

use crate::events::Events;

mod authorize;
mod gate;
mod grants;
mod ledger;
mod log;
mod pages;
mod resource;
mod script;
mod shared;
mod token;
mod watch;

pub use grants::{Life, LifeState, Lifetimes, Rotation};
pub use script::{Decided, Reply};
pub use watch::Moment;

use gate::Stage;
use shared::Shared;

const WAIT: Duration = Duration::from_secs(30);

/// The public client that is registered.
pub const CLIENT_ID: &str = "threadkey";

/// The redirect URI of the paste flow: nothing listens there, and the user copies the address.
pub const PASTE_REDIRECT_URI: &str = "http://127.0.0.1:1/callback";

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How long codes and tokens work, until [`AuthServer::set_lifetimes`].
    pub lifetimes: Lifetimes,
    /// Redirect URIs besides [`PASTE_REDIRECT_URI`] and the server's own `/callback`.
    pub redirect_uris: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            lifetimes: Lifetimes::default(),
            redirect_uris: Vec::new(),
        }
    }
}

/// A running authorization server. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct AuthServer(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A request to the token endpoint, as it came in.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// The form's fields. Of a doubled field this is the last value.
    pub form: BTreeMap<String, String>,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl AuthServer {
    /// Starts listening. Panics where `options.listen` is not a free loopback address.
    pub async fn start(options: Options) -> Self {
        assert!(
            options.listen.ip().is_loopback(),
            "this authorization server is for loopback only, not {}",
            options.listen
        );
        let listener = tokio::net::TcpListener::bind(options.listen)
            .await
            .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", options.listen));
        let address = listener.local_addr().expect("a bound socket has one");
        let issuer = format!("http://{address}");
        let mut redirect_uris = vec![format!("{issuer}/callback"), PASTE_REDIRECT_URI.into()];
        redirect_uris.extend(options.redirect_uris);
        let shared = Arc::new(Shared::new(issuer, redirect_uris, options.lifetimes));
        let router = shared::router(Arc::clone(&shared));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                panic!("the authorization server stopped: {error}");
            }
        });
        Self(Arc::new(Running { shared, serving }))
    }

    /// The issuer identifier, which is also the base of all addresses.
    pub fn issuer(&self) -> &str {
        &self.0.shared.issuer
    }

    /// RFC 6749 §3.1: the page that asks the user.
    pub fn authorization_endpoint(&self) -> String {
        format!("{}/authorize", self.issuer())
    }

    /// RFC 6749 §3.2.
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.issuer())
    }

    /// OpenID Connect Core §5.3; answers `sub`, `name` and `email`.
    pub fn userinfo_endpoint(&self) -> String {
        format!("{}/userinfo", self.issuer())
    }

    /// RFC 7009.
    pub fn revocation_endpoint(&self) -> String {
        format!("{}/revoke", self.issuer())
    }

    /// This server's own page that shows a code to copy.
    pub fn callback_page(&self) -> String {
        format!("{}/callback", self.issuer())
    }

    /// The `[providers.NAME]` section of threadkey.toml for this server, with
    /// [`PASTE_REDIRECT_URI`].
    pub fn config_toml(&self, name: &str) -> String {
        self.config_toml_for(name, PASTE_REDIRECT_URI)
    }

    /// The same with another redirect URI, such as [`callback_page`](Self::callback_page).
    pub fn config_toml_for(&self, name: &str, redirect_uri: &str) -> String {
        crate::settings::provider_section(
            name,
            &[
                ("issuer", self.issuer()),
                ("authorization_endpoint", &self.authorization_endpoint()),
                ("token_endpoint", &self.token_endpoint()),
                ("revocation_endpoint", &self.revocation_endpoint()),
                ("userinfo_endpoint", &self.userinfo_endpoint()),
                ("client_id", CLIENT_ID),
                ("redirect_uri", redirect_uri),
            ],
            &["openid", "offline_access"],
        )
    }

    /// Sets the lifetimes of codes and tokens that are issued from now on.
    pub fn set_lifetimes(&self, lifetimes: Lifetimes) {
        self.0.shared.lock().ledger.lifetimes = lifetimes;
    }

    /// Sets the treatment of refresh tokens that clients present from now on.
    pub fn set_rotation(&self, rotation: Rotation) {
        self.0.shared.lock().ledger.rotation = rotation;
    }

    /// Moves this server's clock forward, so that its codes and tokens get older.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).expect("less than 292 million years");
        self.0.shared.advance_ms(by);
    }

    /// Returns the address at which the browser ends if `account` opens this sign-in link and
    /// allows the request. No page is shown. Panics where the server would refuse.
    pub fn allow(&self, authorize_url: &str, account: &str) -> String {
        let (_, query) = authorize_url.split_once('?').expect("a sign-in link has a query");
        authorize::allow(&self.0.shared, query, account)
    }

    // === the log ===

    /// Calls `watcher` at each moment of each token request, and at each revocation. There can be
    /// one watcher.
    pub fn watch(&self, watcher: impl Fn(Moment<'_>) + Send + Sync + 'static) {
        self.0.shared.watch.set(watcher);
    }

    /// The log of the token endpoint until now.
    pub fn events(&self) -> Events {
        self.0.shared.lock().log.events()
    }

    /// As [`events`](Self::events), once at least `count` token requests are decided.
    pub async fn settled(&self, count: u64) -> Events {
        let mut settled = self.0.shared.settled.subscribe();
        let wait = settled.wait_for(|settled| *settled >= count);
        let reached = tokio::time::timeout(WAIT, wait).await.is_ok();
        let events = self.events();
        assert!(reached, "waited {WAIT:?} in vain for {count} decided token requests: {events:#?}");
        events
    }

    /// The newest token requests, as they came in, oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.0.shared.lock().seen.iter().cloned().collect()
    }

    /// How many token requests came in.
    pub fn count(&self) -> u64 {
        self.0.shared.lock().log.count_arrived()
    }

    /// Every refresh token's life, by sign-in and birth.
    pub fn lives(&self) -> Vec<Life> {
        let shared = &self.0.shared;
        shared.lock().ledger.lives(shared.now_ms())
    }

    /// Whether an access token works at this server's time.
    pub fn is_live(&self, access_token: &str) -> bool {
        let now_ms = self.0.shared.now_ms();
        self.0.shared.lock().ledger.userinfo(access_token, now_ms).is_some()
    }

    /// This server's time, in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.0.shared.now_ms()
    }

    /// Changes whenever [`lives`](Self::lives) or [`events`](Self::events) may have, except by the
    /// passing of time.
    pub fn changes(&self) -> Receiver<u64> {
        self.0.shared.changes.subscribe()
    }

    // === scripted faults ===

    /// Adds replies for the next token requests, one for each, in the order in which they are
    /// processed.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.0.shared.lock().script.extend(replies);
    }

    /// Forgets the replies that were not used yet.
    pub fn unscript(&self) {
        self.0.shared.lock().script.clear();
    }

    /// How many scripted replies were not used yet.
    pub fn script_left(&self) -> usize {
        self.0.shared.lock().script.len()
    }

    /// From now on the token endpoint does its work, rotation included, and keeps the answers back.
    pub fn hold(&self) {
        self.0.shared.gate.hold(Stage::After);
    }

    /// From now on the token endpoint takes requests in, and processes none.
    pub fn hold_before(&self) {
        self.0.shared.gate.hold(Stage::Before);
    }

    /// Ends both holds and lets every held request go on, also those whose sender is gone.
    pub fn release(&self) {
        self.0.shared.gate.release();
    }

    /// How many token requests are held now.
    pub fn held(&self) -> usize {
        self.0.shared.gate.held()
    }

    /// Waits until at least `count` token requests are held.
    pub async fn wait_for_held(&self, count: usize) {
        let wait = self.0.shared.gate.wait_for_held(count);
        let reached = tokio::time::timeout(WAIT, wait).await.is_ok();
        assert!(reached, "waited {WAIT:?} in vain for {count} held token requests");
    }
}
