//! Whether a store's path is fit for a store: found out by doing what the store does, on files of its own.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    FileStoreOptions, StoreError, error::failed, location::Location, paths::Paths, store_file::StoreFile,
};
use crate::{
    ids::hex,
    sys::{
        clock::Clock,
        disk::{Disk, Open, RealDisk},
        lock::{self, Lock},
        random,
    },
};

/// Below this, in bytes, [`doctor`] warns.
const LITTLE_SPACE: u64 = 64 * 1024 * 1024;

/// One thing that [`doctor`] looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do about it.
    pub sentence: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warn,
    /// threadkey does not work like this.
    Fail,
}

/// Looks at everything that the store at `path` needs. It makes and removes files of its own beside the store, and leaves
/// the store as it is. For the lock between two processes it starts this program as `__lock-probe PATH`, which is to print
/// `held` where [`lock_probe`] is true and `free` where it is not.
pub fn doctor(path: &Path, options: FileStoreOptions) -> Vec<Check> {
    examine(std::sync::Arc::new(RealDisk::new()), path, options, &lock::probe_from_another_process)
}

/// Whether somebody holds the lock of the file at `path` exclusively. `false` if there is no such file.
pub fn lock_probe(path: &Path) -> bool {
    let probe = || -> io::Result<bool> {
        let file = RealDisk::new().open(path, Open::Read)?;
        Ok(Lock::try_exclusive(file)?.is_none())
    };
    probe().unwrap_or(false)
}

/// Asks another process whether a lock is held.
pub(super) type AskAnother<'a> = &'a dyn Fn(&Path) -> io::Result<bool>;

pub(super) fn examine(
    disk: std::sync::Arc<dyn Disk>,
    path: &Path,
    options: FileStoreOptions,
    ask: AskAnother<'_>,
) -> Vec<Check> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let store_file = StoreFile::new(disk, path, Clock::system(), options);
    let location = &*store_file.location;
    let paths = match location.locate() {
        Ok(paths) => paths,
        Err(error) => return vec![found("store path", Err(error))],
    };
    let mut checks =
        vec![path_check(location, &paths), found("store file system", file_system(location, &paths))];
    if location.disk.stat(&paths.folder).is_err() {
        checks.push(found("store folder", missing_folder(location, &paths)));
        return checks;
    }
    checks.push(found("store folder", folder(location, &paths)));
    checks.push(found("store file", file(&store_file, &paths)));
    checks.push(found("store space", space(location, &paths)));
    checks.push(found("store writing", writing(location, &paths)));
    checks.extend(locking(location, &paths, ask));
    checks
}

type Found = Result<(Verdict, String), StoreError>;

fn found(name: &'static str, found: Found) -> Check {
    let (verdict, sentence) = found.unwrap_or_else(|error| (Verdict::Fail, error.to_string()));
    Check { name, verdict, sentence }
}

fn path_check(location: &Location, paths: &Paths) -> Check {
    let sentence = if location.path == paths.file {
        format!("{} is the store", paths.file.display())
    } else {
        format!(
            "{} leads to {}; locks and temp files are there",
            location.path.display(),
            paths.file.display()
        )
    };
    Check { name: "store path", verdict: Verdict::Ok, sentence }
}

fn file_system(location: &Location, paths: &Paths) -> Found {
    location.check_file_system(paths)?;
    let folder = location.nearest(&paths.folder);
    let found = location.disk.file_system(folder).map_err(failed("cannot examine", folder))?;
    Ok(if found.locks_hold {
        (Verdict::Ok, format!("{} is on {}", paths.folder.display(), found.name))
    } else {
        let paths = paths.folder.display();
        (Verdict::Warn, format!("{paths} is on {}, which store.trust_filesystem says is fine", found.name))
    })
}

fn missing_folder(location: &Location, paths: &Paths) -> Found {
    let above = location.nearest(&paths.folder);
    location.disk.check_writable(above).map_err(failed("cannot make the store's folder in", above))?;
    Ok((Verdict::Ok, format!("{} is made at the first sign-in", paths.folder.display())))
}

fn folder(location: &Location, paths: &Paths) -> Found {
    location.check_folder(&paths.folder)?;
    let stat = location.disk.stat(&paths.folder).map_err(failed("cannot examine", &paths.folder))?;
    let folder = paths.folder.display();
    Ok(match stat.mode & 0o777 {
        mode if mode & 0o077 == 0 => (Verdict::Ok, format!("{folder} has mode {mode:04o}")),
        mode => (
            Verdict::Warn,
            format!(
                "{folder} has mode {mode:04o}, so others see which tenants there are: run chmod 700 {folder}"
            ),
        ),
    })
}

