//! Paths, permissions and failing disks: nothing is lost, and nothing is written where it should
//! not be.

use std::os::unix::fs::symlink;

use super::*;
use crate::sys::disk::Disk as _;

fn leftovers(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.ends_with(".tmp")).collect()
}

#[tokio::test]
async fn a_missing_store_is_empty_and_is_made_private_by_the_first_change() {
    let f = Fixture::new();
    let path = f.folder.path().join("data/threadkey/auth.json");
    let store = open(&path, &f.clock);
    assert_eq!(store.read(&alice()).await.expect("empty"), Entry::default());
    assert!(!f.folder.path().join("data").exists(), "reading makes nothing");
    sign_in(&store, &alice(), test_session(NOW, 3600)).await;
    let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    assert_eq!(mode(&f.folder.path().join("data/threadkey/auth.json.global.lock")), 0o600);
}

#[tokio::test]
async fn the_first_change_makes_folders_durable_that_another_process_may_have_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data/threadkey/auth.json");
    fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    chmod(path.parent().expect("a folder"), 0o700);
    let synced = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = synced.clone();
    let note = move |path: &Path| seen.lock().expect("whole").push(path.to_owned());
    let clock = Clock::fixed(NOW);
    let store = on_disk(&path, Faults::hook("fsync-folder", Box::new(note)), &clock).expect("a store");
    store.change(&alice(), Change::Start(pending("state-1"))).await.expect("writable");
    let first = std::mem::take(&mut *synced.lock().expect("whole"));
    let above = fs::canonicalize(folder.path()).expect("there");
    let (own, data) = (above.join("data/threadkey"), above.join("data"));
    assert!(first.starts_with(&[data, above]), "before the store is there: {first:?}");
    store.change(&alice(), Change::Cancel(None)).await.expect("writable");
    assert_eq!(*synced.lock().expect("whole"), [own], "no more once it is there");
}

#[tokio::test]
async fn a_stale_result_is_returned_only_once_its_state_is_durable() {
    let f = Fixture::new();
    f.sign_in().await;
    f.store.change(&alice(), Change::Logout).await.expect("writable");
    // Another process that finds the logout done cannot know whether its rename is durable.
    let folder = fs::canonicalize(f.folder.path()).expect("there");
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    let faults = Faults::parse(&format!("fsync-folder@{name}:EIO#1"));
    let other = on_disk(&f.path(), faults, &f.clock).expect("a store");
    let told = other.change(&alice(), Change::Logout).await.expect_err("the folder is not durable");
    assert!(told.to_string().contains("cannot make durable"), "{told}");
    assert_eq!(other.change(&alice(), Change::Logout).await.expect("well again").applied, Applied::Stale);
}

#[tokio::test]
async fn a_store_that_is_open_to_others_is_refused_with_the_chmod_command() {
    let f = Fixture::new();
    f.sign_in().await;
    let folder = f.folder.path();
    for (path, mode, command) in [
        (f.path(), 0o640, "chmod 600"),
        (f.path(), 0o604, "chmod 600"),
        (folder.to_owned(), 0o770, "chmod 700"),
        (folder.to_owned(), 0o1777, "chmod 700"),
    ] {
        let before = fs::metadata(&path).expect("there").mode();
        chmod(&path, mode);
        let errors = [
            f.store.read(&alice()).await.map(drop).expect_err("open to others"),
            f.store.change(&alice(), Change::Logout).await.map(drop).expect_err("open to others"),
            f.store.try_lock(&alice(), Purpose::Refresh).await.map(drop).expect_err("open to others"),
        ];
        for error in errors {
            assert!(error.to_string().contains(command), "{mode:o}: {error}");
        }
        chmod(&path, before & 0o7777);
    }
    chmod(folder, 0o755);
    f.store.read(&alice()).await.expect("others may see the names in the folder").session.expect("a session");
}

#[tokio::test]
async fn an_unreadable_store_is_an_error_and_not_empty() {
    let f = Fixture::failing("open@auth.json:EACCES");
    f.sign_in().await;
    let before = f.text();
    for error in [
        f.store.read(&alice()).await.map(drop).expect_err("unreadable"),
        f.store.change(&alice(), Change::Start(pending("state-2"))).await.map(drop).expect_err("unreadable"),
    ] {
        assert!(error.to_string().starts_with("cannot read"), "{error}");
        assert!(error.to_string().contains("auth.json"), "{error}");
    }
    assert_eq!(f.text(), before);
}

