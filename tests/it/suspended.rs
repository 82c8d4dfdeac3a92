//! Processes that are suspended in the middle of a refresh, as when a machine sleeps.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    authserver::AuthServer,
    browser,
    program::{Home, signal_process},
};

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// Signed in with the embedded server, the access token ended, and the provider keeps its answers back.
async fn held() -> (AuthServer, Home) {
    let server = crate::town::authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), "alice").await;
    assert_eq!(home.run_with(&["auth", "code", "acme"], &callback.url).await.code, 0);
    home.set_offset(3600);
    server.hold();
    (server, home)
}

/// Waits until as many detached processes refresh in this folder, and gives their ids in order of their birth.
async fn refreshing(home: &Home, count: usize) -> Vec<i32> {
    let look = async {
        loop {
            let found = detached(home);
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), look).await;
    found.unwrap_or_else(|_| panic!("waited in vain for {count} refreshing processes"))
}

fn detached(home: &Home) -> Vec<i32> {
    let folder = home.path().to_string_lossy().into_owned();
    let ids = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let refreshes = |id: &i32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains(&folder) && line.contains("__refresh")
    };
    let mut found: Vec<i32> = ids.filter(refreshes).collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn a_sender_suspended_in_mid_refresh_goes_on_after_a_minute_and_nobody_sends_a_second_request() {
    let (server, home) = held().await;
    let caller = home.command(&["token", "acme"]).spawn().unwrap();
    server.wait_for_held(1).await;
    let sender = refreshing(&home, 1).await[0];
    signal_process(sender, SIGSTOP);
    server.release();
    let waiter = home.command(&["token", "acme"]).spawn().unwrap();
    refreshing(&home, 2).await;
    home.set_offset(3600 + 60);
    let status = home.run(&["auth", "status", "--json"]).await;
    assert!(status.stdout.contains(r#""state":"expired""#), "reading waits for nobody: {status:?}");
    assert_eq!(server.count(), 2, "the exchange of the code and one refresh");
    signal_process(sender, SIGCONT);
    let (caller, waiter) = tokio::join!(caller.wait_with_output(), waiter.wait_with_output());
    let (caller, waiter) = (caller.unwrap(), waiter.unwrap());
    assert!(caller.status.success() && waiter.status.success(), "{caller:?} {waiter:?}");
    assert_eq!(caller.stdout, waiter.stdout);
    let events = server.events().total;
    assert_eq!((events.refreshes, events.reuses), (1, 0));
}

#[tokio::test]
async fn a_suspended_waiter_holds_up_nobody_and_has_the_new_token_when_it_wakes() {
    let (server, home) = held().await;
    let caller = home.command(&["token", "acme"]).spawn().unwrap();
    server.wait_for_held(1).await;
    let sender = refreshing(&home, 1).await[0];
    let waiter = home.command(&["token", "acme"]).spawn().unwrap();
    let sleeper = refreshing(&home, 2).await.into_iter().find(|id| *id != sender).unwrap();
    signal_process(sleeper, SIGSTOP);
    server.release();
    let caller = caller.wait_with_output().await.unwrap();
    assert!(caller.status.success(), "{caller:?}");
    let next = home.run(&["token", "acme"]).await;
    assert_eq!((next.code, next.stdout.as_bytes()), (0, &caller.stdout[..]));
    signal_process(sleeper, SIGCONT);
    let waiter = waiter.wait_with_output().await.unwrap();
    assert!(waiter.status.success(), "{waiter:?}");
    assert_eq!(waiter.stdout, caller.stdout);
    let events = server.events().total;
    assert_eq!((events.refreshes, events.reuses), (1, 0));
}
