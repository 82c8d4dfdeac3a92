//! The folders of workers: their names, the folders of earlier versions, and what stays in them.

use std::{fs, os::unix::fs::PermissionsExt as _, time::SystemTime};

use super::*;

const A_DAY: Duration = Duration::from_secs(24 * 3600);
const NOTE: &str =
    "echo x > note; mkdir -p src; echo x > \"$HOME/h\"; say \"$(cat old)\"; done_with end_turn";

/// Sets the time of a worker's last use.
fn used_before(rig: &WorkerRig, id: u64, age: Duration) {
    let marker = fs::File::options().write(true).open(rig.own_folder(id).join("used")).expect("a marker");
    marker.set_modified(SystemTime::now() - age).expect("its owner sets the time");
}

#[tokio::test]
async fn folders_of_earlier_versions_get_random_names_and_keep_their_files() {
    let rig = WorkerRig::scripted(NOTE, |_| {});
    let agents = rig.folder.path().join("agents");
    for id in [1, 2] {
        fs::create_dir_all(agents.join(format!("{id}-100/cwd"))).expect("made");
        fs::write(agents.join(format!("{id}-100/cwd/old")), format!("of {id}")).expect("written");
    }
    // An earlier start recorded a name and died before it renamed the folder.
    let half_done = "ab".repeat(16);
    rig.names.record(vec![("2-100".to_owned(), half_done.clone())]).await.expect("recorded");
    for _ in 0..2 {
        rig.workers.prepare().await.expect("prepared");
    }
    assert!(!agents.join("1-100").exists() && !agents.join("2-100").exists());
    assert_eq!(rig.own_folder(2).file_name().expect("a name"), half_done.as_str());
    assert_eq!(rig.turn(1, "go").await.text, "of 1");
    assert_eq!(rig.turn(2, "go").await.text, "of 2");
    let name = rig.own_folder(1).file_name().expect("a name").to_string_lossy().into_owned();
    assert!(threadkey::agent::is_folder_name(&name), "{name}");
}

#[tokio::test]
async fn a_new_conversation_takes_a_folder_that_was_made_before_any_worker_ran() {
    let rig = WorkerRig::scripted(NOTE, |_| {});
    rig.workers.prepare().await.expect("prepared");
    let listed = || {
        let entries = fs::read_dir(rig.folder.path().join("agents")).expect("it is there");
        entries.map(|entry| entry.expect("an entry").file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = listed();
    for id in 1..=4 {
        rig.turn(id, "go").await;
    }
    assert_eq!(listed(), before, "no folder was made while a worker ran");
    assert_ne!(rig.own_folder(1), rig.own_folder(2));
}

#[tokio::test]
async fn the_files_of_a_conversation_are_listed_and_removed_only_without_its_worker() {
    let rig = WorkerRig::scripted(NOTE, |_| {});
    rig.turn(1, "go").await;
    let listing = rig.workers.files(&conversation(1)).await.expect("listed");
    assert_eq!((listing.names, listing.more), (vec!["note".to_owned(), "src/".to_owned()], 0));
    assert!(!rig.workers.remove_files(&conversation(1)).await.expect("it is refused"));
    assert!(rig.own_folder(1).join("cwd/note").exists());

    rig.workers.end(ConversationId(Snowflake(1))).await;
    assert!(rig.workers.remove_files(&conversation(1)).await.expect("removed"));
    assert!(rig.workers.files(&conversation(1)).await.expect("listed").names.is_empty());
    assert!(!rig.own_folder(1).join("home/h").exists());
    assert!(rig.workers.files(&conversation(9)).await.expect("no folder").names.is_empty());
}

#[tokio::test]
async fn only_folders_that_no_worker_used_for_long_are_swept() {
    let rig = WorkerRig::scripted(NOTE, |_| {});
    rig.workers.prepare().await.expect("prepared");
    for id in 1..=4 {
        rig.turn(id, "go").await;
    }
    let folders: Vec<_> = (1..=4).map(|id| rig.own_folder(id)).collect();
    for id in 1..=3 {
        rig.workers.end(ConversationId(Snowflake(id))).await;
    }
    used_before(&rig, 1, 31 * A_DAY);
    used_before(&rig, 2, 29 * A_DAY);
    // Nothing but the marker counts.
    fs::File::open(folders[1].join("cwd")).expect("open").set_modified(SystemTime::UNIX_EPOCH).expect("set");
    // The worker of 3 set its own marker into the future, and 4 still runs.
    let future = fs::File::options().write(true).open(folders[2].join("used")).expect("a marker");
    future.set_modified(SystemTime::now() + 1000 * A_DAY).expect("set");
    used_before(&rig, 4, 31 * A_DAY);
    assert_eq!(rig.workers.sweep_folders().await.expect("swept"), 1);
    assert!(!folders[0].exists() && folders[1..].iter().all(|folder| folder.join("cwd/note").exists()));
    assert_eq!(FolderNames::get(&*rig.names, "1-100"), None);
    let future = fs::metadata(folders[2].join("used")).expect("there").modified().expect("a time");
    assert!(future <= SystemTime::now(), "the marker counts as set now");
    assert_eq!(rig.turn(1, "go").await.text, "", "the conversation starts with an empty folder");
}

/// Root may enter every folder, so this test shows more where another user runs it.
#[tokio::test]
async fn a_worker_that_closes_its_own_folder_keeps_no_files_and_starts_again() {
    let close = "chmod 400 ../used; chmod 0 .. ; done_with end_turn";
    let rig = WorkerRig::scripted(close, |_| {});
    let end = async || assert!(rig.workers.end(ConversationId(Snowflake(1))).await);
    rig.turn(1, "go").await;
    end().await;
    let own = rig.own_folder(1);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&own), 0, "the sandbox does not govern modes");
    assert!(rig.workers.remove_files(&conversation(1)).await.expect("removed"));
    assert_eq!(mode(&own), 0o700);
    for _ in 0..2 {
        rig.turn(1, "go").await;
    }
    end().await;
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("set");
    let marker = fs::File::open(own.join("used")).expect("a marker");
    marker.set_modified(SystemTime::now() + 1000 * A_DAY).expect("set");
    assert_eq!(rig.workers.sweep_folders().await.expect("swept"), 0);
    used_before(&rig, 1, 31 * A_DAY);
    fs::set_permissions(&own, fs::Permissions::from_mode(0o0)).expect("set");
    assert_eq!(rig.workers.sweep_folders().await.expect("swept"), 1);
    assert!(!own.exists());
}