#[tokio::test]
async fn a_read_only_store_is_read_without_a_lock_and_nothing_is_spent_for_it() {
    for fault in ["access:EROFS", "open@.lock:EROFS", "mkdir:EROFS"] {
        let f = Fixture::failing(fault);
        let session = f.sign_in().await;
        fs::remove_dir_all(f.folder.path().join("auth.json.refresh")).expect("there");
        assert_eq!(f.store.read(&alice()).await.expect("readable").session, Some(session));
        let error = f.store.try_lock(&alice(), Purpose::Refresh).await.map(drop).expect_err("not writable");
        assert!(error.to_string().contains("file system that can be written"), "{fault}: {error}");
    }
}

#[tokio::test]
async fn a_symlink_stays_a_symlink_and_all_processes_meet_at_its_target() {
    let f = Fixture::new();
    let (real, links) = (f.folder.path().join("real"), f.folder.path().join("links"));
    fs::create_dir_all(&real).expect("a folder");
    fs::create_dir_all(&links).expect("a folder");
    chmod(&real, 0o700);
    // Dangling at first, by way of another link: the store belongs where they lead.
    symlink(links.join("second"), links.join("first")).expect("a link");
    symlink("../real/auth.json", links.join("second")).expect("a link");
    let store = open(&links.join("first"), &f.clock);
    sign_in(&store, &alice(), test_session(NOW, 3600)).await;
    assert!(fs::symlink_metadata(links.join("first")).expect("there").is_symlink());
    assert!(fs::symlink_metadata(links.join("second")).expect("there").is_symlink());
    assert!(fs::symlink_metadata(real.join("auth.json")).expect("there").is_file());
    assert!(real.join("auth.json.global.lock").exists());
    assert_eq!(fs::read_dir(&links).expect("a folder").count(), 2, "nothing is made beside the links");

    let direct = open(&real.join("auth.json"), &f.clock);
    let held = lock(&store).await;
    assert!(direct.try_lock(&alice(), Purpose::Refresh).await.expect("lockable").is_none());
    drop(held);
    direct.change(&alice(), Change::Logout).await.expect("writable");
    assert_eq!(store.read(&alice()).await.expect("readable"), Entry::default());
}

#[tokio::test]
async fn a_path_that_changes_before_the_lock_is_taken_is_followed_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    symlink(at("a.json"), at("auth.json")).expect("a link");
    let (link, other) = (at("auth.json"), at("b.json"));
    let swap = move |_: &Path| {
        fs::remove_file(&link).expect("a link");
        symlink(&other, &link).expect("a link");
    };
    let clock = Clock::fixed(NOW);
    let store = on_disk(&at("auth.json"), Faults::hook("lock@a.json.global.lock#1", Box::new(swap)), &clock)
        .expect("a store");
    store.change(&alice(), Change::Start(pending("state-1"))).await.expect("writable");
    assert!(!at("a.json").exists(), "nobody looks there any more");
    assert!(fs::symlink_metadata(at("auth.json")).expect("there").is_symlink());
    assert!(fs::read_to_string(at("b.json")).expect("there").contains("state-1"));
}

#[tokio::test]
async fn a_file_with_two_names_is_refused_before_anything_is_spent() {
    let f = Fixture::new();
    f.sign_in().await;
    fs::hard_link(f.path(), f.folder.path().join("copy.json")).expect("a link");
    f.store.read(&alice()).await.expect("reading harms nobody");
    for error in [
        f.store.change(&alice(), Change::Logout).await.map(drop).expect_err("two names"),
        f.store.try_lock(&alice(), Purpose::Refresh).await.map(drop).expect_err("two names"),
    ] {
        assert!(error.to_string().contains("hard links"), "{error}");
    }
}

#[tokio::test]
async fn a_single_file_mount_is_refused_with_the_advice_to_mount_the_folder() {
    for errno in ["EBUSY", "EXDEV"] {
        let f = Fixture::failing(&format!("rename:{errno}"));
        f.sign_in().await;
        let before = f.text();
        let error = f.store.change(&alice(), Change::Logout).await.expect_err("a mount");
        assert!(error.to_string().contains("mount its folder instead"), "{error}");
        assert_eq!(f.text(), before);
    }
    let mounted = RealDisk::new().is_mount_point(Path::new("/proc"));
    assert_eq!(mounted.ok(), Some(cfg!(target_os = "linux")), "it is seen before anything is spent");
    let not = RealDisk::new().is_mount_point(Path::new("/proc/self"));
    assert_eq!(not.ok(), Some(false));
}

