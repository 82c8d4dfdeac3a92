//! Whoever listens is told of each change, by whomever, and of nothing else; where nothing can be watched, by the clock.

use std::os::unix::fs::symlink;

use tokio::time::{Instant, timeout};

use super::{super::changes::LOOK_EVERY, *};

const A_DAY: Duration = Duration::from_secs(86_400);

async fn told(changes: &mut Changes) {
    soon(changes.next()).await;
}

/// Who has written may close its file a moment later, and that is told too; then there is nothing more, all day long.
async fn silent_for_a_day(changes: &mut Changes) {
    for _ in 0..3 {
        if timeout(A_DAY, changes.next()).await.is_err() {
            return;
        }
    }
    panic!("somebody looks by the clock");
}

/// Another process writes; the session's access token is `access-NUMBER` then.
async fn another_process_writes(f: &Fixture, number: u32) {
    let other = f.healthy();
    let session = other.read(&alice()).await.expect("readable").session.expect("a session");
    let mut lock = lock(&other).await;
    let spent = session.refresh_target().expect("a refresh token");
    assert_eq!(lock.settle(refreshed(spent, number)).await.expect("a commit").applied, Applied::Done);
}

async fn access_token(store: &FileStore) -> String {
    let session = store.read(&alice()).await.expect("readable").session.expect("a session");
    session.access_token.expose().to_owned()
}

#[tokio::test]
async fn what_another_process_commits_is_told_to_all_who_listen_and_is_there_to_be_read() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut listeners = [f.store.changes(), f.store.changes()];
    for changes in &mut listeners {
        told(changes).await;
    }
    for number in 8..12 {
        another_process_writes(&f, number).await;
        for changes in &mut listeners {
            while access_token(&f.store).await != format!("access-{number}") {
                told(changes).await;
            }
            told(changes).await;
        }
    }
    let mut late = f.store.changes();
    told(&mut late).await;
}

#[tokio::test]
async fn a_store_that_is_made_after_the_watch_is_told() {
    let f = Fixture::new();
    let mut changes = f.store.changes();
    told(&mut changes).await;
    f.sign_in().await;
    told(&mut changes).await;
    while f.store.read(&alice()).await.expect("readable").session.is_none() {
        told(&mut changes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_looks_by_the_clock_at_a_store_that_does_not_change() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut changes = f.store.changes();
    told(&mut changes).await;
    silent_for_a_day(&mut changes).await;
    another_process_writes(&f, 8).await;
    let since = Instant::now();
    told(&mut changes).await;
    assert!(since.elapsed() < LOOK_EVERY);
    assert_eq!(access_token(&f.store).await, "access-8");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_written_all_the_time_is_told_of_a_few_times_and_of_its_last_state() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut changes = f.store.changes();
    told(&mut changes).await;
    let store = f.store.clone();
    let listener = tokio::spawn(async move {
        let (mut notices, mut seen) = (0, String::new());
        while timeout(A_DAY, changes.next()).await.is_ok() {
            notices += 1;
            seen = access_token(&store).await;
        }
        (notices, seen)
    });
    // The clock stands still meanwhile: a runtime that has work does not move it.
    for number in 8..108 {
        another_process_writes(&f, number).await;
    }
    let (notices, seen) = listener.await.expect("it ends");
    assert!((1..10).contains(&notices), "{notices} notices of a hundred commits");
    assert_eq!(seen, "access-107");
}

#[tokio::test]
async fn a_symlink_that_is_switched_and_a_folder_that_is_made_again_are_told_and_watched_from_then_on() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let at = |name: &str| f.folder.path().join(name);
    let make = |name: &str| {
        fs::create_dir(at(name)).expect("made");
        chmod(&at(name), 0o700);
        fs::copy(f.path(), at(name).join("auth.json")).expect("copied");
    };
    make("one");
    make("two");
    symlink("one", at("link")).expect("linked");
    let store = open(&at("link/auth.json"), &f.clock);
    let mut changes = store.changes();
    told(&mut changes).await;
    let mut until = async |signed_in: bool| {
        while store.read(&alice()).await.expect("readable").session.is_some() != signed_in {
            told(&mut changes).await;
        }
    };
    let [one, two] = ["one", "two"].map(|name| open(&at(name).join("auth.json"), &f.clock));
    one.change(&alice(), Change::Logout).await.expect("writable");
    until(false).await;
    symlink("two", at("new")).expect("linked");
    fs::rename(at("new"), at("link")).expect("switched");
    until(true).await;
    two.change(&alice(), Change::Logout).await.expect("writable");
    until(false).await;

    // Somebody's shell is in it.
    let _held = fs::File::open(at("two")).expect("opened");
    fs::remove_dir_all(at("two")).expect("removed");
    make("two");
    until(true).await;
    two.change(&alice(), Change::Logout).await.expect("writable");
    until(false).await;
    sign_in(&two, &alice(), session).await;
    until(true).await;
}

#[tokio::test(start_paused = true)]
async fn where_the_system_refuses_to_watch_it_is_looked_at_by_the_clock_until_that_works() {
    for limit in ["EMFILE", "ENOSPC"] {
        let f = Fixture::failing(&format!("watch:{limit}#1"));
        let session = f.sign_in().await;
        let mut changes = f.store.changes();
        told(&mut changes).await;
        let since = Instant::now();
        f.healthy().change(&alice(), Change::Logout).await.expect("writable");
        told(&mut changes).await;
        assert_eq!(since.elapsed().as_secs(), LOOK_EVERY.as_secs(), "{limit}");
        assert!(f.store.read(&alice()).await.expect("readable").session.is_none());

        // The second attempt to watch has worked.
        sign_in(&f.healthy(), &alice(), session).await;
        let since = Instant::now();
        told(&mut changes).await;
        assert!(since.elapsed() < LOOK_EVERY, "{limit}");
        silent_for_a_day(&mut changes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_file_system_that_is_only_trusted_it_is_looked_at_by_the_clock_too() {
    let f = Fixture::new();
    f.sign_in().await;
    let options = FileStoreOptions { trust_filesystem: true };
    let store = FileStore::open(&f.path(), f.clock.clone(), options).expect("a store");
    let mut changes = store.changes();
    for _ in 0..3 {
        timeout(2 * LOOK_EVERY, changes.next()).await.expect("another machine may have written");
    }
}

#[tokio::test]
async fn the_watch_ends_with_its_last_listener_and_the_next_one_begins_another() {
    let f = Fixture::new();
    f.sign_in().await;
    let first = f.store.changes();
    let mut second = first.clone();
    told(&mut second).await;
    drop((first, second));
    soon(async {
        while f.store.is_watched() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut third = f.store.changes();
    told(&mut third).await;
    another_process_writes(&f, 8).await;
    told(&mut third).await;
}
