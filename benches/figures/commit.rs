//! A commit, compared with a bare write, fsync, rename and fsync of the folder for a file of the
//! same size. Three cases: a process that has the store open, a process that has just opened it,
//! and many commits at once.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use threadkey::{
    ids::Lineage,
    session::{Applied, Change},
    store::{FileStore, Store},
};
use tokio::runtime::Runtime;

use crate::lab::{Lab, Token, in_turn, row, tenant, timed};

/// Tasks that commit at the same time, where throughput is measured.
const WRITERS: usize = 8;

/// Commits of each writer.
const EACH: usize = 4;

pub(crate) fn measure() {
    let lab = Lab::new();
    let runtime = Runtime::new().expect("a runtime");
    for (sessions, rounds) in [(1, 51), (100, 51), (1_000, 31), (10_000, 9)] {
        lab.fill(sessions, Token::Fresh);
        let store = Arc::new(lab.store());
        let (path, size) = (lab.path(), fs::metadata(lab.path()).expect("there").len() as usize);
        let lineage = runtime.block_on(lineage(&store));
        let folder: Arc<Path> = path.parent().expect("it has one").into();
        let bytes: Arc<[u8]> = vec![b'x'; size].into();
        // The disk frees the previous file after it has reported success. A change without effect
        // waits until that is done. Otherwise the bare write would wait for it.
        let bare = || {
            runtime.block_on(change_nothing(&store));
            bare(&runtime, &folder, &bytes)
        };
        let (one, other) = in_turn(rounds, || timed(|| runtime.block_on(commit(&store, lineage))), bare);
        row(&format!("one commit, {sessions} sessions"), one, "bare write of that size", other);
        let (first, other) =
            in_turn(rounds, || timed(|| runtime.block_on(commit(&lab.store(), lineage))), bare);
        row(
            &format!("… the first of a process, {sessions} sessions"),
            first,
            "bare write of that size",
            other,
        );
        let many = || {
            let time = timed(|| runtime.block_on(commit_at_once(&store, lineage)));
            time / (WRITERS * EACH) as u32
        };
        let (many, other) = in_turn(rounds / 8 + 1, many, bare);
        row(
            &format!("each of {} commits by {WRITERS} writers at once, {sessions} sessions", WRITERS * EACH),
            many,
            "bare write of that size",
            other,
        );
    }
}

async fn lineage(store: &FileStore) -> Lineage {
    store.read(&tenant()).await.expect("readable").session.expect("a session").lineage
}

async fn commit(store: &FileStore, lineage: Lineage) {
    // The length differs each time, so that all later bytes of the file move.
    static COMMITS: AtomicUsize = AtomicUsize::new(0);
    let account = "x".repeat(COMMITS.fetch_add(1, Ordering::Relaxed) % 13) + "@example.com";
    let change = Change::Account { lineage, account: Some(account), subject: None };
    assert_eq!(store.change(&tenant(), change).await.expect("writable").applied, Applied::Done);
}

async fn change_nothing(store: &FileStore) {
    assert_eq!(
        store.change(&tenant(), Change::Cancel(None)).await.expect("readable").applied,
        Applied::Stale
    );
}

async fn commit_at_once(store: &Arc<FileStore>, lineage: Lineage) {
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    commit(&store, lineage).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
}

/// Writes on a thread of the pool, as commits do. The disk's interrupts go to one processor, and a
/// thread on that processor waits less.
fn bare(runtime: &Runtime, folder: &Arc<Path>, bytes: &Arc<[u8]>) -> Duration {
    let (folder, bytes) = (folder.clone(), bytes.clone());
    let written = runtime.spawn_blocking(move || timed(|| write_bare(&folder, &bytes)));
    runtime.block_on(written).expect("no panic")
}

fn write_bare(folder: &Path, bytes: &[u8]) {
    let (temp, path) = (folder.join("bare.tmp"), folder.join("bare"));
    let mut file = File::create(&temp).expect("writable");
    file.write_all(bytes).expect("writable");
    file.sync_all().expect("durable");
    fs::rename(&temp, &path).expect("replaceable");
    File::open(folder).and_then(|folder| folder.sync_all()).expect("durable");
}
