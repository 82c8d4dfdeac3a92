//! Subscribers are notified of each change by any process, and of nothing else. Where the folder
//! cannot be watched, the clock causes a look at the store.

use std::os::unix::fs::symlink;

use tokio::time::{Instant, timeout};

use super::{
    super::change_notices::{RESOLVE_EVERY, STAT_EVERY},
    *,
};

const AN_HOUR: Duration = Duration::from_secs(3600);

async fn notified(changes: &mut ChangeNotices) {
    soon(changes.next()).await;
}

/// Asserts that an hour passes without a notice, after those of changes that were already made.
async fn silent_for_an_hour(changes: &mut ChangeNotices) {
    for _ in 0..3 {
        if timeout(AN_HOUR, changes.next()).await.is_err() {
            return;
        }
    }
    panic!("an unchanged store causes notices");
}

/// Commits in another process's place; the session's access token is `access-NUMBER` then.
async fn another_process_writes(f: &Fixture, number: u32) {
    let other = f.healthy();
    let session = other.read(&alice()).await.expect("readable").session.expect("a session");
    let mut lock = lock(&other).await;
    let target = session.refresh_target().expect("a refresh token");
    assert_eq!(lock.settle(refreshed(target, number)).await.expect("a commit").applied, Applied::Done);
}

async fn access_token(store: &FileStore) -> String {
    let session = store.read(&alice()).await.expect("readable").session.expect("a session");
    session.access_token.expose().to_owned()
}

#[tokio::test]
async fn a_commit_of_another_process_notifies_every_subscriber_and_can_be_read() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut subscribers = [f.store.changes(), f.store.changes()];
    for changes in &mut subscribers {
        notified(changes).await;
    }
    for number in 8..12 {
        another_process_writes(&f, number).await;
        for changes in &mut subscribers {
            while access_token(&f.store).await != format!("access-{number}") {
                notified(changes).await;
            }
            notified(changes).await;
        }
    }
    let mut late = f.store.changes();
    notified(&mut late).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_and_a_folder_that_are_made_after_the_subscription_are_noticed() {
    let f = Fixture::new();
    let path = f.folder.path().join("data/threadkey/auth.json");
    let store = open(&path, &f.clock);
    let mut changes = store.changes();
    notified(&mut changes).await;
    silent_for_an_hour(&mut changes).await;
    let other = open(&path, &f.clock);
    sign_in(&other, &alice(), test_session(NOW, 3600)).await;
    while store.read(&alice()).await.expect("readable").session.is_none() {
        notified(&mut changes).await;
    }
    silent_for_an_hour(&mut changes).await;
    let since = Instant::now();
    other.change(&alice(), Change::Logout).await.expect("writable");
    notified(&mut changes).await;
    assert!(since.elapsed() < STAT_EVERY, "the folder is watched by now");
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_store_causes_no_notice() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut changes = f.store.changes();
    notified(&mut changes).await;
    silent_for_an_hour(&mut changes).await;
    let since = Instant::now();
    another_process_writes(&f, 8).await;
    notified(&mut changes).await;
    assert!(since.elapsed() < STAT_EVERY);
    assert_eq!(access_token(&f.store).await, "access-8");
}

#[tokio::test(start_paused = true)]
async fn twenty_four_readers_and_no_writer_cause_no_notice() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut changes = f.store.changes();
    notified(&mut changes).await;
    silent_for_an_hour(&mut changes).await;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (path, clock) = (f.path(), f.clock.clone());
        readers.spawn(async move {
            for _ in 0..10 {
                // Each is another process's first read, which opens the file.
                assert_eq!(access_token(&open(&path, &clock)).await, "access-7");
            }
        });
    }
    let mut notices = 0;
    loop {
        tokio::select! {
            reader = readers.join_next() => match reader {
                Some(reader) => reader.expect("no panic"),
                None => break,
            },
            () = changes.next() => notices += 1,
        }
    }
    while timeout(AN_HOUR, changes.next()).await.is_ok() {
        notices += 1;
    }
    assert_eq!(notices, 0);
    another_process_writes(&f, 8).await;
    notified(&mut changes).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_written_all_the_time_causes_few_notices_and_one_of_its_last_state() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut changes = f.store.changes();
    notified(&mut changes).await;
    let store = f.store.clone();
    let subscriber = tokio::spawn(async move {
        let (mut notices, mut seen) = (0, String::new());
        while timeout(AN_HOUR, changes.next()).await.is_ok() {
            notices += 1;
            seen = access_token(&store).await;
        }
        (notices, seen)
    });
    // The clock stands still meanwhile: a runtime that has work does not move it.
    for number in 8..108 {
        another_process_writes(&f, number).await;
    }
    let (notices, seen) = subscriber.await.expect("it ends");
    assert!((1..10).contains(&notices), "{notices} notices of a hundred commits");
    assert_eq!(seen, "access-107");
}