#[tokio::test]
async fn a_write_that_fails_at_any_step_leaves_the_old_file_whole_and_no_temp_file() {
    for fault in ["open@.tmp:ENOSPC", "write@.tmp:ENOSPC", "fsync@.tmp:EIO", "rename:EIO"] {
        let f = Fixture::failing(&format!("{fault}#1"));
        let session = f.sign_in().await;
        let before = f.text();
        let change = || Change::Account {
            lineage: session.lineage,
            account: Some("bob@example.com".into()),
            subject: None,
        };
        let error = f.store.change(&alice(), change()).await.expect_err(fault);
        assert!(error.to_string().contains("auth.json"), "{error}");
        if fault.ends_with("ENOSPC") {
            assert!(error.to_string().contains("free some space"), "{error}");
        }
        assert_eq!(f.text(), before, "{fault}");
        assert_eq!(leftovers(f.folder.path()), [""; 0], "{fault}");
        assert_eq!(f.store.change(&alice(), change()).await.expect("well again").applied, Applied::Done);
        assert!(f.text().contains("bob@example.com"));
    }
}

#[tokio::test]
async fn after_a_failed_fsync_another_temp_file_is_written() {
    let names = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = names.clone();
    let note = move |path: &Path| seen.lock().expect("whole").push(path.to_owned());
    let f = Fixture::with(Faults::hook("fsync@.tmp", Box::new(note)));
    f.sign_in().await;
    f.store.change(&alice(), Change::Start(pending("state-2"))).await.expect("writable");
    f.store.change(&alice(), Change::Cancel(None)).await.expect("writable");
    let names = names.lock().expect("whole");
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1], "each attempt has a file of its own");
}

#[tokio::test]
async fn a_rename_that_is_not_durable_is_made_durable_before_the_next_result() {
    let f = Fixture::failing("fsync-folder:EIO#1");
    let session = f.sign_in().await;
    let change = || Change::Account {
        lineage: session.lineage,
        account: Some("bob@example.com".into()),
        subject: None,
    };
    let error = f.store.change(&alice(), change()).await.expect_err("not durable");
    assert!(error.to_string().contains("durable"), "{error}");
    let inode = || fs::metadata(f.path()).expect("there").ino();
    let before = inode();
    // Stale changes nothing, and yet it must not be answered on a state that a power cut could
    // undo.
    assert_eq!(
        f.store.change(&alice(), Change::Cancel(None)).await.expect("well again").applied,
        Applied::Stale
    );
    assert_ne!(inode(), before, "it was written once more");
    let settled = inode();
    assert_eq!(f.store.change(&alice(), Change::Cancel(None)).await.expect("well").applied, Applied::Stale);
    assert_eq!(inode(), settled);
}

#[tokio::test]
async fn temp_files_of_writers_that_died_are_removed_and_no_others() {
    let f = Fixture::new();
    let at = |name: &str| f.folder.path().join(name);
    let ours = at(".auth.json.0123456789abcdef.tmp");
    let others = [
        at(".auth.json.backup.tmp"),
        at("auth.json.0123456789abcdef.tmp"),
        at(".other.json.0123456789abcdef.tmp"),
    ];
    for path in others.iter().chain([&ours]) {
        fs::write(path, "x").expect("writable");
    }
    f.sign_in().await;
    assert!(!ours.exists());
    assert!(others.iter().all(|path| path.exists()));
}

