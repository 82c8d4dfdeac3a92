//! A refresh under an operator's limits, an inherited descriptor or a stuck neighbour: none of them
//! makes it lose a token or run forever.
#![expect(clippy::disallowed_methods, reason = "the tests' own processes and files are not the program's")]

use std::{process::Stdio, sync::Arc, time::Duration};

use threadkey::{
    broker::{Broker, TokenError},
    ids::{Lineage, Principal, Tenant},
    oauth::{Client, Provider, ProviderSettings, Providers},
    secret::{AccessToken, CodeVerifier, RefreshToken, State},
    session::{Binding, Change, Grant, Pending, Session},
    store::{FileStore, FileStoreOptions, Purpose, Store},
    sys::clock::Clock,
};
use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

use crate::fixtures;
use crate::support::{
    authserver::{self, AuthServer},
    browser,
    program::{self, Home},
};

const NOW: i64 = 1_795_358_672;
/// Past the end of the server's access tokens.
const A_DAY: i64 = 24 * 3600;
/// The bound of every wait; a test that reaches it fails.
const WAIT: Duration = Duration::from_secs(30);

async fn signed_in() -> (AuthServer, Home) {
    let server = AuthServer::start(authserver::Options::default()).await;
    let home = Home::new(&server.config_toml("acme"));
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    let started: serde_json::Value = serde_json::from_str(&started.stdout).expect("the setup works");
    let callback =
        browser::sign_in(started["authorize_url"].as_str().expect("the setup works"), "alice").await;
    let done = home.run_with(&["auth", "code", "acme"], &callback.url).await;
    assert_eq!(done.code, 0, "{done:?}");
    home.set_offset(A_DAY);
    (server, home)
}

/// Runs the program after some shell commands, in the home's environment.
fn run_after(home: &Home, prefix: &str, arguments: &str) -> Command {
    let text = format!("{prefix}; exec '{}' {arguments}", program::path().display());
    let model = home.command(&[]);
    let model = model.as_std();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &text]).current_dir(home.path()).env_clear().kill_on_drop(true);
    command.envs(model.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn a_file_size_limit_prevents_spending_a_token_that_could_not_be_saved() {
    let (server, home) = signed_in().await;
    let before = server.count();
    // 512 bytes are enough for the intent and too few for the answer.
    let limited = run_after(&home, "ulimit -f 1", "token acme").output().await.unwrap();
    let stderr = String::from_utf8_lossy(&limited.stderr);
    assert_eq!(server.count(), before, "{stderr}");
    assert_eq!(limited.status.code(), Some(6), "{stderr}");
    assert!(stderr.contains("cannot reserve space for an answer"), "{stderr}");
    let next = home.run(&["token", "acme"]).await;
    assert_eq!(next.code, 0, "{next:?}");
    let counts = server.events().of("alice");
    assert_eq!((counts.refreshes, counts.reuses), (1, 0));
}

#[tokio::test]
async fn a_detached_refresh_keeps_none_of_its_callers_descriptors_open() {
    let (server, home) = signed_in().await;
    server.hold();
    let mut caller = run_after(&home, "exec 9>&1 >/dev/null", "token acme").spawn().unwrap();
    let mut handed_down = caller.stdout.take().unwrap();
    server.wait_for_held(1).await;
    caller.kill().await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(WAIT, handed_down.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the refresh, which is still in progress, holds the caller's descriptor 9");
    server.release();
    let next = home.run(&["token", "acme"]).await;
    assert_eq!(next.code, 0, "{next:?}");
    assert_eq!(server.events().of("alice").refreshes, 1);
}

/// Creates a store with an expired session and a broker on it; the provider's port is closed.
async fn expired(path: &std::path::Path) -> (Arc<dyn Store>, Broker, Tenant) {
    let clock = Clock::fixed(NOW);
    let tenant: Tenant = "acme/local".parse().expect("the setup works");
    let store: Arc<dyn Store> =
        Arc::new(FileStore::open(path, clock.clone(), FileStoreOptions::default()).expect("the setup works"));
    let settings = ProviderSettings {
        authorization_endpoint: "http://127.0.0.1:1/authorize".into(),
        token_endpoint: "http://127.0.0.1:1/token".into(),
        client_id: "threadkey".into(),
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        ..ProviderSettings::default()
    };
    let binding = Binding {
        issuer: None,
        token_endpoint: settings.token_endpoint.clone(),
        revocation_endpoint: None,
        userinfo_endpoint: None,
        probe_endpoint: None,
        client_id: settings.client_id.clone(),
        resource: None,
    };
    let grant = Grant {
        access_token: AccessToken::new("access-1"),
        refresh_token: Some(RefreshToken::new("refresh-1")),
        token_type: "Bearer".into(),
        scope: None,
        expires_in: Some(Duration::from_secs(3600)),
        account: None,
        refresh_expires_at: None,
        identity: None,
    };
    let pending = Pending {
        verifier: CodeVerifier::new("verifier"),
        state: State::new("state"),
        nonce: None,
        redirect_uri: settings.redirect_uri.clone(),
        created_at: NOW,
        started_by: Principal::Local,
        lineage_seen: None,
        binding: binding.clone(),
        scopes: Vec::new(),
        wrong_codes: None,
        browser: None,
        polling: None,
    };
    store.change(&tenant, Change::Start(pending)).await.expect("the setup works");
    let session = Box::new(Session::begin(Lineage([1; 16]), grant, binding, NOW));
    fixtures::finish_sign_in(&*store, &tenant, State::new("state"), session).await;
    clock.set(NOW + A_DAY);
    let provider = Provider::new(tenant.provider.clone(), settings).expect("the setup works");
    let client = Client::new(clock.clone()).expect("the setup works");
    (store.clone(), Broker::new(store, Providers::new([provider]), client, clock), tenant)
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_waits_for_a_stuck_holder_ends_once_it_has_no_callers() {
    let folder = tempfile::tempdir().unwrap();
    let (store, broker, tenant) = expired(&folder.path().join("auth.json")).await;
    let held = store.try_lock(&tenant, Purpose::Refresh).await.unwrap().expect("it is free");
    let result = broker.token(&tenant, Duration::from_secs(60)).await;
    assert!(matches!(result, Err(TokenError::InProgress(_))), "{result:?}");
    // These are minutes of the paused clock. A detached process ends with its flight; without the
    // bound such processes would pile up.
    assert!(timeout(WAIT * 10, broker.drained()).await.is_ok(), "a flight without callers waits on");
    drop(held);
}

#[tokio::test]
async fn a_flight_that_finds_the_lock_held_in_shared_mode_ends_once_it_has_no_callers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("auth.json");
    let (store, broker, tenant) = expired(&path).await;
    drop(store.try_lock(&tenant, Purpose::Refresh).await.unwrap());
    // This is another waiter, stopped at the moment at which it held the shared lock.
    let lock = folder.path().join("auth.json.refresh/acme%2Flocal.lock");
    let stopped = std::fs::File::open(lock).unwrap();
    stopped.lock_shared().unwrap();
    assert!(
        timeout(Duration::from_millis(500), broker.token(&tenant, Duration::from_secs(60))).await.is_err()
    );
    assert!(timeout(WAIT, broker.drained()).await.is_ok(), "a flight without callers keeps trying");
}
