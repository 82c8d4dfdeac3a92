//! Which changes of a folder end a wait. The kernel queues an event before the system call that
//! causes it returns, so no test here waits.
#![expect(clippy::disallowed_methods, reason = "the tests lay out files and change them")]

use std::{
    fs::{self, File},
    io::Read as _,
    path::PathBuf,
    time::Duration,
};

use tempfile::TempDir;

use super::FolderWatch;

/// A folder with `auth.json` in it, and a watch on that.
struct Scene {
    folder: TempDir,
    watch: FolderWatch,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("auth.json"), "one").expect("writable");
        let watch = FolderWatch::new(&folder.path().join("auth.json")).expect("a watch");
        Self { folder, watch }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Moves a new file onto `path`.
    fn replace(&self, path: &str) {
        let new = self.at(path).with_file_name(".new");
        fs::write(&new, "other").expect("writable");
        fs::rename(new, self.at(path)).expect("renamed");
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_removed_made_or_moved_away_ends_the_wait() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.replace("auth.json");
        assert!(scene.watch.has_changed());
    }
    fs::remove_file(scene.at("auth.json")).expect("removed");
    assert!(scene.watch.has_changed());
    fs::write(scene.at("auth.json"), "again").expect("writable");
    assert!(scene.watch.has_changed());
    fs::rename(scene.at("auth.json"), scene.at("old")).expect("renamed");
    assert!(scene.watch.has_changed());
}

#[tokio::test]
async fn changes_of_other_files_do_not_end_the_wait() {
    let mut scene = Scene::new();
    scene.replace("conversations.json");
    fs::write(scene.at("auth.json.global.lock"), "").expect("writable");
    fs::create_dir(scene.at("auth.json.refresh")).expect("made");
    fs::write(scene.at("auth.json.refresh/auth.json"), "").expect("writable");
    assert!(!scene.watch.has_changed());
}

#[tokio::test]
async fn twenty_four_readers_queue_no_event() {
    let mut scene = Scene::new();
    let reader = |path: PathBuf| {
        std::thread::spawn(move || {
            for _ in 0..10 {
                let mut text = String::new();
                File::open(&path).expect("there").read_to_string(&mut text).expect("readable");
            }
        })
    };
    let readers: Vec<_> = (0..24).map(|_| reader(scene.at("auth.json"))).collect();
    for reader in readers {
        reader.join().expect("no panic");
    }
    assert!(!scene.watch.is_awake());
    scene.replace("auth.json");
    assert!(scene.watch.is_awake(), "a writer does");
}

#[tokio::test]
async fn another_folder_that_is_followed_takes_the_place_of_the_first() {
    let mut scene = Scene::new();
    fs::create_dir(scene.at("other")).expect("made");
    scene.replace("auth.json");
    let file = scene.at("other/auth.json");
    scene.watch.follow(&file).expect("a watch");
    assert!(!scene.watch.has_changed(), "the caller looks after it has followed");
    scene.replace("auth.json");
    assert!(!scene.watch.has_changed());
    scene.replace("other/auth.json");
    assert!(scene.watch.has_changed());
}

#[tokio::test]
async fn a_folder_that_is_followed_again_keeps_its_events() {
    let mut scene = Scene::new();
    scene.replace("auth.json");
    let file = scene.at("auth.json");
    scene.watch.follow(&file).expect("a watch");
    assert!(scene.watch.has_changed());
}

#[tokio::test]
async fn a_folder_that_is_removed_ends_the_wait_and_can_be_followed_once_it_is_made_again() {
    let mut scene = Scene::new();
    fs::create_dir(scene.at("store")).expect("made");
    let file = scene.at("store/auth.json");
    scene.watch.follow(&file).expect("a watch");
    fs::remove_dir(scene.at("store")).expect("removed");
    assert!(scene.watch.has_changed());
    let gone = scene.watch.follow(&file).expect_err("there is no folder");
    assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
    fs::create_dir(scene.at("store")).expect("made");
    scene.watch.follow(&file).expect("a watch");
    scene.replace("store/auth.json");
    assert!(scene.watch.has_changed());
}

#[tokio::test]
async fn a_queue_that_overflows_ends_the_wait() {
    let mut scene = Scene::new();
    fs::write(scene.at("a"), "a neighbour").expect("writable");
    let longest = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("readable");
    let longest: usize = longest.trim().parse().expect("a number");
    for _ in 0..longest / 4 + 1 {
        // Two events each.
        fs::rename(scene.at("a"), scene.at("b")).expect("renamed");
        fs::rename(scene.at("b"), scene.at("a")).expect("renamed");
    }
    fs::remove_file(scene.at("auth.json")).expect("removed, and the queue has no room for this");
    assert!(scene.watch.has_changed());
}

#[tokio::test]
async fn a_change_before_the_wait_ends_it_at_once() {
    let mut scene = Scene::new();
    scene.replace("auth.json");
    let changed = tokio::time::timeout(Duration::from_secs(30), scene.watch.changed()).await;
    changed.expect("it ends").expect("without an error");
}
