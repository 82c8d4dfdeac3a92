//! The state that the handlers share, and the routes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;

use super::authorize::{self, OpenPages};
use super::gate::Gate;
use super::grants::Lifetimes;
use super::ledger::Ledger;
use super::log::Log;
use super::script::Reply;
use super::watch::Watch;
use super::{SeenRequest, pages, resource, token};

const BODY_LIMIT: usize = 64 * 1024;

/// The state that the handlers share.
pub(super) struct Shared {
    pub(super) issuer: String,
    pub(super) redirect_uris: Vec<String>,
    pub(super) inner: Mutex<Inner>,
    pub(super) gate: Gate,
    pub(super) clock_offset_ms: AtomicI64,
    /// Counts changes of the ledger and the log.
    pub(super) changes: watch::Sender<u64>,
    pub(super) settled: watch::Sender<u64>,
    pub(super) watch: Watch,
}

pub(super) struct Inner {
    pub(super) ledger: Ledger,
    pub(super) log: Log,
    pub(super) pages: OpenPages,
    pub(super) script: VecDeque<Reply>,
    pub(super) seen: VecDeque<SeenRequest>,
}

impl Shared {
    pub(super) fn new(issuer: String, redirect_uris: Vec<String>, lifetimes: Lifetimes) -> Self {
        Self {
            issuer,
            redirect_uris,
            inner: Mutex::new(Inner {
                ledger: Ledger::new(lifetimes),
                log: Log::default(),
                pages: OpenPages::default(),
                script: VecDeque::new(),
                seen: VecDeque::new(),
            }),
            gate: Gate::new(),
            clock_offset_ms: AtomicI64::new(0),
            changes: watch::Sender::new(0),
            settled: watch::Sender::new(0),
            watch: Watch::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a server of its own has a clock of its own; tests set it forward"
    )]
    pub(super) fn now_ms(&self) -> i64 {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        now.saturating_add(self.clock_offset_ms.load(Ordering::Relaxed))
    }

    pub(super) fn advance_ms(&self, by: i64) {
        self.clock_offset_ms.fetch_add(by, Ordering::Relaxed);
        self.changed();
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/authorize", get(authorize::page).post(authorize::decide))
        .route("/callback", get(pages::callback))
        .route("/token", post(token::token))
        .route("/userinfo", get(resource::userinfo).post(resource::userinfo))
        .route("/revoke", post(resource::revoke))
        .route("/.well-known/oauth-authorization-server", get(resource::metadata))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(shared)
}

/// Returns a new secret that starts with its kind, so that a leaked one can be recognised.
pub(super) fn secret(kind: &str) -> String {
    let mut bytes = [0; 24];
    fill(&mut bytes);
    format!("{kind}-{}", URL_SAFE_NO_PAD.encode(bytes))
}

fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).unwrap_or_else(|error| panic!("no randomness: {error}"));
}
