//! The tenants' locks and their waiters, within one process.

use std::sync::mpsc;

use super::*;
use crate::sys::{
    disk::{Disk as _, Open},
    lock::{Lock, Mode},
};

fn bob() -> Tenant {
    "codex/user:904".parse().expect("a tenant")
}

fn lock_file(f: &Fixture) -> PathBuf {
    f.folder.path().join("auth.json.refresh/codex%2Fuser%3A803.lock")
}

/// The first call that `target` names stops: the receiver gets a message when it does, and the
/// sender lets it go on.
fn stopping_at(target: &str) -> (Faults, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (reached, at) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = std::sync::Mutex::new(may_go);
    let hook = move |_: &Path| {
        // The test may have ended already, and dropped either end.
        let _ = reached.send(());
        let _ = may_go.lock().expect("whole").recv();
    };
    (Faults::hook(&format!("{target}#1"), Box::new(hook)), at, go)
}

async fn reached(at: mpsc::Receiver<()>) {
    let wait = tokio::task::spawn_blocking(move || at.recv_timeout(Duration::from_secs(30)));
    wait.await.expect("no panic").expect("the call is reached");
}

#[tokio::test]
async fn a_tenant_s_lock_excludes_others_of_that_tenant_and_purpose_only() {
    let f = Fixture::new();
    let held = backend(&f.store).await;
    let try_lock = async |store: &FileStore, tenant, purpose| {
        store.try_lock(&tenant, purpose).await.expect("lockable").is_some()
    };
    assert!(!try_lock(&f.store, alice(), Purpose::Refresh).await);
    assert!(!try_lock(&f.healthy(), alice(), Purpose::Refresh).await, "another store in this process");
    assert!(try_lock(&f.store, alice(), Purpose::SignIn).await, "a sign-in never waits for a refresh");
    assert!(try_lock(&f.store, bob(), Purpose::Refresh).await);
    f.store.change(&alice(), Change::Start(pending("state-1"))).await.expect("nor does a change");
    drop(held);
    assert!(try_lock(&f.store, alice(), Purpose::Refresh).await);
    let folder = fs::metadata(f.folder.path().join("auth.json.refresh")).expect("there");
    let file = fs::metadata(lock_file(&f)).expect("a lock file is never unlinked");
    assert_eq!((folder.mode() & 0o777, file.mode() & 0o777), (0o700, 0o600));
}

#[tokio::test]
async fn a_lock_that_was_never_taken_is_not_waited_for() {
    let f = Fixture::new();
    soon(f.store.wait_unlocked(&alice())).await.expect("free");
    drop(backend(&f.store).await);
    soon(f.store.wait_unlocked(&alice())).await.expect("free");
    assert_eq!(f.store.waiting_threads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_waiters_share_one_thread_and_wake_together() {
    let f = Fixture::new();
    let held = backend(&f.store).await;
    let waiters: Vec<_> = (0..64)
        .map(|_| {
            let store = f.store.clone();
            tokio::spawn(async move { store.wait_unlocked(&alice()).await })
        })
        .collect();
    soon(async {
        while f.store.waiters() < waiters.len() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(f.store.waiting_threads(), 1);
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    drop(held);
    for waiter in waiters {
        soon(waiter).await.expect("no panic").expect("woken");
    }
    assert_eq!(f.store.waiting_threads(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_that_is_dropped_leaves_nothing_held() {
    let f = Fixture::new();
    let held = backend(&f.store).await;
    let store = f.store.clone();
    let waiter = tokio::spawn(async move { store.wait_unlocked(&alice()).await });
    soon(async {
        while f.store.waiters() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    waiter.abort();
    assert!(soon(waiter).await.expect_err("aborted").is_cancelled());
    drop(held);
    soon(f.store.wait_unlocked(&alice())).await.expect("free");
    drop(backend(&f.store).await);
    soon(async {
        while f.store.waiting_threads() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_lock_that_is_shared_for_a_moment_can_be_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.lock");
    let shared = RealDisk::new().open(&path, Open::ReadWrite).expect("open");
    let shared = std::sync::Mutex::new(Some(Lock::acquire(shared, Mode::Shared).expect("free")));
    // Released when the attempt is in its fourth call: refused, shared, refused, shared.
    let hook = move |_: &Path| drop(shared.lock().expect("whole").take());
    let disk = RealDisk::with(Faults::hook("try-lock#4", Box::new(hook)));
    let file = disk.open(&path, Open::ReadWrite).expect("open");
    assert!(Lock::try_exclusive(file).expect("lockable").is_some());
}

#[tokio::test]
async fn a_lock_file_that_was_removed_meanwhile_is_not_taken_for_the_lock() {
    let remove = |path: &Path| fs::remove_file(path).expect("there");
    let f = Fixture::with(Faults::hook("try-lock@803.lock#1", Box::new(remove)));
    let _held = backend(&f.store).await;
    assert!(lock_file(&f).exists());
    assert!(f.healthy().try_lock(&alice(), Purpose::Refresh).await.expect("lockable").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_neither_stops_its_change_nor_holds_up_the_next() {
    let (faults, at, go) = stopping_at("rename");
    let f = Fixture::with(faults);
    let store = f.store.clone();
    let change = tokio::spawn(async move { store.change(&alice(), Change::Start(pending("state-1"))).await });
    reached(at).await;
    change.abort();
    assert!(soon(change).await.expect_err("aborted").is_cancelled());
    go.send(()).expect("it waits");
    soon(f.store.change(&bob(), Change::Start(pending("state-2")))).await.expect("writable");
    assert!(f.store.read(&alice()).await.expect("readable").pending.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_s_lock_stays_held_until_an_abandoned_commit_is_durable() {
    let (faults, at, go) = stopping_at("rename");
    let f = Fixture::with(faults);
    let session = f.sign_in().await;
    let mut held = backend(&f.store).await;
    let commit = tokio::spawn(async move {
        held.commit(refreshed(session.refresh_target().expect("a refresh token"), 8)).await
    });
    reached(at).await;
    commit.abort();
    assert!(soon(commit).await.expect_err("aborted").is_cancelled());
    let other = f.healthy();
    assert!(other.try_lock(&alice(), Purpose::Refresh).await.expect("lockable").is_none());
    go.send(()).expect("it waits");
    soon(other.wait_unlocked(&alice())).await.expect("free");
    let session = other.read(&alice()).await.expect("readable").session.expect("a session");
    assert_eq!(session.generation, 2, "a process that finds the lock free finds the commit");
    drop(backend(&other).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_journal_entry_is_whole_before_the_next_one_begins() {
    let (faults, at, go) = stopping_at("fsync@803.lock");
    let f = Fixture::with(faults);
    let session = f.sign_in().await;
    let mut held = backend(&f.store).await;
    let intent = intent(&session);
    {
        let intending = held.write_intent(&intent);
        tokio::select! {
            biased;
            _ = intending => panic!("it is stopped"),
            () = reached(at) => {}
        }
    }
    go.send(()).expect("it waits");
    assert_eq!(soon(held.journal()).await.expect("readable"), Journal::Intended(intent));
    soon(held.clear()).await.expect("writable");
    assert_eq!(held.journal().await.expect("readable"), Journal::Empty);
}

#[tokio::test]
async fn one_process_at_a_time_talks_to_discord() {
    let f = Fixture::new();
    let first = f.store.try_lock_bot().expect("lockable").expect("free");
    assert!(f.healthy().try_lock_bot().expect("lockable").is_none());
    drop(first);
    drop(f.healthy().lock_bot().expect("free"));
    assert!(f.folder.path().join("auth.json.bot.lock").exists());
}