fn file(store_file: &StoreFile, paths: &Paths) -> Found {
    let path = paths.file.display();
    if store_file.location.disk.stat(&paths.file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    {
        return Ok((Verdict::Ok, format!("{path} is made at the first sign-in")));
    }
    let version = store_file.writable(paths)?;
    let records = version.as_ref().map(|version| version.records()).unwrap_or_default();
    let sessions = records.values().filter(|entry| entry.session.is_some()).count();
    Ok(match version.map_or(0, |version| version.foreign()) {
        0 => (Verdict::Ok, format!("{path} can be read; sessions: {sessions}")),
        foreign => (
            Verdict::Warn,
            format!(
                "{path} can be read; sessions: {sessions}; entries that this threadkey does not know, and keeps: {foreign}"
            ),
        ),
    })
}

fn space(location: &Location, paths: &Paths) -> Found {
    let free = location.disk.free_space(&paths.folder).map_err(failed("cannot examine", &paths.folder))?;
    let mib = free / (1024 * 1024);
    Ok(if free < LITTLE_SPACE {
        let folder = paths.folder.display();
        let what = format!(
            "{mib} MiB are free at {folder}: free some space, because nothing is refreshed while nothing can be saved"
        );
        (Verdict::Warn, what)
    } else {
        (Verdict::Ok, format!("{mib} MiB are free"))
    })
}

fn writing(location: &Location, paths: &Paths) -> Found {
    let (first, second) = (probe_path(paths), probe_path(paths));
    let written = location
        .write_temp(&first, b"threadkey doctor\n")
        .and_then(|_| location.disk.rename(&first, &second))
        .and_then(|()| location.disk.sync_folder(&paths.folder));
    for path in [&first, &second] {
        let _ = location.disk.remove(path);
    }
    written.map_err(failed("cannot write, rename and sync in", &paths.folder))?;
    Ok((Verdict::Ok, format!("a file in {} can be written, renamed and synced", paths.folder.display())))
}

fn locking(location: &Location, paths: &Paths, ask: AskAnother<'_>) -> [Check; 2] {
    let path = probe_path(paths);
    let checks = [
        found("locks in one process", two_descriptors(location, &path)),
        found("locks between processes", two_processes(location, &path, ask)),
    ];
    let _ = location.disk.remove(&path);
    checks
}

fn two_descriptors(location: &Location, path: &Path) -> Found {
    let Some(_held) = take(location, path)? else { return Ok(not_taken(path)) };
    Ok(match take(location, path)? {
        None => (Verdict::Ok, "two descriptors of one process exclude each other".to_owned()),
        Some(_) => excludes_nobody(path, "descriptors"),
    })
}

fn two_processes(location: &Location, path: &Path, ask: AskAnother<'_>) -> Found {
    let Some(held) = take(location, path)? else { return Ok(not_taken(path)) };
    let while_held = ask(path).map_err(failed("cannot ask a second process about", path))?;
    drop(held);
    let afterwards = ask(path).map_err(failed("cannot ask a second process about", path))?;
    Ok(match (while_held, afterwards) {
        (true, false) => (Verdict::Ok, "two processes exclude each other".to_owned()),
        (true, true) => (Verdict::Fail, format!("the lock of {} stays after it was let go", path.display())),
        (false, _) => excludes_nobody(path, "processes"),
    })
}

fn take(location: &Location, path: &Path) -> Result<Option<Lock>, StoreError> {
    Lock::try_exclusive(location.open_lock(path)?).map_err(failed("cannot lock", path))
}

fn not_taken(path: &Path) -> (Verdict, String) {
    (Verdict::Fail, format!("somebody else has the lock of {}, a new file; run doctor again", path.display()))
}

fn excludes_nobody(path: &Path, whom: &str) -> (Verdict, String) {
    let what = format!(
        "flock on {} does not exclude two {whom}, so a refresh token would be spent twice: put the store on a local disk",
        path.display()
    );
    (Verdict::Fail, what)
}

/// A name that neither the store nor its tidying up uses.
fn probe_path(paths: &Paths) -> PathBuf {
    paths.folder.join(format!(".threadkey-doctor.{}", hex(&random::bytes::<8>())))
}
