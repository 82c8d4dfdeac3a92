//! Sessions in use are refreshed in the background, unless the refresh would revoke a token in use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use threadkey::{
    broker::{Broker, DEFAULT_MIN_TTL},
    ids::{Principal, Snowflake, Tenant},
    oauth::{Client, Pasted, Provider, ProviderSettings, Providers},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};

use tokio::sync::watch;

use crate::support::{
    authserver::{self, AuthServer, Lifetimes},
    browser,
};

const NOW: i64 = 1_795_358_672;
const ALICE: Principal = Principal::User(Snowflake(803));

/// Three quarters of an hour plus the longest random delay; the token is still valid.
const DUE: i64 = 2700 + 360;

struct Rig {
    server: AuthServer,
    clock: Clock,
    broker: Broker,
    _folder: tempfile::TempDir,
}

fn tenant() -> Tenant {
    "acme/user:803".parse().unwrap()
}

/// Signs alice in at a provider whose refresh does or does not revoke the old access token.
async fn signed_in(refresh_revokes_access: bool) -> Rig {
    let server = AuthServer::start(authserver::Options::default()).await;
    server.set_lifetimes(Lifetimes { access_token: Duration::from_secs(3600), ..Lifetimes::default() });
    let settings = ProviderSettings {
        authorization_endpoint: server.authorization_endpoint(),
        token_endpoint: server.token_endpoint(),
        client_id: authserver::CLIENT_ID.into(),
        redirect_uri: authserver::PASTE_REDIRECT_URI.into(),
        scopes: vec!["offline_access".into()],
        enforces_pkce: true,
        refresh_revokes_access,
        ..ProviderSettings::default()
    };
    let provider = Provider::new("acme".parse().unwrap(), settings).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::fixed(NOW);
    let path = folder.path().join("auth.json");
    let store = FileStore::open(&path, clock.clone(), FileStoreOptions::default()).unwrap();
    let client = Client::new(clock.clone()).unwrap();
    let broker = Broker::new(Arc::new(store), Providers::new([provider]), client, clock.clone());
    let started = broker.start(&tenant(), ALICE).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    broker.finish(ALICE, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
    Rig { server, clock, broker, _folder: folder }
}

/// The set of sessions in use never changes.
fn always() -> watch::Receiver<u64> {
    watch::Sender::new(0).subscribe()
}

#[tokio::test]
async fn a_session_that_comes_into_use_is_refreshed_without_polling() {
    let rig = signed_in(false).await;
    let before = rig.server.count();
    rig.clock.advance(DUE);
    let (used, others) = watch::channel(0);
    let reads = Arc::new(AtomicU32::new(0));
    let in_use = {
        let (used, reads) = (used.clone(), reads.clone());
        move || {
            reads.fetch_add(1, Ordering::SeqCst);
            if *used.borrow() > 0 { vec![tenant()] } else { Vec::new() }
        }
    };
    let broker = rig.broker.clone();
    let background = tokio::spawn(async move { broker.keep_fresh(in_use, others).await });
    // The background task reads the set once, and once more when it watches the store. After that
    // only the channel below wakes it.
    let has_read_twice = async {
        while reads.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), has_read_twice).await.unwrap();
    used.send_replace(1);
    rig.server.settled(before + 1).await;
    background.abort();
    rig.broker.drained().await;
    assert_eq!(rig.server.count(), before + 1);
}

#[tokio::test]
async fn a_session_in_use_is_refreshed_before_a_caller_asks() {
    let rig = signed_in(false).await;
    let before = rig.server.count();
    rig.clock.advance(DUE);
    let broker = rig.broker.clone();
    let background = tokio::spawn(async move { broker.keep_fresh(|| vec![tenant()], always()).await });
    rig.server.settled(before + 1).await;
    background.abort();
    rig.broker.drained().await;
    let lease = rig.broker.token(&tenant(), DEFAULT_MIN_TTL).await.unwrap();
    assert_eq!((lease.generation, lease.expires_in), (2, Duration::from_secs(3600)));
    assert_eq!(rig.server.count(), before + 1);
}

#[tokio::test]
async fn a_refresh_that_revokes_the_old_token_waits_until_a_caller_needs_a_new_one() {
    let rig = signed_in(true).await;
    let before = rig.server.count();
    rig.clock.advance(DUE);
    let reads = AtomicU32::new(0);
    let in_use = || {
        reads.fetch_add(1, Ordering::SeqCst);
        vec![tenant()]
    };
    // Nothing is sent while this time passes, and nothing polls.
    tokio::time::pause();
    let minute = tokio::time::timeout(Duration::from_secs(60), rig.broker.keep_fresh(in_use, always())).await;
    tokio::time::resume();
    minute.unwrap_err();
    assert!(
        (1..=2).contains(&reads.load(Ordering::SeqCst)),
        "once, and once the store is watched: {reads:?}"
    );
    let lease = rig.broker.token(&tenant(), DEFAULT_MIN_TTL).await.unwrap();
    assert_eq!(lease.generation, 1, "it serves to its end");
    assert_eq!(rig.server.count(), before);
    rig.clock.advance(3600 - DUE);
    let lease = rig.broker.token(&tenant(), DEFAULT_MIN_TTL).await.unwrap();
    assert_eq!(lease.generation, 2);
    assert_eq!(rig.server.count(), before + 1);
}
