//! Change notices of a store whose path another thread changes in every way at once.
//!
//! Fault model: files are moved into place, edited, removed; symlinks on the path are switched, in
//! one step or two; folders are removed, made again, renamed, and held open; and all of that while
//! the path is being resolved. Invariant: a reader that reads after each notice, and at no other
//! time, ends with the last state.
#![expect(clippy::disallowed_methods, reason = "the test's own files are not the program's")]

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use threadkey::{
    store::{FileStore, FileStoreOptions, Store as _},
    sys::clock::Clock,
};

use crate::support::random::Random;

/// How often the last state is compared.
const ROUNDS: u64 = 300;

/// The time within which a change without an event is noticed, and the rest after a notice.
const LATEST: Duration = Duration::from_secs(11);

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_after_each_notice_ends_with_the_last_state() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let root = folder.path().to_owned();
    for name in ["one", "two"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    symlink("one", root.join("link")).unwrap();
    let path = root.join("link/auth.json");
    let mut random = Random::from_variable("THREADKEY_WATCH_SEED");
    let store = FileStore::open(&path, Clock::fixed(0), FileStoreOptions::default()).unwrap();
    let mut changes = store.changes();
    for round in 1..=ROUNDS {
        let (seed, last, root) = (random.next(), format!("state {round}"), root.clone());
        let changing = tokio::task::spawn_blocking({
            let last = last.clone();
            move || change(&root, &mut Random::new(seed), &last)
        });
        let seen = async {
            // The state before the first notice counts as read.
            while fs::read_to_string(&path).ok().as_ref() != Some(&last) {
                changes.next().await;
            }
        };
        let (log, seen) = tokio::join!(changing, tokio::time::timeout(LATEST, seen));
        let log = log.unwrap();
        seen.unwrap_or_else(|_| panic!("round {round}: the last state was not noticed, after {log:#?}"));
    }
}

/// Makes some random changes, and then one that puts `last` at the path. Returns their log.
fn change(root: &Path, random: &mut Random, last: &str) -> Vec<String> {
    let mut log = Vec::new();
    let mut held = Vec::new();
    for step in 0..random.below(8) {
        let name = ["one", "two"][random.below(2) as usize];
        let (at, file) = (root.join(name), root.join(name).join("auth.json"));
        // A change may fail because of an earlier one; then it changes nothing.
        let (what, _) = match random.below(9) {
            0 => ("move into", replace(&file, "passing")),
            1 => ("edit in", fs::write(&file, "in place")),
            2 => ("remove the file of", fs::remove_file(&file)),
            3 => ("remove", fs::remove_dir_all(&at)),
            4 => ("make", fs::create_dir(&at)),
            5 => ("rename away", fs::rename(&at, root.join(format!("old-{}", random.next())))),
            6 => ("lead to", switch(root, name)),
            7 => (
                "lead anew to",
                fs::remove_file(root.join("link")).and_then(|()| symlink(name, root.join("link"))),
            ),
            _ => ("hold", File::open(&at).map(|folder| held.push(folder))),
        };
        log.push(format!("{step}: {what} {name}"));
    }
    let name = ["one", "two"][random.below(2) as usize];
    let _ = fs::create_dir(root.join(name));
    if random.one_in(2) {
        replace(&root.join(name).join("auth.json"), last).unwrap();
        switch(root, name).unwrap();
    } else {
        switch(root, name).unwrap();
        replace(&root.join(name).join("auth.json"), last).unwrap();
    }
    log.push(format!("at last: {name}"));
    log
}

fn replace(file: &PathBuf, text: &str) -> std::io::Result<()> {
    let new = file.with_file_name(".new");
    fs::write(&new, text)?;
    fs::rename(new, file)
}

fn switch(root: &Path, name: &str) -> std::io::Result<()> {
    let new = root.join(".link");
    symlink(name, &new)?;
    fs::rename(new, root.join("link"))
}
