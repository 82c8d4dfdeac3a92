//! The checks of doctor on a store's path.

use std::os::unix::fs::symlink;

use super::*;
use crate::store::doctor::examine;

fn checks(f: &Fixture, faults: &str, ask: impl Fn(&Path) -> std::io::Result<bool>) -> Vec<Check> {
    let disk = Arc::new(RealDisk::with(Faults::parse(faults)));
    examine(disk, &f.path(), FileStoreOptions::default(), &ask)
}

fn verdict(checks: &[Check], name: &str) -> (Verdict, String) {
    let check = checks.iter().find(|check| check.name == name).expect(name);
    (check.verdict, check.sentence.clone())
}

fn truly(path: &Path) -> std::io::Result<bool> {
    Ok(lock_probe(path))
}

#[tokio::test]
async fn a_good_store_passes_every_check_and_is_left_as_it_was() {
    let f = Fixture::new();
    f.sign_in().await;
    let (text, files) = (f.text(), fs::read_dir(f.folder.path()).expect("a folder").count());
    for check in checks(&f, "", truly) {
        assert_eq!(check.verdict, Verdict::Ok, "{check:?}");
        assert!(!check.sentence.contains("access-7"), "{check:?}");
    }
    assert_eq!(f.text(), text);
    assert_eq!(fs::read_dir(f.folder.path()).expect("a folder").count(), files, "it tidies up");
}

#[tokio::test]
async fn a_store_that_is_not_there_yet_passes() {
    let f = Fixture::new();
    let path = f.folder.path().join("not/there/auth.json");
    let checks = examine(Arc::new(RealDisk::new()), &path, FileStoreOptions::default(), &truly);
    assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{checks:?}");
    assert!(!f.folder.path().join("not").exists());
}

#[tokio::test]
async fn each_fault_is_named() {
    let f = Fixture::new();
    f.sign_in().await;
    for (faults, name, says) in [
        ("write:ENOSPC", "store writing", "free some space"),
        ("fsync-folder:EIO", "store writing", "cannot write, rename and sync"),
        ("open@auth.json:EACCES", "store file", "give the user that runs threadkey access"),
        ("statfs:EIO", "store file system", "cannot examine"),
    ] {
        let (verdict, sentence) = verdict(&checks(&f, faults, truly), name);
        assert_eq!(verdict, Verdict::Fail, "{faults}: {sentence}");
        assert!(sentence.contains(says), "{faults}: {sentence}");
    }
    chmod(f.folder.path(), 0o755);
    assert_eq!(verdict(&checks(&f, "", truly), "store folder").0, Verdict::Warn);
    chmod(f.folder.path(), 0o775);
    assert_eq!(verdict(&checks(&f, "", truly), "store folder").0, Verdict::Fail);
    chmod(f.folder.path(), 0o700);
    fs::hard_link(f.path(), f.folder.path().join("copy.json")).expect("a link");
    assert!(verdict(&checks(&f, "", truly), "store file").1.contains("hard links"));
}

#[tokio::test]
async fn locks_that_do_not_exclude_another_process_are_a_failure() {
    let f = Fixture::new();
    f.sign_in().await;
    let name = "locks between processes";
    assert_eq!(verdict(&checks(&f, "", truly), name).0, Verdict::Ok);
    assert_eq!(verdict(&checks(&f, "", |_| Ok(false)), name).0, Verdict::Fail);
    assert_eq!(verdict(&checks(&f, "", |_| Ok(true)), name).0, Verdict::Fail);
    let (_, sentence) = verdict(&checks(&f, "", |_| Err(std::io::Error::other("no answer"))), name);
    assert!(sentence.contains("no answer"), "{sentence}");
}

#[tokio::test]
async fn a_symlink_s_target_is_named() {
    let f = Fixture::new();
    let link = f.folder.path().join("link.json");
    symlink(f.path(), &link).expect("a link");
    let checks = examine(Arc::new(RealDisk::new()), &link, FileStoreOptions::default(), &truly);
    let (_, sentence) = verdict(&checks, "store path");
    assert!(sentence.contains("link.json leads to"), "{sentence}");
}

#[tokio::test]
async fn an_answer_that_could_not_be_read_is_a_warning_with_its_tenant_and_the_next_step() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let mut held = backend(&f.store).await;
    held.write_intent(&intent(&session)).await.expect("room");
    held.write_answer(&answer(b"secret-body")).await.expect("room");
    held.keep_unread().await.expect("writable");
    held.clear().await.expect("writable");
    let damaged = f.folder.path().join("auth.json.refresh/acme%2Flocal.unread");
    fs::write(&damaged, "torn").expect("writable");
    fs::write(f.folder.path().join("auth.json.refresh/other.unread"), "").expect("writable");
    let checks = checks(&f, "", truly);
    let warnings: Vec<_> =
        checks.iter().filter(|check| check.name == "answers that could not be read").collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, expected) in warnings
        .iter()
        .zip([["acme/local", "is damaged", "sign in again"], ["codex/user:803", "HTTP 200", "sign in again"]])
    {
        assert_eq!(warning.verdict, Verdict::Warn);
        assert!(expected.iter().all(|words| warning.sentence.contains(words)), "{}", warning.sentence);
        assert!(!warning.sentence.contains("secret-body"), "{}", warning.sentence);
    }
}

#[tokio::test]
async fn each_file_that_other_users_can_read_is_named_with_its_remedy() {
    let f = Fixture::new();
    let session = f.sign_in().await;
    let mut held = backend(&f.store).await;
    held.write_intent(&intent(&session)).await.expect("room");
    held.clear().await.expect("writable");
    let folder = f.folder.path();
    fs::write(folder.join("conversations.json"), "{}").expect("writable");
    fs::write(folder.join("auth.json.refresh/acme%2Flocal.unread"), "").expect("writable");
    let lock = fs::read_dir(folder.join("auth.json.refresh"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.extension().is_some_and(|end| end == "lock"))
        .expect("a lock file");
    let private = ["auth.json.global.lock", "conversations.json", "auth.json.refresh/acme%2Flocal.unread"];
    for path in private.map(|name| folder.join(name)).iter().chain([&lock]) {
        chmod(path, 0o600);
    }
    assert_eq!(verdict(&checks(&f, "", truly), "store modes").0, Verdict::Ok);
    for (path, mode, expected) in [
        (folder.join("auth.json"), 0o640, Verdict::Fail),
        (folder.join("auth.json.global.lock"), 0o644, Verdict::Fail),
        (lock, 0o604, Verdict::Fail),
        (folder.join("conversations.json"), 0o644, Verdict::Warn),
        (folder.join("auth.json.refresh/acme%2Flocal.unread"), 0o644, Verdict::Warn),
        (folder.join("auth.json.refresh"), 0o755, Verdict::Warn),
    ] {
        chmod(&path, mode);
        let (found, sentence) = verdict(&checks(&f, "", truly), "store modes");
        assert_eq!(found, expected, "{sentence}");
        let remedy = format!("chmod go-rwx {}", path.display());
        assert!(sentence.contains(&format!("{mode:04o}")) && sentence.contains(&remedy), "{sentence}");
        chmod(&path, if path.is_dir() { 0o700 } else { 0o600 });
    }
}
