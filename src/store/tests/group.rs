//! Group commit: changes that wait for the global lock together are written together.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    super::group_commit::{LOCK_WAIT, SHORT_WAIT},
    *,
};
use crate::sys::{
    disk::{Disk as _, Open},
    lock::{Lock, Mode},
};

/// Keeps everybody else from writing, as another process's write does.
pub(super) fn hold_the_global_lock(f: &Fixture) -> Lock {
    let path = f.folder.path().join("auth.json.global.lock");
    let file = RealDisk::new().open(&path, Open::ReadWrite).expect("openable");
    Lock::acquire(file, Mode::Exclusive).expect("free")
}

/// Queues `change`, and returns once it is queued behind all others.
async fn queue(
    f: &Fixture,
    tenant: &str,
    change: Change,
) -> tokio::task::JoinHandle<Result<Applied, StoreError>> {
    let (store, tenant) = (f.store.clone(), tenant.parse().expect("a tenant"));
    let before = f.store.queued();
    let queued =
        tokio::spawn(async move { store.change(&tenant, change).await.map(|changed| changed.applied) });
    until_queued(f, before + 1).await;
    queued
}

pub(super) async fn until_queued(f: &Fixture, count: usize) {
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
        assert_eq!(soon(change).await.expect("no panic").expect("writable"), Applied::Done);
    }
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    assert_eq!(f.healthy().list().await.expect("readable").len(), 40);
    f.store.change(&alice(), Change::Start(pending("state-1"))).await.expect("writable");
    assert_eq!(writes.load(Ordering::SeqCst), 2, "a lone change waits for no others");
}

#[tokio::test]
async fn changes_of_one_write_are_applied_in_the_order_of_their_arrival() {
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
        (Change::Logout, Applied::Stale),
        (Change::Cancel(None), Applied::Done),
        (Change::Cancel(None), Applied::Stale),
        (start("state-3"), Applied::Done),
    ];
    let mut changes = Vec::new();
    for (change, expected) in steps {
        changes.push((queue(&f, "codex/user:803", change).await, expected));
    }
    drop(held);
    for (change, expected) in changes {
        assert_eq!(soon(change).await.expect("no panic").expect("writable"), expected);
    }
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    let left = f.store.read(&alice()).await.expect("readable").pending.expect("the last one");
    assert_eq!(left.state, State::new("state-3"));
}

#[tokio::test]
async fn a_failed_write_is_reported_to_every_change_in_it_and_to_no_other() {
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
async fn a_queued_change_is_made_without_its_caller_and_keeps_its_tenant_locked() {
    let (f, _) = counted();
    let session = f.sign_in().await;
    let mut refresh = lock(&f.store).await;
    let held = hold_the_global_lock(&f);
    let spent = session.refresh_target().expect("a refresh token");
    let caller = tokio::spawn(async move { refresh.settle(refreshed(spent, 8)).await });
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

#[tokio::test]
async fn a_commit_returns_the_record_after_it_without_swept_sign_ins() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    f.store.change(&alice(), Change::Start(pending("state-old"))).await.expect("writable");
    f.clock.advance(15 * 60 + 2 * DAY);
    let held = hold_the_global_lock(&f);
    let change = |account: &str| Change::Account {
        lineage: session.lineage,
        account: Some(account.into()),
        subject: None,
    };
    let (store, of) = (f.store.clone(), alice());
    let first = change("bob");
    let first = tokio::spawn(async move { store.change(&of, first).await });
    until_queued(&f, 1).await;
    let (store, of) = (f.store.clone(), alice());
    let second = change("carol");
    let second = tokio::spawn(async move { store.change(&of, second).await });
    until_queued(&f, 2).await;
    drop(held);
    let first = soon(first).await.expect("no panic").expect("writable");
    let second = soon(second).await.expect("no panic").expect("writable");
    let account = |entry: &Entry| entry.session.as_ref().expect("a session").account.clone();
    assert_eq!(account(&first.before).as_deref(), Some("alice@example.com"));
    assert_eq!(account(&first.after), account(&second.before));
    assert_eq!(account(&second.after).as_deref(), Some("carol"));
    assert!(first.before.pending.is_some(), "the update met it");
    assert_eq!((&first.after.pending, &second.after.pending), (&None, &None), "the same write swept it");
    assert_eq!(f.healthy().read(&alice()).await.expect("readable"), second.after);
}

#[tokio::test]
async fn a_commit_removes_the_unread_answer_of_a_changed_or_removed_session() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let unread = f.folder.path().join("auth.json.refresh/codex%2Fuser%3A803.unread");
    let put = || fs::write(&unread, "{").expect("writable");
    put();
    let notified = Change::Notified(session.lineage);
    f.store.change(&alice(), notified).await.expect("writable");
    assert!(unread.exists(), "the session has the same revision");
    let target = session.refresh_target().expect("a refresh token");
    lock(&f.store).await.settle(refreshed(target.clone(), 8)).await.expect("writable");
    assert!(!unread.exists(), "a refresh succeeded");
    put();
    let again = lock(&f.store).await.settle(refreshed(target, 8)).await.expect("writable");
    assert_eq!((again.applied, unread.exists()), (Applied::Already, false));
    put();
    f.store.change(&alice(), Change::Logout).await.expect("writable");
    assert!(!unread.exists(), "the session is gone");
}

