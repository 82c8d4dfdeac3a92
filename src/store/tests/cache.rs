//! A read of an unchanged file costs a stat, a change of it no read, and no change of the file is
//! missed.

use std::os::unix::fs::symlink;
use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

use super::*;

/// A store that counts how often its file is opened for reading.
fn counting() -> (Fixture, Arc<AtomicU32>) {
    let opened = Arc::new(AtomicU32::new(0));
    let count = opened.clone();
    let hook = move |_: &Path| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    (Fixture::with(Faults::hook("open@auth.json", Box::new(hook))), opened)
}

async fn access_token(store: &FileStore) -> Option<String> {
    let session = store.read(&alice()).await.expect("readable").session;
    session.map(|session| session.access_token.expose().to_owned())
}

#[tokio::test]
async fn a_store_that_has_not_changed_is_read_once() {
    let (f, opened) = counting();
    let session = f.sign_in().await;
    for _ in 0..5 {
        assert_eq!(f.store.read(&alice()).await.expect("readable").session.as_ref(), Some(&session));
        assert_eq!(f.store.list().await.expect("readable").len(), 1);
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    assert!(f.store.current().is_some_and(|records| records.contains_key(&alice())));
}

#[tokio::test]
async fn the_next_read_sees_another_processs_commit() {
    let f = Fixture::new();
    let mut session = f.sign_in().await;
    let other = f.healthy();
    for number in 8..40 {
        assert!(access_token(&f.store).await.is_some());
        let mut lock = lock(&other).await;
        let spent = session.refresh_target().expect("a refresh token");
        assert_eq!(lock.settle(refreshed(spent, number)).await.expect("a commit").applied, Applied::Done);
        drop(lock);
        // The two files have the same length and time, so only their inode numbers differ.
        assert!(f.store.current().is_none(), "{number}");
        assert_eq!(access_token(&f.store).await, Some(format!("access-{number}")));
        session = f.store.read(&alice()).await.expect("readable").session.expect("a session");
    }
}

#[tokio::test]
async fn the_next_read_sees_a_commit_of_the_same_process() {
    let f = Fixture::new();
    f.sign_in().await;
    assert!(access_token(&f.store).await.is_some());
    f.store.change(&alice(), Change::Logout).await.expect("writable");
    assert_eq!(access_token(&f.store).await, None);
}

#[tokio::test]
async fn the_next_read_sees_a_changed_symlink_and_a_file_moved_into_place() {
    let f = Fixture::new();
    let at = |name: &str| f.folder.path().join(name);
    f.sign_in().await;
    fs::write(at("other.json"), f.text().replace("access-7", "access-8")).expect("writable");
    chmod(&at("other.json"), 0o600);
    symlink(f.path(), at("link.json")).expect("a link");
    let store = open(&at("link.json"), &f.clock);
    assert_eq!(access_token(&store).await.as_deref(), Some("access-7"));
    fs::remove_file(at("link.json")).expect("a link");
    symlink(at("other.json"), at("link.json")).expect("a link");
    assert_eq!(access_token(&store).await.as_deref(), Some("access-8"));

    assert_eq!(access_token(&f.store).await.as_deref(), Some("access-7"));
    fs::rename(at("other.json"), f.path()).expect("movable");
    assert_eq!(access_token(&f.store).await.as_deref(), Some("access-8"));
}

#[tokio::test]
async fn a_file_edited_in_place_is_read_again() {
    let f = Fixture::new();
    f.sign_in().await;
    assert!(access_token(&f.store).await.is_some());
    f.put(f.text().replace("access-7", "access-number-8"));
    assert_eq!(access_token(&f.store).await.as_deref(), Some("access-number-8"));
    f.put("{");
    f.store.read(&alice()).await.expect_err("corrupt is not what was read before");
}

#[tokio::test]
async fn a_cached_store_is_refused_once_its_file_is_open_to_others() {
    let f = Fixture::new();
    f.sign_in().await;
    assert!(access_token(&f.store).await.is_some());
    chmod(&f.path(), 0o644);
    let error = f.store.read(&alice()).await.expect_err("open to others");
    assert!(error.to_string().contains("chmod 600"), "{error}");
    chmod(&f.path(), 0o600);
    assert!(access_token(&f.store).await.is_some());
}

#[tokio::test]
async fn a_cached_store_is_empty_once_its_file_is_removed() {
    let f = Fixture::new();
    f.sign_in().await;
    assert!(access_token(&f.store).await.is_some());
    fs::remove_file(f.path()).expect("there");
    assert_eq!(f.store.read(&alice()).await.expect("empty"), Entry::default());
    assert!(f.store.current().is_none());
}

#[tokio::test]
async fn on_a_file_system_that_is_only_trusted_each_read_opens_the_file() {
    let f = Fixture::new();
    f.sign_in().await;
    let options = FileStoreOptions { trust_filesystem: true };
    let disk = Arc::new(RealDisk::with(Faults::default()));
    let store = FileStore::on_disk(disk, &f.path(), f.clock.clone(), options).expect("a store");
    assert!(access_token(&store).await.is_some());
    assert!(store.current().is_none());
}

async fn start(store: &FileStore, tenant: &str) -> Result<Applied, StoreError> {
    let start = Change::Start(pending("state-1"));
    store.change(&tenant.parse().expect("a tenant"), start).await.map(|changed| changed.applied)
}

/// The tenants in the file, read by a process that has nothing cached.
async fn tenants(f: &Fixture) -> Vec<String> {
    f.healthy().list().await.expect("readable").keys().map(ToString::to_string).collect()
}

#[tokio::test]
async fn commits_and_reads_of_a_process_that_has_the_store_open_read_nothing() {
    let (f, opened) = counting();
    f.sign_in().await;
    for number in 0..5 {
        start(&f.store, &format!("codex/user:{number}")).await.expect("writable");
        assert_eq!(f.store.list().await.expect("readable").len(), 2 + number);
        assert!(f.store.current().is_some(), "it knows what it wrote");
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    assert_eq!(tenants(&f).await.len(), 6);
}

#[tokio::test]
async fn a_process_that_locks_reads_and_commits_reads_the_file_once() {
    let (f, opened) = counting();
    let session = f.sign_in().await;
    let mut lock = lock(&f.store).await;
    assert_eq!(f.store.read(&alice()).await.expect("readable").session.as_ref(), Some(&session));
    let spent = session.refresh_target().expect("a refresh token");
    assert_eq!(lock.settle(refreshed(spent, 8)).await.expect("a commit").applied, Applied::Done);
    drop(lock);
    assert_eq!(access_token(&f.store).await.as_deref(), Some("access-8"));
    assert_eq!(opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_commit_overwrites_no_commit_or_edit_of_other_programs() {
    let f = Fixture::new();
    f.sign_in().await;
    start(&f.store, "codex/user:1").await.expect("writable");
    start(&f.healthy(), "codex/user:2").await.expect("writable");
    start(&f.store, "codex/user:3").await.expect("writable");
    f.put(f.text().replace("access-7", "access-number-8"));
    start(&f.store, "codex/user:4").await.expect("writable");
    assert_eq!(
        tenants(&f).await,
        ["codex/user:1", "codex/user:2", "codex/user:3", "codex/user:4", "codex/user:803"]
    );
    assert_eq!(access_token(&f.healthy()).await.as_deref(), Some("access-number-8"));
    fs::remove_file(f.path()).expect("there");
    start(&f.store, "codex/user:5").await.expect("writable");
    assert_eq!(tenants(&f).await, ["codex/user:5"]);
}

#[tokio::test]
async fn an_edit_right_after_the_rename_is_not_taken_for_the_written_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("auth.json");
    let edited = path.clone();
    let edit = move |_: &Path| {
        let text = fs::read_to_string(&edited).expect("there").replace("verifier-1", "verifier-edited");
        fs::write(&edited, text).expect("writable");
    };
    // The temp file's descriptor is examined before the rename and after it.
    let faults = Faults::hook("fstat@.tmp#2", Box::new(edit));
    let store = on_disk(&path, faults, &Clock::fixed(NOW)).expect("a store");
    start(&store, "codex/user:1").await.expect("writable");
    assert!(store.current().is_none());
    start(&store, "codex/user:2").await.expect("writable");
    let entries = store.list().await.expect("readable");
    let verifiers: Vec<_> =
        entries.values().map(|entry| entry.pending.as_ref().expect("started").verifier.expose()).collect();
    assert_eq!(verifiers, ["verifier-edited", "verifier-1"]);
}

#[tokio::test]
async fn a_read_during_a_write_gets_the_records_before_or_after_without_opening_the_file() {
    let (readers, store) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None::<FileStore>)));
    let hook = {
        let (readers, store) = (readers.clone(), store.clone());
        move |_: &Path| {
            let Some(store) = store.lock().expect("whole").clone() else { return };
            let runtime = tokio::runtime::Handle::current();
            let read = move || runtime.block_on(async { store.list().await.expect("readable") });
            readers.lock().expect("whole").push(std::thread::spawn(read));
        }
    };
    for call in ["write", "fsync", "rename", "fstat@.tmp", "fsync-folder"] {
        let f = Fixture::with(Faults::hook(call, Box::new(hook.clone())));
        start(&f.store, "codex/user:1").await.expect("writable");
        let before = f.store.list().await.expect("readable");
        *store.lock().expect("whole") = Some(f.store.clone());
        start(&f.store, "codex/user:2").await.expect("writable");
        *store.lock().expect("whole") = None;
        let after = f.store.list().await.expect("readable");
        assert_eq!((before.len(), after.len()), (1, 2));
        let readers = std::mem::take(&mut *readers.lock().expect("whole"));
        assert!(!readers.is_empty(), "{call}");
        for reader in readers {
            let seen = tokio::task::spawn_blocking(move || reader.join().expect("no panic"));
            let seen = soon(seen).await.expect("no panic");
            assert!(Arc::ptr_eq(&seen, &before) || Arc::ptr_eq(&seen, &after), "{call}");
        }
    }
}

