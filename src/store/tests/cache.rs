//! A read of what has not changed costs a stat, and what has changed is never missed.

use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A store that counts how often its file is opened to be read.
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
async fn what_another_process_committed_is_seen_by_the_next_read() {
    let f = Fixture::new();
    let mut session = f.sign_in().await;
    let other = f.healthy();
    for number in 8..40 {
        assert!(access_token(&f.store).await.is_some());
        let mut lock = lock(&other).await;
        let spent = session.to_spend().expect("a refresh token");
        assert_eq!(lock.commit(refreshed(spent, number)).await.expect("a commit"), Applied::Done);
        drop(lock);
        // Same length, and within one tick of the clock: only the file's number tells the two apart.
        assert!(f.store.current().is_none(), "{number}");
        assert_eq!(access_token(&f.store).await, Some(format!("access-{number}")));
        session = f.store.read(&alice()).await.expect("readable").session.expect("a session");
    }
}

#[tokio::test]
async fn our_own_commit_is_seen_by_the_next_read() {
    let f = Fixture::new();
    f.sign_in().await;
    assert!(access_token(&f.store).await.is_some());
    f.store.change(&alice(), Change::Logout).await.expect("writable");
    assert_eq!(access_token(&f.store).await, None);
}

#[tokio::test]
async fn a_symlink_that_leads_elsewhere_and_a_file_that_was_moved_into_place_are_seen() {
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
async fn a_file_edited_in_place_is_read_anew() {
    let f = Fixture::new();
    f.sign_in().await;
    assert!(access_token(&f.store).await.is_some());
    f.put(f.text().replace("access-7", "access-number-8"));
    assert_eq!(access_token(&f.store).await.as_deref(), Some("access-number-8"));
    f.put("{");
    f.store.read(&alice()).await.expect_err("corrupt is not what was read before");
}

#[tokio::test]
async fn a_store_that_was_opened_to_others_is_refused_although_it_was_read_before() {
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
async fn a_removed_store_is_empty_although_it_was_read_before() {
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
