//! Processes that are suspended in the middle of a refresh, as when a machine sleeps.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::time::Duration;

use serde_json::Value;
use tokio::process::Child;

use crate::{
    store::Helper,
    support::{
        authserver::AuthServer,
        browser,
        program::{Ended, Home, signal_process},
    },
};

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// A process that is stopped until this is dropped, so that a failing test leaves none behind.
struct Suspended(i32);

impl Suspended {
    fn new(id: i32) -> Self {
        signal_process(id, SIGSTOP);
        Self(id)
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        signal_process(self.0, SIGCONT);
    }
}

/// Signs in with the embedded server, lets the access token expire, and makes the provider hold its
/// answers.
async fn signed_in_with_held_answers() -> (AuthServer, Home) {
    let server = crate::team::authserver().await;
    let home = Home::new(&server.config_toml("acme"));
    let started = home.run(&["auth", "start", "acme", "--json"]).await;
    let started: Value = serde_json::from_str(&started.stdout).unwrap();
    let callback = browser::sign_in(started["authorize_url"].as_str().unwrap(), "alice").await;
    assert_eq!(home.run_with(&["auth", "code", "acme"], &callback.url).await.code, 0);
    home.set_offset(3600);
    server.hold();
    (server, home)
}

/// Waits until `find` returns something.
async fn wait_for<T>(sought: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = find() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), looking).await;
    found.unwrap_or_else(|_| panic!("{sought} did not appear"))
}

/// Returns the detached process that refreshes in this folder.
fn sender(home: &Home) -> Option<i32> {
    let folder = home.path().to_string_lossy().into_owned();
    let names =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids = names.filter_map(|name| name.parse().ok());
    ids.find(|id: &i32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains(&folder) && line.contains("__refresh")
    })
}

/// Whether this process is blocked in flock(2).
fn waits_for_lock(id: i32) -> Option<()> {
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let waits = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.contains(&"->") && words.contains(&"FLOCK") && words.contains(&id.to_string().as_str())
    };
    locks.lines().any(waits).then_some(())
}

/// Starts a caller, and waits until it waits for the process that refreshes.
async fn waiter(home: &Home) -> Child {
    let child = home.command(&["token", "acme"]).spawn().unwrap();
    let id = id(&child);
    wait_for("a process that waits for the lock", || waits_for_lock(id)).await;
    child
}

fn id(child: &Child) -> i32 {
    i32::try_from(child.id().unwrap()).unwrap()
}

