//! Group commit: changes that wait for the global lock together are written together.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::sys::{
    disk::{Disk as _, Open},
    lock::{Lock, Mode},
};

/// Keeps everybody else from writing, as another process's write does.
fn hold_the_global_lock(f: &Fixture) -> Lock {
    let path = f.folder.path().join("auth.json.global.lock");
    let file = RealDisk::new().open(&path, Open::ReadWrite).expect("openable");
    Lock::acquire(file, Mode::Exclusive).expect("free")
}

/// Queues `change`, and returns once it is queued behind all others.
async fn queue(
    f: &Fixture,
    tenant: &str,
    change: Change,
) -> tokio::task::JoinHandle<Result<Changed, StoreError>> {
    let (store, tenant) = (f.store.clone(), tenant.parse().expect("a tenant"));
    let before = f.store.queued();
    let queued = tokio::spawn(async move { store.change(&tenant, change).await });
    until_queued(f, before + 1).await;
    queued
}

async fn until_queued(f: &Fixture, count: usize) {
    soon(async {
        while f.store.queued() < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Counts the writes of a store, on a disk with these faults as well.
fn counted() -> (Fixture, Arc<AtomicU32>) {
    let writes = Arc::new(AtomicU32::new(0));
    let count = writes.clone();
    let hook = move |_: &Path| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    (Fixture::with(Faults::hook("rename", Box::new(hook))), writes)
}

#[tokio::test]
async fn changes_that_wait_for_the_lock_together_share_one_write() {
    let (f, writes) = counted();
    let held = hold_the_global_lock(&f);
    let mut changes = Vec::new();
    for number in 0..40 {
        let change = Change::Start(pending(&format!("state-{number}")));
        changes.push(queue(&f, &format!("codex/user:{number}"), change).await);
    }
    drop(held);
    for change in changes {
        assert_eq!(soon(change).await.expect("no panic").expect("writable").applied, Applied::Done);
    }
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    assert_eq!(f.healthy().list().await.expect("readable").len(), 40);
    f.store.change(&alice(), Change::Start(pending("state-1"))).await.expect("writable");
    assert_eq!(writes.load(Ordering::SeqCst), 2, "who comes alone lock_waiters for nobody");
}

#[tokio::test]
async fn changes_of_one_write_are_applied_in_the_order_in_which_they_came() {
    let (f, writes) = counted();
    let held = hold_the_global_lock(&f);
    let start = |state| Change::Start(pending(state));
    let cancel = |state| Change::Cancel(Some(State::new(state)));
    let steps = [
        (start("state-1"), Applied::Done),
        (start("state-2"), Applied::Stale),
        (cancel("state-2"), Applied::Stale),
        (cancel("state-1"), Applied::Done),
        (start("state-2"), Applied::Done),
        (Change::Logout, Applied::Done),
        (Change::Logout, Applied::Stale),
        (start("state-3"), Applied::Done),
    ];
    let mut changes = Vec::new();
    for (change, expected) in steps {
        changes.push((queue(&f, "codex/user:803", change).await, expected));
    }
    drop(held);
    for (change, expected) in changes {
        assert_eq!(soon(change).await.expect("no panic").expect("writable").applied, expected);
    }
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    let left = f.store.read(&alice()).await.expect("readable").pending.expect("the last one");
    assert_eq!(left.state, State::new("state-3"));
}

#[tokio::test]
async fn a_write_that_fails_is_told_to_all_who_shared_it_and_to_nobody_else() {
    for fault in ["open@.tmp:EIO#1", "fsync@.tmp:EIO#1", "rename:EIO#1"] {
        let f = Fixture::failing(fault);
        f.sign_in().await;
        let before = f.text();
        let held = hold_the_global_lock(&f);
        let mut changes = Vec::new();
        for number in 0..5 {
            let change = Change::Start(pending(&format!("state-{number}")));
            changes.push(queue(&f, &format!("codex/user:{number}"), change).await);
        }
        drop(held);
        for change in changes {
            let error = soon(change).await.expect("no panic").expect_err(fault);
            assert!(error.to_string().contains("auth.json"), "{error}");
            assert!(error.to_string().contains("check the disk"), "{error}");
        }
        assert_eq!(f.text(), before, "{fault}");
        assert_eq!(
            f.store.change(&alice(), Change::Logout).await.expect("well again").applied,
            Applied::Done
        );
    }
}

#[tokio::test]
async fn a_queued_change_is_made_although_its_caller_is_gone_and_its_tenant_stays_locked_until_then() {
    let (f, _) = counted();
    let session = f.sign_in().await;
    let mut refresh = lock(&f.store).await;
    let held = hold_the_global_lock(&f);
    let spent = session.refresh_target().expect("a refresh token");
    let caller = tokio::spawn(async move { refresh.commit(refreshed(spent, 8)).await });
    until_queued(&f, 1).await;
    caller.abort();
    assert!(caller.await.expect_err("aborted").is_cancelled());
    let other = f.healthy();
    assert!(other.try_lock(&alice(), Purpose::Refresh).await.expect("lockable").is_none());
    drop(held);
    soon(other.wait_unlocked(&alice())).await.expect("it is let go");
    let session = other.read(&alice()).await.expect("readable").session.expect("a session");
    assert_eq!(session.generation, 2, "the lock outlasts the write");
}
