//! Idle logins are kept alive where the operator asks for it, and sessions that ended long ago are
//! removed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use threadkey::{
    agent::Conversation,
    broker::{Broker, DEFAULT_MIN_TTL, OwnerRights, RightsError, Standing, Trouble, WithoutBot},
    ids::{Principal, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers},
    session::{LoginLimits, Session},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};

use crate::support::{
    authserver::{self, AuthServer, Reply},
    browser,
};

const NOW: i64 = 1_795_358_672;
const DAY: i64 = 86_400;
const ALICE: Principal = Principal::User(Snowflake(803));
const BOB: Principal = Principal::User(Snowflake(804));

struct Rig {
    server: AuthServer,
    clock: Clock,
    broker: Broker,
    _folder: tempfile::TempDir,
}

/// The rights of a test: these principals have none.
struct Without(Vec<Principal>, AtomicU32);

#[async_trait]
impl OwnerRights for Without {
    async fn of(&self, _: &Conversation) -> Result<Standing, RightsError> {
        unreachable!("no conversation asks")
    }

    async fn of_principal(&self, principal: Principal) -> Result<(), RightsError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        if self.0.contains(&principal) { Err(RightsError::NotEntitled) } else { Ok(()) }
    }

    async fn manages(&self, _: Snowflake, _: Snowflake) -> Result<(), RightsError> {
        unreachable!("no keep-alive asks")
    }
}

fn tenant(principal: Principal) -> Tenant {
    Tenant::new("acme".parse().unwrap(), principal)
}