#[tokio::test]
async fn after_a_failed_write_the_next_change_begins_with_the_file() {
    for fault in ["write@.tmp:ENOSPC#1", "fsync@.tmp:EIO#1", "rename:EIO#1", "fsync-folder:EIO#1"] {
        let f = Fixture::failing(fault);
        f.sign_in().await;
        assert_eq!(f.store.list().await.expect("readable").len(), 1);
        start(&f.store, "codex/user:2").await.expect_err(fault);
        assert!(f.store.current().is_none(), "{fault}");
        start(&f.store, "codex/user:3").await.expect("well again");
        let there = tenants(&f).await;
        assert!(
            there.contains(&"codex/user:803".into()) && there.contains(&"codex/user:3".into()),
            "{there:?}"
        );
        assert_eq!(f.store.list().await.expect("readable").len(), there.len(), "{fault}");
    }
}

#[tokio::test]
async fn on_a_file_system_that_is_only_trusted_a_change_reads_the_file() {
    let (opened, folder) = (Arc::new(AtomicU32::new(0)), tempfile::tempdir().expect("a folder"));
    let count = opened.clone();
    let hook = move |_: &Path| {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let disk = Arc::new(RealDisk::with(Faults::hook("read@auth.json", Box::new(hook))));
    let options = FileStoreOptions { trust_filesystem: true };
    let path = folder.path().join("auth.json");
    let store = FileStore::on_disk(disk, &path, Clock::fixed(NOW), options).expect("a store");
    for number in 0..3 {
        start(&store, &format!("codex/user:{number}")).await.expect("writable");
        assert_eq!(opened.load(Ordering::SeqCst), number, "all but the first have a file to read");
    }
}
