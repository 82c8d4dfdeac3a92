//! Many processes, one session: the command line against oidc-provider, with callers that die.
#![expect(clippy::disallowed_methods, reason = "the tests' own processes are not the program's")]

use std::{collections::BTreeSet, fs, process::Stdio, time::Duration};

use threadkey::{
    ids::Tenant,
    secret::{AccessToken, RefreshToken},
    session::{Applied, Grant, Settlement},
    store::{FileStore, FileStoreOptions, Purpose, Store},
    sys::clock::Clock,
};

use crate::support::{
    browser,
    oidc::{Oidc, OidcOptions},
    program::{Home, signal_process},
};

/// Past the expiry of an access token of one hour, by the program's clock.
const AN_HOUR: i64 = 3600;

async fn provider() -> Oidc {
    let options =
        OidcOptions { access_token_ttl: std::time::Duration::from_secs(3600), ..OidcOptions::default() };
    Oidc::start(options).await
}

pub(super) async fn sign_in(home: &Home, account: &str) {
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    assert_eq!(started.code, 0, "{started:?}");
    let started: serde_json::Value = serde_json::from_str(&started.stdout).unwrap();
    let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), account).await;
    let done = home.run_with(&["auth", "code", "acme"], &callback.url).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains(account), "{done:?}");
}

async fn signed_in() -> (Oidc, Home) {
    let oidc = provider().await;
    let home = Home::new(&oidc.config_toml("acme"));
    sign_in(&home, "alice").await;
    (oidc, home)
}

#[tokio::test]
async fn twenty_four_processes_at_expiry_cause_one_refresh_and_all_print_the_new_token() {
    let (oidc, home) = signed_in().await;
    let before = home.run(&["token", "acme"]).await;
    home.set_offset(AN_HOUR);
    let asking: Vec<_> = (0..24).map(|_| home.command(&["token", "acme"]).spawn().unwrap()).collect();
    let mut printed = BTreeSet::new();
    for child in asking {
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        printed.insert(String::from_utf8(output.stdout).unwrap());
    }
    assert_eq!(printed.len(), 1, "all hold the winner's token");
    assert!(!printed.contains(&before.stdout));
    let counts = oidc.events().await.of("alice");
    assert_eq!((counts.refreshes, counts.reuses, counts.revoked), (1, 0, 0));
}

#[tokio::test]
async fn a_process_that_only_waits_starts_no_child_and_takes_the_committed_token() {
    let (oidc, home) = signed_in().await;
    home.set_offset(AN_HOUR);
    let store = FileStore::open(&home.store(), Clock::system(), FileStoreOptions::default()).unwrap();
    let tenant: Tenant = "acme/local".parse().unwrap();
    let mut lock = store.try_lock(&tenant, Purpose::Refresh).await.unwrap().unwrap();
    let target = store.read(&tenant).await.unwrap().session.unwrap().refresh_target().unwrap();
    let waiting = home.command(&["token", "acme"]).spawn().unwrap();
    let id = waiting.id().unwrap().to_string();
    tokio::time::timeout(Duration::from_secs(30), until_blocked(&id)).await.expect("it waits for the lock");
    assert_eq!(children(&id), [""; 0]);
    let grant = Grant {
        access_token: AccessToken::new("of-another"),
        refresh_token: Some(RefreshToken::new("of-another-too")),
        token_type: "Bearer".into(),
        scope: None,
        expires_in: Some(Duration::from_secs(4 * 3600)),
        account: None,
        refresh_expires_at: None,
        identity: None,
    };
    let change = Settlement::Refreshed { target, grant: Box::new(grant) };
    assert_eq!(lock.settle(change).await.unwrap().applied, Applied::Done);
    drop(lock);
    let output = waiting.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "of-another\n");
    assert_eq!(oidc.events().await.of("alice").refreshes, 0);
}

/// Waits until a thread of this process waits for a file lock.
async fn until_blocked(id: &str) {
    let blocked = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        words.get(1) == Some(&"->") && words.get(5) == Some(&id)
    };
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(blocked) {
        tokio::task::yield_now().await;
    }
}

/// Returns the child processes that are still there.
fn children(id: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let lists = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn a_caller_killed_in_mid_refresh_loses_nothing() {
    let (oidc, home) = signed_in().await;
    home.set_offset(AN_HOUR);
    oidc.hold().await;
    let mut caller = home.command(&["token", "acme"]).spawn().unwrap();
    oidc.wait_for_held(1).await;
    caller.start_kill().unwrap();
    caller.wait().await.unwrap();
    oidc.release().await;
    assert_one_refresh_and_a_token(&oidc, &home).await;
}

#[tokio::test]
async fn a_whole_process_group_killed_in_mid_refresh_loses_nothing() {
    let (oidc, home) = signed_in().await;
    home.set_offset(AN_HOUR);
    oidc.hold().await;
    let mut group = home.command(&["token", "acme"]).process_group(0).spawn().unwrap();
    let id = i32::try_from(group.id().unwrap()).unwrap();
    oidc.wait_for_held(1).await;
    signal_process(-id, 9);
    group.wait().await.unwrap();
    oidc.release().await;
    assert_one_refresh_and_a_token(&oidc, &home).await;
}

#[tokio::test]
async fn a_refresh_in_progress_ignores_every_signal_that_asks_it_to_end() {
    let (oidc, home) = signed_in().await;
    home.set_offset(AN_HOUR);
    oidc.hold().await;
    let caller = home.command(&["token", "acme"]).stdout(Stdio::piped()).spawn().unwrap();
    oidc.wait_for_held(1).await;
    let refreshing = children(&caller.id().unwrap().to_string());
    assert_eq!(refreshing.len(), 1);
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGXCPU,
    ] {
        signal_process(refreshing[0].parse().unwrap(), signal);
    }
    oidc.release().await;
    let served = caller.wait_with_output().await.unwrap();
    assert_eq!(served.status.code(), Some(0), "{served:?}");
    assert_one_refresh_and_a_token(&oidc, &home).await;
}

