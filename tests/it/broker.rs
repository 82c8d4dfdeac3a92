//! The broker on a real file store, against the embedded authorization server: the requests it
//! sends, their number, and the session it keeps.

mod bound_endpoints;
mod late_results;
mod logout;
mod refresh;
mod refusals;
mod reports;
mod sign_in;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use threadkey::{
    broker::{Broker, Finished, Lease, SignedIn, TokenError},
    ids::{Principal, ProviderId, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers},
    secret::AuthorizationCode,
    session::{
        Session,
        journal::{Answer, Intent, Spending},
    },
    store::{FileStore, FileStoreOptions, Purpose, Store},
    sys::clock::Clock,
};
use tokio::task::JoinHandle;

use crate::{
    choice::expect_signed_in,
    fixtures,
    support::{
        authserver::{self, AuthServer, Lifetimes},
        browser,
    },
};

pub(super) const NOW: i64 = 1_795_358_672;
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const ALICE: Principal = Principal::User(Snowflake(803));
pub(super) const BOB: Principal = Principal::User(Snowflake(804));

/// One store, one server, and brokers on them; each broker stands for a process.
pub(super) struct Rig {
    pub(super) server: AuthServer,
    pub(super) clock: Clock,
    pub(super) store: Arc<dyn Store>,
    pub(super) path: std::path::PathBuf,
    pub(super) broker: Broker,
    grace: Duration,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::with(Duration::ZERO).await
    }

    pub(super) async fn with(grace: Duration) -> Self {
        let server = AuthServer::start(authserver::Options::default()).await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let clock = Clock::fixed(NOW);
        let store = open(&path, &clock);
        let broker = broker(&server, store.clone(), &clock, grace);
        Self { server, clock, store, path, broker, grace, _folder: folder }
    }

    /// Signs alice in, lets her token expire, and starts a refresh whose answer the provider holds
    /// back.
    async fn with_a_held_refresh() -> (Self, JoinHandle<Result<Lease, TokenError>>) {
        let rig = Self::start().await;
        rig.sign_in(ALICE, "alice").await;
        rig.expire();
        rig.server.hold();
        let call = rig.spawn_token_call(ALICE);
        rig.server.wait_for_held(1).await;
        (rig, call)
    }

    /// Opens another process on the same store.
    pub(super) fn another(&self) -> Broker {
        broker(&self.server, open(&self.path, &self.clock), &self.clock, self.grace)
    }

    pub(super) async fn sign_in(&self, user: Principal, account: &str) -> SignedIn {
        expect_signed_in(self.finish_as(user, account).await)
    }

    /// Signs in and returns the result, signed in or undecided.
    pub(super) async fn finish_as(&self, user: Principal, account: &str) -> Finished {
        let started = self.broker.start(&tenant(user), user).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), account).await;
        self.broker.finish(user, None, Pasted::parse(&callback.url).unwrap()).await.unwrap()
    }

    pub(super) async fn session(&self, user: Principal) -> Session {
        self.store.read(&tenant(user)).await.unwrap().session.unwrap()
    }

    pub(super) fn spawn_token_call(&self, user: Principal) -> JoinHandle<Result<Lease, TokenError>> {
        let broker = self.broker.clone();
        tokio::spawn(async move { broker.token(&tenant(user), MINUTE).await })
    }

    /// Leaves a sign-in whose process died after the provider's answer, which names this account.
    /// Returns the text to paste.
    pub(super) async fn leave_an_answered_exchange(&self, user: Principal, account: &str) -> String {
        self.broker.start(&tenant(user), user).await.unwrap();
        let pending = self.store.read(&tenant(user)).await.unwrap().pending.unwrap();
        let mut lock = self.store.try_lock(&tenant(user), Purpose::SignIn).await.unwrap().unwrap();
        let code = AuthorizationCode::new("the-code").fingerprint();
        let spending = Spending::Code { state: pending.state.fingerprint(), code };
        let token_endpoint = self.server.token_endpoint();
        let intended = lock.intend(Intent { spending, at: NOW, token_endpoint }).await.unwrap();
        let nonce = pending.nonce.as_ref().map_or("", |nonce| nonce.expose());
        let claims =
            json!({"aud": authserver::CLIENT_ID, "nonce": nonce, "email": account, "email_verified": true});
        let body = json!({
            "access_token": "saved", "refresh_token": "saved-too", "expires_in": 3600, "id_token": unsigned(&claims),
        });
        let body = body.to_string().into_bytes().into();
        lock.record(&intended.answered(Answer { status: 200, body, at: NOW, ..Answer::default() }))
            .await
            .unwrap();
        format!("the-code#{}", pending.state.expose())
    }

    pub(super) fn expire(&self) {
        self.clock.advance(3600);
    }
}

pub(super) fn open(path: &std::path::Path, clock: &Clock) -> Arc<dyn Store> {
    Arc::new(FileStore::open(path, clock.clone(), FileStoreOptions::default()).unwrap())
}

pub(super) fn broker(server: &AuthServer, store: Arc<dyn Store>, clock: &Clock, grace: Duration) -> Broker {
    with_settings(ProviderSettings { reuse_grace: grace, ..settings(server) }, store, clock)
}

/// Builds a broker for this provider.
pub(super) fn with_settings(settings: ProviderSettings, store: Arc<dyn Store>, clock: &Clock) -> Broker {
    let provider = Provider::new(acme(), settings).unwrap();
    Broker::new(store, Providers::new([provider]), Client::new(clock.clone()).unwrap(), clock.clone())
}

/// Configures the embedded server as a provider, with access tokens of one hour.
pub(super) fn settings(server: &AuthServer) -> ProviderSettings {
    server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
    fixtures::settings(server)
}

pub(super) fn acme() -> ProviderId {
    "acme".parse().unwrap()
}

pub(super) fn tenant(user: Principal) -> Tenant {
    Tenant::new(acme(), user)
}

pub(super) fn unsigned(claims: &serde_json::Value) -> String {
    use base64::Engine as _;
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims.to_string()))
}