impl Rig {
    async fn new(edit: impl FnOnce(&mut ProviderSettings)) -> Self {
        let server = AuthServer::start(authserver::Options::default()).await;
        let mut settings = ProviderSettings {
            authorization_endpoint: server.authorization_endpoint(),
            token_endpoint: server.token_endpoint(),
            client_id: authserver::CLIENT_ID.into(),
            redirect_uri: authserver::PASTE_REDIRECT_URI.into(),
            scopes: vec!["offline_access".into()],
            enforces_pkce: true,
            keepalive: Some(Duration::from_secs(7 * 86_400)),
            ..ProviderSettings::default()
        };
        edit(&mut settings);
        let provider = Provider::new("acme".parse().unwrap(), settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::fixed(NOW);
        let path = folder.path().join("auth.json");
        let store = FileStore::open(&path, clock.clone(), FileStoreOptions::default()).unwrap();
        let client = Client::new(clock.clone()).unwrap();
        let broker = Broker::new(Arc::new(store), Providers::new([provider]), client, clock.clone());
        Self { server, clock, broker, _folder: folder }
    }

    async fn sign_in(&self, principal: Principal, account: &str) {
        let started = self.broker.start(&tenant(principal), principal).await.unwrap();
        let callback = browser::sign_in(started.link().unwrap().as_str(), account).await;
        self.broker.finish(principal, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    }

    async fn session(&self, principal: Principal) -> Session {
        self.broker.session(&tenant(principal)).await.unwrap().expect("a session")
    }

    /// Lets the keeper work until the server has answered `requests` more requests.
    async fn keep_alive(&self, requests: u64, rights: Arc<dyn OwnerRights>, in_use: Vec<Tenant>) {
        let before = self.server.count();
        let broker = self.broker.clone();
        let keeper = tokio::spawn(async move { broker.keep_alive(|| in_use.clone(), rights).await });
        self.server.settled(before + requests).await;
        keeper.abort();
        let _ = keeper.await;
        self.broker.drained().await;
    }

    /// Lets the keeper work for a minute without the passing of the clock's time. Returns the number
    /// of requests.
    async fn leaves_alone(&self, rights: Arc<dyn OwnerRights>, in_use: Vec<Tenant>) -> bool {
        let before = self.server.count();
        tokio::time::pause();
        let keeper = self.broker.keep_alive(|| in_use.clone(), rights);
        let minute = tokio::time::timeout(Duration::from_secs(60), keeper).await;
        tokio::time::resume();
        minute.unwrap_err();
        self.server.count() == before
    }
}

fn all() -> Arc<dyn OwnerRights> {
    Arc::new(WithoutBot)
}

#[tokio::test]
async fn an_idle_login_is_refreshed_and_a_token_in_the_meantime_counts_as_use() {
    let rig = Rig::new(|_| {}).await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(6 * DAY);
    assert!(rig.leaves_alone(all(), Vec::new()).await, "it is not due");
    rig.clock.advance(DAY);
    rig.keep_alive(1, all(), Vec::new()).await;
    let kept = rig.session(ALICE).await;
    assert_eq!(kept.generation, 2);
    assert!(kept.unused_since.is_some_and(|since| since < NOW + DAY), "{:?}", kept.unused_since);
    rig.broker.token(&tenant(ALICE), DEFAULT_MIN_TTL).await.unwrap();
    rig.broker.drained().await;
    assert_eq!(rig.session(ALICE).await.unused_since, None, "it is in use again");
    assert_eq!(rig.session(ALICE).await.generation, 2);
}

#[tokio::test]
async fn a_login_that_no_caller_uses_is_given_up_after_ninety_days() {
    let rig = Rig::new(|_| {}).await;
    rig.sign_in(ALICE, "alice").await;
    for _ in 0..12 {
        rig.clock.advance(7 * DAY);
        rig.keep_alive(1, all(), Vec::new()).await;
    }
    assert_eq!(rig.session(ALICE).await.generation, 13, "84 days");
    rig.clock.advance(7 * DAY);
    assert!(rig.leaves_alone(all(), Vec::new()).await, "91 days");
}

#[tokio::test]
async fn a_login_without_rights_is_left_alone_and_does_not_delay_others() {
    let rig = Rig::new(|_| {}).await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.clock.advance(7 * DAY);
    let rights = Arc::new(Without(vec![ALICE], AtomicU32::new(0)));
    rig.keep_alive(1, rights.clone(), Vec::new()).await;
    assert_eq!((rig.session(ALICE).await.generation, rig.session(BOB).await.generation), (1, 2));
    let before = rights.1.load(Ordering::SeqCst);
    assert!(rig.leaves_alone(rights.clone(), Vec::new()).await);
    assert!(rights.1.load(Ordering::SeqCst) <= before + 1, "the rights are not checked again and again");
}

#[tokio::test]
async fn a_login_whose_refresh_revokes_the_token_of_a_live_worker_is_left_alone() {
    let rig = Rig::new(|settings| settings.refresh_revokes_access = true).await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(7 * DAY);
    assert!(rig.leaves_alone(all(), vec![tenant(ALICE)]).await);
    rig.keep_alive(1, all(), Vec::new()).await;
    assert_eq!(rig.session(ALICE).await.generation, 2);
}

#[tokio::test]
async fn without_the_setting_an_idle_login_is_left_alone() {
    let rig = Rig::new(|settings| settings.keepalive = None).await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(30 * DAY);
    let before = rig.server.count();
    rig.broker.keep_alive(Vec::new, all()).await;
    assert_eq!(rig.server.count(), before);
}

#[tokio::test]
async fn a_failing_refresh_of_an_idle_login_is_not_tried_again_at_once() {
    let rig = Rig::new(|_| {}).await;
    rig.sign_in(ALICE, "alice").await;
    rig.clock.advance(7 * DAY);
    rig.server.script([Reply::Json(500, json!({}))]);
    rig.keep_alive(1, all(), Vec::new()).await;
    assert!(rig.leaves_alone(all(), Vec::new()).await, "it is in doubt");
    rig.clock.advance(DAY);
    assert!(rig.leaves_alone(all(), Vec::new()).await, "for as long as no caller asks");
}

#[tokio::test]
async fn an_end_that_the_provider_fixes_stays_and_one_that_it_renews_moves() {
    let names_end = || Reply::Edit(|body| body["refresh_token_expires_in"] = json!(30 * DAY));
    let names_rest = || Reply::Edit(|body| body["refresh_token_expires_in"] = json!(20 * DAY));
    let rig = Rig::new(|_| {}).await;
    rig.server.script([names_end()]);
    rig.sign_in(ALICE, "alice").await;
    let ends = async || rig.broker.status(&[ALICE]).await.unwrap().remove(0).login_ends;
    assert_eq!(ends().await.absolute, Some(NOW + 30 * DAY));
    rig.clock.advance(5 * DAY);
    rig.broker.token(&tenant(ALICE), DEFAULT_MIN_TTL).await.unwrap();
    assert_eq!(ends().await.absolute, Some(NOW + 30 * DAY), "an answer without an end keeps it");
    rig.clock.advance(5 * DAY);
    rig.server.script([names_rest()]);
    rig.broker.token(&tenant(ALICE), DEFAULT_MIN_TTL).await.unwrap();
    assert_eq!(ends().await.absolute, Some(NOW + 30 * DAY));

    let idle = Some(Duration::from_secs(180 * 86_400));
    let renewing = Rig::new(|settings| settings.login_limits = LoginLimits { login: None, idle }).await;
    renewing.server.script([names_end()]);
    renewing.sign_in(ALICE, "alice").await;
    renewing.clock.advance(5 * DAY);
    renewing.server.script([names_end()]);
    renewing.broker.token(&tenant(ALICE), DEFAULT_MIN_TTL).await.unwrap();
    let status = renewing.broker.status(&[ALICE]).await.unwrap().remove(0);
    assert_eq!((status.login_ends.absolute, status.login_ends.idle), (None, Some(NOW + 35 * DAY)));
}

#[tokio::test]
async fn a_coming_end_is_reported_once_and_again_after_a_new_sign_in() {
    let login = Some(Duration::from_secs(30 * 86_400));
    let rig = Rig::new(|settings| settings.login_limits = LoginLimits { login, idle: None }).await;
    rig.sign_in(ALICE, "alice").await;
    let next_in = rig.broker.unnotified().await.unwrap().next_in;
    assert_eq!(next_in, Some(Duration::from_secs(27 * 86_400)));
    rig.clock.advance(27 * DAY);
    let unnotified = rig.broker.unnotified().await.unwrap();
    let (of, session, trouble) = &unnotified.troubled[0];
    assert_eq!((of, trouble), (&tenant(ALICE), &Trouble::Ending(NOW + 30 * DAY)));
    rig.broker.notified(of, session, trouble).await.unwrap();
    assert!(rig.broker.unnotified().await.unwrap().troubled.is_empty(), "once");
    rig.sign_in(ALICE, "alice").await;
    assert_eq!(rig.broker.unnotified().await.unwrap().next_in, next_in);
}

#[tokio::test]
async fn sessions_that_ended_long_ago_are_removed_with_one_write_and_live_ones_stay() {
    let rig = Rig::new(|settings| settings.keepalive = None).await;
    rig.sign_in(ALICE, "alice").await;
    rig.sign_in(BOB, "bob").await;
    rig.clock.advance(DAY);
    rig.server.script([Reply::Json(400, json!({"error": "invalid_grant"}))]);
    rig.broker.token(&tenant(ALICE), DEFAULT_MIN_TTL).await.unwrap_err();
    let sweep = async || {
        let broker = rig.broker.clone();
        let sweeper = tokio::spawn(async move { broker.sweep_ended(Duration::from_secs(90 * 86_400)).await });
        let mut changes = rig.broker.changes();
        let swept = async {
            while rig.broker.session(&tenant(ALICE)).await.unwrap().is_some() {
                changes.next().await;
            }
        };
        let is_swept = tokio::time::timeout(Duration::from_secs(2), swept).await.is_ok();
        sweeper.abort();
        is_swept
    };
    rig.clock.advance(90 * DAY);
    assert!(!sweep().await, "not before the ninetieth day is over");
    rig.clock.advance(1);
    assert!(sweep().await);
    rig.session(BOB).await;
}