#[tokio::test]
async fn a_suspended_sender_resumes_its_refresh_and_no_process_sends_a_second_request() {
    let (server, home) = signed_in_with_held_answers().await;
    let caller = home.command(&["token", "acme"]).spawn().unwrap();
    server.wait_for_held(1).await;
    let sender = wait_for("the process that refreshes", || sender(&home)).await;
    let suspended = Suspended::new(sender);
    let name = std::fs::read_to_string(format!("/proc/{sender}/comm")).unwrap();
    assert_eq!(name.trim(), "threadkey", "messages name the process so");
    server.release();
    let waiter = waiter(&home).await;
    home.set_offset(3600 + 60);
    let status = home.run(&["auth", "status", "--json"]).await;
    assert!(status.stdout.contains(r#""state":"expired""#), "reading waits for no process: {status:?}");
    assert_eq!(server.count(), 2, "the exchange of the code and one refresh");
    drop(suspended);
    let (caller, waiter) = tokio::join!(caller.wait_with_output(), waiter.wait_with_output());
    let (caller, waiter) = (caller.unwrap(), waiter.unwrap());
    assert!(caller.status.success() && waiter.status.success(), "{caller:?} {waiter:?}");
    assert_eq!(caller.stdout, waiter.stdout);
    let events = server.events().total;
    assert_eq!((events.refreshes, events.reuses), (1, 0));
}

#[tokio::test]
async fn a_suspended_waiter_delays_no_process_and_has_the_new_token_when_it_wakes() {
    let (server, home) = signed_in_with_held_answers().await;
    let caller = home.command(&["token", "acme"]).spawn().unwrap();
    server.wait_for_held(1).await;
    let waiter = waiter(&home).await;
    let sleeper = id(&waiter);
    let suspended = Suspended::new(sleeper);
    server.release();
    let caller = caller.wait_with_output().await.unwrap();
    assert!(caller.status.success(), "{caller:?}");
    let next = home.run(&["token", "acme"]).await;
    assert_eq!((next.code, next.stdout.as_bytes()), (0, &caller.stdout[..]));
    drop(suspended);
    let waiter = waiter.wait_with_output().await.unwrap();
    assert!(waiter.status.success(), "{waiter:?}");
    assert_eq!(waiter.stdout, caller.stdout);
    let events = server.events().total;
    assert_eq!((events.refreshes, events.reuses), (1, 0));
}

/// Stops a process that holds this lock.
async fn stopped_holder(home: &Home, task: &str) -> (Helper, Suspended) {
    let mut holder = Helper::start(task, home.store().parent().unwrap(), "");
    holder.says("locked").await;
    let suspended = Suspended::new(holder.pid());
    let stat = format!("/proc/{}/stat", holder.pid());
    wait_for("the stop of the holder", || {
        std::fs::read_to_string(&stat).unwrap().contains(") T ").then_some(())
    })
    .await;
    (holder, suspended)
}

/// Asserts that a command ended with exit code 5, and named the stopped process and the way to go on.
#[track_caller]
fn assert_names(ended: &Ended, holder: &Helper) {
    assert_eq!(ended.code, 5, "{ended:?}");
    let pid = holder.pid();
    for words in [format!("process {pid} ("), "which is stopped".into(), format!("`kill -CONT {pid}`")] {
        assert!(ended.stderr.contains(&words), "{words}: {ended:?}");
    }
}

#[tokio::test]
async fn every_command_ends_and_names_a_stopped_process_that_holds_the_store() {
    let (server, home) = signed_in_with_held_answers().await;
    server.release();
    home.set_offset(0);
    let token = home.run(&["token", "acme"]).await.stdout.trim().to_owned();
    let started = home.run(&["auth", "start", "acme"]).await;
    let (holder, suspended) = stopped_holder(&home, "lock-global").await;
    let before = std::fs::read_to_string(home.store()).unwrap();
    let (start, cancel, logout, rejected) = tokio::join!(
        home.run(&["auth", "start", "acme", "--as", "user:7"]),
        home.run(&["auth", "cancel"]),
        home.run(&["auth", "logout", "acme"]),
        home.run_with(&["token", "acme", "--rejected", "-"], &token),
    );
    for ended in [&start, &cancel, &logout, &rejected] {
        assert_names(ended, &holder);
        assert!(ended.stderr.contains("nothing was changed"), "{ended:?}");
    }
    let (doctor, status, fresh) =
        tokio::join!(home.run(&["doctor"]), home.run(&["auth", "status"]), home.run(&["token", "acme"]),);
    assert!(doctor.stdout.contains(&format!("process {}", holder.pid())), "{doctor:?}");
    assert_eq!((status.code, fresh.code), (0, 0), "reading waits for no process");
    let callback = browser::sign_in(started.stdout.trim(), "alice").await;
    let code = home.run_with(&["auth", "code", "acme"], &callback.url).await;
    assert_eq!(code.code, 5, "{code:?}");
    assert!(code.stderr.contains("not lost"), "{code:?}");
    assert_eq!(std::fs::read_to_string(home.store()).unwrap(), before);
    drop(suspended);
    drop(holder);
    assert_eq!(home.run(&["token", "acme", "--min-ttl", "50m"]).await.code, 0);
    let after = std::fs::read_to_string(home.store()).unwrap();
    assert!(after.contains("acme/local") && !after.contains("user:7"), "nothing that failed was made later");
    let events = server.events().total;
    assert_eq!((events.sign_ins, events.reuses), (2, 0));
}

#[tokio::test]
async fn a_refresh_behind_a_stopped_holder_of_the_store_is_served_from_its_journal() {
    let (server, home) = signed_in_with_held_answers().await;
    let (holder, suspended) = stopped_holder(&home, "lock-global").await;
    server.release();
    let first = home.run(&["token", "acme"]).await;
    assert_eq!(first.code, 0, "{first:?}");
    drop(suspended);
    drop(holder);
    let second = home.run(&["token", "acme"]).await;
    assert_eq!((second.code, &second.stdout), (0, &first.stdout), "{second:?}");
    let events = server.events().total;
    assert_eq!((events.refreshes, events.reuses), (1, 0));
}

#[tokio::test]
async fn a_stopped_holder_of_a_tenant_s_lock_is_named_to_its_callers_alone() {
    let (server, home) = signed_in_with_held_answers().await;
    server.release();
    let started = home.run(&["auth", "start", "acme"]).await;
    let callback = browser::sign_in(started.stdout.trim(), "alice").await;
    let (refresher, stopped_refresher) = stopped_holder(&home, "lock-refresh").await;
    let (exchanger, stopped_exchanger) = stopped_holder(&home, "lock-sign-in").await;
    let (token, code, doctor) = tokio::join!(
        home.run(&["token", "acme"]),
        home.run_with(&["auth", "code", "acme"], &callback.url),
        home.run(&["doctor"]),
    );
    assert_names(&token, &refresher);
    assert_names(&code, &exchanger);
    for holder in [&refresher, &exchanger] {
        assert!(doctor.stdout.contains(&format!("process {}", holder.pid())), "{doctor:?}");
    }
    let other = home.run(&["auth", "start", "acme", "--as", "user:7"]).await;
    assert_eq!(other.code, 0, "other tenants go on: {other:?}");
    drop((stopped_refresher, stopped_exchanger));
}
