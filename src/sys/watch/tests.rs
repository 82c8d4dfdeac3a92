//! What each kind of change does to a watch. The kernel queues an event before the call that causes it returns, so nothing here waits.
#![expect(clippy::disallowed_methods, reason = "the tests lay out files and change them")]

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink},
};

use tempfile::TempDir;

use super::*;

/// A folder with `store/auth.json` in it, and a watch.
struct Scene {
    folder: TempDir,
    watch: PathWatch,
}

impl Scene {
    /// The watch is on `path` in the folder, after `lay` has laid it out.
    fn new(path: &str, lay: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("store")).expect("a folder");
        fs::write(folder.path().join("store/auth.json"), "one").expect("writable");
        lay(folder.path());
        let watch = PathWatch::new(&folder.path().join(path)).expect("a watch");
        let mut scene = Self { folder, watch };
        assert!(!scene.told(), "nothing has happened yet");
        scene
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Whether something was told, and follows the path anew.
    fn told(&mut self) -> bool {
        let mut told = false;
        loop {
            match self.watch.watcher.get_mut().read() {
                Ok(matters) => told |= matters,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        if told {
            self.watch.follow().expect("the path can be followed");
        }
        told
    }

    /// A new file is moved onto `path`.
    fn replace(&self, path: &str) {
        let new = self.at(path).with_file_name(".new");
        fs::write(&new, "other").expect("writable");
        fs::rename(new, self.at(path)).expect("renamed");
    }
}

#[tokio::test]
async fn a_file_that_is_moved_into_place_edited_opened_to_others_or_removed_is_told_and_its_neighbours_are_not()
 {
    let mut scene = Scene::new("store/auth.json", |_| {});
    for _ in 0..3 {
        scene.replace("store/auth.json");
        assert!(scene.told());
    }
    fs::write(scene.at("store/auth.json"), "in place").expect("writable");
    assert!(scene.told());
    fs::set_permissions(scene.at("store/auth.json"), Permissions::from_mode(0o644)).expect("ours");
    assert!(scene.told());
    fs::set_permissions(scene.at("store"), Permissions::from_mode(0o777)).expect("ours");
    assert!(scene.told());
    fs::remove_file(scene.at("store/auth.json")).expect("removed");
    assert!(scene.told());
    fs::write(scene.at("store/auth.json"), "again").expect("writable");
    assert!(scene.told());

    scene.replace("store/conversations.json");
    fs::write(scene.at("store/auth.json.global.lock"), "").expect("writable");
    fs::create_dir(scene.at("store/auth.json.refresh")).expect("made");
    fs::write(scene.at("store/auth.json.refresh/x"), "").expect("writable");
    fs::write(scene.at("beside"), "").expect("writable");
    assert!(!scene.told());
}

#[tokio::test]
async fn a_switched_symlink_is_told_and_from_then_on_what_it_leads_to() {
    for link in ["link.json", "step/auth.json", "far/step/auth.json"] {
        let mut scene = Scene::new(link, |folder| {
            fs::create_dir(folder.join("other")).expect("made");
            fs::write(folder.join("other/auth.json"), "two").expect("writable");
            symlink("store/auth.json", folder.join("link.json")).expect("linked");
            symlink(folder.join("store"), folder.join("step")).expect("linked");
            symlink("other/..", folder.join("far")).expect("linked");
        });
        scene.replace("store/auth.json");
        assert!(scene.told(), "{link}");

        let (name, target) = if link == "link.json" { (link, "other/auth.json") } else { ("step", "other") };
        symlink(target, scene.at("new")).expect("linked");
        fs::rename(scene.at("new"), scene.at(name)).expect("renamed");
        assert!(scene.told(), "{link}: switched in one step");
        scene.replace("store/auth.json");
        assert!(!scene.told(), "{link}: the old target counts no more");
        scene.replace("other/auth.json");
        assert!(scene.told(), "{link}: the new one does");

        fs::remove_file(scene.at(name)).expect("removed");
        assert!(scene.told(), "{link}: removed");
        symlink(target.replace("other", "store"), scene.at(name)).expect("linked");
        assert!(scene.told(), "{link}: made again");
        scene.replace("store/auth.json");
        assert!(scene.told(), "{link}: and it leads back");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_symlink_that_is_switched_is_told_although_somebody_has_it_open() {
    let mut scene = Scene::new("step/auth.json", |folder| {
        symlink("store", folder.join("step")).expect("linked");
        fs::create_dir(folder.join("other")).expect("made");
    });
    let mut itself = fs::OpenOptions::new();
    itself.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
    let _held = itself.open(scene.at("step")).expect("opened");
    symlink("other", scene.at("new")).expect("linked");
    fs::rename(scene.at("new"), scene.at("step")).expect("renamed");
    assert!(scene.told());
    fs::write(scene.at("other/auth.json"), "two").expect("writable");
    assert!(scene.told());
}

#[tokio::test]
async fn a_folder_that_is_removed_and_made_again_is_watched_again_although_somebody_has_it_open() {
    let mut scene = Scene::new("store/auth.json", |_| {});
    for held in [false, true, true] {
        let shell = held.then(|| File::open(scene.at("store")).expect("opened"));
        fs::remove_dir_all(scene.at("store")).expect("removed");
        assert!(scene.told());
        fs::create_dir(scene.at("store")).expect("made");
        assert!(scene.told());
        fs::write(scene.at("store/auth.json"), "again").expect("writable");
        assert!(scene.told(), "held: {held}");
        drop(shell);
        scene.told();
    }
    // All of it at once, before anybody looked.
    let _shell = File::open(scene.at("store")).expect("opened");
    fs::remove_dir_all(scene.at("store")).expect("removed");
    fs::create_dir(scene.at("store")).expect("made");
    assert!(scene.told());
    fs::write(scene.at("store/auth.json"), "again").expect("writable");
    assert!(scene.told());
}

#[tokio::test]
async fn a_folder_above_that_is_renamed_or_replaced_is_told() {
    let mut scene = Scene::new("a/b/auth.json", |folder| {
        fs::create_dir_all(folder.join("a/b")).expect("made");
        fs::write(folder.join("a/b/auth.json"), "one").expect("writable");
    });
    fs::rename(scene.at("a"), scene.at("old")).expect("renamed");
    assert!(scene.told());
    scene.replace("old/b/auth.json");
    assert!(!scene.told(), "it is another store now");
    fs::rename(scene.at("old"), scene.at("a")).expect("renamed");
    assert!(scene.told());
    scene.replace("a/b/auth.json");
    assert!(scene.told());
}

#[tokio::test]
async fn a_path_that_is_not_there_yet_is_watched_step_by_step() {
    let mut scene = Scene::new("data/threadkey/auth.json", |_| {});
    fs::create_dir(scene.at("elsewhere")).expect("made");
    assert!(!scene.told());
    fs::create_dir(scene.at("data")).expect("made");
    assert!(scene.told());
    symlink("../store", scene.at("data/threadkey")).expect("linked");
    assert!(scene.told(), "and with the symlink there is a file");
    fs::write(scene.at("data/neighbour"), "").expect("writable");
    assert!(!scene.told());
    scene.replace("store/auth.json");
    assert!(scene.told());
}

#[cfg(target_os = "linux")]
#[test]
fn a_queue_that_overflows_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("auth.json"), "one").expect("writable");
    fs::write(at("a"), "a neighbour").expect("writable");
    let mut watcher = Watcher::new().expect("a watch");
    assert!(walk(&mut watcher, &at("auth.json"), Steps::Quiet).expect("it is there") == Found::There);
    let longest = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("readable");
    let longest: usize = longest.trim().parse().expect("a number");
    for _ in 0..longest / 4 + 1 {
        // Two events each.
        fs::rename(at("a"), at("b")).expect("renamed");
        fs::rename(at("b"), at("a")).expect("renamed");
    }
    fs::remove_file(at("auth.json")).expect("removed, and for this the queue has no room");
    let mut told = false;
    while let Ok(matters) = watcher.read() {
        told |= matters;
    }
    assert!(told);
}

/// Whoever may pass through a folder without listing it, is told that the watch does not see all.
#[cfg(target_os = "linux")]
#[test]
#[expect(unsafe_code, reason = "one thread becomes another user")]
fn a_folder_that_may_be_passed_and_not_listed_is_passed_and_said_to_be_unseen() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("closed/open/auth.json");
    fs::create_dir_all(folder.path().join("closed/open")).expect("made");
    fs::write(&file, "one").expect("writable");
    for (path, mode) in [("", 0o755), ("closed/open", 0o777), ("closed", 0o111)] {
        fs::set_permissions(folder.path().join(path), Permissions::from_mode(mode)).expect("ours");
    }
    let looked = std::thread::spawn(move || {
        // SAFETY: plain numbers; the bare call changes this thread alone, which ends with this closure. Whoever is not root stays.
        unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _inside = runtime.enter();
        let mut watch = PathWatch::new(&file).expect("a watch");
        assert!(!watch.sees_all());
        let new = file.with_file_name(".new");
        fs::write(&new, "two").expect("writable");
        fs::rename(new, file).expect("renamed");
        while !watch.watcher.get_mut().read().expect("there is something to read") {}
    });
    looked.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
    fs::set_permissions(folder.path().join("closed"), Permissions::from_mode(0o755)).expect("ours");
}

#[tokio::test]
async fn a_change_that_came_before_the_wait_ends_it_at_once() {
    let mut scene = Scene::new("store/auth.json", |_| {});
    scene.replace("store/auth.json");
    let told = tokio::time::timeout(Duration::from_secs(30), scene.watch.changed()).await;
    told.expect("it is told").expect("without an error");
}