async fn assert_one_refresh_and_a_token(oidc: &Oidc, home: &Home) {
    let next = home.run(&["token", "acme"]).await;
    assert_eq!(next.code, 0, "{next:?}");
    let counts = oidc.events().await.of("alice");
    assert_eq!((counts.refreshes, counts.reuses, counts.revoked), (1, 0, 0));
    home.set_offset(2 * AN_HOUR + 60);
    let later = home.run(&["token", "acme"]).await;
    assert_eq!(later.code, 0, "the session goes on: {later:?}");
    assert_ne!(later.stdout, next.stdout);
    let counts = oidc.events().await.of("alice");
    assert_eq!((counts.refreshes, counts.reuses, counts.revoked), (2, 0, 0));
}

#[tokio::test]
async fn a_token_that_a_resource_refused_is_replaced_once_for_all_reporters() {
    let (oidc, home) = signed_in().await;
    let old = home.run(&["token", "acme"]).await.stdout;
    let reports = futures_util::future::join_all(
        (0..8).map(|_| home.run_with(&["token", "acme", "--rejected", "-"], &old)),
    )
    .await;
    let printed: BTreeSet<_> = reports.iter().map(|ended| ended.stdout.clone()).collect();
    assert!(reports.iter().all(|ended| ended.code == 0), "{reports:?}");
    assert_eq!(printed.len(), 1, "{reports:?}");
    assert!(!printed.contains(&old));
    assert_eq!(oidc.events().await.of("alice").refreshes, 1);
}

#[tokio::test]
async fn a_logout_revokes_the_grant_unless_its_user_keeps_it() {
    let (oidc, home) = signed_in().await;
    let out = home.run(&["auth", "logout", "acme", "--keep-grant"]).await;
    assert_eq!(out.code, 0, "{out:?}");
    assert_eq!(home.run(&["token", "acme"]).await.code, 3);
    assert_eq!(oidc.events().await.of("alice").revoked, 0);
    sign_in(&home, "alice").await;
    let out = home.run(&["auth", "logout", "acme"]).await;
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.stderr.contains("acme has ended the grant"), "{out:?}");
    assert_eq!(home.run(&["auth", "logout", "acme"]).await.code, 3, "nobody is signed in");
}

/// Kills the process that refreshes at `failpoint`, and moves the clock past the pause.
async fn after_a_death_at(failpoint: &str) -> (Oidc, Home) {
    let (oidc, home) = signed_in().await;
    home.set_offset(AN_HOUR);
    let dying = home
        .command(&["token", "acme"])
        .env("THREADKEY_TEST_FAILPOINTS", failpoint)
        .output()
        .await
        .expect("the program runs");
    assert_eq!(dying.status.code(), Some(5), "{failpoint}: try again later: {dying:?}");
    // Longer than the pause that an intent without an answer causes.
    home.set_offset(AN_HOUR + 10);
    (oidc, home)
}

#[tokio::test]
async fn a_sender_killed_before_it_sends_has_spent_nothing() {
    for failpoint in
        ["kill-after:try-lock@local.lock", "kill-before:write@local.lock", "kill-before:reserve@local.lock"]
    {
        let (oidc, home) = after_a_death_at(failpoint).await;
        let mut next = home.run(&["token", "acme"]).await;
        if next.code == 5 {
            home.set_offset(AN_HOUR + 20);
            next = home.run(&["token", "acme"]).await;
        }
        assert_eq!(next.code, 0, "{failpoint}: {next:?}");
        let counts = oidc.events().await.of("alice");
        assert_eq!((counts.refreshes, counts.reuses), (1, 0), "{failpoint}");
    }
}

#[tokio::test]
async fn an_answer_outlives_its_sender_at_every_later_step() {
    for failpoint in [
        "kill-after:write@local.lock#2",
        "kill-after:fsync@local.lock#2",
        "kill-before:rename",
        "kill-after:rename",
        "kill-before:truncate@local.lock",
    ] {
        let (oidc, home) = after_a_death_at(failpoint).await;
        let next = home.run(&["token", "acme"]).await;
        assert_eq!(next.code, 0, "{failpoint}: {next:?}");
        home.set_offset(3 * AN_HOUR);
        let later = home.run(&["token", "acme"]).await;
        assert_eq!(later.code, 0, "the new refresh token was kept; {failpoint}: {later:?}");
        let counts = oidc.events().await.of("alice");
        assert_eq!((counts.refreshes, counts.reuses), (2, 0), "{failpoint}");
    }
}

#[tokio::test]
async fn a_refresh_whose_sender_dies_mid_request_is_uncertain_and_not_repeated_at_once() {
    let (oidc, home) = after_a_death_at("kill-before:write@local.lock#2").await;
    home.set_offset(AN_HOUR);
    let next = home.run(&["token", "acme"]).await;
    assert_eq!(next.code, 5, "{next:?}");
    let status = home.run(&["auth", "status", "--json"]).await;
    assert!(status.stdout.contains("ambiguous_no_answer"), "{status:?}");
    let counts = oidc.events().await.of("alice");
    assert_eq!((counts.refreshes, counts.reuses), (1, 0));
}