#[tokio::test(start_paused = true)]
async fn a_switched_symlink_and_a_new_folder_of_that_name_are_noticed_within_ten_seconds() {
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
    notified(&mut changes).await;
    let mut within = async |limit: Duration, signed_in: bool| {
        let since = Instant::now();
        while store.read(&alice()).await.expect("readable").session.is_some() != signed_in {
            notified(&mut changes).await;
        }
        assert!(since.elapsed() <= limit, "{:?}", since.elapsed());
    };
    let [one, two] = ["one", "two"].map(|name| open(&at(name).join("auth.json"), &f.clock));
    one.change(&alice(), Change::Logout).await.expect("writable");
    within(STAT_EVERY, false).await;
    symlink("two", at("new")).expect("linked");
    fs::rename(at("new"), at("link")).expect("switched");
    within(RESOLVE_EVERY, true).await;
    two.change(&alice(), Change::Logout).await.expect("writable");
    within(STAT_EVERY, false).await;

    // A process that has the folder open holds back the event of its removal.
    let _held = fs::File::open(at("two")).expect("opened");
    fs::remove_dir_all(at("two")).expect("removed");
    make("two");
    within(RESOLVE_EVERY, true).await;
    two.change(&alice(), Change::Logout).await.expect("writable");
    within(STAT_EVERY, false).await;
    sign_in(&two, &alice(), session).await;
    within(STAT_EVERY, true).await;
}

#[tokio::test(start_paused = true)]
async fn an_edit_in_place_is_noticed_within_ten_seconds() {
    let f = Fixture::new();
    f.sign_in().await;
    let mut changes = f.store.changes();
    notified(&mut changes).await;
    silent_for_an_hour(&mut changes).await;
    fs::write(f.path(), f.text().replace("access-7", "access-8")).expect("writable");
    let since = Instant::now();
    notified(&mut changes).await;
    assert!(since.elapsed() <= RESOLVE_EVERY);
}

#[tokio::test(start_paused = true)]
async fn a_refused_watch_falls_back_to_a_stat_each_second_until_it_works() {
    for limit in ["EMFILE", "ENOSPC"] {
        let f = Fixture::failing(&format!("watch:{limit}"));
        let session = f.sign_in().await;
        let mut changes = f.store.changes();
        notified(&mut changes).await;
        silent_for_an_hour(&mut changes).await;
        f.healthy().change(&alice(), Change::Logout).await.expect("writable");
        let since = Instant::now();
        notified(&mut changes).await;
        assert!(since.elapsed() <= STAT_EVERY, "{limit}");
        assert!(f.store.read(&alice()).await.expect("readable").session.is_none());
        silent_for_an_hour(&mut changes).await;

        let f = Fixture::failing(&format!("watch:{limit}#1"));
        let mut changes = f.store.changes();
        notified(&mut changes).await;
        silent_for_an_hour(&mut changes).await;
        // The second attempt has worked.
        sign_in(&f.healthy(), &alice(), session).await;
        let since = Instant::now();
        notified(&mut changes).await;
        assert!(since.elapsed() < STAT_EVERY, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_file_system_that_is_only_trusted_the_clock_alone_causes_notices() {
    let f = Fixture::new();
    f.sign_in().await;
    let options = FileStoreOptions { trust_filesystem: true };
    let store = FileStore::open(&f.path(), f.clock.clone(), options).expect("a store");
    let mut changes = store.changes();
    for _ in 0..3 {
        timeout(2 * RESOLVE_EVERY, changes.next()).await.expect("another machine may have written");
    }
}

#[tokio::test]
async fn the_notifier_ends_with_its_last_subscriber_and_starts_again_with_the_next() {
    let f = Fixture::new();
    f.sign_in().await;
    let first = f.store.changes();
    let mut second = first.clone();
    notified(&mut second).await;
    drop((first, second));
    soon(async {
        while f.store.has_notifier() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut third = f.store.changes();
    notified(&mut third).await;
    another_process_writes(&f, 8).await;
    notified(&mut third).await;
}
