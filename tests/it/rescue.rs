//! Tokens that a provider issued while nothing could be saved: held in memory, reported, written to
//! a rescue file at the end, and restored.

use std::{path::Path, sync::Arc, time::Duration};

use threadkey::{
    agent::Capabilities,
    api::{self, ApiSettings},
    broker::{Broker, Event, WithoutBot, WorkerTokens},
    ids::{Principal, Tenant},
    oauth::{Client, Pasted, Provider, Providers},
    store::{FileStore, FileStoreOptions},
    sys::{clock::Clock, disk::RealDisk, faults::Faults},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    runtime::Runtime,
    sync::broadcast::Receiver,
};
use tokio_util::sync::CancellationToken;

use crate::{
    fixtures,
    support::{
        authserver::{self, AuthServer, Lifetimes},
        browser,
        program::Home,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

fn tenant() -> Tenant {
    "acme/local".parse().unwrap()
}

fn broker(server: &AuthServer, store: &Path, faults: &str, clock: &Clock) -> Broker {
    let disk = Arc::new(RealDisk::with(Faults::parse(faults)));
    let store = FileStore::on_disk(disk, store, clock.clone(), FileStoreOptions::default()).unwrap();
    let provider = Provider::new("acme".parse().unwrap(), fixtures::settings(server)).unwrap();
    let client = Client::new(clock.clone()).unwrap();
    Broker::new(Arc::new(store), Providers::new([provider]), client, clock.clone())
}

async fn sign_in(broker: &Broker) {
    let started = broker.start(&tenant(), Principal::Local).await.unwrap();
    let callback = browser::sign_in(started.link().unwrap().as_str(), "alice").await;
    broker.finish(Principal::Local, None, Pasted::parse(&callback.url).unwrap()).await.unwrap();
}

/// Refreshes with an answer that cannot be journalled, in a process that then has to end. Returns
/// the rescue file.
fn rescued(server: &AuthServer, store: &Path, into: &Path, clock: &Clock) -> std::path::PathBuf {
    let dying = Runtime::new().unwrap();
    // The first write is the intent; from then on the disk accepts nothing for the journal.
    let faults = vec!["write@local.lock:EIO#2"; 64].join(",");
    let broker = broker(server, store, &faults, clock);
    let file = dying.block_on(async {
        let mut events = broker.events();
        let asking = broker.clone();
        tokio::spawn(async move { asking.token(&tenant(), MINUTE).await });
        assert_eq!(save_failed(&mut events).await, tenant());
        assert_eq!(broker.unsaved(), [tenant()]);
        let (tenant_of_save, file) = broker.rescue(&[into.to_owned()]).remove(0);
        assert_eq!(tenant_of_save, tenant());
        file.unwrap()
    });
    dying.shutdown_background();
    file
}

#[test]
fn a_rescue_file_restores_an_unjournalled_answer_and_nothing_is_sent_again() {
    let living = Runtime::new().unwrap();
    let server = living.block_on(AuthServer::start(authserver::Options::default()));
    let home = Home::new(&server.config_toml("acme"));
    let store = home.store();
    let clock = Clock::system();
    living.block_on(sign_in(&broker(&server, &store, "", &clock)));
    home.set_offset(3600);
    let late = Clock::fixed(clock.now() + 3600);
    let file = rescued(&server, &store, home.path(), &late);
    let sent = server.count();
    let path = file.to_str().unwrap();
    living.block_on(async {
        let restored = home.run(&["auth", "restore", path]).await;
        assert_eq!(restored.code, 0, "{restored:?}");
        let token = home.run(&["token", "acme", "--format", "json"]).await;
        assert_eq!(token.code, 0, "{token:?}");
        assert!(token.stdout.contains("\"generation\":2"), "{token:?}");
        assert_eq!(server.count(), sent, "the answer was enough");
        let again = home.run(&["auth", "restore", path]).await;
        assert_eq!(again.code, 2, "{again:?}");
        assert!(again.stderr.contains("delete it"), "{again:?}");
        let elsewhere = [("THREADKEY_STORE__PATH", home.path().join("data/auth.json"))];
        let elsewhere = home.command(&["auth", "restore", path]).envs(elsewhere).output().await.unwrap();
        let stderr = String::from_utf8_lossy(&elsewhere.stderr);
        assert_eq!(elsewhere.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains("data/auth.json") && stderr.contains("keep it"),
            "it may be the only copy: {stderr}"
        );
        let other = home.run(&["auth", "restore", "threadkey.toml"]).await;
        assert_eq!(other.code, 6, "{other:?}");
        assert!(other.stderr.contains("rescue file"), "{other:?}");
    });
    assert_eq!(server.events().total.reuses, 0);
}

#[tokio::test]
async fn readyz_reports_a_failed_save() {
    let server = AuthServer::start(authserver::Options::default()).await;
    let home = Home::new("");
    let clock = Clock::system();
    let store = home.path().join("auth.json");
    sign_in(&broker(&server, &store, "", &clock)).await;
    let late = Clock::fixed(clock.now() + 3600);
    // The answer's first write fails; the next one, a second later, succeeds.
    let broker = broker(&server, &store, "write@local.lock:EIO#2", &late);
    let socket = home.path().join("t.sock");
    let bound = api::bind(&ApiSettings { socket: socket.clone(), ..ApiSettings::default() }).unwrap();
    let capabilities = Arc::new(Capabilities::new());
    let tokens = WorkerTokens::new(broker.clone(), Arc::new(WithoutBot));
    tokio::spawn(api::serve(bound, broker.clone(), capabilities, tokens, CancellationToken::new()));
    assert!(ready(&socket).await.starts_with("HTTP/1.1 200"));
    let mut events = broker.events();
    let asking = broker.clone();
    let asking = tokio::spawn(async move { asking.token(&tenant(), MINUTE).await });
    assert_eq!(save_failed(&mut events).await, tenant());
    let red = ready(&socket).await;
    assert!(red.starts_with("HTTP/1.1 503") && red.contains("store_unavailable"), "{red}");
    asking.await.unwrap().unwrap();
    broker.drained().await;
    assert!(ready(&socket).await.starts_with("HTTP/1.1 200"));
    assert_eq!(server.events().total.reuses, 0);
}

#[tokio::test]
async fn the_life_of_a_token_that_is_saved_late_counts_from_its_answer() {
    let lifetimes = Lifetimes { access_token: 5 * MINUTE, ..Lifetimes::default() };
    let server = AuthServer::start(authserver::Options { lifetimes, ..authserver::Options::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("auth.json");
    let clock = Clock::system();
    sign_in(&broker(&server, &store, "", &clock)).await;
    let late = Clock::fixed(clock.now() + 3600);
    let answered_at = late.now();
    let broker = broker(&server, &store, "write@.tmp:EIO#1", &late);
    let mut events = broker.events();
    let asking = broker.clone();
    let asking = tokio::spawn(async move { asking.token(&tenant(), MINUTE).await });
    assert_eq!(save_failed(&mut events).await, tenant());
    late.advance(100);
    let lease = asking.await.unwrap().unwrap();
    broker.drained().await;
    let stored = broker.token(&tenant(), MINUTE).await.unwrap();
    assert_eq!(stored.access_token, lease.access_token);
    assert_eq!(stored.expires_at, answered_at + 300);
}

/// Waits for the report of a failed save, and returns its tenant.
async fn save_failed(events: &mut Receiver<Event>) -> Tenant {
    let event = async {
        loop {
            if let Event::SaveFailed(tenant_of_save) = events.recv().await.unwrap() {
                return tenant_of_save;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), event).await.expect("a failed save is reported")
}

async fn ready(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_sign_in_that_is_saved_at_last_keeps_an_unsaved_refresh_listed() {
    let living = Runtime::new().unwrap();
    let server = living.block_on(AuthServer::start(authserver::Options::default()));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("auth.json");
    let clock = Clock::system();
    living.block_on(sign_in(&broker(&server, &store, "", &clock)));
    let late = Clock::fixed(clock.now() + 3600);
    let dying = Runtime::new().unwrap();
    let mut faults = vec!["write@local.lock:EIO#2"; 64];
    faults.push("write@local.signin.lock:EIO#2");
    let broker = broker(&server, &store, &faults.join(","), &late);
    dying.block_on(async {
        let mut events = broker.events();
        let asking = broker.clone();
        tokio::spawn(async move { asking.token(&tenant(), MINUTE).await });
        assert_eq!(save_failed(&mut events).await, tenant());
        sign_in(&broker).await;
        assert_eq!(save_failed(&mut events).await, tenant());
        assert_eq!(broker.unsaved(), [tenant()], "the refresh is in memory alone");
        let rescued = broker.rescue(&[folder.path().to_owned()]);
        assert!(matches!(&rescued[..], [(_, Some(_))]), "{rescued:?}");
    });
    dying.shutdown_background();
}
