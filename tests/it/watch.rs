//! A watch on a path that another thread changes in every way at once.
//!
//! Fault model: files are moved into place, edited, removed; symlinks on the way are switched, in one step or two; folders are
//! removed, made again, renamed, and held open by somebody; and all of that while the path is being followed. Invariant: whoever
//! reads after each notice, and at no other time, ends with what is there at the end.
#![expect(clippy::disallowed_methods, reason = "the test's own files are not the program's")]

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use threadkey::sys::watch::PathWatch;

use crate::support::random::Random;

/// How many times what is there at the end is compared.
const ROUNDS: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_a_path_who_reads_at_each_notice_ends_with_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    for name in ["one", "two"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    symlink("one", root.join("link")).unwrap();
    let path = root.join("link/auth.json");
    let mut random = Random::from_variable("THREADKEY_WATCH_SEED");
    let mut watch = PathWatch::new(&path).unwrap();
    for round in 1..=ROUNDS {
        let (seed, last, root) = (random.next(), format!("state {round}"), root.clone());
        let changing = tokio::task::spawn_blocking({
            let last = last.clone();
            move || change(&root, &mut Random::new(seed), &last)
        });
        let seen = async {
            // What was there before the first notice counts as read.
            while fs::read_to_string(&path).ok().as_ref() != Some(&last) {
                watch.changed().await.unwrap();
                watch.follow().unwrap();
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
        let log = changing.await.unwrap();
        seen.unwrap_or_else(|_| panic!("round {round}: the last state was not told, after {log:#?}"));
    }
}

/// Some changes at random, and then one that puts `last` at the path. Says what it did.
fn change(root: &Path, random: &mut Random, last: &str) -> Vec<String> {
    let mut log = Vec::new();
    let mut held = Vec::new();
    for step in 0..random.below(8) {
        let name = ["one", "two"][random.below(2) as usize];
        let (at, file) = (root.join(name), root.join(name).join("auth.json"));
        // Each may fail for what the one before has done; then it is none.
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