/// A caller that waits for a change, with the clock of its waits at rest.
async fn times_out(
    caller: tokio::task::JoinHandle<Result<Applied, StoreError>>,
    wait: Duration,
) -> Result<Applied, StoreError> {
    tokio::time::advance(wait - Duration::from_millis(1)).await;
    tokio::task::yield_now().await;
    assert!(!caller.is_finished(), "it waits for {wait:?}");
    tokio::time::advance(Duration::from_millis(2)).await;
    caller.await.expect("no panic")
}

#[tokio::test(start_paused = true)]
async fn a_change_behind_a_stuck_lock_ends_in_seconds_and_is_never_applied() {
    let f = Fixture::new();
    f.sign_in().await;
    let held = hold_the_global_lock(&f);
    let logout = queue(&f, "codex/user:803", Change::Logout).await;
    soon(async {
        while !f.store.waits_for_global_lock() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let error = times_out(logout, LOCK_WAIT).await.expect_err("the lock is held");
    assert!(matches!(&error, StoreError::Busy { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("auth.json.global.lock") && text.contains("nothing was changed"), "{text}");
    #[cfg(target_os = "linux")]
    assert!(text.contains(&std::process::id().to_string()), "it names the holder: {text}");
    // The leader still waits, so the next change knows that the lock is stuck.
    let next = queue(&f, "codex/user:803", Change::Cancel(None)).await;
    times_out(next, SHORT_WAIT).await.expect_err("the lock is still held");
    drop(held);
    let after = f.store.change(&alice(), Change::Start(pending("state-2"))).await.expect("free");
    assert!(after.before.session.is_some(), "the logout that failed was not made later");
    assert_eq!(f.store.queued(), 0);
}

#[tokio::test]
async fn a_change_whose_caller_is_gone_is_not_applied_once_the_lock_is_free() {
    let f = Fixture::new();
    f.sign_in().await;
    let held = hold_the_global_lock(&f);
    let logout = queue(&f, "codex/user:803", Change::Logout).await;
    logout.abort();
    assert!(logout.await.expect_err("aborted").is_cancelled());
    assert_eq!(f.store.queued(), 0);
    drop(held);
    let after = f.store.change(&alice(), Change::Start(pending("state-2"))).await.expect("free");
    assert!(after.before.session.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_settlement_behind_a_stuck_lock_keeps_its_tenant_locked_and_can_be_tried_again() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let spent = session.refresh_target().expect("a refresh token");
    let mut refresh = lock(&f.store).await;
    let held = hold_the_global_lock(&f);
    let first = spent.clone();
    let caller = tokio::spawn(async move {
        let settled = refresh.settle(refreshed(first, 8)).await.map(|changed| changed.applied);
        (refresh, settled)
    });
    until_queued(&f, 1).await;
    tokio::time::advance(LOCK_WAIT + Duration::from_millis(1)).await;
    let (mut refresh, settled) = caller.await.expect("no panic");
    assert!(matches!(settled, Err(StoreError::Busy { .. })), "{settled:?}");
    let other = f.healthy();
    assert!(other.try_lock(&alice(), Purpose::Refresh).await.expect("lockable").is_none());
    drop(held);
    let again = refresh.settle(refreshed(spent, 8)).await.expect("free");
    assert_eq!((again.applied, again.after.session.expect("a session").generation), (Applied::Done, 2));
}

#[tokio::test(start_paused = true)]
async fn changes_without_a_place_in_the_queue_end_in_seconds_too() {
    let f = Fixture::new();
    let held = hold_the_global_lock(&f);
    let callers: Vec<_> = (0..300)
        .map(|number| {
            let (store, tenant) =
                (f.store.clone(), format!("codex/user:{number}").parse().expect("a tenant"));
            tokio::spawn(async move { store.change(&tenant, Change::Cancel(None)).await.map(drop) })
        })
        .collect();
    until_queued(&f, 256).await;
    tokio::time::advance(LOCK_WAIT + Duration::from_millis(1)).await;
    for caller in callers {
        let result = caller.await.expect("no panic");
        assert!(matches!(result, Err(StoreError::Busy { .. })), "{result:?}");
    }
    drop(held);
    f.store.change(&alice(), Change::Start(pending("state-1"))).await.expect("free");
}