#[tokio::test]
async fn a_store_that_is_no_regular_file_or_far_too_long_is_refused() {
    let f = Fixture::new();
    fs::create_dir(f.path()).expect("a folder");
    let error = f.store.read(&alice()).await.expect_err("a folder");
    assert!(error.to_string().contains("not a regular file"), "{error}");
    fs::remove_dir(f.path()).expect("empty");
    f.put("");
    let file = fs::OpenOptions::new().write(true).open(f.path()).expect("writable");
    file.set_len(64 * 1024 * 1024 + 1).expect("sparse");
    let error = f.store.read(&alice()).await.expect_err("long");
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[test]
fn an_untrusted_file_system_whose_locks_may_not_exclude_is_refused_by_name() {
    // Every Linux has a file system of this kind, and flock is not known to exclude other processes
    // on it.
    if !cfg!(target_os = "linux") {
        return;
    }
    let path = Path::new("/proc/self/threadkey/auth.json");
    let open =
        |trust_filesystem| FileStore::open(path, Clock::fixed(NOW), FileStoreOptions { trust_filesystem });
    let error = open(false).map(drop).expect_err("proc");
    assert!(error.to_string().contains("it is on proc"), "{error}");
    assert!(error.to_string().contains("store.trust_filesystem = true"), "{error}");
    open(true).expect("trusted");
}

#[test]
fn the_default_path_follows_the_xdg_specification() {
    let path = |data: &str, home: &str| {
        super::super::paths::default_path_from(|name| {
            let value = if name == "HOME" { home } else { data };
            (!value.is_empty()).then(|| value.into())
        })
    };
    assert_eq!(path("/data", "/home/a"), Some("/data/threadkey/auth.json".into()));
    assert_eq!(path("", "/home/a"), Some("/home/a/.local/share/threadkey/auth.json".into()));
    assert_eq!(path("relative", "/home/a"), Some("/home/a/.local/share/threadkey/auth.json".into()));
    assert_eq!(path("", ""), None);
}

#[tokio::test]
async fn a_stale_result_after_a_failed_rename_that_took_effect_waits_until_it_is_durable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("auth.json");
    let renames = Arc::new(std::sync::Mutex::new(0));
    let hook = {
        let (renames, folder) = (renames.clone(), folder.path().to_owned());
        move |path: &Path| {
            let mut count = renames.lock().expect("whole");
            *count += 1;
            if *count == 2 {
                // Then ours finds no temp file any more, and fails.
                let temp = leftovers(&folder).remove(0);
                fs::rename(folder.join(temp), path).expect("movable");
            }
        }
    };
    let store = on_disk(&path, Faults::hook("rename", Box::new(hook)), &Clock::fixed(NOW)).expect("a store");
    store.change(&alice(), Change::Start(pending("state-1"))).await.expect("writable");
    let alice = alice();
    let cancel = || store.change(&alice, Change::Cancel(None));
    cancel().await.expect_err("the rename failed");
    assert_eq!(store.read(&alice).await.expect("readable").pending, None, "and took effect");
    assert_eq!(cancel().await.expect("writable").applied, Applied::Stale);
    assert_eq!(*renames.lock().expect("whole"), 3, "written and made durable once more");
}

/// Makes this a folder of another user than the returned one. Root gives it away, as `sudo` meets
/// it; any other user pretends to be another one.
fn give_away(folder: &Path) -> u32 {
    let owner = fs::metadata(folder).expect("there").uid();
    if owner == 0 {
        std::os::unix::fs::chown(folder, Some(12_345), None).expect("root may");
        return 0;
    }
    owner + 1
}

#[tokio::test]
async fn a_folder_of_another_user_is_refused_before_anything_is_made_or_read() {
    let f = Fixture::new();
    f.sign_in().await;
    let foreign = give_away(f.folder.path());
    let names = || fs::read_dir(f.folder.path()).expect("a folder").count();
    let (before, text) = (names(), f.text());
    for (path, words) in [
        (f.path(), "Files of"),
        (f.folder.path().join("new/deeper/auth.json"), "the folder above the store "),
    ] {
        let disk = Arc::new(RealDisk::for_user(foreign));
        let opened = FileStore::on_disk(disk.clone(), &path, f.clock.clone(), FileStoreOptions::default());
        let error = opened.map(drop).expect_err("another user's");
        assert!(matches!(&error, StoreError::Foreign { user, .. } if user.id == foreign), "{error:?}");
        let error = error.to_string();
        for part in [words, "nothing was read or made", "`sudo -u ", " threadkey …`"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let checks = super::super::doctor::examine(disk, &path, FileStoreOptions::default(), &|_| Ok(false));
        assert_eq!(checks.last().map(|check| check.sentence.as_str()), Some(error.as_str()));
        assert_eq!((names(), f.text()), (before, text.clone()), "nothing was made");
    }
}

#[test]
fn a_service_may_make_its_folder_in_one_of_roots_and_in_no_other_users() {
    let folder = tempfile::tempdir().expect("a folder");
    let owner = fs::metadata(folder.path()).expect("there").uid();
    let path = folder.path().join("new/auth.json");
    let open = |user| {
        let disk = Arc::new(RealDisk::for_user(user));
        FileStore::on_disk(disk, &path, Clock::fixed(NOW), FileStoreOptions::default()).map(drop)
    };
    assert!(open(owner).is_ok());
    // Only a test that runs as root has a folder of root's.
    assert_eq!(open(owner + 1).is_ok(), owner == 0, "a home, unless it is root's folder");
}
