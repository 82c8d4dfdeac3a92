//! Provider answers that are good or bad in an unusual way, from the bytes on the wire to the
//! record in the store. The server is strict: it takes each refresh token once.

mod frames;
mod id_tokens;
mod lifetimes;
mod prefixes;
mod sign_ins;
mod tls;
mod unreadable;
mod userinfo;
mod verdicts;

use std::{sync::Arc, time::Duration};

use threadkey::{
    broker::{Broker, Lease, TokenError},
    ids::Lineage,
    oauth::{Client, Provider, ProviderSettings, Providers},
    secret::{AccessToken, RefreshToken},
    session::{Change, Grant, Session},
    store::Store,
    sys::clock::Clock,
};

use crate::{
    broker::{ALICE, MINUTE, NOW, acme, open, tenant},
    fixtures,
    support::raw::RawServer,
};

/// A good answer with the second pair of tokens.
const PAIR: &str =
    r#"{"access_token":"at-2","refresh_token":"rt-2","token_type":"bearer","expires_in":3600}"#;

/// A store with Alice's session, whose access token has expired, and the server that refreshes it.
struct Rig {
    server: RawServer,
    clock: Clock,
    store: Arc<dyn Store>,
    path: std::path::PathBuf,
    settings: ProviderSettings,
    client: Client,
    broker: Broker,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts with other settings of the provider.
    async fn with(change: impl FnOnce(&mut ProviderSettings)) -> Self {
        Self::on(RawServer::start().await, change, |clock| Client::new(clock).unwrap()).await
    }

    /// Starts with this server, and with the client that `client` makes.
    async fn on(
        server: RawServer,
        change: impl FnOnce(&mut ProviderSettings),
        client: impl FnOnce(Clock) -> Client,
    ) -> Self {
        let mut settings = ProviderSettings {
            authorization_endpoint: "https://id.example/authorize".into(),
            token_endpoint: server.token_endpoint(),
            client_id: "threadkey".into(),
            redirect_uri: "http://127.0.0.1:1/callback".into(),
            scopes: vec!["openid".into()],
            ..ProviderSettings::default()
        };
        change(&mut settings);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let clock = Clock::fixed(NOW);
        let store = open(&path, &clock);
        let client = client(clock.clone());
        let broker = broker(&settings, &client, store.clone(), &clock);
        let rig = Self { server, clock, store, path, settings, client, broker, _folder: folder };
        rig.sign_in().await;
        rig.clock.advance(3600);
        rig
    }

    /// Commits a sign-in that gave the first pair of tokens.
    async fn sign_in(&self) {
        let pending = fixtures::pending(NOW);
        let state = pending.state.clone();
        self.store.change(&tenant(ALICE), Change::Start(pending)).await.unwrap();
        let grant = Grant {
            access_token: AccessToken::new("at-1"),
            refresh_token: Some(RefreshToken::new("rt-1")),
            token_type: "Bearer".into(),
            scope: None,
            expires_in: Some(Duration::from_secs(3600)),
            account: Some("alice".into()),
            refresh_expires_at: None,
            identity: None,
        };
        let provider = self.broker.providers().get(&tenant(ALICE).provider).unwrap();
        let session = Session::begin(Lineage([7; 16]), grant, provider.binding(), NOW);
        fixtures::finish_sign_in(&*self.store, &tenant(ALICE), state, Box::new(session)).await;
    }

    /// Opens another process on the same store.
    fn another(&self) -> Broker {
        broker(&self.settings, &self.client, open(&self.path, &self.clock), &self.clock)
    }

    async fn token(&self) -> Result<Lease, TokenError> {
        self.another().token(&tenant(ALICE), MINUTE).await
    }

    async fn session(&self) -> Session {
        self.store.read(&tenant(ALICE)).await.unwrap().session.unwrap()
    }

    async fn refresh_token(&self) -> String {
        self.session().await.refresh_token.unwrap().expose().to_owned()
    }

    /// Returns the refresh tokens of all requests, oldest first.
    fn sent(&self) -> Vec<String> {
        self.server
            .forms()
            .iter()
            .map(|form| form.get("refresh_token").cloned().unwrap_or_default())
            .collect()
    }

    /// Returns the path of the file that keeps an unreadable answer.
    fn unread(&self) -> std::path::PathBuf {
        self.path.with_file_name("auth.json.refresh").join("acme%2Fuser%3A803.unread")
    }
}

fn broker(settings: &ProviderSettings, client: &Client, store: Arc<dyn Store>, clock: &Clock) -> Broker {
    let provider = Provider::new(acme(), settings.clone()).unwrap();
    Broker::new(store, Providers::new([provider]), client.clone(), clock.clone())
}
